"""Whether an overlap is positive definite."""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse

DENSE = 1500  # orbitals up to which a Cholesky factorisation decides
STEPS = 100


def lowest_eigenvalue(S: sparse.csr_matrix) -> float:
    """A number with the sign of the lowest eigenvalue of the Hermitian matrix S; where negative, an upper bound of it.

    Small matrices: Cholesky decides; where it fails the eigenvalue is computed, where it succeeds 1.0 stands for "positive".
    Large ones: the lowest Ritz value of a Lanczos run, an upper bound that is exact to a few per cent of the distance to
    the next eigenvalues. An eigenvalue negative by less than that is passed; it belongs to a level far outside the spectrum
    (its energy has 1/s in it) and does not disturb those near the Fermi level.
    """
    if S.shape[0] > DENSE:
        return _lowest_ritz(S)
    full = S.toarray()
    _, info = linalg.get_lapack_funcs(("potrf",), (full,))[0](full, lower=1, clean=0)
    return 1.0 if info == 0 else min(float(linalg.eigvalsh(full, subset_by_index=[0, 0])[0]), 0.0)


def _lowest_ritz(S: sparse.csr_matrix) -> float:
    """Lowest Ritz value of plain Lanczos; copies of converged values do no harm to the extreme ones."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal(S.shape[0]).astype(S.dtype)
    q /= np.linalg.norm(q)
    before, beta = np.zeros_like(q), 0.0
    diagonal, beside = [], []
    for _ in range(STEPS):
        w = S @ q - beta * before
        diagonal.append(float(np.vdot(q, w).real))
        w -= diagonal[-1] * q
        beta = float(np.linalg.norm(w))
        if beta < 1e-12:
            break
        beside.append(beta)
        before, q = q, w / beta
    tail = beside[: len(diagonal) - 1]
    return float(
        linalg.eigh_tridiagonal(np.array(diagonal), np.array(tail), eigvals_only=True, select="i", select_range=(0, 0))[0]
    )
