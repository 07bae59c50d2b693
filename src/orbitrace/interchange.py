"""Calculations and structures in the files that other tools of the field read and write.

The DeepH 2026 folder holds ``POSCAR``, ``info.json``, ``overlap.h5`` and ``hamiltonian.h5`` (missing where only the overlap is
known). Each HDF5 file has four flat, uncompressed arrays: ``atom_pairs`` [n, 5] (Rx, Ry, Rz, i, j from 0), ``chunk_shapes``
[n, 2], ``chunk_boundaries`` [n + 1] and ``entries``: eV, orbitals in e3nn order, with spin complex blocks [[uu, ud], [du, dd]]
(the overlap is never spin-doubled). These are the conventions of the house, but for the atoms, which other tools expect grouped
by element. What else the house knows stands in ``info.json`` under "orbitrace", so that our own folders come back exactly.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from orbitrace import __version__
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks, Pairs, Values, sort_pairs
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import SYMBOLS, Basis, Shells
from orbitrace.physics.structure import Floats, Ints, Structure

FORMAT = 1  # of our own section of info.json
SECTION = "orbitrace"
POSCAR, INFO, OVERLAP, HAMILTONIAN = "POSCAR", "info.json", "overlap.h5", "hamiltonian.h5"
FILES = (POSCAR, OVERLAP, HAMILTONIAN, INFO)  # info.json comes last: a folder without it is not complete
REMEDY = "Give a folder in the DeepH 2026 format, as `orbitrace read` and DeepH-dock write it"


def write_folder(folder: Path, calculation: Calculation) -> None:
    """Write a calculation as a DeepH 2026 folder; what stood there under the same names is replaced as a whole.

    Raises
    ------
    InputError
        If the folder cannot be written; nothing is left behind then.
    """
    c = calculation
    info = _info(c.structure, c.basis, c.spin, c.fermi_level, c.n_electrons, c.provenance)
    _write(folder, c.structure, info, c.overlap, c.hamiltonian)


def write_overlap_folder(
    folder: Path, structure: Structure, basis: Basis, overlap: Blocks, n_electrons: float | None = None
) -> None:
    """Write a DeepH 2026 folder with an overlap and no Hamiltonian: what a prediction starts from."""
    provenance = Provenance("orbitrace", __version__)
    _write(folder, structure, _info(structure, basis, Spin.NONE, None, n_electrons, provenance), overlap, None)


def read_folder(folder: Path) -> Calculation:
    """Read a DeepH 2026 folder, ours or another tool's.

    Folders of other tools do not say how far orbitals reach: their radii are then the smallest that explain the pairs, beginning
    with half of the longest pair of each element with itself. Directions that no pair crosses are taken as open.

    Raises
    ------
    InputError
        If files are missing or damaged, or do not fit together.
    """
    folder = Path(folder)
    header = _read_header(folder)
    if header.split:
        raise InputError(folder, "the Hamiltonian is split into hamiltonian.h5 and hkb.h5", "one file", REMEDY)
    overlap = _read_overlap(folder, header)
    hamiltonian = _read_blocks(folder / HAMILTONIAN, header, header.spin.components)
    if header.spin is Spin.NONCOLLINEAR:
        hamiltonian = hamiltonian.with_values(hamiltonian.values.astype(np.complex128))
    elif np.iscomplexobj(hamiltonian.values):
        if np.any(hamiltonian.values.imag):
            raise InputError(folder / HAMILTONIAN, "complex values", f"real ones with spin {header.spin.value!r}", REMEDY)
        hamiltonian = hamiltonian.with_values(np.ascontiguousarray(hamiltonian.values.real))
    hamiltonian, overlap = _over_same_pairs(hamiltonian, overlap)
    structure, basis, (hamiltonian, overlap) = _restored(header, hamiltonian, overlap)
    return Calculation(
        structure, basis, hamiltonian, overlap, header.fermi_level, header.n_electrons, header.spin, header.provenance
    )


def read_overlap_folder(folder: Path) -> tuple[Structure, Basis, Blocks, float | None]:
    """Structure, basis, overlap and number of electrons of a DeepH 2026 folder, with or without a Hamiltonian.

    Raises
    ------
    InputError
        As `read_folder`.
    """
    folder = Path(folder)
    header = _read_header(folder)
    structure, basis, (overlap,) = _restored(header, _read_overlap(folder, header))
    return structure, basis, overlap, header.n_electrons


def read_structure(file: Path) -> Structure:
    """A structure from anything that ASE reads (of several images the last), or from a DeepH 2026 folder.

    Raises
    ------
    InputError
        If there is no structure in it, or sites are occupied only in part.
    """
    file = Path(file)
    if file.is_dir():
        return _in_old_order(_read_header(file))
    if not file.is_file():
        raise InputError(file, "no such file", "a structure: POSCAR, .cif, .xyz, or anything else that ASE reads")
    from ase.io import read  # takes a second to import; only structures need it

    try:
        atoms = read(file)
    except Exception as error:  # ASE's parsers raise whatever they stumble over
        raise InputError(
            file, f"ASE cannot read a structure from it ({type(error).__name__}: {error})", "POSCAR, .cif, .xyz or the like"
        ) from error
    if any(share < 1 - 1e-6 for site in (atoms.info.get("occupancy") or {}).values() for share in site.values()):
        raise InputError(file, "some sites are occupied only in part", "one atom per site", "Choose one ordering of the atoms")
    structure = from_ase(atoms)
    if structure.n_atoms == 0 or structure.numbers.min() < 1 or not np.isfinite(structure.positions).all():
        raise InputError(file, "no atoms, unknown elements, or positions that are not finite", "a structure of known elements")
    return structure


def write_structure(file: Path, structure: Structure) -> None:
    """Write a structure in the format that the file's name says (any that ASE writes)."""
    from ase.io import write

    def fill(partial: Path) -> None:
        write(partial / file.name, to_ase(structure))

    file = Path(file)
    partial = _filled(file, fill)
    os.replace(partial / file.name, file)
    partial.rmdir()


def from_ase(atoms: Atoms) -> Structure:
    """The house's structure of an ASE object; positions stay as they are, inside the cell or not."""
    x, y, z = (bool(p) for p in atoms.pbc)
    return Structure(atoms.get_positions(), atoms.cell.array, atoms.get_atomic_numbers(), (x, y, z))


def to_ase(structure: Structure) -> Atoms:
    """The ASE object of a structure."""
    return Atoms(numbers=structure.numbers, positions=structure.positions, cell=structure.lattice, pbc=structure.pbc)
