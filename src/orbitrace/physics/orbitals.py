"""Atomic orbitals: shells, the basis of a calculation, and the orders in which DFT codes list the m of a shell.

House order of the orbitals of an atom: shells by ascending l (in the order of their zetas), and m = -l..l within a shell,
real harmonics without Condon-Shortley phase. A code's own order is data: a table of m with signs (`Order`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError

# l -> ((m, sign), ...) in the order in which a code writes the orbitals of a shell
Order = Mapping[int, tuple[tuple[int, int], ...]]

SPECTROSCOPIC = "spdfghi"
SAME_CUTOFF = 1e-6  # Å
# Chemical symbols by atomic number; "X" stands for none.
# fmt: off
SYMBOLS = [
    "X", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl",
    "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br",
    "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I",
    "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu",
    "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac",
    "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh",
    "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
]
# fmt: on


def plain_order(l_max: int = 6) -> dict[int, tuple[tuple[int, int], ...]]:
    """The house order itself: m = -l..l, all signs +."""
    return {l: tuple((m, 1) for m in range(-l, l + 1)) for l in range(l_max + 1)}


@dataclass(frozen=True)
class Shells:
    """The basis of one element: the l of each radial function, ascending, and the radius beyond which they vanish.

    Parameters
    ----------
    ls
        l of each shell, e.g. (0, 0, 1) for s2p1.
    cutoff
        Radius at which the orbitals vanish, Å. Two atoms are a pair if they are no farther apart than the sum of theirs.
    valence
        Valence electrons of the (pseudo-)atom, or None where it is not known.
    inferred
        Whether the cutoff was never declared, but is the smallest that explains the pairs of some calculation; it then differs
        from one calculation to the next.
    """

    ls: tuple[int, ...]
    cutoff: float
    valence: float | None = None
    inferred: bool = False

    def __post_init__(self) -> None:
        if list(self.ls) != sorted(self.ls):
            raise ValueError(f"shells {self.ls} are not sorted by l")
        if not self.cutoff > 0:
            raise InputError(
                "basis", f"cutoff radius {self.cutoff} Å", "a positive length", "Correct the basis of this element"
            )

    @cached_property
    def n_orbitals(self) -> int:
        """Number of orbitals of an atom."""
        return sum(2 * l + 1 for l in self.ls)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each shell's orbitals stand among those of the atom."""
        ends = np.cumsum([2 * l + 1 for l in self.ls])
        return tuple(slice(int(end) - (2 * l + 1), int(end)) for l, end in zip(self.ls, ends, strict=True))

    def agrees(self, other: Shells) -> bool:
        """Whether both can be the basis of one element: the same shells, and the same cutoff where both declare one."""
        same = self.inferred or other.inferred or abs(self.cutoff - other.cutoff) <= SAME_CUTOFF
        return self.ls == other.ls and same

    def __str__(self) -> str:
        return "".join(f"{SPECTROSCOPIC[l]}{self.ls.count(l)}" for l in sorted(set(self.ls)))


@dataclass(frozen=True)
class Basis:
    """The shells of every element of a calculation or data set, by atomic number."""

    shells: Mapping[int, Shells]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shells", dict(sorted(self.shells.items())))

    def __getitem__(self, number: int) -> Shells:
        return self.shells[int(number)]

    def __contains__(self, number: object) -> bool:
        return number in self.shells

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers with a basis, ascending."""
        return tuple(self.shells)

    def n_orbitals(self, numbers: Iterable[int]) -> NDArray[np.int64]:
        """Orbitals of each atom: [n_atoms]."""
        return np.array([self[z].n_orbitals for z in numbers], dtype=np.int64)

    def cutoffs(self, numbers: Iterable[int]) -> NDArray[np.float64]:
        """Cutoff radius of each atom's orbitals: [n_atoms], Å."""
        return np.array([self[z].cutoff for z in numbers], dtype=np.float64)

    def restricted(self, elements: Iterable[int]) -> Basis:
        """The same basis for some of its elements."""
        return Basis({z: self[z] for z in elements})

    def merged(self, other: Basis, where: str, known_as: str = "the calculations before it", remedy: str = "") -> Basis:
        """The basis with the elements of another one added.

        Of the cutoffs of an element that both have, a declared one counts more than an inferred one, and of two inferred ones
        the larger: it explains the pairs of both sides.

        Raises
        ------
        InputError
            If an element has another basis in `other`; `where` and `known_as` name the two sides, `remedy` says what to do.
        """
        shells = {**self.shells, **other.shells}
        for z in set(self.elements) & set(other.elements):
            mine, theirs = self[z], other[z]
            if not mine.agrees(theirs):
                raise InputError(
                    where,
                    f"{SYMBOLS[z]} has the basis {theirs} with cutoff {theirs.cutoff:.4f} Å",
                    f"{mine} with cutoff {mine.cutoff:.4f} Å, as in {known_as}",
                    remedy or "All that one model learns from shares one basis per element; learn this one in another model",
                )
            if theirs.inferred and not (mine.inferred and theirs.cutoff > mine.cutoff):
                shells[z] = mine
        return Basis(shells)

    def to_json(self) -> dict[str, dict[str, object]]:
        """The basis as plain data, keyed by element symbol."""
        data: dict[str, dict[str, object]] = {}
        for z, s in self.shells.items():
            data[SYMBOLS[z]] = {"ls": list(s.ls), "cutoff": s.cutoff, "valence": s.valence}
            if s.inferred:  # only then, so that the hashes of declared ones stay as they always were
                data[SYMBOLS[z]]["inferred"] = True
        return data

    @staticmethod
    def from_json(data: Mapping[str, Mapping[str, object]]) -> Basis:
        """The inverse of `to_json`."""
        shells = {}
        for symbol, entry in data.items():
            ls, cutoff, valence = entry["ls"], entry["cutoff"], entry.get("valence")
            assert isinstance(ls, list) and isinstance(cutoff, float | int)
            assert valence is None or isinstance(valence, float | int)
            inferred = bool(entry.get("inferred", False))
            shells[SYMBOLS.index(symbol)] = Shells(tuple(int(l) for l in ls), float(cutoff), valence, inferred)
        return Basis(shells)


def to_house_order(shells: Shells, order: Order) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Permutation and signs that take an atom's orbitals from a code's order to the house order.

    ``house[a] = signs[a] * code[permutation[a]]``; a block becomes ``signs_i[:, None] * block[perm_i][:, perm_j] * signs_j``.
    """
    permutation, signs = [], []
    for l, place in zip(shells.ls, shells.slices, strict=True):
        ms = [m for m, _ in order[l]]
        for m in range(-l, l + 1):
            at = ms.index(m)
            permutation.append(place.start + at)
            signs.append(float(order[l][at][1]))
    return np.array(permutation, dtype=np.int64), np.array(signs)
