"""Blocks: a matrix over localised orbitals, kept as one dense block for each pair of atoms (i in cell 0, j in cell R).

All blocks lie one after the other in one flat array; pairs are kept sorted by (i, j, R), so that two sets of blocks over the
same pairs can be compared array by array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats, Structure

Values = NDArray[np.float64] | NDArray[np.complex128]
Pairs = NDArray[np.int32]
_CHUNK = 8192  # blocks at a time, where a copy of all of them would be large


def sort_pairs(pairs: NDArray[np.integer]) -> NDArray[np.int64]:
    """Order that sorts pairs (Rx, Ry, Rz, i, j) by (i, j, Rx, Ry, Rz): [n_pairs]."""
    return np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0], pairs[:, 4], pairs[:, 3]))


@dataclass(frozen=True, eq=False)
class Blocks:
    """A sparse matrix in real space, block by block.

    Parameters
    ----------
    pairs
        [n_pairs, 5] int32: Rx, Ry, Rz, i, j (atoms count from 0), sorted by (i, j, R).
    shapes
        [n_pairs, 2] rows and columns of each block.
    values
        [sum of rows * columns] float64 or complex128: the blocks one after the other, each in row-major order.
    """

    pairs: Pairs
    shapes: NDArray[np.int64]
    values: Values

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", np.ascontiguousarray(self.pairs, dtype=np.int32).reshape(-1, 5))
        object.__setattr__(self, "shapes", np.ascontiguousarray(self.shapes, dtype=np.int64).reshape(-1, 2))
        if len(self.pairs) != len(self.shapes) or self.offsets[-1] != len(self.values):
            raise ValueError(
                f"{len(self.pairs)} pairs, {len(self.shapes)} shapes with {self.offsets[-1]} elements, "
                f"{len(self.values)} values"
            )

    @staticmethod
    def over(pairs: NDArray[np.integer], structure: Structure, basis: Basis, values: Values, spin: int = 1) -> Blocks:
        """Blocks over `pairs` in any order, with the shapes that the basis gives; `spin` is 2 for spin-doubled blocks."""
        counts = basis.n_orbitals(structure.numbers) * spin
        shapes = np.stack([counts[pairs[:, 3]], counts[pairs[:, 4]]], axis=1)
        return Blocks.sorted(pairs, shapes, values)

    @staticmethod
    def sorted(pairs: NDArray[np.integer], shapes: NDArray[np.integer], values: Values) -> Blocks:
        """Blocks whose pairs come in any order."""
        order = sort_pairs(pairs)
        sizes = shapes[:, 0].astype(np.int64) * shapes[:, 1]
        if not np.array_equal(order, np.arange(len(order))):
            values = _permuted(values, sizes, order)
        return Blocks(np.asarray(pairs, dtype=np.int32)[order], shapes[order].astype(np.int64), values)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """[n_pairs + 1] where each block starts in `values`."""
        return np.concatenate([[0], np.cumsum(self.shapes[:, 0] * self.shapes[:, 1])]).astype(np.int64)

    @property
    def n_pairs(self) -> int:
        """Number of blocks."""
        return len(self.pairs)

    @cached_property
    def onsite(self) -> NDArray[np.bool_]:
        """[n_pairs] True where the block belongs to one atom: i = j and R = 0."""
        same: NDArray[np.bool_] = (self.pairs[:, 3] == self.pairs[:, 4]) & (self.pairs[:, :3] == 0).all(axis=1)
        return same

    def block(self, pair: int) -> Values:
        """View of one block: [rows, columns]."""
        values = self.values[self.offsets[pair] : self.offsets[pair + 1]]
        return values.reshape(self.shapes[pair, 0], self.shapes[pair, 1])

    def find(self, i: int, j: int, r: tuple[int, int, int] = (0, 0, 0)) -> int:
        """Number of the pair (i, j, R). Raises KeyError if there is none."""
        hit = np.flatnonzero((self.pairs == np.array([*r, i, j], dtype=np.int32)).all(axis=1))
        if len(hit) == 0:
            raise KeyError(f"no block for i={i}, j={j}, R={r}")
        return int(hit[0])

    def groups(self) -> Iterator[tuple[NDArray[np.int64], Values]]:
        """Blocks of equal shape together: (numbers of the pairs [g], their blocks as a copy [g, rows, columns])."""
        for members in self._alike():
            rows, columns = self.shapes[members[0]]
            yield members, self._taken(members).reshape(len(members), rows, columns)

    def _alike(self) -> Iterator[NDArray[np.int64]]:
        """Numbers of the pairs whose blocks have the same shape, one shape after the other."""
        codes = self.shapes[:, 0] * (int(self.shapes.max(initial=0)) + 1) + self.shapes[:, 1]
        for code in np.unique(codes):
            yield np.flatnonzero(codes == code)

    def with_group(self, values: Values, members: NDArray[np.int64], blocks: Values) -> None:
        """Write the blocks [g, rows, columns] of the pairs `members` into the flat array `values` (laid out like this one)."""
        if self._size:
            values.reshape(-1, self._size)[members] = blocks.reshape(-1, self._size)
        else:
            values[self._index(members)] = blocks.reshape(-1)

    def with_values(self, values: Values) -> Blocks:
        """The same pairs and shapes with other values."""
        return Blocks(self.pairs, self.shapes, values)

    @cached_property
    def reverse(self) -> NDArray[np.int64]:
        """[n_pairs] number of the pair (j, i, -R) of each pair (i, j, R), or -1 where it is missing."""
        flipped = self.pairs[:, [0, 1, 2, 4, 3]].copy()
        flipped[:, :3] *= -1
        mine, theirs = _keys(self.pairs, flipped)
        order = np.argsort(mine, kind="stable")
        at = np.searchsorted(mine[order], theirs)
        at = np.minimum(at, max(len(order) - 1, 0))
        found = order[at] if len(order) else at
        result: NDArray[np.int64] = np.where(mine[found] == theirs, found, -1)
        return result

    def dagger(self) -> Blocks:
        """The conjugate transpose of the whole matrix: block (i, j, R) is the one of (j, i, -R), conjugate-transposed."""
        if (self.reverse < 0).any():
            raise ValueError(f"{int((self.reverse < 0).sum())} pairs have no partner (j, i, -R)")
        result = np.empty_like(self.values)
        for members in self._alike():
            for start in range(0, len(members), _CHUNK):
                some = members[start : start + _CHUNK]
                rows, columns = self.shapes[some[0]]
                blocks = self._taken(self.reverse[some]).reshape(-1, columns, rows)
                self.with_group(result, some, blocks.conj().transpose(0, 2, 1))
        return self.with_values(result)

    def asymmetry(self) -> float:
        """Largest difference from the conjugate transpose, without a copy of it; pairs need their partners."""
        largest = 0.0
        for members in self._alike():
            for start in range(0, len(members), _CHUNK):
                some = members[start : start + _CHUNK]
                rows, columns = self.shapes[some[0]]
                mine = self._taken(some).reshape(-1, rows, columns)
                other = self._taken(self.reverse[some]).reshape(-1, columns, rows)
                largest = max(largest, float(np.abs(mine - other.conj().transpose(0, 2, 1)).max()))
        return largest

    def hermitian(self) -> Blocks:
        """The Hermitian part, (H + H^dagger) / 2."""
        values = self.dagger().values
        values += self.values
        values /= 2
        return self.with_values(values)

    def reordered(self, atoms: NDArray[np.integer]) -> Blocks:
        """The same matrix after renumbering: new atom a is old atom ``atoms[a]``."""
        new = np.empty(len(atoms), dtype=np.int32)
        new[atoms] = np.arange(len(atoms))
        pairs = self.pairs.copy()
        pairs[:, 3:] = new[pairs[:, 3:]]
        return Blocks.sorted(pairs, self.shapes, self.values)

    def lengths(self, structure: Structure) -> Floats:
        """[n_pairs] distance between the atoms of each pair, Å."""
        lengths: Floats = np.linalg.norm(structure.pair_vectors(self.pairs), axis=1)
        return lengths

    @cached_property
    def _size(self) -> int:
        """Elements of a block where all blocks have one shape, which is several times faster; else 0."""
        same = self.n_pairs > 0 and bool((self.shapes == self.shapes[0]).all())
        return int(self.shapes[0].prod()) if same else 0

    def _taken(self, members: NDArray[np.int64]) -> Values:
        """A copy of the values of some blocks, block after block; where all have one shape, [g, elements]."""
        return self.values.reshape(-1, self._size)[members] if self._size else self.values[self._index(members)]

    def _index(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of the values of some blocks in the flat array, block after block."""
        sizes = self.shapes[members, 0] * self.shapes[members, 1]
        return _gather(self.offsets[members], sizes)


