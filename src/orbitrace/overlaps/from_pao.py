"""S from the radial functions of the basis (``.pao`` files): exact for any distance, no calculation needed.

The two-centre integrals are taken by the quadrature of the code that uses these files, so that S is the one that belongs to
its Hamiltonian: on samples with s, p, d and f they agree to 3e-12 (`_radial_integrals` says how). Tables in the distance are
made once per basis, in less than a second per pair of elements; their splines err by 1e-10 at most, and where atoms bond by
far less. The kinetic energy comes out of the same integrals with one more k^2 / 2.

A table needs to know the functions: from a folder of ``.pao`` files, in which C6.0.pao belongs to carbon with orbitals that
end at 6.0 Bohr; of each l, the first ones are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from orbitrace.errors import InputError
from orbitrace.overlaps._pao_file import find_pao, parse_name, read_pao
from orbitrace.overlaps._radial_integrals import Quadrature, Quantity, Transforms, bond_table, onsite_block, transform
from orbitrace.overlaps.from_data import read_table, write_table
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import SYMBOLS, Basis, Shells
from orbitrace.physics.slater_koster import TwoCentreTable
from orbitrace.physics.structure import Structure
from orbitrace.units import OPENMX_BOHR

__all__ = ["Quadrature", "build", "fit", "kinetic", "named_basis", "overlap", "read_table", "write_table"]

Sources = Path | Mapping[int, Path]


def overlap(
    structure: Structure, basis: Basis, *, where: str, table: Path | TwoCentreTable | None = None, pao: Sources | None = None
) -> Blocks:
    """S of a structure.

    Parameters
    ----------
    structure, basis
        The atoms, and the shells and cutoff radii of their elements.
    where
        Name of the structure for messages.
    table
        What `build` or `fit` made, or the file that `write_table` put it in.
    pao
        Instead of a table: the folder of ``.pao`` files, or the file of each element by its atomic number.

    Raises
    ------
    InputError
        If neither is given, a file is missing or does not fit the basis, or the table lacks an element of the structure.
    """
    return _blocks(structure, basis, where, table, pao, "overlap")


def kinetic(
    structure: Structure, basis: Basis, *, where: str, table: Path | TwoCentreTable | None = None, pao: Sources | None = None
) -> Blocks:
    """Kinetic energy of a structure, <phi_i| -nabla^2 / 2 |phi_j>, eV; as `overlap`, with a table of the kinetic energy."""
    return _blocks(structure, basis, where, table, pao, "kinetic")


def build(
    basis: Basis,
    pao: Sources,
    quantity: Quantity = "overlap",
    where: str = "basis",
    quadrature: Quadrature = Quadrature(),  # noqa: B008 - frozen
) -> TwoCentreTable:
    """The table of a basis, for any structure of its elements.

    Parameters
    ----------
    basis
        Shells and cutoff radii of the elements.
    pao
        Folder of ``.pao`` files, or the file of each element by its atomic number.
    quantity
        "overlap", or "kinetic" (eV).
    where
        Name of the basis for messages.
    quadrature
        The points of the integrals, where the calculations had others than the code's own.

    Raises
    ------
    InputError
        If a file is missing, damaged, of another element or cutoff, or has too few functions.
    """
    known = {z: _transformed(z, basis[z], _source(pao, z, basis[z], where), quadrature) for z in basis.elements}
    bonds = {
        (zi, zj): bond_table(known[zi], known[zj], quantity, quadrature)
        for zi in basis.elements
        for zj in basis.elements
        if zi <= zj
    }
    return TwoCentreTable(basis, bonds, {z: onsite_block(own, quantity, quadrature) for z, own in known.items()})


def fit(
    samples: Iterable[tuple[Structure, Basis, Blocks]], where: str = "data", *, pao: Sources | None = None
) -> TwoCentreTable:
    """The table of a data set's basis; of its calculations, only the shells and cutoff radii are looked at.

    Raises
    ------
    InputError
        If no files are given, there are no calculations, their bases differ, or as `build`.
    """
    if pao is None:
        raise InputError(where, "no folder of .pao files is given", "the one with which the calculations were run")
    basis: Basis | None = None
    for _, own, _ in samples:
        basis = own if basis is None else basis.merged(own, where)
    if basis is None:
        raise InputError(where, "no calculations", "at least one")
    return build(basis, pao, where=where)


def named_basis(names: Iterable[str], folder: Path) -> Basis:
    """The basis that names like "C6.0-s2p2d1" stand for; cutoff and valence come from the files.

    Raises
    ------
    InputError
        If a name is none, its file is missing or damaged, or an element comes twice.
    """
    shells: dict[int, Shells] = {}
    for name in names:
        stem, number, ls = parse_name(name)
        file = read_pao(folder / f"{stem}.pao")
        if number in shells:
            raise InputError("basis", f"{SYMBOLS[number]} comes twice", "one basis per element")
        shells[number] = Shells(ls, file.cutoff * OPENMX_BOHR, file.valence)
    return Basis(shells)


def _blocks(
    structure: Structure,
    basis: Basis,
    where: str,
    table: Path | TwoCentreTable | None,
    pao: Sources | None,
    quantity: Quantity,
) -> Blocks:
    pairs = find_pairs(structure, basis)
    if table is None:
        if pao is None:
            raise InputError(where, "neither a table nor a folder of .pao files is given", "one of them")
        table = build(basis.restricted(structure.elements), pao, quantity, where)
    known = table if isinstance(table, TwoCentreTable) else read_table(table)
    missing = [SYMBOLS[z] for z in structure.elements if z not in known.basis]
    if missing:
        elements = ", ".join(SYMBOLS[z] for z in known.basis.elements)
        raise InputError(
            where, f"{', '.join(missing)} is not in the table", f"elements among {elements}", "Make a table with it"
        )
    known.basis.merged(basis.restricted(structure.elements), where, "the table")
    return known.blocks(structure, basis, pairs)


def _source(pao: Sources, number: int, shells: Shells, where: str) -> Path:
    """The file of one element."""
    if isinstance(pao, Path):
        return find_pao(pao, number, shells.cutoff)
    if number not in pao:
        raise InputError(where, f"no .pao file is given for {SYMBOLS[number]}", "one for each element")
    return pao[number]


def _transformed(number: int, shells: Shells, path: Path, quadrature: Quadrature) -> Transforms:
    """One element in reciprocal space."""
    file = read_pao(path)
    if abs(file.number - number) >= 1:  # virtual atoms have fractional numbers
        raise InputError(path, f"is of the atomic number {file.number:g}", f"{number} ({SYMBOLS[number]})")
    return transform(shells, file.cutoff, file.radii, file.chosen(shells), quadrature)
