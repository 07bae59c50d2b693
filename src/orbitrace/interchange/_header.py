"""POSCAR and info.json of a DeepH 2026 folder: everything but the matrices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orbitrace import __version__
from orbitrace.errors import InputError
from orbitrace.interchange._poscar import from_poscar, grouped, has_box
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.structure import Ints, Structure

POSCAR, INFO = "POSCAR", "info.json"
FORMAT = 1  # of our own section of info.json
SECTION = "orbitrace"
REMEDY = "Give a folder in the DeepH 2026 format, as `orbitrace read` and DeepH-dock write it"


@dataclass(frozen=True, eq=False)
class Header:
    """What POSCAR and info.json say, with the atoms as in POSCAR.

    Parameters
    ----------
    folder
        Where it was read.
    structure
        Atoms grouped by element.
    order
        [n_atoms] atom a of POSCAR is atom ``order[a]`` of the calculation.
    shells
        l of each shell, by atomic number.
    basis
        The same with radii and valence; None in folders of other tools, which do not tell.
    spin, fermi_level, n_electrons, provenance
        As in `Calculation`.
    """

    folder: Path
    structure: Structure
    order: Ints
    shells: Mapping[int, tuple[int, ...]]
    basis: Basis | None
    spin: Spin
    fermi_level: float | None
    n_electrons: float | None
    provenance: Provenance

    @property
    def counts(self) -> Ints:
        """[n_atoms] orbitals of each atom, without spin."""
        return np.array([sum(2 * l + 1 for l in self.shells[int(z)]) for z in self.structure.numbers], dtype=np.int64)


def to_info(
    structure: Structure,
    basis: Basis,
    spin: Spin,
    fermi_level: float | None,
    n_electrons: float | None,
    provenance: Provenance,
) -> dict[str, Any]:
    """The content of info.json: the keys of DeepH, and our own section."""
    origin = {"code": provenance.code, "version": provenance.version, "source": provenance.source}
    ours = {
        "format": FORMAT,
        "written_by": __version__,
        "basis": basis.to_json(),
        "spin": spin.value,
        "pbc": list(structure.pbc),
        "atoms": grouped(structure).tolist(),
        "provenance": origin | {"hashes": dict(provenance.hashes)},
    }
    if not has_box(structure):
        ours["lattice"] = structure.lattice.tolist()
    return {
        "atoms_quantity": structure.n_atoms,
        "orbits_quantity": int(basis.n_orbitals(structure.numbers).sum()),
        "orthogonal_basis": False,
        "spinful": spin is not Spin.NONE,
        "fermi_energy_eV": fermi_level,
        "occupation": n_electrons,
        "elements_orbital_map": {SYMBOLS[z]: list(basis[z].ls) for z in structure.elements},
        SECTION: ours,
    }


def read_header(folder: Path) -> Header:
    """Read POSCAR and info.json.

    Raises
    ------
    InputError
        If one is missing or damaged, or of a kind that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "a DeepH 2026 folder", REMEDY)
    missing = [name for name in (POSCAR, INFO) if not (folder / name).is_file()]
    if missing:
        raise InputError(folder, f"no {' and no '.join(missing)} in it", "a DeepH 2026 folder", REMEDY)
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        structure = from_poscar((folder / POSCAR).read_text(encoding="utf-8"))
        _check_kind(folder / INFO, info)
        return _header(folder, structure, info, info.get(SECTION, {}))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        raise InputError(
            folder, f"its POSCAR or info.json is damaged ({type(error).__name__}: {error})", "a DeepH 2026 folder", REMEDY
        ) from error


def _check_kind(file: Path, info: Mapping[str, Any]) -> None:
    """Refuse what is written in a way that this version does not know."""
    ours = info.get(SECTION, {})
    if ours.get("format", FORMAT) > FORMAT:
        found = f"format {ours['format']}, written by OrbiTrace {ours.get('written_by', '(newer)')}"
        raise InputError(file, found, f"at most {FORMAT}", "Use a newer OrbiTrace")
    if info.get("split_hkb") or info.get("hamiltonian_storage") not in (None, "full"):
        raise InputError(file, "the Hamiltonian is split over two files (hkb.h5)", "a full hamiltonian.h5", REMEDY)


def _header(folder: Path, structure: Structure, info: Mapping[str, Any], ours: Mapping[str, Any]) -> Header:
    order = np.array(ours.get("atoms", range(structure.n_atoms)), dtype=np.int64)
    if not np.array_equal(np.sort(order), np.arange(structure.n_atoms)):
        raise ValueError(f"the order of the atoms is no permutation of {structure.n_atoms}")
    x, y, z = ours.get("pbc", structure.pbc)
    lattice = np.array(ours.get("lattice", structure.lattice), dtype=np.float64)
    shells = {SYMBOLS.index(symbol): tuple(int(l) for l in ls) for symbol, ls in info["elements_orbital_map"].items()}
    if any(list(ls) != sorted(ls) for ls in shells.values()):
        raise ValueError("its shells are not sorted by l")
    basis = _basis(folder / INFO, ours["basis"]) if ours else None
    unknown = [SYMBOLS[z] for z in structure.elements if z not in shells or (basis and z not in basis)]
    if unknown:
        raise ValueError(f"no orbitals for {', '.join(unknown)}")
    foreign = {"code": "deeph", "version": "DeepH 2026 folder", "source": str(folder), "hashes": {}}
    return Header(
        folder=folder,
        structure=Structure(structure.positions, lattice, structure.numbers, (x, y, z)),
        order=order,
        shells=shells,
        basis=basis,
        spin=Spin(ours["spin"]) if ours else Spin.NONCOLLINEAR if info["spinful"] else Spin.NONE,
        fermi_level=_optional(info["fermi_energy_eV"]),
        n_electrons=_optional(info.get("occupation")),
        provenance=Provenance(**ours.get("provenance", foreign)),
    )


def _basis(file: Path, data: Mapping[str, Mapping[str, object]]) -> Basis:
    """The basis that our own section declares."""
    try:
        return Basis.from_json(data)
    except InputError as error:
        raise InputError(file, f"{error.where}: {error.found}", error.expected, error.remedy) from error


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)
