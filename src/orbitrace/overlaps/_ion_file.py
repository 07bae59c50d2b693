"""``.ion.nc`` and ``.ion.xml`` files of SIESTA: the orbitals of one species on linear meshes.

What is read of ``.ion.nc`` (netCDF; both the classic format and that on HDF5): the attributes ``Atomic_number`` and
``Valence_charge``, and the variables ``orbnl_l``, ``cutoff``, ``delta`` and ``orb``; of ``.ion.xml``, which SIESTA writes
without netCDF too, the same from ``<z>``, ``<valence>`` and the ``<orbital>`` of ``<paos>``. All files hold R(r) / r^l.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import netcdf_file

from orbitrace.errors import InputError
from orbitrace.overlaps._radial_files import only_one
from orbitrace.physics.orbitals import SPECTROSCOPIC, SYMBOLS, Shells
from orbitrace.physics.structure import Floats

KINDS = (".ion.nc", ".ion.xml")
_AGAIN = "Copy the file again from the calculation it came from"
_LARGEST = 40.0  # Bohr; radii of orbitals are 2 to 12
_DAMAGE = (OSError, KeyError, ValueError, TypeError, IndexError, AttributeError, AssertionError, EOFError, RuntimeError)


@dataclass(frozen=True, eq=False)
class Radial:
    """One radial function: l, the radius where it ends and the step of its mesh (Bohr), and R(r) / r^l there [n]."""

    l: int
    cutoff: float
    delta: float
    values: Floats


@dataclass(frozen=True, eq=False)
class IonFile:
    """The orbitals of one species.

    Parameters
    ----------
    path
        The file, for messages.
    number
        Atomic number; not positive for ghosts.
    valence
        Valence electrons.
    orbitals
        By ascending l, else as in the file: the shells of the house.
    """

    path: Path
    number: int
    valence: float
    orbitals: tuple[Radial, ...]

    @property
    def ls(self) -> tuple[int, ...]:
        """L of each orbital."""
        return tuple(orbital.l for orbital in self.orbitals)

    @property
    def cutoff(self) -> float:
        """Radius beyond which all orbitals vanish, Bohr."""
        return max(orbital.cutoff for orbital in self.orbitals)


def read_ion(path: Path) -> IonFile:
    """Read and check an ``.ion.nc`` or ``.ion.xml`` file.

    Raises
    ------
    InputError
        If the file is missing, truncated, garbled or something else.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "an .ion.nc or .ion.xml file of SIESTA")
    try:
        number, valence, orbitals = _from_xml(path) if path.name.endswith(".xml") else _from_netcdf(path)
    except _DAMAGE as error:
        reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(path, f"damaged, or no file of SIESTA's orbitals ({reason})", "a whole .ion.nc", _AGAIN) from error
    for orbital in orbitals:
        _check(path, orbital)
    if not orbitals:
        raise InputError(path, "holds no orbitals", "those of one species", _AGAIN)
    return IonFile(path, number, valence, tuple(sorted(orbitals, key=lambda orbital: orbital.l)))


def find_ion(folder: Path, number: int, shells: Shells) -> Path:
    """The file of an element in a folder; where one species has both kinds, ``.ion.nc``, which has more digits.

    Raises
    ------
    InputError
        If there is none, there are several, or one of them is damaged.
    """
    paths: dict[str, Path] = {}
    for kind in reversed(KINDS):
        paths |= {path.name.removesuffix(kind): path for path in sorted(folder.glob(f"*{kind}"))}
    known = {path: read_ion(path).number for path in paths.values()}
    return only_one(folder, ".ion.nc or .ion.xml", number, shells, known)


def _from_netcdf(path: Path) -> tuple[int, float, list[Radial]]:
    with path.open("rb") as stream:
        classic = stream.read(3) == b"CDF"
    if classic:
        with netcdf_file(path, "r", mmap=False) as store:
            attributes: Mapping[str, Any] = store._attributes
            arrays = {name: np.array(store.variables[name][:]) for name in ("orbnl_l", "cutoff", "delta", "orb")}
    else:
        with h5py.File(path, "r") as store:
            attributes = dict(store.attrs)
            arrays = {name: store[name][:] for name in ("orbnl_l", "cutoff", "delta", "orb")}
    number, valence = (_scalar(attributes[key]) for key in ("Atomic_number", "Valence_charge"))
    rows = zip(arrays["orbnl_l"], arrays["cutoff"], arrays["delta"], arrays["orb"], strict=True)
    return int(number), valence, [Radial(int(l), float(c), float(d), np.asarray(o, np.float64)) for l, c, d, o in rows]


def _scalar(value: Any) -> float:
    return float(np.asarray(value, dtype=np.float64).reshape(-1)[0])


def _from_xml(path: Path) -> tuple[int, float, list[Radial]]:
    # Not by an XML parser: the preamble quotes the headers of pseudopotentials, which hold any signs.
    text = path.read_text(encoding="utf-8", errors="replace")
    paos = _inside(text, "paos")
    parts = re.split(r"<orbital\b", paos)[1:]
    if len(parts) != (expected := int(_inside(text, "norbs_nl"))):
        raise ValueError(f"{len(parts)} orbitals where {expected} are announced")
    return int(_inside(text, "z")), float(_inside(text, "valence")), [_radial(part) for part in parts]


def _radial(part: str) -> Radial:
    l = re.search(r'\bl\s*=\s*"\s*(\d+)\s*"', part)
    if not l:
        raise ValueError("an orbital without l")
    data = np.array(_inside(part, "data").split(), dtype=np.float64)
    n, delta = int(_inside(part, "npts")), float(_inside(part, "delta"))
    if len(data) != 2 * n:
        raise ValueError(f"{len(data)} numbers in an orbital of {n} points")
    return Radial(int(l[1]), float(_inside(part, "cutoff")), delta, data[1::2])


def _inside(text: str, tag: str) -> str:
    hit = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    if not hit:
        raise KeyError(f"<{tag}>")
    return hit[1]


def _check(path: Path, orbital: Radial) -> None:
    """Refuse what is no radial function."""
    l, end = orbital.l, orbital.delta * (len(orbital.values) - 1)
    if not 0 <= l < len(SPECTROSCOPIC) or orbital.values.ndim != 1 or not np.isfinite(orbital.values).all():
        raise InputError(path, f"an orbital with l = {l} holds something else than finite numbers", "numbers", _AGAIN)
    if not 0 < orbital.cutoff < _LARGEST or not abs(end - orbital.cutoff) <= 1e-3 * orbital.cutoff:
        found = f"an orbital {SPECTROSCOPIC[l]} ends at {orbital.cutoff:.3f} Bohr, its mesh at {end:.3f} Bohr"
        raise InputError(path, found, "one radius, up to which the mesh reaches", _AGAIN)


def symbol(number: int) -> str:
    """What to call the species of a file."""
    return SYMBOLS[number] if 0 < number < len(SYMBOLS) else f"no element (atomic number {number})"
