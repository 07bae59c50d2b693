"""Cells that two layers have in common: found in integers, with the strain that makes them fit.

Supercells M A of the layer below and N B of the one above (integer matrices M, N; rows of A, B are the primitive vectors)
coincide if the layer above is deformed by F, ``M A = N B F^T``. Polar decomposition F = V Q splits it in a pure turn Q, the
twist, and a pure stretch V (symmetric), the strain: no part of the angle hides in the strain, nor the other way. The stretch
may be given to the layer above, V, to the layer below, V^-1, or half to each, V^(1/2) and V^(-1/2); the twist is the same.

The search lists pairs of lattice vectors, one of each layer, whose lengths differ by no more than the strain allows, and that
the asked turn brings together: neighbours in the plane of (log of length, direction). Two such pairs make a cell. Only cells
whose vectors are reduced in the sense of Gauss and Lagrange are made, each coincidence once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from orbitrace.errors import InputError
from orbitrace.physics.layers import Layer
from orbitrace.physics.structure import Floats, Ints

TOP_SHARE = {"bottom": 0.0, "both": 0.5, "top": 1.0}  # exponent of V that the layer above takes
ASPECT = 4.0  # the longest cells that are looked for, long side over short
_ROUNDING = 1e-9
_RIVALS = 0.1  # degrees between cells that could stand for each other
_CROWD = 2000  # cells that are enough to choose from


@dataclass(frozen=True, eq=False)
class Coincidence:
    """A cell that two layers share.

    Parameters
    ----------
    bottom, top
        [2, 2] integers; rows are its vectors in primitive vectors of each layer.
    lattice
        [2, 2] Å, its vectors: reduced, right-handed, the first (shortest) along x.
    angle
        Degrees by which the layer above is turned counterclockwise, seen from above; -180 to 180.
    strain_bottom, strain_top
        [2, 2] symmetric, in the frame of `lattice`: change of length per length of each layer.
    n_atoms
        Atoms of both layers in it.
    """

    bottom: Ints
    top: Ints
    lattice: Floats
    angle: float
    strain_bottom: Floats
    strain_top: Floats
    n_atoms: int

    @property
    def strain(self) -> float:
        """Largest change of length per length, of any direction in either layer."""
        return float(np.abs(np.linalg.eigvalsh(np.stack([self.strain_bottom, self.strain_top]))).max())

    def __str__(self) -> str:
        return f"{self.n_atoms} atoms, {self.angle:.4f} degrees, strain {100 * self.strain:.4f} %"


def coincidence(bottom: Layer, top: Layer, rows_bottom: Any, rows_top: Any, strained: str = "top") -> Coincidence:
    """The cell of two given supercells.

    Parameters
    ----------
    rows_bottom, rows_top
        [2, 2] integers, the same vectors in primitive vectors of each layer. They are reduced, together.
    strained
        The layer that is strained: top, bottom, or both by half.

    Raises
    ------
    InputError
        If a supercell is flat or left-handed.
    """
    m, n = np.array(rows_bottom, dtype=np.int64), np.array(rows_top, dtype=np.int64)
    for rows, where in ((m, "layer below"), (n, "layer above")):
        if _det(rows) <= 0:
            found = f"vectors {rows.tolist()} with determinant {int(_det(rows))}"
            raise InputError(f"supercell of the {where}", found, "a positive determinant", "Exchange the two vectors")
    share = TOP_SHARE[strained]
    q, v = _polar(np.asarray(np.linalg.solve(n @ top.lattice, m @ bottom.lattice).T, dtype=np.float64))
    below, above = _power(v, share - 1), _power(v, share)
    cell = m @ bottom.lattice @ below
    change = reduction(cell)
    cell = change @ cell
    length = float(np.linalg.norm(cell[0]))
    turn = np.array([[cell[0, 0], cell[0, 1]], [-cell[0, 1], cell[0, 0]]]) / length
    return Coincidence(
        bottom=change @ m,
        top=change @ n,
        lattice=np.array([[length, 0.0], [float(cell[0] @ cell[1]) / length, float(np.linalg.det(cell)) / length]]),
        angle=float(np.degrees(np.arctan2(q[1, 0], q[0, 0]))),
        strain_bottom=turn @ (below - np.eye(2)) @ turn.T,
        strain_top=turn @ (above - np.eye(2)) @ turn.T,
        n_atoms=int(_det(m)) * bottom.n_atoms + int(_det(n)) * top.n_atoms,
    )


def reduction(lattice: Floats) -> Ints:
    """Integer matrix [2, 2] of determinant 1 that reduces a lattice (Gauss, Lagrange).

    The shortest vectors, at 60 to 120 degrees; 60 rather than 120. A lattice that is reduced already is kept.
    """
    change: Ints = np.eye(2, dtype=np.int64)
    while True:
        one, two = change @ lattice
        share = float(one @ two / (one @ one))
        if share > 0.5 + _ROUNDING or share <= -0.5 + _ROUNDING:
            change[1] -= (int(np.ceil(share - 0.5 - _ROUNDING))) * change[0]
        elif two @ two < (one @ one) * (1 - _ROUNDING):
            change = np.stack([change[1], -change[0]])
        else:
            return change


def search(
    bottom: Layer,
    top: Layer,
    angle: float,
    tolerance: float,
    max_strain: float,
    max_atoms: int,
    *,
    strained: str = "top",
    limit: int | None = None,
    everything: bool = False,
) -> list[Coincidence]:
    """Cells that two layers share, near an angle: those of fewest atoms first, none twice, none a multiple of another.

    Parameters
    ----------
    angle, tolerance
        Degrees; cells with angles up to `tolerance` (at most 90) on either side.
    max_strain
        Largest change of length per length, of any direction in either layer; 0 finds exact coincidences.
    max_atoms
        Of both layers.
    strained
        The layer that is strained: top, bottom, or both by half.
    limit
        End after so many, or where there are thousands.
    everything
        Also cells that are no better than a smaller one: neither less strained, nor 0.1 degrees away from it.

    Returns
    -------
    list
        Complete up to `limit` and `max_atoms`, for cells whose sides differ by a factor up to 4. Those that differ only by a
        symmetry of the lattices are listed once.
    """
    smallest = bottom.n_atoms + top.n_atoms
    size, found = max_atoms if limit is None else min(8 * smallest, max_atoms), _Cells.none()
    while size >= smallest:
        crowd = _search(bottom, top, angle, tolerance, max_strain, size, strained)
        found = crowd if everything else crowd[_better(crowd)]
        if size >= max_atoms or (limit is not None and (len(found) >= limit or (len(found) and len(crowd) > _CROWD))):
            break
        size = min(2 * size if len(crowd) < _CROWD // 20 else size * 5 // 4, max_atoms)
    return [coincidence(bottom, top, m, n, strained) for m, n in zip(found.bottom[:limit], found.top[:limit], strict=True)]


def best(
    bottom: Layer, top: Layer, angle: float, tolerance: float, max_strain: float, max_atoms: int, *, strained: str = "top"
) -> Coincidence | None:
    """Of the cells with up to a quarter more atoms than the smallest that `search` finds, the least strained; or None."""
    window = bottom, top, angle, tolerance, max_strain
    smallest = search(*window, max_atoms, strained=strained, limit=1)
    if not smallest:
        return None
    cells = search(*window, min(smallest[0].n_atoms * 5 // 4, max_atoms), strained=strained)
    return min(cells, key=lambda cell: (round(cell.strain, 7), cell.n_atoms))


def nearest(
    bottom: Layer, top: Layer, angle: float, tolerance: float, max_strain: float, max_atoms: int, *, strained: str = "top"
) -> Coincidence | None:
    """Where `search` finds nothing: the cell that misses angle and strain least.

    Both count in units of what was allowed, of 0.01 degrees and 0.01 % at least. None if not even one primitive cell of each
    layer has so few atoms.
    """
    degrees, strain = max(tolerance, 0.01), max(max_strain, 1e-4)
    factor = 2
    while factor * strain < 0.5 or factor * degrees < 90:
        wide = min(factor * degrees, 90.0), min(factor * strain, 0.3)
        cells = search(bottom, top, angle, *wide, max_atoms, strained=strained, everything=True)
        if cells:
            return min(cells, key=lambda cell: max(off(cell.angle, angle) / degrees, cell.strain / strain))
        factor *= 2
    return None


def off(angle: float, asked: float) -> float:
    """Distance of two angles, degrees, around the circle."""
    return abs((angle - asked + 180) % 360 - 180)


@dataclass(frozen=True, eq=False)
class _Cells:
    """Many coincidences as arrays."""

    bottom: Ints  # [n, 2, 2]
    top: Ints  # [n, 2, 2]
    angles: Floats  # [n] degrees from the one asked for
    strains: Floats  # [n]

    @classmethod
    def none(cls) -> _Cells:
        empty = np.zeros((0, 2, 2), dtype=np.int64)
        return cls(empty, empty, np.zeros(0), np.zeros(0))

    def __len__(self) -> int:
        return len(self.bottom)

    def __getitem__(self, chosen: NDArray[Any]) -> _Cells:
        return _Cells(self.bottom[chosen], self.top[chosen], self.angles[chosen], self.strains[chosen])


def _better(cells: _Cells) -> Ints:
    """Of cells that are sorted by atoms, those that are less strained than all smaller ones of nearly the same angle."""
    kept: list[int] = []
    for i in range(len(cells)):
        rivals = np.array(kept, dtype=np.int64)
        rivals = rivals[np.abs(cells.angles[rivals] - cells.angles[i]) < _RIVALS]
        if not (cells.strains[rivals] <= cells.strains[i] + 1e-8).any():
            kept.append(i)
    return np.array(kept, dtype=np.int64)


def _search(
    bottom: Layer, top: Layer, angle: float, tolerance: float, max_strain: float, max_atoms: int, strained: str
) -> _Cells:
    """All cells up to a number of atoms, sorted."""
    # Bounds of what a vector of the layer above may be stretched and turned beyond the twist, by a stretch V that is allowed.
    stretch = -float(np.log1p(-max_strain)) * (2 if strained == "both" else 1) + _ROUNDING
    shear = float(np.arcsin(np.tanh(stretch))) + _ROUNDING
    area = max_atoms / (bottom.n_atoms / bottom.area + top.n_atoms / top.area * float(np.exp(-2 * stretch)))
    side = float(np.sqrt(2 / np.sqrt(3) * area))  # the shorter vector of a reduced cell is not longer
    pairs = _pairs(bottom, top, np.radians(angle), side * np.sqrt(ASPECT), stretch, shear + np.radians(tolerance))
    m, n = _joined(pairs, side, area, 2 * shear, exact=max_strain == 0)
    atoms = _det(m) * bottom.n_atoms + _det(n) * top.n_atoms
    good = (atoms <= max_atoms) & (_det(n) > 0) & _primitive(m, n)
    return _chosen(m[good], n[good], bottom, top, angle, tolerance, max_strain, strained)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Vectors of both layers that the twist brings together, sorted by what is left between their directions."""

    bottom: Ints  # [n, 2]
    top: Ints  # [n, 2]
    vectors: Floats  # [n, 2] Å, of the layer below
    left: Floats  # [n] radians, direction below minus direction above after the twist


