"""Group velocities dE/dk, in eV Å: divide by hbar for a velocity, 1 eV Å being 1.519e5 m/s.

Of H(k) c = E S(k) c follows, for c normalised in S, the theorem of Hellmann and Feynman for orbitals that move with k:

    dE/dk = c^H (dH/dk - E dS/dk) c

where both derivatives come from the same sum over R as H and S. For degenerate levels this is a matrix in the degenerate
space, and the slopes of the branches along a direction t are the eigenvalues of its component along t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from orbitrace.bands.observing import Found
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats
from orbitrace.units import HBAR

METRES_PER_SECOND = 1e-10 / HBAR  # of 1 eV Å
DEGENERATE = 1e-5  # eV: states of levels closer than this mix by rounding
SAME_SLOPE = 1e-5  # of the largest velocity in a degenerate group: branches that touch to first order


@dataclass(frozen=True, eq=False)
class Velocities:
    """Observer of velocities: [n, 3] eV Å, Cartesian.

    Parameters
    ----------
    direction
        [3] Cartesian; the branches of degenerate levels are those along it, slowest first. By default, and where they touch
        along it too, those along x, then y, then z.
    """

    direction: tuple[float, float, float] = (0.0, 0.0, 0.0)
    name: str = "velocities"

    def __call__(self, found: Found) -> Floats:
        """[n, 3] eV Å."""
        n = len(found.energies)
        result = np.zeros((n, 3))
        groups = degenerate_groups(found.energies)
        matrices = [np.zeros((3, len(group), len(group)), dtype=np.complex128) for group in groups]
        for axis in range(3):
            dh, ds = found.pencil.derivative(found.k, axis)
            slope = dh @ found.states
            tilt = ds @ found.states
            result[:, axis] = _diagonal(found.states, slope) - found.energies * _diagonal(found.states, tilt)
            for group, matrix in zip(groups, matrices, strict=True):
                within = slope[:, group] - found.energies[group].mean() * tilt[:, group]
                matrix[axis] = found.states[:, group].conj().T @ within
        for group, matrix in zip(groups, matrices, strict=True):
            result[group] = branches((matrix + matrix.conj().transpose(0, 2, 1)) / 2, np.array(self.direction))
        return result


def degenerate_groups(energies: Floats, gap: float = DEGENERATE) -> list[np.ndarray]:
    """Numbers of the levels of each group of two or more that follow each other within `gap`, eV."""
    breaks = np.flatnonzero(np.diff(energies) > gap) + 1
    return [group for group in np.split(np.arange(len(energies)), breaks) if len(group) > 1]


def branches(velocity: Values, direction: Floats) -> Floats:
    """[g, 3] velocities of the branches of a degenerate group from its matrices [3, g, g] along x, y and z."""
    scale = float(np.abs(velocity).max(initial=0.0))
    operators = [np.tensordot(direction, velocity, axes=1), *velocity] if direction.any() else list(velocity)
    basis: list[Values] = [np.eye(velocity.shape[1], dtype=np.complex128)]  # columns of each part that is not split yet
    for operator in operators:
        basis = [part for columns in basis for part in _split(operator, columns, SAME_SLOPE * scale)]
    mix = np.concatenate(basis, axis=1)
    slopes: Floats = np.einsum("ia,dij,ja->ad", mix.conj(), velocity, mix).real
    return slopes


def _split(operator: Values, columns: Values, same: float) -> list[Values]:
    """The eigenspaces of an operator within the span of some columns."""
    if columns.shape[1] == 1:
        return [columns]
    values, vectors = linalg.eigh(columns.conj().T @ operator @ columns)
    parts = np.split(columns @ vectors, np.flatnonzero(np.diff(values) > same) + 1, axis=1)
    return list(parts)


def _diagonal(states: Values, images: Values) -> Floats:
    """[n] the diagonal of states^H images."""
    diagonal: Floats = np.einsum("in,in->n", states.conj(), images).real
    return diagonal
