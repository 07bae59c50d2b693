"""Spin in blocks: independent elements, how they turn, Hermitian partners, and time reversal."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from learner_cases import (
    BASIS,
    STRUCTURES,
    numbers_of,
    orthogonal,
    overlap,
    spin_blocks,
    spin_calculation,
    spin_labeller,
    spin_turn,
    structure,
    turned,
)
from orbitrace.errors import InputError
from orbitrace.graphs.assembly import Assembly, to_blocks
from orbitrace.graphs.batches import collate
from orbitrace.graphs.graph import Kind, irreps_of_kind, make_graph, shell_pairs_of_kind
from orbitrace.graphs.irreps import block_irreps
from orbitrace.graphs.labels import Labeller, fit_labeller
from orbitrace.graphs.spin import (
    MULTIPLETS,
    SpinKind,
    doubled,
    hermitian_partner,
    mean_over_spin,
    projected,
    time_reversal_violation,
    to_dense,
    to_elements,
)
from orbitrace.graphs.targets import Target
from orbitrace.graphs.traces import trace_labels
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.harmonics import wigner

KINDS = list(SpinKind)
SPINFUL = [kind for kind in KINDS if kind is not SpinKind.NONE]
PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
LS_I, LS_J = (0, 0, 1), (1, 2)


def of_atom(q: np.ndarray, ls: tuple[int, ...], kind: SpinKind) -> np.ndarray:
    """How the orbitals (and spins) of an atom turn."""
    ds, ends = wigner(q, 2), np.cumsum([0, *(2 * l + 1 for l in ls)])
    whole = np.zeros((ends[-1], ends[-1]))
    for l, a, b in zip(ls, ends[:-1], ends[1:], strict=True):
        whole[a:b, a:b] = ds[l]
    return np.kron(spin_turn(q, kind), whole)


def random_block(kind: SpinKind, seed: int = 0) -> np.ndarray:
    elements = np.random.default_rng(seed).normal(size=(1, 5 * 8 * kind.matrices))
    return to_dense(elements, 5, 8, kind)[0]


def test_spins_turn_as_the_vector_of_paulis_matrices() -> None:
    """The ground that these tests stand on: U sigma_a U^dagger = sum_b R_ba sigma_b, and no inversion changes a spin."""
    for q in (orthogonal(1), orthogonal(2, -1)):
        rotation, u = q * np.linalg.det(q).round(), spin_turn(q, SpinKind.MAGNETIC)
        for a in range(3):
            np.testing.assert_allclose(u @ PAULI[a] @ u.conj().T, np.einsum("b,bst->st", rotation[:, a], PAULI), atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_go_to_elements_and_back(kind: SpinKind) -> None:
    elements = np.random.default_rng(0).normal(size=(4, 5 * 8 * kind.matrices))
    blocks = to_dense(elements, 5, 8, kind)
    assert blocks.shape == (4, 5 * kind.spin.components, 8 * kind.spin.components)
    assert np.iscomplexobj(blocks) is kind.is_complex
    np.testing.assert_array_equal(to_elements(blocks, kind), elements)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_between_elements_and_irreps_is_orthogonal(kind: SpinKind) -> None:
    irreps = block_irreps(LS_I, LS_J, kind)
    n = 5 * 8 * kind.matrices
    assert irreps.matrix.shape == (n, n)
    assert sum(2 * c.L + 1 for c in irreps.channels) == n
    np.testing.assert_allclose(irreps.matrix @ irreps.matrix.T, np.eye(n), atol=1e-12)
    assert [c.L for c in irreps.channels] == sorted(c.L for c in irreps.channels)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_of_turned_orbitals_and_spins_has_turned_irreps(kind: SpinKind, determinant: int) -> None:
    q, block, irreps = orthogonal(3, determinant), random_block(kind), block_irreps(LS_I, LS_J, kind)
    after = of_atom(q, LS_I, kind) @ block @ of_atom(q, LS_J, kind).conj().T
    one, two = (to_elements(b[None], kind)[0] @ irreps.matrix for b in (block, after))
    np.testing.assert_allclose(to_dense((irreps.matrix @ two)[None], 5, 8, kind)[0], after, atol=1e-12)  # nothing is lost
    ds, at = wigner(q, 4), 0
    for channel in irreps.channels:
        place = slice(at, at + 2 * channel.L + 1)
        sign = 1 if channel.natural else determinant
        np.testing.assert_allclose(two[place], sign * ds[channel.L] @ one[place], atol=1e-12)
        at = place.stop


@pytest.mark.parametrize("kind", KINDS)
def test_the_hermitian_partner_of_every_element_is_in_the_conjugate_transpose(kind: SpinKind) -> None:
    block = random_block(kind, 5)
    mine, theirs = to_elements(block[None], kind)[0], to_elements(block.conj().T[None], kind)[0]
    places, signs = hermitian_partner(5, 8, kind)
    np.testing.assert_array_equal(mine, signs * theirs[places])


def test_time_reversal_leaves_half_of_the_matrices() -> None:
    """T H T^-1 = sigma_y H* sigma_y, over real orbitals."""
    sigma_y = np.kron(PAULI[1], np.eye(5)), np.kron(PAULI[1], np.eye(8))
    block = random_block(SpinKind.SPIN_ORBIT)
    np.testing.assert_allclose(sigma_y[0] @ block.conj() @ sigma_y[1], block, atol=1e-14)
    whole = random_block(SpinKind.MAGNETIC)
    reversed_ = sigma_y[0] @ whole.conj() @ sigma_y[1]
    kept = to_dense(to_elements(whole[None], SpinKind.SPIN_ORBIT), 5, 8, SpinKind.SPIN_ORBIT)[0]
    np.testing.assert_allclose(kept, (whole + reversed_) / 2, atol=1e-14)
    atoms = STRUCTURES["molecule"]
    h = spin_blocks(overlap(atoms).pairs, atoms, BASIS, SpinKind.MAGNETIC, 1)
    largest = 0.0
    for k in range(h.n_pairs):
        left, right = (np.kron(PAULI[1], np.eye(n // 2)) for n in h.shapes[k])
        largest = max(largest, np.abs(h.block(k) - left @ h.block(k).conj() @ right).max() / 2)
    assert time_reversal_violation(h) == pytest.approx(largest, rel=1e-12)
    assert time_reversal_violation(spin_blocks(h.pairs, atoms, BASIS, SpinKind.SPIN_ORBIT, 1)) == 0.0
    assert time_reversal_violation(projected(h, SpinKind.SPIN_ORBIT)) == 0.0
    assert projected(h, SpinKind.MAGNETIC) is h


@pytest.mark.parametrize("kind", SPINFUL)
def test_the_mean_over_spin_is_half_the_trace_over_spins(kind: SpinKind) -> None:
    atoms = STRUCTURES["sheet"]
    h = spin_blocks(overlap(atoms).pairs, atoms, BASIS, kind, 2)
    mean = mean_over_spin(h, kind)
    both = doubled(mean, kind)
    assert both.values.dtype == h.values.dtype
    for k in (0, 5, 17):
        n_i, n_j = mean.shapes[k]
        expected = np.einsum("sasb->ab", h.block(k).reshape(2, n_i, 2, n_j)).real / 2
        np.testing.assert_allclose(mean.block(k), expected, atol=1e-14)
        np.testing.assert_array_equal(both.block(k), np.kron(np.eye(2), mean.block(k)))


def normalised(labeller: Labeller, c: Calculation) -> dict[Kind, np.ndarray]:
    """What a perfect network would say."""
    sample = labeller.sample(c.structure, c.overlap, c.hamiltonian)
    return {
        g.kind: (part @ irreps_of_kind(BASIS, g.kind, labeller.spin).matrix) / scale
        for g, part, scale in zip(sample.graph.groups, sample.labels.residual, sample.labels.scale, strict=True)
    }


@pytest.mark.parametrize("kind", SPINFUL)
def test_what_is_known_and_scaled_irreps_give_h_back(kind: SpinKind) -> None:
    c, labeller = spin_calculation(STRUCTURES["sheet"], kind, 5), spin_labeller(kind)
    sample = labeller.sample(c.structure, c.overlap, c.hamiltonian)
    irreps = {key: torch.as_tensor(x) for key, x in normalised(labeller, c).items()}
    with numbers_of(torch.float64):
        batch, assembly = collate([sample], torch.float64), Assembly(BASIS, kind)
        values = assembly(batch, [irreps[group.kind] for group in batch.groups])
    learned = to_blocks(sample.graph, c.overlap, values.numpy(), kind)
    known = labeller.known(c.structure, c.overlap)
    np.testing.assert_allclose(known.values + learned.values, c.hamiltonian.values, atol=1e-12)
    existing = len(c.hamiltonian.values) // (1 if kind.is_complex else 2)  # none between up and down of collinear spin
    mean = np.abs(learned.values).sum() / existing
    assert float(assembly.magnitudes(values).mean()) == pytest.approx(mean)  # as the metrics count


@pytest.mark.parametrize("kind", SPINFUL)
def test_scales_traces_and_what_is_known_are_those_of_the_turned_structure(kind: SpinKind) -> None:
    c, q, labeller = spin_calculation(STRUCTURES["crystal"], kind, 5), orthogonal(6, -1), spin_labeller(kind)
    h = turned(c.hamiltonian, c.structure, q, spin=kind)
    one = labeller.sample(c.structure, c.overlap, c.hamiltonian)
    two = labeller.sample(c.structure.rotated(q), c.overlap, h)
    for name in ("scale", "traces"):
        for left, right in zip(getattr(one.labels, name), getattr(two.labels, name), strict=True):
            np.testing.assert_allclose(right, left, rtol=1e-9, atol=1e-12)
    before, after = (labeller.known(of, c.overlap) for of in (c.structure, c.structure.rotated(q)))
    np.testing.assert_allclose(after.values, turned(before, c.structure, q, spin=kind).values, atol=1e-10)
    np.testing.assert_allclose(before.values, before.dagger().values, atol=1e-12)


@pytest.mark.parametrize("kind", SPINFUL)
@pytest.mark.parametrize("target", ["gauge", "residual"])
def test_targets_take_spin_like_everything_else(kind: SpinKind, target: Target) -> None:
    """Mu S stands on both diagonal quarters; H0 has the spin of H."""
    several = []
    for seed in range(3):
        c = spin_calculation(structure(seed, 4), kind, seed)
        doubled_overlap = doubled(c.overlap, kind).values
        shifted = c.hamiltonian.with_values(c.hamiltonian.values + 5.0 * seed * doubled_overlap)
        several.append(replace(c, hamiltonian=shifted if target == "gauge" else c.hamiltonian, initial=c.hamiltonian))
    labeller = fit_labeller(lambda: iter(several), 0, "tests", target)
    for seed, c in enumerate(several):
        parts = labeller.sample(c.structure, c.overlap, c.hamiltonian, initial=c.initial).labels.residual
        unshifted = spin_calculation(structure(seed, 4), kind, seed)
        same = labeller.sample(c.structure, c.overlap, unshifted.hamiltonian, initial=c.initial).labels.residual
        for one, other in zip(parts, same, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)
            assert target == "gauge" or np.abs(one).max() < 1e-12
    if target == "residual":
        c = several[0]
        known = labeller.known(c.structure, c.overlap, c.initial)
        np.testing.assert_allclose(known.values, c.hamiltonian.values, atol=1e-12)


@pytest.mark.parametrize("kind", SPINFUL)
def test_trace_labels_are_those_of_the_shards_but_for_the_scale(kind: SpinKind) -> None:
    c = spin_calculation(STRUCTURES["sheet"], kind, 5)
    shard = trace_labels(c.hamiltonian, c.structure, BASIS, 2)
    counts = np.array([len(BASIS[z].ls) for z in c.structure.numbers])
    starts = np.concatenate([[0], np.cumsum(2 * counts[c.hamiltonian.pairs[:, 3]] * counts[c.hamiltonian.pairs[:, 4]])])
    double = 2 if kind is SpinKind.SPIN_ORBIT else 1  # half of the spinor block stands for the whole
    for group in make_graph(c.structure, BASIS, c.overlap, 0).groups:
        k = int(group.blocks[0])
        x = to_elements(c.hamiltonian.block(k)[None], kind) @ irreps_of_kind(BASIS, group.kind, kind).matrix
        basic, count = shell_pairs_of_kind(BASIS, group.kind, kind)
        own = (x**2 @ (basic[:, None] == np.arange(count)))[0]
        np.testing.assert_allclose(double * own, shard[starts[k] : starts[k + 1]], rtol=1e-11)


@pytest.mark.parametrize("kind", SPINFUL)
def test_constants_of_the_atoms_are_part_of_the_reference(kind: SpinKind) -> None:
    """What rotations leave alone in on-site blocks is subtracted in the mean: l.s, or an exchange splitting of 3 eV."""
    several = [spin_calculation(structure(seed, 4), kind, seed) for seed in range(4)]
    with_constant = []
    for c in several:
        blocks = c.hamiltonian.values.copy()
        for k in np.flatnonzero(c.hamiltonian.onsite):
            shells = BASIS[int(c.structure.numbers[c.hamiltonian.pairs[k, 3]])]
            part = slice(c.hamiltonian.offsets[k], c.hamiltonian.offsets[k + 1])
            blocks[part] += (constant(shells.ls) if kind.is_complex else splitting(shells.n_orbitals)).ravel()
        with_constant.append(replace(c, hamiltonian=c.hamiltonian.with_values(blocks)))
    plain, shifted = (fit_labeller(lambda data=data: iter(data), 5, "tests") for data in (several, with_constant))
    assert plain.spin is shifted.spin is kind
    for one, two in zip(several, with_constant, strict=True):
        left, right = normalised(plain, one), normalised(shifted, two)
        for key in left:
            np.testing.assert_allclose(right[key], left[key], atol=1e-5)


def constant(ls: tuple[int, ...]) -> np.ndarray:
    """2 eV l.s of every shell, from the generators of rotations of the orbitals."""
    n, parts = sum(2 * l + 1 for l in ls), 0
    for a in range(3):
        step = 1e-5
        turn = np.eye(3) + step * np.array([[0, -(a == 2), a == 1], [a == 2, 0, -(a == 0)], [-(a == 1), a == 0, 0]])
        q = np.linalg.qr(turn)[0]
        q *= np.sign(np.diag(q))
        generator = (of_atom(q, ls, SpinKind.NONE) - np.eye(n)) / step
        parts = parts + np.kron(PAULI[a], 1j * (generator - generator.T) / 2)
    return parts


def splitting(n: int) -> np.ndarray:
    return 1.5 * np.kron(np.diag([1.0, -1.0]), np.eye(n))


@pytest.mark.parametrize("kind", SPINFUL)
def test_arrays_of_a_labeller_give_the_same_labels_to_the_last_bit(kind: SpinKind) -> None:
    mine = spin_labeller(kind)
    twin = Labeller.from_arrays(mine.to_arrays(), BASIS, mine.l_max, kind)
    assert twin.violation == mine.violation
    atoms = STRUCTURES["molecule"]
    known = [labeller.known(atoms, overlap(atoms)).values for labeller in (mine, twin)]
    np.testing.assert_array_equal(*known)
    c = spin_calculation(STRUCTURES["molecule"], kind)
    one, two = (of.sample(c.structure, c.overlap, c.hamiltonian).labels for of in (mine, twin))
    for name in ("scale", "residual", "traces"):
        for left, right in zip(getattr(one, name), getattr(two, name), strict=True):
            np.testing.assert_array_equal(left, right)


# --- which kind -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_found_in_the_data(kind: SpinKind) -> None:
    found = fit_labeller(lambda: iter([spin_calculation(STRUCTURES["sheet"], kind)]), 0, "my data")
    assert found.spin is kind
    assert (found.violation > 0.1) is (kind is SpinKind.MAGNETIC)


def slightly_magnetic(size: float) -> Calculation:
    c = spin_calculation(STRUCTURES["sheet"], SpinKind.SPIN_ORBIT, source="runs/cr")
    extra = spin_blocks(c.hamiltonian.pairs, c.structure, c.basis, SpinKind.MAGNETIC, 3)
    factor = size / time_reversal_violation(extra)
    return replace(c, hamiltonian=c.hamiltonian.with_values(c.hamiltonian.values + factor * extra.values))


@pytest.mark.parametrize(
    ("size", "setting", "kind"),
    [
        (1e-6, "auto", SpinKind.SPIN_ORBIT),
        (1e-6, "on", SpinKind.SPIN_ORBIT),
        (1e-6, "off", SpinKind.MAGNETIC),
        (1e-2, "auto", SpinKind.MAGNETIC),
        (1e-2, "off", SpinKind.MAGNETIC),
    ],
)
def test_time_reversal_is_decided_by_the_data_unless_it_is_set(size: float, setting: str, kind: SpinKind) -> None:
    c = slightly_magnetic(size)
    assert fit_labeller(lambda: iter([c]), 0, "my data", time_reversal=setting).spin is kind


def test_time_reversal_that_the_data_lack_is_refused_with_the_measure() -> None:
    c = slightly_magnetic(0.25)
    with pytest.raises(InputError, match=r"my data: runs/cr: time reversal changes H by up to 0\.5 eV.*time_reversal: off"):
        fit_labeller(lambda: iter([c]), 0, "my data", time_reversal="on")
    with pytest.raises(InputError, match=r"run/7: runs/cr: time reversal changes H"):
        spin_labeller(SpinKind.SPIN_ORBIT).check_known(c, "run/7")
    spin_labeller(SpinKind.MAGNETIC).check_known(c, "run/7")


@pytest.mark.parametrize(("first", "second"), [p for p in product(Spin, Spin) if p[0] is not p[1]])
def test_kinds_of_spin_are_not_mixed(first: Spin, second: Spin) -> None:
    kinds = {kind.spin: kind for kind in KINDS}
    several = [
        spin_calculation(STRUCTURES["sheet"], kinds[first]),
        spin_calculation(STRUCTURES["molecule"], kinds[second], source="runs/nickel"),
    ]
    with pytest.raises(
        InputError, match=rf"my data: runs/nickel: its spin .*'{second.value}'.*'{first.value}'.*one treatment"
    ):
        fit_labeller(lambda: iter(several), 0, "my data")


def test_multiplets_count_the_matrices() -> None:
    for kind in KINDS:
        assert sum(2 * m.rank + 1 for m in MULTIPLETS[kind]) == kind.matrices
        assert isinstance(mean_over_spin(Blocks(np.zeros((0, 5)), np.zeros((0, 2)), np.zeros(0)), kind), Blocks)
