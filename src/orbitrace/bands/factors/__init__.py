"""Factorisations of sparse Hermitian, indefinite matrices, one file each: what shift-invert stands on.

A factorisation supplies ``factor(matrix, pivoting) -> Factor`` for a CSR matrix. With `pivoting` it may give up counting
for the sake of stability. New ones are new files; the name of the file is the value of shift_invert's setting `factor`.
"""

from __future__ import annotations

from typing import Protocol, cast

from scipy import sparse

from orbitrace import plugins
from orbitrace.physics.blocks import Values

ROOM = "bands.factors"


class Factor(Protocol):
    """A factorised matrix A."""

    def solve(self, block: Values) -> Values:
        """A^-1 block, for a block [size, n]."""
        ...

    def negatives(self) -> int | None:
        """Number of negative eigenvalues of A (its inertia), or None if the factorisation does not tell."""
        ...


class SingularError(Exception):
    """The matrix is singular to working precision."""


def factor(name: str, matrix: sparse.csr_matrix, pivoting: bool = False) -> Factor:
    """Factorise a Hermitian CSR matrix by the method called `name`.

    Raises
    ------
    SingularError
        If the matrix is singular to working precision.
    InputError
        If there is no such method.
    """
    return cast(Factor, plugins.load(ROOM, name).factor(matrix, pivoting))
