"""Which levels of a reduced problem are true, and which spurious: their residuals tell.

What separates them depends on the spectrum and on the basis, so it is learnt where exact levels are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orbitrace.bands.subspace import RitzLevels
from orbitrace.physics.structure import Floats

APART = 5.0  # least ratio of the residuals of spurious levels and of true ones
FINE = 1e-3  # eV: levels with such residuals are true
UNTESTED = 1.5  # a residual between those of true and of spurious levels at tests, by this factor, is suspicious


@dataclass(frozen=True)
class Filter:
    """What tells true levels from spurious ones.

    Parameters
    ----------
    trusted, spurious
        Largest residual of a true level and smallest one of a spurious level at tests that passed, eV.
    """

    trusted: float = 0.0
    spurious: float = np.inf

    def joined(self, other: Filter) -> Filter:
        """Both."""
        both = Filter(max(self.trusted, other.trusted), min(self.spurious, other.spurious))
        return both if both.clear else other

    @property
    def clear(self) -> bool:
        """Whether the two kinds are far enough apart."""
        return self.spurious >= APART * max(self.trusted, FINE)

    def true(self, levels: RitzLevels) -> RitzLevels:
        """Without spurious levels."""
        trusted = max(self.trusted, FINE)
        return levels.only(levels.residuals < np.sqrt(trusted * min(self.spurious, APART**2 * trusted)))

    def doubtful(self, bands: RitzLevels, n: int, everything: RitzLevels) -> bool:
        """Whether one of n levels, or one among them that was dropped, might be of the other kind."""
        near = within(everything, bands.energies).residuals
        high, low = UNTESTED * max(self.trusted, FINE), self.spurious / UNTESTED
        return len(bands.energies) < n or bool(((near > high) & (near < max(low, 2 * high))).any())


def within(levels: RitzLevels, energies: Floats, margin: float = 1e-6) -> RitzLevels:
    """The levels between the lowest and the highest of some energies."""
    return levels.only((levels.energies >= energies[0] - margin) & (levels.energies <= energies[-1] + margin))


def compared(ritz: RitzLevels, energies: Floats) -> tuple[float, Filter]:
    """Largest error of the levels of least residual where exact ones lie, and the residuals of these and of the others."""
    near = within(ritz, energies)
    order = np.argsort(near.residuals, kind="stable")
    true, rest = np.sort(order[: len(energies)]), order[len(energies) :]
    if len(true) < len(energies):
        return float("inf"), Filter()
    error = float(np.abs(near.energies[true] - energies).max())
    return error, Filter(float(near.residuals[true].max()), float(near.residuals[rest].min(initial=np.inf)))
