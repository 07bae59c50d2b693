"""LAPACK on full matrices: Cholesky of S, reduction to a standard problem, and MRRR (heevr) for all levels or some of them.

The reference that every other solver is tested against, and the fastest choice below about 1000 orbitals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from orbitrace.bands.eigensolvers import Levels, UnsuitedError
from orbitrace.physics.blocks import Values


@dataclass(frozen=True)
class Settings:
    """Options of the dense solver.

    Parameters
    ----------
    ill_threshold
        Combinations of orbitals (eigenvectors of S) whose overlap is below it are left out; 0 leaves out none, and refuses an
        S that is not positive definite. The number of levels then shrinks, and the highest ones move; 1e-4 is customary.
    """

    ill_threshold: float = 0.0


def solve(
    H: sparse.csr_matrix,
    S: sparse.csr_matrix,
    n_bands: int | None,
    sigma: float | None,
    settings: Settings,
    states: bool,
) -> Levels:
    """Levels of H c = E S c; see the contract of the room."""
    if settings.ill_threshold > 0:
        return _within(H.toarray(), S.toarray(), n_bands, sigma, settings.ill_threshold)
    full = H.toarray()
    first, last = _index_range(full, S, n_bands, sigma)
    standard, lower = _standard_form(full, S.toarray())
    part = None if last - first == len(full) else (first, last - 1)
    if not states:
        energies = linalg.eigh(standard, eigvals_only=True, subset_by_index=part, driver="evr", overwrite_a=True)
        vectors = None
    else:
        energies, vectors = linalg.eigh(standard, subset_by_index=part, driver="evr", overwrite_a=True)
        vectors = linalg.solve_triangular(lower, vectors, lower=True, trans="C", overwrite_b=True)
    if sigma is not None and n_bands is not None and len(energies) > n_bands:
        start = _nearest_run(energies, n_bands, sigma)
        energies = energies[start : start + n_bands]
        vectors = None if vectors is None else vectors[:, start : start + n_bands]
        first += start
    return Levels(energies, vectors, first_band=first, verified=True)


def _within(H: Values, S: Values, n_bands: int | None, sigma: float | None, threshold: float) -> Levels:
    """Levels within the combinations of orbitals whose overlap reaches a threshold (canonical orthogonalisation).

    Source: P.-O. Loewdin, Adv. Quantum Chem. 5, 185 (1970).
    """
    overlaps, axes = linalg.eigh(S)
    kept = axes[:, overlaps >= threshold] / np.sqrt(overlaps[overlaps >= threshold])
    if kept.shape[1] < max(n_bands or 0, 1):
        raise UnsuitedError(f"the threshold {threshold:g} leaves {kept.shape[1]} of {len(H)} combinations of orbitals")
    energies, mix = linalg.eigh(kept.conj().T @ H @ kept)
    first = 0 if sigma is None or n_bands is None else _nearest_run(energies, n_bands, sigma)
    wanted = slice(first, None if n_bands is None else first + n_bands)
    return Levels(energies[wanted], kept @ mix[:, wanted], first_band=first, verified=True)


def _standard_form(H: Values, S: Values) -> tuple[Values, Values]:
    """L^-1 H L^-H (its lower triangle) and L, where S = L L^H."""
    reduction = "hegst" if np.iscomplexobj(H) else "sygst"
    potrf, hegst = linalg.get_lapack_funcs(("potrf", reduction), (H, S))
    lower, info = potrf(S, lower=1, clean=1, overwrite_a=1)
    if info != 0:
        raise UnsuitedError("the overlap is not positive definite")
    standard, _ = hegst(H, lower, lower=1, overwrite_a=1)
    return standard, lower


def _index_range(H: Values, S: sparse.csr_matrix, n_bands: int | None, sigma: float | None) -> tuple[int, int]:
    """First and one past the last level that have to be computed."""
    if n_bands is None:
        return 0, len(H)
    if sigma is None:
        return 0, n_bands
    below = _negatives(H - sigma * S.toarray())
    return max(below - n_bands, 0), min(below + n_bands, len(H))


def _negatives(matrix: Values) -> int:
    """Number of negative eigenvalues, by Sylvester's law: those of D in L D L^H, which has blocks of 1 and 2."""
    np.fill_diagonal(matrix, matrix.diagonal().real)  # rounding, of which SciPy warns
    _, d, _ = linalg.ldl(matrix, hermitian=True, overwrite_a=True)
    values = linalg.eigh_tridiagonal(d.diagonal().real, np.abs(d.diagonal(-1)), eigvals_only=True)
    return int((values < 0).sum())


def _nearest_run(energies: np.ndarray, n: int, sigma: float) -> int:
    """Start of the run of n ascending levels whose farthest member is nearest to sigma."""
    starts = np.arange(len(energies) - n + 1)
    spread = np.maximum(np.abs(energies[starts] - sigma), np.abs(energies[starts + n - 1] - sigma))
    return int(np.argmin(spread))
