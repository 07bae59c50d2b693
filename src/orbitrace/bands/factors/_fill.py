"""How many elements the factor of a sparse matrix will have, from its pattern and the order of elimination alone.

Counted on the graph of the nodes (atoms), whose rows and columns are dense blocks: a node's column of L holds its own later
neighbours and what its children in the elimination tree pass on.

Source: J. W. H. Liu, SIAM J. Matrix Anal. Appl. 11, 134 (1990).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from orbitrace.physics.structure import Ints


def column_sizes(graph: sparse.csr_matrix, order: Ints, weights: Ints) -> Ints:
    """[n] rows below (not in) the diagonal block in the column of L of each node, in the order of elimination.

    Parameters
    ----------
    graph
        Symmetric pattern of the nodes.
    order, weights
        Nodes in the order of elimination, and the rows of each.
    """
    n = graph.shape[0]
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    rows_of = weights[order]
    passed: list[list[Ints]] = [[] for _ in range(n)]
    result = np.zeros(n, dtype=np.int64)
    for step, node in enumerate(order):
        neighbours = rank[graph.indices[graph.indptr[node] : graph.indptr[node + 1]]]
        below = np.unique(np.concatenate([neighbours[neighbours > step], *passed[step]]))
        passed[step] = []
        result[step] = rows_of[below].sum()
        if len(below):
            passed[below[0]].append(below[1:])
    return result


def factor_elements(sizes: Ints, rows: Ints) -> int:
    """Elements of L, its diagonal blocks as triangles, from `column_sizes` and the rows of each node in the same order."""
    return int((sizes * rows + rows * (rows + 1) // 2).sum())
