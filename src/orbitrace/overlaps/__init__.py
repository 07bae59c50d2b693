"""Overlaps of structures that no DFT code was run for, and the one door through which they enter the house.

One file in this folder per way. A way supplies

* ``overlap(structure, basis, *, where, **inputs) -> Blocks``: S over the pairs of `physics.neighbours.find_pairs`, in the
  conventions of the house; `where` names the structure in messages, `inputs` are what this way needs, each with its name.

The door checks what comes out: all pairs are there, each with its reverse, S is finite and symmetric, and positive definite
at k = 0 (the supercell's Gamma point stands for many k of its primitive cells).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import csr_array

from orbitrace import plugins
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure

_SYMMETRY = 1e-8  # largest |S - S^T| that is rounding
_DENSE = 2000  # orbitals; more are left to Lanczos
_STEPS = 200  # of Lanczos


def overlap(way: str, structure: Structure, basis: Basis, *, where: str = "structure", **inputs: object) -> Blocks:
    """The overlap of a structure, without a DFT run, checked.

    Parameters
    ----------
    way
        Name of the file in this folder, e.g. "from_data".
    structure, basis
        The atoms and the shells of their elements.
    where
        Name of the structure for messages.
    inputs
        What the way needs; for "from_data": ``table``.

    Raises
    ------
    InputError
        If there is no such way, the way refuses the structure, or S is not positive definite.
    """
    blocks: Blocks = plugins.load("overlaps", way).overlap(structure, basis, where=where, **inputs)
    check(blocks, structure, basis, where)
    return blocks


def check(blocks: Blocks, structure: Structure, basis: Basis, where: str) -> None:
    """Refuse blocks that are not the overlap of linearly independent orbitals. Raises InputError."""
    if not np.array_equal(blocks.pairs, find_pairs(structure, basis)):
        raise InputError(
            where, "the overlap has other pairs than the structure", "all with |tau_j + R - tau_i| <= rc_i + rc_j"
        )
    if not np.isfinite(blocks.values).all():
        raise InputError(where, "the overlap holds numbers that are not finite", "finite numbers")
    asymmetry = float(np.abs(blocks.values - blocks.dagger().values).max(initial=0.0))
    if asymmetry > _SYMMETRY:
        raise InputError(where, f"the overlap differs from its transpose by {asymmetry:.2e}", f"at most {_SYMMETRY:.0e}")
    if structure.n_atoms and (lowest := lowest_eigenvalue(blocks, structure, basis)) <= 0:
        raise InputError(
            where,
            f"the overlap is not positive definite (lowest eigenvalue {lowest:.3e} at Gamma)",
            "positive eigenvalues",
            "Check the structure for atoms that nearly coincide, and that the training data have its distances",
        )


def lowest_eigenvalue(blocks: Blocks, structure: Structure, basis: Basis) -> float:
    """Lowest eigenvalue of S at Gamma; for large matrices an upper bound, close to it beside the width of the spectrum."""
    matrix = _at_gamma(blocks, structure, basis)
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


def _at_gamma(blocks: Blocks, structure: Structure, basis: Basis) -> csr_array:
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
