"""Whether an overlap is one: its lowest eigenvalue at Gamma, exact for small structures, by Lanczos for large ones."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import csr_array

from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure

_DENSE = 2000  # orbitals; more are left to Lanczos
_STEPS = 200  # of Lanczos


def lowest_eigenvalue(blocks: Blocks, structure: Structure, basis: Basis) -> float:
    """Lowest eigenvalue of S at Gamma; for large matrices an upper bound, close to it beside the width of the spectrum."""
    matrix = at_gamma(blocks, structure, basis)
    if matrix.shape[0] <= _DENSE:
        return float(np.linalg.eigvalsh(matrix.toarray())[0])
    return _lowest_ritz_value(matrix)


def _lowest_ritz_value(matrix: csr_array) -> float:
    """Lowest eigenvalue within a Krylov space of `_STEPS` vectors (Lanczos).

    The end of the spectrum of S is dense, so that convergence to digits would take minutes; errors of an overlap are local,
    and a negative eigenvalue that they make stands apart and is found early. Vectors are not made orthogonal again: copies
    of a Ritz value that come of it do not move the lowest one.
    """
    vector = np.random.default_rng(0).normal(size=matrix.shape[0])
    vector /= np.linalg.norm(vector)
    before = np.zeros_like(vector)
    diagonal, beside = np.zeros(_STEPS), np.zeros(_STEPS)
    for step in range(_STEPS):
        image = matrix @ vector
        diagonal[step] = vector @ image
        image -= diagonal[step] * vector + (beside[step - 1] if step else 0.0) * before
        beside[step] = np.linalg.norm(image)
        before, vector = vector, image / beside[step]
    return float(eigh_tridiagonal(diagonal, beside[:-1], eigvals_only=True, select="i", select_range=(0, 0))[0])


def at_gamma(blocks: Blocks, structure: Structure, basis: Basis) -> csr_array:
    """The sum of the blocks over R: [n_orbitals, n_orbitals]."""
    sizes = basis.n_orbitals(structure.numbers)
    begins = np.cumsum(sizes) - sizes
    rows, columns, values = [], [], []
    for members, group in blocks.groups():
        _, n_rows, n_columns = group.shape
        row = begins[blocks.pairs[members, 3]][:, None] + np.arange(n_rows)
        column = begins[blocks.pairs[members, 4]][:, None] + np.arange(n_columns)
        rows.append(np.broadcast_to(row[:, :, None], group.shape).astype(np.int32).reshape(-1))
        columns.append(np.broadcast_to(column[:, None, :], group.shape).astype(np.int32).reshape(-1))
        values.append(group.reshape(-1))
    places = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(values), places), shape=(int(sizes.sum()),) * 2)
