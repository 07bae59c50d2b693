"""Calculations of random numbers with the structure of real ones: sorted pairs, both directions, Hermitian blocks."""

from __future__ import annotations

from itertools import product

import numpy as np

from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure

# Molybdenum has as many orbitals here as carbon, in other shells: blocks of one shape belong to different pairs of shells.
BASIS = Basis(
    {
        6: Shells((0, 0, 1), 2.0, 4.0),
        14: Shells((0, 0, 1, 2), 2.5, 4.0),
        42: Shells((2,), 2.2, None),
        1: Shells((0,), 1.0, 1.0),
    }
)


def calculation(
    seed: int = 0,
    spin: Spin = Spin.NONE,
    elements: tuple[int, ...] = (6, 14, 42),
    n_atoms: int = 4,
    basis: Basis = BASIS,
    own_overlap_pairs: bool = False,
    pbc: tuple[bool, bool, bool] = (True, True, False),
    fermi_level: float | None = -4.25,
) -> Calculation:
    """A random calculation; `own_overlap_pairs` gives the overlap fewer pairs than the Hamiltonian."""
    rng = np.random.default_rng(seed)
    structure = Structure(
        rng.uniform(-4, 8, (n_atoms, 3)), 3.0 * np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3)), rng.choice(elements, n_atoms), pbc
    )
    pairs = all_pairs(structure)
    near = pairs[np.abs(pairs[:, :3]).sum(axis=1) == 0] if own_overlap_pairs else pairs
    return Calculation(
        structure,
        basis.restricted(structure.elements),
        random_blocks(rng, pairs, structure, basis, spin),
        random_blocks(rng, near, structure, basis, Spin.NONE),
        fermi_level,
        float(4 * n_atoms),
        spin,
        Provenance("synthetic", "1", f"folder/{seed}", {"raw": "0" * 64}),
    )


def all_pairs(structure: Structure) -> np.ndarray:
    """Every pair of atoms with R in the next cells of the periodic directions: [n, 5], in no particular order."""
    ranges = [range(-1, 2) if periodic else range(1) for periodic in structure.pbc]
    atoms = range(structure.n_atoms)
    return np.array([(*r, i, j) for r in product(*ranges) for i in atoms for j in atoms], dtype=np.int32)


def random_blocks(rng: np.random.Generator, pairs: np.ndarray, structure: Structure, basis: Basis, spin: Spin) -> Blocks:
    """Hermitian blocks of normal random numbers, complex if spin is non-collinear."""
    counts = basis.n_orbitals(structure.numbers) * spin.components
    size = int((counts[pairs[:, 3]] * counts[pairs[:, 4]]).sum())
    values = rng.normal(size=size)
    if spin is Spin.NONCOLLINEAR:
        values = values + 1j * rng.normal(size=size)
    return Blocks.over(pairs, structure, basis, values, spin.components).hermitian()


def assert_equal(left: Calculation, right: Calculation) -> None:
    """Two calculations are the same to the last bit."""
    for name in ("positions", "lattice", "numbers"):
        np.testing.assert_array_equal(getattr(left.structure, name), getattr(right.structure, name))
    assert left.structure.pbc == right.structure.pbc
    for mine, theirs in ((left.hamiltonian, right.hamiltonian), (left.overlap, right.overlap)):
        assert mine.values.dtype == theirs.values.dtype
        for name in ("pairs", "shapes", "values"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    assert (left.basis, left.fermi_level, left.n_electrons) == (right.basis, right.fermi_level, right.n_electrons)
    assert (left.spin, left.provenance) == (right.spin, right.provenance)
    assert (left.initial is None) == (right.initial is None)
    if left.initial is not None and right.initial is not None:
        assert left.initial.values.dtype == right.initial.values.dtype
        np.testing.assert_array_equal(left.initial.values, right.initial.values)
        np.testing.assert_array_equal(left.initial.pairs, right.initial.pairs)
