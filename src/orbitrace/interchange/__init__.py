"""Calculations and structures in the files that other tools of the field read and write.

The DeepH 2026 folder holds ``POSCAR``, ``info.json``, ``overlap.h5``, and ``hamiltonian.h5`` unless only the overlap is known.
``initial_hamiltonian.h5``, if it is there, is a reference Hamiltonian H0 of the same form (only ours: other tools ignore it).
Each HDF5 file has four flat, uncompressed arrays: ``atom_pairs`` [n, 5] (Rx, Ry, Rz, i, j from 0), ``chunk_shapes`` [n, 2],
``chunk_boundaries`` [n + 1] and ``entries``: eV, orbitals in e3nn order, with spin complex blocks [[uu, ud], [du, dd]] (the
overlap is never spin-doubled). These are the conventions of the house, but for the atoms, which other tools expect grouped by
element. What else the house knows stands in ``info.json`` under "orbitrace" (the order of the atoms, radii and valence of the
basis, the kind of spin, open directions, provenance), so that our own folders come back exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orbitrace import __version__
from orbitrace.errors import InputError
from orbitrace.interchange._header import INFO, POSCAR, SECTION, Header, read_header, to_info
from orbitrace.interchange._legacy import LEGACY_ORDER, LegacyFolder, read_legacy_folder, write_legacy_folder
from orbitrace.interchange._poscar import to_poscar
from orbitrace.interchange._store import (
    HAMILTONIAN,
    INITIAL,
    OVERLAP,
    over_same_pairs,
    read_hamiltonian,
    read_initial,
    read_overlap,
    smallest_radii,
    write_blocks,
)
from orbitrace.interchange._structures import from_ase, original, read_structure, to_ase, write_structure
from orbitrace.interchange._writing import filled, move_in
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure

__all__ = [
    "LEGACY_ORDER",
    "LegacyFolder",
    "from_ase",
    "read_folder",
    "read_initial_folder",
    "read_legacy_folder",
    "read_overlap_folder",
    "read_structure",
    "smallest_radii",
    "to_ase",
    "write_folder",
    "write_legacy_folder",
    "write_overlap_folder",
    "write_structure",
]

FILES = (POSCAR, OVERLAP, HAMILTONIAN, INITIAL, INFO)  # info.json comes last: a folder without it is not complete


def write_folder(folder: Path, calculation: Calculation) -> None:
    """Write a calculation as a DeepH 2026 folder; what stands there under the same names is replaced.

    Raises
    ------
    InputError
        If the folder cannot be written; nothing is left behind then.
    """
    c = calculation
    info = to_info(c.structure, c.basis, c.spin, c.fermi_level, c.n_electrons, c.provenance)
    _write(Path(folder), c.structure, info, {OVERLAP: c.overlap, HAMILTONIAN: c.hamiltonian, INITIAL: c.initial})


def write_overlap_folder(
    folder: Path,
    structure: Structure,
    basis: Basis,
    overlap: Blocks,
    n_electrons: float | None = None,
    initial: Blocks | None = None,
) -> None:
    """Write a DeepH 2026 folder with an overlap and no Hamiltonian but perhaps an H0: what a prediction starts from.

    Raises
    ------
    InputError
        As `write_folder`.
    """
    info = to_info(structure, basis, Spin.NONE, None, n_electrons, Provenance("orbitrace", __version__))
    _write(Path(folder), structure, info, {OVERLAP: overlap, INITIAL: initial})


def read_folder(folder: Path) -> Calculation:
    """Read a DeepH 2026 folder, ours or another tool's.

    Folders of other tools do not say how far orbitals reach: their radii are then the smallest that explain the pairs (half of
    the longest pair of each element with itself, or more where pairs of two elements demand it). Directions that no pair
    crosses are taken as open.

    Raises
    ------
    InputError
        If files are missing or damaged, or do not fit together.
    """
    header = read_header(Path(folder))
    given = read_initial(header)
    hamiltonians = [read_hamiltonian(header), *([given] if given is not None else [])]
    overlap, hamiltonian, *initial = over_same_pairs(header, read_overlap(header), *hamiltonians)
    structure, basis = _structure_and_basis(header, overlap)
    back = np.argsort(header.order)
    return Calculation(
        structure=structure,
        basis=basis,
        hamiltonian=hamiltonian.reordered(back),
        overlap=overlap.reordered(back),
        fermi_level=header.fermi_level,
        n_electrons=header.n_electrons,
        spin=header.spin,
        provenance=header.provenance,
        initial=initial[0].reordered(back) if initial else None,
    )


def read_overlap_folder(folder: Path) -> tuple[Structure, Basis, Blocks, float | None]:
    """Structure, basis, overlap and number of electrons of a DeepH 2026 folder, with or without a Hamiltonian.

    Raises
    ------
    InputError
        As `read_folder`.
    """
    header = read_header(Path(folder))
    overlap = read_overlap(header)
    structure, basis = _structure_and_basis(header, overlap)
    return structure, basis, overlap.reordered(np.argsort(header.order)), header.n_electrons


def read_initial_folder(folder: Path) -> Blocks | None:
    """The reference Hamiltonian H0 of a DeepH 2026 folder, eV, if it has one, with or without a Hamiltonian.

    Raises
    ------
    InputError
        As `read_folder`.
    """
    header = read_header(Path(folder))
    initial = read_initial(header)
    return None if initial is None else initial.reordered(np.argsort(header.order))


def _write(folder: Path, structure: Structure, info: dict[str, Any], matrices: Mapping[str, Blocks | None]) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "a file stands there", "a folder, or nothing yet", "Choose another name")
    order = np.array(info[SECTION]["atoms"], dtype=np.int64)

    def fill(partial: Path) -> None:
        (partial / POSCAR).write_text(to_poscar(structure, order), encoding="utf-8")
        (partial / INFO).write_text(_json(info), encoding="utf-8")
        for name, blocks in matrices.items():
            if blocks is not None:
                write_blocks(partial / name, blocks.reordered(order), spinful=info["spinful"] and name != OVERLAP)

    move_in(filled(folder, fill), folder, FILES)


def _json(info: dict[str, Any]) -> str:
    """JSON with one line for each key."""
    lines = (f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in info.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _structure_and_basis(header: Header, overlap: Blocks) -> tuple[Structure, Basis]:
    """Structure in its original order, and basis; in another tool's folder, what the pairs tell of both."""
    structure = original(header)
    if header.basis is not None:
        return structure, header.basis
    x, y, z = (bool(crossed) for crossed in (overlap.pairs[:, :3] != 0).any(axis=0))
    opened = Structure(structure.positions, structure.lattice, structure.numbers, (x, y, z))
    radii = smallest_radii(header.structure, overlap.pairs)
    return opened, Basis({z: Shells(header.shells[z], radius, inferred=True) for z, radius in radii.items()})