def _pairs(bottom: Layer, top: Layer, turn: float, radius: float, stretch: float, shear: float) -> _Pairs:
    """Pairs of vectors up to a radius whose logarithms of lengths and directions are within `stretch` and `shear`."""
    below, above = _points(bottom.lattice, radius), _points(top.lattice, radius * float(np.exp(stretch)))
    below = below[(below[:, 0] > 0) | ((below[:, 0] == 0) & (below[:, 1] > 0))]  # of a vector and its opposite one will do
    scale = stretch / shear
    period = 2 * np.pi * scale
    maps = []
    for points, lattice, shift in ((below, bottom.lattice, 0.0), (above, top.lattice, turn)):
        vectors = points @ lattice
        directions = (np.arctan2(vectors[:, 1], vectors[:, 0]) + shift) % (2 * np.pi) * scale
        directions[directions >= period] = 0.0
        maps.append(np.stack([np.log(np.linalg.norm(vectors, axis=1)), directions], axis=1))
    trees = [cKDTree(points, boxsize=[0.0, period]) for points in maps]
    near = trees[0].sparse_distance_matrix(trees[1], stretch, p=np.inf, output_type="ndarray")
    i, j = near["i"], near["j"]
    left = (maps[0][i, 1] - maps[1][j, 1]) / scale
    left = (left + np.pi) % (2 * np.pi) - np.pi
    order = np.argsort(left, kind="stable")
    return _Pairs(below[i[order]], above[j[order]], (below @ bottom.lattice)[i[order]], left[order])


