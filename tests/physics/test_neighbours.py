"""The list of pairs: complete, inclusive, both ways, and the one that OpenMX itself writes."""

from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.blocks import sort_pairs
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure

BASIS = Basis({6: Shells((0, 1), 1.7), 42: Shells((0, 1, 2), 2.3)})


def brute_force(structure: Structure, basis: Basis, reach: int) -> np.ndarray:
    cutoffs = basis.cutoffs(structure.numbers)
    ranges = [range(-reach, reach + 1) if periodic else (0,) for periodic in structure.pbc]
    atoms = range(structure.n_atoms)
    pairs = np.array([(*r, i, j) for r in product(*ranges) for i in atoms for j in atoms], dtype=np.int32)
    lengths = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    pairs = pairs[lengths <= cutoffs[pairs[:, 3]] + cutoffs[pairs[:, 4]] + 1e-9]
    return pairs[sort_pairs(pairs)]


def random_structure(pbc: tuple[bool, bool, bool], lattice: np.ndarray, spread: float = 1.0) -> Structure:
    rng = np.random.default_rng(3)
    return Structure(rng.uniform(-spread, spread, (6, 3)) @ np.diag([3, 3, 3]), lattice, rng.choice([6, 42], 6), pbc)


@pytest.mark.parametrize("pbc", list(product([True, False], repeat=3)))
def test_pairs_equal_brute_force_for_atoms_outside_a_skew_cell(pbc: tuple[bool, bool, bool]) -> None:
    lattice = np.array([[3.1, 0.2, 0.0], [-1.4, 2.9, 0.3], [0.1, 0.4, 4.0]])
    structure = random_structure(pbc, lattice, spread=2.0)
    np.testing.assert_array_equal(find_pairs(structure, BASIS), brute_force(structure, BASIS, 9))


def test_directions_without_period_may_have_zero_vectors() -> None:
    structure = random_structure((True, True, False), np.array([[3.0, 0, 0], [0, 3.5, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(find_pairs(structure, BASIS), brute_force(structure, BASIS, 5))
    molecule = random_structure((False, False, False), np.zeros((3, 3)))
    np.testing.assert_array_equal(find_pairs(molecule, BASIS), brute_force(molecule, BASIS, 0))


def test_a_pair_on_the_cutoff_is_in_the_list() -> None:
    edge = Structure(np.array([[0, 0, 0], [0.1 + 3.3, 0, 0]]), np.zeros((3, 3)), np.array([6, 6]), (False,) * 3)
    assert len(find_pairs(edge, BASIS)) == 4
    beyond = Structure(np.array([[0, 0, 0], [3.4 + 1e-8, 0, 0]]), np.zeros((3, 3)), np.array([6, 6]), (False,) * 3)
    assert len(find_pairs(beyond, BASIS)) == 2


@pytest.mark.parametrize("folder", ["data/bilayers/000", "references/AB", "references/twisted_1_2"])
def test_pairs_are_those_that_openmx_wrote(example: Path, folder: str) -> None:
    from orbitrace import readers

    calculation = readers.read(example / folder)
    np.testing.assert_array_equal(find_pairs(calculation.structure, calculation.basis), calculation.overlap.pairs)


@pytest.mark.parametrize("folder", ["mos2/000", "graphene_hbn/000", "bismuthene_soc/000"])
def test_pairs_of_several_elements_are_those_that_openmx_wrote(shared_data: Path, folder: str) -> None:
    from orbitrace import readers

    calculation = readers.read(shared_data / "openmx" / folder)
    np.testing.assert_array_equal(find_pairs(calculation.structure, calculation.basis), calculation.overlap.pairs)


def test_ten_thousand_atoms_take_seconds() -> None:
    side = 22
    grid = 2.2 * np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    structure = Structure(grid, 2.2 * side * np.eye(3), np.full(side**3, 6))
    start = perf_counter()
    pairs = find_pairs(structure, BASIS)
    assert perf_counter() - start < 10
    assert len(pairs) == side**3 * (1 + 6 + 12)


def test_an_element_without_basis_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="no basis for Si"):
        find_pairs(Structure(np.zeros((1, 3)), np.eye(3), np.array([14])), BASIS)


def test_a_flat_cell_is_refused() -> None:
    with pytest.raises(InputError, match="linearly independent"):
        find_pairs(Structure(np.zeros((1, 3)), np.array([[1, 0, 0], [2, 0, 0], [0, 0, 1]]), np.array([6])), BASIS)


def test_a_position_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="atom 0"):
        find_pairs(Structure(np.full((1, 3), np.nan), np.eye(3), np.array([6])), BASIS)
