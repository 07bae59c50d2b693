"""The plan of a multifrontal factorisation: which rows are eliminated together, and where everything goes.

A front is a dense Hermitian matrix on the rows of one piece of the nested dissection (its pivots) and of all later rows that
they couple to, directly or through fill (its border). Eliminating the pivots leaves a matrix on the border, which is added
into the front of the piece that holds the first border row.

Source: I. S. Duff and J. K. Reid, ACM Trans. Math. Softw. 9, 302 (1983).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from orbitrace.bands.bloch import ranges
from orbitrace.bands.factors._dissection import dissected, nodes_of, quotient
from orbitrace.physics.structure import Ints

LEAF = 20  # nodes (atoms) that are eliminated together at the least


@dataclass(frozen=True, eq=False)
class Front:
    """One front; rows are numbered in the order of elimination.

    Parameters
    ----------
    start, stop
        The pivots.
    border
        [n] later rows, ascending.
    children
        Numbers of the fronts that add into this one.
    source, place
        Elements of A in the pivots' columns, lower triangle: their places in A's data, and in the front's columns
        [pivots and border, pivots], stored column after column.
    """

    start: int
    stop: int
    border: Ints
    children: tuple[int, ...]
    source: NDArray[Any]
    place: NDArray[Any]

    @property
    def n_pivots(self) -> int:
        """Number of pivots."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Plan:
    """Order of elimination [size] (row of A at each place) and the fronts, children before parents."""

    order: Ints
    fronts: tuple[Front, ...]


def plan(pattern: sparse.csr_matrix) -> Plan:
    """The plan for a symmetric CSR pattern."""
    node = nodes_of(pattern.indptr, pattern.indices)
    graph, rows_of = quotient(pattern.indptr, pattern.indices, node), np.bincount(node)
    sequence, pieces = dissected(graph, LEAF)
    borders, parents = _borders(graph, sequence, pieces)
    rank = np.empty(len(sequence), dtype=np.int64)
    rank[sequence] = np.arange(len(sequence))
    order = np.argsort(rank[node], kind="stable")
    ends = np.cumsum(rows_of[sequence])
    begins = ends - rows_of[sequence]
    spans = [(int(begins[a]), int(ends[b - 1])) for a, b in pieces]
    rows = [ranges(begins[border], ends[border] - begins[border]) for border in borders]
    children: list[list[int]] = [[] for _ in pieces]
    for child, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(child)
    elements = _elements(pattern, order, spans, rows)
    fronts = zip(spans, rows, children, elements, strict=True)
    return Plan(order, tuple(Front(*span, border, tuple(own), *where) for span, border, own, where in fronts))


def _borders(graph: sparse.csr_matrix, sequence: Ints, pieces: list[tuple[int, int]]) -> tuple[list[Ints], list[int]]:
    """Border nodes of each piece, by their places in the sequence, and the piece that it adds into (-1: none)."""
    rank = np.empty(len(sequence), dtype=np.int64)
    rank[sequence] = np.arange(len(sequence))
    piece_of = np.repeat(np.arange(len(pieces)), [b - a for a, b in pieces])
    passed: list[list[Ints]] = [[] for _ in pieces]
    borders, parents = [], []
    for number, (a, b) in enumerate(pieces):
        own = [rank[graph.indices[graph.indptr[node] : graph.indptr[node + 1]]] for node in sequence[a:b]]
        border = np.unique(np.concatenate([*own, *passed[number]]))
        border = border[border >= b]
        passed[number] = []
        borders.append(border)
        parents.append(int(piece_of[border[0]]) if len(border) else -1)
        if len(border):
            passed[parents[-1]].append(border)
    return borders, parents


def _elements(
    pattern: sparse.csr_matrix, order: Ints, spans: list[tuple[int, int]], borders: list[Ints]
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Source and place of the elements of each front; see `Front`."""
    size = pattern.shape[0]
    rank = np.empty(size, dtype=np.int32)
    rank[order] = np.arange(size, dtype=np.int32)
    row, column = rank[np.repeat(np.arange(size), np.diff(pattern.indptr))], rank[pattern.indices]
    lower = np.flatnonzero(row >= column)
    lower = lower[np.argsort(column[lower], kind="stable")].astype(np.int32 if pattern.nnz < 1 << 31 else np.int64)
    cuts = np.searchsorted(column[lower], [start for start, _ in spans] + [size])
    result = []
    local = np.zeros(size, dtype=np.int64)
    for (start, stop), border, first, last in zip(spans, borders, cuts[:-1], cuts[1:], strict=True):
        source = lower[first:last]
        local[start:stop] = np.arange(stop - start)
        local[border] = np.arange(stop - start, stop - start + len(border))
        height = stop - start + len(border)
        place = (column[source].astype(np.int64) - start) * height + local[row[source]]
        result.append((source, place.astype(np.int32) if height * (stop - start) < 1 << 31 else place))
    return result
