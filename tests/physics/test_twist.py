"""Twisted bilayers: atom counts, angles, bonds, symmetry, and the cell that OpenMX computed."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene, twist_angle, twisted_bilayer

REACH = Basis({z: Shells((0,), 2.7) for z in (6, 16, 42)})


def distances(structure: Structure) -> np.ndarray:
    return np.sort(np.linalg.norm(structure.pair_vectors(find_pairs(structure, REACH)), axis=1))


def molybdenite(angle: float, z: float = 0.0) -> Structure:
    """MoS2 with vectors at `angle` degrees, Mo at height z."""
    a, turn = 3.18, np.radians(angle)
    lattice = np.array([[a, 0, 0], [a * np.cos(turn), a * np.sin(turn), 0], [0, 0, 20]])
    sulphur = lattice[:2].sum(axis=0) / 3 if angle == 60 else (lattice[0] + (lattice[0] + lattice[1])) / 3
    positions = np.array([np.zeros(3), sulphur, sulphur]) + np.array([[0, 0, z], [0, 0, z + 1.56], [0, 0, z - 1.56]])
    return Structure(positions, lattice, np.array([42, 16, 16]))


def is_mapped_to_itself(structure: Structure, operation: np.ndarray) -> bool:
    centre = np.array([0, 0, (structure.positions[:, 2].min() + structure.positions[:, 2].max()) / 2])
    turned = (structure.positions - centre) @ operation.T + centre
    planar = np.linalg.inv(structure.lattice)
    apart = (turned[:, None] - structure.positions[None]) @ planar
    apart[..., :2] -= np.round(apart[..., :2])
    partners = np.linalg.norm(apart @ structure.lattice, axis=2) < 1e-6
    return bool((partners.sum(axis=1) == 1).all())


def turn_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


@pytest.mark.parametrize(
    ("m", "n", "atoms", "degrees"),
    [
        (1, 2, 28, 21.787),
        (2, 1, 28, 21.787),
        (2, 3, 76, 13.174),
        (5, 6, 364, 6.009),
        (1, 4, 84, 38.213),
        (31, 32, 11908, 1.050),
    ],
)
def test_atom_counts_and_angles_of_twisted_graphene(m: int, n: int, atoms: int, degrees: float) -> None:
    structure = twisted_bilayer(graphene(), m, n, 3.35)
    assert structure.n_atoms == atoms == 4 * (m * m + m * n + n * n)
    assert twist_angle(m, n) == pytest.approx(degrees, abs=1e-3)
    assert np.linalg.norm(structure.lattice[0]) == pytest.approx(2.46 * np.sqrt(m * m + m * n + n * n))
    above = structure.positions[:, 2] > structure.lattice[2, 2] / 2
    assert above.sum() == atoms / 2


@pytest.mark.parametrize(("m", "n"), [(1, 2), (3, 2), (1, 4), (5, 6), (11, 12)])
def test_every_atom_keeps_its_three_bonds_and_none_is_doubled(m: int, n: int) -> None:
    structure = twisted_bilayer(graphene(), m, n, 3.35)
    pairs = find_pairs(structure, Basis({6: Shells((0,), 0.8)}))
    lengths = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    bonds = lengths[lengths > 0]
    assert len(bonds) == 3 * structure.n_atoms
    np.testing.assert_allclose(bonds, 2.46 / np.sqrt(3), atol=1e-9)


def test_layers_are_twisted_by_the_angle() -> None:
    structure = twisted_bilayer(graphene(), 3, 4, 3.35)
    directions = []
    for layer in (structure.positions[:, 2] < 11, structure.positions[:, 2] > 11):
        half = Structure(structure.positions[layer], structure.lattice, structure.numbers[layer], structure.pbc)
        vectors = half.pair_vectors(find_pairs(half, Basis({6: Shells((0,), 1.25)})))
        vectors = vectors[np.isclose(np.linalg.norm(vectors, axis=1), 2.46)]
        directions.append(np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 60)
    assert np.ptp(directions[0]) < 1e-6 and np.ptp(directions[1]) < 1e-6
    between = (directions[1][0] - directions[0][0]) % 60
    assert min(between, 60 - between) == pytest.approx(twist_angle(3, 4), abs=1e-6)


def test_cell_is_hexagonal_with_the_atoms_inside() -> None:
    structure = twisted_bilayer(graphene(), 5, 6, 3.35, vacuum=15)
    t1, t2, up = structure.lattice
    assert t1[1] == t1[2] == 0 and t1[0] > 0
    assert t1 @ t2 == pytest.approx(t1 @ t1 / 2)
    np.testing.assert_allclose(up, [0, 0, 18.35])
    inside = structure.positions @ np.linalg.inv(structure.lattice)
    assert inside.min() >= 0 and inside.max() < 1
    assert structure.pbc == (True, True, False)


@pytest.mark.parametrize(("name", "m", "n"), [("1-2", 1, 2), ("2-3", 2, 3)])
def test_cell_is_the_one_that_openmx_computed(shared_data: Path, name: str, m: int, n: int) -> None:
    from orbitrace import readers

    reference = readers.read(shared_data / "openmx" / "twisted_bilayer_graphene" / name).structure
    assert_same_distances(reference, m, n)


def test_cell_is_that_of_the_embedded_example(example: Path) -> None:
    from orbitrace import readers

    assert_same_distances(readers.read(example / "references" / "twisted_1_2").structure, 1, 2)


def assert_same_distances(reference: Structure, m: int, n: int) -> None:
    mine = twisted_bilayer(graphene(), m, n, float(np.ptp(reference.positions[:, 2])))
    np.testing.assert_allclose(distances(mine), distances(reference), atol=1e-8)


@pytest.mark.parametrize(("centre", "fold"), [((0, 0), 3), ((2 / 3, 2 / 3), 6)])
def test_symmetry_is_that_of_the_centre_of_the_twist(centre: tuple[float, float], fold: int) -> None:
    layer = graphene()
    moved = Structure(layer.positions - np.array([*centre, 0]) @ layer.lattice, layer.lattice, layer.numbers, layer.pbc)
    structure = twisted_bilayer(moved, 2, 3, 3.35)
    assert is_mapped_to_itself(structure, turn_z(360 / fold))
    assert is_mapped_to_itself(structure, turn_z(180)) == (fold == 6)
    halfway = [turn_z(angle) @ np.diag([1.0, -1, -1]) @ turn_z(-angle) for angle in np.arange(0, 180, 15)]
    assert sum(is_mapped_to_itself(structure, axis) for axis in halfway) == fold
    assert not is_mapped_to_itself(structure, np.diag([1.0, 1, -1]))


def test_thick_layers_keep_their_shape_and_their_gap() -> None:
    structure = twisted_bilayer(molybdenite(120), 1, 2, 3.0, vacuum=12)
    assert Counter(structure.numbers.tolist()) == {42: 14, 16: 28}
    assert structure.lattice[2, 2] == pytest.approx(12 + 3.0 + 2 * 3.12)
    below, above = structure.positions[:21, 2], structure.positions[21:, 2]
    assert above.min() - below.max() == pytest.approx(3.0)
    first = Structure(structure.positions[:21], structure.lattice, structure.numbers[:21], structure.pbc)
    np.testing.assert_allclose(distances(first), np.sort(np.tile(distances(molybdenite(120)), 7)), atol=1e-9)


@pytest.mark.parametrize("other", [molybdenite(60), molybdenite(120, z=0.3), molybdenite(120, z=19.9)])
def test_the_choice_of_cell_of_a_layer_does_not_matter(other: Structure) -> None:
    wrapped = Structure(
        other.positions % 20.0 if other.positions[:, 2].min() < 0 else other.positions, other.lattice, other.numbers
    )
    reference = twisted_bilayer(molybdenite(120), 2, 3, 3.0)
    np.testing.assert_allclose(distances(twisted_bilayer(wrapped, 2, 3, 3.0)), distances(reference), atol=1e-9)


def test_a_layer_may_stand_anywhere_in_space() -> None:
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    q *= np.sign(np.linalg.det(q))
    turned = twisted_bilayer(molybdenite(120).rotated(q), 1, 2, 3.0)
    plain = twisted_bilayer(molybdenite(120), 1, 2, 3.0)
    np.testing.assert_allclose(turned.positions[:, 2], plain.positions[:, 2], atol=1e-9)
    np.testing.assert_allclose(distances(turned), distances(plain), atol=1e-9)


def test_two_different_layers() -> None:
    structure = twisted_bilayer(graphene(3.18), 1, 2, 3.2, top=molybdenite(120))
    assert Counter(structure.numbers[:14].tolist()) == {6: 14}
    assert Counter(structure.numbers[14:].tolist()) == {42: 7, 16: 14}
    assert structure.positions[14:, 2].min() - structure.positions[:14, 2].max() == pytest.approx(3.2)


def test_shift_moves_the_layer_above() -> None:
    plain, moved = (twisted_bilayer(graphene(), 1, 2, 3.35, shift=shift) for shift in ((0, 0), (0.3, 0.1)))
    np.testing.assert_array_equal(plain.positions[:14], moved.positions[:14])
    whole = twisted_bilayer(graphene(), 1, 2, 3.35, shift=(1, -2))
    np.testing.assert_allclose(distances(whole), distances(plain), atol=1e-9)
    assert np.abs(distances(moved)[:100] - distances(plain)[:100]).max() < 1e-9  # bonds within the layers
    assert len(distances(moved)) != len(distances(plain)) or np.abs(distances(moved) - distances(plain)).max() > 1e-3


def square() -> Structure:
    return Structure(np.zeros((1, 3)), np.diag([2.5, 2.5, 20]), np.array([6]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (partial(twisted_bilayer, graphene(), 0, 1, 3.35), ("(0, 1)", "two positive integers")),
        (partial(twisted_bilayer, graphene(), -1, 2, 3.35), ("(-1, 2)", "two positive integers")),
        (partial(twisted_bilayer, graphene(), 3, 3, 3.35), ("no twist", "(3, 4)")),
        (partial(twisted_bilayer, graphene(), 2, 4, 3.35), ("common divisor 2", "(1, 2) is the same twist")),
        (partial(twisted_bilayer, graphene(), 1, 2, -3.35), ("-3.35", "positive")),
        (partial(twisted_bilayer, graphene(), 1, 2, float("nan")), ("nan", "positive")),
        (partial(twisted_bilayer, graphene(), 1, 2, 3.35, vacuum=-1), ("vacuum -1", "not negative")),
        (partial(twisted_bilayer, square(), 1, 2, 3.35), ("90.00 degrees", "hexagonal")),
        (partial(twisted_bilayer, graphene(), 1, 2, 3.35, top=molybdenite(120)), ("3.1800", "2.4600")),
        (partial(graphene, -1.0), ("-1.0", "positive")),
    ],
)
def test_what_is_no_twist_is_refused(call: Callable[[], Structure], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
