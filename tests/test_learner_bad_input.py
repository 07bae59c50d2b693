"""Bad input to the learner: one clear sentence that names what is at fault, and nothing half-written is left."""

import re
from collections.abc import Callable
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
    overlap,
    random_blocks,
    small_settings,
    structure,
    training_set,
)
from orbitrace import models, training
from orbitrace.errors import InputError
from orbitrace.graphs.labels import fit_labeller
from orbitrace.graphs.shards import write_shard
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.prediction import predict
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training import fit
from orbitrace.training.checkpoint import Checkpoint

TARGET = training_set()[1].structure


def sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    """What the user reads: one paragraph without a line break, with an end."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert len(text) < 600
    return text


# --- targets -----------------------------------------------------------------------------------------------------------------


MODEL = "deeph_e3_local"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    net = network()
    kept = Checkpoint(
        "deeph_e3_local", small_settings("deeph_e3_local"), net.state_dict(), labeller(int(net.l_max)), "float64"
    )
    checkpoints.save(path, kept)
    return path


def test_a_target_like_the_training_data_is_taken(file: Path) -> None:
    assert np.isfinite(predict(file, TARGET, BASIS, overlap(TARGET), "targets/good.cif").values).all()


def test_an_element_that_was_never_trained_on_is_refused(file: Path) -> None:
    basis = Basis({**BASIS.shells, 14: Shells((0, 1), 2.0, 4.0)})
    numbers = TARGET.numbers.copy()
    numbers[3] = 14
    atoms = Structure(TARGET.positions, TARGET.lattice, numbers, TARGET.pbc)
    with pytest.raises(InputError) as error:
        predict(file, atoms, basis, overlap(atoms, basis), "targets/silicon.cif")
    assert re.match(
        rf"targets/silicon\.cif: Si was never trained on\. Expected elements that {file} knows: H, B, C\. Add", sentence(error)
    )


@pytest.mark.parametrize("shells", [Shells((0, 1), 1.8), Shells((0, 0, 1), 1.7)], ids=["shells", "cutoff"])
def test_a_checkpoint_of_another_basis_is_refused(file: Path, shells: Shells) -> None:
    basis = Basis({**BASIS.shells, 6: shells})
    with pytest.raises(InputError) as error:
        predict(file, TARGET, basis, overlap(TARGET, basis), "targets/other")
    text = sentence(error)
    assert text.startswith(f"targets/other: C has the basis {shells}")
    assert f"the checkpoint {file}" in text
    assert "s2p1 with cutoff 1.8000 Å" in text


def test_pairs_closer_than_in_the_training_data_are_refused_with_the_distances(file: Path) -> None:
    atoms = Structure(np.array([[0, 0, 0], [0, 0, 0.4]]), np.zeros((3, 3)), np.array([6, 6]), (False,) * 3)
    with pytest.raises(InputError) as error:
        predict(file, atoms, BASIS, overlap(atoms), "targets/crushed")
    assert re.match(r"targets/crushed: 1 pair C-C at 0\.400 Å, but the training data cover \d", sentence(error))


def test_elements_that_never_met_in_the_training_data_are_refused(tmp_path: Path) -> None:
    apart = [calculation(structure(k, 4, elements=(z,))) for k, z in enumerate((5, 6))]
    kept = fit_labeller(lambda: iter(apart), 4, "tests")
    net = network(basis=kept.basis)
    checkpoints.save(
        tmp_path / "model.pt",
        Checkpoint(MODEL, small_settings(MODEL), net.state_dict(), kept, "float64"),
    )
    both = structure(5, 4, elements=(5, 6))
    with pytest.raises(InputError) as error:
        predict(tmp_path / "model.pt", both, BASIS, overlap(both), "targets/alloy")
    assert sentence(error).startswith("targets/alloy: B-C are neighbours, which the training data never had")


def test_an_overlap_that_lacks_half_its_pairs_is_refused(file: Path) -> None:
    over = overlap(TARGET)
    kept = np.flatnonzero(over.onsite | (np.arange(over.n_pairs) < over.reverse))
    half = Blocks(over.pairs[kept], over.shapes[kept], np.concatenate([over.block(int(k)).reshape(-1) for k in kept]))
    with pytest.raises(InputError) as error:
        predict(file, TARGET, BASIS, half, "targets/half")
    assert "no partner (j, i, -R)" in sentence(error)


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("not a network")
    for name in ("model.pt", "gone.pt"):
        with pytest.raises(InputError) as error:
            predict(tmp_path / name, TARGET, BASIS, overlap(TARGET))
        assert sentence(error).startswith(str(tmp_path / name))


# --- training ----------------------------------------------------------------------------------------------------------------


def section(**train: object) -> LearnSection:
    settings = {"max_steps": 2, "validate_every": 1, "batch_pairs": 300, "validation": 0.3, "precision": "float64", **train}
    return LearnSection(network=small_settings("deeph_e3_local", blocks=1), train=TrainSection(**settings))


def shard_of(path: Path, *several: tuple[str, Calculation]) -> Path:
    write_shard(path, several)
    return path


def refused(tmp_path: Path, shards: list[Path], learn: LearnSection | None = None) -> str:
    """The sentence, after a look that no checkpoint and nothing half-written was left."""
    with pytest.raises(InputError) as error:
        training.train(shards, tmp_path / "out" / "model.pt", tmp_path / "run", learn or section())
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    left = [item.name for item in (tmp_path / "run").glob("*")] if (tmp_path / "run").exists() else []
    assert not [name for name in left if name.startswith(".") or name.endswith(".tmp")]
    return sentence(error)


CARBON: Callable[[int], Calculation] = lambda k: calculation(structure(k, 3, elements=(6,)), k, source=f"data/run/{k}")  # noqa: E731


@pytest.mark.parametrize("spin", [Spin.COLLINEAR, Spin.NONCOLLINEAR])
def test_calculations_with_spin_are_not_trained_on_beside_others_without(tmp_path: Path, spin: Spin) -> None:
    odd = calculation(structure(1, 3, elements=(6,)), spin=spin, source="data/run/nickel")
    shard = shard_of(tmp_path / "0.zarr", ("run/0", CARBON(0)), ("run/1", CARBON(2)), ("run/nickel", odd))
    text = refused(tmp_path, [shard], section(validation=0.0))
    assert f"data/run/nickel: its spin is treated as {spin.value!r}, but 'none' in other calculations" in text
    assert "one treatment of spin" in text


def split_with(part: str, ids: list[str], fraction: float = 0.3) -> int:
    """A seed for which the last id alone falls into a part."""
    from orbitrace.manifest import split_of

    fractions = {"validation": fraction, "test": 0.0}
    return next(
        seed
        for seed in range(1000)
        if [split_of(name, fractions, seed) for name in ids] == ["train"] * (len(ids) - 1) + [part]
    )


def test_a_calculation_with_another_kind_of_spin_is_not_validated_on(tmp_path: Path) -> None:
    odd = calculation(structure(1, 3, elements=(6,)), spin=Spin.COLLINEAR, source="data/run/nickel")
    shard = shard_of(tmp_path / "0.zarr", ("run/0", CARBON(0)), ("run/1", CARBON(2)), ("run/nickel", odd))
    seed = split_with("validation", ["run/0", "run/1", "run/nickel"])
    text = refused(tmp_path, [shard], section(seed=seed))
    assert "spin" in text
    assert "run/nickel" in text


def test_validation_on_an_element_that_is_never_trained_on_is_refused(tmp_path: Path) -> None:
    odd = calculation(structure(1, 3, elements=(5, 6)))
    shard = shard_of(tmp_path / "0.zarr", ("run/0", CARBON(0)), ("run/1", CARBON(2)), ("run/boron", odd))
    text = refused(tmp_path, [shard], section(seed=split_with("validation", ["run/0", "run/1", "run/boron"])))
    assert text.startswith("run/boron: ")
    assert re.search(r"\bB\b", text)  # its symbol, not its number


def test_validation_on_pairs_that_never_met_in_training_is_refused(tmp_path: Path) -> None:
    alone = [("run/0", CARBON(0)), ("run/1", calculation(structure(3, 3, elements=(5,))))]
    shard = shard_of(tmp_path / "0.zarr", *alone, ("run/both", calculation(structure(1, 4, elements=(5, 6)))))
    text = refused(tmp_path, [shard], section(seed=split_with("validation", ["run/0", "run/1", "run/both"])))
    assert "B-C are neighbours, which the training data never had" in text
    assert "run/both" in text


def test_shards_with_two_bases_for_one_element_are_refused(tmp_path: Path) -> None:
    other = Basis({**BASIS.shells, 6: Shells((0, 1), 1.8, 4.0)})
    atoms = structure(1, 3, elements=(6,))
    one = shard_of(tmp_path / "0.zarr", ("a/0", CARBON(0)), ("a/1", CARBON(2)))
    two = shard_of(tmp_path / "1.zarr", ("b/0", calculation(atoms, basis=other)))
    text = refused(tmp_path, [one, two], section(validation=0.0))
    assert "C has the basis s1p1" in text
    assert "s2p1" in text


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path / "gone.zarr") in refused(tmp_path, [tmp_path / "gone.zarr"])


def test_an_unknown_setting_of_the_network_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "fit_labeller", lambda *_, **__: pytest.fail("the fit came first"))
    shard = shard_of(tmp_path / "0.zarr", ("run/0", CARBON(0)), ("run/1", CARBON(1)))
    text = refused(tmp_path, [shard], LearnSection(network={"blokcs": 3}, train=section().train))
    assert text.startswith("network.blokcs")
    assert "Did you mean blocks?" in text


@pytest.mark.parametrize("values", [{"blocks": 0}, {"neighbours": -1.0}, {"gaussians": "many"}, {"irreps": "16x1o"}])
def test_impossible_settings_of_the_network_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError) as error:
        models.settings_of("deeph_e3_local", values)
    key, value = next(iter(values.items()))
    assert sentence(error).startswith(f"network.{key}")
    assert repr(value) in sentence(error)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_training_that_diverges_stops_with_what_to_do(tmp_path: Path, precision: str) -> None:
    """Weights that are NaN never come back; hours of training on them help nobody."""
    shard = shard_of(tmp_path / "0.zarr", *((f"run/{k}", CARBON(k)) for k in range(3)))
    learn = section(learning_rate=1e30, warmup=0.0, max_steps=40, validate_every=10, precision=precision, ema=0.0)
    text = refused(tmp_path, [shard], learn)
    assert "learning_rate" in text
    log = tmp_path / "run" / "log.csv"
    assert not log.exists() or len(log.read_text().splitlines()) <= 3  # it did not go on to the end


def test_h_that_is_nan_is_refused_by_name(tmp_path: Path) -> None:
    """Readers refuse it; a shard made by other means may hold it."""
    atoms = structure(1, 3, elements=(6,))
    c = CARBON(1)
    values = c.hamiltonian.values.copy()
    values[5] = np.nan
    odd = Calculation(c.structure, c.basis, c.hamiltonian.with_values(values), c.overlap, None, None, Spin.NONE, c.provenance)
    assert np.array_equal(odd.structure.positions, atoms.positions)
    shard = shard_of(tmp_path / "0.zarr", ("run/0", CARBON(0)), ("run/1", odd))
    assert "data/run/1" in refused(tmp_path, [shard], section(validation=0.0))


def test_h_and_overlap_over_other_pairs_are_refused_by_name(tmp_path: Path) -> None:
    c = CARBON(1)
    near = find_pairs(c.structure, Basis({6: Shells((0, 0, 1), 1.2, 4.0)}))
    odd = Calculation(
        c.structure, c.basis, c.hamiltonian, random_blocks(near, c.structure, c.basis, 0), None, None, Spin.NONE, c.provenance
    )
    assert odd.overlap.n_pairs < odd.hamiltonian.n_pairs
    shard = shard_of(tmp_path / "0.zarr", ("run/0", CARBON(0)), ("run/1", odd))
    text = refused(tmp_path, [shard], section(validation=0.0))
    assert "data/run/1" in text
    assert "same pairs" in text


def test_the_default_type_of_new_tensors_survives_a_refusal(tmp_path: Path) -> None:
    before = torch.get_default_dtype()
    refused(tmp_path, [tmp_path / "gone.zarr"])
    assert torch.get_default_dtype() is before
    assert STRUCTURES
