"""Dense factorisation A = G J G^H of Hermitian, indefinite matrices by LAPACK, J = +1 or -1 (positive ones first).

LAPACK's Bunch-Kaufman gives P A P^T = L D L^H with blocks of one and two in D; with their eigenvalues and rotations,
D = Q |V|^(1/2) J |V|^(1/2) Q^H, so that G = P^T L Q |V|^(1/2).

Source: J. R. Bunch, L. Kaufman, Math. Comp. 31, 163 (1977).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

Array = NDArray[Any]

PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}  # of LAPACK's routines
PANEL = 64  # columns of a panel: without workspace for these LAPACK works on single vectors, five times slower


class VanishingPivotError(Exception):
    """A pivot vanishes."""


@dataclass(frozen=True, eq=False)
class Pivots:
    """A factorised matrix [n, n].

    Parameters
    ----------
    lower
        L, with anything on its diagonal and zeros above, stored column after column.
    rows
        [n] row of A at each place (P).
    first, cosine, sine
        First rows of the blocks of two, and the elements of their eigenvectors.
    roots, order
        [n] |V|^(1/2), and the places with positive V before those with negative.
    signs
        [n] J.
    """

    lower: Array
    rows: Array
    first: Array
    cosine: Array
    sine: Array
    roots: Array
    order: Array
    signs: Array

    @property
    def n_positive(self) -> int:
        """Number of positive eigenvalues."""
        return int((self.signs > 0).sum())

    def inverse(self) -> Array:
        """G^-1 [n, n]; the factor cannot be used any more."""
        inverse, _ = _routine(lapack, "trtri", self.lower)(self.lower, lower=1, unitdiag=1, overwrite_c=1)
        np.fill_diagonal(inverse, 1)
        result = np.empty(inverse.shape, dtype=inverse.dtype)
        result[:, self.rows] = inverse
        _rotate(result, self.first, self.cosine.conj(), self.sine.conj())
        result /= self.roots[:, None]
        return result[self.order]

    def below(self, block: Array) -> Array:
        """B G^-H for a matrix B [m, n]; stored column after column."""
        turned = np.ascontiguousarray(block.T[self.rows])
        solve = _routine(blas, "trsm", self.lower)
        result = solve(1, self.lower, turned.T, side=1, lower=1, trans_a=2, diag=1, overwrite_b=1).T
        _rotate(result, self.first, self.cosine, self.sine)
        result /= self.roots[:, None]
        ordered: Array = result[self.order].T
        return ordered


def factorised(a: Array, tiny: float) -> Pivots:
    """Factorise `a` [n, n], a lower triangle with zeros above it, which is overwritten.

    Raises
    ------
    VanishingPivotError
        If a pivot is smaller than `tiny`.
    """
    routine = _routine(lapack, "hetrf" if a.dtype.kind == "c" else "sytrf", a)
    packed, pivots, info = routine(a, lower=1, lwork=max(PANEL * len(a), 1), overwrite_a=1)
    if info > 0:
        raise VanishingPivotError
    values = packed.diagonal().real.copy()
    packed, beside, _ = _routine(lapack, "syconv", a)(packed, pivots, lower=1, overwrite_a=1)
    first = np.flatnonzero(pivots < 0)[::2]
    cosine, sine = _diagonalised(values, beside[first], first)
    if len(values) and not np.abs(values).min() >= tiny:
        raise VanishingPivotError
    roots = np.sqrt(np.abs(values))
    order = np.argsort(-np.sign(values), kind="stable")
    return Pivots(packed, _permutation(pivots), first, cosine, sine, roots, order, np.sign(values)[order])


def _routine(library: Any, name: str, a: Array) -> Any:
    """The routine for the type of a matrix."""
    return getattr(library, PREFIX[a.dtype.char] + name)


def _permutation(pivots: Array) -> Array:
    """[n] the original row at each place after the interchanges of hetrf (lower)."""
    order = list(range(len(pivots)))
    k = 0
    while k < len(order):
        one = pivots[k] > 0
        here, there = (k, int(pivots[k]) - 1) if one else (k + 1, -int(pivots[k]) - 1)
        order[here], order[there] = order[there], order[here]
        k += 1 if one else 2
    return np.array(order, dtype=np.int64)


def _diagonalised(values: Array, beside: Array, first: Array) -> tuple[Array, Array]:
    """Put the eigenvalues of the blocks of two in place of their diagonals; elements of the first eigenvector of each."""
    a, b, c = values[first], beside, values[first + 1]
    mean, spread = (a + c) / 2, np.hypot((a - c) / 2, np.abs(b))
    high = mean + spread
    stable = a >= c  # (high - c, b) or (conj b, high - a): the one that does not cancel
    x, y = np.where(stable, high - c, b.conj()), np.where(stable, b, high - a)
    length = np.hypot(np.abs(x), np.abs(y))
    values[first], values[first + 1] = high, mean - spread
    return x / length, y / length


def _rotate(rows: Array, first: Array, x: Array, y: Array) -> None:
    """Rotate pairs of rows by (x, y) in place."""
    upper, lower, x, y = rows[first], rows[first + 1], x[:, None], y[:, None]
    rows[first] = x * upper + y * lower
    rows[first + 1] = x.conj() * lower - y.conj() * upper
