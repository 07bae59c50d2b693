"""Our own multifrontal factorisation A = G J G^H: dense fronts in a nested dissection order, by BLAS. Needs only SciPy.

Each front (see `_fronts.py`) is assembled from the elements of A and from what its children leave; its pivots are eliminated
by dense linear algebra (`_ldl.py`), which leaves a matrix on its border. J holds the signs of the pivots, so that the inertia
is known for complex matrices too. Pivots are chosen among those of their front only: the door tries each factor, and
shift-invert refines solutions where that is needed.

Source: I. S. Duff and J. K. Reid, ACM Trans. Math. Softw. 9, 302 (1983).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import blas

from orbitrace.bands.factors import SingularError
from orbitrace.bands.factors._fronts import Front, Plan, plan
from orbitrace.bands.factors._ldl import PREFIX, Array, VanishingPivotError, factorised
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Ints

HEAP = 3.5  # bytes that the making of the plan leaves, over those of its longest arrays: measured 2 to 5
TINY = 64  # units in the last place, relative to the largest element of A, below which a pivot vanishes


def analyse(pattern: sparse.csr_matrix, kind: np.dtype[Any]) -> MultifrontalAnalysis:
    """The analysis of a pattern; see the contract of the room."""
    return MultifrontalAnalysis(plan(pattern), kind)


@dataclass(frozen=True, eq=False)
class MultifrontalAnalysis:
    """The plan, and the type of the elements."""

    plan: Plan
    kind: np.dtype[Any]

    def memory(self) -> int:
        """Bytes: the largest sum of the factor so far, the front at work, and the borders that wait; and the plan."""
        waiting: dict[int, int] = {}
        stored = most = 0
        for number, front in enumerate(self.plan.fronts):
            n, m = front.n_pivots, len(front.border)
            # The columns and the border, and what `_eliminated` holds of them: turned and ordered, or inverted and ordered
            work = n * (n + m) + m * m + n * n + max(2 * n * m, n * m + 2 * n * n)
            most = max(most, stored + sum(waiting.values()) + work)
            for child in front.children:
                del waiting[child]
            waiting[number] = m * m
            stored += n * (n + m)
        plan = sum(int(HEAP * f.source.nbytes) + f.place.nbytes + f.border.nbytes for f in self.plan.fronts)
        return most * self.kind.itemsize + plan

    def factor(self, matrix: sparse.csr_matrix, pivoting: bool) -> Multifrontal:  # noqa: ARG002 it pivots within blocks
        """Factorise a Hermitian matrix; see the contract of the room."""
        tiny = TINY * float(np.finfo(self.kind.char).eps) * float(np.abs(matrix.data).max())
        borders: dict[int, Array] = {}
        done = []
        for number, front in enumerate(self.plan.fronts):
            columns, border = _assembled(front, self.plan.fronts, matrix.data, borders)
            try:
                done.append(_eliminated(front, columns, border, tiny))
            except VanishingPivotError as reason:
                raise SingularError("a pivot vanishes") from reason
            borders[number] = border
        return Multifrontal(self.plan.order, done)


@dataclass(frozen=True, eq=False)
class _Eliminated:
    """What the solution needs of a front: G^-1 of its pivots, and the border's part of G, both sorted by sign.

    Parameters
    ----------
    front
        Its rows.
    inverse
        [n_pivots, n_pivots].
    below
        [n_border, n_pivots].
    signs
        [n_pivots] J.
    """

    front: Front
    inverse: Array
    below: Array
    signs: Array


def _assembled(front: Front, fronts: tuple[Front, ...], data: Array, borders: dict[int, Array]) -> tuple[Array, Array]:
    """Columns of the pivots [pivots and border, pivots] and the matrix on the border, lower triangles."""
    n, m = front.n_pivots, len(front.border)
    columns = np.zeros((n + m) * n, dtype=data.dtype)
    columns[front.place] = data[front.source]
    columns = columns.reshape((n + m, n), order="F")
    border = np.zeros((m, m), dtype=data.dtype, order="F")
    for child in front.children:
        rows = fronts[child].border
        inside = int(np.searchsorted(rows, front.stop))
        local = np.concatenate([rows[:inside] - front.start, n + np.searchsorted(front.border, rows[inside:])])
        left = borders.pop(child)
        _add(columns, local, left[:, :inside])
        _add(border, local[inside:] - n, left[inside:, inside:])
    return columns, border


def _add(target: Array, rows: Ints, left: Array) -> None:
    """target[rows][:, rows] += left, for as many columns as `left` has and in the lower triangle, run of rows by run."""
    count = left.shape[1]
    turned, source = target.T, left.T  # stored row after row
    begins = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    runs = list(zip(begins.tolist(), [*begins[1:].tolist(), len(rows)], rows[begins].tolist(), strict=False))
    for number, (a, b, there) in enumerate(runs):
        stop = min(b, count)
        if a < stop:
            for c, d, beside in runs[number:]:
                turned[there : there + stop - a, beside : beside + d - c] += source[a:stop, c:d]


def _eliminated(front: Front, columns: Array, border: Array, tiny: float) -> _Eliminated:
    """Eliminate the pivots of a front; `border` is updated in place."""
    n = front.n_pivots
    pivots = factorised(np.array(columns[:n], order="F"), tiny)
    below = pivots.below(columns[n:])
    if len(border):
        update = getattr(blas, PREFIX[columns.dtype.char] + ("herk" if columns.dtype.kind == "c" else "syrk"))
        positive = pivots.n_positive
        for part, sign in ((below[:, :positive], -1.0), (below[:, positive:], 1.0)):
            if part.shape[1]:
                update(sign, part, beta=1.0, c=border, lower=1, overwrite_c=1)
    return _Eliminated(front, pivots.inverse(), below, pivots.signs)


class Multifrontal:
    """A factorisation by fronts."""

    def __init__(self, order: Ints, fronts: list[_Eliminated]) -> None:
        self.order, self.fronts = order, fronts

    def solve(self, block: Values) -> Values:
        """A^-1 block."""
        x: Array = np.ascontiguousarray(block)[self.order]
        for f in self.fronts:
            pivots = slice(f.front.start, f.front.stop)
            x[pivots] = y = f.signs[:, None] * (f.inverse @ x[pivots])
            x[f.front.border] -= f.below @ y
        for f in reversed(self.fronts):
            pivots = slice(f.front.start, f.front.stop)
            y = x[pivots] - f.signs[:, None] * (f.below.conj().T @ x[f.front.border])
            x[pivots] = f.inverse.conj().T @ y
        result: Values = np.empty_like(block)
        result[self.order] = x
        return result

    def negatives(self) -> int | None:
        """Number of negative eigenvalues: of negative signs."""
        return sum(int((f.signs < 0).sum()) for f in self.fronts)
