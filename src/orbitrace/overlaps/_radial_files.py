"""What all ways from files of radial functions share: finding the files, building tables from them, and using the tables.

A way supplies a `RadialFiles`: where the file of an element is found, and how the code that wrote it transforms the functions
to reciprocal space. Everything else is the same for all codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orbitrace.errors import InputError
from orbitrace.overlaps._radial_integrals import Points, Quantity, Transforms, bond_table, onsite_block
from orbitrace.overlaps.from_data import check_quantity, read_table
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import SYMBOLS, Basis, Shells
from orbitrace.physics.slater_koster import TwoCentreTable
from orbitrace.physics.structure import Structure

Sources = Path | Mapping[int, Path]
Table = Path | TwoCentreTable
_SAME_CUTOFF = 1e-3  # Bohr; codes print radii to three decimals, names give them to one


@dataclass(frozen=True)
class RadialFiles:
    """One code's files of radial functions.

    Parameters
    ----------
    kind
        What they are called, for messages: ".pao".
    find
        Folder, atomic number, shells -> the file of that element in it.
    transform
        Basis, file of each element -> the points of the integrals, and the orbitals there.
    """

    kind: str
    find: Callable[[Path, int, Shells], Path]
    transform: Callable[[Basis, Mapping[int, Path]], tuple[Points, dict[int, Transforms]]]

    def build(self, basis: Basis, given: Sources, quantity: Quantity, where: str) -> TwoCentreTable:
        """The table of a basis, for any structure of its elements. Raises InputError where files do not fit the basis."""
        points, known = self.transform(basis, {z: self._source(given, z, basis[z], where) for z in basis.elements})
        bonds = {
            (zi, zj): bond_table(known[zi], known[zj], quantity, points)
            for zi in basis.elements
            for zj in basis.elements
            if zi <= zj
        }
        basis = Basis({z: own.shells for z, own in known.items()})
        return TwoCentreTable(basis, bonds, {z: onsite_block(own, quantity, points) for z, own in known.items()}, quantity)

    def fit(self, samples: Iterable[tuple[Structure, Basis, Blocks]], where: str, given: Sources | None) -> TwoCentreTable:
        """The table of a data set's basis; of its calculations, only shells and radii are looked at. Raises InputError."""
        if given is None:
            raise InputError(where, f"no folder of {self.kind} files is given", "the one with which the calculations were run")
        basis: Basis | None = None
        for _, own, _ in samples:
            basis = own if basis is None else basis.merged(own, where)
        if basis is None:
            raise InputError(where, "no calculations", "at least one")
        return self.build(basis, given, "overlap", where)

    def blocks(
        self,
        structure: Structure,
        basis: Basis,
        where: str,
        table: Table | None,
        given: Sources | None,
        quantity: Quantity,
    ) -> Blocks:
        """The matrix of a structure, from a table or, without one, from files. Raises InputError."""
        pairs = find_pairs(structure, basis)
        if table is None:
            if given is None:
                raise InputError(where, f"neither a table nor a folder of {self.kind} files is given", "one of them")
            table = self.build(basis.restricted(structure.elements), given, quantity, where)
        known = table if isinstance(table, TwoCentreTable) else read_table(table)
        check_quantity(known, quantity, where)
        missing = [SYMBOLS[z] for z in structure.elements if z not in known.basis]
        if missing:
            elements = ", ".join(SYMBOLS[z] for z in known.basis.elements)
            raise InputError(
                where, f"{', '.join(missing)} is not in the table", f"elements among {elements}", "Make a table with it"
            )
        known.basis.merged(basis.restricted(structure.elements), where, "the table")
        return known.blocks(structure, basis, pairs)

    def _source(self, given: Sources, number: int, shells: Shells, where: str) -> Path:
        """The file of one element."""
        if not isinstance(given, Mapping):
            if not given.is_dir():
                raise InputError(given, "no such folder", f"a folder with {self.kind} files")
            return self.find(given, number, shells)
        if number not in given:
            raise InputError(where, f"no {self.kind} file is given for {SYMBOLS[number]}", "one for each element")
        return given[number]


def with_cutoff(path: Path, own: float, shells: Shells, bohr: float) -> Shells:
    """The shells of the basis with the radius of their file, where it was only inferred; where it was declared, they agree.

    Parameters
    ----------
    path
        The file, for messages.
    own
        Radius in the file, Bohr.
    shells
        Of the basis.
    bohr
        The code's, Å.

    Raises
    ------
    InputError
        If the orbitals of the file end elsewhere than those of the basis.
    """
    if shells.inferred:
        return replace(shells, cutoff=own * bohr, inferred=False)
    if abs(own - shells.cutoff / bohr) > _SAME_CUTOFF:
        raise InputError(
            path,
            f"its orbitals end at {own:.3f} Bohr",
            f"{shells.cutoff / bohr:.3f} Bohr, the cutoff of the basis",
            "Take the file with which the Hamiltonian was computed",
        )
    return shells


def check_shells(path: Path, own: tuple[int, ...], shells: Shells) -> None:
    """Refuse a file with other shells (the l of each, ascending) than the basis. Raises InputError with both lists."""
    if own != shells.ls:
        held = Shells(own, shells.cutoff) if own else "none"
        raise InputError(
            path,
            f"holds the orbitals {held}",
            f"{shells}, as in the basis",
            "Take the file with which the Hamiltonian was computed",
        )


def only_one(folder: Path, kind: str, number: int, shells: Shells, known: Mapping[Path, int]) -> Path:
    """The one file of an element among some of known atomic numbers. Raises InputError if there is none, or several."""
    hits = [path for path, z in known.items() if z == number]
    if len(hits) == 1:
        return hits[0]
    symbol = SYMBOLS[number]
    if hits:
        names = ", ".join(path.name for path in hits)
        raise InputError(
            folder, f"holds {names}, all of {symbol}", "one file for each element", f"Leave only the one with {shells} there"
        )
    others = ", ".join(sorted({SYMBOLS[z] for z in known.values() if 0 < z < len(SYMBOLS)})) or "nothing"
    raise InputError(
        folder,
        f"no {kind} file of {symbol} (there is: {others})",
        f"the radial functions of {symbol}",
        "Copy the file with which your calculations were run there",
    )
