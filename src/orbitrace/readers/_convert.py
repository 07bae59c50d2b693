"""From a code's order to the house's: orbitals, signs, spin, pairs, and the Hermitian part of what the file holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks, Pairs, Values, sort_pairs
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import Order, Shells, to_house_order
from orbitrace.physics.structure import Floats, Ints, Structure
from orbitrace.readers._places import Places, grid
from orbitrace.readers._raw import COMPONENTS, RawCalculation

# eV, and dimensionless for S. Codes compute (i, j, R) and (j, i, -R) separately and agree to 1e-8; more is a misread file.
HERMITIAN = 1e-5
DAMAGED = "The file is damaged, or of a version that this reader does not know"


def to_house(raw: RawCalculation, order: Order) -> Calculation:
    """The calculation in the conventions of the house.

    Parameters
    ----------
    raw
        What a reader found.
    order
        The code's order of m within a shell, with signs.

    Raises
    ------
    InputError
        If sizes do not fit, values are not finite, a pair comes twice or lacks its reverse, or H or S is not Hermitian.
    """
    pairs = _all_pairs(raw)
    places = Places(pairs, raw.structure.numbers, raw.basis)
    adjoint = _Adjoint(pairs, places, raw.provenance.source)
    of_h = _Source(raw, raw.pairs, order, pairs, places)
    of_s = of_h if raw.overlap_pairs is None else _Source(raw, raw.overlap_pairs, order, pairs, places)
    overlap = adjoint.hermitian(of_s.take(raw.overlap, "the overlap"), "the overlap")

    def whole(parts: Mapping[str, Values], what: str) -> Blocks:
        components = {name: of_h.take(parts[name], what) for name in sorted({*COMPONENTS[raw.spin], *parts})}
        if raw.spin is Spin.NONE:
            values = adjoint.hermitian(components[""], what)
        else:
            values = _join_spin(_hermitian_spin(components, adjoint), places)
        return Blocks(pairs, places.shapes * raw.spin.components, values)

    return Calculation(
        structure=_open_directions(raw.structure, pairs),
        basis=raw.basis,
        hamiltonian=whole(raw.hamiltonian, "the Hamiltonian"),
        overlap=Blocks(pairs, places.shapes, overlap),
        fermi_level=raw.fermi_level,
        n_electrons=raw.n_electrons,
        spin=raw.spin,
        provenance=raw.provenance,
        initial=None if raw.initial is None else whole(raw.initial, "the reference Hamiltonian H0"),
    )


def _all_pairs(raw: RawCalculation) -> Pairs:
    """The pairs of H and of S together, sorted."""
    tables = [raw.pairs] if raw.overlap_pairs is None else [raw.pairs, raw.overlap_pairs]
    for table in tables:
        ordered = table[sort_pairs(table)]
        twice = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))
        if len(twice):
            found = f"{len(twice)} pairs occur twice, among them {_name(ordered[twice[0]])}"
            raise InputError(raw.provenance.source, found, "each pair once", DAMAGED)
    joined = np.unique(np.concatenate(tables), axis=0) if len(tables) > 1 else raw.pairs
    return np.asarray(joined[sort_pairs(joined)], dtype=np.int32)


def _name(pair: NDArray[np.integer]) -> str:
    r1, r2, r3, i, j = (int(x) for x in pair)
    return f"atoms {i + 1} and {j + 1} with R = ({r1}, {r2}, {r3})"


class _Source:
    """Takes flat arrays from the order of a file to the house's order of pairs, shells, orbitals and signs.

    Pairs that the file lacks are zero.
    """

    def __init__(self, raw: RawCalculation, file_pairs: Pairs, order: Order, pairs: Pairs, places: Places) -> None:
        self._where = raw.provenance.source
        self._orders = {z: _file_order(raw, z, order) for z in raw.basis.elements}
        counts = raw.basis.n_orbitals(raw.structure.numbers)
        ends = np.cumsum(counts[file_pairs[:, 3]] * counts[file_pairs[:, 4]], dtype=np.int64)
        self._length = int(ends[-1]) if len(ends) else 0
        self._missing = int(places.sizes.max(initial=0)) if len(pairs) > len(file_pairs) else 0
        mine = sort_pairs(file_pairs)
        starts = np.full(len(pairs), self._length)  # where zeros are appended for the pairs that the file lacks
        starts[_members(pairs, file_pairs[mine])] = np.concatenate([[0], ends])[mine]
        self._index = places.index(self._permuted, starts)
        plain = all((signs == 1).all() for _, signs in self._orders.values())
        self._signs = None if plain else places.values(self._sign)

    def take(self, values: Values, what: str) -> Values:
        """A matrix of the file over all pairs, in the house's order."""
        if len(values) != self._length:
            found = f"{what} has {len(values)} elements"
            raise InputError(self._where, found, f"{self._length}, as the pairs and the basis say", DAMAGED)
        n_bad = len(values) - int(np.count_nonzero(np.isfinite(values)))
        if n_bad:
            found = f"{n_bad} of {len(values)} elements of {what} are not finite numbers"
            raise InputError(self._where, found, remedy="The run failed: look into its own output, and run it again")
        if self._missing:
            values = np.concatenate([values, np.zeros(self._missing, dtype=values.dtype)])
        taken: Values = values[self._index]
        return taken if self._signs is None else taken * self._signs

    def _permuted(self, _rows: int, columns: int, a: int, b: int) -> Ints:
        return self._orders[a][0][:, None] * columns + self._orders[b][0][None, :]

    def _sign(self, _rows: int, _columns: int, a: int, b: int) -> Floats:
        return np.outer(self._orders[a][1], self._orders[b][1])


