"""``.orb`` files of ABACUS (M. Chen, G.-C. Guo, L. He, J. Phys.: Condens. Matter 22, 445501 (2010)): orbitals of an element.

What is read: ``Element``, ``Radius Cutoff(a.u.)``, ``Lmax``, ``Number of Sorbital-->`` and so on, ``Mesh``, ``dr``, and after
each line ``Type L N`` the two numbers l and zeta behind it, with R(r) at r = 0, dr, 2 dr, ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orbitrace.errors import InputError
from orbitrace.overlaps._radial_files import only_one
from orbitrace.physics.orbitals import SPECTROSCOPIC, SYMBOLS, Shells
from orbitrace.physics.structure import Floats

_AGAIN = "Copy the file again from the calculation it came from"
_LARGEST = 100.0  # Bohr, that ABACUS takes
_HEADER = 4096  # characters; its end is always before that


@dataclass(frozen=True, eq=False)
class OrbFile:
    """The orbitals of one element.

    Parameters
    ----------
    path
        The file, for messages.
    number
        Atomic number.
    cutoff
        Radius beyond which all orbitals vanish, Bohr.
    step
        Of the mesh, Bohr.
    ls
        l of each orbital, ascending: the shells of the house.
    values
        [n_orbitals, n_mesh] R at 0, step, 2 step, ...
    """

    path: Path
    number: int
    cutoff: float
    step: float
    ls: tuple[int, ...]
    values: Floats


def read_orb(path: Path) -> OrbFile:
    """Read and check an ``.orb`` file.

    Raises
    ------
    InputError
        If the file is missing, truncated, garbled or something else.
    """
    text = _text(path)
    number = _element(path, text)
    cutoff, step, mesh = (_value(path, text, key) for key in ("Radius Cutoff(a.u.)", "dr", "Mesh"))
    l_max = int(_value(path, text, "Lmax"))
    if not (
        0 < cutoff < _LARGEST and l_max < len(SPECTROSCOPIC) and mesh >= 2 and abs(step * (mesh - 1) - cutoff) <= 2 * step
    ):
        found = f"orbitals up to l = {l_max} on {mesh:g} points {step:g} Bohr apart, with a cutoff of {cutoff:g} Bohr"
        raise InputError(path, found, "a mesh that reaches to the cutoff", _AGAIN)
    counts = [int(_value(path, text, f"Number of {letter}orbital-->")) for letter in SPECTROSCOPIC.upper()[: l_max + 1]]
    ls = tuple(l for l, count in enumerate(counts) for _ in range(count))
    return OrbFile(path, number, cutoff, step, ls, _functions(path, text, counts, int(mesh)))


def find_orb(folder: Path, number: int, shells: Shells) -> Path:
    """The file of an element in a folder: the only one, or the only one with these shells.

    Raises
    ------
    InputError
        If there is none, there are several, or one of this element is damaged.
    """
    known = {path: _element(path, _text(path, _HEADER)) for path in sorted(folder.glob("*.orb"))}
    mine = [path for path, z in known.items() if z == number]
    if len(mine) > 1:
        fitting = [path for path in mine if read_orb(path).ls == shells.ls]
        known = {path: z for path, z in known.items() if path in (fitting or mine)}
    return only_one(folder, ".orb", number, shells, known)


def _text(path: Path, most: int = -1) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(most)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "an .orb file") from error


def _element(path: Path, text: str) -> int:
    hit = re.search(r"^\s*Element\s+([A-Za-z]+)", text, re.MULTILINE)
    if not hit or hit[1] not in SYMBOLS[1:]:
        raise InputError(path, f"the element {hit[1]!r}" if hit else "has no line Element", "a whole .orb file", _AGAIN)
    return SYMBOLS.index(hit[1])


def _value(path: Path, text: str, key: str) -> float:
    hit = re.search(rf"^\s*{re.escape(key)}\s+(\S+)", text, re.MULTILINE)
    if not hit:
        raise InputError(path, f"has no {key}", "a whole .orb file", _AGAIN)
    try:
        value = float(hit[1])
    except ValueError:
        value = np.nan
    if not 0 <= value < 1e6:
        raise InputError(path, f"{key} is {hit[1]!r}", "a number", _AGAIN)
    return value


def _functions(path: Path, text: str, counts: list[int], mesh: int) -> Floats:
    """The tables behind the lines ``Type L N``, by l and zeta: [n_orbitals, mesh]."""
    expected = {(l, zeta) for l, count in enumerate(counts) for zeta in range(count)}
    tables: dict[tuple[int, int], Floats] = {}
    for part in re.split(r"^\s*Type\s+L\s+N\s*$", text, flags=re.MULTILINE)[1:]:
        try:
            numbers = np.array(part.split(), dtype=np.float64)
        except ValueError as error:
            raise InputError(path, f"holds something else than numbers ({error})", "numbers", _AGAIN) from None
        if len(numbers) != mesh + 3 or not np.isfinite(numbers).all():
            raise InputError(path, f"orbital {len(tables) + 1} has {max(len(numbers) - 3, 0)} points", f"{mesh}", _AGAIN)
        tables[int(numbers[1]), int(numbers[2])] = numbers[3:]
    if not expected or set(tables) != expected:
        found = f"holds {len(tables)} of the {len(expected)} orbitals that its header announces"
        raise InputError(path, found, "a whole .orb file", _AGAIN)
    return np.stack([tables[key] for key in sorted(expected)])
