"""Errors by pair of shells, as tables and bars of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orbitrace.physics.orbitals import SPECTROSCOPIC, SYMBOLS
from orbitrace.report.headlines import digits

ONSITE = " on-site"
_MOST_SHELLS = 30  # in a matrix that one can still read


@dataclass(frozen=True)
class Bar:
    """A bar: its label, its value in words, and its length in percent of the longest."""

    label: str
    value: str
    length: float


@dataclass(frozen=True)
class Cell:
    """A value in words, and how strongly it is coloured, in percent."""

    value: str
    strength: int


@dataclass(frozen=True)
class Matrix:
    """Errors of all pairs of shells; None where there is no such block."""

    title: str
    shells: tuple[str, ...]
    rows: tuple[tuple[Cell | None, ...], ...]


def bars(values: Mapping[str, float]) -> tuple[Bar, ...]:
    """Bars from the largest value to the smallest."""
    lengths = {name: value if math.isfinite(value) else 0.0 for name, value in values.items()}
    largest = max(lengths.values(), default=0.0) or 1.0
    ordered = sorted(values, key=lambda name: -lengths[name])
    return tuple(Bar(name, digits(values[name]), round(100 * lengths[name] / largest, 1)) for name in ordered)


def block_bars(per_block: Mapping[str, float]) -> tuple[Bar, ...]:
    """Bars of basic blocks (meV); a block and its transpose, which Hermiticity makes equal, share one."""
    merged: dict[str, list[float]] = {}
    for name, value in per_block.items():
        first, second, onsite = _parts(name)
        pair = sorted((first, second), key=_order)
        merged.setdefault(" – ".join(pair) + (ONSITE if onsite else ""), []).append(value)
    return bars({name: sum(values) / len(values) for name, values in merged.items()})


def matrices(per_block: Mapping[str, float]) -> tuple[Matrix, ...]:
    """The blocks of an atom with itself, and those between atoms, as matrices of their shells (meV)."""
    strength = _Strength(list(per_block.values()))
    titles = {True: "On-site blocks (i = j, R = 0)", False: "Blocks between atoms"}
    made = (_matrix(title, _chosen(per_block, onsite), strength) for onsite, title in titles.items())
    return tuple(matrix for matrix in made if 0 < len(matrix.shells) <= _MOST_SHELLS)


class _Strength:
    """Colours on one logarithmic scale for all matrices."""

    def __init__(self, values: list[float]) -> None:
        positive = [value for value in values if value > 0 and math.isfinite(value)]
        self.lowest, self.highest = min(positive, default=1.0), max(positive, default=1.0)

    def __call__(self, value: float) -> int:
        if not value > 0 or not math.isfinite(value) or self.highest <= self.lowest:
            return 0
        return round(4 + 66 * math.log(value / self.lowest) / math.log(self.highest / self.lowest))


def _chosen(per_block: Mapping[str, float], onsite: bool) -> dict[tuple[str, str], float]:
    parts = ((_parts(name), value) for name, value in per_block.items())
    return {(first, second): value for (first, second, at_one), value in parts if at_one == onsite}


def _matrix(title: str, values: Mapping[tuple[str, str], float], strength: _Strength) -> Matrix:
    shells = tuple(sorted({shell for pair in values for shell in pair}, key=_order))
    cells = {pair: Cell(digits(value), strength(value)) for pair, value in values.items()}
    return Matrix(title, shells, tuple(tuple(cells.get((row, column)) for column in shells) for row in shells))


def _parts(name: str) -> tuple[str, str, bool]:
    """The two shells of a block like "C s1 - C p1 on-site", and whether they belong to one atom."""
    first, _, second = name.removesuffix(ONSITE).partition(" - ")
    return first, second, name.endswith(ONSITE)


def _order(shell: str) -> tuple[int, int, int, int, str]:
    """Shells by spin ("up", "down" if there is any), atomic number, l and number; what is named otherwise comes last."""
    element, orbital, spin = (*shell.split(" "), "", "")[:3]
    if element in SYMBOLS and orbital[:1] in SPECTROSCOPIC and orbital[1:].isdecimal():
        return int(spin == "down"), SYMBOLS.index(element), SPECTROSCOPIC.index(orbital[0]), int(orbital[1:]), ""
    return 2, 0, 0, 0, shell
