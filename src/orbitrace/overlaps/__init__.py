"""Overlaps of structures that no DFT code was run for, and the one door through which they enter the house.

One file in this folder per way. A way supplies

* ``overlap(structure, basis, *, where, **inputs) -> Blocks``: S over the pairs of `physics.neighbours.find_pairs`, in the
  conventions of the house; `where` names the structure in messages, `inputs` are what this way needs, each with its name.

The door checks what comes out: all pairs are there, each with its reverse, S is finite and symmetric, and positive definite
at k = 0 (the supercell's Gamma point stands for many k of its primitive cells).
"""

from __future__ import annotations

import numpy as np

from orbitrace import plugins
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.definite import at_gamma, lowest_eigenvalue
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure

_SYMMETRY = 1e-8  # largest |S - S^T| that is rounding
_STEPS = 200  # of Lanczos, in which the supercell's one k point stands for many


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
    asymmetry = blocks.asymmetry()
    if asymmetry > _SYMMETRY:
        raise InputError(where, f"the overlap differs from its transpose by {asymmetry:.2e}", f"at most {_SYMMETRY:.0e}")
    if structure.n_atoms and (lowest := lowest_eigenvalue(at_gamma(blocks, structure, basis), _STEPS)) <= 0:
        raise InputError(
            where,
            f"the overlap is not positive definite (lowest eigenvalue {lowest:.3e} at Gamma)",
            "positive eigenvalues",
            "Check the structure for atoms that nearly coincide, and that the training data have its distances",
        )
