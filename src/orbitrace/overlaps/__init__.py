"""Overlaps of structures that no DFT code was run for, and the one door through which they enter the house.

One file in this folder per way. A way supplies

* ``overlap(structure, basis, *, where, **inputs) -> Blocks``: S over the pairs of `physics.neighbours.find_pairs`, in the
  conventions of the house; `where` names the structure in messages, `inputs` are what this way needs, each with its name.

The door checks what comes out: all pairs are there, each with its reverse, S is finite and symmetric, and positive definite
at k = 0 (the supercell's Gamma point stands for many k of its primitive cells).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from orbitrace import plugins
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure

_SYMMETRY = 1e-8  # largest |S - S^T| that is rounding
_DENSE = 2000  # orbitals; more are left to Lanczos


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
    """Lowest eigenvalue of S at Gamma: exact for small matrices, an upper bound within a percent (Lanczos) for large ones."""
    matrix = _at_gamma(blocks, structure, basis)
    if matrix.shape[0] <= _DENSE:
        return float(np.linalg.eigvalsh(matrix.toarray())[0])
    start = np.random.default_rng(0).normal(size=matrix.shape[0])
    try:
        lowest = eigsh(matrix, k=1, which="SA", tol=1e-2, v0=start, return_eigenvectors=False)
    except ArpackNoConvergence as stopped:
        lowest = stopped.eigenvalues if len(stopped.eigenvalues) else np.ones(1)
    return float(lowest[0])


def _at_gamma(blocks: Blocks, structure: Structure, basis: Basis) -> csr_array:
    """The sum of the blocks over R: [n_orbitals, n_orbitals]."""
    sizes = basis.n_orbitals(structure.numbers)
    begins = np.cumsum(sizes) - sizes
    rows, columns = np.empty((2, len(blocks.values)), dtype=np.int32)
    for members, values in blocks.groups():
        i, j = blocks.pairs[members, 3], blocks.pairs[members, 4]
        _, n_rows, n_columns = values.shape
        shape = values.shape
        blocks.with_group(rows, members, np.broadcast_to((begins[i][:, None] + np.arange(n_rows))[:, :, None], shape))
        blocks.with_group(columns, members, np.broadcast_to((begins[j][:, None] + np.arange(n_columns))[:, None, :], shape))
    return csr_array((blocks.values, (rows, columns)), shape=(int(sizes.sum()),) * 2)
