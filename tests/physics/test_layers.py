"""Layers: where the plane is, what is no layer, and the built-in ones against their sources."""

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.layers import built_in, layer_of
from orbitrace.physics.materials import MATERIALS
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure


def bonds(structure: Structure, reach: float) -> np.ndarray:
    pairs = find_pairs(structure, Basis({z: Shells((0,), reach / 2) for z in structure.elements}))
    lengths = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    return lengths[lengths > 0]


@pytest.mark.parametrize(
    ("name", "length", "number"),
    [
        ("graphene", 1.420, 6),
        ("hbn", 1.446, 6),
        ("mos2_2h", 2.418, 12),
        ("mose2_2h", 2.523, 12),
        ("ws2_2h", 2.405, 12),
        ("wse2_2h", 2.526, 12),
        ("bismuthene", 3.071, 6),
        ("silicene", 2.254, 6),
    ],
)
def test_bonds_of_built_in_layers_are_those_of_the_crystals(name: str, length: float, number: int) -> None:
    found = bonds(built_in(name), 1.05 * length)
    assert len(found) == number
    np.testing.assert_allclose(found, length, atol=2e-3)


def test_every_built_in_layer_is_hexagonal_and_has_a_source() -> None:
    for name, material in MATERIALS.items():
        layer = layer_of(built_in(name), name)
        assert layer.hexagonal and layer.lattice[0, 0] == pytest.approx(material.a) and material.source
        assert layer.heights.min() == 0


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="graphene, hbn"):
        built_in("graphen")


def molybdenite_with_slanted_vacuum(z: float) -> Structure:
    """Periodic in all directions, the third vector not upright, the layer cut by the cell's boundary."""
    made = built_in("mos2_2h")
    lattice = made.lattice.copy()
    lattice[2] = [1.3, -0.7, 21.0]
    positions = made.positions + np.array([0, 0, z])
    below = positions[:, 2] < 0
    return Structure(positions + below[:, None] * lattice[2], lattice, made.numbers)


@pytest.mark.parametrize("z", [0.0, -1.0, -2.0, 5.0])
def test_layer_across_the_boundary_of_a_slanted_cell_is_put_together(z: float) -> None:
    layer, plain = (layer_of(structure, "layer") for structure in (molybdenite_with_slanted_vacuum(z), built_in("mos2_2h")))
    np.testing.assert_allclose(layer.heights, plain.heights, atol=1e-9)
    apart, expected = (one.planar - one.planar[0] for one in (layer, plain))
    np.testing.assert_allclose((apart - expected + 1e-9) % 1.0, 1e-9, atol=2e-9)


def test_vectors_of_any_layer_become_right_handed() -> None:
    lattice = np.array([[0, 0, 3.0], [4.1, 0, 1.2], [0, 15.0, 0]])  # second is to the right of the first, seen from above
    layer = layer_of(Structure(np.array([[0.4, 0, 1.1]]), lattice, np.array([6])), "layer")
    assert layer.lattice[0, 1] == 0 and layer.lattice[0, 0] == pytest.approx(3) and layer.lattice[1, 1] > 0
    assert layer.area == pytest.approx(3 * 4.1)
    assert not layer.hexagonal


@pytest.mark.parametrize(
    ("lattice", "pbc", "words"),
    [
        (np.diag([2.5, 2.5, 3.4]), (True, True, True), ("no vacuum along its third vector", "3.40", "at least 5 Å")),
        (np.diag([20.0, 2.5, 2.5]), (True, True, True), ("no vacuum", "along the first there is", "Turn the cell")),
        (np.diag([2.5, 2.5, 0.0]), (True, True, True), ("no vacuum",)),
        (np.diag([2.5, 20, 20]), (True, False, False), ("periodic in 1 of 3 directions", "periodic in two")),
        (np.zeros((3, 3)), (False, False, False), ("periodic in 0 of 3 directions",)),
        (np.array([[2.5, 0, 0], [5.0, 0, 0], [0, 0, 20]]), (True, True, False), ("span a plane",)),
    ],
)
def test_what_is_no_layer_is_refused(lattice: np.ndarray, pbc: tuple[bool, bool, bool], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        layer_of(Structure(np.zeros((1, 3)), lattice, np.array([6]), pbc), "layer above")
    for word in ("layer above", *words):
        assert word in str(caught.value)


def test_layer_without_atoms_is_refused() -> None:
    with pytest.raises(InputError, match="no atoms"):
        layer_of(Structure(np.zeros((0, 3)), np.eye(3), np.zeros(0, dtype=int)), "layer")
