"""What every network of `orbitrace.models` must do with spin: turn spinors, keep time reversal, be Hermitian."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from learner_cases import (
    BASIS,
    STRUCTURES,
    assert_close,
    network,
    numbers_of,
    orthogonal,
    overlap,
    predicted,
    small_settings,
    spin_calculation,
    spin_labeller,
    structure,
    turned,
)
from orbitrace import plugins
from orbitrace.graphs.batches import Sample, collate
from orbitrace.graphs.graph import irreps_of_kind, shell_pairs_of_kind
from orbitrace.graphs.irreps import block_irreps
from orbitrace.graphs.spin import MULTIPLETS, SpinKind, time_reversal_violation, to_elements
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.structure import Structure
from orbitrace.prediction import Predictor, predict
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint

KINDS = [kind for kind in SpinKind if kind is not SpinKind.NONE]
TURNS = {
    "rotation": orthogonal(1),
    "rotoinversion": orthogonal(2, -1),
    "inversion": -np.eye(3),
    "mirror": np.diag([1.0, 1.0, -1.0]),
    "half turn": np.diag([-1.0, -1.0, 1.0]),
}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> SpinKind:
    return request.param


@pytest.fixture(scope="module", params=plugins.names("models"))
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def net(model: str, kind: SpinKind) -> nn.Module:
    return network(model, spin=kind)


def sample(kind: SpinKind, of: Structure, over: Blocks) -> Sample:
    return spin_labeller(kind).sample(of, over)


def hamiltonian(net: nn.Module, kind: SpinKind, of: Structure, dtype: torch.dtype = torch.float64) -> Blocks:
    """What is known and what was learned, put together as `Predictor` does it."""
    over, learned = overlap(of), residual(net, kind, of, dtype)
    return learned.with_values(spin_labeller(kind).known(of, over).values + learned.values).hermitian()


def residual(net: nn.Module, kind: SpinKind, of: Structure, dtype: torch.dtype) -> Blocks:
    over = overlap(of)
    return predicted(net, [sample(kind, of, over)], [over], dtype)[0]


def test_every_matrix_of_every_block_is_predicted(net: nn.Module, kind: SpinKind) -> None:
    """All other tests would be empty if the network left the spin out."""
    h = hamiltonian(net, kind, STRUCTURES["sheet"])
    size = np.abs(h.values).max()
    for k in np.flatnonzero(h.shapes.min(1) > 2):  # an s-s block of two atoms has no spin vector by symmetry
        block = h.block(int(k))
        elements = to_elements(block[None], kind)[0]
        ls = [BASIS[int(STRUCTURES["sheet"].numbers[a])].ls for a in h.pairs[k, 3:]]
        irreps = block_irreps(*ls, kind)
        components = elements @ irreps.matrix
        for number in range(len(MULTIPLETS[kind])):
            mine = np.repeat([c.multiplet == number for c in irreps.channels], [2 * c.L + 1 for c in irreps.channels])
            assert np.abs(components[mine]).max() > 1e-4 * size


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("name", list(STRUCTURES))
def test_a_turned_structure_has_the_hamiltonian_of_turned_orbitals_and_spins(
    net: nn.Module, kind: SpinKind, name: str, turn: str
) -> None:
    atoms, q = STRUCTURES[name], TURNS[turn]
    h = hamiltonian(net, kind, atoms)
    assert_close(hamiltonian(net, kind, atoms.rotated(q)), turned(h, atoms, q, spin=kind))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(STRUCTURES))
def test_blocks_are_hermitian_and_time_reversal_holds_to_the_last_bit(
    net: nn.Module, kind: SpinKind, name: str, dtype: torch.dtype
) -> None:
    h, learned = hamiltonian(net, kind, STRUCTURES[name], dtype), residual(net, kind, STRUCTURES[name], dtype)
    np.testing.assert_array_equal(h.values, h.dagger().values)
    np.testing.assert_array_equal(learned.values, learned.dagger().values)
    if kind is SpinKind.SPIN_ORBIT:
        assert time_reversal_violation(h) == 0.0
    if kind is SpinKind.MAGNETIC:
        assert time_reversal_violation(h) > 1e-3


def test_levels_come_in_kramers_pairs_where_k_is_its_own_reverse(model: str) -> None:
    net, atoms = network(model, spin=SpinKind.SPIN_ORBIT), STRUCTURES["sheet"]
    h = hamiltonian(net, SpinKind.SPIN_ORBIT, atoms)
    for k in ([0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]):
        levels = np.linalg.eigvalsh(at(h, np.array(k)))
        assert np.abs(levels[::2] - levels[1::2]).max() <= 1e-10
        assert np.diff(levels[::2]).min() > 1e-6
    levels = np.linalg.eigvalsh(at(h, np.array([0.13, 0.29, 0.0])))
    assert np.abs(levels[::2] - levels[1::2]).max() > 1e-3  # elsewhere there are none


def at(h: Blocks, k: np.ndarray) -> np.ndarray:
    """H(k), dense."""
    counts = h.shapes[h.onsite, 0]
    starts = np.concatenate([[0], np.cumsum(counts)])
    whole = np.zeros((starts[-1], starts[-1]), dtype=np.complex128)
    for n, (*r, i, j) in enumerate(h.pairs.tolist()):
        whole[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] += np.exp(2j * np.pi * k @ r) * h.block(n)
    return whole


def test_float32_agrees_with_float64(net: nn.Module, kind: SpinKind) -> None:
    atoms = STRUCTURES["crystal"]
    assert_close(hamiltonian(net, kind, atoms, torch.float32), hamiltonian(net, kind, atoms), 2e-4)


def test_renumbered_atoms_have_the_renumbered_hamiltonian(net: nn.Module, kind: SpinKind) -> None:
    atoms = STRUCTURES["sheet"]
    order = np.random.default_rng(4).permutation(atoms.n_atoms)
    renumbered = Structure(atoms.positions[order], atoms.lattice, atoms.numbers[order], atoms.pbc)
    h = hamiltonian(net, kind, renumbered)
    assert_close(h, hamiltonian(net, kind, atoms).reordered(order))


def test_a_structure_alone_is_the_same_as_among_others(net: nn.Module, kind: SpinKind) -> None:
    many = [*STRUCTURES.values(), structure(5, 2, (False,) * 3, (1, 6))]
    overs = [overlap(one) for one in many]
    together = predicted(net, [sample(kind, one, over) for one, over in zip(many, overs, strict=True)], overs)
    for one, over, h in zip(many, overs, together, strict=True):
        assert_close(h, predicted(net, [sample(kind, one, over)], [over])[0], 1e-12)


def test_the_output_has_the_irreps_of_every_block_and_two_traces_of_every_pair_of_shells(
    net: nn.Module, kind: SpinKind
) -> None:
    c = spin_calculation(STRUCTURES["sheet"], kind)
    traces = []
    for q in (np.eye(3), orthogonal(12, -1)):
        turned_h = turned(c.hamiltonian, c.structure, q, spin=kind)
        labelled = spin_labeller(kind).sample(c.structure.rotated(q), c.overlap, turned_h)
        batch = collate([labelled], torch.float64)
        with torch.no_grad():
            output = net(batch)
        for group, irreps in zip(batch.groups, output.irreps, strict=True):
            assert irreps.shape == (len(group.members), len(irreps_of_kind(BASIS, group.kind, kind).matrix))
        for group, predicted_traces in zip(batch.groups, output.traces, strict=bool(output.traces)):
            count = shell_pairs_of_kind(BASIS, group.kind, kind)[1]
            assert predicted_traces.shape == (len(group.members), count) == group.traces.shape
        traces.append(output.traces)
    for one, other in zip(*traces, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1.0, float(one.abs().max())))


def test_every_weight_is_used(net: nn.Module, kind: SpinKind) -> None:
    """Weights without a gradient stop training on several devices."""
    several = [spin_calculation(one, kind) for one in STRUCTURES.values()]
    batch = collate([spin_labeller(kind).sample(c.structure, c.overlap, c.hamiltonian) for c in several], torch.float64)
    output = net(batch)
    sum((x**2).sum() for x in [*output.irreps, *output.traces]).backward()
    idle = [name for name, p in net.named_parameters() if p.numel() and p.grad is None]
    net.zero_grad(set_to_none=True)
    if not output.traces:
        idle = [name for name in idle if not name.endswith("tracegrad.network.linear3.bias")]
    assert idle == []


def test_a_checkpoint_predicts_what_its_network_says(net: nn.Module, model: str, kind: SpinKind, tmp_path: Path) -> None:
    atoms = STRUCTURES["sheet"]
    labeller = spin_labeller(kind, int(net.l_max))
    trained = Checkpoint(model, small_settings(model), net.state_dict(), labeller, "float64")
    checkpoints.save(tmp_path / "model.pt", trained)
    loaded = checkpoints.load(tmp_path / "model.pt")
    assert loaded.labeller.spin is kind
    h = Predictor(loaded)(atoms, overlap(atoms))
    assert_close(h, hamiltonian(net, kind, atoms), 1e-13)
    assert (h.values.dtype == np.complex128) is kind.is_complex
    known = structure(11, 8)  # its distances are covered
    with numbers_of(torch.float32):
        assert predict(tmp_path / "model.pt", known, BASIS, overlap(known)).shapes.max() == 2 * BASIS[5].n_orbitals
