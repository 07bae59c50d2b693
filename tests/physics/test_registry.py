"""Stackings and corrugation: which atoms stand on which, at the axis of a twist and in its domains."""

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.commensurate import coincidence
from orbitrace.physics.layers import Layer, built_in, layer_of
from orbitrace.physics.registry import stacked
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import bilayer, graphene, two_integers

GRAPHENE, NITRIDE, MOLYBDENITE, BISMUTHENE = (
    layer_of(built_in(name), name) for name in ("graphene", "hbn", "mos2_2h", "bismuthene")
)
ONE = [[1, 0], [0, 1]]
# What the layer above holds over A, B and the hollow of the layer below.
OVER = {
    "AA": ("A", "B", ""),
    "AB": ("B", "", "A"),
    "BA": ("", "A", "B"),
    "AA'": ("B", "A", ""),
    "AB'": ("A", "", "B"),
    "A'B": ("", "B", "A"),
}


def turned_by_180(layer: Layer) -> Layer:
    return Layer(layer.lattice, -layer.planar, layer.heights, layer.numbers)


def holds(structure: Structure, atoms: slice, point: np.ndarray) -> set[int]:
    """Kinds of atoms of a layer above or below a point of the plane."""
    apart = (structure.positions[atoms, :2] - point) @ np.linalg.inv(structure.lattice[:2, :2])
    apart -= np.round(apart)
    near = np.linalg.norm(apart @ structure.lattice[:2, :2], axis=1) < 1e-6
    return set(structure.numbers[atoms][near].tolist())


@pytest.mark.parametrize("name", OVER)
@pytest.mark.parametrize("turn", [(False, False), (True, False), (False, True), (True, True)])
def test_untwisted_stackings_of_boron_nitride(name: str, turn: tuple[bool, bool]) -> None:
    below, above = (turned_by_180(NITRIDE) if one else NITRIDE for one in turn)
    bottom, top = stacked(below, above, name)
    structure = bilayer(bottom, top, coincidence(bottom, top, ONE, ONE), 3.3)
    kind = {"A": {5}, "B": {7}, "": set()}
    site_a, site_b = (structure.positions[k, :2] for k in (0, 1))
    for site, expected in zip((site_a, site_b, 2 * site_b - site_a), OVER[name], strict=True):
        assert holds(structure, slice(2, 4), site) == kind[expected]


@pytest.mark.parametrize("centre", ["A", "B", "hollow"])
@pytest.mark.parametrize("name", OVER)
@pytest.mark.parametrize(("layer", "a", "b"), [(MOLYBDENITE, 42, 16), (NITRIDE, 5, 7)])
def test_stacking_at_the_axis_of_a_twist_is_the_one_asked_for(layer: Layer, a: int, b: int, name: str, centre: str) -> None:
    bottom, top = stacked(layer, layer, name, centre)
    structure = bilayer(bottom, top, two_integers(bottom, top, 2, 3), 3.0)
    half = structure.n_atoms // 2
    kind = {"A": {a}, "B": {b}, "": set()}
    origin = np.zeros(2)
    assert holds(structure, slice(0, half), origin) == kind[{"A": "A", "B": "B", "hollow": ""}[centre]]
    assert holds(structure, slice(half, None), origin) == kind[OVER[name][("A", "B", "hollow").index(centre)]]


def test_stacking_2h_of_molybdenite_has_a_centre_of_inversion_and_3r_has_none() -> None:
    for name, inverted in (("AA'", True), ("AB", False), ("AA", False)):
        bottom, top = stacked(MOLYBDENITE, MOLYBDENITE, name)
        structure = bilayer(bottom, top, coincidence(bottom, top, ONE, ONE), 3.0)
        assert has_inversion(structure) == inverted


def has_inversion(structure: Structure) -> bool:
    inverse = np.linalg.inv(structure.lattice[:2, :2])
    middle = (structure.positions[:, 2].min() + structure.positions[:, 2].max()) / 2
    centres = (structure.positions[:1, :2] + structure.positions[:, :2]) / 2
    for centre in centres:
        image = 2 * np.append(centre, middle) - structure.positions
        apart = image[:, None] - structure.positions[None]
        flat = apart[..., :2] @ inverse
        apart[..., :2] = (flat - np.round(flat)) @ structure.lattice[:2, :2]
        same = (np.linalg.norm(apart, axis=2) < 1e-6) & (structure.numbers[:, None] == structure.numbers[None])
        if same.any(axis=1).all():
            return True
    return False


def test_default_of_graphene_is_aa_about_an_atom() -> None:
    bottom, top = stacked(GRAPHENE, GRAPHENE, "AA", "A")
    np.testing.assert_allclose(bottom.planar, GRAPHENE.planar, atol=1e-12)
    np.testing.assert_allclose(top.planar, GRAPHENE.planar, atol=1e-12)


def gaps_over(structure: Structure, half: int) -> tuple[np.ndarray, np.ndarray]:
    return structure.positions[:half, 2], structure.positions[half:, 2]


