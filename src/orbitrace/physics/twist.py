"""Twisted bilayers: two layers put on a cell that they share.

For equal hexagonal layers two integers are enough. With a1, a2 at 60 degrees, the layer below gets the supercell
``t1 = m a1 + n a2, t2 = -n a1 + (m + n) a2``, the one above the mirror image ``t1' = n a1 + m a2, t2' = -m a1 + (m + n) a2``;
both are hexagonal of length ``a sqrt(m^2 + m n + n^2)``. Turning t1' onto t1 twists the layers by
``cos(theta) = (n^2 + 4 m n + m^2) / (2 (n^2 + m n + m^2))`` (J. M. B. Lopes dos Santos, N. M. R. Peres and A. H. Castro Neto,
Phys. Rev. Lett. 99, 256802 (2007), in the notation of S. Shallcross, S. Sharma and O. A. Pankratov, Phys. Rev. Lett. 101,
056803 (2008)). Any other two layers share a cell that `commensurate` finds. Cells are counted in integers: none is lost or
doubled.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics import registry
from orbitrace.physics.commensurate import Coincidence, coincidence
from orbitrace.physics.layers import Layer, deviation, hexagonal, layer_of
from orbitrace.physics.materials import MATERIALS
from orbitrace.physics.structure import Floats, Ints, Structure

GRAPHENE = MATERIALS["graphene"].a  # Å, lattice constant
_HEXAGONAL = 1e-3  # relative deviation from a hexagonal lattice, and between two layers, that is taken for rounding


def graphene(a: float = GRAPHENE) -> Structure:
    """One layer of graphene with lattice constant a, Å: vectors at 60 degrees, an atom at the origin."""
    if not 0 < a < float("inf"):
        raise InputError("graphene", f"lattice constant {a} Å", "a positive length", f"Graphene has {GRAPHENE} Å")
    lattice = hexagonal(a, 20.0)
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
    """A commensurate twisted bilayer of hexagonal layers, by two integers.

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
    below = hexagonal_layer(bottom, "layer")
    above = below if top is None else hexagonal_layer(top, "layer above")
    cell = two_integers(below, above, m, n, max_strain=_HEXAGONAL)
    return bilayer(below, above, cell, distance, vacuum=vacuum, shift=shift)


def hexagonal_layer(structure: Structure, where: str) -> Layer:
    """The layer of a structure, which must be hexagonal; `where` names it in errors."""
    layer = layer_of(structure, where, _HEXAGONAL)
    if deviation(layer.lattice) > _HEXAGONAL:
        a, b = np.linalg.norm(layer.lattice, axis=1)
        angle = np.degrees(np.arccos(layer.lattice[1, 0] / b))
        found = f"{layer.n_atoms} atoms, in-plane vectors of {a:.4f} and {b:.4f} Å at {angle:.2f} degrees"
        raise InputError(where, found, "a hexagonal layer: equal lengths at 60 or 120 degrees", "Give its primitive cell")
    return layer


def two_integers(
    bottom: Layer, top: Layer, m: int, n: int, *, strained: str = "top", max_strain: float = _HEXAGONAL
) -> Coincidence:
    """The cell (m, n) of two hexagonal layers.

    Raises
    ------
    InputError
        If m and n are no twist, or the lattice constants differ more than the strain allows.
    """
    _check_integers(m, n)
    cell = coincidence(bottom, top, [[m, n], [-n, m + n]], [[n, m], [-m, m + n]], strained)
    if cell.strain > max_strain + 1e-9:
        a, other = bottom.lattice[0, 0], top.lattice[0, 0]
        raise InputError(
            "layer above",
            f"lattice constant {other:.4f} Å, a strain of {100 * cell.strain:.2f} %",
            f"{a:.4f} Å, as below, within {100 * max_strain:g} %",
            "Twist by an angle, which finds other cells for each layer, or strain one layer to the lattice of the other",
        )
    return cell


