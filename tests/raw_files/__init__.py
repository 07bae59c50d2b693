"""Raw files as DFT codes write them, made from any calculation: one module per code, each with ``write(folder, calculation)``.

They know the codes' conventions on their own, slowly and plainly, and share no code with the readers.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure

BASIS = Basis({1: Shells((0, 1), 1.6), 8: Shells((0, 0, 1, 2), 1.9)})
Signed = Callable[[int], list[tuple[int, int]]]  # l -> (m, sign) in the order of a code


def crystal(spin: Spin, seed: int = 0, pbc: bool = True) -> Calculation:
    """A Hermitian matrix over a small crystal, or a molecule, of two elements, not grouped; atoms lie outside the cell."""
    rng = np.random.default_rng(seed)
    lattice = np.array([[3.3, 0.1, 0.0], [0.4, 3.6, 0.0], [0.0, 0.2, 3.4]]) if pbc else np.zeros((3, 3))
    structure = Structure(rng.uniform(-2, 4, (4, 3)), lattice, np.array([8, 1, 8, 1]), (pbc,) * 3)
    pairs = find_pairs(structure, BASIS)

    def hermitian(components: int, dtype: type) -> Blocks:
        size = int((BASIS.n_orbitals(structure.numbers)[pairs[:, 3:]] * components).prod(axis=1).sum())
        values = rng.normal(size=size) + (1j * rng.normal(size=size) if dtype is complex else 0.0)
        return Blocks.over(pairs, structure, BASIS, values, components).hermitian()

    hamiltonian = hermitian(spin.components, complex if spin is Spin.NONCOLLINEAR else float)
    if spin is Spin.COLLINEAR:
        values = hamiltonian.values.copy()
        for members, blocks in hamiltonian.groups():
            n, m = blocks.shape[1] // 2, blocks.shape[2] // 2
            blocks[:, :n, m:] = blocks[:, n:, :m] = 0
            hamiltonian.with_group(values, members, blocks)
        hamiltonian = hamiltonian.with_values(values)
    overlap = hermitian(1, float)
    values = overlap.values * 1e-3
    for pair in np.flatnonzero(overlap.onsite):
        values[overlap.offsets[pair] : overlap.offsets[pair + 1]] = np.eye(overlap.shapes[pair, 0]).reshape(-1)
    return Calculation(
        structure, BASIS, hamiltonian, overlap.with_values(values), -1.5, 14.0, spin, Provenance("a code", "1", "somewhere")
    )


class Pair(NamedTuple):
    """A pair of atoms with its blocks in a code's order: of H by spin ("", or "uu" to "dd"), and of S."""

    r: tuple[int, int, int]
    i: int
    j: int
    h: Mapping[str, np.ndarray]
    s: np.ndarray


def coded(house: Calculation, order: Signed, shells: Mapping[int, tuple[int, ...]] | None = None) -> Iterator[Pair]:
    """The pairs with orbitals as a code lists them; `shells` are the l of each element in the order of the code."""
    kinds = {z: _places(house.basis[z], (shells or {}).get(z, house.basis[z].ls), order) for z in house.basis.elements}
    names = [""] if house.spin is Spin.NONE else ["uu", "ud", "du", "dd"]
    for pair, (*r, i, j) in enumerate(house.overlap.pairs.tolist()):
        (rows, row_signs), (columns, column_signs) = (kinds[int(house.structure.numbers[atom])] for atom in (i, j))
        signs, at = np.outer(row_signs, column_signs), np.ix_(rows, columns)
        n, m = len(rows), len(columns)
        whole = house.hamiltonian.block(pair)
        starts = {name: ("ud".index(name[0]) * n, "ud".index(name[1]) * m) if name else (0, 0) for name in names}
        h = {name: signs * whole[a : a + n, b : b + m][at] for name, (a, b) in starts.items()}
        yield Pair(tuple(r), i, j, h, signs * house.overlap.block(pair)[at])


def _places(shells: Shells, ls: tuple[int, ...], order: Signed) -> tuple[list[int], list[int]]:
    """For each orbital in the order of the code: its place in the house's, and its sign."""
    left = {l: [s.start for k, s in zip(shells.ls, shells.slices, strict=True) if k == l] for l in shells.ls}
    starts = [left[l].pop(0) for l in ls]
    places = [(start + l + m, sign) for l, start in zip(ls, starts, strict=True) for m, sign in order(l)]
    return [place for place, _ in places], [sign for _, sign in places]


def moved(house: Calculation, shifts: np.ndarray, order: np.ndarray | None = None) -> Calculation:
    """The same calculation with atoms moved by whole lattice vectors ([n_atoms, 3]), and in another order."""
    s = house.structure
    order = np.arange(s.n_atoms) if order is None else order

    def change(blocks: Blocks) -> Blocks:
        pairs = blocks.pairs.astype(np.int64)
        pairs[:, :3] += shifts[pairs[:, 3]] - shifts[pairs[:, 4]]
        return Blocks.sorted(pairs, blocks.shapes, blocks.values).reordered(order)

    structure = Structure((s.positions + shifts @ s.lattice)[order], s.lattice, s.numbers[order], s.pbc)
    return replace(house, structure=structure, hamiltonian=change(house.hamiltonian), overlap=change(house.overlap))


def fractions(house: Calculation) -> np.ndarray:
    """[n_atoms, 3] positions in units of the lattice vectors."""
    return house.structure.positions @ np.linalg.inv(house.structure.lattice)
