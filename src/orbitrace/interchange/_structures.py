"""Structures in the files that people bring: whatever ASE reads, and DeepH 2026 folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from orbitrace.errors import InputError
from orbitrace.interchange._header import Header, read_header
from orbitrace.interchange._writing import filled
from orbitrace.physics.structure import Structure


def read_structure(file: Path) -> Structure:
    """A structure from anything that ASE reads (of several images the last), or from a DeepH 2026 folder.

    Raises
    ------
    InputError
        If there is no structure in it, or some of its sites are occupied only in part.
    """
    file = Path(file)
    if file.is_dir():
        return original(read_header(file))
    if not file.is_file():
        raise InputError(file, "no such file", "a structure: POSCAR, .cif, .xyz, or anything else that ASE reads")
    from ase.io import read  # takes a second to import, and only structures need it

    try:
        atoms: Any = read(file)
    except Exception as error:  # ASE's parsers raise whatever they stumble over
        found = f"ASE cannot read a structure from it ({type(error).__name__}: {error})"
        raise InputError(file, found, "POSCAR, .cif, .xyz, or anything else that ASE reads") from error
    sites = (atoms.info.get("occupancy") or {}).values()
    if any(share < 1 - 1e-6 for site in sites for share in site.values()):
        raise InputError(file, "some sites are occupied only in part", "one atom per site", "Choose one ordering of the atoms")
    structure = from_ase(atoms)
    if structure.n_atoms == 0 or structure.numbers.min() < 1 or not np.isfinite(structure.positions).all():
        raise InputError(file, "no atoms, unknown elements, or positions that are not finite", "atoms of known elements")
    return structure


def write_structure(file: Path, structure: Structure) -> None:
    """Write a structure in the format that the file's name says, any that ASE writes.

    Raises
    ------
    InputError
        If ASE does not know the format, or the file cannot be written; nothing is left behind then.
    """
    from ase.io import write

    file = Path(file)

    def fill(partial: Path) -> None:
        try:
            write(partial / file.name, to_ase(structure))
        except OSError:
            raise
        except Exception as error:
            found = f"ASE cannot write it ({type(error).__name__}: {error})"
            raise InputError(file, found, "a name such as POSCAR, x.cif or x.xyz") from error

    partial = filled(file, fill)
    (partial / file.name).replace(file)
    partial.rmdir()


def from_ase(atoms: Atoms) -> Structure:
    """The house's structure of an ASE object; positions stay as they are, inside the cell or not."""
    x, y, z = (bool(p) for p in atoms.pbc)
    return Structure(atoms.positions.copy(), atoms.cell.array.copy(), atoms.numbers.copy(), (x, y, z))


def to_ase(structure: Structure) -> Atoms:
    """The ASE object of a structure."""
    return Atoms(numbers=structure.numbers, positions=structure.positions, cell=structure.lattice, pbc=structure.pbc)


def original(header: Header) -> Structure:
    """The structure of a DeepH 2026 folder with the atoms in the order that they had before they were grouped by element."""
    grouped, back = header.structure, np.argsort(header.order)
    return Structure(grouped.positions[back], grouped.lattice, grouped.numbers[back], grouped.pbc)
