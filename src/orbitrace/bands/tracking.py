"""Absolute numbers of bands, carried from k points where they were counted to others by continuity.

Between two k points nearby, the states of a run of levels span nearly the same space, however they mix and cross in it. With
the weights |<i|j>|^2 of the levels i of one and j of the other, the mean of i - j then is the difference of the numbers of
their lowest levels. Where that mean is not near a whole number, the step is too long or a level is missing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orbitrace.bands.subspace import RitzLevels
from orbitrace.physics.structure import Floats

WHOLE = 0.2  # how far from a whole number the mean may be
SHARED = 0.8  # least share of the smaller run that the larger one contains
HALVINGS = 5  # of a step that is too long

Solve = Callable[[Floats], RitzLevels]


def shift_between(one: RitzLevels, other: RitzLevels) -> int | None:
    """By how much the number of the lowest level of `other` exceeds that of `one`, or None if it cannot be told."""
    n, m = len(one.energies), len(other.energies)
    if min(n, m) == 0:
        return None
    weights = np.abs(one.states.conj().T @ ((one.overlap + other.overlap) / 2) @ other.states) ** 2
    total = float(weights.sum())
    if total < SHARED * min(n, m):
        return None
    mean = float((weights * (np.arange(n)[:, None] - np.arange(m)[None, :])).sum()) / total
    return round(mean) if abs(mean - round(mean)) <= WHOLE else None


def shift_along(
    solve: Solve, start: Floats, one: RitzLevels, stop: Floats, other: RitzLevels, halvings: int = HALVINGS
) -> int | None:
    """The same for k points farther apart: through points between them where that is needed."""
    shift = shift_between(one, other)
    if shift is not None or halvings == 0:
        return shift
    middle = (start + stop) / 2
    between = solve(middle)
    first = shift_along(solve, start, one, middle, between, halvings - 1)
    second = None if first is None else shift_along(solve, middle, between, stop, other, halvings - 1)
    return None if first is None or second is None else first + second
