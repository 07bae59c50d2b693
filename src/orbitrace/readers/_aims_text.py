"""Text files of FHI-aims: sparse indices, orbitals, geometry, input, report."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.structure import Floats, Ints
from orbitrace.readers._elements import DAMAGED, FARTHEST, Elements
from orbitrace.readers._numbers import integers
from orbitrace.readers._species import shells_of_orbitals

REMEDY = "Give the files of one finished calculation"
DUMMY = 999999999  # R of the last cell, which is none
MOST = 10**7
_HALF = 1e-8  # a fraction that is one half up to rounding stays one half


@dataclass(frozen=True, eq=False)
class Geometry:
    """``geometry.in``.

    Parameters
    ----------
    lattice
        [3, 3] rows, Å; zeros for a molecule.
    positions
        [n_atoms, 3] Å; in a crystal folded into the centre cell, to which the matrices refer.
    labels
        Species of each atom.
    """

    lattice: Floats
    positions: Floats
    labels: tuple[str, ...]


def indices(text: bytes, where: str) -> tuple[int, int, Elements]:
    """Numbers of orbitals and of stored elements, and where these stand, from ``rs_indices.out``.

    The orbital of the row lies in cell R and that of the column in cell 0: turned round here. The elements are fewer by one
    than the numbers in the other files, which end with a dummy.

    Raises
    ------
    InputError
        If it is damaged, or cut short.
    """
    head = re.match(
        rb"\s*n_hamiltonian_matrix_size:\s*(\d{1,10})\s+n_cells_in_hamiltonian:\s*(\d{1,8})\s+n_basis:\s*(\d{1,8})\s+"
        rb"cell_index\s(.*?)index_hamiltonian\(1,:,:\)(.*?)index_hamiltonian\(2,:,:\)(.*?)column_index_hamiltonian(.*)",
        text,
        re.DOTALL,
    )
    if head is None:
        raise InputError(where, "damaged, or cut short", "the sections that output_rs_matrices writes", DAMAGED)
    size, n_cells, n = (int(head.group(k)) for k in (1, 2, 3))
    cells, begins, ends, columns = (integers(head.group(k), where) for k in (4, 5, 6, 7))
    expected = (3 * n_cells, n_cells * n, n_cells * n, size)
    if tuple(map(len, (cells, begins, ends, columns))) != expected or min(expected) < 1 or n > MOST:
        found = f"sections of {len(cells)}, {len(begins)}, {len(ends)} and {len(columns)} numbers"
        raise InputError(where, found, f"{expected[0]}, {expected[1]}, {expected[2]} and {size}", DAMAGED)
    table = cells.reshape(-1, 3)
    counts: Ints = np.where(begins > 0, ends - begins + 1, 0)
    filled: NDArray[np.bool_] = np.greater(counts, 0)
    known = filled.reshape(n_cells, n).any(axis=1)
    starts = begins[filled]
    # Rows follow each other: what one leaves the next takes, so that each element belongs to one row.
    order = np.argsort(starts, kind="stable")
    stops = np.cumsum(counts[filled][order])
    in_turn = len(starts) > 0 and int(starts[order[0]]) == 1 and np.array_equal(starts[order][1:], stops[:-1] + 1)
    if not in_turn or (counts < 0).any() or stops[-1] > size or (np.abs(table[known]) >= FARTHEST).any():
        raise InputError(where, "rows of elements that overlap, or leave gaps, or lie too far", remedy=DAMAGED)
    place = np.flatnonzero(filled)[order]
    lengths = counts[filled][order]
    cell, row = np.divmod(place, n)
    column = columns[: stops[-1]] - 1
    table = np.where(known.reshape(-1, 1), table, 0)  # dummies hold nothing
    return n, size, Elements(-table, np.repeat(cell, lengths), np.repeat(row, lengths), column)


def orbitals(text: str, where: str) -> list[tuple[int, ...]]:
    """The l of each shell of each atom, in the order of ``basis-indices.out``.

    Raises
    ------
    InputError
        If it is damaged.
    """
    rows = [words for line in text.splitlines() if (words := line.split()) and words[0] != "fn."]
    try:
        table = [(words[1], int(words[2]), int(words[3]), int(words[4]), int(words[5])) for words in rows]
        if [int(words[0]) for words in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("its orbitals are not numbered from 1")
        atoms = [row[1] for row in table]
        if atoms != sorted(atoms) or sorted(set(atoms)) != list(range(1, len(set(atoms)) + 1)):
            raise ValueError("its atoms are not numbered from 1")
    except (IndexError, ValueError) as error:
        raise InputError(where, f"damaged ({error})", "number, type, atom, n, l and m of each orbital", DAMAGED) from error
    by_atom: list[list[tuple[str, int, int, int]]] = [[] for _ in set(atoms)]
    for kind, atom, *numbers in table:
        by_atom[atom - 1].append((kind, *numbers))  # type: ignore[arg-type]
    kinds = {kind: number for number, kind in enumerate(sorted({row[0] for row in table}))}
    return [shells_of_orbitals((((kinds[kind], n, l), l, m) for kind, n, l, m in mine), where) for mine in by_atom]


def geometry(text: str, where: str) -> Geometry:
    """The atoms in ``geometry.in``.

    Raises
    ------
    InputError
        If it is damaged, or has ghosts.
    """
    vectors, rows, labels, is_fraction = [], [], [], []
    try:
        for line in text.splitlines():
            words = line.split("#")[0].split()
            if not words:
                continue
            if words[0] == "lattice_vector":
                vectors.append([float(x) for x in words[1:4]])
            elif words[0] in ("atom", "atom_frac"):
                rows.append([float(x) for x in words[1:4]])
                labels.append(words[4])
                is_fraction.append(words[0] == "atom_frac")
            elif words[0] in ("empty", "pseudocore"):
                raise InputError(where, f"atoms of the kind {words[0]!r}", "real atoms only")
        lattice = np.array(vectors or np.zeros((3, 3)), dtype=np.float64)
        given = np.array(rows, dtype=np.float64)
        if lattice.shape != (3, 3) or given.shape != (len(labels), 3) or not labels:
            raise ValueError(f"{len(vectors)} lattice vectors and {len(rows)} atoms")
        if not np.isfinite(given).all() or not (np.abs(given) < 1e6).all() or (vectors and abs(np.linalg.det(lattice)) < 1e-6):
            raise ValueError("no lengths, or no cell")
    except (ValueError, IndexError) as error:
        raise InputError(where, f"damaged ({error})", "lattice_vector, and atom or atom_frac", REMEDY) from error
    if not vectors:
        return Geometry(lattice, given, tuple(labels))
    fractions = np.where(np.array(is_fraction).reshape(-1, 1), given, given @ np.linalg.inv(lattice))
    return Geometry(lattice, folded(fractions) @ lattice, tuple(labels))


def folded(fractions: Floats) -> Floats:
    """Fractions in the centre cell, from -1/2 (exclusive) to 1/2 (inclusive)."""
    result: Floats = fractions - np.ceil(fractions - 0.5 - _HALF)
    return result


def radii(text: str) -> dict[str, float]:
    """How far the orbitals of each species reach at most, Å, from the confining potentials in ``control.in``."""
    found: dict[str, float] = {}
    label = ""
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and words[0] == "species":
            label = words[1]
        elif len(words) > 2 and words[0] == "cut_pot" and label:
            try:
                onset, width, *scale = (float(x) for x in words[1:4])
            except ValueError:
                continue
            radius = (onset + width) * (scale[0] if scale else 1.0)
            if 0 < radius < 100:
                found[label] = radius
    return found


def keyword(text: str, name: str) -> str | None:
    """The value of a keyword of ``control.in``."""
    found = re.search(rf"^[ \t]*{name}(?:[ \t]+([^\s#]+))?", text, re.MULTILINE)
    return (found.group(1) or "") if found else None


def report(text: str) -> tuple[str | None, bool | None, float | None]:
    """Version, convergence, and Fermi level (eV) in the report of a run, as far as it tells them."""
    version = re.search(r"(?:FHI-aims version|Version)\s*:?\s+(\S+)", text[:5000])
    levels = re.findall(r"Chemical potential \(Fermi level\)(?: in eV)?\s*[:=]\s*(-?\d+\.\d+)", text)
    converged = text.rfind("Self-consistency cycle converged") >= 0
    failed = "Self-consistency cycle not yet converged" in text
    return (
        version.group(1) if version else None,
        converged or (False if failed else None),
        float(levels[-1]) if levels else None,
    )


def counts(shells: list[tuple[int, ...]]) -> Ints:
    """Orbitals of each atom."""
    return np.array([sum(2 * l + 1 for l in ls) for ls in shells], dtype=np.int64)
