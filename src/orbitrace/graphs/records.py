"""A calculation as flat arrays, the form in which a shard keeps it, and back again without loss.

Complex values are kept as float64, real and imaginary part in turn, so that real and complex Hamiltonians share one array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.graphs.traces import shell_counts, trace_labels
from orbitrace.physics.blocks import Blocks, Values
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure

Array = NDArray[Any]


class Column(NamedTuple):
    """One array of a shard: what a row is."""

    dtype: str
    row: tuple[int, ...]  # shape of one row
    counts: str | None  # the column of `offsets` that says which rows belong to a calculation; None: one row each
    about: str


# Columns of the table `offsets` [n_calculations + 1, 7]. New ones come last: a shard of before is one in which they are empty.
OFFSETS = ("atoms", "pairs", "overlap_pairs", "hamiltonian", "overlap", "traces", "initial")

COLUMNS: dict[str, Column] = {
    "lattice": Column("float64", (3, 3), None, "rows are the lattice vectors, Å"),
    "pbc": Column("bool", (3,), None, "whether each direction is periodic"),
    "fermi_level": Column("float64", (), None, "eV; NaN where unknown"),
    "n_electrons": Column("float64", (), None, "per cell; NaN where unknown"),
    "spin": Column("int8", (), None, "number in the attribute `spins`"),
    "complex": Column("bool", (), None, "whether the Hamiltonian is complex: (real, imaginary) in turn"),
    "numbers": Column("int16", (), "atoms", "atomic numbers"),
    "positions": Column("float64", (3,), "atoms", "Cartesian, Å, not wrapped"),
    "shell_counts": Column("int16", (), "atoms", "shells of each atom"),
    "pairs": Column("int32", (5,), "pairs", "Rx, Ry, Rz, i, j of each block, sorted by (i, j, R)"),
    "overlap_pairs": Column("int32", (5,), "overlap_pairs", "as `pairs`, of the overlap; none where they are the same"),
    "hamiltonian": Column("float64", (), "hamiltonian", "blocks one after the other, row-major, eV"),
    "overlap": Column("float64", (), "overlap", "blocks one after the other, row-major"),
    "traces": Column("float64", (), "traces", "tr(Q Q^dagger) of every shell pair of every pair of atoms, eV²"),
    "initial": Column("float64", (), "initial", "reference Hamiltonian H0, laid out as `hamiltonian`, or none"),
}

_SPINS = tuple(Spin)


@dataclass(frozen=True)
class Record:
    """A calculation ready to be written: rows for every column, and what a shard keeps in its attributes."""

    id: str
    basis: Basis
    provenance: Mapping[str, Any]
    rows: Mapping[str, Array]

    def sizes(self) -> NDArray[np.int64]:
        """Rows that each column of `offsets` counts: [7]."""
        counted = {c.counts: len(self.rows[name]) for name, c in COLUMNS.items() if c.counts}
        return np.array([counted[name] for name in OFFSETS], dtype=np.int64)


def encode(calculation_id: str, calculation: Calculation) -> Record:
    """Flat arrays of a calculation, with its trace labels.

    Raises
    ------
    InputError
        If the blocks do not have the shapes that the basis gives them, or the overlap is not real.
    """
    c, structure = calculation, calculation.structure
    _check_shapes(calculation_id, "Hamiltonian", c.hamiltonian, c, c.spin.components)
    _check_shapes(calculation_id, "overlap", c.overlap, c, 1)
    if np.iscomplexobj(c.overlap.values):
        raise InputError(f"calculation {calculation_id}", "the overlap is complex", "a real one, over real orbitals")
    same = np.array_equal(c.overlap.pairs, c.hamiltonian.pairs)
    traces = trace_labels(c.hamiltonian, structure, c.basis, c.spin.components)
    values = {
        "lattice": structure.lattice[None],
        "pbc": [structure.pbc],
        "fermi_level": [_or_nan(c.fermi_level)],
        "n_electrons": [_or_nan(c.n_electrons)],
        "spin": [_SPINS.index(c.spin)],
        "complex": [np.iscomplexobj(c.hamiltonian.values)],
        "numbers": structure.numbers,
        "positions": structure.positions,
        "shell_counts": shell_counts(structure.numbers, c.basis),
        "pairs": c.hamiltonian.pairs,
        "overlap_pairs": c.overlap.pairs[: 0 if same else None],
        "hamiltonian": np.ascontiguousarray(c.hamiltonian.values).view(np.float64),
        "overlap": c.overlap.values,
        "traces": traces,
        "initial": () if c.initial is None else _like_hamiltonian(c.initial, c.hamiltonian, calculation_id),
    }
    rows = {name: np.ascontiguousarray(values[name], dtype=COLUMNS[name].dtype) for name in COLUMNS}
    return Record(calculation_id, c.basis.restricted(structure.elements), _plain(c.provenance), rows)


def decode_structure(rows: Mapping[str, Array]) -> Structure:
    """The structure from its rows."""
    return Structure(rows["positions"], rows["lattice"][0], rows["numbers"], tuple(rows["pbc"][0]))


def decode(rows: Mapping[str, Array], basis: Basis, provenance: Provenance) -> Calculation:
    """The calculation from its rows, a basis that holds its elements, and its provenance."""
    structure = decode_structure(rows)
    spin = _SPINS[int(rows["spin"][0])]
    own = basis.restricted(structure.elements)

    def values(name: str) -> Values:
        return rows[name].view(np.complex128) if rows["complex"][0] else rows[name]

    overlap_pairs = rows["overlap_pairs"] if len(rows["overlap_pairs"]) or not len(rows["overlap"]) else rows["pairs"]
    return Calculation(
        structure,
        own,
        _blocks(rows["pairs"], structure, own, values("hamiltonian"), spin.components),
        _blocks(overlap_pairs, structure, own, rows["overlap"], 1),
        _or_none(rows["fermi_level"][0]),
        _or_none(rows["n_electrons"][0]),
        spin,
        provenance,
        _blocks(rows["pairs"], structure, own, values("initial"), spin.components) if len(rows["initial"]) else None,
    )


def _like_hamiltonian(initial: Blocks, hamiltonian: Blocks, calculation_id: str) -> Array:
    """The values of H0 as those of H are kept. Raises InputError if it is not over the same pairs and shells, or complex."""
    if not np.array_equal(initial.pairs, hamiltonian.pairs) or not np.array_equal(initial.shapes, hamiltonian.shapes):
        found = f"its reference Hamiltonian H0 has {initial.n_pairs} blocks over other pairs or shells than H"
        raise InputError(f"calculation {calculation_id}", found, f"the {hamiltonian.n_pairs} blocks of H")
    if np.iscomplexobj(initial.values) and not np.iscomplexobj(hamiltonian.values):
        raise InputError(f"calculation {calculation_id}", "its reference Hamiltonian H0 is complex", "a real one, as H is")
    return np.ascontiguousarray(initial.values, dtype=hamiltonian.values.dtype).view(np.float64)


def _blocks(pairs: Array, structure: Structure, basis: Basis, values: Values, spin: int) -> Blocks:
    """Blocks in the order in which they were written."""
    return Blocks(pairs, _shapes(pairs, structure, basis, spin), values)


def _shapes(pairs: Array, structure: Structure, basis: Basis, spin: int) -> NDArray[np.int64]:
    return basis.n_orbitals(structure.numbers)[pairs[:, 3:]] * spin


def _check_shapes(calculation_id: str, name: str, blocks: Blocks, calculation: Calculation, spin: int) -> None:
    expected = _shapes(blocks.pairs, calculation.structure, calculation.basis, spin)
    wrong = np.flatnonzero((blocks.shapes != expected).any(axis=1))
    if len(wrong):
        k = wrong[0]
        raise InputError(
            f"calculation {calculation_id}",
            f"{len(wrong)} of {blocks.n_pairs} blocks of the {name} do not fit the basis; the one of atoms "
            f"{blocks.pairs[k, 3]}, {blocks.pairs[k, 4]} has {blocks.shapes[k, 0]} x {blocks.shapes[k, 1]} elements",
            f"{expected[k, 0]} x {expected[k, 1]}",
            "Check that the files of this folder belong to one calculation",
        )


def _plain(provenance: Provenance) -> dict[str, Any]:
    """A provenance as plain data."""
    return {f.name: getattr(provenance, f.name) for f in fields(provenance)} | {"hashes": dict(provenance.hashes)}


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
