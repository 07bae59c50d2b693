"""Paths through the Brillouin zone: from the lattice, from a string like GMKG, or from points given with their coordinates.

k is fractional, in units of the reciprocal lattice vectors; lengths are in 1/Å, with the factor 2 pi.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase.cell import Cell

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs
from orbitrace.physics.structure import Floats, Structure

VACUUM = 7.0  # Å: across a wider gap between atoms no bands disperse
SAME_LATTICE = 1e-3  # relative deviation within which a lattice counts as e.g. hexagonal
FEWEST = 8  # steps of the shortest leg
GREEK = {"GAMMA": "G", "SIGMA": "Σ", "DELTA": "Δ", "LAMBDA": "Λ"}

NamedPoint = tuple[str, Sequence[float]]
Points = dict[str, Floats]


@dataclass(frozen=True, eq=False)
class KPath:
    """k points along straight legs between named points.

    Parameters
    ----------
    kpoints
        [n_k, 3] fractional.
    labels
        (number of the k point, name) of the named points; at a break of the path two of them are neighbours.
    """

    kpoints: Floats
    labels: tuple[tuple[int, str], ...]


def band_path(
    structure: Structure,
    path: str | Sequence[NamedPoint | None] | None = None,
    density: float = 20.0,
    pairs: Pairs | None = None,
) -> KPath:
    """The path of a band structure.

    Parameters
    ----------
    path
        None: the customary path of the lattice. A string such as ``"GMKG"``, in which a comma is a break: these of its named
        points. Or a list of ``(name, k)``, in which None is a break.
    density
        k points per 1/Å; a leg has at least 8 steps, so that paths in the small zones of large cells can be drawn.
    pairs
        [n, 5] pairs of the Hamiltonian, if at hand: directions without any coupling are then known exactly. Otherwise a
        gap of 7 Å between atoms ends periodicity.

    Raises
    ------
    InputError
        If the density is not positive, a point is unknown (the known ones are listed), or a molecule is given a path.
    """
    if not (np.isfinite(density) and density > 0):
        raise InputError("density", f"{density} k points per 1/Å", "a positive number")
    directions = periodic_directions(structure, pairs)
    if not any(directions):
        return _only_gamma(path)
    if isinstance(path, str) or path is None:
        points, usual = special_points(structure, directions)
        names = usual if path is None else _parsed(path, points)
        legs = [[(name, points[name]) for name in leg] for leg in names]
    else:
        legs = _given(path)
    return _sampled(legs, structure, density)


def periodic_directions(structure: Structure, pairs: Pairs | None = None) -> tuple[bool, bool, bool]:
    """Along which lattice vectors bands can disperse: periodic ones, without vacuum between the copies of the cell."""
    if pairs is not None:
        coupled = (pairs[:, :3] != 0).any(axis=0)
    else:
        coupled = np.array([_widest_gap(structure, d) < VACUUM for d in range(3)])
    x, y, z = (bool(c and p) for c, p in zip(coupled, structure.pbc, strict=True))
    return x, y, z


def completed_lattice(structure: Structure) -> Floats:
    """[3, 3] the lattice vectors, Å, with zeros along directions that are not periodic replaced by vectors across the rest."""
    cell: Any = Cell
    lattice: Floats = np.asarray(cell(structure.lattice).complete())
    return lattice


def special_points(structure: Structure, directions: tuple[bool, bool, bool]) -> tuple[Points, list[list[str]]]:
    """The named points of a lattice, and its customary path as legs between breaks.

    Crystals: seekpath (Y. Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)), which looks at the atoms too. Layers and wires:
    the lattice alone, by ASE.
    """
    if all(directions):
        return _crystal_points(structure)
    cell: Any = Cell
    band_path = cell(structure.lattice).bandpath(pbc=directions, npoints=0, eps=SAME_LATTICE)
    points = {name: np.asarray(k, dtype=np.float64) for name, k in band_path.special_points.items()}
    return points, _parsed(band_path.path, points)


def _crystal_points(structure: Structure) -> tuple[Points, list[list[str]]]:
    """Named points and path of a three-dimensional crystal."""
    import seekpath

    fractional = structure.positions @ np.linalg.inv(structure.lattice)
    with warnings.catch_warnings():  # seekpath and spglib deprecate each other's interfaces
        warnings.simplefilter("ignore")
        found = seekpath.get_path_orig_cell((structure.lattice, fractional, structure.numbers), symprec=SAME_LATTICE)
    points = {_short(name): np.array(k, dtype=np.float64) for name, k in found["point_coords"].items()}
    legs: list[list[str]] = []
    for start, end in ((_short(a), _short(b)) for a, b in found["path"]):
        if legs and legs[-1][-1] == start:
            legs[-1].append(end)
        else:
            legs.append([start, end])
    return points, legs


def _short(name: str) -> str:
    """Seekpath's name of a point without underscores, Greek letters as such: SIGMA_0 is Σ0, GAMMA is G."""
    for word, letter in GREEK.items():
        name = name.replace(word, letter)
    return name.replace("_", "")


