"""Nested dissection of a symmetric sparsity pattern: an elimination order with little fill.

Rows with equal columns (the orbitals of an atom) are one node. A set of nodes is cut by a level of a breadth-first search
from a far end; the two sides come first, the cut last, and the sides are cut again.

Source: A. George and J. W. H. Liu, SIAM J. Numer. Anal. 15, 1053 (1978).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from orbitrace.physics.structure import Ints

LEAF = 40  # nodes that are not cut any more
BALANCE = 0.2  # smallest share of the nodes on the smaller side


def nested_dissection(indptr: NDArray[np.integer], indices: NDArray[np.integer]) -> Ints:
    """Order of elimination of the rows of a CSR pattern: [size]."""
    node = nodes_of(indptr, indices)
    order = ordered(quotient(indptr, indices, node))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return np.argsort(rank[node], kind="stable")


def ordered(graph: sparse.csr_matrix) -> Ints:
    """Order of elimination of the nodes of a graph."""
    return dissected(graph)[0]


def dissected(graph: sparse.csr_matrix, leaf: int = LEAF) -> tuple[Ints, list[tuple[int, int]]]:
    """Order of elimination of the nodes of a graph, and the pieces of it: first and one past the last, ascending.

    A piece is a cut, or a side of at most `leaf` nodes (or without a useful cut).
    """
    n = graph.shape[0]
    order = np.empty(n, dtype=np.int64)
    pieces = []
    waiting = [(np.arange(n), 0)]
    while waiting:
        members, start = waiting.pop()
        part = graph[members][:, members]
        sides = _cut(part) if len(members) > leaf else None
        for side in sides[:-1] if sides is not None else ():
            waiting.append((members[side], start))
            start += len(side)
        last = members if sides is None else members[sides[-1]]
        if len(last):
            along = csgraph.reverse_cuthill_mckee(graph[last][:, last], symmetric_mode=True)  # neighbours beside each other
            order[start : start + len(last)] = last[along]
            pieces.append((start, start + len(last)))
    return order, sorted(pieces)


def nodes_of(indptr: NDArray[np.integer], indices: NDArray[np.integer]) -> Ints:
    """[size] the node of each row: neighbouring rows with the same columns share one."""
    lengths = np.diff(indptr)
    codes = np.random.default_rng(0).integers(1 << 62, size=len(lengths), dtype=np.int64)
    sums = np.add.reduceat(np.append(codes[indices], 0), indptr[:-1]) * (lengths > 0)  # wraps around: a hash
    new = (np.diff(sums) != 0) | (np.diff(lengths) != 0)
    return np.concatenate([[0], np.cumsum(new)])


def quotient(indptr: NDArray[np.integer], indices: NDArray[np.integer], node: Ints) -> sparse.csr_matrix:
    """The graph of the nodes."""
    heads = np.flatnonzero(np.diff(node, prepend=-1))
    n = len(heads)
    lengths = np.diff(indptr)[heads]
    flat = np.repeat(indptr[heads] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    graph = sparse.csr_matrix((np.ones(len(flat), dtype=np.int32), (np.repeat(np.arange(n), lengths), node[indices[flat]])))
    graph.resize(n, n)
    graph.data[:] = 1
    return graph


def _cut(graph: sparse.csr_matrix) -> list[Ints] | None:
    """Nodes of the sides, and last of the cut; None if there is no useful cut."""
    n_parts, part = csgraph.connected_components(graph, directed=False)
    if n_parts > 1:
        return [*(np.flatnonzero(part == p) for p in range(n_parts)), np.zeros(0, dtype=np.int64)]
    level = _levels(graph)
    sizes = np.bincount(level)
    if len(sizes) < 3:
        return None
    below = np.cumsum(sizes)[:-2]
    above = sizes.sum() - below - sizes[1:-1]
    cost = sizes[1:-1] * (1 + 0.5 * np.abs(below - above) / len(level)) + np.where(
        np.minimum(below, above) < BALANCE * len(level), len(level), 0
    )
    cut = int(np.argmin(cost)) + 1
    here = np.flatnonzero(level == cut)
    needed = np.asarray(graph[here][:, level > cut].sum(axis=1)).reshape(-1) > 0
    low = np.concatenate([np.flatnonzero(level < cut), here[~needed]])
    return [low, np.flatnonzero(level > cut), here[needed]]


def _levels(graph: sparse.csr_matrix) -> Ints:
    """Distance of each node from a node at the far end of a connected graph."""
    start, depth = 0, -1.0
    while True:
        distance = csgraph.dijkstra(graph, directed=False, indices=start, unweighted=True)
        if distance.max() <= depth:
            levels: Ints = distance.astype(np.int64)
            return levels
        start, depth = int(np.argmax(distance)), float(distance.max())
