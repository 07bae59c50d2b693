"""Energies by shift-invert in mixed precision: factor and Lanczos in single, Rayleigh-Ritz and corrections in double.

The errors of Rayleigh-Ritz energies are of second order in the residuals r = H c - E S c, and are estimated as
r^H (H - sigma S)^-1 r. Where they are too large, c - (H - sigma S)^-1 r, one step of inverse iteration, for which the
single-precision factor is good enough, removes what far levels add to c; the step costs little, and takes one or two digits
off the residual. It does not make states accurate to 1e-8 (measured: 1e-6 to 1e-5), for it hardly damps the mixing with
levels just outside those that were found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from orbitrace.bands import lanczos
from orbitrace.bands.eigensolvers import Levels
from orbitrace.bands.factors import SINGLE, SingularError, Tried, factor
from orbitrace.bands.inertia import NUDGES, shifted
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats

TOLERANCE = 1e-4  # residual of the iteration, relative to 1 / (E - sigma)
STEPS = 4  # most corrections
PROBE = 0.3  # largest relative residual of a trial solution
WORST = 8  # levels whose errors are estimated: those of largest residual
ENERGY_ERROR = 3e-6  # eV: largest estimated error of energies; true ones are some times as large
ROUGH = 0.1  # largest residual ||H c - E S c|| / ||H c|| for which that estimate means something


@dataclass(frozen=True, eq=False)
class Ritz:
    """Levels within the span of some vectors.

    Parameters
    ----------
    energies, states
        [n] ascending, eV, and [size, n], S-orthonormal.
    rest
        [size, n] H c - E S c.
    residuals
        [n] ||H c - E S c|| / ||H c||.
    """

    energies: Floats
    states: Values
    rest: Values
    residuals: Floats

    @staticmethod
    def within(H: sparse.csr_matrix, S: sparse.csr_matrix, vectors: Values) -> Ritz:
        """The levels of H and S within the span of `vectors` [size, n]."""
        hv, sv = H @ vectors, S @ vectors
        h, s = vectors.conj().T @ hv, vectors.conj().T @ sv
        energies, mix = linalg.eigh((h + h.conj().T) / 2, (s + s.conj().T) / 2)
        hc = hv @ mix
        rest = hc - (sv @ mix) * energies
        return Ritz(energies, vectors @ mix, rest, np.linalg.norm(rest, axis=0) / np.linalg.norm(hc, axis=0))

    def worst_error(self, inverse: Tried) -> float:
        """Largest estimated error of the energies, eV."""
        rest = self.rest[:, np.argsort(-self.residuals)[:WORST]]
        return float(np.abs(np.einsum("ij,ij->j", rest.conj(), _solved(inverse, rest))).max())

    def corrected(self, H: sparse.csr_matrix, S: sparse.csr_matrix, inverse: Tried) -> Ritz:
        """After one step of inverse iteration."""
        return Ritz.within(H, S, self.states - _solved(inverse, self.rest))


def values(
    name: str,
    H: sparse.csr_matrix,
    S: sparse.csr_matrix,
    n: int,
    sigma: float,
    block: int,
    limit: int,
    seed: int,
) -> Levels | None:
    """The n levels nearest to sigma, or None if single precision is too little for these matrices."""
    inverse = _single_inverse(H, S, sigma, name)
    if inverse is None:
        return None
    theta, vectors, error = lanczos.largest(inverse.solve, S.astype(SINGLE[S.dtype]), n, block, TOLERANCE, limit, seed)
    if not error <= 1e2 * TOLERANCE:
        return None
    ritz = _accurate(H, S, Ritz.within(H, S, vectors.astype(H.dtype)), inverse)
    if ritz is None:
        return None
    below = inverse.negatives()
    # On which side of the shift the factor sees a level is told by theta: rounding may have moved it across
    first = None if below is None else below - int((theta < 0).sum())
    made_by = f"{name} (single precision)"
    return Levels(ritz.energies, ritz.states, first_band=first, factor=made_by, accuracy="values")


def _single_inverse(H: sparse.csr_matrix, S: sparse.csr_matrix, sigma: float, name: str) -> Tried | None:
    """The factor at a shift near sigma, or None if it is too inaccurate."""
    for nudge in NUDGES:
        try:
            made = factor(name, shifted(H, S, sigma + nudge), single=True)
        except SingularError:
            continue
        return made if made.residual < PROBE else None
    return None


def _solved(inverse: Tried, block: Values) -> Values:
    """A^-1 block, in the precision of the block; columns are scaled, for they may be smaller than single precision holds."""
    scale = np.maximum(np.linalg.norm(block, axis=0), np.finfo(float).tiny)
    solution: Values = inverse.solve((block / scale).astype(SINGLE[block.dtype])).astype(block.dtype) * scale
    return solution


def _accurate(H: sparse.csr_matrix, S: sparse.csr_matrix, ritz: Ritz, inverse: Tried) -> Ritz | None:
    """Levels corrected until their energies are accurate, or None if the corrections do not converge."""
    for _ in range(STEPS):
        largest = float(ritz.residuals.max())
        if largest <= ROUGH and ritz.worst_error(inverse) <= ENERGY_ERROR:
            return ritz
        ritz = ritz.corrected(H, S, inverse)
        if not ritz.residuals.max() <= largest / 2:
            return None
    return None
