"""Negative eigenvalues of a Hermitian matrix made of blocks of one and two, known only by what it does to vectors.

Row i of such a matrix M holds its diagonal element a and, in a block of two, one more element c in the column j of its
partner. With numbers v that differ from row to row,

    x0 = M 1 = a + c,   x1 = M v = a v_i + c v_j,   x2 = M v^2 = a v_i^2 + c v_j^2,

so that x1 - v_i x0 = c (v_j - v_i) vanishes for blocks of one, and (x2 - v_i^2 x0) / (x1 - v_i x0) = v_i + v_j names the
partner of the others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats, Ints

ROUNDING = 6  # units in the last place that the products may be wrong by
TRIES = 8  # sets of numbers: rows whose numbers are too similar to those of their partner need another one

Operator = Callable[[Floats], Values]


def negatives_of(operator: Operator, size: int, eps: float) -> int | None:
    """Number of negative eigenvalues of the matrix that `operator` multiplies a vector [size] by, or None if unclear.

    Parameters
    ----------
    eps
        Precision of the products.
    """
    partner = np.full(size, -1)
    beside = np.zeros(size, dtype=np.complex128)  # the element c of each row whose partner is known
    for attempt in range(TRIES):
        if (looked := _look(operator, size, eps, attempt)) is None:
            return None
        sums, off, mates, clear = looked
        fresh = np.flatnonzero(clear & (partner < 0))
        for i, j in ((fresh, mates[fresh]), (mates[fresh], fresh)):
            partner[i] = j
        beside[fresh], beside[mates[fresh]] = off[fresh], off[fresh].conj()
        if (partner[off != 0] >= 0).all():
            return _count(sums, partner, beside)
    return None


def _look(operator: Operator, size: int, eps: float, seed: int) -> tuple[Values, Values, Ints, NDArray[np.bool_]] | None:
    """Row sums, elements beside the diagonal (0 for blocks of one), columns of these, and where the columns are sure; None if
    products are not finite.
    """
    code = np.random.default_rng(seed).permutation(size)
    v = np.rint((2 * (code + 0.5) / size - 1) / eps) * eps  # from -1 to 1, exact in the precision of the products
    place = np.argsort(code)
    x0, x1, x2 = operator(np.ones(size)), operator(v), operator(v**2)
    if not all(np.isfinite(x).all() for x in (x0, x1, x2)):
        return None
    first, second = x1 - v * x0, x2 - v**2 * x0
    error = ROUNDING * eps * (np.abs(x0) + np.abs(x1))
    coupled = np.abs(first) > error
    safe = np.where(coupled, first, 1)
    number = ((second / safe).real - v + 1) * size / 2 - 0.5
    mates = place[np.clip(np.nan_to_num(np.rint(number)), 0, size - 1).astype(np.int64)]
    clear = coupled & (2 * error * size < 0.5 * np.abs(first)) & (mates != np.arange(size))
    off = np.where(coupled, first / np.where(mates == np.arange(size), 1, v[mates] - v), 0)
    return x0, off, mates, clear


def _count(sums: Values, partner: Ints, beside: Values) -> int | None:
    """Negative eigenvalues of all blocks; None if partners contradict each other."""
    alone = partner < 0
    rows = np.flatnonzero(~alone)
    if not np.array_equal(partner[partner[rows]], rows):
        return None
    diagonal = (sums - beside).real
    first = rows[rows < partner[rows]]
    second = partner[first]
    indefinite = diagonal[first] * diagonal[second] < np.abs(beside[first]) ** 2
    both = ~indefinite & (diagonal[first] < 0)
    return int((diagonal[alone] < 0).sum() + indefinite.sum() + 2 * both.sum())
