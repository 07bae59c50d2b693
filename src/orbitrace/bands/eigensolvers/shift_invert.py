"""Levels near an energy by shift-invert: a sparse factorisation of H - sigma S, and block Lanczos in the S inner product.

SciPy's ``eigsh`` takes complex Hermitian problems to the non-Hermitian Arnoldi method of ARPACK, whose states of degenerate
levels are not orthogonal, and works on one vector at a time; so the iteration is our own. A last Rayleigh-Ritz step with H
and S themselves makes the energies independent of the factor's errors to second order.

The factor also counts the levels below sigma (its inertia), which gives the absolute number of each band. Where it cannot
(sigma on a level, or a diagonal pivot that vanishes), sigma is moved by some tenths of a millielectronvolt.

Where only energies are wanted (accuracy ``values``), factor and iteration are in single precision, which halves time and
memory; the errors that are left in the energies are estimated, and if they are too large all is done in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import linalg, sparse

from orbitrace.bands import lanczos
from orbitrace.bands.eigensolvers import Levels, UnsuitedError
from orbitrace.bands.factors import AUTO, SINGLE, SingularError, Tried, chosen, factor
from orbitrace.bands.inertia import NUDGES, count_at, shifted
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats

PROBE = 1e-5  # largest relative residual of a trial solution
REFINE = 1e-7  # above this one each solution is refined once, which squares its error
GOOD = 1e-9  # residual of levels above which the iteration is repeated with refined solutions
DISTINCT = 1e-5  # eV: only between levels farther apart than this is counting safe
VALUES = 1e-4  # residual of the iteration, relative to 1 / (E - sigma), where only energies are wanted
PROBE_SINGLE = 0.3  # largest relative residual of a trial solution in single precision
WORST = 8  # levels whose errors are estimated: those of largest residual
ENERGY_ERROR = 3e-6  # eV: largest estimated error of energies from single precision; true ones are some times as large
ROUGH = 0.1  # largest residual ||H c - E S c|| / ||H c|| from single precision for which that estimate means something
CLEAR = 2e-3  # eV: factors in single precision may count wrongly if a level is closer to the shift than this


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
    block: int = 4
    tolerance: float = 1e-10
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
    if 4 * (n_bands + settings.block) > H.shape[0]:
        raise UnsuitedError(f"{n_bands} of {H.shape[0]} levels are too many")
    if settings.accuracy not in ("states", "values"):
        raise InputError("shift_invert.accuracy", f"{settings.accuracy!r}", "'states' or 'values'")
    settings = replace(settings, factor=chosen(settings.factor))
    single = _single_inverse(H, S, sigma, settings.factor) if settings.accuracy == "values" else None
    if single is not None:
        levels = _values(H, S, n_bands, single, settings)
        if levels is not None and (not settings.verify or _complete(H, S, levels, settings.factor)):
            return replace(levels, verified=settings.verify)
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
    tolerance = settings.tolerance if settings.accuracy == "states" else max(settings.tolerance, VALUES)
    _, vectors, error = lanczos.largest(inverse, S, n, block, tolerance, limit, settings.seed)
    if error > 1e2 * tolerance:
        raise UnsuitedError(f"after {limit} Lanczos vectors a residual of {error:.1e} is left")
    energies, vectors = _rayleigh_ritz(H, S, vectors)
    if settings.accuracy == "states" and not inverse.refined and _residual(H, S, energies, vectors) > GOOD:
        return _nearest(H, S, n, replace(inverse, refined=True), block, settings)
    below = inverse.factor.negatives()
    near = np.abs(energies - inverse.shift).min() < 1e-8  # on which side such a level lies is a matter of rounding
    first = None if below is None or near else below - int((energies < inverse.shift).sum())
    return Levels(energies, vectors, first_band=first, factor=settings.factor, accuracy=settings.accuracy)


def _most_vectors(size: int, n: int, block: int, settings: Settings) -> int:
    """Limit of the Lanczos basis for n levels."""
    return min(settings.max_vectors or 10 * n + 200, size - block)


def _single_inverse(H: sparse.csr_matrix, S: sparse.csr_matrix, sigma: float, name: str) -> _Inverse | None:
    """The inverse at a shift near sigma in single precision, or None if that is too little for these matrices."""
    for nudge in NUDGES:
        matrix = shifted(H, S, sigma + nudge)
        try:
            made = factor(name, matrix, single=True)
        except SingularError:
            continue
        return _Inverse(sigma + nudge, matrix, made, refined=False) if made.residual < PROBE_SINGLE else None
    return None


def _values(H: sparse.csr_matrix, S: sparse.csr_matrix, n: int, inverse: _Inverse, settings: Settings) -> Levels | None:
    """The n levels nearest to the shift from single precision, or None if their energies are not accurate."""
    single, tolerance = SINGLE[H.dtype], max(settings.tolerance, VALUES)
    limit = _most_vectors(H.shape[0], n, settings.block, settings)
    _, vectors, error = lanczos.largest(inverse, S.astype(single), n, settings.block, tolerance, limit, settings.seed)
    if not error <= 1e2 * tolerance:
        return None
    energies, vectors = _rayleigh_ritz(H, S, vectors.astype(H.dtype))
    good = _residual(H, S, energies, vectors) <= ROUGH and _error_of(H, S, energies, vectors, inverse) <= ENERGY_ERROR
    if not good:
        return None
    first = _first_band(H, S, energies, inverse, settings.factor)
    made_by = f"{settings.factor} (single precision)"
    return Levels(energies, vectors, first_band=first, factor=made_by, accuracy="values")


def _error_of(H: sparse.csr_matrix, S: sparse.csr_matrix, energies: Floats, vectors: Values, inverse: _Inverse) -> float:
    """Largest estimated error of some energies, eV: r^H (H - sigma S)^-1 r for the residuals r = H c - E S c."""
    rest = H @ vectors - (S @ vectors) * energies
    worst = np.argsort(-np.linalg.norm(rest, axis=0))[:WORST]
    rest = rest[:, worst]
    return float(np.abs(np.einsum("ij,ij->j", rest.conj(), inverse(rest.astype(SINGLE[H.dtype])))).max())


def _first_band(H: sparse.csr_matrix, S: sparse.csr_matrix, energies: Floats, inverse: _Inverse, name: str) -> int | None:
    """Number of the lowest of these levels, from a count in single precision where no level is near the shift."""
    shift, below = inverse.shift, inverse.factor.negatives()
    if below is None or np.abs(energies - shift).min() < CLEAR:
        gap = int(np.argmax(np.diff(energies)))
        shift = float(energies[gap] + energies[gap + 1]) / 2
        below = count_at(H, S, shift, name, single=bool(np.diff(energies)[gap] > 2 * CLEAR))
    return None if below is None else below - int((energies < shift).sum())


def _residual(H: sparse.csr_matrix, S: sparse.csr_matrix, energies: Floats, vectors: Values) -> float:
    """Largest ||H c - E S c|| / ||H c||."""
    hc = H @ vectors
    return float((np.linalg.norm(hc - (S @ vectors) * energies, axis=0) / np.linalg.norm(hc, axis=0)).max())


def _rayleigh_ritz(H: sparse.csr_matrix, S: sparse.csr_matrix, vectors: Values) -> tuple[Floats, Values]:
    """Levels of H and S within the span of some vectors: ascending energies, S-orthonormal states."""
    h, s = (vectors.conj().T @ (matrix @ vectors) for matrix in (H, S))
    energies, mix = linalg.eigh((h + h.conj().T) / 2, (s + s.conj().T) / 2)
    return energies, vectors @ mix


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
