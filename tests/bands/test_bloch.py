"""The pencil H(k), S(k): the Bloch sum of the blocks, on one pattern for all k."""

import numpy as np
import pytest
from tight_binding import chain, graphene, honeycomb, slater_koster

from orbitrace.bands.bloch import Pencil, spin_channel
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin

K = np.array([0.17, 0.31, 0.0])


def bloch_sum(blocks: Blocks, counts: np.ndarray, k: np.ndarray) -> np.ndarray:
    """By definition, one block after the other."""
    begins = np.cumsum(counts) - counts
    matrix = np.zeros((counts.sum(), counts.sum()), dtype=complex)
    for pair, (*R, i, j) in enumerate(blocks.pairs):
        place = (slice(begins[i], begins[i] + counts[i]), slice(begins[j], begins[j] + counts[j]))
        matrix[place] += np.exp(2j * np.pi * np.dot(k, R)) * blocks.block(pair)
    return matrix


def pencil_of(calculation: Calculation) -> Pencil:
    (pencil,) = Pencil.channels(calculation)
    return pencil


def spinful(calculation: Calculation, seed: int = 0) -> Blocks:
    """Blocks over the same pairs with a random Hermitian complex Hamiltonian for spinors."""
    rng = np.random.default_rng(seed)
    n = 4 * len(calculation.hamiltonian.values)
    values = rng.normal(size=n) + 1j * rng.normal(size=n)
    pairs = calculation.hamiltonian.pairs
    return Blocks.over(pairs, calculation.structure, calculation.basis, values, spin=2).hermitian()


@pytest.mark.parametrize("k", [np.zeros(3), np.array([0.5, 0, 0.3]), K])
def test_pencil_is_the_bloch_sum_of_the_blocks(k):
    c = slater_koster(honeycomb())
    counts = c.basis.n_orbitals(c.structure.numbers)
    H, S = pencil_of(c).dense(k)
    assert np.allclose(H, bloch_sum(c.hamiltonian, counts, k), rtol=0, atol=1e-12)
    assert np.allclose(S, bloch_sum(c.overlap, counts, k), rtol=0, atol=1e-12)


def test_spinors_double_the_overlap():
    c = slater_koster(honeycomb())
    h = spinful(c)
    counts = c.basis.n_orbitals(c.structure.numbers)
    H, S = Pencil(c.structure, c.basis, h, c.overlap, Spin.NONCOLLINEAR).dense(K)
    assert np.allclose(H, bloch_sum(h, 2 * counts, K), rtol=0, atol=1e-12)
    single = bloch_sum(c.overlap, counts, K).reshape(2, 5, 2, 5)  # two atoms
    doubled = np.einsum("iajb,st->isajtb", single, np.eye(2)).reshape(20, 20)
    assert np.allclose(S, doubled, rtol=0, atol=1e-12)


def test_collinear_spin_has_one_pencil_per_channel():
    c = slater_koster(honeycomb())
    blocks = np.zeros((c.hamiltonian.n_pairs, 10, 10))
    _, half = next(c.hamiltonian.groups())
    blocks[:, :5, :5], blocks[:, 5:, 5:] = half, 2 * half
    h = Blocks.over(c.hamiltonian.pairs, c.structure, c.basis, blocks.reshape(-1), spin=2)
    polarised = Calculation(c.structure, c.basis, h, c.overlap, None, None, Spin.COLLINEAR, c.provenance)
    up, down = (pencil.dense(K)[0] for pencil in Pencil.channels(polarised))
    assert np.allclose(up, pencil_of(c).dense(K)[0]) and np.allclose(down, 2 * up)
    assert np.array_equal(spin_channel(h, 0).values, c.hamiltonian.values)


def test_matrices_are_real_where_k_and_minus_k_are_the_same():
    pencil = pencil_of(slater_koster(honeycomb()))
    for k in ([0, 0, 0], [0.5, 0, 0], [0.5, -0.5, 0], [1.0, 0.5, 0.123]):  # nothing couples along the third
        assert not any(np.iscomplexobj(m.data) for m in pencil.at(k))
    for k in (K, [1 / 3, 1 / 3, 0]):
        assert all(np.iscomplexobj(m.data) for m in pencil.at(k))
    c = slater_koster(honeycomb())
    assert np.iscomplexobj(Pencil(c.structure, c.basis, spinful(c), c.overlap, Spin.NONCOLLINEAR).at([0, 0, 0])[1].data)


def test_one_pattern_serves_both_matrices_and_all_k():
    pencil = pencil_of(slater_koster(honeycomb()))
    matrices = [m for k in (np.zeros(3), K) for m in pencil.at(k)]
    assert all(np.shares_memory(m.indices, pencil.pattern.indices) for m in matrices)
    assert all(m.has_sorted_indices for m in matrices)
    assert np.array_equal(pencil.pattern.atoms, np.repeat([0, 1], 5))


def test_pairs_that_only_one_of_h_and_s_has_count_as_zero_in_the_other():
    c = slater_koster(honeycomb())
    far = np.linalg.norm(c.structure.pair_vectors(c.overlap.pairs), axis=1) > 2.0
    kept = np.flatnonzero(~far)
    values = np.concatenate([c.overlap.block(p).reshape(-1) for p in kept])
    short = Blocks.sorted(c.overlap.pairs[kept], c.overlap.shapes[kept], values)
    H, S = Pencil(c.structure, c.basis, c.hamiltonian, short).at(K)
    counts = c.basis.n_orbitals(c.structure.numbers)
    assert np.array_equal(H.indices, S.indices)
    assert np.allclose(S.toarray(), bloch_sum(short, counts, K), rtol=0, atol=1e-12)


def test_a_hamiltonian_that_is_not_quite_hermitian_is_made_so_and_the_difference_told():
    c = graphene()
    values = c.hamiltonian.values + 1e-4 * np.arange(len(c.hamiltonian.values))
    pencil = Pencil(c.structure, c.basis, c.hamiltonian.with_values(values), c.overlap)
    H, _ = pencil.dense(K)
    assert np.allclose(H, H.conj().T, rtol=0, atol=1e-14)
    assert 1e-5 < pencil.asymmetry < 1e-2


def damaged(what: str) -> Blocks:
    h = graphene().hamiltonian
    if what == "partner":
        keep = np.arange(h.n_pairs) != np.flatnonzero(~h.onsite)[0]
        return Blocks(h.pairs[keep], h.shapes[keep], h.values[keep])
    if what == "shape":
        return Blocks(h.pairs, h.shapes * [1, 2], np.repeat(h.values, 2))
    values = h.values.copy()
    values[3] = np.nan
    return h.with_values(values)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("partner", r"has no partner \(j, i, -R\)"),
        ("shape", r"has the shape \[1 2\]. Expected \[1 1\] from the basis"),
        ("nan", "holds NaN or infinity"),
    ],
)
def test_damaged_blocks_are_refused_by_the_names_of_their_atoms(what, message):
    c = graphene()
    with pytest.raises(InputError, match=rf"Hamiltonian: the block of atoms \d, \d and R = .* {message}"):
        Pencil(c.structure, c.basis, damaged(what), c.overlap)


def test_levels_of_the_chain_are_its_cosine_band():
    pencil = pencil_of(chain(hopping=-1.3, overlap=0.2))
    for x in (0.0, 0.11, 0.25, 0.5):
        H, S = pencil.dense([x, 0, 0])
        cosine = 2 * np.cos(2 * np.pi * x)
        assert np.isclose((H / S).real.item(), -1.3 * cosine / (1 + 0.2 * cosine), rtol=0, atol=1e-12)
