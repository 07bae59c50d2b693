"""Where the elements of blocks stand in flat arrays: index arithmetic for all blocks at once, shared by several matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orbitrace.physics.blocks import Pairs
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Ints

# (orbitals of i, orbitals of j, element of i, element of j) -> one value for each element of such a block: [n_i, n_j]
Template = Callable[[int, int, int, int], NDArray[Any]]


class Places:
    """Flat arrays that hold a block [n_i, n_j] for each of some pairs, one after the other in row-major order.

    Parameters
    ----------
    pairs
        [n_pairs, 5] Rx, Ry, Rz, i, j.
    numbers
        [n_atoms] atomic numbers.
    basis
        Gives the orbitals of each element.
    """

    def __init__(self, pairs: Pairs, numbers: Ints, basis: Basis) -> None:
        counts = basis.n_orbitals(numbers)
        self.shapes: Ints = np.stack([counts[pairs[:, 3]], counts[pairs[:, 4]]], axis=1)
        self.sizes: Ints = self.shapes.prod(axis=1)
        self.starts, self.n_values = _begins(self.sizes)
        kinds, kind = np.unique(numbers[pairs[:, 3]] * 1000 + numbers[pairs[:, 4]], return_inverse=True)
        self._kinds = [
            (basis[code // 1000].n_orbitals, basis[code % 1000].n_orbitals, int(code) // 1000, int(code) % 1000)
            for code in kinds
        ]
        templates, _ = _begins(np.array([rows * columns for rows, columns, _, _ in self._kinds], dtype=np.int64))
        # Which element of the joined templates belongs to each element of the flat array.
        self._within = np.arange(self.n_values) + self._spread(templates[kind] - self.starts)

    def values(self, template: Template) -> NDArray[Any]:
        """The template's value for each element of the flat array: [n_values]."""
        joined = [template(*kind).reshape(-1) for kind in self._kinds]
        return np.concatenate(joined)[self._within] if joined else np.zeros(0)

    def index(self, template: Template, starts: NDArray[np.integer]) -> Ints:
        """Places in another flat array, where each pair's elements stand at ``starts[pair] + template``: [n_values]."""
        places: Ints = self.values(template).astype(np.int64, copy=False)
        places += self._spread(starts)
        return places

    def _spread(self, per_pair: NDArray[np.integer]) -> Ints:
        return np.repeat(per_pair.astype(np.int64), self.sizes)


def grid(rows: int, columns: int, row_step: int, column_step: int = 1) -> Ints:
    """Place of element (r, c) of a block in an array where rows and columns stand `row_step` and `column_step` apart."""
    return row_step * np.arange(rows)[:, None] + column_step * np.arange(columns)[None, :]


def _begins(sizes: Ints) -> tuple[Ints, int]:
    """Where ranges of these sizes begin, one after the other, and where the last ends."""
    ends = np.cumsum(sizes, dtype=np.int64)
    return ends - sizes, int(ends[-1]) if len(ends) else 0
