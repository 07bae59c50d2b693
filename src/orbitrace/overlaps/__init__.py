"""Overlaps of structures that no DFT code was run for, and the one door through which they enter the house.

One file in this folder per way. A way supplies

* ``overlap(structure, basis, *, where, **inputs) -> Blocks``: S over the pairs of `physics.neighbours.find_pairs`, in the
  conventions of the house; `where` names the structure in messages, `inputs` are what this way needs, each with its name;
* ``kinetic``, of the same form, if it knows the kinetic energy too, eV;
* ``EXACT = True``, if S is made of the orbitals themselves: it is then positive but for rounding.

The door checks what comes out: all pairs are there, each with its reverse, the matrix is finite and symmetric, and positive
definite at k = 0 (the supercell's Gamma point stands for many k of its primitive cells). For positive it takes Lanczos' word;
its length is what the check costs. A wrong table shows within a few steps; the isolated negative eigenvalue that errors of
0.01 in S would make in a cell of 10 000 atoms takes 200, and only ways that are not exact can make such.
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
_NEAREST = 0.1  # Å; atoms closer than this are one atom twice
_STEPS, _STEPS_EXACT = 200, 50  # of Lanczos


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
    made = plugins.load("overlaps", way)
    blocks: Blocks = made.overlap(structure, basis, where=where, **inputs)
    check(blocks, structure, basis, where, exact=getattr(made, "EXACT", False))
    return blocks


def kinetic(way: str, structure: Structure, basis: Basis, *, where: str = "structure", **inputs: object) -> Blocks:
    """The kinetic energy of a structure, <phi_i| -nabla^2 / 2 |phi_j>, eV, over the pairs of its overlap, checked.

    Parameters
    ----------
    way
        Name of the file in this folder, e.g. "from_pao".
    structure, basis, where, inputs
        As of `overlap`; a table must be one of the kinetic energy (``build(basis, files, "kinetic")`` of the way).

    Raises
    ------
    InputError
        If there is no such way, it knows overlaps alone, it refuses the structure, or the matrix is not positive definite.
    """
    made = plugins.load("overlaps", way)
    if not hasattr(made, "kinetic"):
        able = [name for name in plugins.names("overlaps") if hasattr(plugins.load("overlaps", name), "kinetic")]
        raise InputError(where, f"the way {way} knows overlaps, but no kinetic energies", f"one of {', '.join(able)}")
    blocks: Blocks = made.kinetic(structure, basis, where=where, **inputs)
    check(blocks, structure, basis, where, "kinetic energy", exact=getattr(made, "EXACT", False))
    return blocks


def check(
    blocks: Blocks, structure: Structure, basis: Basis, where: str, name: str = "overlap", *, exact: bool = False
) -> None:
    """Refuse blocks that are not the overlap, or the kinetic energy, of linearly independent orbitals. Raises InputError."""
    if not np.array_equal(blocks.pairs, find_pairs(structure, basis)):
        raise InputError(
            where, f"the {name} has other pairs than the structure", "all with |tau_j + R - tau_i| <= rc_i + rc_j"
        )
    _check_distances(blocks, structure, where)
    if not np.isfinite(blocks.values).all():
        raise InputError(where, f"the {name} holds numbers that are not finite", "finite numbers")
    asymmetry, largest = blocks.asymmetry(), float(np.abs(blocks.values).max(initial=1.0))
    if asymmetry > _SYMMETRY * largest:
        raise InputError(where, f"the {name} differs from its transpose by {asymmetry:.2e}", f"at most {_SYMMETRY:.0e}")
    steps = _STEPS_EXACT if exact else _STEPS
    if structure.n_atoms and (lowest := lowest_eigenvalue(at_gamma(blocks, structure, basis), steps)) <= 0:
        raise InputError(
            where,
            f"the {name} is not positive definite (lowest eigenvalue {lowest:.3e} at Gamma)",
            "positive eigenvalues",
            "Check the structure for atoms that nearly coincide, and that the training data have its distances",
        )


def _check_distances(blocks: Blocks, structure: Structure, where: str) -> None:
    """Refuse atoms that coincide: their orbitals are linearly dependent, which rounding may hide."""
    apart = np.flatnonzero(~blocks.onsite)
    if len(apart) == 0:
        return
    lengths = np.linalg.norm(structure.pair_vectors(blocks.pairs[apart]), axis=1)
    if (nearest := float(lengths.min())) < _NEAREST:
        i, j = blocks.pairs[apart[int(lengths.argmin())], 3:].tolist()
        raise InputError(
            where,
            f"atoms {i} and {j} are {nearest:.3f} Å apart",
            f"at least {_NEAREST} Å",
            "Remove atoms that stand twice in the file, also as images of each other",
        )
