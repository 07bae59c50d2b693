"""Whether an overlap is one: the matrix of linearly independent orbitals is positive definite, at every k."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure

DENSE = 1500  # orbitals up to which a Cholesky factorisation decides
STEPS = 100  # of Lanczos
_CLEAR = 1e-4  # lowest Ritz value of an overlap that single precision, which errs by 1e-6, calls positive

Matrix: TypeAlias = NDArray[Any] | sparse.csr_matrix | sparse.csr_array | sparse.bsr_array


def lowest_eigenvalue(S: Matrix, steps: int = STEPS) -> float:
    """A number with the sign of the lowest eigenvalue of the Hermitian matrix S; where negative, an upper bound of it.

    Small matrices: Cholesky decides; where it fails the eigenvalue is computed, where it succeeds 1.0 stands for "positive".
    Large ones: the lowest Ritz value of a Lanczos run. The end of the spectrum of S is dense, so that convergence to digits
    would take minutes; but errors of an overlap are local, and a negative eigenvalue that they make stands apart and is found
    early. One that is negative by a few per cent of the distance to the next is passed: it belongs to a level far outside the
    spectrum (its energy has 1/s in it) and does not disturb those near the Fermi level.
    """
    if S.shape[0] > DENSE:
        if S.dtype == np.float64:  # half the memory to go through, unless the answer lies within the rounding
            lowest = _lowest_ritz(S.astype(np.float32), steps)
            if lowest > _CLEAR:
                return lowest
        return _lowest_ritz(S, steps)
    full = S if isinstance(S, np.ndarray) else S.toarray()
    _, info = linalg.get_lapack_funcs(("potrf",), (full,))[0](full, lower=1, clean=0)
    return 1.0 if info == 0 else min(float(linalg.eigvalsh(full, subset_by_index=[0, 0])[0]), 0.0)


def _lowest_ritz(S: Matrix, steps: int) -> float:
    """Lowest Ritz value of plain Lanczos; copies of converged values do no harm to the extreme ones."""
    q = np.asarray(np.random.default_rng(0).standard_normal(S.shape[0]), dtype=S.dtype)
    q /= np.linalg.norm(q)
    before, beta = np.zeros_like(q), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(steps):
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


def at_gamma(blocks: Blocks, structure: Structure, basis: Basis) -> Matrix:
    """The sum of real blocks over R: [n_orbitals, n_orbitals], dense up to `DENSE` orbitals."""
    sizes = basis.n_orbitals(structure.numbers)
    begins, n = np.cumsum(sizes) - sizes, int(sizes.sum())
    if n > DENSE and (sizes == sizes[0]).all():
        # Pairs are sorted by i: the blocks are a block-sparse matrix as they stand (those of one i and j add up), uncopied.
        starts = np.searchsorted(blocks.pairs[:, 3], np.arange(len(sizes) + 1))
        stacked = blocks.values.real.reshape(-1, int(sizes[0]), int(sizes[0]))
        return sparse.bsr_array((stacked, blocks.pairs[:, 4], starts), shape=(n, n))
    rows, columns, values = [], [], []
    for members, group in blocks.groups():
        _, n_rows, n_columns = group.shape
        row = begins[blocks.pairs[members, 3]][:, None] + np.arange(n_rows)
        column = begins[blocks.pairs[members, 4]][:, None] + np.arange(n_columns)
        rows.append(np.broadcast_to(row[:, :, None], group.shape).astype(np.int32).reshape(-1))
        columns.append(np.broadcast_to(column[:, None, :], group.shape).astype(np.int32).reshape(-1))
        values.append(group.real.reshape(-1))
    places, summands = (np.concatenate(rows), np.concatenate(columns)), np.concatenate(values)
    if n > DENSE:
        return sparse.csr_array((summands, places), shape=(n, n))
    total = np.bincount(places[0].astype(np.int64) * n + places[1], weights=summands, minlength=n * n)
    return np.asarray(total, dtype=np.float64).reshape(n, n)
