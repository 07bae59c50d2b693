"""From the species of a DFT run to elements with one basis each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orbitrace.errors import InputError
from orbitrace.physics.orbitals import SAME_CUTOFF, SYMBOLS, Shells

MOST_SHELLS = 100  # of an atom; real bases have a dozen


def element(label: str, where: str) -> int:
    """Atomic number of a label of atoms such as ``Fe``, ``Fe1`` or ``Mo_up``.

    Raises
    ------
    InputError
        If its leading letters are no chemical symbol.
    """
    word = re.match(r"[A-Za-z]+", label)
    symbol = word.group().capitalize() if word else ""
    if symbol not in SYMBOLS[1:]:  # longer words are not guessed at: "Carbon" is no calcium
        raise InputError(where, f"atoms of the species {label!r}, which is no element", "labels such as Fe, Fe1 or Fe_up")
    return SYMBOLS.index(symbol)


def add_shells(table: dict[int, Shells], number: int, mine: Shells, where: str) -> None:
    """Add a species' shells to the table of elements; all atoms of an element must share them.

    Raises
    ------
    InputError
        If the element has another basis already.
    """
    other = table.setdefault(number, mine)
    if other.ls != mine.ls or abs(other.cutoff - mine.cutoff) > SAME_CUTOFF:
        raise InputError(
            where,
            f"{SYMBOLS[number]} has two bases, {other} ({other.cutoff:.2f} Å) and {mine} ({mine.cutoff:.2f} Å)",
            "one basis per element",
        )
    if other.valence != mine.valence:
        table[number] = Shells(mine.ls, mine.cutoff)  # excited atoms, or several pseudopotentials: not one valence


def shells_of_orbitals(orbitals: Iterable[tuple[tuple[int, ...], int, int | None]], where: str) -> tuple[int, ...]:
    """The l of each shell, in the order of the file, from the list of an atom's orbitals.

    Parameters
    ----------
    orbitals
        For each orbital: what names its shell, l, and m (None where the file does not tell). The m of a shell must run from
        -l to l, one after the other.
    where
        File, for messages.

    Raises
    ------
    InputError
        If the orbitals of a shell are not complete, or in another order.
    """
    ls: list[int] = []
    left: list[int] = []  # m that the present shell still needs
    current: tuple[int, ...] | None = None
    for shell, l, m in orbitals:
        if not left:
            if not 0 <= l <= 6 or len(ls) >= MOST_SHELLS:
                raise InputError(where, f"an orbital of angular momentum {l}", "0 to 6, in at most 100 shells per atom")
            current, left = shell, list(range(-l, l + 1))
            ls.append(l)
        expected = left.pop(0)
        if shell != current or l != ls[-1] or (m is not None and m != expected):
            raise InputError(where, f"shell {len(ls)} of an atom (l = {ls[-1]}) lists its orbitals otherwise", "m = -l to l")
    if left or not ls:
        raise InputError(where, "an atom without orbitals, or with an incomplete shell", "m = -l to l of each shell")
    return tuple(ls)


def unsorted(file_shells: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """The elements whose shells do not ascend in l, as `RawCalculation.file_shells` wants them."""
    return {z: ls for z, ls in file_shells.items() if list(ls) != sorted(ls)}
