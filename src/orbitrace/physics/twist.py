"""Commensurate twisted bilayers from a primitive layer, by two integers.

With a1, a2 at 60 degrees, the layer below gets the supercell ``t1 = m a1 + n a2, t2 = -n a1 + (m + n) a2``, the one above the
mirror image ``t1' = n a1 + m a2, t2' = -m a1 + (m + n) a2``; both are hexagonal of length ``a sqrt(m^2 + m n + n^2)``. Turning
t1' onto t1 twists the layers by ``cos(theta) = (n^2 + 4 m n + m^2) / (2 (n^2 + m n + m^2))`` (J. M. B. Lopes dos Santos,
N. M. R. Peres and A. H. Castro Neto, Phys. Rev. Lett. 99, 256802 (2007), in the notation of S. Shallcross, S. Sharma and
O. A. Pankratov, Phys. Rev. Lett. 101, 056803 (2008)). Cells are counted in integers: none is lost or doubled.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, gcd, pi, sin, sqrt

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.structure import Floats, Ints, Structure

GRAPHENE = 2.46  # Å, lattice constant
_HEXAGONAL = 1e-3  # relative deviation from a hexagonal lattice, and between two layers, that is taken for rounding


def graphene(a: float = GRAPHENE) -> Structure:
    """One layer of graphene with lattice constant a, Å: vectors at 60 degrees, an atom at the origin."""
    if not 0 < a < float("inf"):
        raise InputError("graphene", f"lattice constant {a} Å", "a positive length", f"Graphene has {GRAPHENE} Å")
    lattice = np.array([[a, 0, 0], [a / 2, a * sqrt(3) / 2, 0], [0, 0, 20.0]])
    inside = np.array([[0, 0, 0], [1 / 3, 1 / 3, 0]])
    return Structure(inside @ lattice, lattice, np.array([6, 6]), (True, True, False))


def twist_angle(m: int, n: int) -> float:
    """Angle between the layers, degrees, between 0 and 60."""
    return float(np.degrees(np.arccos((n * n + 4 * m * n + m * m) / (2 * (n * n + m * n + m * m)))))


def twisted_bilayer(
    bottom: Structure,
    m: int,
    n: int,
    distance: float,
    *,
    top: Structure | None = None,
    vacuum: float = 20.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Structure:
    """A commensurate twisted bilayer.

    Parameters
    ----------
    bottom
        Primitive cell of a hexagonal layer of any thickness. The direction that is not periodic, or else the third one, is
        out of plane. Both layers are turned about the origin: an atom of graphene there gives the point group D3, the centre
        of a hexagon D6.
    m, n
        Positive, different, without common divisor. Graphene has 4 (m^2 + m n + n^2) atoms: 28 for (1, 2) at 21.79 degrees,
        11908 for (31, 32) at 1.05.
    distance
        Between the uppermost atoms below and the lowest atoms above, Å.
    top
        Layer above, if another one; of the same lattice constant.
    vacuum
        Å, from the uppermost atom to the lowest one of the next cell. The cell is periodic in the plane only.
    shift
        Displacement of the layer above, in its own primitive vectors (at 60 degrees), before it is turned.

    Returns
    -------
    Structure
        t1 along x, out of plane along z, atoms inside the cell, those below first.

    Raises
    ------
    InputError
        If m, n, distance or vacuum make no sense, a layer is not hexagonal, or the layers have different lattice constants.
    """
    _check_numbers(m, n, distance, vacuum)
    below = _layer(bottom, "layer")
    above = below if top is None else _layer(top, "layer above")
    if abs(above.a / below.a - 1) > _HEXAGONAL:
        raise InputError(
            "layer above",
            f"lattice constant {above.a:.4f} Å",
            f"{below.a:.4f} Å, as below",
            "Strain one layer to the lattice of the other, with its Hamiltonian in mind",
        )
    length, height = below.a * sqrt(m * m + m * n + n * n), below.thickness + distance + above.thickness + vacuum
    lattice = np.array([[length, 0, 0], [length / 2, length * sqrt(3) / 2, 0], [0, 0, height]])
    planar = [_repeated(below.planar, m, n), _repeated(above.planar + np.array(shift), n, m)]
    floors = [vacuum / 2, vacuum / 2 + below.thickness + distance]
    n_cells = m * m + m * n + n * n
    positions, numbers = [], []
    for layer, inside, floor in zip((below, above), planar, floors, strict=True):
        heights = np.repeat(floor + layer.heights, n_cells)
        positions.append(inside @ lattice[:2] + heights[:, None] * np.array([0.0, 0.0, 1.0]))
        numbers.append(np.repeat(layer.numbers, n_cells))
    return Structure(np.concatenate(positions), lattice, np.concatenate(numbers), (True, True, False))


@dataclass(frozen=True, eq=False)
class _Layer:
    """A primitive layer in a frame of its own."""

    a: float  # Å, lattice constant
    planar: Floats  # [n, 2] in units of a1, a2 at 60 degrees
    heights: Floats  # [n] Å above its lowest atom
    numbers: Ints  # [n]

    @property
    def thickness(self) -> float:
        return float(self.heights.max())


def _layer(structure: Structure, where: str) -> _Layer:
    """Find the plane, the two vectors at 60 degrees, and the heights of a layer."""
    flat = [d for d in range(3) if not structure.pbc[d]]
    out = flat[0] if len(flat) == 1 else 2
    first, second = (structure.lattice[d] for d in range(3) if d != out)
    a, b = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    cosine = float(first @ second / (a * b)) if a * b > 0 else 1.0
    if structure.n_atoms == 0 or abs(a / b - 1) > _HEXAGONAL or abs(abs(cosine) - 0.5) > _HEXAGONAL:
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        found = f"{structure.n_atoms} atoms, in-plane vectors of {a:.4f} and {b:.4f} Å at {angle:.2f} degrees"
        raise InputError(where, found, "a hexagonal layer: equal lengths at 60 or 120 degrees", "Give its primitive cell")
    up = np.cross(first, second)
    up /= np.linalg.norm(up)
    apart = structure.lattice[out]
    if up @ apart < 0 or (not apart.any() and up[2] < 0):
        up = -up
    # a2 is the lattice vector 60 degrees counterclockwise from a1, seen from above.
    turned = cos(pi / 3) * first + sin(pi / 3) * np.cross(up, first)
    second = min((second, -second, second + first, first - second), key=lambda v: float(np.linalg.norm(v - turned)))
    inside = structure.positions @ np.linalg.inv(np.stack([first, second, up]))
    period = float(up @ apart) if structure.pbc[out] else 0.0
    return _Layer((a + b) / 2, inside[:, :2], _heights(inside[:, 2], period), structure.numbers)


def _heights(z: Floats, period: float) -> Floats:
    """Heights above the lowest atom; a layer that sticks out of a periodic cell is put together at its largest gap."""
    if period > 0:
        z = z % period
        ordered = np.sort(z)
        gaps = np.diff(np.append(ordered, ordered[0] + period))
        lowest = ordered[(int(np.argmax(gaps)) + 1) % len(z)]
        z = (z - lowest + 1e-9) % period - 1e-9
    heights: Floats = z - z.min()
    return heights


def _repeated(planar: Floats, m: int, n: int) -> Floats:
    """The atoms of a layer in the supercell (m, n), in units of its vectors, from 0 to 1: [n_atoms * n_cells, 2].

    The cell (p, q) of the layer stands at ``(p (m + n) + q n, q m - p n) / N`` of the supercell, N = m^2 + m n + n^2; those
    with both numerators in 0..N-1 are its N cells.
    """
    count = m * m + m * n + n * n
    p, q = (grid.reshape(-1) for grid in np.meshgrid(np.arange(-n, m + 1), np.arange(m + 2 * n + 1), indexing="ij"))
    numerators = np.stack([p * (m + n) + q * n, q * m - p * n], axis=1)
    cells = numerators[((numerators >= 0) & (numerators < count)).all(axis=1)]
    atoms = planar @ np.array([[m + n, -n], [n, m]])
    inside: Floats = ((atoms[:, None] + cells[None]) / count).reshape(-1, 2) % 1.0
    inside[inside > 1 - 1e-9] = 0.0
    return inside


def _check_numbers(m: int, n: int, distance: float, vacuum: float) -> None:
    indices = f"(m, n) = ({m}, {n})"
    if m != int(m) or n != int(n) or m < 1 or n < 1:
        raise InputError("twist", indices, "two positive integers", "E.g. (1, 2) for 21.79 degrees, (31, 32) for 1.05")
    if m == n:
        raise InputError("twist", f"{indices} is no twist", "two different integers", f"E.g. ({m}, {m + 1})")
    if (common := gcd(int(m), int(n))) > 1:
        smaller = f"({m // common}, {n // common})"
        raise InputError("twist", f"{indices} has the common divisor {common}", smaller, f"{smaller} is the same twist")
    if not 0 < distance < float("inf"):
        raise InputError("twist", f"layer distance {distance} Å", "a positive length", "Graphene has 3.35 Å")
    if not 0 <= vacuum < float("inf"):
        raise InputError("twist", f"vacuum {vacuum} Å", "a length that is not negative", "20 Å separates the periodic images")
