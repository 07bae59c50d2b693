"""Block Lanczos in the S inner product, for an operator that is self-adjoint in it.

Used with the operator (H - sigma S)^-1 S, whose eigenvalues of largest size, theta = 1 / (E - sigma), belong to the levels
nearest to sigma. Blocks find degenerate levels, which a single vector meets only by rounding. The basis is orthogonalised
twice against all of itself, and is not restarted: 40 levels need 150 to 250 vectors.

Source: R. G. Grimes, J. G. Lewis, H. D. Simon, SIAM J. Matrix Anal. Appl. 15, 228 (1994).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import linalg, sparse

from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats

TINY = 45  # units in the last place: squared length, relative to the longest, below which a new direction is only rounding
CARRIED = 1e-2  # ratio of the lengths of new directions down to which S times them is not computed afresh


def largest(
    operator: Callable[[Values], Values], S: sparse.csr_matrix, n: int, block: int, tolerance: float, limit: int, seed: int
) -> tuple[Floats, Values, float]:
    """The n eigenvalues of largest size of x -> operator(S x).

    Parameters
    ----------
    operator
        Applied to blocks [size, block] in the precision of S, in which all is done.
    n, block
        Number of pairs; vectors per step.
    tolerance
        Residual of the pairs, relative to the eigenvalue.
    limit
        Largest number of basis vectors.

    Returns
    -------
    theta [n], vectors [size, n] (orthonormal in S), and the largest relative residual, which exceeds `tolerance` if the
    limit was reached.
    """
    rng = np.random.default_rng(seed)
    basis = _Basis(S, limit + block, rng)
    start, dual, _ = basis.independent(operator(S @ basis.random(block)))
    basis.append(start, dual)
    check = max(1, 16 // block)  # steps between looks at the Ritz values
    for step in range(1, limit):
        rest = basis.record(operator(basis.dual[:, basis.m - block : basis.m]), block)
        rest, dual, beta = basis.independent(rest)
        full = basis.m + block > limit
        if basis.m >= n and (step % check == 0 or full):
            theta, vectors = linalg.eigh(basis.projected)
            nearest = np.argsort(-np.abs(theta))[:n]
            residuals = np.linalg.norm(beta @ vectors[-block:, nearest], axis=0) / np.abs(theta[nearest])
            if full or residuals.max() <= tolerance:
                break
        basis.append(rest, dual)
    return theta[nearest], basis.q[:, : basis.m] @ vectors[:, nearest], float(residuals.max())


class _Basis:
    """The growing S-orthonormal basis Q, its dual S Q, and the operator within it."""

    def __init__(self, S: sparse.csr_matrix, size: int, rng: np.random.Generator) -> None:
        self.S, self.rng, self.m = S, rng, 0
        self.q = np.empty((S.shape[0], size), dtype=S.dtype, order="F")
        self.dual = np.empty_like(self.q, order="F")
        self.t = np.zeros((size, size), dtype=S.dtype)

    @property
    def projected(self) -> Values:
        """[m, m] Q^H S A Q."""
        return self.t[: self.m, : self.m]

    def random(self, columns: int) -> Values:
        """Random vectors [size, columns]."""
        vectors = self.rng.standard_normal((self.S.shape[0], columns)).astype(self.S.dtype)
        if np.iscomplexobj(vectors):
            vectors += 1j * self.rng.standard_normal(vectors.shape)
        return vectors

    def append(self, block: Values, dual: Values) -> None:
        """Take new orthonormal columns, and S times them, into the basis."""
        columns = slice(self.m, self.m + block.shape[1])
        self.q[:, columns], self.dual[:, columns] = block, dual
        self.m = columns.stop

    def record(self, new: Values, block: int) -> Values:
        """Write the operator's image of the last block into T; return what is outside the basis, to first order."""
        inside = self._inside(new)
        self.t[: self.m, self.m - block : self.m] = inside
        self.t[self.m - block : self.m, : self.m] = inside.conj().T
        last = self.t[self.m - block : self.m, self.m - block : self.m]
        last[...] = (last + last.conj().T) / 2
        return new - self.q[:, : self.m] @ inside

    def _inside(self, vectors: Values) -> Values:
        """[m, n] coefficients of some vectors in the basis."""
        coefficients: Values = (vectors.conj().T @ self.dual[:, : self.m]).conj().T  # the small factor is the one copied
        return coefficients

    def independent(self, vectors: Values) -> tuple[Values, Values, Values]:
        """An S-orthonormal block V that is orthogonal to the basis, S V, and beta with vectors = V beta.

        Directions that have vanished (the subspace is invariant, as for small or highly degenerate problems) are replaced
        by random ones, which have zero rows in beta. S is applied once; S V is carried along, unless that loses digits.
        """
        dual = self.S @ vectors
        scale, axes = linalg.eigh(vectors.conj().T @ dual)
        limits = np.finfo(scale.dtype)
        alive = scale > TINY * limits.eps * max(scale[-1], limits.tiny)
        roots = np.sqrt(np.where(alive, scale, 0.0))
        mix = axes / np.where(alive, roots, np.inf)
        fresh, dual = vectors @ mix, dual @ mix
        if not alive.all():
            fresh[:, ~alive] = self.random(int((~alive).sum()))
            fresh[:, ~alive] -= self.q[:, : self.m] @ self._inside(fresh[:, ~alive])
        # Second pass: once more against the basis and against each other, to full precision
        inside = self._inside(fresh)
        fresh -= self.q[:, : self.m] @ inside
        if roots[0] > CARRIED * roots[-1]:
            dual -= self.dual[:, : self.m] @ inside
        else:
            dual = self.S @ fresh
        gram = linalg.cholesky(fresh.conj().T @ dual)
        inverse = linalg.inv(gram)
        return fresh @ inverse, dual @ inverse, gram @ (roots[:, None] * axes.conj().T)
