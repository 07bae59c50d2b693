"""Sparse matrices over orbitals, element by element, as most codes write them: gathered into blocks of atom pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs, Values
from orbitrace.physics.structure import Ints

V = TypeVar("V", NDArray[np.float64], NDArray[np.complex128], Values)

FARTHEST = 1024  # cells; R of real matrices stays below 100
MOST_ATOMS = 32768  # so that a pair of atoms and R fit into one integer of 64 bits
# Blocks hold zeros where a code left small elements out. Files whose blocks would be emptier than this are damaged ones.
EMPTIEST = 1000
DAMAGED = "The file is damaged: copy it again from its source, or run the calculation again"


@dataclass(frozen=True, eq=False)
class Elements:
    """Which elements of a sparse matrix a file holds: <row in cell 0| ... |column in cell R>.

    Parameters
    ----------
    cells
        [n_cells, 3] the R that occur.
    cell
        [n] number in `cells` of each element's R.
    row, column
        [n] orbitals, counted from 0 through all atoms.
    """

    cells: Ints
    cell: Ints
    row: Ints
    column: Ints

    def __len__(self) -> int:
        return len(self.row)


class Support:
    """The pairs of atoms between which any of some sparse matrices has an element, each with its reverse.

    Parameters
    ----------
    orbitals
        [n_atoms] orbitals of each atom.
    matrices
        The elements that files hold.
    where
        File, for messages.

    Raises
    ------
    InputError
        If an element lies outside the matrix, or blocks would be implausibly empty.
    """

    def __init__(self, orbitals: Ints, matrices: Sequence[Elements], where: str) -> None:
        self._where = where
        self._orbitals = orbitals.astype(np.int64)
        ends = np.cumsum(self._orbitals)
        self._begins = ends - self._orbitals
        self._atom = np.repeat(np.arange(len(orbitals)), self._orbitals)
        self._n = len(orbitals)
        if not 0 < self._n < MOST_ATOMS:
            raise InputError(where, f"{self._n} atoms", f"1 to {MOST_ATOMS - 1}", DAMAGED)
        heads = [self._heads(self._keys(m)) for m in matrices]
        forward = np.unique(np.concatenate(heads))
        self._sorted = np.union1d(forward, self._encoded(_reverse(self._decoded(forward))))
        self.pairs: Pairs = self._decoded(self._sorted)
        sizes = self._orbitals[self.pairs[:, 3]] * self._orbitals[self.pairs[:, 4]]
        ends = np.cumsum(sizes)
        self._sizes, self._starts, self.n_values = sizes, ends - sizes, int(ends[-1]) if len(ends) else 0
        n = sum(len(m) for m in matrices)
        if self.n_values > EMPTIEST * n + 10**6:
            found = f"{n} elements scattered over blocks of {self.n_values}"
            raise InputError(where, found, "blocks that are not nearly empty", DAMAGED)

    def fill(self, elements: Elements, values: V) -> V:
        """Blocks over `pairs`, one after the other in row-major order, from the elements of a file; others are zero.

        Raises
        ------
        InputError
            If an element occurs twice.
        """
        return self.fill_all(elements, [values])[0]

    def fill_all(self, elements: Elements, matrices: Iterable[V]) -> list[V]:
        """`fill` for several matrices of the same elements."""
        place = self._places(elements)
        result = []
        for values in matrices:
            blocks: V = np.zeros(self.n_values, dtype=values.dtype)  # type: ignore[assignment]
            blocks[place] = values
            result.append(blocks)
        return result

    def fill_triangle(self, elements: Elements, values: V) -> V:
        """`fill` for real symmetric matrices of which a file holds mostly one triangle, and a few elements of both."""
        blocks: V = np.zeros(self.n_values, dtype=values.dtype)  # type: ignore[assignment]
        reverse = Elements(-elements.cells, elements.cell, elements.column, elements.row)
        blocks[self._places(reverse)] = values
        blocks[self._places(elements)] = values
        return blocks

    def transposed(self, blocks: V) -> V:
        """Blocks (i, j, R) from the transposes of blocks (j, i, -R)."""
        columns = np.repeat(self._orbitals[self.pairs[:, 4]], self._sizes)
        rows = np.repeat(self._orbitals[self.pairs[:, 3]], self._sizes)
        within = np.arange(self.n_values) - np.repeat(self._starts, self._sizes)
        row, column = np.divmod(within, columns)
        reverse = np.searchsorted(self._sorted, self._encoded(_reverse(self.pairs)))
        return blocks[np.repeat(self._starts[reverse], self._sizes) + column * rows + row]

    def _places(self, elements: Elements) -> Ints:
        """Where each element stands in the flat array of blocks."""
        keys = self._keys(elements)
        changes = np.flatnonzero(np.diff(keys, prepend=-1))
        pair = np.searchsorted(self._sorted, keys[changes])
        runs = np.diff(changes, append=len(keys))
        columns = self._orbitals[self.pairs[pair, 4]]
        # Of each run of elements in one block: the place of its (row 0, column 0), less the first orbitals of both atoms.
        offset = self._starts[pair] - self._begins[self.pairs[pair, 4]] - self._begins[self.pairs[pair, 3]] * columns
        place: Ints = np.repeat(offset, runs) + elements.row * np.repeat(columns, runs) + elements.column
        taken = np.zeros(self.n_values, dtype=np.bool_)
        taken[place] = True
        if (twice := len(place) - int(np.count_nonzero(taken))) > 0:
            raise InputError(self._where, f"{twice} elements of a matrix occur twice", "each once", DAMAGED)
        return place

    def _keys(self, elements: Elements) -> Ints:
        """One integer for the pair of atoms and R of each element."""
        n_orbitals = len(self._atom)
        for name, orbital in (("row", elements.row), ("column", elements.column)):
            if len(orbital) and not (int(orbital.min()) >= 0 and int(orbital.max()) < n_orbitals):
                found = f"an element in {name} {int(orbital.max()) + 1}"
                raise InputError(self._where, found, f"1 to {n_orbitals}, the orbitals of the basis", DAMAGED)
        if len(elements.cells) and not int(np.abs(elements.cells).max()) < FARTHEST:
            found = f"a lattice vector R = {elements.cells[np.abs(elements.cells).max(axis=1).argmax()].tolist()}"
            raise InputError(self._where, found, f"less than {FARTHEST} cells", DAMAGED)
        far = self._radix(elements.cells) * self._n**2
        keys: Ints = far[elements.cell] + self._atom[elements.row] * self._n + self._atom[elements.column]
        return keys

    @staticmethod
    def _radix(cells: Ints) -> Ints:
        a, b, c = (cells.astype(np.int64) + FARTHEST).T
        code: Ints = (a * 2 * FARTHEST + b) * 2 * FARTHEST + c
        return code

    @staticmethod
    def _heads(keys: Ints) -> Ints:
        """The keys without repetitions of neighbours: elements of one block mostly stand together."""
        return keys[np.flatnonzero(np.diff(keys, prepend=-1))]

    def _encoded(self, pairs: Pairs) -> Ints:
        wide = pairs.astype(np.int64)
        return self._radix(wide[:, :3]) * self._n**2 + wide[:, 3] * self._n + wide[:, 4]

    def _decoded(self, keys: Ints) -> Pairs:
        rest, j = np.divmod(keys, self._n)
        rest, i = np.divmod(rest, self._n)
        rest, c = np.divmod(rest, 2 * FARTHEST)
        a, b = np.divmod(rest, 2 * FARTHEST)
        return np.stack([a - FARTHEST, b - FARTHEST, c - FARTHEST, i, j], axis=1).astype(np.int32)


def _reverse(pairs: Pairs) -> Pairs:
    """(j, i, -R) of each pair."""
    return pairs[:, [0, 1, 2, 4, 3]] * np.array([-1, -1, -1, 1, 1], dtype=np.int32)
