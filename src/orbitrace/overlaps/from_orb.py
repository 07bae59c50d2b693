"""S from ABACUS' radial functions (``.orb`` files): exact for any distance, no calculation needed.

The two-centre integrals are taken at the points of ABACUS' own (its ``TwoCenterTable``, in present versions): functions on a
mesh of 0.02 Bohr up to twice the largest cutoff, and as many points in k, up to 157 / Bohr. S of the sample comes out to the
nine digits that its file has. Older versions cut the integrals over k at ``lcao_ecut``, and differ by up to 2e-3 at 20 Ry.

ABACUS names its files freely (``Si_gga_8au_60Ry_2s2p1d.orb``); which one belongs to an element, the files themselves say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

from orbitrace.errors import InputError
from orbitrace.overlaps._orb_file import OrbFile, find_orb, read_orb
from orbitrace.overlaps._radial_files import RadialFiles, Sources, Table, check_shells, with_cutoff
from orbitrace.overlaps._radial_integrals import Points, Quantity, Transforms, bessel_transform, trapezoid
from orbitrace.overlaps.from_data import read_table, write_table
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import SYMBOLS, Basis, Shells
from orbitrace.physics.slater_koster import TwoCentreTable
from orbitrace.physics.structure import Floats, Structure
from orbitrace.units import ABACUS_BOHR, ABACUS_RYDBERG

__all__ = ["build", "fit", "kinetic", "overlap", "read_basis", "read_table", "write_table"]

EXACT = True  # the overlaps of functions are positive definite

_STEP = 0.01  # Bohr; of the mesh on which ABACUS counts the points up to the largest cutoff


def overlap(
    structure: Structure, basis: Basis, *, where: str, table: Table | None = None, orb: Sources | None = None
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
    orb
        Instead of a table: the folder of ``.orb`` files, or the file of each element by its atomic number.

    Raises
    ------
    InputError
        If neither is given, a file is missing or does not fit the basis, or the table lacks an element of the structure.
    """
    return _FILES.blocks(structure, basis, where, table, orb, "overlap")


def kinetic(
    structure: Structure, basis: Basis, *, where: str, table: Table | None = None, orb: Sources | None = None
) -> Blocks:
    """Kinetic energy of a structure, <phi_i| -nabla^2 / 2 |phi_j>, eV; as `overlap`, with a table of the kinetic energy."""
    return _FILES.blocks(structure, basis, where, table, orb, "kinetic")


def build(basis: Basis, orb: Sources, quantity: Quantity = "overlap", where: str = "basis") -> TwoCentreTable:
    """The table of a basis, for any structure of its elements.

    Parameters
    ----------
    basis
        Shells and cutoff radii of the elements.
    orb
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
    return _FILES.build(basis, orb, quantity, where)


def fit(
    samples: Iterable[tuple[Structure, Basis, Blocks]], where: str = "data", *, orb: Sources | None = None
) -> TwoCentreTable:
    """The table of a data set's basis; of its calculations, only the shells and cutoff radii are looked at.

    Raises
    ------
    InputError
        If no files are given, there are no calculations, their bases differ, or as `build`.
    """
    return _FILES.fit(samples, where, orb)


def read_basis(elements: Iterable[int], folder: Path) -> Basis:
    """The basis of some elements, by atomic number, as the files of a folder have it.

    Raises
    ------
    InputError
        If a file is missing or damaged, or an element has several.
    """
    shells = {}
    for z in elements:
        file = read_orb(find_orb(folder, z, Shells((0,), 1.0)))
        shells[z] = Shells(file.ls, file.cutoff * ABACUS_BOHR)
    return Basis(shells)


def _transforms(basis: Basis, paths: Mapping[int, Path]) -> tuple[Points, dict[int, Transforms]]:
    """All elements in reciprocal space."""
    files = {z: read_orb(path) for z, path in paths.items()}
    largest = max(file.cutoff for file in files.values())
    n = int(largest / _STEP)
    r, weights = trapezoid(0.0, 2 * largest, n)
    k, k_weights = trapezoid(0.0, np.pi * n / (2 * largest), n)
    points = Points(k, k_weights, ABACUS_BOHR, 2 * ABACUS_RYDBERG)
    return points, {z: _transformed(z, basis[z], file, k, r, weights) for z, file in files.items()}


def _transformed(number: int, shells: Shells, file: OrbFile, k: Floats, r: Floats, weights: Floats) -> Transforms:
    if file.number != number:
        raise InputError(file.path, f"is of {SYMBOLS[file.number]}", SYMBOLS[number])
    check_shells(file.path, file.ls, shells)
    shells = with_cutoff(file.path, file.cutoff, shells, ABACUS_BOHR)
    mesh = file.step * np.arange(file.values.shape[1])
    inside = r <= mesh[-1] * (1 + 1e-12)
    values = np.zeros((len(shells.ls), len(k)))
    for shell, (l, function) in enumerate(zip(file.ls, file.values, strict=True)):
        on_r = np.zeros(len(r))
        on_r[inside] = CubicSpline(mesh, function)(r[inside])
        values[shell] = bessel_transform(l, k, r, weights, on_r[:, None])[:, 0]
    return Transforms(shells, values)


_FILES = RadialFiles(".orb", find_orb, _transforms)
