"""Learning Hamiltonians with spin from real calculations: spin-orbit coupling in bismuthene, collinear spin in iron."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigvalsh

from orbitrace import readers, stages, training
from orbitrace.bands.bloch import Pencil
from orbitrace.evaluation import evaluate, evaluate_checkpoint
from orbitrace.graphs.shards import write_shard
from orbitrace.graphs.spin import SpinKind, time_reversal_violation
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.prediction import Predictor, predict
from orbitrace.training import checkpoint as checkpoints

SMALL = {"irreps": "8x0e+4x1o+4x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}
OWN_REVERSE = [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.5, 0.5, 0.0)]


def section(**train: object) -> LearnSection:
    settings = {"max_steps": 4, "validate_every": 2, "batch_pairs": 200, "validation": 0.3, **train}
    return LearnSection(network=SMALL, train=TrainSection(**settings))


@pytest.fixture(scope="module")
def bismuthene(shared_data: Path) -> dict[str, Calculation]:
    folder = shared_data / "openmx" / "bismuthene_soc"
    return {name: readers.read(folder / name) for name in ("000", "001", "002")}


@pytest.fixture(scope="module")
def soc(bismuthene: dict[str, Calculation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of a few steps on two structures."""
    folder = tmp_path_factory.mktemp("soc")
    write_shard(folder / "0000.zarr", bismuthene.items())
    training.train([folder / "0000.zarr"], folder / "model.pt", folder / "run", section())
    return folder


def kramers_splitting(c: Calculation, hamiltonian: Blocks, k: tuple[float, ...]) -> tuple[float, float]:
    """Largest and smallest distance of two levels that follow each other: within pairs, and between them; eV."""
    h, s = Pencil(c.structure, c.basis, hamiltonian, c.overlap, Spin.NONCOLLINEAR).dense(np.array(k))
    levels = eigvalsh(h, s)
    return float(np.abs(levels[1::2] - levels[::2]).max()), float(np.diff(levels[::2]).min())


def test_time_reversal_is_found_in_the_data_and_noted(soc: Path) -> None:
    note = json.loads((soc / "run" / "training.json").read_text())["spin"]
    assert note["kind"] == "spin-orbit"
    assert 0 < note["time_reversal_violation"] < 1e-6  # of OpenMX's numbers, eV
    assert checkpoints.load(soc / "model.pt").labeller.spin is SpinKind.SPIN_ORBIT


def test_kramers_pairs_of_a_predicted_hamiltonian_are_degenerate(soc: Path, bismuthene: dict[str, Calculation]) -> None:
    c = bismuthene["002"]
    h = predict(soc / "model.pt", c.structure, c.basis, c.overlap)
    assert time_reversal_violation(h) == 0.0
    np.testing.assert_array_equal(h.values, h.dagger().values)
    for k in OWN_REVERSE:
        within, between = kramers_splitting(c, h, k)
        assert within <= 1e-10
        assert between > 1e-4
    assert kramers_splitting(c, h, (0.21, 0.37, 0.0))[0] > 1e-4  # a displaced crystal has no inversion


def test_the_untrained_network_has_the_spin_orbit_splitting_of_the_atoms(
    soc: Path, bismuthene: dict[str, Calculation]
) -> None:
    """The mean of what is invariant is part of the reference: 1.2 eV of it for the p shell of bismuth."""
    labeller = checkpoints.load(soc / "model.pt").labeller
    c = bismuthene["002"]
    sample = labeller.sample(c.structure, c.overlap, c.hamiltonian)
    onsite = next(n for n, group in enumerate(sample.graph.groups) if len(group.kind) == 1)
    left = sample.labels.residual[onsite].reshape(-1, 13, 2, 13, 2)[..., 1]
    assert np.abs(c.hamiltonian.block(c.hamiltonian.find(0, 0)).imag).max() > 1.0
    assert np.abs(left).max() < 0.1


def test_bands_and_errors_of_a_prediction_with_spin(soc: Path, bismuthene: dict[str, Calculation], tmp_path: Path) -> None:
    """Stage by stage: overlap and structure -> prediction -> bands and metrics."""
    from orbitrace import interchange
    from orbitrace.config import BandsSection

    c = bismuthene["002"]
    interchange.write_folder(tmp_path / "reference", c)
    interchange.write_overlap_folder(tmp_path / "overlap", c.structure, c.basis, c.overlap, c.n_electrons)
    made = stages.predict(soc / "model.pt", tmp_path / "reference", tmp_path / "overlap", tmp_path / "predicted")
    assert made.spin is Spin.NONCOLLINEAR
    spectrum = stages.bands(tmp_path / "predicted", tmp_path / "bands.h5", BandsSection(density=2.0, path="GM"))
    assert spectrum.energies.shape[2] == 2 * 4 * 13
    metrics = evaluate(interchange.read_folder(tmp_path / "predicted"), interchange.read_folder(tmp_path / "reference"))
    assert "Bi p1 up - Bi p1 down on-site" in metrics["mae_per_block"]
    assert len(metrics["mae_per_block"]) == 2 * 4 * 25
    assert metrics["overlap_max_error"] == 0.0


def test_the_error_of_validation_is_that_of_evaluation(soc: Path) -> None:
    kept = checkpoints.load(soc / "model.pt")
    metrics = evaluate_checkpoint(soc / "model.pt", [soc / "0000.zarr"], "validation")
    assert metrics["mae"] == pytest.approx(kept.metrics["validation_mae"], rel=1e-4)


def test_magnetic_outputs_are_learned_where_time_reversal_is_switched_off(
    bismuthene: dict[str, Calculation], tmp_path: Path
) -> None:
    write_shard(tmp_path / "0000.zarr", bismuthene.items())
    learn = section(time_reversal="off", max_steps=2)
    training.train([tmp_path / "0000.zarr"], tmp_path / "model.pt", tmp_path / "run", learn)
    c = bismuthene["000"]
    h = Predictor(checkpoints.load(tmp_path / "model.pt"))(c.structure, c.overlap)
    assert time_reversal_violation(h) > 0.0
    np.testing.assert_array_equal(h.values, h.dagger().values)


def errors(c: Calculation, predicted: Blocks) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return predicted.with_values(predicted.values - c.hamiltonian.values).groups()


def test_both_channels_of_collinear_iron_are_learned(shared_data: Path, tmp_path: Path) -> None:
    c = readers.read(shared_data / "formats" / "openmx" / "fe")
    write_shard(tmp_path / "0000.zarr", [("fe", c)])
    learn = section(max_steps=60, validate_every=60, learning_rate=0.02, ema=0.0, validation=0.0)
    training.train([tmp_path / "0000.zarr"], tmp_path / "model.pt", tmp_path / "run", learn)
    trained = checkpoints.load(tmp_path / "model.pt")
    h = Predictor(trained)(c.structure, c.overlap)
    reference = trained.labeller.known(c.structure, c.overlap)
    for spin in (slice(10), slice(10, 20)):
        of_network, of_reference = (sum(np.abs(d[:, spin, spin]).sum() for _, d in errors(c, b)) for b in (h, reference))
        assert of_network < 0.6 * of_reference
    quarters = h.block(h.find(0, 0)).reshape(2, 10, 2, 10)
    assert not quarters[0, :, 1].any()
    assert np.abs(quarters[0, :, 0] - quarters[1, :, 1]).max() > 1.0  # exchange splitting, eV
