"""Shared cells of two layers: what theory and the literature say, and a search by brute force."""

from itertools import product

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.commensurate import Coincidence, best, coincidence, nearest, reduction, search
from orbitrace.physics.layers import Layer, built_in, layer_of
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import bilayer, twist_angle, two_integers


def named(name: str) -> Layer:
    return layer_of(built_in(name), name)


def planar(a: float, b: float, degrees: float, atoms: int = 1) -> Layer:
    """A flat layer of any lattice."""
    turn = np.radians(degrees)
    inside = np.random.default_rng(1).random((atoms, 2))
    lattice = np.array([[a, 0], [b * np.cos(turn), b * np.sin(turn)]])
    return Layer(lattice, inside, np.zeros(atoms), np.full(atoms, 6))


GRAPHENE, NITRIDE, MOLYBDENITE, BISMUTHENE = map(named, ("graphene", "hbn", "mos2_2h", "bismuthene"))


def recovered(structure: Structure, cells: slice, guess: np.ndarray) -> np.ndarray:
    """Primitive vectors of a layer in a bilayer, fitted to the positions of one sublattice (`cells`): [2, 2].

    The guess numbers the vectors between neighbours only.
    """
    z = int(structure.numbers[cells][0])
    one = Structure(structure.positions[cells], structure.lattice, structure.numbers[cells], structure.pbc)
    reach = 1.1 * float(np.linalg.norm(guess, axis=1).max())
    vectors = one.pair_vectors(find_pairs(one, Basis({z: Shells((0,), reach / 2)})))
    steps = np.rint(vectors[:, :2] @ np.linalg.inv(guess))
    fitted = np.linalg.lstsq(steps, vectors[:, :2], rcond=None)[0]
    np.testing.assert_allclose(steps @ fitted, vectors[:, :2], atol=1e-9)
    assert len(vectors) == len(np.unique(steps, axis=0)) * one.n_atoms
    return np.array(fitted)


def direction(vectors: np.ndarray, layer: Layer) -> float:
    """Turn of primitive vectors against those of the layer at rest, degrees (polar decomposition)."""
    f = np.linalg.solve(layer.lattice, vectors).T
    return float(np.degrees(np.arctan2(f[1, 0] - f[0, 1], f[0, 0] + f[1, 1])))


def check_layers(bottom: Layer, top: Layer, cell: Coincidence) -> Structure:
    """Build a cell; both layers must be whole, strained as reported, and twisted by the reported angle."""
    structure = bilayer(bottom, top, cell, 3.0)
    assert structure.n_atoms == cell.n_atoms
    start, turns = 0, []
    for layer, rows, strain in ((bottom, cell.bottom, cell.strain_bottom), (top, cell.top, cell.strain_top)):
        count = round(np.linalg.det(rows))
        vectors = recovered(structure, slice(start, start + count), np.linalg.solve(rows, cell.lattice))
        turn = np.radians(direction(vectors, layer))
        q = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        np.testing.assert_allclose(vectors, layer.lattice @ q.T @ (np.eye(2) + strain), atol=1e-9)
        half = slice(start, start + count * layer.n_atoms)
        check_bonds(structure, half, layer, vectors, count)
        turns.append(np.degrees(turn))
        start = half.stop
    assert (turns[1] - turns[0] - cell.angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-10)
    return structure


def check_bonds(structure: Structure, half: slice, layer: Layer, vectors: np.ndarray, count: int) -> None:
    """All distances in a layer up to 3.5 Å are those of its strained primitive cell, as often per cell."""
    lattice = np.zeros((3, 3))
    lattice[:2, :2], lattice[2, 2] = vectors, 30.0
    primitive = Structure(
        np.column_stack([layer.planar @ vectors, layer.heights]), lattice, layer.numbers, (True, True, False)
    )
    part = Structure(structure.positions[half], structure.lattice, structure.numbers[half], structure.pbc)
    basis = Basis({int(z): Shells((0,), 1.75) for z in part.elements})
    there, here = (np.sort(np.linalg.norm(s.pair_vectors(find_pairs(s, basis)), axis=1)) for s in (part, primitive))
    np.testing.assert_allclose(there, np.repeat(here, count), atol=1e-8)


