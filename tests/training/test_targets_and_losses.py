"""Training on real data with every target and loss: from shards to predictions on the right zero of energies."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orbitrace import interchange, readers, stages, training
from orbitrace.errors import InputError
from orbitrace.evaluation import evaluate_checkpoint
from orbitrace.graphs.shards import write_shard
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.two_centre import fit_two_centre
from orbitrace.prediction import predict
from orbitrace.training import callbacks, checkpoint

SMALL = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}
LEVELS = {"wavefunction": 0.1, "bands": 0.5, "window": (-6.0, 6.0), "levels_from": 0.0}
SHIFTS = (0.0, 1.5, -3.0)  # eV


@pytest.fixture(scope="module")
def cell(example: Path) -> Calculation:
    """AB bilayer graphene, with the two-centre part of its H as H0, which is not self-consistent."""
    c = readers.read(example / "references" / "AB")
    table = fit_two_centre([(c.structure, c.basis, c.hamiltonian)], "smooth")
    return replace(c, initial=table.blocks(c.structure, c.basis, c.hamiltonian.pairs))


@pytest.fixture(scope="module")
def shard(cell: Calculation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cell on three zeros of energy."""
    path = tmp_path_factory.mktemp("shards") / "0000.zarr"
    write_shard(path, ((f"zero {mu:g}", moved(cell, mu)) for mu in SHIFTS))
    return path


def moved(c: Calculation, mu: float) -> Calculation:
    h = c.hamiltonian.with_values(c.hamiltonian.values + mu * c.overlap.values)
    return replace(c, hamiltonian=h, fermi_level=c.fermi_level + mu)


def section(**train: object) -> LearnSection:
    plain = {"max_steps": 8, "validate_every": 2, "batch_pairs": 1000, "validation": 0.0, "precision": "float64", "ema": 0.0}
    return LearnSection(network=SMALL, train=TrainSection.model_validate({**plain, **train}))


def log_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "run" / "log.csv").read_text().splitlines()))


def test_gauges_of_the_data_cost_nothing_and_predictions_stand_on_their_mean(
    cell: Calculation, shard: Path, tmp_path: Path
) -> None:
    training.train([shard], tmp_path / "model.pt", tmp_path / "run", section(target="gauge", learning_rate=1e-30))
    kept = checkpoint.load(tmp_path / "model.pt")
    assert kept.labeller.split.target == "gauge"
    assert kept.metrics["validation_mae"] < 1000  # not the 1.5 eV and more that zeros differ by
    h = predict(tmp_path / "model.pt", cell.structure, cell.basis, cell.overlap)
    wrong = h.values - moved(cell, float(np.mean(SHIFTS))).hamiltonian.values
    assert abs(wrong @ cell.overlap.values / (cell.overlap.values @ cell.overlap.values)) < 0.05
    metrics = evaluate_checkpoint(tmp_path / "model.pt", [shard], "train")
    assert metrics["mae_aligned"] == pytest.approx(
        kept.metrics["validation_mae"], rel=0.1
    )  # not the same shift to the last digit


def test_h0_goes_all_the_way_from_a_folder_to_a_prediction(cell: Calculation, tmp_path: Path) -> None:
    interchange.write_folder(tmp_path / "raw" / "AB", cell)
    stages.shard(tmp_path / "raw", tmp_path / "0.zarr")
    stages.train([tmp_path / "0.zarr"], tmp_path / "model.pt", section(target="residual", max_steps=2), tmp_path / "run")
    interchange.write_structure(tmp_path / "AB.vasp", cell.structure)
    interchange.write_overlap_folder(tmp_path / "bare", cell.structure, cell.basis, cell.overlap)
    with pytest.raises(InputError, match=r"AB\.vasp: has no reference Hamiltonian H0.*initial_hamiltonian\.h5"):
        stages.predict(tmp_path / "model.pt", tmp_path / "AB.vasp", tmp_path / "bare", tmp_path / "out")
    interchange.write_overlap_folder(tmp_path / "with", cell.structure, cell.basis, cell.overlap, initial=cell.initial)
    made = stages.predict(tmp_path / "model.pt", tmp_path / "AB.vasp", tmp_path / "with", tmp_path / "out")
    assert np.abs(made.hamiltonian.values - cell.hamiltonian.values).mean() < np.abs(cell.hamiltonian.values).mean()
    again = interchange.read_folder(tmp_path / "out")
    np.testing.assert_array_equal(again.initial.values, cell.initial.values)


def test_data_without_h0_are_refused_by_name(cell: Calculation, tmp_path: Path) -> None:
    bare = replace(cell, initial=None, provenance=replace(cell.provenance, source="runs/bare"))
    write_shard(tmp_path / "0.zarr", [("AB", cell), ("bare", bare)])
    with pytest.raises(InputError, match=r"runs/bare: has no reference Hamiltonian H0"):
        training.train([tmp_path / "0.zarr"], tmp_path / "model.pt", tmp_path / "run", section(target="residual"))


def test_data_without_a_fermi_level_are_refused_by_name(cell: Calculation, tmp_path: Path) -> None:
    write_shard(tmp_path / "0.zarr", [("AB", cell), ("unknown", replace(cell, fermi_level=None))])
    with pytest.raises(InputError, match=r"unknown: its Fermi level is not known.*Set both losses to 0"):
        training.train([tmp_path / "0.zarr"], tmp_path / "model.pt", tmp_path / "run", section(loss=LEVELS))


def test_a_window_that_holds_nothing_is_refused_before_training(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loss\.window: no level of zero .* lies in \[500, 501\] eV"):
        training.train(
            [shard], tmp_path / "model.pt", tmp_path / "run", section(loss={"bands": 1.0, "window": (500.0, 501.0)})
        )


def test_a_resumed_training_sees_the_same_k_points(shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn = section(target="gauge", loss=LEVELS, max_steps=4)
    training.train([shard], tmp_path / "whole" / "model.pt", tmp_path / "whole" / "run", learn)
    keep = callbacks.Keep.on_train_epoch_end

    def killed(self: callbacks.Keep, trainer: object, module: object) -> None:
        keep(self, trainer, module)
        if trainer.global_step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.Keep, "on_train_epoch_end", killed)
    with pytest.raises(BaseException):  # noqa: B017 - Lightning turns the interrupt into SystemExit
        training.train([shard], tmp_path / "halves" / "model.pt", tmp_path / "halves" / "run", learn)
    monkeypatch.undo()
    training.train([shard], tmp_path / "halves" / "model.pt", tmp_path / "halves" / "run", learn)
    one, other = (log_of(tmp_path / way) for way in ("whole", "halves"))
    assert all(float(row["bands_error"]) > 0 and float(row["wavefunction_error"]) > 0 for row in one)
    assert [row["bands_error"] for row in one] == [row["bands_error"] for row in other]
    one, other = (checkpoint.load(tmp_path / way / "run" / "best.pt").weights for way in ("whole", "halves"))
    assert all(torch.equal(one[name], other[name]) for name in one)