def _members(pairs: Pairs, some: Pairs) -> Ints:
    """Numbers in the sorted table `pairs` of the sorted pairs `some`, all of which it has."""
    if len(pairs) == len(some):
        return np.arange(len(pairs))
    order = sort_pairs(np.concatenate([pairs, some]))  # stable: of two equal pairs, the one of `pairs` comes first
    of_some = order >= len(pairs)
    return (np.cumsum(~of_some) - 1)[of_some]


def _file_order(raw: RawCalculation, z: int, order: Order) -> tuple[Ints, Floats]:
    """Permutation and signs from the file's order of an element's orbitals to the house's."""
    shells = raw.basis[z]
    permutation, signs = to_house_order(shells, order)
    ls = (raw.file_shells or {}).get(z, shells.ls)
    return (permutation if ls == shells.ls else _by_ascending_l(ls, shells)[permutation]), signs


def _by_ascending_l(ls: tuple[int, ...], shells: Shells) -> Ints:
    """Place in the file of each orbital once its shells are sorted by l, the m of each shell as they are."""
    if tuple(sorted(ls)) != shells.ls:
        raise ValueError(f"shells {ls} of the file are not those of the basis, {shells.ls}")
    begins = np.concatenate([[0], np.cumsum([2 * l + 1 for l in ls])])
    return np.concatenate([np.arange(begins[s], begins[s + 1]) for s in np.argsort(ls, kind="stable")])


class _Adjoint:
    """Conjugate transposes of flat arrays: block (i, j, R) from block (j, i, -R)."""

    def __init__(self, pairs: Pairs, places: Places, where: str) -> None:
        self._where = where
        n = len(pairs)
        reverse = Blocks(pairs, np.zeros((n, 2), dtype=np.int64), np.zeros(0)).reverse
        alone = np.flatnonzero(reverse < 0)
        if len(alone):
            found = f"{len(alone)} of {n} pairs lack their reverse (j, i, -R), among them {_name(pairs[alone[0]])}"
            raise InputError(where, found, "a Hermitian matrix", DAMAGED)
        # The reverse block is [n_j, n_i]: its rows are this one's columns.
        self._index = places.index(lambda rows, columns, _a, _b: grid(rows, columns, 1, rows), places.starts[reverse])

    def __call__(self, values: Values) -> Values:
        adjoint: Values = values[self._index]
        return np.conjugate(adjoint) if np.iscomplexobj(adjoint) else adjoint

    def hermitian(self, values: Values, what: str) -> Values:
        """The Hermitian part, after a look at how far the file is from it."""
        return self.average(values, self(values), what)

    def average(self, values: Values, adjoint: Values, what: str) -> Values:
        """Mean of two arrays that must be equal but for the code's rounding."""
        largest = float(np.max(np.abs(values - adjoint), initial=0.0))
        if not largest <= HERMITIAN:
            found = f"{what} is not Hermitian: blocks (i, j, R) and (j, i, -R) differ by up to {largest:.1e}"
            raise InputError(self._where, found, f"less than {HERMITIAN:.0e}", DAMAGED)
        values += adjoint  # both are copies that nobody else has
        values *= 0.5
        return values


def _hermitian_spin(components: Mapping[str, Values], adjoint: _Adjoint) -> dict[str, Values]:
    """The Hermitian part of a spin-doubled matrix: uu and dd each for itself, du from ud of the reverse pair."""
    result = {name: adjoint.hermitian(components[name], f"H({name})") for name in ("uu", "dd")}
    if "ud" in components:
        ud = components["ud"]
        if "du" in components:
            ud = adjoint.average(ud, adjoint(components["du"]), "H(ud)")
        result |= {"ud": ud, "du": adjoint(ud)}
    return result


def _join_spin(components: Mapping[str, Values], places: Places) -> Values:
    """Spin-doubled blocks [[uu, ud], [du, dd]]; components that are missing are zero."""
    result: Values = np.zeros(4 * places.n_values, dtype=np.result_type(*components.values()))
    for name, values in components.items():
        row, column = ("ud".index(spin) for spin in name)
        starts = 4 * places.starts + (2 * row * places.shapes[:, 0] + column) * places.shapes[:, 1]
        result[places.index(lambda rows, columns, _a, _b: grid(rows, columns, 2 * columns), starts)] = values
    return result


def _open_directions(structure: Structure, pairs: Pairs) -> Structure:
    """The structure with those directions open that no pair crosses: along them nothing can depend on k."""
    x, y, z = (bool(p and c) for p, c in zip(structure.pbc, (pairs[:, :3] != 0).any(axis=0), strict=True))
    return Structure(structure.positions, structure.lattice, structure.numbers, (x, y, z))
