"""POSCAR of VASP 5, exact: positions are neither rounded nor wrapped."""

from __future__ import annotations

import numpy as np

from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.physics.structure import Floats, Ints, Structure

VACUUM = 20.0  # Å around the atoms, in directions for which a POSCAR needs a lattice vector and the structure has none


def grouped(structure: Structure) -> Ints:
    """The atoms grouped by element, elements in the order in which they appear: new atom a is old atom ``result[a]``."""
    _, first, element = np.unique(structure.numbers, return_index=True, return_inverse=True)
    return np.argsort(first[element], kind="stable")


def to_poscar(structure: Structure, order: Ints) -> str:
    """The text of a POSCAR with the atoms in the given order, Cartesian, with 17 significant digits."""
    numbers = structure.numbers[order]
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    counts = np.diff(begins, append=len(numbers))
    rows = [" ".join(f"{x:23.16e}" for x in row) for row in (*boxed(structure), *structure.positions[order])]
    head = ["Written by OrbiTrace; info.json holds the original order of the atoms", "1.0", *rows[:3]]
    elements = [" ".join(SYMBOLS[z] for z in numbers[begins]), " ".join(str(n) for n in counts)]
    return "\n".join([*head, *elements, "Cartesian", *rows[3:]]) + "\n"


def from_poscar(text: str) -> Structure:
    """The structure in the text of a POSCAR, all directions periodic.

    Raises
    ------
    ValueError, IndexError
        If the text is no POSCAR.
    """
    lines = text.splitlines()
    scale = float(lines[1].split()[0])
    if scale <= 0:
        raise ValueError(f"scale {scale}")
    lattice = np.array([line.split()[:3] for line in lines[2:5]], dtype=np.float64) * scale
    numbers = np.repeat([SYMBOLS.index(symbol) for symbol in lines[5].split()], [int(n) for n in lines[6].split()])
    mode = 8 if lines[7].strip()[:1] in "sS" else 7  # after a line "Selective dynamics"
    rows = [line.split()[:3] for line in lines[mode + 1 : mode + 1 + len(numbers)]]
    values = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Structure(values * scale if lines[mode].strip()[:1] in "cCkK" else values @ lattice, lattice, numbers)


def has_box(structure: Structure) -> bool:
    """Whether the structure has three lattice vectors, as a POSCAR must have."""
    return bool((np.linalg.norm(structure.lattice, axis=1) > 0).all())


def boxed(structure: Structure) -> Floats:
    """Three lattice vectors: those of length zero are replaced by ones at right angles to the others, around the atoms."""
    lattice = structure.lattice.copy()
    extent = float(np.ptp(structure.positions, axis=0).max(initial=0.0)) + VACUUM
    for k in np.flatnonzero(np.linalg.norm(lattice, axis=1) == 0):
        lattice[k] = np.linalg.svd(lattice)[2][-1] * extent  # the last right-singular vector is at right angles to all rows
    return lattice