def _points(lattice: Floats, radius: float) -> Ints:
    """All lattice points around the origin, without it, in units of the lattice: [n, 2]."""
    change = reduction(lattice)
    reduced = change @ lattice
    reach = np.floor(radius * np.linalg.norm(np.linalg.inv(reduced), axis=0) + _ROUNDING).astype(np.int64)
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 2)
    lengths = np.linalg.norm(grid @ reduced, axis=1)
    points: Ints = grid[(lengths > 0) & (lengths <= radius * (1 + _ROUNDING))] @ change
    return points


def _joined(pairs: _Pairs, side: float, area: float, apart: float, exact: bool) -> tuple[Ints, Ints]:
    """All reduced cells of two pairs whose directions differ by no more than `apart` radians; of exact ones the smallest.

    Without strain all pairs of one direction make one lattice, and no cell but the smallest with a vector can be primitive.
    """
    squares = np.einsum("ij,ij->i", pairs.vectors, pairs.vectors)
    low = np.searchsorted(pairs.left, pairs.left - apart)
    high = np.searchsorted(pairs.left, pairs.left + apart, side="right")
    firsts, seconds, signs = [], [], []
    for i in np.flatnonzero(squares <= side * side * (1 + _ROUNDING)):
        others = slice(low[i], high[i])
        x, y = pairs.vectors[i]
        vectors, square = pairs.vectors[others], squares[i]
        dot, cross = vectors @ np.array([x, y]), vectors @ np.array([-y, x])
        good = (squares[others] >= square * (1 - _ROUNDING)) & (np.abs(dot) <= square * (0.5 + _ROUNDING))
        good &= (np.abs(cross) <= area * (1 + _ROUNDING)) & (np.abs(cross) > _ROUNDING * square)
        if exact and good.any():
            good &= np.abs(cross) < np.abs(cross[good]).min() * (1 + _ROUNDING)
        chosen = np.flatnonzero(good)
        firsts.append(np.full(len(chosen), i))
        seconds.append(chosen + low[i])
        signs.append(np.sign(cross[chosen]).astype(np.int64))
    if not firsts:
        return np.zeros((0, 2, 2), dtype=np.int64), np.zeros((0, 2, 2), dtype=np.int64)
    one, two, sign = np.concatenate(firsts), np.concatenate(seconds), np.concatenate(signs)[:, None]
    bottom = np.stack([pairs.bottom[one], sign * pairs.bottom[two]], axis=1)
    return bottom, np.stack([pairs.top[one], sign * pairs.top[two]], axis=1)


