"""S from OpenMX's radial functions of the basis (``.pao`` files): exact for any distance, no calculation needed.

The two-centre integrals are taken by the quadrature of OpenMX, so that S is the one that belongs to its Hamiltonian: on
samples with s, p, d and f they agree to 3e-12. Tables in the distance are made once per basis, in less than a second per pair
of elements; their splines err by 1e-10 at most, and where atoms bond by far less. The kinetic energy comes out of the same
integrals with one more k^2 / 2.

A table needs to know the functions: from a folder of ``.pao`` files, in which C6.0.pao belongs to carbon with orbitals that
end at 6.0 Bohr; of each l, the first ones are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from orbitrace.errors import InputError
from orbitrace.overlaps._pao_file import find_pao, parse_name, read_pao
from orbitrace.overlaps._radial_files import RadialFiles, Sources, Table, with_cutoff
from orbitrace.overlaps._radial_integrals import Points, Quantity, Transforms, bessel_transform, trapezoid
from orbitrace.overlaps.from_data import read_table, write_table
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import SYMBOLS, Basis, Shells
from orbitrace.physics.slater_koster import TwoCentreTable
from orbitrace.physics.structure import Floats, Structure
from orbitrace.units import OPENMX_BOHR, OPENMX_HARTREE

__all__ = ["Quadrature", "build", "fit", "kinetic", "named_basis", "overlap", "read_table", "write_table"]

EXACT = True  # the overlaps of functions are positive definite


@dataclass(frozen=True)
class Quadrature:
    """The points of OpenMX's radial integrals.

    Parameters
    ----------
    n_r, n_k
        Intervals in r and in k (the keywords 1DFFT.NumGridR and 1DFFT.NumGridK).
    k_max
        End of the integrals over k, 1/Bohr (the root of 1DFFT.EnergyCutoff in Rydberg).
    k_min
        Their begin.
    tail
        Bohr beyond the cutoff at which integrals over r end.
    """

    n_r: int = 900
    n_k: int = 900
    k_max: float = 60.0
    k_min: float = 1e-6
    tail: float = 0.5

    @property
    def points(self) -> Points:
        """Where the integrals over k are summed."""
        return Points(*trapezoid(self.k_min, self.k_max, self.n_k), OPENMX_BOHR, OPENMX_HARTREE)


def overlap(
    structure: Structure, basis: Basis, *, where: str, table: Table | None = None, pao: Sources | None = None
) -> Blocks:
    """S of a structure.

    Parameters
    ----------
    structure, basis
        The atoms, and the shells and cutoff radii of their elements.
    where
        Name of the structure for messages.
    table
        What `build` or `fit` made, or the file that `write_table` put it in.
    pao
        Instead of a table: the folder of ``.pao`` files, or the file of each element by its atomic number.

    Raises
    ------
    InputError
        If neither is given, a file is missing or does not fit the basis, or the table lacks an element of the structure.
    """
    return _files().blocks(structure, basis, where, table, pao, "overlap")


def kinetic(
    structure: Structure, basis: Basis, *, where: str, table: Table | None = None, pao: Sources | None = None
) -> Blocks:
    """Kinetic energy of a structure, <phi_i| -nabla^2 / 2 |phi_j>, eV; as `overlap`, with a table of the kinetic energy."""
    return _files().blocks(structure, basis, where, table, pao, "kinetic")


def build(
    basis: Basis,
    pao: Sources,
    quantity: Quantity = "overlap",
    where: str = "basis",
    quadrature: Quadrature = Quadrature(),
) -> TwoCentreTable:
    """The table of a basis, for any structure of its elements.

    Parameters
    ----------
    basis
        Shells and cutoff radii of the elements.
    pao
        Folder of ``.pao`` files, or the file of each element by its atomic number.
    quantity
        "overlap", or "kinetic" (eV).
    where
        Name of the basis for messages.
    quadrature
        The points of the integrals, where the calculations had others than the code's own.

    Raises
    ------
    InputError
        If a file is missing, damaged, of another element or cutoff, or has too few functions.
    """
    return _files(quadrature).build(basis, pao, quantity, where)


def fit(
    samples: Iterable[tuple[Structure, Basis, Blocks]], where: str = "data", *, pao: Sources | None = None
) -> TwoCentreTable:
    """The table of a data set's basis; of its calculations, only the shells and cutoff radii are looked at.

    Raises
    ------
    InputError
        If no files are given, there are no calculations, their bases differ, or as `build`.
    """
    return _files().fit(samples, where, pao)


def named_basis(names: Iterable[str], folder: Path) -> Basis:
    """The basis that names like "C6.0-s2p2d1" stand for; cutoff and valence come from the files.

    Raises
    ------
    InputError
        If a name is none, its file is missing or damaged, or an element comes twice.
    """
    shells: dict[int, Shells] = {}
    for name in names:
        stem, number, ls = parse_name(name)
        file = read_pao(folder / f"{stem}.pao")
        if number in shells:
            raise InputError("basis", f"{SYMBOLS[number]} comes twice", "one basis per element")
        shells[number] = Shells(ls, file.cutoff * OPENMX_BOHR, file.valence)
    return Basis(shells)


def transform(shells: Shells, cutoff: float, radii: Floats, functions: list[Floats], quadrature: Quadrature) -> Transforms:
    """Radial functions in reciprocal space, as OpenMX has them.

    Parameters
    ----------
    shells
        l of each function.
    cutoff
        Radius beyond which they vanish, Bohr, to all digits of the file: the points in r depend on it.
    radii
        [n_radii] Bohr, ascending.
    functions
        [n_radii] of each shell, Bohr^-3/2.
    quadrature
        The points.
    """
    r, weights = trapezoid(float(radii[0]), cutoff + quadrature.tail, quadrature.n_r)
    # The code tabulates F at these k, and interpolates between them to its nodes, which lie less than 1e-6 beside them; its
    # slopes are so coarse that this changes S by 1e-8. Beyond the last of them F counts as zero.
    grid: Floats = quadrature.k_max / quadrature.n_k * np.arange(quadrature.n_k, dtype=np.float64)
    nodes = quadrature.points.k
    values = np.zeros((len(functions), len(nodes)))
    for l in sorted(set(shells.ls)):
        mine = [shell for shell, other in enumerate(shells.ls) if other == l]
        on_r = _interpolate(radii, np.stack([functions[shell] for shell in mine], axis=1), r)
        values[mine] = _interpolate(grid, bessel_transform(l, grid, r, weights, on_r), nodes).T
    return Transforms(shells, values)


def _files(quadrature: Quadrature = Quadrature()) -> RadialFiles:
    return RadialFiles(".pao", lambda folder, z, shells: find_pao(folder, z, shells.cutoff), partial(transforms, quadrature))


def transforms(quadrature: Quadrature, basis: Basis, paths: Mapping[int, Path]) -> tuple[Points, dict[int, Transforms]]:
    """All elements in reciprocal space."""
    return quadrature.points, {z: _transformed(z, basis[z], path, quadrature) for z, path in paths.items()}


def _transformed(number: int, shells: Shells, path: Path, quadrature: Quadrature) -> Transforms:
    file = read_pao(path)
    if abs(file.number - number) >= 1:  # virtual atoms have fractional numbers
        raise InputError(path, f"is of the atomic number {file.number:g}", f"{number} ({SYMBOLS[number]})")
    shells = with_cutoff(path, file.cutoff, shells, OPENMX_BOHR)
    return transform(shells, file.cutoff, file.radii, file.chosen(shells), quadrature)


def _interpolate(points: Floats, values: Floats, at: Floats) -> Floats:
    """Cubic Hermite interpolation whose slopes are those of the parabolas through three points; zero beyond the last point.

    ``[n], [n, columns], [m] -> [m, columns]``. `at` must not lie below the first point.
    """
    steps = np.diff(points)[:, None]
    secants = np.diff(values, axis=0) / steps
    slopes = np.empty_like(values)
    slopes[1:-1] = (secants[1:] * steps[:-1] + secants[:-1] * steps[1:]) / (steps[1:] + steps[:-1])
    slopes[0], slopes[-1] = secants[0], secants[-1]
    result: Floats = CubicHermiteSpline(points, values, slopes, extrapolate=False)(at)
    return np.nan_to_num(result, copy=False, nan=0.0)
