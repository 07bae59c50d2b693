"""S from SIESTA's radial functions (``.ion.nc`` or ``.ion.xml`` files): exact for any distance, no calculation needed.

The two-centre integrals are taken at the points of SIESTA's own (its ``matel``): functions on a mesh of pi / 100 Bohr up to
32 Bohr, sums over 1024 equally spaced k up to 100 / Bohr. What SIESTA 5 tabulates in the distance differs by 1e-8 at most on
all samples. Older versions, and ``Compat.Matel.NRTAB``, interpolate between points 0.25 Bohr apart: they differ by up to 4e-5.

Each species has its file beside the calculation; which one belongs to an element, the files themselves say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

from orbitrace.errors import InputError
from orbitrace.overlaps._ion_file import IonFile, find_ion, read_ion, symbol
from orbitrace.overlaps._radial_files import RadialFiles, Sources, Table, check_shells, with_cutoff
from orbitrace.overlaps._radial_integrals import Points, Quantity, Transforms, bessel_transform
from orbitrace.overlaps.from_data import read_table, write_table
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import SYMBOLS, Basis, Shells
from orbitrace.physics.slater_koster import TwoCentreTable
from orbitrace.physics.structure import Floats, Structure
from orbitrace.units import SIESTA_BOHR, SIESTA_RYDBERG

__all__ = ["build", "fit", "kinetic", "overlap", "read_basis", "read_table", "write_table"]

EXACT = True  # the overlaps of functions are positive definite

_N, _K_MAX = 1024, 100.0  # intervals in r and in k; end of the integrals over k, 1/Bohr
_STEP = np.pi / _K_MAX  # Bohr, of the mesh in r


def overlap(
    structure: Structure, basis: Basis, *, where: str, table: Table | None = None, ion: Sources | None = None
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
    ion
        Instead of a table: the folder of ``.ion.nc`` or ``.ion.xml`` files, or the file of each element by its atomic number.

    Raises
    ------
    InputError
        If neither is given, a file is missing or does not fit the basis, or the table lacks an element of the structure.
    """
    return _FILES.blocks(structure, basis, where, table, ion, "overlap")


def kinetic(
    structure: Structure, basis: Basis, *, where: str, table: Table | None = None, ion: Sources | None = None
) -> Blocks:
    """Kinetic energy of a structure, <phi_i| -nabla^2 / 2 |phi_j>, eV; as `overlap`, with a table of the kinetic energy."""
    return _FILES.blocks(structure, basis, where, table, ion, "kinetic")


def build(basis: Basis, ion: Sources, quantity: Quantity = "overlap", where: str = "basis") -> TwoCentreTable:
    """The table of a basis, for any structure of its elements.

    Parameters
    ----------
    basis
        Shells and cutoff radii of the elements.
    ion
        Folder of the files, or the file of each element by its atomic number.
    quantity
        "overlap", or "kinetic" (eV).
    where
        Name of the basis for messages.

    Raises
    ------
    InputError
        If a file is missing, damaged, or of another element, other shells or another cutoff.
    """
    return _FILES.build(basis, ion, quantity, where)


def fit(
    samples: Iterable[tuple[Structure, Basis, Blocks]], where: str = "data", *, ion: Sources | None = None
) -> TwoCentreTable:
    """The table of a data set's basis; of its calculations, only the shells and cutoff radii are looked at.

    Raises
    ------
    InputError
        If no files are given, there are no calculations, their bases differ, or as `build`.
    """
    return _FILES.fit(samples, where, ion)


def read_basis(elements: Iterable[int], folder: Path) -> Basis:
    """The basis of some elements, by atomic number, as the files of a folder have it.

    Raises
    ------
    InputError
        If a file is missing or damaged, or an element has several.
    """
    shells = {}
    for z in elements:
        file = read_ion(find_ion(folder, z, Shells((0,), 1.0)))
        shells[z] = Shells(file.ls, file.cutoff * SIESTA_BOHR, file.valence)
    return Basis(shells)


def _transforms(basis: Basis, paths: Mapping[int, Path]) -> tuple[Points, dict[int, Transforms]]:
    """All elements in reciprocal space."""
    k = _K_MAX / _N * np.arange(_N, dtype=np.float64)
    points = Points(k, np.full(_N, _K_MAX / _N), SIESTA_BOHR, 2 * SIESTA_RYDBERG)  # of k = 0 the weight does not matter
    return points, {z: _transformed(z, basis[z], read_ion(path), k) for z, path in paths.items()}


def _transformed(number: int, shells: Shells, file: IonFile, k: Floats) -> Transforms:
    if file.number != number:
        raise InputError(file.path, f"is of {symbol(file.number)}", SYMBOLS[number])
    check_shells(file.path, file.ls, shells)
    shells = with_cutoff(file.path, file.cutoff, shells, SIESTA_BOHR)
    r = _STEP * np.arange(_N, dtype=np.float64)
    weights = np.full(_N, _STEP)
    rows = []
    for orbital in file.orbitals:
        inside = r <= orbital.cutoff
        mesh = np.linspace(0.0, orbital.cutoff, len(orbital.values))
        spline = CubicSpline(mesh, orbital.values, bc_type=((1, 0.0), (2, 0.0)))
        values = np.where(inside, spline(np.where(inside, r, 0.0)), 0.0) * r**orbital.l
        rows.append(bessel_transform(orbital.l, k, r, weights, values[:, None])[:, 0])
    return Transforms(shells, np.stack(rows))


_FILES = RadialFiles(".ion.nc", find_ion, _transforms)
