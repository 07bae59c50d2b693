"""Text files that SIESTA writes beside its matrices: geometry, orbitals, eigenvalues, bands, report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats, Ints
from orbitrace.readers._species import shells_of_orbitals
from orbitrace.units import BOHR

REMEDY = "Copy the file again from its source, or run the calculation again"


@dataclass(frozen=True, eq=False)
class Positions:
    """``.XV``: [3, 3] lattice and [n_atoms, 3] positions in Bohr, and [n_atoms] atomic numbers."""

    lattice: Floats
    positions: Floats
    numbers: Ints


@dataclass(frozen=True)
class Orbitals:
    """``.ORB_INDX`` of one atom: label of its species, l of each shell in the order of the file, largest radius in Bohr."""

    label: str
    ls: tuple[int, ...]
    radius: float


def positions(text: str, where: str) -> Positions:
    """The geometry in a ``.XV`` file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    lines = text.splitlines()
    try:
        lattice = np.array([line.split()[:3] for line in lines[:3]], dtype=np.float64)
        n_atoms = int(lines[3])
        rows = [line.split() for line in lines[4 : 4 + n_atoms]]
        found = np.array([row[2:5] for row in rows], dtype=np.float64)
        numbers = np.array([row[1] for row in rows], dtype=np.int64)
        if n_atoms < 1 or len(rows) != n_atoms or lattice.shape != (3, 3) or not np.isfinite(found).all():
            raise ValueError(f"{len(rows)} of {n_atoms} atoms")
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(where, f"damaged ({error})", "lattice, number of atoms, and positions", REMEDY) from error
    if ((numbers < 1) | (numbers > 118)).any():
        found_number = int(numbers[(numbers < 1) | (numbers > 118)][0])
        raise InputError(where, f"an atom with the atomic number {found_number}", "real elements, no ghosts or mixtures")
    return Positions(lattice, found, numbers)


def orbitals(text: str, orbitals_of_atoms: Ints, where: str) -> list[Orbitals]:
    """The orbitals of each atom in a ``.ORB_INDX`` file, of which the images in other cells are passed over.

    Raises
    ------
    InputError
        If it is damaged, or of another calculation.
    """
    n = int(orbitals_of_atoms.sum())
    rows = [line.split() for line in islice(text.splitlines(), 3, 3 + n)]
    try:
        table = [(int(r[1]), r[3], int(r[5]), int(r[6]), int(r[7]), int(r[8]), float(r[11])) for r in rows]
        if len(table) != n:
            raise ValueError(f"{len(table)} orbitals instead of {n}")
        if [row[0] for row in table] != np.repeat(np.arange(1, len(orbitals_of_atoms) + 1), orbitals_of_atoms).tolist():
            raise ValueError("other atoms than in the matrices")
    except (ValueError, IndexError) as error:
        raise InputError(where, f"damaged, or of another calculation ({error})", remedy=REMEDY) from error
    result = []
    for end, count in zip(np.cumsum(orbitals_of_atoms), orbitals_of_atoms, strict=True):
        mine = table[end - count : end]
        ls = shells_of_orbitals((((n_, l, zeta), l, m) for _, _, n_, l, m, zeta, _ in mine), where)
        radius = max(row[6] for row in mine)
        if not 0 < radius < 100:
            raise InputError(where, f"orbitals that reach {radius} Bohr", "a few Bohr", REMEDY)
        result.append(Orbitals(mine[0][1], ls, radius))
    return result


def eigenvalues(text: str, where: str) -> tuple[float, Floats]:
    """Fermi level and [n_spin, n_k, n_bands] energies in a ``.EIG`` file, eV.

    Raises
    ------
    InputError
        If it is damaged.
    """
    numbers = _numbers(text, where)
    if len(numbers) > 4 and (np.abs(numbers[1:4]) < 1e6).all():
        bands, spins, points = (int(x) for x in numbers[1:4])
        n_spin = 2 if spins == 2 else 1  # with off-diagonal spin, `bands` counts them all
        if min(bands, spins, points) > 0 and len(numbers) - 4 == points * (1 + bands * n_spin):
            table = numbers[4:].reshape(points, -1)
            if np.array_equal(table[:, 0], np.arange(1, points + 1)) and np.isfinite(table).all():
                return float(numbers[0]), table[:, 1:].reshape(points, n_spin, bands).transpose(1, 0, 2)
    raise InputError(where, "damaged: its numbers are not those of its k points and bands", remedy=REMEDY)


