"""Paths through the Brillouin zone: the right points of each lattice, however its cell is written."""

import numpy as np
import pytest
from tight_binding import GRAPHENE, chain, graphene, honeycomb

from orbitrace.bands.kpath import band_path, periodic_directions
from orbitrace.errors import InputError
from orbitrace.physics.structure import Structure

K_LENGTH = 4 * np.pi / (3 * GRAPHENE)
M_LENGTH = 2 * np.pi / (np.sqrt(3) * GRAPHENE)


def cartesian(structure: Structure, k: np.ndarray) -> np.ndarray:
    return k @ (2 * np.pi * np.linalg.inv(structure.lattice).T)


def named(structure: Structure, **options: object) -> list[tuple[str, np.ndarray]]:
    path = band_path(structure, **options)  # type: ignore[arg-type]
    return [(name, path.kpoints[place]) for place, name in path.labels]


def twisted(m: int, n: int) -> Structure:
    """The cell of a twisted bilayer of graphene, m a1 + n a2 and -n a1 + (m + n) a2, with atoms somewhere."""
    layer = honeycomb()
    lattice = np.array([[m, n, 0], [-n, m + n, 0], [0, 0, 1]]) @ layer.lattice
    fractional = np.random.default_rng(0).uniform(size=(200, 3)) * [1, 1, 0]
    return Structure(fractional @ lattice, lattice, np.full(200, 6))


def turned(structure: Structure, degrees: float) -> Structure:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return structure.rotated(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]))


@pytest.mark.parametrize(
    ("structure", "scale"),
    [
        (honeycomb(60), 1.0),
        (honeycomb(120), 1.0),
        (turned(honeycomb(60), 17.3), 1.0),
        (turned(honeycomb(120), -81.0), 1.0),
        (twisted(1, 2), np.sqrt(7)),
        (twisted(2, 3), np.sqrt(19)),
        (Structure(honeycomb().positions[:, [2, 0, 1]], honeycomb().lattice[[2, 0, 1]][:, [2, 0, 1]], np.array([6, 6])), 1.0),
    ],
    ids=["60", "120", "60 turned", "120 turned", "twist 1 2", "twist 2 3", "vacuum first"],
)
def test_hexagonal_layers_have_the_path_gamma_m_k_gamma(structure, scale):
    points = named(structure)
    assert [name for name, _ in points] == ["Γ", "M", "K", "Γ"]
    lengths = [np.linalg.norm(cartesian(structure, k)) * scale for _, k in points]
    assert np.allclose(lengths, [0.0, M_LENGTH, K_LENGTH, 0.0], rtol=0, atol=1e-6)
    m, k = (cartesian(structure, points[i][1]) for i in (1, 2))
    assert np.linalg.norm(m - k) * scale == pytest.approx(K_LENGTH / 2, abs=1e-6)  # neighbours on the zone's edge


def test_corners_of_the_zone_have_other_coordinates_in_cells_of_60_and_120_degrees():
    corners = {angle: named(honeycomb(angle), path="GK")[1][1] for angle in (60, 120)}
    assert np.allclose(np.sort(abs(corners[60])), [0, 1 / 3, 1 / 3]) and corners[60][0] * corners[60][1] < 0
    assert np.allclose(np.sort(abs(corners[120])), [0, 1 / 3, 1 / 3]) and corners[120][0] * corners[120][1] > 0


@pytest.mark.parametrize("text", ["GKM", "ΓKM", "Γ-K-M", "G K M", "GAMMA K M"])
def test_a_path_can_be_spelt_in_many_ways(text):
    assert [name for name, _ in named(honeycomb(), path=text)] == ["Γ", "K", "M"]


def test_a_comma_breaks_the_path():
    path = band_path(honeycomb(), "GM,KG", density=10)
    places = dict(path.labels)
    breaks = [place for place in places if place + 1 in places]
    assert [(places[p], places[p + 1]) for p in breaks] == [("M", "K")]