def _parsed(path: str, points: Points) -> list[list[str]]:
    """Legs of names from a string like "GMK,XG"; blanks, hyphens and underscores between names are ignored."""
    names = sorted(points, key=len, reverse=True)
    name = re.compile("|".join(map(re.escape, names)))
    legs = []
    for part in re.split(r"[,|]", path.replace("GAMMA", "G").replace("Γ", "G")):
        rest, leg = re.sub(r"[\s_–-]", "", part), []
        while rest:
            found = name.match(rest)
            if not found:
                raise InputError(
                    f"k path {path!r}",
                    f"unknown point {rest[0]!r}",
                    f"a path of {', '.join(sorted(points))}, the points of this lattice",
                    "Other points can be given with their coordinates",
                )
            leg.append(found.group())
            rest = rest[found.end() :]
        legs.append(leg)
    return legs


def _given(path: Sequence[NamedPoint | None]) -> list[list[tuple[str, Floats]]]:
    """Legs from a list of named points with breaks."""
    legs: list[list[tuple[str, Floats]]] = [[]]
    for entry in path:
        if entry is None:
            legs.append([])
            continue
        name, k = entry[0], np.asarray(entry[1], dtype=np.float64)
        if k.shape != (3,) or not np.isfinite(k).all():
            raise InputError(f"k path, point {name!r}", f"coordinates {entry[1]}", "three finite fractional coordinates")
        legs[-1].append((name, k))
    return legs


def _sampled(legs: list[list[tuple[str, Floats]]], structure: Structure, density: float) -> KPath:
    """Points on the legs."""
    reciprocal = 2 * np.pi * np.linalg.inv(completed_lattice(structure)).T
    kpoints: list[Floats] = []
    labels: list[tuple[int, str]] = []
    for leg in legs:
        if len(leg) < 2:
            raise InputError("k path", f"a part of {len(leg)} point(s)", "at least two points between breaks")
        labels.append((len(kpoints), _shown(leg[0][0])))
        kpoints.append(leg[0][1])
        for (_, start), (name, end) in pairwise(leg):
            steps = max(FEWEST, int(np.ceil(np.linalg.norm((end - start) @ reciprocal) * density)))
            kpoints += [start + (end - start) * s / steps for s in range(1, steps + 1)]
            labels.append((len(kpoints) - 1, _shown(name)))
    return KPath(np.array(kpoints), tuple(labels))


def _only_gamma(path: str | Sequence[NamedPoint | None] | None) -> KPath:
    """The path of a molecule."""
    if path is not None and path not in ("G", "Γ", "GAMMA", "gamma"):
        raise InputError("k path", f"{path!r} for a molecule, which has no k", "no path", "Leave it out: levels are at Γ")
    return KPath(np.zeros((1, 3)), ((0, "Γ"),))


def _shown(name: str) -> str:
    """The name as printed."""
    return "Γ" if name in ("G", "GAMMA", "Gamma", "gamma") else name


def _widest_gap(structure: Structure, direction: int) -> float:
    """Widest empty slab across a lattice direction, Å; infinite where it is not periodic."""
    if not structure.pbc[direction]:
        return float("inf")
    lattice = completed_lattice(structure)
    heights = structure.positions @ np.linalg.inv(lattice)[:, direction] % 1.0
    gaps = np.diff(np.sort(heights), append=heights.min() + 1.0)
    thickness = 1.0 / np.linalg.norm(np.linalg.inv(lattice)[:, direction])
    return float(gaps.max() * thickness)