def kpoints(text: str, lattice: Floats, where: str) -> Floats:
    """Points of the mesh in a ``.KP`` file, fractional, [n_k, 3]; `lattice` in Bohr.

    Raises
    ------
    InputError
        If it is damaged.
    """
    numbers = _numbers(text, where)
    if len(numbers) < 1 or len(numbers) - 1 != 5 * numbers[0]:
        raise InputError(where, "damaged: not five numbers for each of its points", remedy=REMEDY)
    fractions: Floats = numbers[1:].reshape(-1, 5)[:, 1:4] @ lattice.T / (2 * np.pi)
    return fractions


def bands(text: str, fdf: str, lattice: Floats, bohr: float, where: str) -> Spectrum | None:
    """Bands along the lines in a ``.bands`` file; it holds no k points, these come from the input ``.fdf``.

    `lattice` in Bohr, of which each is `bohr` Å. None if the input does not say where the lines lie.

    Raises
    ------
    InputError
        If the file is damaged, or its lengths are not those of the lines in the input.
    """
    plain = text.split("'")[0]
    numbers = _numbers(plain[: plain.rstrip().rfind("\n")] if "'" in text else plain, where)
    lines = _lines(fdf, lattice)
    if lines is None:
        return None
    points, labels = lines
    sizes = numbers[5:8]
    n_bands, n_spin, n_points = (int(x) for x in sizes) if len(sizes) == 3 and (np.abs(sizes) < 1e6).all() else (0, 0, 0)
    width = 1 + n_bands * n_spin
    if n_spin not in (1, 2) or n_bands < 1 or n_points != len(points) or len(numbers) - 8 < n_points * width:
        raise InputError(where, f"damaged, or its {n_points} points are not the {len(points)} of the input", remedy=REMEDY)
    table = numbers[8 : 8 + n_points * width].reshape(n_points, width)
    steps = np.linalg.norm(np.diff(points @ (2 * np.pi * np.linalg.inv(lattice).T), axis=0), axis=1)
    if not np.allclose(table[:, 0], np.concatenate([[0.0], np.cumsum(steps)]), atol=2e-3):
        raise InputError(where, "its k points do not lie on the lines of the input", "a path of the same run", REMEDY)
    energies = table[:, 1:].reshape(n_points, n_spin, n_bands).transpose(1, 0, 2)
    return Spectrum(points, energies, float(numbers[0]), lattice * bohr, labels)


def report(text: str) -> tuple[str, bool | None] | None:
    """Version of SIESTA, and whether the run converged (None if it does not tell); None if this is no report of SIESTA."""
    head = text[:5000]
    version = re.search(r"^\s*(?:Siesta )?Version\s*:\s*(\S+)", head, re.MULTILINE)
    if version is None or "siesta" not in head.lower():
        return None
    if "SCF_NOT_CONV" in text or "SCF did not converge" in text:
        return version.group(1), False
    return version.group(1), True if "SCF cycle converged" in text or "SCF Convergence by" in text else None


def _numbers(text: str, where: str) -> Floats:
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise InputError(where, f"damaged ({error})", "numbers", REMEDY) from error


def _lines(fdf: str, lattice: Floats) -> tuple[Floats, tuple[tuple[int, str], ...]] | None:
    """Points k along BandLines, fractional, and the names of corners."""
    block = re.search(r"^\s*%block\s+BandLines\s*\n(.*?)^\s*%endblock", fdf, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    scale = re.search(r"^\s*BandLinesScale\s+(\S+)", fdf, re.MULTILINE | re.IGNORECASE)
    if block is None:
        return None
    corners = []
    for line in block.group(1).splitlines():
        words = line.split("#")[0].split()
        if len(words) >= 4 and re.fullmatch(r"\d{1,5}", words[0]):
            try:
                corners.append((int(words[0]), np.array(words[1:4], dtype=np.float64), words[4] if len(words) > 4 else ""))
            except ValueError:
                return None
    if not corners:
        return None
    unit = scale.group(1).lower() if scale else "pi/a"
    if unit == "pi/a":
        constant = _lattice_constant(fdf)
        if constant is None:
            return None
        corners = [(n, k * np.pi / constant @ lattice.T / (2 * np.pi), name) for n, k, name in corners]
    points = [corners[0][1]]
    labels = [(0, corners[0][2])]
    for (_, begin, _), (n, end, name) in pairwise(corners):
        points += [begin + (end - begin) * step / n for step in range(1, n + 1)]
        labels.append((len(points) - 1, name))
    return np.array(points), tuple((k, name) for k, name in labels if name)


def _lattice_constant(fdf: str) -> float | None:
    """LatticeConstant of the input, Bohr."""
    found = re.search(r"^\s*Lattice_?Constant\s+(\S+)\s*(\S*)", fdf, re.MULTILINE | re.IGNORECASE)
    try:
        length = float(found.group(1)) if found else 0.0
    except ValueError:
        return None
    return length / (BOHR if found and found.group(2).lower().startswith("ang") else 1.0) if length > 0 else None
