"""A layer: a crystal of two dimensions, brought from any cell in space into a frame of its own.

In that frame the first in-plane vector points along x, the second stands to the left of it, and up is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.materials import MATERIALS
from orbitrace.physics.structure import Floats, Ints, Structure

VACUUM = 5.0  # Å, the least empty space that makes a layer of a periodic cell; gaps inside crystals of layers are below 4
_RIGID = 1e-5  # relative deviation from a hexagonal lattice that is taken for rounding


@dataclass(frozen=True, eq=False)
class Layer:
    """The cell of a layer.

    Parameters
    ----------
    lattice
        [2, 2] Å; rows a1 = (a, 0), and a2 to the left of it. A hexagonal lattice has a2 at 60 degrees.
    planar
        [n, 2] atoms in units of a1 and a2, anywhere.
    heights
        [n] Å above the lowest atom.
    numbers
        [n] atomic numbers.
    """

    lattice: Floats
    planar: Floats
    heights: Floats
    numbers: Ints

    @property
    def n_atoms(self) -> int:
        """Atoms in the cell."""
        return len(self.numbers)

    @property
    def thickness(self) -> float:
        """Å, from the lowest atom to the uppermost."""
        return float(self.heights.max())

    @property
    def area(self) -> float:
        """Å², of the cell."""
        return float(np.linalg.det(self.lattice))

    @property
    def hexagonal(self) -> bool:
        """Whether the lattice is hexagonal."""
        return deviation(self.lattice) < _RIGID


def built_in(name: str) -> Structure:
    """A layer of the table in `materials`: vectors at 60 degrees, its first atom on the axis through the origin.

    Raises
    ------
    InputError
        If there is no such name.
    """
    if name not in MATERIALS:
        raise InputError("layer", f"unknown name {name!r}", f"one of {', '.join(MATERIALS)}")
    material = MATERIALS[name]
    lattice = hexagonal(material.a, 20.0)
    numbers, thirds, heights = (np.array(column) for column in zip(*material.atoms, strict=True))
    positions = thirds[:, None] / 3 * (lattice[0] + lattice[1]) + heights[:, None] * np.array([0, 0, 1.0])
    return Structure(positions, lattice, numbers, (True, True, False))


def hexagonal(a: float, height: float) -> Floats:
    """Lattice with vectors at 60 degrees of length a, Å, and one along z."""
    return np.array([[a, 0, 0], [a / 2, a * sqrt(3) / 2, 0], [0, 0, height]])


def layer_of(structure: Structure, where: str, rounding: float = _RIGID) -> Layer:
    """The layer that a structure holds, wherever it stands in space.

    Parameters
    ----------
    structure
        Periodic in its plane. The direction that is not periodic is out of plane; if all are, the third one is, and must hold
        at least 5 Å of vacuum.
    where
        Names the layer in errors.
    rounding
        Relative deviation up to which a lattice is made exactly hexagonal, with the mean length of its vectors.

    Raises
    ------
    InputError
        If it has no atoms, is periodic in less than two directions, its vectors span no plane, or there is no vacuum.
    """
    out = _out_of_plane(structure, where)
    first, second = (structure.lattice[d] for d in range(3) if d != out)
    up = np.cross(first, second)
    if not np.isfinite(structure.lattice).all() or np.linalg.norm(up) <= 1e-6 * (first @ first + second @ second):
        raise InputError(where, f"in-plane vectors {first.tolist()} and {second.tolist()}", "two vectors that span a plane")
    up /= np.linalg.norm(up)
    apart = structure.lattice[out]
    if up @ apart < 0 or (not apart.any() and up[2] < 0):
        up = -up
    positions = _in_one_piece(structure, out, up, where)
    a = float(np.linalg.norm(first))
    x, y = first / a, np.cross(up, first / a)
    if second @ y < 0:
        second = -second
    if deviation(np.array([[a, 0], [second @ x, second @ y]])) < rounding:
        # a2 of a hexagonal lattice is the vector 60 degrees to the left of a1.
        second = second + first if second @ x < 0 else second
        b = (a + float(np.linalg.norm(second))) / 2
        flat = hexagonal(b, 1.0)[:2, :2]
    else:
        flat = np.array([[a, 0], [second @ x, second @ y]])
    inside = positions @ np.linalg.inv(np.stack([first, second, up]))
    return Layer(flat, inside[:, :2], inside[:, 2] - inside[:, 2].min(), structure.numbers)


def deviation(lattice: Floats) -> float:
    """How far a lattice [2, 2] is from a hexagonal one.

    The relative difference of its lengths, or that of the cosine of its angle and 1/2, whichever is more.
    """
    a, b = np.linalg.norm(lattice, axis=1)
    cosine = float(lattice[0] @ lattice[1] / (a * b))
    return max(abs(float(a / b) - 1), abs(abs(cosine) - 0.5))


def _out_of_plane(structure: Structure, where: str) -> int:
    """The direction out of plane."""
    if structure.n_atoms == 0:
        raise InputError(where, "no atoms", "the primitive cell of a layer")
    flat = [d for d in range(3) if not structure.pbc[d]]
    if len(flat) > 1:
        raise InputError(
            where,
            f"periodic in {3 - len(flat)} of 3 directions",
            "a layer, periodic in two directions",
            "Correct pbc in the file, or give the primitive cell of the layer",
        )
    return flat[0] if flat else 2


def _in_one_piece(structure: Structure, out: int, up: Floats, where: str) -> Floats:
    """Positions of a layer that may stick out of its periodic cell, put together at the vacuum: [n, 3]."""
    apart = structure.lattice[out]
    period = float(up @ apart)
    if not structure.pbc[out]:
        return structure.positions
    gaps = _gap(structure, out, up)
    if gaps[0] < VACUUM:
        others = [f"the {['first', 'second', 'third'][d]}" for d in range(3) if d != out and _has_vacuum(structure, d)]
        along = f"; along {' and '.join(others)} there is" if others else ""
        raise InputError(
            where,
            f"no vacuum along its third vector: the largest gap between atoms is {gaps[0]:.2f} Å{along}",
            f"a layer, with at least {VACUUM:g} Å of vacuum out of plane",
            "Turn the cell so that its vacuum is along the third vector, or say in the file which direction is not periodic",
        )
    z = structure.positions @ up
    wraps = np.floor((z - gaps[1] + 1e-9) / period)
    together: Floats = structure.positions - wraps[:, None] * apart
    return together


def _gap(structure: Structure, direction: int, normal: Floats) -> tuple[float, float]:
    """Largest gap between atoms along the normal of the other two vectors, and where it ends, Å."""
    period = abs(float(normal @ structure.lattice[direction]))
    if period == 0:
        return 0.0, 0.0
    ordered = np.sort((structure.positions @ normal) % period)
    gaps = np.diff(np.append(ordered, ordered[0] + period))
    largest = int(np.argmax(gaps))
    return float(gaps[largest]), float(ordered[(largest + 1) % len(ordered)])


def _has_vacuum(structure: Structure, direction: int) -> bool:
    first, second = (structure.lattice[d] for d in range(3) if d != direction)
    normal = np.cross(first, second)
    length = float(np.linalg.norm(normal))
    return length > 0 and _gap(structure, direction, normal / length)[0] >= VACUUM
