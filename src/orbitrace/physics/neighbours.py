"""Which atoms share a block: all pairs whose orbitals can touch.

This is the rule by which OpenMX makes its own list (its files are reproduced exactly), so that a Hamiltonian predicted for a
new structure has the blocks that the DFT code would have written.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from vesin import NeighborList

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs, sort_pairs
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.structure import Structure

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
    search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    box = np.where(np.array(structure.pbc)[:, None], structure.lattice, 0.0)
    i, j, shift = search.compute(structure.positions, box, structure.pbc, quantities="ijS")
    pairs = np.empty((len(i), 5), dtype=np.int32)
    pairs[:, :3], pairs[:, 3], pairs[:, 4] = shift, i, j
    return pairs


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
