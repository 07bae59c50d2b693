"""Factorisations of sparse Hermitian, indefinite matrices, one file each: what shift-invert stands on.

A factorisation is one file in this room. It supplies

* ``analyse(pattern, kind) -> Analysis``: what depends on the pattern of a CSR matrix alone (order of elimination, storage),
  done once for all k. Rows and columns of the pattern ascend; `kind` is the NumPy type of the elements, in double or single
  precision, real (symmetric) or complex (Hermitian);
* ``Analysis.memory() -> int``: bytes that analysis, factor and solutions will hold at most beside the matrix, known before
  the factorisation begins;
* ``Analysis.factor(matrix, pivoting) -> Factor``: the numbers. With `pivoting` it may give up counting for the sake of
  stability. Raises `SingularError`. A factor stays valid when another one is made;
* ``Factor.solve(block)`` and ``Factor.negatives()``, the number of negative eigenvalues (inertia) or None;
* ``missing() -> str``, if it needs what may not be installed: a sentence that says how to get it, or nothing.

The door does the rest for all of them: it keeps the last analyses, refuses to begin what the memory cannot hold, and tries
each factor on one right-hand side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from scipy import sparse

from orbitrace import plugins
from orbitrace.errors import InputError
from orbitrace.memory import available
from orbitrace.physics.blocks import Values

ROOM = "bands.factors"
AUTO = "auto"
FASTEST_FIRST = ("pardiso", "multifrontal", "superlu")  # what `auto` takes: the first that is installed
KEPT = 3  # analyses that are remembered
SINGLE = {np.dtype(np.float64): np.dtype(np.float32), np.dtype(np.complex128): np.dtype(np.complex64)}
HOPELESS = {False: 1e12, True: 1e5}  # in double and single precision: max|A| ||x|| / ||b|| of a matrix that is singular


class Factor(Protocol):
    """A factorised matrix A."""

    def solve(self, block: Values) -> Values:
        """A^-1 block, for a block [size, n] in the precision of the factor."""
        ...

    def negatives(self) -> int | None:
        """Number of negative eigenvalues of A (its inertia), or None if the factorisation does not tell."""
        ...


class Analysis(Protocol):
    """What a factorisation knows of a pattern."""

    def memory(self) -> int:
        """Bytes that analysis, factor and solutions hold at most, beside the matrix."""
        ...

    def factor(self, matrix: sparse.csr_matrix, pivoting: bool) -> Factor:
        """Factorise a matrix of the analysed pattern and type."""
        ...


class SingularError(Exception):
    """The matrix is singular to working precision."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A factor, and what one right-hand side showed of it.

    Parameters
    ----------
    factor
        As the backend made it.
    residual
        ||A x - b|| / ||b|| for one random b.
    """

    factor: Factor
    residual: float

    def solve(self, block: Values) -> Values:
        """A^-1 block, in the type of the block."""
        return self.factor.solve(block)

    def negatives(self) -> int | None:
        """Number of negative eigenvalues of A, or None."""
        return self.factor.negatives()


def chosen(name: str = AUTO) -> str:
    """The factorisation itself, or for ``auto`` the fastest that is installed.

    Raises
    ------
    InputError
        If there is no such factorisation, or what it needs is not installed.
    """
    if name == AUTO:
        return next(candidate for candidate in FASTEST_FIRST if not missing(candidate))
    if reason := missing(name):
        raise InputError(f"factorisation {name}", "it is not installed", "what it stands on", reason)
    return name


def missing(name: str) -> str:
    """How to install what the factorisation called `name` needs; nothing if it is there."""
    tell: Callable[[], str] | None = getattr(plugins.load(ROOM, name), "missing", None)
    return tell() if tell is not None else ""


def analyse(name: str, matrix: sparse.csr_matrix, single: bool = False) -> Analysis:
    """The analysis of a matrix's pattern by the method called `name`: the one made before, if the pattern is the same."""
    kind = SINGLE[matrix.dtype] if single else matrix.dtype
    for kept in _ANALYSES:
        if kept.fits(name, kind, matrix):
            return kept.analysis
    analysis = cast(Analysis, plugins.load(ROOM, name).analyse(matrix, kind))
    _ANALYSES.insert(0, _Kept(name, kind, matrix.indptr, matrix.indices, analysis))
    del _ANALYSES[KEPT:]
    return analysis


def factor(name: str, matrix: sparse.csr_matrix, pivoting: bool = False, single: bool = False) -> Tried:
    """Factorise a Hermitian CSR matrix by the method called `name`, in single precision if `single`.

    Raises
    ------
    SingularError
        If the matrix is singular to working precision.
    InputError
        If there is no such method, it is not installed, or the memory does not hold the factor.
    """
    name = chosen(name)
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    analysis = analyse(name, matrix, single)
    _check_memory(name, analysis, matrix.shape[0])
    made = analysis.factor(matrix.astype(SINGLE[matrix.dtype]) if single else matrix, pivoting)
    return Tried(made, _probed(made, matrix, single))


def _check_memory(name: str, analysis: Analysis, size: int) -> None:
    """Refuse a factorisation that the memory cannot hold, before it begins."""
    needed, free = analysis.memory(), available()
    if needed > free:
        raise InputError(
            f"factorisation {name} of {size} orbitals",
            f"it needs {needed / 2**30:.2f} GiB",
            f"at most the {free / 2**30:.2f} GiB that are free",
            "Use a machine with more memory, fewer processes at a time, or accuracy 'values', which takes half of it",
        )


def _probed(made: Factor, matrix: sparse.csr_matrix, single: bool) -> float:
    """Relative residual of one random right-hand side."""
    b = np.random.default_rng(0).standard_normal((matrix.shape[0], 1))
    x = made.solve(b.astype(SINGLE[matrix.dtype] if single else matrix.dtype)).astype(matrix.dtype)
    if not np.isfinite(x).all():
        raise SingularError("a solution is not finite")
    length = float(np.linalg.norm(b))
    growth = float(np.abs(matrix.data).max() * np.linalg.norm(x)) / length
    if growth > HOPELESS[single]:
        raise SingularError(f"the inverse is {growth:.1e} times larger than the matrix")
    return float(np.linalg.norm(matrix @ x - b)) / length


@dataclass(frozen=True, eq=False)
class _Kept:
    """An analysis, and what it is of."""

    name: str
    kind: np.dtype[Any]
    indptr: Values
    indices: Values
    analysis: Analysis

    def fits(self, name: str, kind: np.dtype[Any], matrix: sparse.csr_matrix) -> bool:
        """Whether it is of this pattern."""
        if (name, kind, matrix.nnz) != (self.name, self.kind, len(self.indices)):
            return False
        same_rows = self.indptr is matrix.indptr or np.array_equal(self.indptr, matrix.indptr)
        return same_rows and (self.indices is matrix.indices or np.array_equal(self.indices, matrix.indices))


_ANALYSES: list[_Kept] = []