@pytest.mark.parametrize(("m", "n", "atoms"), [(1, 2, 28), (6, 7, 508), (9, 10, 1084), (31, 32, 11908)])
def test_twisted_graphene_of_the_literature_is_found_by_its_angle(m: int, n: int, atoms: int) -> None:
    found = search(GRAPHENE, GRAPHENE, round(twist_angle(m, n), 2), 0.006, 0.0, 12000, limit=1)
    assert found[0].n_atoms == atoms == 4 * (m * m + m * n + n * n)
    assert found[0].angle == pytest.approx(twist_angle(m, n), abs=1e-9)
    assert found[0].strain < 1e-12


def test_all_commensurate_angles_of_graphene_are_those_of_theory() -> None:
    found = search(GRAPHENE, GRAPHENE, 15.0, 14.999, 0.0, 1500, everything=True)
    theory = set()
    for m in range(1, 25):
        for n in range(m + 1, 25):
            if np.gcd(m, n) == 1:
                # A cell with n - m divisible by 3 holds three smaller ones (Shallcross et al., 2008).
                atoms = 4 * (m * m + m * n + n * n) // (3 if (n - m) % 3 == 0 else 1)
                angle = twist_angle(m, n)
                if atoms <= 1500:
                    theory.add((atoms, round(min(angle, 60 - angle), 6)))
    assert {(cell.n_atoms, round(cell.angle, 6)) for cell in found} == theory
    assert len(found) == len(theory)


def test_graphene_on_boron_nitride_aligned_is_56_on_55() -> None:
    found = search(GRAPHENE, NITRIDE, 0.0, 0.001, 3e-4, 13000, limit=5)
    first = found[0]
    assert first.n_atoms == 2 * (56**2 + 55**2) == 12322
    assert first.strain_top[0, 0] == pytest.approx(56 * 2.46 / (55 * 2.504) - 1, abs=1e-12)
    np.testing.assert_allclose(first.strain_top, first.strain_top[0, 0] * np.eye(2), atol=1e-12)
    np.testing.assert_array_equal(first.strain_bottom, np.zeros((2, 2)))
    check_layers(GRAPHENE, NITRIDE, first)


def test_molybdenite_at_the_angles_of_the_literature() -> None:
    # (9, 10) and (32, 33): 1626 atoms at 3.48 degrees, 19014 at 1.02
    for asked, (m, n), atoms in ((3.48, (9, 10), 1626), (1.02, (32, 33), 19014)):
        cell = best(MOLYBDENITE, MOLYBDENITE, asked, 0.01, 1e-3, 20000)
        assert cell is not None
        assert (cell.n_atoms, round(cell.angle, 9)) == (atoms, round(twist_angle(m, n), 9))


@pytest.mark.parametrize("strained", ["top", "bottom", "both"])
@pytest.mark.parametrize(
    ("bottom", "top", "angle", "max_strain"),
    [
        (GRAPHENE, MOLYBDENITE, 10.0, 0.01),
        (BISMUTHENE, BISMUTHENE, 21.8, 0.01),
        (GRAPHENE, planar(3.3, 4.4, 90, 4), 5.0, 0.02),
        (planar(4.3, 5.1, 77, 2), planar(3.9, 6.2, 101, 3), -13.0, 0.02),
    ],
)
def test_layers_are_whole_and_strained_and_twisted_as_reported(
    bottom: Layer, top: Layer, angle: float, max_strain: float, strained: str
) -> None:
    found = search(bottom, top, angle, 0.5, max_strain, 3000, strained=strained, limit=3)
    assert found
    for cell in found:
        assert abs(cell.angle - angle) <= 0.5 and cell.strain <= max_strain + 1e-8
        untouched = {"top": cell.strain_bottom, "bottom": cell.strain_top}.get(strained)
        assert untouched is None or not untouched.any()
        if strained == "both":
            product_of_stretches = (np.eye(2) + cell.strain_bottom) @ (np.eye(2) + cell.strain_top)
            np.testing.assert_allclose(product_of_stretches, np.eye(2), atol=1e-12)
        check_layers(bottom, top, cell)


