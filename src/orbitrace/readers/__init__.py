"""Readers of DFT codes' raw output, and the one door through which every calculation enters the house.

One file in this folder per code. A reader supplies

* ``MARKERS``: patterns of the names of files that mark a folder as one calculation of this code;
* ``ORDER``: the order of m, with signs, in which the code lists the orbitals of a shell (data, see `physics.orbitals.Order`);
* ``read(folder) -> RawCalculation``: what the files hold, in Å and eV, in the code's own order;
* optionally ``BESIDE``: patterns of further files that it reads, so that a change in them is noticed;
* optionally ``reference_spectrum(folder) -> Spectrum | None``: the bands that the code itself computed.

The door converts to the conventions of the house and checks everything: sizes, finite values, the reverse of each pair, how
far H and S are from Hermitian (their Hermitian part is what is returned), pair lengths against the orbitals' radii, a positive
definite overlap, and the electron count. What does not pass raises `InputError`; nothing is repaired in silence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orbitrace import plugins
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.spectrum import Spectrum
from orbitrace.readers._checks import check
from orbitrace.readers._convert import to_house
from orbitrace.readers._files import matching


def read(folder: Path, code: str | None = None) -> Calculation:
    """One calculation of any code that has a reader, in the conventions of the house, checked.

    Parameters
    ----------
    folder
        Folder with the code's raw files, plain or compressed (gzip, xz, Zstandard).
    code
        Name of the reader; found from the files if None.

    Raises
    ------
    InputError
        If no reader knows the folder, or its files are damaged, incomplete, not converged or contradict each other.
    """
    reader = plugins.load("readers", code or detect(folder))
    with np.errstate(all="ignore"):  # damaged numbers may be anything; the checks refuse them
        raw = reader.read(_existing(folder))
        calculation = to_house(raw, reader.ORDER)
        check(calculation, raw.counted_electrons)
    return calculation


def detect(folder: Path) -> str:
    """Name of the reader whose marker files lie in the folder.

    Raises
    ------
    InputError
        If no reader knows the folder, or more than one does; the message lists what the readers look for.
    """
    folder = _existing(folder)
    known = markers()
    hits = [name for name, patterns in known.items() if matching(folder, patterns)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise InputError(folder, f"files of several codes: {', '.join(hits)}", "one", "Name the reader to use")
    found = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    raise InputError(
        folder,
        f"no calculation that a reader knows (the folder holds {shown})" if found else "the folder is empty",
        "files of " + "; ".join(f"{name} ({', '.join(patterns)})" for name, patterns in known.items()),
        "Give the folder of one finished calculation, or add a reader",
    )


def reference_spectrum(folder: Path, code: str | None = None) -> Spectrum | None:
    """The band structure that the DFT code itself computed, or None if the folder holds none.

    Raises
    ------
    InputError
        If no reader knows the folder, or the file with the bands is damaged.
    """
    reader = plugins.load("readers", code or detect(folder))
    if not hasattr(reader, "reference_spectrum"):
        return None
    spectrum: Spectrum | None = reader.reference_spectrum(_existing(folder))
    return spectrum


def markers() -> dict[str, tuple[str, ...]]:
    """Patterns of file names that mark a calculation's folder, for each reader."""
    return {name: tuple(plugins.load("readers", name).MARKERS) for name in plugins.names("readers")}


def beside() -> dict[str, tuple[str, ...]]:
    """Patterns of the further files that each reader reads, beside the marker."""
    return {name: tuple(getattr(plugins.load("readers", name), "BESIDE", ())) for name in plugins.names("readers")}


def _existing(folder: Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "not a folder" if folder.exists() else "no such folder", "the folder of a calculation")
    return folder
