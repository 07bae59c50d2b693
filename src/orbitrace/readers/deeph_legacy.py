"""Folders of DeepH-pack (``hamiltonians.h5``, one dataset per block), as its preprocessing and many other tools write them.

Their positions often come from a report that wrapped them into the cell, while R is still that of the unwrapped ones: this is
found by the lengths of pairs, and undone; the provenance says of how many atoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orbitrace.errors import InputError
from orbitrace.interchange import LEGACY_ORDER, LegacyFolder, read_legacy_folder, smallest_radii
from orbitrace.physics.blocks import Values
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.orbitals import Basis, Order, Shells
from orbitrace.physics.structure import Structure
from orbitrace.readers import _files
from orbitrace.readers._raw import COMPONENTS, RawCalculation
from orbitrace.readers._species import add_shells
from orbitrace.readers._unwrapping import shifts

MARKERS = ("orbital_types.dat",)
BESIDE = ("hamiltonians.h5", "overlaps.h5", "element.dat", "lat.dat", "site_positions.dat", "info.json")
ORDER: Order = LEGACY_ORDER


@dataclass(frozen=True, eq=False)
class _Origin:
    """What is known of a folder beside its matrices."""

    structure: Structure
    basis: Basis
    spin: Spin
    n_electrons: float | None
    provenance: Provenance


def read(folder: Path) -> RawCalculation:
    """The calculation in a folder.

    Raises
    ------
    InputError
        If a file is missing or damaged, they do not fit together, or no shifts of atoms explain the pairs.
    """
    found = read_legacy_folder(folder)
    origin = _ours(found, folder) if found.ours else _theirs(found, folder)
    pairs, overlap = found.overlap
    hashes = {name: _files.sha256(folder / name) for name in ("hamiltonians.h5", "overlaps.h5")}
    before = origin.provenance
    return RawCalculation(
        structure=origin.structure,
        basis=origin.basis,
        pairs=found.hamiltonian[0],
        hamiltonian=_components(found, origin.spin),
        overlap=np.asarray(overlap, dtype=np.float64),
        fermi_level=found.fermi_level,
        n_electrons=origin.n_electrons,
        spin=origin.spin,
        provenance=Provenance(before.code, before.version, str(folder), {**before.hashes, **hashes}),
        overlap_pairs=None if np.array_equal(pairs, found.hamiltonian[0]) else pairs,
    )


def _theirs(found: LegacyFolder, folder: Path) -> _Origin:
    """Of a folder of other tools: positions moved to where R needs them, and the smallest radii that explain the pairs."""
    s, pairs = found.structure, found.overlap[0]
    moved = shifts(s, pairs, str(folder))
    structure = Structure(s.positions + moved @ s.lattice, s.lattice, s.numbers)
    radii = smallest_radii(structure, pairs)
    table: dict[int, Shells] = {}
    for z, ls in zip(s.numbers.tolist(), found.shells, strict=True):
        add_shells(table, z, Shells(ls, radii[z], inferred=True), str(folder))
    wrapped = int(moved.any(axis=1).sum())
    version = "DeepH-pack folder" + (f"; {wrapped} of {s.n_atoms} atoms unwrapped by the lengths of pairs" if wrapped else "")
    spin = Spin.NONCOLLINEAR if found.spinful else Spin.NONE
    return _Origin(structure, Basis(table), spin, None, Provenance("deeph", version))


def _ours(found: LegacyFolder, folder: Path) -> _Origin:
    """Of a folder that OrbiTrace wrote: all that the calculation had."""
    ours, s = found.ours, found.structure
    try:
        x, y, z = ours["pbc"]
        basis, spin, origin = Basis.from_json(ours["basis"]), Spin(ours["spin"]), Provenance(**ours["provenance"])
        if any(basis[z].ls != ls for z, ls in zip(s.numbers.tolist(), found.shells, strict=True)):
            raise ValueError("its basis is not that of orbital_types.dat")
        if (spin is not Spin.NONE) != found.spinful:
            raise ValueError("its spin is not that of isspinful")
        lattice = np.array(ours.get("lattice", s.lattice), dtype=np.float64)
        electrons = ours.get("n_electrons")
        structure = Structure(s.positions, lattice, s.numbers, (bool(x), bool(y), bool(z)))
        return _Origin(structure, basis, spin, None if electrons is None else float(electrons), origin)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError) as error:
        found_there = f"its section of OrbiTrace is damaged ({type(error).__name__}: {error})"
        raise InputError(folder / "info.json", found_there, remedy="Remove the section") from error


def _components(found: LegacyFolder, spin: Spin) -> dict[str, Values]:
    """The spin components of the blocks, each as a flat array."""
    pairs, values = found.hamiltonian
    if spin is Spin.NONE:
        return {"": values}
    counts = np.array([sum(2 * l + 1 for l in ls) for ls in found.shells], dtype=np.int64)
    rows, columns = counts[pairs[:, 3]], counts[pairs[:, 4]]
    sizes = rows * columns
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row, column = np.divmod(within, np.repeat(columns, sizes))
    starts = np.repeat(4 * (np.cumsum(sizes) - sizes), sizes)
    width = np.repeat(2 * columns, sizes)
    result: dict[str, Values] = {}
    for name in {*COMPONENTS[spin], *(("du",) if spin is Spin.NONCOLLINEAR else ())}:
        down_row, down_column = name[0] == "d", name[1] == "d"
        place = starts + (row + down_row * np.repeat(rows, sizes)) * width + column + down_column * np.repeat(columns, sizes)
        part = values[place]
        result[name] = part if spin is Spin.NONCOLLINEAR else np.ascontiguousarray(part.real)
    return result
