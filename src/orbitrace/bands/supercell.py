"""Supercells of a calculation: the same infinite crystal, described with a larger cell.

The spectrum of the supercell at K is that of the small cell at all k that fold onto K, so a small cell with known levels
gives large problems with known levels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orbitrace.physics.blocks import Blocks, Values
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.structure import Ints, Structure


def repeated(calculation: Calculation, repeats: tuple[int, int, int]) -> Calculation:
    """The calculation in a cell `repeats` times as large along each lattice vector.

    Atom a of the small cell in the copy shifted by T (whole numbers t) becomes atom ``copy * n_atoms + a``, where copies
    count with the last lattice vector fastest.
    """
    size = np.array(repeats, dtype=np.int64)
    copies = np.stack(np.unravel_index(np.arange(size.prod()), size), axis=1)  # [n_copies, 3] whole numbers t
    s = calculation.structure
    positions = (copies @ s.lattice)[:, None, :] + s.positions[None, :, :]
    structure = Structure(positions.reshape(-1, 3), s.lattice * size[:, None], np.tile(s.numbers, len(copies)), s.pbc)
    n = calculation.n_electrons
    return replace(
        calculation,
        structure=structure,
        hamiltonian=_repeated(calculation.hamiltonian, s.n_atoms, copies, size),
        overlap=_repeated(calculation.overlap, s.n_atoms, copies, size),
        n_electrons=None if n is None else n * len(copies),
    )


def _repeated(blocks: Blocks, n_atoms: int, copies: Ints, size: Ints) -> Blocks:
    """One copy of all blocks for each copy of the cell."""
    tables = []
    for number, copy in enumerate(copies):
        outer, inner = np.divmod(blocks.pairs[:, :3] + copy, size)
        other = np.ravel_multi_index(inner.T, size)
        pairs = np.concatenate([outer, blocks.pairs[:, 3:]], axis=1)
        pairs[:, 3] += number * n_atoms
        pairs[:, 4] += other * n_atoms
        tables.append(pairs)
    n = len(copies)
    values: Values = np.tile(blocks.values, n)  # type: ignore[assignment]
    return Blocks.sorted(np.concatenate(tables), np.tile(blocks.shapes, (n, 1)), values)
