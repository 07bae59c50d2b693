"""Levels near an energy by shift-invert: a sparse factorisation of H - sigma S, and block Lanczos in the S inner product.

SciPy's ``eigsh`` takes complex Hermitian problems to the non-Hermitian Arnoldi method of ARPACK, whose states of degenerate
levels are not orthogonal, and works on one vector at a time; so the iteration is our own. A last Rayleigh-Ritz step with H
and S themselves makes the energies independent of the factor's errors to second order.

The factor also counts the levels below sigma (its inertia), which gives the absolute number of each band. Where it cannot
(sigma on a level, or a diagonal pivot that vanishes), sigma is moved by some tenths of a millielectronvolt.

Where only energies are wanted (accuracy ``values``), factor and iteration are in single precision, which halves time and
memory, followed by corrections in double precision (`_mixed.py`). Where these do not converge, all is done in double.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import sparse

from orbitrace.bands import lanczos
from orbitrace.bands.eigensolvers import Levels, UnsuitedError, _mixed
from orbitrace.bands.eigensolvers._mixed import Ritz
from orbitrace.bands.factors import AUTO, SingularError, Tried, chosen, factor
from orbitrace.bands.inertia import NUDGES, count_at, shifted
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values

PROBE = 1e-5  # largest relative residual of a trial solution
REFINE = 1e-7  # above this one each solution is refined once, which squares its error
GOOD = 1e-9  # residual of levels above which the iteration is repeated with refined solutions
SMALL_BLOCK = 4  # vectors per step that a small matrix must have room for
DISTINCT = 1e-5  # eV: only between levels farther apart than this is counting safe


@dataclass(frozen=True)
class Settings:
    """Options of shift-invert.

    Parameters
    ----------
    factor
        Name of the factorisation, a file in ``bands/factors``; ``auto``: the fastest that is installed.
    block
        Vectors per Lanczos step; degenerate levels up to this multiplicity are found surely.
    tolerance
        Residual of the Lanczos iteration, relative to 1 / (E - sigma).
    max_vectors
        Most Lanczos vectors; 0 stands for 200 + 10 times the number of levels.
    accuracy
        ``states``: energies and states, residuals to 1e-8; ``values``: energies to about 1e-5 eV, in half the time and memory.
    verify
        Prove by two further factorisations that no level is missing between the lowest and the highest found.
    seed
        Of the random start vectors.
    """

    factor: str = AUTO
    block: int = 8
    tolerance: float = 2e-10
    max_vectors: int = 0
    accuracy: Literal["states", "values"] = "states"
    verify: bool = False
    seed: int = 0


def solve(
    H: sparse.csr_matrix,
    S: sparse.csr_matrix,
    n_bands: int | None,
    sigma: float | None,
    settings: Settings,
    states: bool,  # noqa: ARG001 part of the contract
) -> Levels:
    """Levels of H c = E S c nearest to sigma; see the contract of the room."""
    if n_bands is None or sigma is None:
        raise UnsuitedError("it finds some levels near an energy, not all or the lowest ones")
    room = H.shape[0] // 4 - n_bands
    if room < min(settings.block, SMALL_BLOCK):
        raise UnsuitedError(f"{n_bands} of {H.shape[0]} levels are too many")
    if settings.accuracy not in ("states", "values"):
        raise InputError("shift_invert.accuracy", f"{settings.accuracy!r}", "'states' or 'values'")
    settings = replace(settings, factor=chosen(settings.factor), block=min(settings.block, max(room // 2, SMALL_BLOCK)))
    if settings.accuracy == "values":
        limit = _most_vectors(H.shape[0], n_bands, settings.block, settings)
        mixed = _mixed.values(settings.factor, H, S, n_bands, sigma, settings.block, limit, settings.seed)
        if mixed is not None and (not settings.verify or _complete(H, S, mixed, settings.factor)):
            return replace(mixed, verified=settings.verify)
    inverse = _inverse(H, S, sigma, settings.factor)
    for block in (settings.block, 2 * settings.block, 4 * settings.block):
        levels = _nearest(H, S, n_bands, inverse, block, settings)
        if not settings.verify or _complete(H, S, levels, settings.factor):
            return replace(levels, verified=settings.verify)
    raise UnsuitedError("counting shows that levels are missing")


@dataclass(frozen=True, eq=False)
class _Inverse:
    """(H - shift S)^-1, and how many levels lie below the shift."""

    shift: float
    matrix: sparse.csr_matrix
    factor: Tried
    refined: bool

    def __call__(self, block: Values) -> Values:
        solution = self.factor.solve(block)
        if self.refined:
            solution += self.factor.solve(block - self.matrix @ solution)
        return solution


def _inverse(H: sparse.csr_matrix, S: sparse.csr_matrix, sigma: float, name: str) -> _Inverse:
    """The inverse at a shift near sigma that solves accurately and, if at all possible, counts."""
    for pivoting in (False, True):
        for nudge in NUDGES:
            matrix = shifted(H, S, sigma + nudge)
            try:
                made = factor(name, matrix, pivoting)
            except SingularError:
                continue
            if made.residual < PROBE and (pivoting or made.negatives() is not None):
                return _Inverse(sigma + nudge, matrix, made, made.residual > REFINE)
    raise UnsuitedError(f"H - sigma S is singular to working precision for every shift near {sigma:.4f} eV")


def _nearest(H: sparse.csr_matrix, S: sparse.csr_matrix, n: int, inverse: _Inverse, block: int, settings: Settings) -> Levels:
    """The n levels nearest to the shift."""
    limit = _most_vectors(H.shape[0], n, block, settings)
    tolerance = settings.tolerance if settings.accuracy == "states" else max(settings.tolerance, _mixed.TOLERANCE)
    _, vectors, error = lanczos.largest(inverse, S, n, block, tolerance, limit, settings.seed)
    if error > 1e2 * tolerance:
        raise UnsuitedError(f"after {limit} Lanczos vectors a residual of {error:.1e} is left")
    ritz = Ritz.within(H, S, vectors)
    if settings.accuracy == "states" and not inverse.refined and ritz.residuals.max() > GOOD:
        return _nearest(H, S, n, replace(inverse, refined=True), block, settings)
    below = inverse.factor.negatives()
    near = np.abs(ritz.energies - inverse.shift).min() < 1e-8  # on which side such a level lies is a matter of rounding
    first = None if below is None or near else below - int((ritz.energies < inverse.shift).sum())
    return Levels(ritz.energies, ritz.states, first_band=first, factor=settings.factor, accuracy=settings.accuracy)


def _most_vectors(size: int, n: int, block: int, settings: Settings) -> int:
    """Limit of the Lanczos basis for n levels."""
    return min(settings.max_vectors or 10 * n + 200, size - block)


def _complete(H: sparse.csr_matrix, S: sparse.csr_matrix, levels: Levels, name: str) -> bool:
    """Whether counts near both ends of the found levels differ by the number of levels found between them."""
    e = levels.energies
    gaps = np.flatnonzero(np.diff(e) > DISTINCT)  # shifts between level g and g + 1
    if len(gaps) < 2:
        return False
    counts = [count_at(H, S, (e[gap] + e[gap + 1]) / 2, name) for gap in (gaps[0], gaps[-1])]
    if None in counts or counts[1] - counts[0] != gaps[-1] - gaps[0]:  # type: ignore[operator]
        return False
    return levels.first_band is None or counts[0] == levels.first_band + gaps[0] + 1
