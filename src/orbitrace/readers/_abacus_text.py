"""Text files of ABACUS beside its matrices: ``STRU``, ``INPUT``, ``.orb``, the running log, and levels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats
from orbitrace.units import ABACUS_BOHR

REMEDY = "Give the files of one finished calculation"
_SECTIONS = (
    "ATOMIC_SPECIES", "NUMERICAL_ORBITAL", "LATTICE_CONSTANT", "LATTICE_VECTORS", "LATTICE_PARAMETERS", "ATOMIC_POSITIONS",
    "NUMERICAL_DESCRIPTOR", "ABFS_ORBITAL", "PAW_FILES",
)  # fmt: skip
_MOST_ATOMS = 10**6


@dataclass(frozen=True, eq=False)
class Stru:
    """``STRU``, or what the files of 2026 repeat of it.

    Parameters
    ----------
    lattice
        [3, 3] rows, Å.
    fractions
        [n_atoms, 3] in units of the lattice vectors, between 0 and 1: ABACUS wraps all atoms into the cell before it begins.
    labels
        Label of each atom.
    orbital_files
        Name of the orbital file of each label, where it is told.
    """

    lattice: Floats
    fractions: Floats
    labels: tuple[str, ...]
    orbital_files: dict[str, str]


@dataclass(frozen=True)
class Orbital:
    """The l of the shells of an element, ascending, and their radius, Å (None where it is not told)."""

    ls: tuple[int, ...]
    radius: float | None


@dataclass(frozen=True)
class Log:
    """What the running log tells; None where it does not.

    Parameters
    ----------
    version
        Of ABACUS.
    converged
        Whether the last self-consistent cycle converged.
    fermi_level, n_electrons
        eV; electrons per cell.
    zetas
        By label: how many shells of each l.
    valences
        By label.
    """

    version: str | None
    converged: bool | None
    fermi_level: float | None
    n_electrons: float | None
    zetas: dict[str, tuple[int, ...]]
    valences: dict[str, float]


def stru(text: str, latname: str, where: str) -> Stru:
    """Read a ``STRU`` file; `latname` is that of ``INPUT``, "none" if there is none.

    Raises
    ------
    InputError
        If it is damaged, or holds a lattice or positions of a kind that is not known.
    """
    sections = _sections(text)
    try:
        constant = float(sections["LATTICE_CONSTANT"][0][0]) * ABACUS_BOHR
        species = [words[0] for words in sections["ATOMIC_SPECIES"]]
        files = [words[0].rpartition("/")[2] for words in sections.get("NUMERICAL_ORBITAL", [])]
        lattice = constant * _lattice(sections, latname, where)
        labels, rows = _atoms(sections["ATOMIC_POSITIONS"][1:])
        mode = sections["ATOMIC_POSITIONS"][0][0].lower()
        inverse = np.linalg.inv(lattice)
    except (KeyError, IndexError, ValueError, np.linalg.LinAlgError) as error:
        raise InputError(where, f"damaged ({type(error).__name__}: {error})", "a STRU file of ABACUS", REMEDY) from error
    scales = {"direct": None, "cartesian": constant, "cartesian_angstrom": 1.0, "cartesian_au": ABACUS_BOHR}
    if mode not in scales:
        raise InputError(
            where, f"positions of the kind {mode!r}", "one of Direct, Cartesian, Cartesian_angstrom, Cartesian_au"
        )
    scale = scales[mode]
    if not (np.isfinite(rows).all() and np.isfinite(inverse).all() and np.abs(rows).max() < 1e6):
        raise InputError(where, "a cell or positions that are no lengths", remedy=REMEDY)
    fractions = rows if scale is None else rows * scale @ inverse
    return Stru(lattice, wrapped(fractions), labels, dict(zip(species, files, strict=False)))


def repeated_cell(text: str, where: str) -> Stru:
    """The cell as the files of 2026 repeat it: name, lattice constant in Å, vectors, labels, numbers, positions.

    Raises
    ------
    InputError
        If it is damaged.
    """
    lines = [words for line in text.splitlines() if (words := line.split()) and not words[0].startswith("#")]
    try:
        lattice = float(lines[1][0]) * np.array([words[:3] for words in lines[2:5]], dtype=np.float64)
        counts = [int(word) for word in lines[6]]
        n_atoms = sum(counts)
        if lines[7][0].lower() != "direct" or len(counts) != len(lines[5]) or not 0 < n_atoms <= len(lines) - 8:
            raise ValueError(f"{len(lines) - 8} positions")
        labels = tuple(label for label, count in zip(lines[5], counts, strict=True) for _ in range(count))
        fractions = np.array([words[:3] for words in lines[8 : 8 + n_atoms]], dtype=np.float64)
        if not np.isfinite(fractions).all() or abs(np.linalg.det(lattice)) < 1e-6:
            raise ValueError("no cell")
    except (IndexError, ValueError) as error:
        raise InputError(where, f"the cell in its head is damaged ({error})", remedy=REMEDY) from error
    return Stru(lattice, wrapped(fractions), labels, {})


def wrapped(fractions: Floats) -> Floats:
    """Fractions from 0 to 1, exclusive, as ABACUS makes them."""
    result: Floats = np.fmod(np.fmod(fractions, 1.0) + 1.0, 1.0)
    return result


def parameter(text: str, name: str, default: str) -> str:
    """The value of a keyword of ``INPUT``."""
    found = re.search(rf"^[ \t]*{name}[ \t]+([^\s#/]+)", text, re.MULTILINE)
    return found.group(1).lower() if found else default


def orbital(text: str, where: str) -> Orbital:
    """Shells and radius in the head of a ``.orb`` file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    head = text[:5000]
    radius = re.search(r"Radius Cutoff\(a\.u\.\)\s+(\S+)", head)
    counts = {letter.lower(): int(n) for letter, n in re.findall(r"Number of ([A-Za-z])orbital-->\s+(\d{1,3})", head)}
    try:
        length = float(radius.group(1)) * ABACUS_BOHR if radius else 0.0
    except ValueError:
        length = 0.0
    ls = tuple(l for l, letter in enumerate("spdfghi") for _ in range(counts.get(letter, 0)))
    if not 0 < length < 100 or not ls or len(ls) > 100:
        raise InputError(where, "a damaged head", "the radius and the numbers of orbitals", REMEDY)
    return Orbital(ls, length)