def _permuted(values: Values, sizes: NDArray[np.int64], order: NDArray[np.int64]) -> Values:
    """Pieces of some sizes in another order."""
    if (sizes == sizes[0]).all() and sizes[0]:
        return values.reshape(-1, int(sizes[0]))[order].reshape(-1)
    starts, result, at = np.concatenate([[0], np.cumsum(sizes)])[:-1], np.empty_like(values), 0
    for begin in range(0, len(order), _CHUNK):
        some = order[begin : begin + _CHUNK]
        part = values[_gather(starts[some], sizes[some])]
        result[at : at + len(part)] = part
        at += len(part)
    return result


def _gather(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenation of ranges start..start+size."""
    if len(sizes) and (sizes == sizes[0]).all():  # several times faster, and the case of blocks of one shape
        return (starts[:, None] + np.arange(sizes[0])).reshape(-1)
    total = int(sizes.sum())
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(sizes) else np.zeros(0, dtype=np.int64)
    places: NDArray[np.int64] = np.arange(total, dtype=np.int64) + np.repeat(starts - begins, sizes)
    return places


def _keys(*tables: Pairs) -> list[NDArray[np.int64]]:
    """One integer per pair, comparable between the tables."""
    stacked = np.concatenate(tables).astype(np.int64)
    if len(stacked) == 0:
        return [np.zeros(0, dtype=np.int64) for _ in tables]
    low = stacked.min(axis=0)
    spans = stacked.max(axis=0) - low + 1
    keys = np.zeros(len(stacked), dtype=np.int64)
    for column in range(5):
        keys = keys * spans[column] + (stacked[:, column] - low[column])
    return list(np.split(keys, np.cumsum([len(t) for t in tables])[:-1]))