def test_points_can_be_given_with_their_coordinates():
    path = band_path(honeycomb(), [("G", (0, 0, 0)), ("A", (0.1, 0.2, 0)), None, ("B", (0.5, 0, 0)), ("G", (1, 0, 0))])
    assert [name for _, name in path.labels] == ["Γ", "A", "B", "Γ"]
    assert np.allclose(path.kpoints[path.labels[1][0]], [0.1, 0.2, 0])


def test_density_is_points_per_length():
    structure = honeycomb()
    path = band_path(structure, "GK", density=30)
    steps = np.linalg.norm(np.diff(cartesian(structure, path.kpoints), axis=0), axis=1)
    assert len(path.kpoints) == int(np.ceil(30 * K_LENGTH)) + 1
    assert np.allclose(steps, steps[0]) and steps[0] <= 1 / 30


def test_legs_in_tiny_zones_still_have_points_to_draw():
    assert len(band_path(twisted(31, 32), density=20).kpoints) >= 3 * 8


def test_crystals_take_their_path_from_seekpath():
    silicon = Structure(np.array([[0, 0, 0], [1.3575] * 3]), 2.715 * (1 - np.eye(3)), np.array([14, 14]))
    points = named(silicon)
    assert [name for name, _ in points] == ["Γ", "X", "U", "K", "Γ", "L", "W", "X"]
    lengths = {name: np.linalg.norm(cartesian(silicon, k)) for name, k in points}
    assert lengths["X"] == pytest.approx(2 * np.pi / 5.43) and lengths["L"] == pytest.approx(np.sqrt(3) * np.pi / 5.43)
    assert [name for name, _ in named(silicon, path="LGX")] == ["L", "Γ", "X"]


def test_wires_go_from_gamma_to_the_edge():
    assert [name for name, _ in named(chain().structure)] == ["Γ", "X"]


def test_molecules_have_gamma_only():
    molecule = Structure(honeycomb().positions, np.zeros((3, 3)), np.array([6, 6]), (False, False, False))
    path = band_path(molecule)
    assert path.labels == ((0, "Γ"),) and np.array_equal(path.kpoints, [[0, 0, 0]])
    with pytest.raises(InputError, match="'GMK' for a molecule"):
        band_path(molecule, "GMK")


def test_vacuum_is_found_from_the_atoms_or_from_the_pairs():
    layer = honeycomb()
    assert periodic_directions(layer) == (True, True, False)
    assert periodic_directions(layer, graphene().hamiltonian.pairs) == (True, True, False)
    graphite = Structure(layer.positions, np.diag([1, 1, 3.4 / 20]) @ layer.lattice, layer.numbers)
    assert periodic_directions(graphite) == (True, True, True)
    across = Structure(
        layer.positions + np.outer([19.5, 20.5], [0, 0, 1]), layer.lattice, layer.numbers
    )  # atoms beyond the cell
    assert periodic_directions(across) == (True, True, False)


@pytest.mark.parametrize("density", [0.0, -3.0, float("inf")])
def test_a_density_that_is_not_positive_is_refused(density):
    with pytest.raises(InputError, match=r"density: .* Expected a positive number"):
        band_path(honeycomb(), density=density)


def test_an_unknown_point_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown point 'X'. Expected a path of G, K, M, the points of this lattice"):
        band_path(honeycomb(), "GXG")


@pytest.mark.parametrize("path", ["G", "GM,K", ""])
def test_a_path_of_one_point_is_refused(path):
    with pytest.raises(InputError, match="at least two points"):
        band_path(honeycomb(), path)


def test_coordinates_that_are_not_three_numbers_are_refused():
    with pytest.raises(InputError, match=r"point 'A': coordinates .* three finite fractional coordinates"):
        band_path(honeycomb(), [("G", (0, 0, 0)), ("A", (0.1, 0.2))])
