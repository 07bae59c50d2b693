"""How two hexagonal layers stand on each other, before the twist and after it.

The sites of a honeycomb layer are three threefold axes: A holds the layer's first atom, B the others, and the hollow nothing.
The names of stackings are those of the literature (bilayers of MoS2: J. He, K. Hummer and C. Franchini, Phys. Rev. B 89,
075409 (2014); boron nitride: G. Constantinescu, A. Kuc and T. Heine, Phys. Rev. Lett. 111, 036104 (2013)):

* parallel layers, R type: AA, site on like site; AB, the B above over the A below; BA, the A above over the B below (3R);
* antiparallel layers, H type, the one above turned by 180 degrees: AA', A over B and B over A (2H); AB', A over A alone;
  A'B, B over B alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.commensurate import Coincidence
from orbitrace.physics.layers import Layer
from orbitrace.physics.structure import Floats, Ints

# Where site A above stands on the layer below: 0 at A, 1 at B, 2 at the hollow.
PARALLEL = {"AA": 0, "BA": 1, "AB": 2}
ANTIPARALLEL = {"AB'": 0, "AA'": 1, "A'B": 2}
SITES = {"A": 0, "B": 1, "hollow": 2}
_ON_SITE = 1e-3  # of a lattice vector


def stacked(bottom: Layer, top: Layer, stacking: str, centre: str = "A") -> tuple[Layer, Layer]:
    """Two layers shifted, and the one above turned by 180 degrees if need be, so that they are stacked at angle 0.

    Parameters
    ----------
    stacking
        AA, AB, BA; AA', AB' or A'B.
    centre
        Site of the layer below that comes to the origin, about which the twist turns: A, B or hollow.

    Raises
    ------
    InputError
        If a layer is no honeycomb: two of three threefold axes taken.
    """
    origin, sense = _honeycomb(bottom, "layer below", f"stacking {stacking}")
    other, sense_above = _honeycomb(top, "layer above", f"stacking {stacking}")
    planar = top.planar
    if (sense == sense_above) != (stacking in PARALLEL):
        planar, other = -planar, -other
    third = sense / 3 * np.ones(2)
    below = origin + SITES[centre] * third
    above = other + (SITES[centre] - (PARALLEL | ANTIPARALLEL)[stacking]) * third
    return (
        Layer(bottom.lattice, bottom.planar - below, bottom.heights, bottom.numbers),
        Layer(top.lattice, planar - above, top.heights, top.numbers),
    )


def gaps(bottom: Layer, top: Layer, cell: Coincidence, positions: Floats, distances: Mapping[str, float]) -> Floats:
    """Distance of the layers at some points of a cell, from their local registry.

    The displacement of the layers against each other at a point, in primitive vectors, gives the phases p1, p2 and
    p3 = -p1 - p2 of the shortest reciprocal vectors, and the distance is ``d = c0 + c1 sum cos p + c2 sum sin p``: the lowest
    Fourier components with threefold symmetry, which take the three given values where the registry is one of the three
    stackings. With d(AB) = d(BA) it is the model of M. Koshino et al., Phys. Rev. X 8, 031087 (2018), for twisted graphene,
    whose values are 3.60 Å (AA) and 3.35 Å (AB).

    Parameters
    ----------
    positions
        [n, 2] Å, in the frame of the cell; the twist turns about its origin.
    distances
        Å, of AA, AB and BA (which may be left out), or of AB', AA' and A'B if the layers are nearest to antiparallel.

    Raises
    ------
    InputError
        If a layer is no honeycomb, or the names are not those of these layers.
    """
    origin, sense = _honeycomb(bottom, "layer below", "corrugation")
    other, sense_above = _honeycomb(top, "layer above", "corrugation")
    sixths = round(cell.angle / 60)
    # Takes the layer above back to the direction of its lattice that is nearest to the one below.
    turn = np.linalg.matrix_power(np.array([[0, 1], [-1, 1]]), sixths % 6)
    parallel = sense == (sense_above if sixths % 2 == 0 else 3 - sense_above)
    at = _values(distances, PARALLEL if parallel else ANTIPARALLEL, cell)
    below = positions @ np.linalg.inv(cell.lattice) @ cell.bottom - origin
    above = (positions @ np.linalg.inv(cell.lattice) @ cell.top - other) @ turn
    phases = 2 * np.pi * (below - above) * (1 if sense == 1 else -1)
    phases = np.concatenate([phases, -phases.sum(axis=1, keepdims=True)], axis=1)
    mean = float(at.mean())
    even, odd = (at[0] - mean) / 3, (at[1] - at[2]) / (3 * np.sqrt(3))
    result: Floats = mean + even * np.cos(phases).sum(axis=1) + odd * np.sin(phases).sum(axis=1)
    return result


def _values(distances: Mapping[str, float], stackings: Mapping[str, int], cell: Coincidence) -> Floats:
    """Distances with site A above at A, B and the hollow below."""
    given = dict(distances)
    if set(given) == {"AA", "AB"} and "AA" in stackings:
        given["BA"] = given["AB"]
    if set(given) != set(stackings):
        kind = "parallel" if "AA" in stackings else "antiparallel"
        raise InputError(
            "corrugation",
            f"distances of {', '.join(distances)}",
            f"those of {', '.join(stackings)}: at {cell.angle:.2f} degrees the layers are nearest to {kind}",
        )
    return np.array([given[name] for name in sorted(stackings, key=lambda name: stackings[name])])


def _honeycomb(layer: Layer, where: str, purpose: str) -> tuple[Floats, int]:
    """Site A of a layer [2], and 1 or 2: the thirds of a1 + a2 from there to site B."""
    thirds = (layer.planar - layer.planar[0]) * 3
    taken: Ints = np.unique(np.round(thirds[:, 0]).astype(np.int64) % 3)
    apart = thirds - np.round(thirds)
    on_axes = layer.hexagonal and np.abs(apart).max() < 3 * _ON_SITE
    on_axes = on_axes and bool((np.round(thirds[:, 0] - thirds[:, 1]) % 3 == 0).all())
    if not on_axes or len(taken) != 2:
        raise InputError(
            where,
            f"{layer.n_atoms} atoms that do not take two of the three threefold axes of a hexagonal cell",
            f"a honeycomb layer, for {purpose}",
            "Leave it out, and set the registry by shift",
        )
    return layer.planar[0], int(taken[taken != 0][0])
