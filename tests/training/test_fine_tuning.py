"""Starting from a checkpoint: what is known stays as it was to the last digits, what is new is learned besides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learner_cases import (
    VARIANTS,
    assert_close,
    calculation,
    network,
    numbers_of,
    overlap,
    small_settings,
    spin_calculation,
    stirred,
    structure,
)
from orbitrace import models, plugins, training
from orbitrace.errors import InputError
from orbitrace.graphs.assembly import Assembly
from orbitrace.graphs.batches import collate
from orbitrace.graphs.labels import Labeller, fit_labeller
from orbitrace.graphs.shards import write_shard
from orbitrace.graphs.spin import SpinKind
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.models import BlockNetwork
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.prediction import Predictor
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training import transfer
from orbitrace.training.checkpoint import Checkpoint
from orbitrace.training.loss import trace_loss

# Carbon and oxygen are known; hydrogen comes before them in the basis, nitrogen between, and fluorine has d shells.
KNOWN, NEW = (6, 8), (1, 7, 9)
BASIS = Basis(
    {
        1: Shells((0,), 1.4, 1.0),
        6: Shells((0, 0, 1), 1.8, 4.0),
        7: Shells((0, 1), 1.7, 5.0),
        8: Shells((0, 1, 1), 1.6, 6.0),
        9: Shells((0, 1, 2), 1.9, 7.0),
    }
)
SETTINGS = {"irreps": "6x0e+3x1o+2x2e", "blocks": 2, "radial_width": 8, "gaussians": 6, "invariants": 4, "neighbours": 8.0}


UP_TO_4 = {"irreps": "6x0e+3x1o+2x2e+2x3o+2x4e"}


def data(elements: tuple[int, ...], seeds: range = range(3), basis: Basis = BASIS) -> list[Calculation]:
    return [calculation(structure(seed, 6, elements=elements), seed, basis) for seed in seeds]


def fitted(several: list[Calculation]) -> Labeller:
    return fit_labeller(lambda: iter(several), 0, "tests")


def started(model: str, elements: tuple[int, ...], **changes: object) -> Checkpoint:
    """A checkpoint of known elements in which no weight is zero."""
    labeller = fitted(data(elements))
    return of_labeller(model, labeller, **changes)


def of_labeller(model: str, labeller: Labeller, **changes: object) -> Checkpoint:
    net = network(model, basis=labeller.basis, spin=labeller.spin, **changes)
    labeller = replace(labeller, l_max=net.l_max)
    return Checkpoint(model, small_settings(model, **changes), net.state_dict(), labeller, "float64")


def adopted(start: Checkpoint, fresh: Labeller, seed: int = 5) -> Checkpoint:
    """What a training with new elements starts with; what is new is random."""
    labeller = transfer.extended(start.labeller, fresh, "tests")
    with numbers_of(torch.float64):
        net = stirred(models.build(start.model, start.network, labeller.basis, labeller.spin), seed)
    transfer.adopt(net, start, labeller.basis)
    return Checkpoint(start.model, start.network, net.state_dict(), replace(labeller, l_max=net.l_max), "float64")


def cases() -> list[tuple[str, str]]:
    found = []
    for model in plugins.names("models"):
        seen: list[dict[str, object]] = []
        for name, changes in VARIANTS.items():
            if (settings := small_settings(model, **changes)) not in seen:
                seen.append(settings)
                found.append((model, name))
    return found


@pytest.mark.parametrize("new", [(), (1, 7), (9,), NEW], ids=str)
@pytest.mark.parametrize(("model", "variant"), cases())
def test_known_structures_are_predicted_as_before_whatever_is_new(model: str, variant: str, new: tuple[int, ...]) -> None:
    """Before the first step, in float64: also where d shells of new elements bring more irreps and more traces."""
    start = started(model, KNOWN, **{**VARIANTS[variant], **(UP_TO_4 if 9 in new else {})})
    tuned = adopted(start, fitted(data((*KNOWN, *new), range(5, 8))))
    assert tuned.basis.elements == tuple(sorted((*KNOWN, *new)))
    before, after = Predictor(start), Predictor(tuned)
    for elements in (KNOWN, (6,)):
        of = structure(11, 6, elements=elements)
        over = overlap(of, BASIS)
        assert_close(after(of, over), before(of, over), 1e-10)


@pytest.mark.parametrize("kind", [SpinKind.COLLINEAR, SpinKind.SPIN_ORBIT, SpinKind.MAGNETIC])
@pytest.mark.parametrize("model", plugins.names("models"))
def test_known_structures_with_spin_are_predicted_as_before(model: str, kind: SpinKind) -> None:
    def several(elements: tuple[int, ...], first: int) -> list[Calculation]:
        seeds = range(first, first + 3)
        return [spin_calculation(structure(seed, 6, elements=elements), kind, seed, BASIS) for seed in seeds]

    start = of_labeller(model, fitted(several(KNOWN, 0)))
    tuned = adopted(start, fitted(several((1, *KNOWN, 7), 5)))
    assert tuned.labeller.spin is kind
    of = structure(11, 6, elements=KNOWN)
    over = overlap(of, BASIS)
    assert_close(Predictor(tuned)(of, over), Predictor(start)(of, over), 1e-10)


def test_another_kind_of_spin_is_refused() -> None:
    with_spin = [spin_calculation(structure(seed, 6, elements=KNOWN), SpinKind.SPIN_ORBIT, seed, BASIS) for seed in range(3)]
    plain, spinful = fitted(data(KNOWN)), fitted(with_spin)
    with pytest.raises(InputError, match=r"my data: the calculations are learned as 'spin-orbit' in spin, the checkpoint as"):
        transfer.extended(plain, spinful, "my data")


@pytest.mark.parametrize("model", plugins.names("models"))
def test_the_network_that_went_on_can_say_something_of_what_is_new(model: str) -> None:
    start = started(model, KNOWN, **UP_TO_4)
    tuned = adopted(start, fitted(data((*KNOWN, *NEW), range(5, 8))))
    of = structure(5, 6, elements=(*KNOWN, *NEW))
    found = Predictor(tuned)(of, overlap(of, BASIS)).values
    assert np.isfinite(found).all()


@pytest.mark.parametrize("model", plugins.names("models"))
def test_new_read_outs_start_as_those_of_equal_shells_or_at_zero(model: str) -> None:
    """Nitrogen and boron have the shells of each other alone: what is known of one is the best guess for the other."""
    labeller = fitted(data((6, 7)))
    net = network(model, basis=labeller.basis)
    start = Checkpoint(model, small_settings(model), net.state_dict(), replace(labeller, l_max=net.l_max), "float64")
    alike = Basis({**BASIS.shells, 5: Shells((0, 1), 1.7, 3.0)})
    tuned = adopted(start, fitted(data((1, 5, 6, 7), range(5, 8), alike)))
    of = {name: weight for name, weight in tuned.weights.items() if name.startswith(("onsite", "offsite"))}
    for name, weight in of.items():
        room, ends, rest = name.split(".", 2)
        if "1" in ends.split("-"):
            assert not weight.any(), name
        elif "5" in ends.split("-"):
            assert torch.equal(weight, of[f"{room}.{ends.replace('5', '7')}.{rest}"]), name


def test_elements_that_need_larger_l_than_the_checkpoint_has_are_refused_with_what_to_do() -> None:
    words = r"init_from: with F there are blocks of l = 4, and .* ends at l = 2\. Expected irreps up to l = 4"
    with pytest.raises(InputError, match=words):
        adopted(started("deeph_e3_local", KNOWN), fitted(data((*KNOWN, 9), range(5, 8))))


def moved(net: BlockNetwork, labeller: Labeller, several: list[Calculation]) -> dict[str, torch.Tensor]:
    """Which weights move in some steps of training."""
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    batch = collate([labeller.sample(c.structure, c.overlap, c.hamiltonian) for c in several], torch.float64)
    with numbers_of(torch.float64):
        assembly = Assembly(labeller.basis)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        output = net(batch)
        loss = (assembly(batch, output.irreps) - batch.residual).abs().mean()
        (loss + trace_loss(batch, output.traces) if output.traces else loss).backward()
        optimizer.step()
    return {name: p != before[name] for name, p in net.named_parameters()}


@pytest.mark.parametrize("model", plugins.names("models"))
def test_every_weight_that_learns_from_scratch_learns_here_too(model: str) -> None:
    """None starts where its gradient is zero for ever."""
    several = data((6, 9), range(5, 8))
    tuned = adopted(started(model, (6,), **UP_TO_4), fitted(several))
    scratch = network(model, basis=tuned.basis, **UP_TO_4)
    here, there = (moved(net, tuned.labeller, several) for net in (tuned.build(), scratch))
    assert [name for name in here if bool((there[name] & ~here[name]).any())] == []


def test_the_reference_and_scales_of_known_pairs_are_kept_and_those_of_new_ones_are_fitted() -> None:
    start, fresh = started("deeph_e3_local", KNOWN), fitted(data((1, 6, 8), range(5, 8)))
    merged = transfer.extended(start.labeller, fresh, "tests")
    assert merged.reference.bonds[6, 8].coefficients is start.labeller.reference.bonds[6, 8].coefficients
    assert merged.reference.bonds[1, 6] is fresh.reference.bonds[1, 6]
    assert merged.reference.onsite[6] is start.labeller.reference.onsite[6]
    assert merged.scales.tables[1, 2] is start.labeller.scales.tables[0, 1]  # C-O
    assert merged.scales.tables[0, 1] is fresh.scales.tables[0, 1]  # H-C
    assert merged.scales.tables[0,] is fresh.scales.tables[0,]


def test_distances_of_both_data_count_as_covered() -> None:
    start, fresh = started("deeph_e3_local", (6,)), fitted(data((6,), range(5, 8)))
    table = start.labeller.reference.bonds[6, 6]
    bonds = {(6, 6): replace(table, covered=np.array([[1.0, 1.2], [2.0, 3.6]]))}
    old = replace(start.labeller, reference=replace(start.labeller.reference, bonds=bonds))
    other = {(6, 6): replace(table, covered=np.array([[1.1, 1.5], [1.8, 1.9]]))}
    new = replace(fresh, reference=replace(fresh.reference, bonds=other))
    merged = transfer.extended(old, new, "tests").reference.bonds[6, 6].covered
    assert merged.tolist() == [[1.0, 1.5], [1.8, 1.9], [2.0, 3.6]]


def test_known_functions_stay_constant_below_the_distances_that_they_were_fitted_to() -> None:
    """A spline that is followed beyond its data goes anywhere; this must hold after a checkpoint, too."""
    start, fresh = started("deeph_e3_local", (6,)), fitted(data((6,), range(5, 8)))
    table = start.labeller.reference.bonds[6, 6]
    shorter = {(6, 6): replace(table, covered=np.array([[0.3, 1.0]]))}
    new = replace(fresh, reference=replace(fresh.reference, bonds=shorter))
    extended = transfer.extended(start.labeller, new, "tests")
    again = Labeller.from_arrays(extended.to_arrays(), extended.basis, extended.l_max, extended.spin)
    distances = np.linspace(0.3, table.cutoff, 50)
    for labeller in (extended, again):
        bond = labeller.reference.bonds[6, 6]
        assert not bond.uncovered(np.array([0.4])).any()
        np.testing.assert_array_equal(bond.at(distances), table.at(distances))


# --- whole trainings ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("shards")
    elements = {"known": (6, 8), "more": (1, 6, 8), "other": (6,)}
    for name, zs in elements.items():
        basis = Basis({6: Shells((0, 1), 1.8, 4.0)}) if name == "other" else BASIS
        write_shard(folder / f"{name}.zarr", ((f"run/{k}", c) for k, c in enumerate(data(zs, range(4), basis))))
    return {name: folder / f"{name}.zarr" for name in elements}


def section(**changes: object) -> LearnSection:
    train = {"max_steps": 2, "validate_every": 1, "batch_pairs": 300, "validation": 0.3, "precision": "float64"}
    own = {key: changes.pop(key) for key in ("model", "network", "init_from") if key in changes}
    return LearnSection(**{"network": SETTINGS, **own}, train=TrainSection(**{**train, **changes}))


@pytest.fixture(scope="module")
def base(shards: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    training.train([shards["known"]], folder / "model.pt", folder / "run", section())
    return folder / "model.pt"


def tuned(shard: Path, folder: Path, base: Path, **changes: object) -> Checkpoint:
    settings = section(**{"network": {}, "init_from": str(base), **changes})
    training.train([shard], folder / "model.pt", folder / "run", settings)
    return checkpoints.load(folder / "model.pt")


def test_a_training_that_does_not_move_predicts_what_it_started_from(
    shards: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    kept = tuned(shards["more"], tmp_path, base, learning_rate=1e-30)
    assert kept.basis.elements == (1, 6, 8)
    assert kept.network == checkpoints.load(base).network  # the settings of the network are those of the checkpoint
    of = structure(11, 6, elements=KNOWN)
    over = overlap(of, BASIS)
    assert_close(Predictor(kept)(of, over), Predictor(checkpoints.load(base))(of, over), 1e-10)


def test_elements_that_the_new_data_lack_stay_known(shards: dict[str, Path], base: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "carbon.zarr", ((f"run/{k}", c) for k, c in enumerate(data((6,), range(4)))))
    assert tuned(tmp_path / "carbon.zarr", tmp_path, base).basis.elements == KNOWN


def test_a_training_starts_anew_when_its_checkpoint_changed_and_goes_on_when_it_only_moved(
    shards: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    one = tuned(shards["more"], tmp_path, base)
    copy = tmp_path / "copy.pt"
    copy.write_bytes(base.read_bytes())
    tuned(shards["more"], tmp_path, copy)
    assert not (tmp_path / "run.old").exists()
    changed = checkpoints.load(base)
    checkpoints.save(copy, replace(changed, weights={key: x + 0.01 for key, x in changed.weights.items()}))
    other = tuned(shards["more"], tmp_path, copy)
    assert (tmp_path / "run.old").exists()
    assert any(not torch.equal(one.weights[key], other.weights[key]) for key in one.weights)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "gauge"}, "init_from: .* learned the target absolute.*Set train.target: absolute"),
        ({"init_from": "nowhere.pt"}, "nowhere.pt: does not exist"),
        ({"network": {"blocks": 3}}, "init_from: the network of .* has blocks = 2.*Remove network.blocks"),
        ({"network": {"neighbours": 9.0}}, "has neighbours = 8.0.*not neighbours = 9.0"),
        ({"network": {"bloks": 3}}, "network.bloks: unknown key.*Did you mean blocks?"),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_refused(
    changes: dict[str, object], words: str, shards: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        tuned(shards["more"], tmp_path, base, **changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_model_is_refused(shards: dict[str, Path], base: Path, tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "other.pt", replace(checkpoints.load(base), model="qhnet"))
    with pytest.raises(InputError, match=r"init_from: .*other\.pt is of the model qhnet.*Set model: qhnet"):
        tuned(shards["more"], tmp_path, tmp_path / "other.pt")


def test_another_basis_of_a_known_element_is_refused(shards: dict[str, Path], base: Path, tmp_path: Path) -> None:
    words = r"C has the basis s1p1 .*Expected s2p1 .*as in the checkpoint that it starts from\. Start from a checkpoint"
    with pytest.raises(InputError, match=words):
        tuned(shards["other"], tmp_path, base)
