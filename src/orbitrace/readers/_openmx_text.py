"""The text files of OpenMX: its input (which ``.scfout`` repeats), its report ``.out``, and its bands ``.Band``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.orbitals import SPECTROSCOPIC, SYMBOLS
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats
from orbitrace.units import OPENMX_BOHR, OPENMX_HARTREE

_PAO = re.compile(r"(?P<element>[A-Za-z]+)(?P<cutoff>\d+(?:\.\d+)?)[^-]*-(?P<shells>\S+)")
_SHELL = re.compile(rf"([{SPECTROSCOPIC}])(\d+)(?:>(\d+))?")


@dataclass(frozen=True)
class Species:
    """One line of ``Definition.of.Atomic.Species``, e.g. ``C1 C5.0-s2p1 C_PBE13``.

    Parameters
    ----------
    label
        Name of the species; need not be the element's symbol.
    number
        Atomic number.
    cutoff
        Radius of the orbitals, Bohr.
    ls
        l of each shell, ascending.
    """

    label: str
    number: int
    cutoff: float
    ls: tuple[int, ...]


def species(input_text: str, where: str) -> dict[str, Species]:
    """The species that the input defines, by label."""
    return {
        label: _species(label, pao, where) for label, pao, *_ in _block(input_text, "Definition.of.Atomic.Species", 2, where)
    }


def atoms(input_text: str, where: str) -> list[tuple[str, float]]:
    """Label of each atom's species, and its initial electrons (up + down), which OpenMX forces to be the valence."""
    found = []
    for _, label, _, _, _, up, down, *_ in _block(input_text, "Atoms.SpeciesAndCoordinates", 7, where):
        try:
            found.append((label, float(up) + float(down)))
        except ValueError:
            raise InputError(where, f"an atom has the initial electrons {up!r} and {down!r}", "two numbers") from None
    return found


def keyword(input_text: str, name: str, default: float) -> float:
    """Value of a numeric keyword of the input; OpenMX does not care about upper and lower case."""
    hit = re.search(rf"^\s*{re.escape(name)}\s+(\S+)", input_text, re.MULTILINE | re.IGNORECASE)
    try:
        return float(hit[1]) if hit else default
    except ValueError:
        return default


def _block(input_text: str, name: str, columns: int, where: str) -> list[list[str]]:
    """Rows of the block ``<name ... name>``, without comments."""
    pattern = rf"^\s*<{re.escape(name)}\s*\n(.*?)^\s*{re.escape(name)}>"
    hit = re.search(pattern, input_text, re.MULTILINE | re.IGNORECASE | re.DOTALL)
    rows = [row for line in (hit[1] if hit else "").splitlines() if (row := line.partition("#")[0].split())]
    if not rows or any(len(row) < columns for row in rows):
        raise InputError(
            where,
            f"the input that the file repeats has no complete block <{name}>",
            "the input of the run",
            "Copy the file again from its source, or run the calculation again",
        )
    return rows


def _species(label: str, pao: str, where: str) -> Species:
    hit = _PAO.fullmatch(pao)
    shells = _SHELL.findall(hit["shells"]) if hit else []
    if not hit or "".join(l + n + (f">{m}" if m else "") for l, n, m in shells) != hit["shells"]:
        raise InputError(where, f"species {label} has the basis {pao!r}", "a name like C6.0-s2p2d1: element, radius, shells")
    element = hit["element"]
    if element not in SYMBOLS[1:]:
        empty = (
            "an empty atom (orbitals without a nucleus)" if element.startswith("E") else f"of the unknown element {element!r}"
        )
        raise InputError(
            where, f"species {label} ({pao}) is {empty}", "elements of the periodic table", "Run the calculation without it"
        )
    # s4>2 contracts four primitive functions to two orbitals
    ls = sorted(SPECTROSCOPIC.index(l) for l, n, contracted in shells for _ in range(int(contracted or n)))
    return Species(label, SYMBOLS.index(element), float(hit["cutoff"]), tuple(ls))


@dataclass(frozen=True)
class Report:
    """What the last run in a ``.out`` file says of itself (OpenMX appends when a run is repeated in a folder).

    Parameters
    ----------
    version
        Version of OpenMX, or None.
    energies
        Band energy of each step of the last self-consistent cycle, Hartree.
    chemical_potential
        Hartree, rounded to 1e-12; None if the run did not get there.
    """

    version: str | None
    energies: tuple[float, ...]
    chemical_potential: float | None


def report(out_text: str) -> Report:
    """Read a ``.out`` file."""
    versions = re.findall(r"performed by OpenMX Ver\. *(\S+)", out_text)
    last = out_text[max(out_text.rfind("SCF history"), 0) :]
    energies = tuple(_number(value) for value in re.findall(r"SCF=\s*\d+\s+NormRD=.*Uele=\s*(\S+)", last))
    potentials = re.findall(r"Chemical potential \(Hartree\)\s+(\S+)", last)
    return Report(versions[-1] if versions else None, energies, _number(potentials[-1]) if potentials else None)


