"""Evaluation: a prediction against the DFT code's Hamiltonian, and a checkpoint on what it never trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learner_cases import (
    BASIS,
    STRUCTURES,
    calculation,
    labeller,
    network,
    small_settings,
    spin_calculation,
    structure,
    turned_calculation,
)
from orbitrace.errors import InputError
from orbitrace.evaluation import EmptyPartError, evaluate, evaluate_checkpoint
from orbitrace.graphs.shards import write_shard
from orbitrace.graphs.spin import SpinKind
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Spin
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.prediction import Predictor
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint

MODEL = "deeph_e3_local"
DFT = calculation(STRUCTURES["sheet"])


def off_by(error: float) -> object:
    return replace(DFT, hamiltonian=DFT.hamiltonian.with_values(DFT.hamiltonian.values + error))


def test_a_constant_error_is_the_mean_error_everywhere() -> None:
    metrics = evaluate(off_by(0.003), DFT, "sheet")
    for key in ("mae", "mae_worst_sample", "mae_worst_block"):
        assert metrics[key] == pytest.approx(3.0)
    assert metrics["worst_sample"] == "sheet"
    assert list(metrics["mae_per_block"].values()) == pytest.approx([3.0] * len(metrics["mae_per_block"]))
    assert metrics["overlap_max_error"] == 0.0


def test_a_shift_of_the_energy_zero_is_reported_and_taken_out() -> None:
    shifted = replace(DFT, hamiltonian=DFT.hamiltonian.with_values(DFT.hamiltonian.values + 0.5 * DFT.overlap.values))
    metrics = evaluate(shifted, DFT, "sheet")
    assert metrics["mae_aligned"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["gauge_shift_mev"] == {"sheet": pytest.approx(500.0)}
    assert metrics["mae"] > 50


def test_an_overlap_that_differs_is_reported() -> None:
    values = DFT.overlap.values.copy()
    values[7] += 0.01
    assert evaluate(replace(DFT, overlap=DFT.overlap.with_values(values)), DFT)["overlap_max_error"] == pytest.approx(0.01)


@pytest.mark.parametrize("what", ["atoms", "order", "positions", "lattice", "pairs", "basis", "spin", "overlap pairs"])
def test_predictions_of_something_else_are_refused(what: str) -> None:
    atoms = DFT.structure
    moved = Structure(
        atoms.positions + np.eye(3)[0] * (np.arange(6) == 2)[:, None] * 1e-3, atoms.lattice, atoms.numbers, atoms.pbc
    )
    stretched = Structure(atoms.positions, atoms.lattice * 1.001, atoms.numbers, atoms.pbc)
    other_basis = Basis({**BASIS.shells, 6: Shells((0, 1), 1.8, 4.0)})
    kept = np.arange(DFT.overlap.n_pairs)[:-1]
    fewer = Blocks(DFT.overlap.pairs[kept], DFT.overlap.shapes[kept], DFT.overlap.values[: DFT.overlap.offsets[-2]])
    predicted = {
        "atoms": lambda: calculation(STRUCTURES["molecule"]),
        "order": lambda: calculation(Structure(atoms.positions[::-1], atoms.lattice, atoms.numbers[::-1], atoms.pbc)),
        "positions": lambda: replace(DFT, structure=moved),
        "lattice": lambda: replace(DFT, structure=stretched),
        "pairs": lambda: replace(DFT, hamiltonian=fewer),
        "basis": lambda: calculation(atoms, basis=other_basis),
        "spin": lambda: calculation(atoms, spin=Spin.COLLINEAR),
        "overlap pairs": lambda: replace(DFT, overlap=fewer),
    }[what]()
    with pytest.raises(InputError, match=r"^targets/sheet: .*Expected"):
        evaluate(predicted, DFT, "targets/sheet")


def test_another_kind_of_spin_is_refused_in_words() -> None:
    one, other = calculation(STRUCTURES["sheet"]), calculation(STRUCTURES["sheet"], spin=Spin.COLLINEAR)
    with pytest.raises(InputError, match=r"nickel: spin treated as 'none'\. Expected 'collinear', as in the reference"):
        evaluate(one, other, "nickel")


@pytest.mark.parametrize("kind", [SpinKind.COLLINEAR, SpinKind.SPIN_ORBIT, SpinKind.MAGNETIC])
def test_errors_of_spinful_elements_are_their_absolute_values(kind: SpinKind) -> None:
    """Over all elements that exist: none between up and down of collinear spin."""
    one, other = (spin_calculation(STRUCTURES["sheet"], kind, seed) for seed in (1, 2))
    errors = np.abs(one.hamiltonian.values - other.hamiltonian.values)
    metrics = evaluate(one, other, "nickel")
    n = len(errors) // 2 if kind is SpinKind.COLLINEAR else len(errors)
    assert metrics["mae"] == pytest.approx(1000 * errors.sum() / n)
    spins = {tuple(word for word in name.split() if word in ("up", "down")) for name in metrics["mae_per_block"]}
    assert spins == {("up", "up"), ("down", "down")} | (set() if n < len(errors) else {("up", "down"), ("down", "up")})
    doubled = np.concatenate([np.kron(np.eye(2), one.overlap.block(k)).ravel() for k in range(one.overlap.n_pairs)])
    shifted = replace(one, hamiltonian=one.hamiltonian.with_values(one.hamiltonian.values + 0.3 * doubled))
    aligned = evaluate(shifted, one, "nickel")
    assert aligned["gauge_shift_mev"] == {"nickel": pytest.approx(300.0)}
    assert aligned["mae_aligned"] == pytest.approx(0.0, abs=1e-9)


def test_the_error_of_one_quarter_of_a_spinor_block_bears_its_spins() -> None:
    one = spin_calculation(STRUCTURES["sheet"], SpinKind.SPIN_ORBIT, 1)
    k = int(np.flatnonzero(one.hamiltonian.onsite & (one.structure.numbers[one.hamiltonian.pairs[:, 3]] == 6))[0])
    values = one.hamiltonian.values.copy()
    block = values[one.hamiltonian.offsets[k] : one.hamiltonian.offsets[k + 1]].reshape(10, 10)
    block[0, 5 + 2] += 0.003 + 0.004j  # s1 up, first p1 down
    table = evaluate(replace(one, hamiltonian=one.hamiltonian.with_values(values)), one)["mae_per_block"]
    wrong = {name: error for name, error in table.items() if error > 1e-9}
    carbons = int((one.structure.numbers == 6).sum())
    assert wrong == {"C s1 up - C p1 down on-site": pytest.approx(5.0 / 3 / carbons)}


# --- a checkpoint on a part of its data --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "0000.zarr"
    write_shard(path, ((f"run/{k}", calculation(structure(k, 4), k)) for k in range(4)))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    ids = {"train": ["run/0"], "validation": ["run/1", "run/3"], "test": []}
    checkpoints.save(
        path,
        Checkpoint(MODEL, small_settings(MODEL), network().state_dict(), labeller(), "float64", ids),
    )
    return path


def test_the_part_asked_for_is_judged_and_nothing_else(file: Path, shard: Path) -> None:
    metrics = evaluate_checkpoint(file, [shard], "validation")
    assert set(metrics["mae_per_sample"]) == {"run/1", "run/3"}
    predictor = Predictor(checkpoints.load(file))
    total, count = 0.0, 0
    for k in (1, 3):
        c = calculation(structure(k, 4), k)
        error = np.abs(predictor(c.structure, c.overlap).values - c.hamiltonian.values)
        assert metrics["mae_per_sample"][f"run/{k}"] == pytest.approx(1000 * error.mean())
        total, count = total + error.sum(), count + error.size
    assert metrics["mae"] == pytest.approx(1000 * total / count)
    assert set(evaluate_checkpoint(file, [shard], "train")["mae_per_sample"]) == {"run/0"}


def test_errors_do_not_depend_on_how_the_structures_lie(file: Path, tmp_path: Path) -> None:
    """Of the mean square, strictly; the mean absolute error of elements is no invariant. The gauge is one."""
    q = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # permutes and flips orbitals of s and p
    plain = [calculation(structure(k, 4), k) for k in (1, 3)]
    for name, several in (("plain", plain), ("turned", [turned_calculation(c, q) for c in plain])):
        write_shard(tmp_path / f"{name}.zarr", zip(("run/1", "run/3"), several, strict=True))
    one, two = (evaluate_checkpoint(file, [tmp_path / f"{name}.zarr"], "validation") for name in ("plain", "turned"))
    assert two["gauge_shift_mev"] == pytest.approx(one["gauge_shift_mev"], rel=1e-9)
    assert two["mae"] == pytest.approx(one["mae"], rel=1e-9)


def test_calculations_of_equal_ids_in_two_data_sets_are_told_apart(file: Path, shard: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "other.zarr", [("run/1", calculation(structure(50, 6), 50))])
    metrics = evaluate_checkpoint(file, [shard, tmp_path / "other.zarr"], "validation")
    assert len(metrics["mae_per_sample"]) == len(metrics["gauge_shift_mev"]) == 3
    assert set(metrics["mae_per_sample"]) == {f"{shard.stem}/run/1", "other/run/1", "run/3"}


def test_each_data_set_is_judged_by_itself_too(file: Path, shard: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "other.zarr", [("run/1", calculation(structure(50, 6), 50))])
    both = evaluate_checkpoint(file, [shard, tmp_path / "other.zarr"], "validation")
    assert {name: table["calculations"] for name, table in both["per_dataset"].items()} == {shard.stem: 2, "other": 1}
    alone = evaluate_checkpoint(file, [tmp_path / "other.zarr"], "validation")
    assert both["per_dataset"]["other"]["mae"] == alone["mae"]
    assert both["mae"] != pytest.approx(alone["mae"])


def test_an_empty_part_is_refused_with_those_that_are_not(file: Path, shard: Path) -> None:
    with pytest.raises(EmptyPartError, match=r"model\.pt: its part 'test' has no calculation.*train, validation"):
        evaluate_checkpoint(file, [shard], "test")


def test_parts_whose_calculations_were_removed_are_not_offered(file: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "left.zarr", [("run/0", calculation(structure(0, 4), 0))])
    with pytest.raises(EmptyPartError, match=r"'validation' has no calculation.*that is not empty: train\."):
        evaluate_checkpoint(file, [tmp_path / "left.zarr"], "validation")


def test_shards_of_other_data_are_refused(file: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "other.zarr", [("else/0", DFT)])
    with pytest.raises(EmptyPartError, match=r"its part 'validation' has no calculation in these shards"):
        evaluate_checkpoint(file, [tmp_path / "other.zarr"], "validation")


def test_the_precision_of_the_checkpoint_is_kept(file: Path, shard: Path) -> None:
    before = torch.get_default_dtype()
    evaluate_checkpoint(file, [shard], "train")
    assert torch.get_default_dtype() is before
