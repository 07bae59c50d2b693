"""Structures with the overlaps that SIESTA and ABACUS computed, in the conventions of the house, for tests."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from orbitrace.overlaps import from_ion, from_orb
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Order, to_house_order
from orbitrace.physics.structure import Structure
from orbitrace.units import ABACUS_BOHR, SIESTA_BOHR

Sample = tuple[Structure, Basis, Blocks]

# SIESTA lists m = -l..l, ABACUS 0, 1, -1, 2, -2, ...; both with the sign (-1)^m.
_SIESTA: Order = {l: tuple((m, (-1) ** m) for m in range(-l, l + 1)) for l in range(5)}
_ABACUS: Order = {l: ((0, 1), *((s * m, (-1) ** m) for m in range(1, l + 1) for s in (1, -1))) for l in range(5)}


def siesta(folder: Path) -> Sample:
    """Atoms of the .XV file, basis of the .ion.nc files, S of the .HSX file, which sisl reads."""
    sisl = pytest.importorskip("sisl")
    binaries = pytest.importorskip("sisl.io.siesta.binaries")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(binaries.hsxSileSiesta, "_stored_dtype", np.float64)  # sisl does not know how ifort writes .true.
        warnings.simplefilter("ignore")  # about Fermi levels
        matrix: Any = sisl.get_sile(str(next(folder.glob("*.HSX")))).read_overlap()
    rows = [line.split() for line in next(folder.glob("*.XV")).read_text().splitlines()]
    lattice = np.array([row[:3] for row in rows[:3]], dtype=float)
    atoms = rows[4 : 4 + int(rows[3][0])]
    positions = np.array([row[2:5] for row in atoms], dtype=float)
    structure = Structure(positions * SIESTA_BOHR, lattice * SIESTA_BOHR, np.array([int(row[1]) for row in atoms]))
    basis = from_ion.read_basis(structure.elements, folder)
    n = int(basis.n_orbitals(structure.numbers).sum())
    full = matrix.tocsr().toarray()
    known = {
        tuple(int(x) for x in r): full[:, number * n : (number + 1) * n] for number, r in enumerate(matrix.lattice.sc_off)
    }
    return structure, basis, _blocks(structure, basis, known, _SIESTA)


def abacus(folder: Path) -> Sample:
    """The diamond cell of silicon (lattice constant 10.2 Bohr), basis of the .orb file, S of the .csr file."""
    lattice = 10.2 * np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]) * ABACUS_BOHR
    structure = Structure(np.array([[0.0] * 3, [0.25] * 3]) @ lattice, lattice, np.array([14, 14]))
    basis = from_orb.read_basis([14], folder)
    lines = iter((folder / "data-SR-sparse_SPIN0.csr.ref").read_text().splitlines()[3:])
    n = int(basis.n_orbitals(structure.numbers).sum())
    known = {}
    for line in lines:
        *r, nonzero = map(int, line.split())
        if nonzero:
            values, columns, pointers = (next(lines).split() for _ in range(3))
            matrix = csr_array((np.array(values, float), np.array(columns, int), np.array(pointers, int)), shape=(n, n))
            known[tuple(r)] = matrix.toarray()
    return structure, basis, _blocks(structure, basis, known, _ABACUS)


def _blocks(structure: Structure, basis: Basis, known: dict[tuple[int, ...], np.ndarray], order: Order) -> Blocks:
    """Blocks over all pairs of the house, zero where a code wrote none."""
    pairs = find_pairs(structure, basis)
    ends = np.cumsum(basis.n_orbitals(structure.numbers))
    places = [slice(end - basis[z].n_orbitals, end) for end, z in zip(ends, structure.numbers, strict=True)]
    turns = [to_house_order(basis[z], order) for z in structure.numbers]
    zero = np.zeros((ends[-1], ends[-1]))
    values = []
    for *r, i, j in pairs.tolist():
        block = known.get(tuple(r), zero)[places[i], places[j]]
        values.append((turns[i][1][:, None] * block[turns[i][0]][:, turns[j][0]] * turns[j][1]).reshape(-1))
    return Blocks.over(pairs, structure, basis, np.concatenate(values))
