"""``.pao`` files (T. Ozaki, Phys. Rev. B 67, 155108 (2003)): radial functions of one element on a logarithmic mesh.

What is read: ``AtomSpecies``, ``valence.electron``, ``grid.num.output``, ``radial.cutoff.pao`` (Bohr), ``PAO.Lmax``,
``PAO.Mul`` and the blocks ``<pseudo.atomic.orbitals.L=l``, whose columns are ln r, r, R_0, R_1, ... The name of a basis,
C6.0-s2p2d1, says the file, C6.0.pao, and how many of the functions of each l are taken, from the first one on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.orbitals import SPECTROSCOPIC, SYMBOLS, Shells
from orbitrace.physics.structure import Floats
from orbitrace.units import OPENMX_BOHR

_NAME = re.compile(r"(?P<file>(?P<element>[A-Z][a-z]?)\d+(?:\.\d+)?[^-]*)-(?P<shells>(?:[a-z]\d+)+)")
_AGAIN = "Copy the file again from the distribution it came from"


@dataclass(frozen=True, eq=False)
class PaoFile:
    """Radial functions of one element.

    Parameters
    ----------
    path
        The file, for messages.
    number
        Atomic number that the file gives; fractional for virtual atoms.
    valence
        Valence electrons, or None where the file does not tell.
    cutoff
        Radius beyond which all functions vanish, Bohr.
    radii
        [n_radii] Bohr, ascending, equally spaced in ln r.
    functions
        l -> [n_radii, n_functions], Bohr^-3/2.
    """

    path: Path
    number: float
    valence: float | None
    cutoff: float
    radii: Floats
    functions: Mapping[int, Floats]

    def chosen(self, shells: Shells) -> list[Floats]:
        """The first functions of each l, one for each shell: [n_radii] each.

        Raises
        ------
        InputError
            If there are too few functions.
        """
        result = []
        for shell, l in enumerate(shells.ls):
            zeta = shells.ls[:shell].count(l)
            known = self.functions[l].shape[1] if l in self.functions else 0
            if zeta >= known:
                name = SPECTROSCOPIC[l]
                raise InputError(
                    self.path,
                    f"holds {known} radial functions {name}",
                    f"at least {shells.ls.count(l)} for the basis {shells}",
                )
            result.append(self.functions[l][:, zeta])
        return result


def read_pao(file: Path) -> PaoFile:
    """Read and check a ``.pao`` file.

    Raises
    ------
    InputError
        If the file is missing, truncated or garbled.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})", "a .pao file") from error
    rows, columns = int(_value(text, "grid.num.output", file)), int(_value(text, "PAO.Mul", file)) + 2
    tables = {l: _table(text, l, rows, columns, file) for l in range(int(_value(text, "PAO.Lmax", file)) + 1)}
    radii, cutoff = tables[0][:, 1], _value(text, "radial.cutoff.pao", file)
    if any(not np.array_equal(table[:, 1], radii) for table in tables.values()):
        raise InputError(file, "the functions of different l stand on different meshes", "one mesh", _AGAIN)
    if not 0 < cutoff < radii[-1]:
        raise InputError(
            file, f"radial.cutoff.pao is {cutoff} Bohr", f"a radius within its mesh ({radii[-1]:.2f} Bohr)", _AGAIN
        )
    valence = _value(text, "valence.electron", file) if _entry(text, "valence.electron") else None
    functions = {l: table[:, 2:] for l, table in tables.items()}
    return PaoFile(file, _value(text, "AtomSpecies", file), valence, cutoff, radii, functions)


