"""Which atoms share a block: all pairs whose orbitals can touch.

This is the rule by which OpenMX makes its own list (its files are reproduced exactly), so that a Hamiltonian predicted for a
new structure has the blocks that the DFT code would have written.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs, sort_pairs
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.structure import Floats, Ints, Structure

# Å. Neighbours of a perfect crystal may lie on the cutoff itself; rounding must not decide about them.
TOLERANCE = 1e-9


def find_pairs(structure: Structure, basis: Basis) -> Pairs:
    """All pairs of atoms (i in cell 0, j in cell R) whose orbitals can overlap.

    Parameters
    ----------
    structure
        Atoms anywhere, in the cell or far outside it. Directions that are not periodic have R = 0 only; their lattice vector
        may be zero.
    basis
        Gives the cutoff radius of each element's orbitals, Å.

    Returns
    -------
    Pairs
        [n_pairs, 5] int32 Rx, Ry, Rz, i, j with ``|tau_j + R - tau_i| <= rc_i + rc_j`` (inclusive), both directions, and
        each atom with itself; sorted as in `Blocks`.

    Raises
    ------
    InputError
        If an element has no basis, a position is not finite, or periodic lattice vectors are not linearly independent.
    """
    _check(structure, basis)
    atoms = np.arange(structure.n_atoms)
    onsite = np.stack([*np.zeros((3, len(atoms)), dtype=np.int64), atoms, atoms], axis=1)
    cutoffs = basis.cutoffs(structure.numbers)
    if len(atoms) == 0:
        return onsite.astype(np.int32)
    pairs = _within(structure, 2 * float(cutoffs.max()) + TOLERANCE)
    lengths = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    pairs = pairs[lengths <= cutoffs[pairs[:, 3]] + cutoffs[pairs[:, 4]] + TOLERANCE]
    pairs = np.concatenate([onsite.astype(np.int32), pairs])
    return pairs[sort_pairs(pairs)]


def _within(structure: Structure, cutoff: float) -> Pairs:
    """Pairs no farther apart than one common cutoff, without the atoms themselves, unsorted."""
    periodic = np.flatnonzero(structure.pbc)
    cell = structure.lattice[periodic]
    inverse = np.linalg.pinv(cell)  # columns: the coordinate along a vector grows by at most their length per Å
    home = -np.floor(structure.positions @ inverse).astype(np.int64)  # takes each atom into the cell, wherever it stands
    wrapped = structure.positions + home @ cell
    images, atoms = _images(wrapped @ inverse, cutoff * np.linalg.norm(inverse, axis=0))
    found = cKDTree(wrapped).sparse_distance_matrix(cKDTree(wrapped[atoms] + images @ cell), cutoff, output_type="ndarray")
    i, image = found["i"], found["j"]
    pairs = np.zeros((len(i), 5), dtype=np.int32)
    pairs[:, periodic] = images[image] + home[atoms[image]] - home[i]
    pairs[:, 3], pairs[:, 4] = i, atoms[image]
    itself = (pairs[:, 3] == pairs[:, 4]) & (images[image] == 0).all(axis=1)
    others: Pairs = pairs[~itself]
    return others


def _images(inside: Floats, reach: Floats) -> tuple[Ints, Ints]:
    """Images that lie close to the cell: their lattice vectors [n, d], and the atoms that they are images of [n].

    `inside` [n_atoms, d] are the coordinates of the atoms in their d periodic directions, `reach` [d] how far to go in each.
    """
    steps = [np.arange(-limit, limit + 1) for limit in np.floor(reach + 1).astype(np.int64)]
    shifts = (
        np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, len(steps)) if steps else np.zeros((1, 0), np.int64)
    )
    low, high = inside.min(axis=0) - reach, inside.max(axis=0) + reach
    near = [((inside + shift >= low) & (inside + shift <= high)).all(axis=1).nonzero()[0] for shift in shifts]
    return np.repeat(shifts, [len(some) for some in near], axis=0), np.concatenate(near)


def _check(structure: Structure, basis: Basis) -> None:
    """Refuse what would give a wrong list, or none."""
    unknown = [SYMBOLS[z] for z in structure.elements if z not in basis]
    if unknown:
        known = ", ".join(SYMBOLS[z] for z in basis.elements)
        raise InputError("structure", f"no basis for {', '.join(unknown)}", f"elements among {known}")
    if not np.isfinite(structure.positions).all():
        bad = int(np.flatnonzero(~np.isfinite(structure.positions).all(axis=1))[0])
        raise InputError("structure", f"position of atom {bad} is {structure.positions[bad]}", "finite numbers")
    periodic: NDArray[np.float64] = structure.lattice[np.array(structure.pbc)]
    lengths = np.linalg.norm(periodic, axis=1)
    volume = np.sqrt(max(np.linalg.det(periodic @ periodic.T), 0.0)) if len(periodic) else 1.0
    if not np.isfinite(periodic).all() or volume <= 1e-9 * np.prod(lengths) or (lengths == 0).any():
        raise InputError(
            "structure",
            f"lattice {structure.lattice.tolist()} with pbc {structure.pbc}",
            "linearly independent vectors in the periodic directions",
        )
