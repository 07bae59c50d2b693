"""Uniform meshes of k points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orbitrace.bands.kpath import completed_lattice, periodic_directions
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs
from orbitrace.physics.structure import Floats, Structure

Divisions = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Mesh:
    """k points with weights.

    Parameters
    ----------
    kpoints
        [n_k, 3] fractional.
    weights
        [n_k] sum 1.
    divisions
        Points along each reciprocal lattice vector.
    """

    kpoints: Floats
    weights: Floats
    divisions: Divisions


def uniform_mesh(divisions: Divisions, time_reversal: bool) -> Mesh:
    """The mesh of the k = n / N, which holds Gamma, and the corner K of a hexagonal zone if N is divisible by 3.

    With `time_reversal` one of k and -k stands for both.
    """
    if min(divisions) < 1:
        raise InputError("mesh", f"{divisions} divisions", "three whole numbers from 1")
    n = np.array(divisions)
    places = np.stack(np.unravel_index(np.arange(n.prod()), n), axis=1)
    weights = np.full(len(places), 1.0 / len(places))
    if time_reversal:
        mirrored = np.ravel_multi_index((-places % n).T, n)
        keep = np.arange(len(places)) <= mirrored
        weights = np.where(mirrored == np.arange(len(places)), weights, 2 * weights)[keep]
        places = places[keep]
    return Mesh(places / n, weights, divisions)


def divisions_for(structure: Structure, spacing: float, pairs: Pairs | None = None) -> Divisions:
    """Divisions that leave at most `spacing` (1/Å, with 2 pi) between k points; 1 where bands cannot disperse.

    Where they can, divisions are multiples of 3: graphene and its twisted layers are filled up to the corners K of their
    zones, and a mesh that misses these puts the Fermi level off by tens of meV (measured).
    """
    if not (np.isfinite(spacing) and spacing > 0):
        raise InputError("mesh spacing", f"{spacing} 1/Å", "a positive number")
    inverse = np.linalg.inv(completed_lattice(structure))
    lengths = 2 * np.pi * np.linalg.norm(inverse, axis=0)
    directions = periodic_directions(structure, pairs)
    thirds = np.ceil(lengths / (3 * spacing) - 1e-9).astype(int)
    x, y, z = (3 * int(third) if d else 1 for third, d in zip(thirds, directions, strict=True))
    return x, y, z