def orbital_by_name(name: str) -> Orbital | None:
    """What a name such as ``Mo_gga_8au_100Ry_4s2p2d1f.orb`` tells."""
    found = re.search(r"_(\d+(?:\.\d+)?)au_.*?_((?:\d+[spdfghi])+)", name)
    if found is None or not 0 < float(found.group(1)) < 100:
        return None
    counts = re.findall(r"(\d+)([spdfghi])", found.group(2))
    ls = tuple(l for l, letter in enumerate("spdfghi") for n, own in counts if own == letter for _ in range(min(int(n), 99)))
    return Orbital(ls, float(found.group(1)) * ABACUS_BOHR)


def log(text: str) -> Log:
    """What a ``running_*.log`` tells."""
    version = re.search(r"(?:ABACUS|Version:)\s+v?(\d[\w.\-]*)", text[:5000])
    levels = re.findall(r"EFERMI\s*=\s*(\S+)\s*eV", text)
    electrons = re.findall(r"(?:AUTOSET number of electrons:\s*=|[Nn]umber of electrons\s*=)\s*(\S+)", text)
    achieved, failed = text.rfind("convergence is achieved"), text.rfind("convergence has NOT been achieved")
    zetas = {
        block[0]: tuple(int(n) for n in re.findall(r"L=\d, number of zeta = (\d{1,3})", block[1]))
        for block in re.findall(r"atom label = (\S+)\s*\n((?:.*number of zeta.*\n)+)", text)
    }
    valences = dict(re.findall(r"^\s*electron number of element (\S+) = (\S+)", text, re.MULTILINE))
    known = {label: number for label, value in valences.items() if (number := _float(value)) is not None}
    return Log(
        version=version.group(1) if version else None,
        converged=None if achieved == failed else achieved > failed,
        fermi_level=_float(levels[-1]) if levels else None,
        n_electrons=_float(electrons[-1]) if electrons else None,
        zetas=zetas,
        valences=known,
    )


