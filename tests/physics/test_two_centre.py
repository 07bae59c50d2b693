"""Two-centre tables: they turn with the structure, they are Hermitian, and they give back what they were fitted to."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.harmonics import wigner
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.slater_koster import channels, from_channels, to_channels
from orbitrace.physics.structure import Structure
from orbitrace.physics.two_centre import Mode, TwoCentreTable, fit_two_centre

Sample = tuple[Structure, Basis, Blocks]
CARBON, MOLYBDENUM = Shells((0, 0, 1), 2.2), Shells((0, 1, 2, 3), 2.6)
BASIS = Basis({6: CARBON, 42: MOLYBDENUM})


def functions(lengths: np.ndarray, first: Shells, second: Shells) -> np.ndarray:
    """Made-up t_{ab|m|}(r) that are smooth, vanish at the cutoff, and obey t_ba = (-1)^(la+lb) t_ab."""
    cutoff = first.cutoff + second.cutoff
    envelope = (1 - np.minimum(lengths / cutoff, 1) ** 2) ** 4
    values = []
    for a, b, m in channels(first, second):
        sign = (-1) ** (first.ls[a] + second.ls[b]) if a > b else 1
        low, high = sorted((a, b))
        values.append(sign * np.cos((1 + 0.3 * low + 0.2 * high + 0.5 * m) * lengths) * envelope)
    return np.stack(values, axis=1)


def made_up(structure: Structure, basis: Basis = BASIS) -> Blocks:
    """Blocks of the made-up functions, pair by pair."""
    values = []
    pairs = find_pairs(structure, basis)
    for pair, vector in zip(pairs, structure.pair_vectors(pairs), strict=True):
        first, second = (basis[structure.numbers[atom]] for atom in pair[3:])
        if np.linalg.norm(vector) == 0:
            values.append(np.eye(first.n_orbitals))
        elif structure.numbers[pair[3]] <= structure.numbers[pair[4]]:
            values.append(
                from_channels(functions(np.linalg.norm([vector], axis=1), first, second), vector[None], first, second)[0]
            )
        else:
            back = functions(np.linalg.norm([vector], axis=1), second, first)
            values.append(from_channels(back, -vector[None], second, first)[0].T)
    return Blocks.over(pairs, structure, basis, np.concatenate([v.reshape(-1) for v in values]))


def random_structures(n: int, n_atoms: int = 8, seed: int = 0) -> Iterator[Structure]:
    rng = np.random.default_rng(seed)
    for _ in range(n):
        lattice = 5.5 * np.eye(3) + rng.normal(0, 0.3, (3, 3))
        yield Structure(rng.uniform(-1, 2, (n_atoms, 3)) @ lattice, lattice, rng.choice([6, 42], n_atoms))


def samples(n: int, seed: int = 0) -> list[Sample]:
    return [(s, BASIS, made_up(s)) for s in random_structures(n, seed=seed)]


@pytest.fixture(scope="module")
def table() -> TwoCentreTable:
    return fit_two_centre(samples(16), "interpolate")


def test_unseen_structures_are_reproduced_to_spline_accuracy(table: TwoCentreTable) -> None:
    for structure, basis, blocks in samples(2, seed=9):
        predicted = table.blocks(structure, basis, blocks.pairs)
        lengths = blocks.lengths(structure)
        for p, (i, j) in enumerate(np.sort(structure.numbers[blocks.pairs[:, 3:]], axis=1)):
            if blocks.onsite[p] or not table.bonds[i, j].uncovered(lengths[[p]])[0]:
                np.testing.assert_allclose(predicted.block(p), blocks.block(p), atol=1e-6)


def test_blocks_are_exactly_hermitian(table: TwoCentreTable) -> None:
    structure = next(random_structures(1, seed=3))
    blocks = table.blocks(structure, BASIS, find_pairs(structure, BASIS))
    np.testing.assert_array_equal(blocks.values, blocks.dagger().values)


@pytest.mark.parametrize("mirror", [1, -1])
def test_blocks_turn_with_the_structure(table: TwoCentreTable, mirror: int) -> None:
    structure = next(random_structures(1, seed=4))
    q = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    q *= mirror * np.sign(np.linalg.det(q))
    pairs = find_pairs(structure, BASIS)
    plain, turned = table.blocks(structure, BASIS, pairs), table.blocks(structure.rotated(q), BASIS, pairs)
    d = wigner(q, 3)
    full = {}
    for z in BASIS.elements:
        full[z] = np.zeros((BASIS[z].n_orbitals,) * 2)
        for l, place in zip(BASIS[z].ls, BASIS[z].slices, strict=True):
            full[z][place, place] = d[l]
    for p, (i, j) in enumerate(plain.pairs[:, 3:]):
        expected = full[structure.numbers[i]] @ plain.block(p) @ full[structure.numbers[j]].T
        np.testing.assert_allclose(turned.block(p), expected, atol=1e-11)


def test_p_orbitals_follow_the_formulas_of_slater_and_koster() -> None:
    p_only = Shells((0, 1), 2.0)
    bond = np.array([[0.3, -1.1, 0.7]])
    cosines = (bond / np.linalg.norm(bond))[0][[1, 2, 0]]  # y, z, x
    assert channels(p_only, p_only) == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)]
    ss, sp, ps, sigma, pi = values = np.array([0.9, 0.5, -0.5, 0.7, -0.2])
    block = from_channels(values[None], bond, p_only, p_only)[0]
    assert block[0, 0] == pytest.approx(ss)
    np.testing.assert_allclose(block[0, 1:], sp * cosines)
    np.testing.assert_allclose(block[1:, 0], ps * cosines)
    np.testing.assert_allclose(block[1:, 1:], pi * np.eye(3) + (sigma - pi) * np.outer(cosines, cosines))


def test_channels_are_read_back_from_blocks() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 3))
    values = rng.normal(size=(20, len(channels(CARBON, MOLYBDENUM))))
    blocks = from_channels(values, vectors, CARBON, MOLYBDENUM)
    np.testing.assert_allclose(to_channels(blocks, vectors, CARBON, MOLYBDENUM), values, atol=1e-13)


def test_a_table_survives_its_arrays(table: TwoCentreTable) -> None:
    structure = next(random_structures(1))
    pairs = find_pairs(structure, BASIS)
    again = TwoCentreTable.from_arrays(table.to_arrays())
    np.testing.assert_array_equal(again.blocks(structure, BASIS, pairs).values, table.blocks(structure, BASIS, pairs).values)
    assert again.bonds[6, 42].residual == table.bonds[6, 42].residual
    assert again.basis == table.basis


def test_smooth_fit_is_the_mean_of_scattered_data_and_knows_their_scatter() -> None:
    rng = np.random.default_rng(1)
    noisy = []
    for structure, basis, blocks in samples(12):
        half = rng.normal(0, 0.1, blocks.values.shape)
        noise = blocks.with_values((half + blocks.with_values(half).dagger().values) / np.sqrt(2))
        noisy.append((structure, basis, blocks.with_values(blocks.values + noise.values)))
    fitted = fit_two_centre(noisy, "smooth").bonds[6, 42]
    lengths = np.linspace(1.5, 4.7, 50)
    expected = functions(lengths, CARBON, MOLYBDENUM)
    assert np.sqrt(np.mean((fitted.at(lengths) - expected) ** 2)) < 0.03
    sigma = [m == 0 for _, _, m in channels(CARBON, MOLYBDENUM)]
    assert np.mean(fitted.spread_at(lengths)[:, sigma]) == pytest.approx(0.1, rel=0.15)
    np.testing.assert_allclose(fitted.at(np.array([4.8, 5.0])), 0, atol=1e-12)


def test_smooth_fit_stays_calm_where_there_are_no_data() -> None:
    ring = [
        Structure(np.array([[0, 0, 0], [0, 0, r]]), np.zeros((3, 3)), np.array([6, 6]), (False,) * 3) for r in (2.9, 3.0, 3.1)
    ]
    fitted = fit_two_centre([(s, BASIS, made_up(s)) for s in ring], "smooth").bonds[6, 6]
    assert np.abs(fitted.at(np.linspace(0, 5, 200))).max() < 1.5 * np.abs(fitted.at(np.linspace(2.85, 3.15, 20))).max()


def test_onsite_blocks_do_not_turn() -> None:
    structure = next(random_structures(1))
    blocks = made_up(structure)
    values = blocks.values.copy()
    for p in np.flatnonzero(blocks.onsite):
        values[blocks.offsets[p] : blocks.offsets[p + 1]] += np.arange(blocks.shapes[p].prod())
    onsite = fit_two_centre([(structure, BASIS, blocks.with_values(values).hermitian())], "smooth").onsite[6]
    np.testing.assert_allclose(onsite[2:, 2:], onsite[2, 2] * np.eye(3))
    np.testing.assert_array_equal(onsite[:2, 2:], 0)
    assert onsite[0, 1] == pytest.approx((1 + 5) / 2)


def assert_refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def pair_at(length: float) -> Structure:
    return Structure(np.array([[0, 0, 0], [length, 0, 0]]), np.zeros((3, 3)), np.array([6, 6]), (False,) * 3)


def test_distances_that_the_data_never_covered_are_refused_with_the_numbers() -> None:
    lengths = [*np.linspace(1.3, 1.55, 6), *np.linspace(2.3, 4.4, 43)]
    fitted = fit_two_centre([(s, BASIS, made_up(s)) for s in map(pair_at, lengths)], "interpolate")
    for length in (1.05, 1.28, 1.9):
        words = ("x.cif", f"1 pair C-C at {length:.3f} Å", "1.300-1.550 and 2.300-4.400")
        assert_refused(partial(fitted.check_coverage, pair_at(length), find_pairs(pair_at(length), BASIS), "x.cif"), *words)
    for length in (1.295, 1.43, 3.02, 4.39):
        fitted.check_coverage(pair_at(length), find_pairs(pair_at(length), BASIS))


def test_elements_and_bases_that_the_data_never_had_are_refused(table: TwoCentreTable) -> None:
    silicon = Structure(np.zeros((1, 3)), 9 * np.eye(3), np.array([14]))
    other = Basis({14: CARBON})
    assert_refused(
        lambda: table.blocks(silicon, other, find_pairs(silicon, other)), "Si never occurs in the training data", "C, Mo"
    )
    carbon = pair_at(3.0)
    larger = Basis({6: Shells((0, 1), 2.2)})
    assert_refused(lambda: table.blocks(carbon, larger, find_pairs(carbon, larger)), "s1p1", "s2p1", "the training data")
    alone = fit_two_centre([(carbon, BASIS, made_up(carbon))], "interpolate")
    mixed = Structure(carbon.positions, carbon.lattice, np.array([6, 42]), (False,) * 3)
    assert_refused(lambda: alone.check_coverage(mixed, find_pairs(mixed, BASIS)), "Mo never occurs")
    apart = Structure(np.array([[0, 0, 0], [9, 0, 0]]), np.zeros((3, 3)), np.array([6, 42]), (False,) * 3)
    assert_refused(
        lambda: fit_two_centre([(apart, BASIS, made_up(apart)), (carbon, BASIS, made_up(carbon))], "smooth").check_coverage(
            mixed, find_pairs(mixed, BASIS)
        ),
        "C-Mo are neighbours, which the training data never had",
    )


def test_no_data_and_blocks_with_spin_are_refused() -> None:
    assert_refused(lambda: fit_two_centre([], "smooth", "data/mine"), "data/mine", "no calculations")
    structure = pair_at(2.0)
    pairs = find_pairs(structure, BASIS)
    doubled = Blocks.over(pairs, structure, BASIS, np.zeros(4 * 4 * 25), spin=2)
    assert_refused(lambda: fit_two_centre([(structure, BASIS, doubled)], "smooth"), "with spin")


def test_openmx_overlaps_of_a_twisted_bilayer_follow_from_those_of_untwisted_ones(example: Path) -> None:
    from orbitrace import readers

    training = (readers.read(folder) for folder in sorted((example / "data" / "bilayers").iterdir()))
    fitted = fit_two_centre(((c.structure, c.basis, c.overlap) for c in training), "interpolate")
    for name in ("twisted_1_2", "AB"):
        target = readers.read(example / "references" / name)
        fitted.check_coverage(target.structure, target.overlap.pairs)
        predicted = fitted.blocks(target.structure, target.basis, target.overlap.pairs)
        assert np.abs(predicted.values - target.overlap.values).max() < 1e-9  # 2e-11 measured


@pytest.mark.parametrize("dataset", ["mos2", "graphene_hbn"])
def test_overlaps_of_several_elements_are_two_centre(shared_data: Path, dataset: str) -> None:
    from orbitrace import readers

    names = sorted((shared_data / "openmx" / dataset).glob("00*"))
    data = [readers.read(folder) for folder in names]
    fitted = fit_two_centre(((c.structure, c.basis, c.overlap) for c in data), "interpolate")
    assert max(bond.residual for bond in fitted.bonds.values()) < 1e-7
    for c in data:
        fitted.check_coverage(c.structure, c.overlap.pairs)
        assert np.abs(fitted.blocks(c.structure, c.basis, c.overlap.pairs).values - c.overlap.values).max() < 1e-9


def test_few_data_are_bridged_where_they_are_said_to_be(shared_data: Path) -> None:
    from orbitrace import readers

    *data, target = (readers.read(folder) for folder in sorted((shared_data / "openmx" / "graphene_hbn").glob("00*")))
    fitted = fit_two_centre(((c.structure, c.basis, c.overlap) for c in data), "interpolate")
    predicted = fitted.blocks(target.structure, target.basis, target.overlap.pairs)
    lengths, numbers = target.overlap.lengths(target.structure), target.structure.numbers
    for p, (i, j) in enumerate(np.sort(numbers[target.overlap.pairs[:, 3:]], axis=1)):
        if target.overlap.onsite[p] or not fitted.bonds[i, j].uncovered(lengths[[p]])[0]:
            assert np.abs(predicted.block(p) - target.overlap.block(p)).max() < 1e-6


@pytest.mark.parametrize("mode", ["interpolate", "smooth"])
def test_elements_whose_pairs_are_all_beyond_the_cutoff_have_a_matrix_of_zero(mode: Mode) -> None:
    near, apart = pair_at(3.0), Structure(np.array([[0, 0, 0], [9, 0, 0]]), np.zeros((3, 3)), np.array([6, 42]), (False,) * 3)
    far = np.array([[0, 0, 0, i, j] for i in (0, 1) for j in (0, 1)], dtype=np.int32)
    size = int(np.outer(*[BASIS.n_orbitals(apart.numbers)] * 2).sum())
    blocks = Blocks.over(far, apart, BASIS, np.ones(size))
    fitted = fit_two_centre([(near, BASIS, made_up(near)), (apart, BASIS, blocks)], mode)
    result = fitted.blocks(apart, BASIS, blocks.pairs)
    assert not result.values[np.repeat(~result.onsite, np.prod(result.shapes, axis=1))].any()
    fitted.check_coverage(apart, blocks.pairs)
    closer = Structure(apart.positions / 3, apart.lattice, apart.numbers, apart.pbc)
    assert_refused(lambda: fitted.check_coverage(closer, blocks.pairs, "x.cif"), "x.cif: 1 pair C-Mo at 3.000 Å")


def test_two_bases_of_one_element_are_refused_with_the_number_of_the_calculation() -> None:
    structure, other = pair_at(2.0), Basis({6: Shells((0, 1), 2.2)})
    data = [(structure, basis, made_up(structure, basis)) for basis in (BASIS, BASIS, other)]
    assert_refused(lambda: fit_two_centre(data, "smooth", "mine"), "mine, calculation 3 (2 atoms): C has the basis s1p1")
