"""Radii of orbitals that no file declares: the smallest that explain which orbitals overlap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orbitrace.interchange import smallest_radii
from orbitrace.physics.blocks import Pairs
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats, Structure

OVERLAPPING = 1e-6  # as the door's check of lengths has it


def with_smallest_radii(basis: Basis, structure: Structure, pairs: Pairs, overlap: Floats) -> Basis:
    """The basis with radii that say of themselves that they are inferred.

    Parameters
    ----------
    basis
        Its radii are passed over.
    structure, pairs
        The atoms, and the pairs of the overlap.
    overlap
        Flat array over `pairs`.
    """
    counts = basis.n_orbitals(structure.numbers)
    ends = np.cumsum(counts[pairs[:, 3]] * counts[pairs[:, 4]])
    largest = np.maximum.reduceat(np.abs(overlap), np.concatenate([[0], ends[:-1]]).astype(np.int64))
    radii = smallest_radii(structure, pairs[largest > OVERLAPPING])
    return Basis({z: replace(s, cutoff=radii[z], inferred=True) for z, s in basis.shells.items()})