def bilayer(
    bottom: Layer,
    top: Layer,
    cell: Coincidence,
    distance: float,
    *,
    vacuum: float = 20.0,
    shift: tuple[float, float] = (0.0, 0.0),
    corrugation: Mapping[str, float] | None = None,
) -> Structure:
    """Two layers on a cell that they share.

    Parameters
    ----------
    bottom, top
        Turned about their origins, which come to stand on each other (`registry.stacked` chooses them).
    cell
        From `two_integers`, or `commensurate.coincidence` or `search`.
    distance, vacuum, shift
        As in `twisted_bilayer`.
    corrugation
        Distances by registry, Å, in place of `distance` (`registry.gaps`); the layers bend by half each, and keep their
        thickness.

    Returns
    -------
    Structure
        The cell's first vector along x, out of plane along z, atoms inside the cell, those below first.
    """
    _check_lengths(distance, vacuum, corrugation)
    moved = Layer(top.lattice, top.planar + np.array(shift), top.heights, top.numbers)
    planar = [_repeated(layer.planar, rows) @ cell.lattice for layer, rows in ((bottom, cell.bottom), (moved, cell.top))]
    cells = [len(xy) // layer.n_atoms for xy, layer in zip(planar, (bottom, top), strict=True)]
    z = [np.repeat(bottom.heights, cells[0]), np.repeat(top.heights + bottom.thickness, cells[1])]
    if corrugation is None:
        z[1] += distance
    else:
        bend = [registry.gaps(bottom, moved, cell, xy, corrugation) / 2 for xy in planar]
        z = [z[0] - bend[0], z[1] + bend[1]]
    heights = np.concatenate(z)
    heights += vacuum / 2 - heights.min()
    lattice = np.zeros((3, 3))
    lattice[:2, :2], lattice[2, 2] = cell.lattice, heights.max() + vacuum / 2
    numbers = np.concatenate([np.repeat(layer.numbers, n) for layer, n in zip((bottom, top), cells, strict=True)])
    positions = np.column_stack([np.concatenate(planar), heights])
    return Structure(positions, lattice, numbers, (True, True, False))


def _repeated(planar: Floats, rows: Ints) -> Floats:
    """The atoms of a layer in a supercell, in units of its vectors, from 0 to 1: [n_atoms * n_cells, 2].

    The cell (p, q) of the layer stands at ``(p, q) adj(rows) / det(rows)`` of the supercell. The Hermite normal form
    (g, h; 0, det/g) of `rows` gives one representative of each: p below g, q below det/g.
    """
    (a, b), (c, d) = rows.tolist()
    count, adjoint = a * d - b * c, np.array([[d, -b], [-c, a]])
    first = gcd(a, c)
    p, q = (grid.reshape(-1) for grid in np.meshgrid(np.arange(first), np.arange(count // first), indexing="ij"))
    numerators = np.stack([p, q], axis=1) @ adjoint % count
    cells = numerators @ rows // count
    numerators = numerators[np.lexsort([cells[:, 1], cells[:, 0]])]
    inside: Floats = ((planar @ adjoint)[:, None] + numerators[None]).reshape(-1, 2) / count % 1.0
    inside[inside > 1 - 1e-9] = 0.0
    return inside


def _check_integers(m: int, n: int) -> None:
    indices = f"(m, n) = ({m}, {n})"
    if m != int(m) or n != int(n) or m < 1 or n < 1:
        raise InputError("twist", indices, "two positive integers", "E.g. (1, 2) for 21.79 degrees, (31, 32) for 1.05")
    if m == n:
        raise InputError("twist", f"{indices} is no twist", "two different integers", f"E.g. ({m}, {m + 1})")
    if (common := gcd(int(m), int(n))) > 1:
        smaller = f"({m // common}, {n // common})"
        raise InputError("twist", f"{indices} has the common divisor {common}", smaller, f"{smaller} is the same twist")


def _check_lengths(distance: float, vacuum: float, corrugation: Mapping[str, float] | None) -> None:
    by_registry = {f"distance of {stacking}": length for stacking, length in (corrugation or {}).items()}
    for name, length in ({"layer distance": distance} | by_registry).items():
        if not 0 < length < float("inf"):
            raise InputError("twist", f"{name} {length} Å", "a positive length", "Graphene has 3.35 Å")
    if not 0 <= vacuum < float("inf"):
        raise InputError("twist", f"vacuum {vacuum} Å", "a length that is not negative", "20 Å separates the periodic images")
