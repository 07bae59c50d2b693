"""Binary files of SIESTA: ``.HSX`` (versions 0, 1 and 2) and ``.TSHS``, both of Fortran records.

Row io of the sparse matrices is an orbital of the cell, column jo one of the supercell: <io, cell 0| ... |jo, cell R>, R from
a table. Matrices with off-diagonal spin stand transposed in space: there, row io is the orbital of the *ket*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orbitrace.physics.structure import Floats, Ints
from orbitrace.readers._elements import Elements
from orbitrace.readers._files import Buffer
from orbitrace.readers._fortran import Records

NSPIN = (1, 2, 4, 8)
MOST = 10**7  # atoms, orbitals, cells: sizes beyond are damage


@dataclass(frozen=True, eq=False)
class Geometry:
    """Atoms and cells of a file, Bohr.

    Parameters
    ----------
    lattice, positions
        [3, 3] rows, and [n_atoms, 3]; not wrapped, what R refers to.
    species
        [n_atoms] number of each atom's species from 0; None where the file does not tell.
    cells
        [n_cells, 3] R of the cells of the auxiliary supercell.
    """

    lattice: Floats
    positions: Floats
    species: Ints | None
    cells: Ints


@dataclass(frozen=True, eq=False)
class Kind:
    """A species as HSX describes it: its label, valence, and (n, l, zeta) of each orbital."""

    label: str
    valence: float | None
    orbitals: Ints


@dataclass(frozen=True, eq=False)
class Matrices:
    """What a binary file of SIESTA holds, in Bohr and Rydberg.

    Parameters
    ----------
    layout
        E.g. "HSX 1".
    geometry
        None in HSX 0, which holds distances instead.
    orbitals
        [n_atoms] number of orbitals.
    kinds
        The species; None in TSHS.
    rows
        [n_orbitals] elements of each row.
    columns
        [n] column of each element in the supercell.
    hamiltonian, overlap
        [n_spin, n] and [n].
    fermi_level, n_electrons
        None where the file does not tell.
    distances
        [n, 3] from the orbital of the row to that of the column; only in HSX 0.
    species
        [n_atoms] as in `Geometry`, for HSX 0.
    """

    layout: str
    geometry: Geometry | None
    orbitals: Ints
    kinds: tuple[Kind, ...] | None
    rows: Ints
    columns: Ints
    hamiltonian: Floats
    overlap: Floats
    fermi_level: float | None
    n_electrons: float
    distances: Floats | None = None
    species: Ints | None = None

    @property
    def n_orbitals(self) -> int:
        """Orbitals of the cell."""
        return len(self.rows)

    def elements(self, geometry: Geometry) -> Elements:
        """Where the elements stand."""
        cell, column = np.divmod(self.columns, self.n_orbitals)
        return Elements(geometry.cells, cell, np.repeat(np.arange(self.n_orbitals), self.rows), column)


def parse_hsx(data: Buffer, where: str) -> Matrices:
    """Read a ``.HSX`` of any version.

    Raises
    ------
    InputError
        If the bytes are no HSX, of an unknown version, cut short, or its counts contradict each other.
    """
    records = Records(data, where, "HSX file of SIESTA")
    size = records.length()
    if size == 16:
        return _version_0(records)
    records.require(size == 4, f"it begins with a record of {size} bytes")
    version = int(records.integers("version", 1)[0])
    records.require(version in (1, 2), f"its version is {version}, this reader knows 0, 1 and 2")
    width = 8 if records.integers("precision", 1)[0] else 4  # .true. is 1, or -1 from Intel's compiler
    n_atoms, n, n_spin, n_species, *folds = (int(x) for x in records.integers("sizes", 7))
    _check_sizes(records, n_atoms, n, n_spin, n_species, int(np.prod(np.clip(folds, 0, 10**6))))
    n_cells = folds[0] * folds[1] * folds[2]
    numbers = records.floats("cell", 12)
    geometry, orbitals = _geometry(records, numbers[:9].reshape(3, 3), n_atoms, n_cells, n, n_species)
    kinds = _kinds(records, n_species, joined=True)
    if version == 2:
        records.record("k points", 60)
    rows, columns = _pattern(records, n, n * n_cells)
    hamiltonian = np.stack([records.rows("Hamiltonian", rows, width, real=True) for _ in range(n_spin)])
    overlap = records.rows("overlap", rows, width, real=True)
    _check_end(records)
    return Matrices(
        layout=f"HSX {version}",
        geometry=geometry,
        orbitals=orbitals,
        kinds=kinds,
        rows=rows,
        columns=columns,
        hamiltonian=hamiltonian.astype(np.float64),
        overlap=overlap.astype(np.float64),
        fermi_level=_level(numbers[9]),
        n_electrons=float(numbers[10]),
    )


def parse_tshs(data: Buffer, where: str) -> Matrices:
    """Read a ``.TSHS``. Its Hamiltonian is that of the HSX of the same run, not shifted by -E_F S as tools return it.

    Raises
    ------
    InputError
        As `parse_hsx`; also if it holds only an overlap.
    """
    records = Records(data, where, "TSHS file of SIESTA")
    version = int(records.integers("version", 1)[0])
    records.require(version == 1, f"its version is {version}, this reader knows 1")
    n_atoms, n, n_all, n_spin, n_elements = (int(x) for x in records.integers("sizes", 5))
    folds = records.integers("cells", 3)
    n_cells = int(np.prod(np.clip(folds, 0, 10**6)))
    _check_sizes(records, n_atoms, n, n_spin, 1, n_cells)
    records.require(n_all == n * n_cells, f"{n_all} orbitals in {n_cells} cells of {n} orbitals")
    numbers = records.floats("lattice and positions", 9 + 3 * n_atoms)
    gamma, _, only_overlap = records.integers("kinds", 3)
    records.require(not only_overlap, "it holds an overlap without a Hamiltonian")
    records.record("k points", 60)
    fermi_level, n_electrons, _ = (float(x) for x in records.floats("energies", 3))
    records.integers("step", 2)
    last = records.integers("orbitals of atoms", n_atoms + 1)
    records.require(last[0] == 0 and last[-1] == n and bool((np.diff(last) > 0).all()), "its orbitals belong to no atoms")
    rows, columns = _pattern(records, n, n_all)
    records.require(len(columns) == n_elements, f"{len(columns)} elements instead of {n_elements}")
    overlap = records.rows("overlap", rows, 8, real=True)
    hamiltonian = np.stack([records.rows("Hamiltonian", rows, 8, real=True) for _ in range(n_spin)])
    cells = np.zeros((1, 3), dtype=np.int64) if gamma else records.integers("cells", 3 * n_cells).reshape(-1, 3)
    _check_end(records)
    return Matrices(
        layout="TSHS 1",
        geometry=Geometry(numbers[:9].reshape(3, 3), numbers[9:].reshape(-1, 3), None, cells),
        orbitals=np.diff(last),
        kinds=None,
        rows=rows,
        columns=columns,
        hamiltonian=hamiltonian.astype(np.float64),
        overlap=overlap.astype(np.float64),
        fermi_level=_level(fermi_level),
        n_electrons=n_electrons,
    )


def _version_0(records: Records) -> Matrices:
    """HSX of SIESTA 4.1 and before: single precision, no lattice; R only through the distances of orbitals."""
    n, n_all, n_spin, n_elements = (int(x) for x in records.integers("sizes", 4))
    _check_sizes(records, 1, n, n_spin, 1, n_all // max(n, 1))
    gamma = bool(records.integers("kind", 1)[0])
    if not gamma:
        home = records.integers("orbitals of the supercell", n_all) - 1
        records.require(bool((home == np.arange(n_all) % n).all()), "its supercell is not made of whole cells")
    rows, columns = _pattern(records, n, n_all)
    records.require(len(columns) == n_elements, f"{len(columns)} elements instead of {n_elements}")
    hamiltonian = np.stack([records.rows("Hamiltonian", rows, 4, real=True) for _ in range(n_spin)])
    overlap = records.rows("overlap", rows, 4, real=True)
    n_electrons, _ = (float(x) for x in records.floats("energies", 2))
    distances = records.rows("distances", 3 * rows, 4, real=True).reshape(-1, 3)
    n_species = int(records.integers("number of species", 1)[0])
    records.require(0 < n_species < 1000, f"{n_species} species")
    kinds = _kinds(records, n_species, joined=False)
    n_atoms = int(records.integers("number of atoms", 1)[0])
    records.require(0 < n_atoms <= n, f"{n_atoms} atoms with {n} orbitals")
    species = records.integers("species of atoms", n_atoms) - 1
    records.require(bool(((species >= 0) & (species < n_species)).all()), "an atom of an unknown species")
    records.integers("orbitals of atoms", 2 * n)
    _check_end(records)
    orbitals = np.array([len(kinds[s].orbitals) for s in species], dtype=np.int64)
    records.require(int(orbitals.sum()) == n, f"{n} orbitals in the matrices and {orbitals.sum()} of all species")
    return Matrices(
        layout="HSX 0",
        geometry=None,
        orbitals=orbitals,
        kinds=kinds,
        rows=rows,
        columns=columns,
        hamiltonian=hamiltonian.astype(np.float64),
        overlap=overlap.astype(np.float64),
        fermi_level=None,
        n_electrons=n_electrons,
        distances=distances.astype(np.float64),
        species=species,
    )


def _check_sizes(records: Records, n_atoms: int, n: int, n_spin: int, n_species: int, n_cells: int) -> None:
    sane = all(0 < x < MOST for x in (n_atoms, n, n_species, n_cells, n * n_cells / 1000)) and n_atoms <= n
    records.require(sane, f"{n_atoms} atoms of {n_species} species with {n} orbitals in {n_cells} cells")
    records.require(n_spin in NSPIN, f"{n_spin} spin components, instead of 1, 2, 4 or 8")


def _geometry(records: Records, lattice: Floats, n_atoms: int, n_cells: int, n: int, n_species: int) -> tuple[Geometry, Ints]:
    """Cells, positions, species and number of orbitals of each atom: one record of all of them."""
    record = records.record("atoms", 12 * n_cells + 32 * n_atoms)
    cuts = np.cumsum([12 * n_cells, 24 * n_atoms, 4 * n_atoms])
    cells = records.decoded(record[: cuts[0]], "i4", "cells").astype(np.int64).reshape(-1, 3)
    positions = records.decoded(record[cuts[0] : cuts[1]], "f8", "positions").astype(np.float64).reshape(-1, 3)
    species = records.decoded(record[cuts[1] : cuts[2]], "i4", "species").astype(np.int64) - 1
    last = records.decoded(record[cuts[2] :], "i4", "orbitals of atoms").astype(np.int64)
    orbitals = np.diff(last, prepend=0)
    records.require(bool(((species >= 0) & (species < n_species)).all()), f"an atom is of none of its {n_species} species")
    records.require(bool((orbitals > 0).all()) and int(last[-1]) == n, "its orbitals belong to no atoms")
    return Geometry(lattice, positions, species, cells), orbitals


def _kinds(records: Records, n_species: int, *, joined: bool) -> tuple[Kind, ...]:
    """The species: labels of 20 letters, valences, and n, l and zeta of each orbital."""
    record = records.record("species", 32 * n_species)
    kinds = []
    for start in range(0, len(record), 32):
        label = record[start : start + 20].decode("latin-1").strip()
        valence = float(records.decoded(record[start + 20 : start + 28], "f8", "species")[0])
        count = int(records.decoded(record[start + 28 : start + 32], "i4", "species")[0])
        records.require(0 < count < 1000, f"the species {label!r} has {count} orbitals")
        if joined:
            orbitals = records.integers("orbitals of a species", 3 * count).reshape(-1, 3)
        else:
            orbitals = np.stack([records.integers("an orbital of a species", 3) for _ in range(count)])
        kinds.append(Kind(label, valence, orbitals))
    return tuple(kinds)


def _pattern(records: Records, n: int, n_all: int) -> tuple[Ints, Ints]:
    """Number of elements in each row, and the column of each element in the supercell, from 0."""
    rows = records.integers("elements of rows", n)
    records.require(bool(((rows >= 0) & (rows <= n_all)).all()), "a row has a negative number of elements, or too many")
    columns = records.rows("columns", rows, 4, real=False).astype(np.int64) - 1
    inside = bool(((columns >= 0) & (columns < n_all)).all())
    records.require(inside and len(columns) > 0, f"an element lies outside of its {n_all} columns")
    return rows, columns


def _level(value: float) -> float | None:
    """A Fermi level, Rydberg; files that hold none have the largest number in its place."""
    return float(value) if abs(value) < 1e6 else None


def _check_end(records: Records) -> None:
    records.require(records.left == 0, f"{records.left} bytes follow its last record")
