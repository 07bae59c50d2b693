"""SuperLU as it comes with SciPy, used as an L D L^H factorisation.

In a nested dissection order and with pivots kept on the diagonal, rows and columns are permuted alike, so P A P^T = L U with
U = D L^H, and the signs of the diagonal of U are the inertia of A (Sylvester), also for complex A. Measured on 18 000 orbitals
of bilayer graphene, one thread, complex: 24 s, against 58 s with the COLAMD order, which
count nothing. Without pivoting the factor is less accurate (relative errors of 1e-11 to 1e-6): the caller probes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU as ScipySuperLU
from scipy.sparse.linalg import splu

from orbitrace.bands.factors import SingularError
from orbitrace.bands.factors._dissection import nodes_of, ordered, quotient
from orbitrace.bands.factors._fill import column_sizes, factor_elements
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Ints

SMALLEST_PIVOT = {"f": 1e-5, "F": 1e-5, "d": 1e-10, "D": 1e-10}  # relative to the largest element of A, by its type
PADDING = 1.05  # elements that SuperLU stores, over those of L and U: measured 1.00 to 1.06


@dataclass(frozen=True, eq=False)
class SuperLUAnalysis:
    """Order of elimination and size of the factor."""

    order: Ints
    n_elements: int  # of A
    n_fill: int  # of L
    kind: np.dtype[Any]

    def memory(self) -> int:
        """Bytes: A in its new order (twice while it is made), L and U, and the copies that SciPy hands out to be counted."""
        item = self.kind.itemsize
        return int(2 * self.n_elements * (item + 4) + 2 * self.n_fill * (PADDING * item + item + 4))

    def factor(self, matrix: sparse.csr_matrix, pivoting: bool) -> SuperLU:
        """Factorise a Hermitian matrix; see the contract of the room."""
        try:
            if pivoting:
                return SuperLU(splu(matrix.tocsc()), np.arange(matrix.shape[0]), None)
            lu = splu(
                matrix[self.order][:, self.order].tocsc(),
                permc_spec="NATURAL",
                diag_pivot_thresh=0.0,
                relax=20,
                panel_size=20,
                options={"SymmetricMode": True},
            )
        except RuntimeError as reason:  # "Factor is exactly singular"
            raise SingularError(str(reason)) from reason
        pivots = lu.U.diagonal().real
        smallest = float(np.abs(pivots).min())
        if smallest < SMALLEST_PIVOT[self.kind.char] * np.abs(matrix.data).max():
            raise SingularError(f"the smallest pivot is {smallest:.1e}")
        return SuperLU(lu, self.order, int((pivots < 0).sum()) if (lu.perm_r == lu.perm_c).all() else None)


def analyse(pattern: sparse.csr_matrix, kind: np.dtype[Any]) -> SuperLUAnalysis:
    """The analysis of a pattern; see the contract of the room."""
    node = nodes_of(pattern.indptr, pattern.indices)
    graph, rows = quotient(pattern.indptr, pattern.indices, node), np.bincount(node)
    order = ordered(graph)
    fill = factor_elements(column_sizes(graph, order, rows), rows[order])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return SuperLUAnalysis(np.argsort(rank[node], kind="stable"), pattern.nnz, fill, kind)


class SuperLU:
    """A SuperLU factorisation of A[order][:, order]."""

    def __init__(self, lu: ScipySuperLU, order: Ints, negatives: int | None) -> None:
        self.lu, self.order, self._negatives = lu, order, negatives

    def solve(self, block: Values) -> Values:
        """A^-1 block."""
        result = np.empty_like(block)
        result[self.order] = self.lu.solve(np.ascontiguousarray(block[self.order]))
        return result

    def negatives(self) -> int | None:
        """Number of negative eigenvalues, if all pivots stayed on the diagonal."""
        return self._negatives
