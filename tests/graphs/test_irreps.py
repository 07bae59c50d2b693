"""Blocks and their irreps: an orthogonal change of basis in which rotations and mirrors act irrep by irrep."""

from itertools import product

import numpy as np
import pytest

from learner_cases import orthogonal
from orbitrace.graphs.irreps import block_irreps, clebsch_gordan, shell_pair_of_irreps
from orbitrace.physics.harmonics import real_harmonics, wigner

LS = range(4)  # s, p, d, f
BASES = [((0, 0, 1), (0, 0, 1, 1, 2)), ((0, 1, 2, 3), (0, 1, 2, 3)), ((2,), (0,)), ((3, 3), (1, 2, 2))]


def size(ls: tuple[int, ...]) -> int:
    return sum(2 * l + 1 for l in ls)


def of_atom(ds: list[np.ndarray], ls: tuple[int, ...]) -> np.ndarray:
    """Wigner matrices of all shells of an atom, block-diagonal."""
    whole, at = np.zeros((size(ls), size(ls))), 0
    for l in ls:
        whole[at : at + 2 * l + 1, at : at + 2 * l + 1] = ds[l]
        at += 2 * l + 1
    return whole


@pytest.mark.parametrize(("l_a", "l_b"), list(product(LS, LS)))
def test_every_pair_of_shells_goes_to_irreps_and_back(l_a: int, l_b: int) -> None:
    irreps = block_irreps((l_a,), (l_b,))
    n = (2 * l_a + 1) * (2 * l_b + 1)
    assert irreps.matrix.shape == (n, n)
    np.testing.assert_allclose(irreps.matrix @ irreps.matrix.T, np.eye(n), atol=1e-13)
    assert sorted(c.L for c in irreps.channels) == list(range(abs(l_a - l_b), l_a + l_b + 1))


@pytest.mark.parametrize(("ls_i", "ls_j"), BASES)
def test_the_norm_of_every_basic_block_is_kept(ls_i: tuple[int, ...], ls_j: tuple[int, ...]) -> None:
    irreps = block_irreps(ls_i, ls_j)
    block = np.random.default_rng(0).normal(size=(size(ls_i), size(ls_j)))
    components = block.reshape(-1) @ irreps.matrix
    np.testing.assert_allclose((irreps.matrix @ components).reshape(block.shape), block, atol=1e-13)
    basic = shell_pair_of_irreps(irreps, len(ls_j))
    ends_i, ends_j = (np.cumsum([2 * l + 1 for l in ls]) for ls in (ls_i, ls_j))
    rows, columns = np.split(block, ends_i[:-1]), ends_j[:-1]
    for a, part in enumerate(rows):
        for b, q in enumerate(np.split(part, columns, axis=1)):
            mine = components[basic == a * len(ls_j) + b]
            assert len(mine) == q.size
            assert (mine**2).sum() == pytest.approx(np.trace(q @ q.T), rel=1e-13)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize(("ls_i", "ls_j"), BASES)
def test_a_turned_block_has_turned_irreps(ls_i: tuple[int, ...], ls_j: tuple[int, ...], determinant: int) -> None:
    """Natural irreps turn as harmonics do; unnatural ones change sign besides when space is mirrored."""
    q = orthogonal(3, determinant)
    ds = wigner(q, 6)
    irreps = block_irreps(ls_i, ls_j)
    block = np.random.default_rng(1).normal(size=(size(ls_i), size(ls_j)))
    before = block.reshape(-1) @ irreps.matrix
    after = (of_atom(ds, ls_i) @ block @ of_atom(ds, ls_j).T).reshape(-1) @ irreps.matrix
    at = 0
    for channel in irreps.channels:
        place = slice(at, at + 2 * channel.L + 1)
        d = ds[channel.L] * (1 if channel.natural else determinant)
        np.testing.assert_allclose(after[place], d @ before[place], atol=1e-12)
        at = place.stop
    assert at == block.size


@pytest.mark.parametrize(("l_a", "l_b"), list(product(LS, LS)))
def test_parity_tells_natural_from_unnatural(l_a: int, l_b: int) -> None:
    for channel in block_irreps((l_a,), (l_b,)).channels:
        parity = (-1) ** (l_a + l_b)  # of the product of both shells
        assert channel.natural == (parity == (-1) ** channel.L)


@pytest.mark.parametrize(("ls_i", "ls_j"), BASES)
def test_irreps_of_one_kind_stand_together_and_are_counted(ls_i: tuple[int, ...], ls_j: tuple[int, ...]) -> None:
    irreps = block_irreps(ls_i, ls_j)
    assert sum(n * (2 * L + 1) for n, L, _ in irreps.entries) == size(ls_i) * size(ls_j)
    expanded = [(L, natural) for n, L, natural in irreps.entries for _ in range(n)]
    assert expanded == [(c.L, c.natural) for c in irreps.channels]
    assert len({(c.a, c.b, c.L) for c in irreps.channels}) == len(irreps.channels)


@pytest.mark.parametrize(("l_a", "l_b"), list(product(LS, LS)))
def test_coupling_matches_products_of_harmonics(l_a: int, l_b: int) -> None:
    """Y_a Y_b along a direction has natural irreps only, and each is proportional to the harmonics of its L."""
    directions = np.random.default_rng(2).normal(size=(5, 3))
    y = real_harmonics(directions, 6)
    for L in range(abs(l_a - l_b), l_a + l_b + 1):
        coupled = np.einsum("na,nb,abm->nm", y[l_a], y[l_b], clebsch_gordan(l_a, l_b, L))
        if (l_a + l_b + L) % 2:
            np.testing.assert_allclose(coupled, 0, atol=1e-14)
            continue
        factors = (coupled * y[L]).sum(1) / (y[L] ** 2).sum(1)
        assert np.abs(factors).min() > 1e-3
        np.testing.assert_allclose(factors, factors[0], rtol=1e-12)
        np.testing.assert_allclose(coupled, factors[:, None] * y[L], atol=1e-13)


def test_a_multiple_of_the_unit_matrix_is_a_scalar() -> None:
    irreps = block_irreps((2,), (2,))
    components = np.eye(5).reshape(-1) @ irreps.matrix
    assert abs(components[0]) == pytest.approx(np.sqrt(5))
    np.testing.assert_allclose(components[1:], 0, atol=1e-14)


def test_the_antisymmetric_part_of_a_p_p_block_is_an_axial_vector() -> None:
    irreps = block_irreps((1,), (1,))
    block = np.random.default_rng(3).normal(size=(3, 3))
    components = (block - block.T).reshape(-1) @ irreps.matrix
    place = {c.L: sum(2 * d.L + 1 for d in irreps.channels[:k]) for k, c in enumerate(irreps.channels)}
    assert [c.natural for c in irreps.channels if c.L == 1] == [False]
    outside = np.ones(9, dtype=bool)
    outside[place[1] : place[1] + 3] = False
    np.testing.assert_allclose(components[outside], 0, atol=1e-14)
    assert np.abs(components[~outside]).max() > 0.1