def test_cell_is_right_handed_and_reduced_with_its_first_vector_along_x() -> None:
    for cell in search(planar(4.3, 5.1, 77), planar(3.9, 6.2, 101), 20.0, 5.0, 0.03, 60, limit=30):
        (a, nought), (x, y) = cell.lattice
        assert nought == 0 and a > 0 and y > 0
        assert a <= np.hypot(x, y) * (1 + 1e-9) * (1 + cell.strain) and abs(x) <= a / 2 * (1 + 1e-8)
        assert np.linalg.det(cell.bottom) > 0 and np.linalg.det(cell.top) > 0


def brute_force(bottom: Layer, top: Layer, angle: float, tolerance: float, strain: float, atoms: int) -> dict:
    """All shared cells: every sublattice below by its Hermite normal form, every pair of vectors above; with their aspects."""
    grid = np.array(list(product(range(-12, 13), repeat=2)))
    vectors = grid @ top.lattice
    squares = np.einsum("ij,ij->i", vectors, vectors)
    found = {}
    for det in range(1, atoms):
        for first in (d for d in range(1, det + 1) if det % d == 0):
            for offset in range(det // first):
                m = np.array([[first, offset], [0, det // first]])
                m = reduction(m @ bottom.lattice) @ m
                cell = m @ bottom.lattice
                a, b = np.linalg.norm(cell, axis=1)
                one, two = (np.flatnonzero(abs(np.sqrt(squares) / l - 1) < 1.1 * strain) for l in (a, b))
                wrong = abs(vectors[one] @ vectors[two].T - cell[0] @ cell[1]) > 3 * strain * a * b
                for i, j in np.argwhere(~wrong):
                    n = np.stack([grid[one[i]], grid[two[j]]])
                    count = int(n[0, 0] * n[1, 1] - n[0, 1] * n[1, 0])
                    if count < 1 or det + count > atoms:
                        continue
                    rows = np.hstack([m, n])
                    minors = [rows[0, p] * rows[1, q] - rows[0, q] * rows[1, p] for p in range(4) for q in range(p)]
                    made = coincidence(bottom, top, m, n)
                    if np.gcd.reduce(minors) == 1 and abs(made.angle - angle) <= tolerance and made.strain <= strain:
                        found[key_of(made)] = max(a, b) / min(a, b)
    return found


def key_of(cell: Coincidence) -> tuple[float, ...]:
    """What tells cells apart that differ by more than a symmetry."""
    sizes = round(np.linalg.det(cell.bottom)), round(np.linalg.det(cell.top))
    return (*sizes, round(cell.angle, 4) + 0.0, *(np.round(np.linalg.eigvalsh(cell.strain_top), 6) + 0.0))


@pytest.mark.parametrize(
    ("bottom", "top", "angle"),
    [
        (planar(2.5, 2.5, 60), planar(2.6, 2.6, 60), 15.0),
        (planar(2.5, 2.5, 60), planar(3.1, 3.6, 90), 31.0),
        (planar(4.3, 5.1, 77), planar(3.9, 6.2, 101), -20.0),
    ],
)
def test_search_finds_what_brute_force_finds(bottom: Layer, top: Layer, angle: float) -> None:
    window = angle, 14.5, 0.1, 20
    expected = brute_force(bottom, top, *window)
    cells = search(bottom, top, *window, everything=True)
    found = {key_of(cell) for cell in cells}
    assert len(expected) > 3
    assert found <= set(expected)
    assert {key for key, aspect in expected.items() if aspect <= 4} <= found
    assert [cell.n_atoms for cell in cells] == sorted(cell.n_atoms for cell in cells)


def test_list_leaves_out_what_is_no_better_than_something_smaller() -> None:
    window = GRAPHENE, MOLYBDENITE, 10.0, 0.5, 0.01, 900
    whole, short = search(*window, everything=True), search(*window)
    assert len(short) < len(whole)
    for cell in whole:
        assert any(
            k.n_atoms <= cell.n_atoms and k.strain <= cell.strain + 1e-7 and abs(k.angle - cell.angle) < 0.1 for k in short
        )


def test_smallest_cells_are_the_same_however_many_are_asked_for() -> None:
    few, many = (search(GRAPHENE, NITRIDE, 8.0, 1.0, 0.01, 3000, limit=limit) for limit in (3, 12))
    assert [str(cell) for cell in few] == [str(cell) for cell in many[:3]]


def test_cell_without_strain_is_preferred_to_one_that_is_hardly_smaller() -> None:
    smallest = search(GRAPHENE, GRAPHENE, 1.05, 0.02, 1e-3, 12000, limit=1)[0]
    chosen = best(GRAPHENE, GRAPHENE, 1.05, 0.02, 1e-3, 12000)
    assert smallest.n_atoms < 11908 and smallest.strain > 1e-4
    assert chosen is not None and chosen.n_atoms == 11908 and chosen.strain < 1e-12


def test_where_nothing_is_found_the_nearest_cell_is_told() -> None:
    assert search(GRAPHENE, GRAPHENE, 1.05, 0.02, 0.0, 10000) == []
    found = nearest(GRAPHENE, GRAPHENE, 1.05, 0.02, 0.0, 10000)
    assert found is not None and found.n_atoms <= 10000
    assert abs(found.angle - 1.05) < 0.2 and found.strain < 1e-3
    assert nearest(GRAPHENE, GRAPHENE, 1.05, 0.02, 0.0, 3) is None


def test_same_layers_at_angle_nought_share_their_own_cell() -> None:
    cell = search(GRAPHENE, GRAPHENE, 0.0, 0.1, 0.0, 100, limit=1)[0]
    assert cell.n_atoms == 4 and cell.angle == 0


def test_two_integers_are_the_cell_of_theory() -> None:
    cell = two_integers(GRAPHENE, GRAPHENE, 6, 7)
    np.testing.assert_array_equal(cell.bottom, [[6, 7], [-7, 13]])
    assert cell.angle == pytest.approx(twist_angle(6, 7), abs=1e-10)
    assert two_integers(GRAPHENE, GRAPHENE, 7, 6).angle == pytest.approx(-twist_angle(6, 7), abs=1e-10)
    check_layers(GRAPHENE, GRAPHENE, cell)


@pytest.mark.parametrize(
    ("lattice", "degrees"),
    [([[2.0, 0], [7.1, 1.9]], None), ([[1.0, 0], [-0.5, np.sqrt(0.75)]], 60), ([[5.0, 0.1], [4.9, 0.3]], None)],
)
def test_reduced_lattice_has_short_vectors(lattice: list, degrees: float | None) -> None:
    change = reduction(np.array(lattice))
    one, two = change @ np.array(lattice)
    assert round(np.linalg.det(change)) == 1
    assert one @ one <= two @ two * (1 + 1e-9) and abs(one @ two) <= one @ one / 2 * (1 + 1e-8)
    if degrees:
        assert np.degrees(np.arccos(one @ two / (one @ one))) == pytest.approx(degrees)


@pytest.mark.parametrize("rows", [[[1, 2], [2, 4]], [[0, 1], [1, 0]]])
def test_flat_and_left_handed_supercells_are_refused(rows: list) -> None:
    with pytest.raises(InputError, match="positive determinant"):
        coincidence(GRAPHENE, GRAPHENE, [[1, 0], [0, 1]], rows)


def test_building_takes_time_in_proportion_to_the_atoms() -> None:
    cell = two_integers(GRAPHENE, GRAPHENE, 90, 91)
    assert bilayer(GRAPHENE, GRAPHENE, cell, 3.35).n_atoms == cell.n_atoms == 4 * (90**2 + 90 * 91 + 91**2) == 98284