def _primitive(m: Ints, n: Ints) -> NDArray[np.bool_]:
    """Whether no smaller cell has the same strain and angle: the minors of (M | N) have no common divisor."""
    rows = np.concatenate([m, n], axis=2)
    minors = [rows[:, 0, a] * rows[:, 1, b] - rows[:, 0, b] * rows[:, 1, a] for a in range(4) for b in range(a)]
    primitive: NDArray[np.bool_] = np.gcd.reduce(np.stack(minors), axis=0) == 1
    return primitive


def _chosen(
    m: Ints, n: Ints, bottom: Layer, top: Layer, angle: float, tolerance: float, max_strain: float, strained: str
) -> _Cells:
    """Cells within the tolerances, once each, sorted by atoms, strain and distance from the angle."""
    if len(m) == 0:
        return _Cells.none()
    below = m @ bottom.lattice
    q, v = _polar(np.swapaxes(np.linalg.solve(n @ top.lattice, below), 1, 2))
    stretches, share = np.linalg.eigvalsh(v), TOP_SHARE[strained]
    strain = np.maximum(np.abs(stretches**share - 1), np.abs(stretches ** (share - 1) - 1)).max(axis=1)
    missed = np.degrees(np.arctan2(q[:, 1, 0], q[:, 0, 0])) - angle
    missed = (missed + 180) % 360 - 180
    atoms = _det(m) * bottom.n_atoms + _det(n) * top.n_atoms
    lengths = np.sort(np.linalg.norm(below, axis=2), axis=1)
    key = np.column_stack([atoms, _det(m), np.round(missed, 6), np.round(stretches, 8), np.round(lengths, 5)])
    good = np.flatnonzero((np.abs(missed) <= tolerance + 1e-7) & (strain <= max_strain + 1e-8))
    good = good[np.unique(key[good], axis=0, return_index=True)[1]]
    order = good[np.lexsort([np.round(np.abs(missed[good]), 6), np.round(strain[good], 9), atoms[good]])]
    return _Cells(m[order], n[order], missed[order], strain[order])


def _polar(f: Floats) -> tuple[Floats, Floats]:
    """Turn Q and stretch V of deformations F = V Q [..., 2, 2] of positive determinant."""
    c, s = f[..., 0, 0] + f[..., 1, 1], f[..., 1, 0] - f[..., 0, 1]
    length = np.hypot(c, s)
    q = np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2) / length[..., None, None]
    v = f @ np.swapaxes(q, -1, -2)
    return q, (v + np.swapaxes(v, -1, -2)) / 2


def _power(v: Floats, exponent: float) -> Floats:
    """Power of a symmetric matrix."""
    if exponent == 0:
        return np.eye(2)
    values, vectors = np.linalg.eigh(v)
    power: Floats = (vectors * values**exponent) @ vectors.T
    return power


def _det(rows: Ints) -> Ints:
    """Determinants of integer matrices [..., 2, 2]."""
    determinants: Ints = rows[..., 0, 0] * rows[..., 1, 1] - rows[..., 0, 1] * rows[..., 1, 0]
    return determinants