def find_pao(folder: Path, number: int, cutoff: float) -> Path:
    """The file of an element in a folder, by its name, e.g. C6.0.pao.

    Where there is none of just this name, one with a letter after the radius (Fe5.5H.pao: hard) will do if it is the only one.

    Parameters
    ----------
    folder
        Holds the files.
    number
        Atomic number.
    cutoff
        Radius of the orbitals, Å.

    Raises
    ------
    InputError
        If there is no such file, or there are several.
    """
    stem = f"{SYMBOLS[number]}{cutoff / OPENMX_BOHR:.1f}"
    if (folder / f"{stem}.pao").is_file():
        return folder / f"{stem}.pao"
    variants = sorted(folder.glob(f"{stem}[A-Za-z_]*.pao"))
    if len(variants) == 1:
        return variants[0]
    if variants:
        names = ", ".join(file.name for file in variants)
        raise InputError(folder, f"holds {names}", f"one file for {stem}", "Leave only the one of your calculations there")
    others = ", ".join(file.name for file in sorted(folder.glob(f"{SYMBOLS[number]}[0-9]*.pao"))) or "none"
    raise InputError(
        folder,
        f"no file {stem}.pao nor {stem}H.pao or the like (of {SYMBOLS[number]} there is: {others})",
        f"the radial functions of {SYMBOLS[number]} with a cutoff of {cutoff / OPENMX_BOHR:.1f} Bohr",
        "Copy the file with which your calculations were run there",
    )


def parse_name(name: str) -> tuple[str, int, tuple[int, ...]]:
    """The parts of the name of a basis: "C6.0-s2p1" -> ("C6.0", 6, (0, 0, 1)). Raises InputError if it is none."""
    hit = _NAME.fullmatch(name)
    shells = re.findall(r"([a-z])(\d+)", hit["shells"]) if hit else []
    if not hit or hit["element"] not in SYMBOLS[1:] or any(l not in SPECTROSCOPIC for l, _ in shells):
        raise InputError("basis", f"the name {name!r}", "one like C6.0-s2p2d1: file, number of radial functions of each l")
    ls = sorted(SPECTROSCOPIC.index(l) for l, n in shells for _ in range(int(n)))
    return hit["file"], SYMBOLS.index(hit["element"]), tuple(ls)


def _entry(text: str, key: str) -> str | None:
    """What stands after a key, or None."""
    hit = re.search(rf"^[ \t]*{re.escape(key)}[ \t]+([^\s#]+)", text, re.MULTILINE | re.IGNORECASE)
    return hit[1] if hit else None


def _value(text: str, key: str, file: Path) -> float:
    """Value of a numeric key."""
    entry = _entry(text, key)
    if entry is None:
        raise InputError(file, f"has no {key}", "a whole .pao file", _AGAIN)
    try:
        value = float(entry)
    except ValueError:
        value = np.nan
    if not 0 <= value < 1e6:
        raise InputError(file, f"{key} is {entry!r}", "a number", _AGAIN)
    return value


def _table(text: str, l: int, rows: int, columns: int, file: Path) -> Floats:
    """The block of one l: [rows, columns]."""
    name = f"pseudo.atomic.orbitals.L={l}"
    pattern = rf"^\s*<{re.escape(name)}[ \t]*\n(.*?)^\s*{re.escape(name)}>"
    hit = re.search(pattern, text, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    if not hit:
        raise InputError(file, f"the block <{name}> is missing or has no end", "a whole .pao file", _AGAIN)
    lines = [line.split() for line in hit[1].splitlines() if line.strip()]
    if len(lines) != rows or {len(line) for line in lines} != {columns}:
        widths = " or ".join(map(str, sorted({len(line) for line in lines})))
        found = f"<{name}> has {len(lines)} rows of {widths or 0} numbers"
        raise InputError(file, found, f"{rows} rows of {columns}, as grid.num.output and PAO.Mul say", _AGAIN)
    try:
        table = np.array(lines, dtype=np.float64)
    except ValueError as error:
        raise InputError(file, f"<{name}> holds something else than numbers ({error})", "numbers", _AGAIN) from None
    radii = table[:, 1]
    if not np.isfinite(table).all() or (np.diff(radii) <= 0).any() or not np.allclose(np.exp(table[:, 0]), radii, rtol=1e-5):
        raise InputError(file, f"the radii of <{name}> are not ascending, or not those of its first column", "a mesh", _AGAIN)
    return table