def check_converged(run: Report, input_text: str, where: str) -> None:
    """Refuse a run whose self-consistent cycle stopped before it converged.

    OpenMX does not say so in words: it ends the cycle when the band energy changes by less than scf.criterion, or after
    scf.maxIter steps, and writes its files in both cases.
    """
    criterion = keyword(input_text, "scf.criterion", 1e-6)
    limit = int(keyword(input_text, "scf.maxIter", 40))
    if any(not math.isfinite(energy) for energy in run.energies):
        raise InputError(
            where,
            "the band energy is not a finite number",
            "a converged run",
            "OpenMX built with gcc gives NaN with its default eigensolver: set scf.eigen.lib to elpa1 and run it again",
        )
    change = abs(run.energies[-1] - run.energies[-2]) if len(run.energies) > 1 else math.inf
    if change > max(criterion, 2e-12):  # the energies are printed with 12 decimals
        raise InputError(
            where,
            f"the run did not converge: after {len(run.energies)} steps (of at most {limit}) its band energy still changed by "
            f"{change:.1e} Hartree",
            f"less than scf.criterion = {criterion:.1e}",
            "Run it again with a larger scf.maxIter or another mixing",
        )


def bands(band_text: str, where: str) -> Spectrum:
    """Read a ``.Band`` file: the bands along the path of ``Band.kpath``, eV."""
    try:
        return _bands(band_text)
    except (ValueError, IndexError) as error:
        raise InputError(
            where,
            f"not a complete file of bands ({error})",
            "a .Band file of OpenMX",
            "Copy it again, or run the calculation again",
        ) from error


def levels(out_text: str, lattice: Floats, spin_polarised: bool, where: str) -> Spectrum | None:
    """Eigenvalues that a ``.out`` file lists: those of a molecule, or those on the mesh of the self-consistent cycle.

    Coordinates of k points are printed with five decimals. None if the file lists no eigenvalues.
    """
    start = out_text.rfind("Eigenvalues (Hartree)")
    if start < 0:
        return None
    table = out_text[start:].partition("Mulliken populations")[0]
    points = re.findall(r"k1=\s*(\S+)\s+k2=\s*(\S+)\s+k3=\s*(\S+)", table) or [("0", "0", "0")]
    rows = [row.split()[1:] for row in re.findall(r"^ +\d+ +-?\d+\.\d+(?: +-?\d+\.\d+)? *$", table, re.MULTILINE)]
    if len(rows) == 0 or len(rows) % len(points):
        raise InputError(where, f"{len(rows)} eigenvalues for {len(points)} k points", "as many for each of them")
    columns = np.array(rows, dtype=np.float64).T[: 2 if spin_polarised else 1]  # without spin, both columns are the same
    fermi = report(out_text).chemical_potential
    return Spectrum(
        np.array(points, dtype=np.float64),
        np.ascontiguousarray(columns).reshape(len(columns), len(points), -1) * OPENMX_HARTREE,
        None if fermi is None else fermi * OPENMX_HARTREE,
        lattice,
    )


def _bands(band_text: str) -> Spectrum:
    lines = band_text.splitlines()
    n_bands, spin, fermi = int(lines[0].split()[0]), int(lines[0].split()[1]), float(lines[0].split()[2])
    reciprocal = np.array(lines[1].split(), dtype=np.float64).reshape(3, 3)
    n_paths = int(lines[2])
    paths = [line.split() for line in lines[3 : 3 + n_paths]]
    rows = np.array(" ".join(lines[3 + n_paths :]).split(), dtype=np.float64).reshape(-1, 4 + n_bands)
    n_spin = 2 if spin == 1 else 1
    n_points = [int(path[0]) for path in paths]
    if len(rows) != n_spin * sum(n_points):
        raise ValueError(f"{len(rows)} rows for {sum(n_points)} k points")
    if not np.isfinite(rows).all():
        raise ValueError("energies that are not finite numbers")
    ends = np.cumsum(n_points)
    labels = [
        (int(at), name)
        for path, end, n in zip(paths, ends, n_points, strict=True)
        for at, name in ((end - n, path[-2]), (end - 1, path[-1]))
    ]
    energies = rows[:, 4:].reshape(-1, n_spin, n_bands).transpose(1, 0, 2) * OPENMX_HARTREE
    lattice = np.asarray(2 * np.pi * np.linalg.inv(reciprocal).T * OPENMX_BOHR, dtype=np.float64)
    return Spectrum(rows[::n_spin, 1:4], np.ascontiguousarray(energies), fermi * OPENMX_HARTREE, lattice, tuple(labels))


def _number(text: str) -> float:
    """A number, or NaN for what C prints in its place."""
    try:
        return float(text)
    except ValueError:
        return math.nan
