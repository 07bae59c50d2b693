"""Relaxed positions: each atom finds its own, whatever the order and the images, or the file is refused."""

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.relaxed import relaxed
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene, twisted_bilayer

BUILT = twisted_bilayer(graphene(), 2, 3, 3.35)


def moved(scale: float = 0.1, seed: int = 0) -> np.ndarray:
    """Positions of the twist, each atom displaced; the mean height stays."""
    steps = np.random.default_rng(seed).uniform(-scale, scale, BUILT.positions.shape)
    steps[:, 2] -= steps[:, 2].mean()
    return BUILT.positions + steps


def file_of(positions: np.ndarray, **changes: object) -> Structure:
    given = {"lattice": BUILT.lattice, "numbers": BUILT.numbers, "pbc": (True, True, True)} | changes
    return Structure(positions, given["lattice"], given["numbers"], given["pbc"])  # type: ignore[arg-type]


def test_atoms_in_another_order_and_other_images_find_their_places() -> None:
    positions, random = moved(), np.random.default_rng(1)
    order = random.permutation(BUILT.n_atoms)
    images = np.column_stack([random.integers(-2, 3, (BUILT.n_atoms, 2)), np.zeros(BUILT.n_atoms)])
    found = file_of((positions + images @ BUILT.lattice)[order])
    result = relaxed(BUILT, found, "relaxed.vasp")
    np.testing.assert_allclose(result.positions, positions, atol=1e-9)
    np.testing.assert_array_equal(result.lattice, BUILT.lattice)
    assert result.pbc == (True, True, False)


def test_height_of_the_vacuum_and_wrapping_along_it_do_not_matter() -> None:
    positions, lattice = moved(), BUILT.lattice.copy()
    lattice[2, 2] = 31.0
    shifted = positions + np.array([0, 0, 17.0])
    shifted[:, 2] %= 31.0
    result = relaxed(BUILT, file_of(shifted, lattice=lattice), "relaxed.vasp")
    np.testing.assert_allclose(result.positions, positions, atol=1e-9)


def test_cell_turned_in_space_is_taken() -> None:
    positions = moved()
    turn = np.radians(37)
    q = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    found = Structure(positions, BUILT.lattice, BUILT.numbers).rotated(q)
    np.testing.assert_allclose(relaxed(BUILT, found, "relaxed.vasp").positions, positions, atol=1e-9)


def test_cell_with_vectors_at_120_degrees_is_taken() -> None:
    positions, lattice = moved(), BUILT.lattice.copy()
    lattice[1] -= lattice[0]
    np.testing.assert_allclose(
        relaxed(BUILT, file_of(positions, lattice=lattice), "relaxed.vasp").positions, positions, atol=1e-9
    )


def test_other_kinds_or_numbers_of_atoms_are_refused() -> None:
    numbers = BUILT.numbers.copy()
    numbers[3] = 7
    with pytest.raises(InputError, match=r"relaxed.vasp: 75 C, 1 N atoms. Expected those of the twist: 76 C"):
        relaxed(BUILT, file_of(moved(), numbers=numbers), "relaxed.vasp")


def test_another_cell_is_refused() -> None:
    lattice = BUILT.lattice * np.array([[1.01], [1.01], [1]])
    with pytest.raises(InputError, match=r"a cell of 10.8301 and 10.8301 Å at 60.00 degrees. Expected 10.7229 and 10.7229"):
        relaxed(BUILT, file_of(moved(), lattice=lattice), "relaxed.vasp")


def test_atoms_that_moved_too_far_are_refused_with_their_distance() -> None:
    positions = moved(0.01)
    positions[5, 0] += 0.65
    with pytest.raises(InputError, match=r"no C within 0.5 Å of \[.*\], as the twist has; the nearest is 0.6"):
        relaxed(BUILT, file_of(positions), "relaxed.vasp", within=0.5)


def test_atom_that_two_claim_is_refused() -> None:
    positions = moved(0.01)
    near = np.argsort(np.linalg.norm(BUILT.positions - BUILT.positions[20], axis=1))[1]
    positions[20] = BUILT.positions[near] + 0.02
    with pytest.raises(InputError, match="is the nearest to 2 atoms"):
        relaxed(BUILT, file_of(positions), "relaxed.vasp", within=3.0)