def levels(text: str, fermi_level: float | None, lattice: Floats, where: str) -> Spectrum:
    """Eigenvalues in ``istate.info``.

    Raises
    ------
    InputError
        If it is damaged.
    """
    kpoints, energies = [], []
    for block in text.split("BAND")[1:]:
        head, _, body = block.partition("\n")
        point = re.search(r"Kpoint = \d+\s+\(([^)]*)\)", head)
        try:
            rows = np.array([line.split() for line in body.splitlines() if line.strip()], dtype=np.float64)
            if point is None or rows.ndim != 2 or rows.shape[1] not in (3, 5):
                raise ValueError("no table of levels")
            kpoints.append([float(x) for x in point.group(1).split()])
            energies.append(rows[:, 1::2].T)
        except ValueError as error:
            raise InputError(where, f"damaged ({error})", "levels of each k point", REMEDY) from error
    if not energies or len({part.shape for part in energies}) != 1 or {len(k) for k in kpoints} != {3}:
        raise InputError(where, "damaged: its k points have different numbers of levels", remedy=REMEDY)
    return Spectrum(np.array(kpoints), np.stack(energies, axis=1), fermi_level, lattice)


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _sections(text: str) -> dict[str, list[list[str]]]:
    """The lines of each section as words, without comments."""
    sections: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    for line in text.splitlines():
        words = re.split(r"#|//", line)[0].split()
        if words and words[0] in _SECTIONS:
            current = sections.setdefault(words[0], [])
        elif words:
            current.append(words)
    return sections


def _atoms(lines: list[list[str]]) -> tuple[tuple[str, ...], Floats]:
    """Labels and positions: of each element its label, magnetisation, number, and as many lines."""
    rest = iter(lines)
    labels: list[str] = []
    rows: list[list[str]] = []
    for words in rest:
        _next(rest)  # magnetisation
        count = int(_next(rest)[0])
        if not 0 <= count <= _MOST_ATOMS:
            raise ValueError(f"{count} atoms")
        for _ in range(count):
            rows.append(_next(rest)[:3])
            labels.append(words[0])
    if not rows:
        raise ValueError("no atoms")
    return tuple(labels), np.array(rows, dtype=np.float64).reshape(-1, 3)


def _next(lines: Iterator[list[str]]) -> list[str]:
    found = next(lines, None)
    if found is None:
        raise ValueError("it ends too early")
    return found


def _lattice(sections: dict[str, list[list[str]]], latname: str, where: str) -> Floats:
    """Lattice vectors in units of the lattice constant."""
    if "LATTICE_VECTORS" in sections:
        return np.array([words[:3] for words in sections["LATTICE_VECTORS"][:3]], dtype=np.float64).reshape(3, 3)
    lengths = [float(x) for words in sections.get("LATTICE_PARAMETERS", []) for x in words]
    if latname == "sc":
        return np.eye(3)
    if latname == "fcc":
        return np.array([[-0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [-0.5, 0.5, 0.0]])
    if latname == "bcc":
        return np.array([[0.5, 0.5, 0.5], [-0.5, 0.5, 0.5], [-0.5, -0.5, 0.5]])
    if latname == "hexagonal":
        return np.array([[1.0, 0.0, 0.0], [-0.5, np.sqrt(0.75), 0.0], [0.0, 0.0, lengths[0]]])
    if latname == "st":
        return np.diag([1.0, 1.0, lengths[0]])
    if latname == "so":
        return np.diag([1.0, *lengths[:2]])
    raise InputError(where, f"no LATTICE_VECTORS, and latname {latname!r}", "vectors, or sc, fcc, bcc, hexagonal, st or so")
