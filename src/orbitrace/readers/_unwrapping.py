"""Atoms that somebody wrapped into the cell after the matrices were written: found by the lengths of pairs, and moved back.

For two atoms, the R of their pairs are all those for which they overlap. If positions and R belong together, these are the
shortest vectors between the atoms; moved by a lattice vector, the same set of R has a longer one. The shift that makes the
longest pair of two atoms shortest is therefore theirs.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs
from orbitrace.physics.structure import Floats, Ints, Structure

_NEAR = 2  # cells around the best guess in which the shift is sought
_EQUAL = 1e-4  # Å


def shifts(structure: Structure, pairs: Pairs, where: str) -> Ints:
    """Whole lattice vectors by which each atom must be moved so that `pairs` are as short as they can be: [n_atoms, 3].

    Parameters
    ----------
    structure
        The atoms as a file has them.
    pairs
        All pairs that overlap, (Rx, Ry, Rz, i, j), each with its reverse.
    where
        File, for messages.

    Raises
    ------
    InputError
        If no shifts of atoms make all pairs short.
    """
    n = structure.n_atoms
    codes = pairs[:, 3].astype(np.int64) * n + pairs[:, 4]
    order = np.argsort(codes, kind="stable")
    kinds, begins = np.unique(codes[order], return_index=True)
    first, second = np.divmod(kinds, n)
    best, longest = _relative(structure, pairs[order], begins)
    found = _spread(n, first, second, best, longest)
    wrong = np.flatnonzero((found[second] - found[first] != best).any(axis=1))
    if len(wrong) and (_lengths(structure, pairs[order], begins, found[second] - found[first]) > longest + _EQUAL).any():
        raise InputError(
            where,
            f"{len(wrong)} pairs of atoms whose lattice vectors R no positions explain",
            "the positions that the matrices refer to",
            "Take positions and matrices from the same run",
        )
    kept, counts = np.unique(found, axis=0, return_counts=True)
    moved: Ints = found - kept[counts.argmax()]  # most atoms stay where they are
    return moved


def _relative(structure: Structure, pairs: Pairs, begins: Ints) -> tuple[Ints, Floats]:
    """Of each two atoms the shift of the second against the first, and the length of their longest pair then."""
    inverse = np.linalg.inv(structure.lattice)
    fractions = structure.pair_vectors(pairs) @ inverse
    sizes = np.diff(begins, append=len(pairs))
    guess = -np.round(np.add.reduceat(fractions, begins, axis=0) / sizes[:, None]).astype(np.int64)
    best, longest = guess, np.full(len(begins), np.inf)
    # Near steps first: of two that are equal, the nearer one is kept.
    steps = sorted(product(range(-_NEAR, _NEAR + 1), repeat=3), key=lambda step: sum(map(abs, step)))
    for step in steps:
        shift = guess + np.array(step)
        lengths = _lengths(structure, pairs, begins, shift)
        better = lengths < longest - _EQUAL
        best = np.where(better[:, None], shift, best)
        longest = np.where(better, lengths, longest)
    return best, longest


def _lengths(structure: Structure, pairs: Pairs, begins: Ints, shift: Ints) -> Floats:
    """Of each two atoms the length of their longest pair after a shift of the second."""
    sizes = np.diff(begins, append=len(pairs))
    vectors = structure.pair_vectors(pairs) + np.repeat(shift, sizes, axis=0) @ structure.lattice
    longest: Floats = np.maximum.reduceat(np.linalg.norm(vectors, axis=1), begins)
    return longest


def _spread(n: int, first: Ints, second: Ints, relative: Ints, longest: Floats) -> Ints:
    """Shifts of all atoms from those of pairs of them, along a tree of short pairs."""
    found = np.zeros((n, 3), dtype=np.int64)
    root = np.arange(n)
    members: dict[int, list[int]] = {atom: [atom] for atom in range(n)}
    for k in np.argsort(longest, kind="stable"):
        i, j = int(first[k]), int(second[k])
        if root[i] == root[j]:
            continue
        # The smaller tree joins the larger, moved as a whole.
        if len(members[int(root[j])]) <= len(members[int(root[i])]):
            small, large, move = j, i, found[i] + relative[k] - found[j]
        else:
            small, large, move = i, j, found[j] - relative[k] - found[i]
        joining = members.pop(int(root[small]))
        found[joining] += move
        root[joining] = root[large]
        members[int(root[large])] += joining
    return found