def test_corrugation_of_twisted_graphene_is_that_of_the_literature() -> None:
    cell = two_integers(GRAPHENE, GRAPHENE, 16, 17)
    flat = bilayer(GRAPHENE, GRAPHENE, cell, 3.35)
    structure = bilayer(GRAPHENE, GRAPHENE, cell, 3.35, corrugation={"AA": 3.60, "AB": 3.35})
    np.testing.assert_allclose(structure.positions[:, :2], flat.positions[:, :2], atol=1e-12)
    # d0 + 2 d1 sum cos(G r) with the reciprocal vectors of the moire cell (Koshino et al., 2018)
    g = 2 * np.pi * np.linalg.inv(structure.lattice[:2, :2]).T
    waves = structure.positions[:, :2] @ np.stack([g[0], g[1], -g[0] - g[1]]).T
    d = (3.60 + 2 * 3.35) / 3 + 2 * (3.60 - 3.35) / 9 * np.cos(waves).sum(axis=1)
    half = structure.n_atoms // 2
    below, above = gaps_over(structure, half)
    middle = above[0] - d[half] / 2
    np.testing.assert_allclose(above, middle + d[half:] / 2, atol=1e-9)
    np.testing.assert_allclose(below, middle - d[:half] / 2, atol=1e-9)
    axis = np.linalg.norm(structure.positions[:, :2], axis=1).reshape(2, half).argmin(axis=1)
    assert above[axis[1]] - below[axis[0]] == pytest.approx(3.60)  # atoms on the axis: AA
    assert structure.lattice[2, 2] == pytest.approx(3.60 + 20)


@pytest.mark.parametrize(
    ("stacking", "distances"),
    [
        ("AA", {"AA": 3.6, "AB": 3.0, "BA": 3.1}),
        ("AB", {"AA": 3.6, "AB": 3.0, "BA": 3.1}),
        ("BA", {"AA": 3.6, "AB": 3.0, "BA": 3.1}),
        ("AA'", {"AA'": 3.0, "AB'": 3.1, "A'B": 3.6}),
        ("AB'", {"AA'": 3.0, "AB'": 3.1, "A'B": 3.6}),
        ("A'B", {"AA'": 3.0, "AB'": 3.1, "A'B": 3.6}),
    ],
)
@pytest.mark.parametrize("centre", ["A", "B", "hollow"])
@pytest.mark.parametrize("layer", [MOLYBDENITE, turned_by_180(MOLYBDENITE)])
def test_gap_at_the_axis_is_that_of_the_stacking_there(
    stacking: str, distances: dict[str, float], centre: str, layer: Layer
) -> None:
    bottom, top = stacked(layer, layer, stacking, centre)
    structure = bilayer(bottom, top, two_integers(bottom, top, 13, 14), 3.0, corrugation=distances)
    half = structure.n_atoms // 2
    below = structure.positions[:half]
    above = structure.positions[half:]
    highest = below[below[:, 2] > below[:, 2].max() - 1.0]
    lowest = above[above[:, 2] < above[:, 2].min() + 1.0]
    planar = structure.lattice[:2, :2]

    def height(atoms: np.ndarray) -> float:
        """At the axis, from the nearest atoms of the surface."""
        apart = atoms[:, :2] @ np.linalg.inv(planar)
        apart = (apart - np.round(apart)) @ planar
        nearest = np.argsort(np.linalg.norm(apart, axis=1))[:3]
        return float(atoms[nearest, 2].mean())

    assert height(lowest) - height(highest) == pytest.approx(distances[stacking], abs=0.04)


def test_parallel_layers_near_60_degrees_are_antiparallel() -> None:
    cell = two_integers(MOLYBDENITE, MOLYBDENITE, 13, 1)
    assert abs(cell.angle) > 30
    distances = {"AA'": 3.0, "AB'": 3.1, "A'B": 3.6}
    structure = bilayer(MOLYBDENITE, MOLYBDENITE, cell, 3.0, corrugation=distances)
    assert structure.n_atoms == cell.n_atoms
    with pytest.raises(InputError, match="nearest to antiparallel"):
        bilayer(MOLYBDENITE, MOLYBDENITE, cell, 3.0, corrugation={"AA": 3.6, "AB": 3.0})


@pytest.mark.parametrize("distances", [{"AA": 3.6}, {"AB": 3.0, "BA": 3.0}, {"AA'": 3.0, "AB'": 3.1, "A'B": 3.6}])
def test_corrugation_without_its_registries_is_refused(distances: dict[str, float]) -> None:
    cell = two_integers(GRAPHENE, GRAPHENE, 6, 7)
    with pytest.raises(InputError, match="AA, BA, AB"):
        bilayer(GRAPHENE, GRAPHENE, cell, 3.35, corrugation=distances)


def test_layers_that_are_no_honeycomb_have_no_such_stacking() -> None:
    three = Layer(GRAPHENE.lattice, np.array([[0, 0], [1 / 3, 1 / 3], [2 / 3, 2 / 3]]), np.zeros(3), np.full(3, 6))
    square = Layer(np.diag([2.5, 2.5]), np.zeros((1, 2)), np.zeros(1), np.array([6]))
    off = Layer(GRAPHENE.lattice, np.array([[0, 0], [0.3, 0.36]]), np.zeros(2), np.array([6, 6]))
    for layer in (three, square, off):
        with pytest.raises(InputError, match=r"layer above.*honeycomb.*shift"):
            stacked(GRAPHENE, layer, "AB")


def test_buckled_layers_keep_their_buckling() -> None:
    bottom, top = stacked(BISMUTHENE, BISMUTHENE, "AB")
    structure = bilayer(bottom, top, two_integers(bottom, top, 1, 2), 3.0)
    assert structure.n_atoms == 28
    heights = np.unique(np.round(structure.positions[:, 2], 6))
    np.testing.assert_allclose(np.diff(heights), [1.595, 3.0, 1.595], atol=1e-6)


def test_built_in_graphene_is_the_one_of_old() -> None:
    np.testing.assert_allclose(built_in("graphene").positions, graphene().positions, atol=1e-12)
