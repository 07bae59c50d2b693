"""What every network of `orbitrace.models` must do, whatever its architecture: be symmetric, local and smooth, in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from learner_cases import (
    BASIS,
    SMALL,
    STRUCTURES,
    VARIANTS,
    assert_close,
    calculation,
    hamiltonian,
    labeller,
    network,
    numbers_of,
    orthogonal,
    overlap,
    predicted,
    sample,
    small_settings,
    structure,
    turned,
)
from orbitrace import models, plugins
from orbitrace.errors import InputError
from orbitrace.graphs.batches import collate
from orbitrace.graphs.graph import irreps_of_kind
from orbitrace.graphs.irreps import block_irreps
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.harmonics import wigner
from orbitrace.physics.structure import Structure

TURNS = {
    "rotation": orthogonal(1),
    "rotoinversion": orthogonal(2, -1),
    "inversion": -np.eye(3),
    "mirror": np.diag([1.0, 1.0, -1.0]),
    "quarter turn": np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
}
HOPS = 4  # of the receptive field, for models that do not say how many updates they make


def cases() -> list[tuple[str, str]]:
    """Every model, with every variant of settings that makes a difference to it."""
    found = []
    for model in plugins.names("models"):
        seen: list[dict[str, object]] = []
        for name, changes in VARIANTS.items():
            settings = small_settings(model, **changes)
            if settings not in seen:
                seen.append(settings)
                found.append((model, name))
    return found


@pytest.fixture(scope="module", params=cases(), ids="-".join)
def net(request: pytest.FixtureRequest) -> nn.Module:
    model, variant = request.param
    return network(model, **VARIANTS[variant])


LOCAL = [case for case in cases() if plugins.load("models", case[0]).Network.local]
NOT_LOCAL = [model for model in plugins.names("models") if not plugins.load("models", model).Network.local]


@pytest.fixture(scope="module", params=LOCAL, ids="-".join)
def local_net(request: pytest.FixtureRequest) -> nn.Module:
    model, variant = request.param
    return network(model, **VARIANTS[variant])


@pytest.fixture(scope="module", params=list(STRUCTURES))
def atoms(request: pytest.FixtureRequest) -> Structure:
    return STRUCTURES[request.param]


@pytest.fixture(scope="module", params=plugins.names("models"))
def plain_net(request: pytest.FixtureRequest) -> nn.Module:
    return network(request.param)


def test_the_network_says_something(net: nn.Module, atoms: Structure) -> None:
    """All other tests would be empty if its part of H were small beside the reference."""
    h = hamiltonian(net, atoms)
    reference = labeller().reference.blocks(atoms, BASIS, h.pairs)
    for k in range(h.n_pairs):
        assert np.abs(h.block(k) - reference.block(k)).max() > 1e-5 * np.abs(h.values).max()


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_or_mirrored_structure_has_the_turned_hamiltonian(net: nn.Module, atoms: Structure, turn: str) -> None:
    q = TURNS[turn]
    h = hamiltonian(net, atoms)
    assert_close(hamiltonian(net, atoms.rotated(q)), turned(h, atoms, q))


def test_renumbered_atoms_have_the_renumbered_hamiltonian(net: nn.Module, atoms: Structure) -> None:
    order = np.random.default_rng(4).permutation(atoms.n_atoms)
    renumbered = Structure(atoms.positions[order], atoms.lattice, atoms.numbers[order], atoms.pbc)
    over = overlap(atoms)
    assert_close(hamiltonian(net, renumbered, over.reordered(order)), hamiltonian(net, atoms, over).reordered(order))


def test_symmetries_hold_in_float32_to_its_digits(net: nn.Module, atoms: Structure) -> None:
    """Turned and mirrored, renumbered, shifted: as in float64, to what float32 can tell."""
    over = overlap(atoms)
    h = hamiltonian(net, atoms, over, torch.float32)
    np.testing.assert_array_equal(h.values, h.dagger().values)
    q = TURNS["rotoinversion"]
    assert_close(hamiltonian(net, atoms.rotated(q), over, torch.float32), turned(h, atoms, q), 2e-4)
    order = np.random.default_rng(4).permutation(atoms.n_atoms)
    renumbered = Structure(atoms.positions[order], atoms.lattice, atoms.numbers[order], atoms.pbc)
    assert_close(hamiltonian(net, renumbered, over.reordered(order), torch.float32), h.reordered(order), 2e-4)
    shifted = Structure(atoms.positions + np.array([12.3, -4.5, 0.67]), atoms.lattice, atoms.numbers, atoms.pbc)
    assert_close(hamiltonian(net, shifted, over, torch.float32), h, 2e-4)


def test_a_shift_of_the_whole_structure_changes_nothing(net: nn.Module, atoms: Structure) -> None:
    shifted = Structure(atoms.positions + np.array([12.3, -4.5, 0.67]), atoms.lattice, atoms.numbers, atoms.pbc)
    assert_close(hamiltonian(net, shifted), hamiltonian(net, atoms))


def test_an_atom_moved_by_a_lattice_vector_relabels_its_blocks(net: nn.Module) -> None:
    atoms, atom, move = STRUCTURES["crystal"], 2, np.array([1, -2, 1])
    positions = atoms.positions.copy()
    positions[atom] += move @ atoms.lattice
    moved = Structure(positions, atoms.lattice, atoms.numbers, atoms.pbc)
    h = hamiltonian(net, atoms)
    pairs = h.pairs.copy()
    pairs[:, :3] += np.outer(pairs[:, 3] == atom, move) - np.outer(pairs[:, 4] == atom, move)
    assert_close(hamiltonian(net, moved), Blocks.sorted(pairs, h.shapes, h.values))


def test_a_supercell_has_the_blocks_of_the_cell(net: nn.Module) -> None:
    atoms = STRUCTURES["sheet"]
    lattice = atoms.lattice * np.array([[2.0], [1.0], [1.0]])
    positions = np.concatenate([atoms.positions, atoms.positions + atoms.lattice[0]])
    h = hamiltonian(net, atoms)
    double = hamiltonian(net, Structure(positions, lattice, np.tile(atoms.numbers, 2), atoms.pbc))
    for k, (rx, ry, rz, i, j) in enumerate(double.pairs.tolist()):
        n = atoms.n_atoms
        mine = h.find(i % n, j % n, (2 * rx + j // n - i // n, ry, rz))
        np.testing.assert_allclose(double.block(k), h.block(mine), rtol=0, atol=1e-10 * np.abs(h.values).max())


def test_blocks_are_hermitian_to_the_last_bit(net: nn.Module, atoms: Structure) -> None:
    h = hamiltonian(net, atoms)
    np.testing.assert_array_equal(h.values, h.dagger().values)


def test_a_structure_alone_is_the_same_as_among_others(net: nn.Module) -> None:
    """Neither its mates in the batch nor their order matter, though some elements are missing in some of them."""
    many = [*STRUCTURES.values(), structure(5, 2, (False,) * 3, (1, 6)), structure(6, 3, elements=(5,))]
    overs = [overlap(one) for one in many]
    alone = [predicted(net, [sample(one, over)], [over])[0] for one, over in zip(many, overs, strict=True)]
    for order in ([0, 1, 2, 3, 4], [4, 2, 3, 0, 1]):
        together = predicted(net, [sample(many[k], overs[k]) for k in order], [overs[k] for k in order])
        for k, h in zip(order, together, strict=True):
            assert_close(h, alone[k], 1e-12)


def chain(n_atoms: int = 14) -> Structure:
    """A crooked chain in which only next atoms are near enough to share a block."""
    rng = np.random.default_rng(7)
    positions = np.cumsum(np.array([2.8, 0.3, -0.2]) + rng.uniform(-0.25, 0.25, (n_atoms, 3)), axis=0)
    return Structure(positions, np.zeros((3, 3)), np.resize([6, 5, 6, 6], n_atoms), (False,) * 3)


def test_a_move_is_felt_within_the_receptive_field_and_nowhere_else(local_net: nn.Module) -> None:
    net, atoms = local_net, chain()
    positions = atoms.positions.copy()
    positions[-1] += [0.05, 0.11, -0.07]
    moved = Structure(positions, atoms.lattice, atoms.numbers, atoms.pbc)
    over = overlap(atoms)
    assert over.n_pairs == 3 * atoms.n_atoms - 2
    before, after = hamiltonian(net, atoms, over), hamiltonian(net, moved, over)
    change = np.array([np.abs(before.block(k) - after.block(k)).max() for k in range(before.n_pairs)])
    hops = atoms.n_atoms - 1 - before.pairs[:, 3:].max(axis=1)
    assert hops.max() > HOPS + 2  # else nothing is tested
    hops_seen = getattr(getattr(net, "settings", None), "blocks", HOPS)
    assert change[hops > hops_seen].max() <= 1e-12
    if hops_seen != HOPS:
        assert change[hops <= hops_seen].min() > 1e-9  # the field is as large as it says


@pytest.mark.parametrize("name", ["sheet", "molecule"])
def test_a_far_molecule_changes_nothing(local_net: nn.Module, name: str) -> None:
    assert_close(*with_and_without_far_molecule(local_net, name), 1e-12)


@pytest.mark.parametrize("model", NOT_LOCAL)
def test_a_model_that_calls_itself_not_local_is_not(model: str) -> None:
    far, alone = with_and_without_far_molecule(network(model), "sheet")
    assert np.abs(far.values - alone.values).max() > 1e-6


def with_and_without_far_molecule(net: nn.Module, name: str) -> tuple[Blocks, Blocks]:
    """The Hamiltonian of a structure, with a molecule far away, and alone."""
    atoms, other = STRUCTURES[name], STRUCTURES["molecule"]
    positions = np.concatenate([atoms.positions, other.positions + np.array([0.0, 0.0, 300.0])])
    both = Structure(positions, atoms.lattice, np.concatenate([atoms.numbers, other.numbers]), atoms.pbc)
    h, alone = hamiltonian(net, both), hamiltonian(net, atoms)
    mine = np.flatnonzero((h.pairs[:, 3:] < atoms.n_atoms).all(axis=1))
    np.testing.assert_array_equal(h.pairs[mine], alone.pairs)
    return alone.with_values(np.concatenate([h.block(k).reshape(-1) for k in mine])), alone


@pytest.mark.parametrize("elements", [(6, 6), (6, 5)])
def test_other_blocks_do_not_feel_a_pair_that_reaches_its_cutoff(local_net: nn.Module, elements: tuple[int, int]) -> None:
    """A pair that enters within a part x of its cutoff changes the blocks of others by something of order x³."""
    changes = []
    for x in (1e-2, 1e-3):
        atoms = barely_touching(elements, x)
        whole = overlap(atoms)
        without = ~np.isin(np.sort(whole.pairs[:, 3:], axis=1) @ [10, 1], [12])  # all but the pair of atoms 1 and 2
        assert (~without).sum() == 2
        fewer = Blocks.over(
            whole.pairs[without], atoms, BASIS, np.concatenate([whole.block(k).ravel() for k in np.flatnonzero(without)])
        )
        h, other = hamiltonian(local_net, atoms, whole), hamiltonian(local_net, atoms, fewer)
        kept = np.concatenate([h.block(k).reshape(-1) for k in np.flatnonzero(without)])
        changes.append(np.abs(kept - other.values).max() / np.abs(other.values).max())
    assert changes[0] > 1e-12  # the pair is felt at all
    assert changes[0] < 1e-2
    assert changes[1] < changes[0] / 500


def barely_touching(elements: tuple[int, int], x: float) -> Structure:
    """Four atoms; the second and third are nearer than their cutoff by a part `x` of it."""
    distance = (BASIS[elements[0]].cutoff + BASIS[elements[1]].cutoff) * (1 - x)
    base = np.array([0.3, 0.2, -0.1])
    other = base + distance * np.array([0.48, -0.6, 0.64])
    positions = np.stack([base + np.array([-1.0, 0.9, -0.3]), base, other, other + np.array([0.4, -0.8, 1.1])])
    return Structure(positions, np.zeros((3, 3)), np.array([6, *elements, 1]), (False,) * 3)


def test_blocks_follow_small_moves(plain_net: nn.Module, atoms: Structure) -> None:
    """Halving a small random move halves the change: there is no kink and no jump, but for the knots of the scales."""
    move = np.random.default_rng(8).normal(size=atoms.positions.shape)
    over = overlap(atoms)
    changes = []
    for step in (1e-5, 1e-6):
        moved = Structure(atoms.positions + step * move, atoms.lattice, atoms.numbers, atoms.pbc)
        changes.append(np.abs(hamiltonian(plain_net, moved, over).values - hamiltonian(plain_net, atoms, over).values).max())
    assert changes[1] == pytest.approx(changes[0] / 10, rel=0.05)


@pytest.mark.parametrize("axis", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0, -1, 0)])
def test_bonds_along_the_axes_are_nothing_special(net: nn.Module, axis: tuple[int, int, int]) -> None:
    """The frame of an edge jumps there; the Hamiltonian does not."""
    bond = np.array(axis, dtype=np.float64)
    positions = np.array([[0.0, 0.0, 0.0], 1.3 * bond, [1.0, 1.1, 0.9], [-0.9, 0.8, -1.2]])
    special = Structure(positions, np.zeros((3, 3)), np.array([6, 5, 1, 6]), (False,) * 3)
    h = hamiltonian(net, special)
    assert np.isfinite(h.values).all()
    q = orthogonal(9)
    assert_close(hamiltonian(net, special.rotated(q)), turned(h, special, q))
    for tilt in ([1e-9, 1e-9, 1e-9], [-1e-9, 1e-9, -1e-9]):
        near = Structure(positions + np.outer([0, 1, 0, 0], tilt), special.lattice, special.numbers, special.pbc)
        assert_close(hamiltonian(net, near), h, 1e-6)
    in_float32 = hamiltonian(net, special, dtype=torch.float32)
    assert_close(in_float32, h, 2e-4)


def test_float32_agrees_with_float64(net: nn.Module, atoms: Structure) -> None:
    assert_close(hamiltonian(net, atoms, dtype=torch.float32), hamiltonian(net, atoms), 2e-4)


def test_the_turn_of_an_edges_frame_about_its_bond_does_not_matter(net: nn.Module, atoms: Structure) -> None:
    with numbers_of(torch.float64), torch.no_grad():
        batch = collate([sample(atoms)], torch.float64)
        before = net(batch).irreps
        angles = np.random.default_rng(10).uniform(0, 2 * np.pi, len(batch.source))
        turns = [turn_about_z(angle, len(batch.rotations) - 1) for angle in angles]
        for l, d in enumerate(batch.rotations):
            d @= torch.as_tensor(np.stack([turn[l] for turn in turns]))
        after = net(batch).irreps
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1.0, float(one.abs().max())))


def turn_about_z(angle: float, l_max: int) -> list[np.ndarray]:
    c, s = np.cos(angle), np.sin(angle)
    return wigner(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), l_max)


def test_an_atom_alone_is_turned_by_nothing(net: nn.Module) -> None:
    """Without neighbours there is no edge at all, and all directions are alike."""
    alone = Structure(np.zeros((1, 3)), np.zeros((3, 3)), np.array([5]), (False,) * 3)
    h = hamiltonian(net, alone)
    assert h.n_pairs == 1
    q = orthogonal(11)
    assert_close(h, turned(h, alone, q))


def test_two_atoms_are_symmetric_about_their_bond(net: nn.Module) -> None:
    """A pair alone has sigma, pi, delta elements only (Slater and Koster)."""
    two = Structure(np.array([[0, 0, 0], [0, 0, 1.7]]), np.zeros((3, 3)), np.array([5, 6]), (False,) * 3)
    h = hamiltonian(net, two)
    block = h.block(h.find(0, 1))
    ms_i, ms_j = ([m for l in BASIS[z].ls for m in range(-l, l + 1)] for z in (5, 6))
    forbidden = np.array(ms_i)[:, None] != np.array(ms_j)[None, :]
    assert np.abs(block[forbidden]).max() <= 1e-10
    assert np.abs(block[~forbidden]).min() > 1e-8


def test_the_output_has_the_irreps_of_every_block(net: nn.Module, atoms: Structure) -> None:
    batch = collate([sample(atoms)], torch.float64)
    with torch.no_grad():
        output = net(batch)
    assert net.l_max >= 4
    for group, irreps in zip(batch.groups, output.irreps, strict=True):
        assert irreps.shape == (len(group.members), len(irreps_of_kind(BASIS, group.kind).matrix))
        assert irreps.dtype == torch.float64


def test_predicted_traces_are_invariant(net: nn.Module) -> None:
    atoms = STRUCTURES["sheet"]
    c = calculation(atoms)
    traces = []
    for q in (np.eye(3), orthogonal(12, -1)):
        labelled = labeller().sample(atoms.rotated(q), c.overlap, turned(c.hamiltonian, atoms, q))
        with torch.no_grad():
            batch = collate([labelled], torch.float64)
            traces.append(net(batch).traces)
    for one, other, group in zip(*traces, batch.groups if traces[0] else [], strict=True):
        assert one.shape == (len(group.members), group.n_basic_blocks)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1.0, float(one.abs().max())))


def test_every_weight_is_used(net: nn.Module) -> None:
    """Weights without a gradient stop training on several devices."""
    several = [calculation(one) for one in STRUCTURES.values()]
    batch = collate([labeller().sample(c.structure, c.overlap, c.hamiltonian) for c in several], torch.float64)
    assert len(batch.groups) == 3 + 9
    output = net(batch)
    sum((x**2).sum() for x in [*output.irreps, *output.traces]).backward()
    idle = [name for name, p in net.named_parameters() if p.numel() and p.grad is None]
    net.zero_grad(set_to_none=True)
    if not output.traces:  # a constant in the invariants matters to predicted traces alone
        idle = [name for name in idle if not name.endswith("tracegrad.network.linear3.bias")]
    assert idle == []


def test_gradients_of_the_weights_are_finite_where_features_vanish() -> None:
    """Atoms without neighbours, and features that are zero at first, give no NaN."""
    for model in plugins.names("models"):
        with numbers_of(torch.float64):
            net = models.build(model, small_settings(model), BASIS)
        alone = Structure(
            np.array([[0.0, 0, 0], [0, 0, 1.5], [50, 0, 0]]), np.zeros((3, 3)), np.array([5, 6, 6]), (False,) * 3
        )
        output = net(collate([sample(alone)], torch.float64))
        sum((x**2).sum() for x in output.irreps).backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_the_gradient_of_a_loss_is_its_slope(net: nn.Module) -> None:
    """Along a random direction in the space of all weights, against central differences."""
    c = calculation(STRUCTURES["sheet"])
    batch = collate([labeller().sample(c.structure, c.overlap, c.hamiltonian)], torch.float64)
    generator = torch.Generator().manual_seed(3)
    weights = [p for p in net.parameters() if p.numel()]
    way = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in weights]

    def loss() -> torch.Tensor:
        output = net(batch)
        return sum((x**2).mean() for x in [*output.irreps, *output.traces])

    loss().backward()
    slope = sum(float((p.grad * d).sum()) for p, d in zip(weights, way, strict=True) if p.grad is not None)
    net.zero_grad(set_to_none=True)
    values = []
    with torch.no_grad():
        for step in (1e-5, -2e-5):
            for p, d in zip(weights, way, strict=True):
                p += step * d
            values.append(float(loss()))
        for p, d in zip(weights, way, strict=True):
            p += 1e-5 * d
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    for model in plugins.names("models"):
        one, same, other = (network(model, seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(one[key], same[key]) for key in one)
        assert any(not torch.equal(one[key], other[key]) for key in one)


def test_state_of_a_network_is_all_that_it_needs(net: nn.Module) -> None:
    """Weights alone, loaded into a network made with another seed, give the same output bit for bit."""
    settings = net.settings.model_dump()
    model = next(name for name in plugins.names("models") if isinstance(net, plugins.load("models", name).Network))
    with numbers_of(torch.float64):
        twin = models.build(model, settings, BASIS)
    twin.load_state_dict(net.state_dict())
    batch = collate([sample(STRUCTURES["sheet"])], torch.float64)
    with torch.no_grad():
        for one, other in zip(net(batch).irreps, twin.eval()(batch).irreps, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("model", plugins.names("models"))
def test_settings_are_strict(model: str) -> None:
    assert plugins.load("models", model).Settings.model_config["frozen"]
    with pytest.raises(InputError, match=f"network.no_such_key: unknown key.*settings of {model}"):
        models.settings_of(model, {"no_such_key": 1})
    models.settings_of(model, {})  # every setting has a default


def test_an_unknown_model_is_refused_with_the_closest_one() -> None:
    with pytest.raises(InputError, match=r"unknown name 'deeph-e3'.*Did you mean 'deeph_e3'"):
        models.build("deeph-e3", {}, BASIS)


@pytest.mark.parametrize(
    "text", ["", "banana", "6x0", "6x0e+", "3x1o", "6x0e+2x-1o", "6x0e+-2x1o", "6x0e+2y1o", "6x0e+2x1x1o"]
)
def test_irreps_that_make_no_sense_are_refused(text: str) -> None:
    for model in plugins.names("models"):
        if "irreps" in small_settings(model):
            with pytest.raises(InputError, match=r"network\.irreps"):
                models.settings_of(model, {**SMALL, "irreps": text})


def test_every_shell_pair_up_to_d_has_both_kinds() -> None:
    """The basis of these tests asks for natural and unnatural irreps; else the parity tests would say little."""
    kinds = {entry[1:] for entry in block_irreps(BASIS[5].ls, BASIS[5].ls).entries}
    assert kinds == {(0, True), (1, True), (1, False), (2, True), (2, False), (3, True), (3, False), (4, True)}
