"""SIESTA: ``.HSX`` of versions 0 (up to 4.1), 1 (5.0) and 2 (5.4), ``.TSHS``, or ``.nc``; all treatments of spin.

No file's energies are shifted (sisl shifts them by -E_F S). Matrices with off-diagonal spin stand transposed in space.
``.ORB_INDX`` beside the file tells how far orbitals reach, ``.XV`` the elements (and all of the geometry where the file holds
none, HSX 0), ``.EIG`` the levels of the mesh, ``.bands`` and ``.fdf`` the bands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Order, Shells
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats, Ints, Structure
from orbitrace.readers import _files, _siesta_text
from orbitrace.readers._elements import Elements, Support
from orbitrace.readers._radii import with_smallest_radii
from orbitrace.readers._raw import RawCalculation
from orbitrace.readers._siesta_binary import Geometry, Matrices, parse_hsx, parse_tshs
from orbitrace.readers._siesta_netcdf import parse_nc
from orbitrace.readers._species import add_shells, element, shells_of_orbitals, unsorted
from orbitrace.units import SIESTA_4_BOHR, SIESTA_4_RYDBERG, SIESTA_BOHR, SIESTA_RYDBERG

HSX, TSHS = _files.variants("*.HSX"), _files.variants("*.TSHS")
NC = ("*[!n].nc", "*[!o]n.nc", "*[!i]on.nc", "*[!.]ion.nc")  # all but .ion.nc, which hold the orbitals of species
MARKERS = (*HSX, *TSHS, *NC)
BESIDE = _files.variants("*.XV", "*.ORB_INDX", "*.EIG", "*.KP", "*.bands", "*.fdf", "*.out", "*.log")

# Real harmonics with Condon-Shortley phase: m = -l..l, (-1)^m (p is -y, z, -x).
ORDER: Order = {l: tuple((m, -1 if m % 2 else 1) for m in range(-l, l + 1)) for l in range(7)}

_SPINS = {1: Spin.NONE, 2: Spin.COLLINEAR, 4: Spin.NONCOLLINEAR, 8: Spin.NONCOLLINEAR}


def read(folder: Path) -> RawCalculation:
    """The calculation in a folder, in SIESTA's order of orbitals.

    Raises
    ------
    InputError
        If there is not exactly one ``.HSX`` (or, without any, one ``.TSHS`` or ``.nc``), it is damaged or of an unknown
        version, a file that it needs is missing, the run did not converge, or its matrices are folded into one cell.
    """
    path = _matrices(folder)
    where = str(path)
    found = _parsed(path)
    geometry = found.geometry or _geometry_by_distances(found, path)
    numbers, file_shells, radii = _species(found, geometry, path)
    bohr, rydberg = _units(found, path)
    structure = Structure(geometry.positions * bohr, geometry.lattice * bohr, numbers)
    support, hamiltonian, overlap = _blocks(found, found.elements(geometry), where)
    basis = _basis(found, numbers, file_shells, radii, bohr, where)
    if radii is None:
        basis = with_smallest_radii(basis, structure, support.pairs, overlap)
    else:
        _check_not_folded(structure, basis, geometry, where)
    return RawCalculation(
        structure=structure,
        basis=basis,
        pairs=support.pairs,
        hamiltonian={name: values * rydberg for name, values in hamiltonian.items()},
        overlap=overlap,
        fermi_level=_fermi_level(found, rydberg, path),
        n_electrons=found.n_electrons,
        spin=_SPINS[len(found.hamiltonian)],
        provenance=Provenance("siesta", f"{_report(folder)}; {found.layout}", where, {path.name: _files.sha256(path)}),
        file_shells=unsorted(file_shells),
    )


def reference_spectrum(folder: Path) -> Spectrum | None:
    """SIESTA's own bands (``.bands``, with the k points of the ``.fdf``), or None if it computed none.

    Raises
    ------
    InputError
        If the file is damaged, or does not belong to the input.
    """
    path = _matrices(folder)
    bands = _files.matching(folder, _files.variants("*.bands"))
    inputs = _files.matching(folder, _files.variants("*.fdf"))
    if not bands or len(inputs) != 1:
        return None
    found = _parsed(path)
    geometry = found.geometry or _geometry_by_distances(found, path)
    file = _files.the_only(folder, _files.variants("*.bands"))
    return _siesta_text.bands(_files.text(file), _files.text(inputs[0]), geometry.lattice, _units(found, path)[0], str(file))


def scf_levels(folder: Path) -> Spectrum | None:
    """Eigenvalues in ``.EIG`` at the points in ``.KP`` (the mesh of the self-consistent cycle, k to six digits), or None."""
    path = _matrices(folder)
    eigenvalues, kpoints = _files.beside(path, ".EIG"), _files.beside(path, ".KP")
    if eigenvalues is None or kpoints is None:
        return None
    found = _parsed(path)
    geometry = found.geometry or _geometry_by_distances(found, path)
    level, energies = _siesta_text.eigenvalues(_files.text(eigenvalues), str(eigenvalues))
    points = _siesta_text.kpoints(_files.text(kpoints), geometry.lattice, str(kpoints))
    if len(points) != energies.shape[1]:
        raise InputError(eigenvalues, f"levels at {energies.shape[1]} points", f"{len(points)}, as in {kpoints.name}")
    return Spectrum(points, np.sort(energies, axis=2), level, geometry.lattice * _units(found, path)[0])


def _matrices(folder: Path) -> Path:
    """The folder's one HSX; or TSHS, or NetCDF file, where there is no HSX."""
    kinds = [patterns for patterns in (HSX, TSHS) if _files.matching(folder, patterns)]
    return _files.the_only(folder, kinds[0] if kinds else MARKERS)


def _parsed(path: Path) -> Matrices:
    with np.errstate(all="ignore"):  # damaged numbers may be anything; they are refused
        if path.suffix == ".nc":
            found = parse_nc(path)
        else:
            found = (parse_tshs if ".TSHS" in path.name else parse_hsx)(_files.contents(path), str(path))
    geometry = found.geometry
    if geometry is not None and not (
        np.isfinite(geometry.positions).all()
        and (np.abs(geometry.positions) < 1e9).all()
        and (np.abs(geometry.lattice) < 1e9).all()
        and abs(np.linalg.det(geometry.lattice)) > 1e-6
    ):
        raise InputError(path, "its lattice or positions are no lengths", "finite numbers", _siesta_text.REMEDY)
    return found


def _geometry_by_distances(found: Matrices, path: Path) -> Geometry:
    """The geometry of HSX 0: atoms from ``.XV``, and each element's R from the distance of its orbitals."""
    file = _files.beside(path, ".XV")
    if file is None:
        raise InputError(path, "HSX of version 0, which holds no lattice, without the .XV of the same name beside it")
    xv = _siesta_text.positions(_files.text(file), str(file))
    assert found.distances is not None
    if len(xv.positions) != len(found.orbitals) or abs(np.linalg.det(xv.lattice)) < 1e-6:
        expected = f"{len(found.orbitals)}, as in {path.name}"
        raise InputError(file, f"{len(xv.positions)} atoms, or no cell", expected, _siesta_text.REMEDY)
    atom = np.repeat(np.arange(len(found.orbitals)), found.orbitals)
    first = np.repeat(atom, found.rows)
    cell, column = np.divmod(found.columns, found.n_orbitals)
    vectors = found.distances - (xv.positions[atom[column]] - xv.positions[first])
    exact = vectors @ np.linalg.inv(xv.lattice)
    shifts = np.round(np.clip(np.nan_to_num(exact), -1e6, 1e6)).astype(np.int64)
    if not np.abs(shifts @ xv.lattice - vectors).max() < 1e-2:
        raise InputError(file, f"its atoms are not at the distances that {path.name} holds", "the geometry of the same run")
    cells = np.zeros((int(cell.max()) + 1, 3), dtype=np.int64)
    cells[cell] = shifts
    if (cells[cell] != shifts).any():
        raise InputError(path, "its supercell is not made of whole cells", remedy=_siesta_text.REMEDY)
    return Geometry(xv.lattice, xv.positions, found.species, cells)


def _species(
    found: Matrices, geometry: Geometry, path: Path
) -> tuple[Ints, dict[int, tuple[int, ...]], dict[int, float] | None]:
    """Atomic numbers; of each element the l of its shells in the order of the file, and its radius (Bohr) if known."""
    numbers = _numbers(found, geometry, path)
    file = _files.beside(path, ".ORB_INDX")
    listed = None if file is None else _siesta_text.orbitals(_files.text(file), found.orbitals, str(file))
    if listed is None and found.kinds is None:
        raise InputError(
            path, f"{found.layout}, which does not tell the shells of atoms, without the .ORB_INDX of the same name beside it"
        )
    shells: dict[int, tuple[int, ...]] = {}
    radii: dict[int, float] = {}
    for atom, z in enumerate(numbers):
        ls = listed[atom].ls if listed else ()
        if found.kinds is not None and geometry.species is not None:
            kind = found.kinds[geometry.species[atom]]
            stored = shells_of_orbitals(((tuple(o), int(o[1]), None) for o in kind.orbitals), str(path))
            if listed and stored != ls:
                raise InputError(str(file), f"atom {atom + 1} has other shells than in {path.name}", "files of the same run")
            ls = stored
        if sum(2 * l + 1 for l in ls) != found.orbitals[atom] or shells.setdefault(int(z), ls) != ls:
            raise InputError(path, f"atom {atom + 1} has other orbitals than its element", "one basis per element")
        radii[int(z)] = max(radii.get(int(z), 0.0), listed[atom].radius if listed else 0.0)
    return numbers, shells, radii if listed else None


def _numbers(found: Matrices, geometry: Geometry, path: Path) -> Ints:
    """Atomic number of each atom: from ``.XV``, or else from the labels of the species."""
    file = _files.beside(path, ".XV")
    if file is not None:
        xv = _siesta_text.positions(_files.text(file), str(file))
        if len(xv.numbers) != len(found.orbitals):
            raise InputError(file, f"{len(xv.numbers)} atoms", f"{len(found.orbitals)}, as in {path.name}")
        return xv.numbers
    if found.kinds is None or geometry.species is None:
        raise InputError(path, f"{found.layout}, which does not tell the elements, without the .XV of the same name beside it")
    elements = np.array([element(kind.label, str(path)) for kind in found.kinds])
    numbers: Ints = elements[geometry.species]
    return numbers


def _basis(
    found: Matrices,
    numbers: Ints,
    file_shells: dict[int, tuple[int, ...]],
    radii: dict[int, float] | None,
    bohr: float,
    where: str,
) -> Basis:
    """Shells by ascending l; a radius of 1 Å stands where none is known."""
    table: dict[int, Shells] = {}
    species = found.species if found.geometry is None else found.geometry.species
    for atom, z in enumerate(int(z) for z in numbers):
        valence = None if found.kinds is None or species is None else found.kinds[species[atom]].valence
        radius = 1.0 if radii is None else radii[z] * bohr
        add_shells(table, z, Shells(tuple(sorted(file_shells[z])), radius, valence), where)
    return Basis(table)


def _blocks(found: Matrices, elements: Elements, where: str) -> tuple[Support, dict[str, Values], Floats]:
    """Pairs, spin components in Rydberg, and overlap."""
    support = Support(found.orbitals, [elements], where)
    h = support.fill_all(elements, found.hamiltonian)
    overlap = support.fill(elements, found.overlap)
    if len(h) == 1:
        return support, {"": h[0]}, overlap
    if len(h) == 2:
        return support, {"uu": h[0], "dd": h[1]}, overlap
    if len(h) == 4:
        zero = np.zeros_like(h[0])
        components = {"uu": _complex(h[0], zero), "dd": _complex(h[1], zero), "ud": _complex(h[2], -h[3])}
    else:
        components = {
            "uu": _complex(h[0], h[4]),
            "dd": _complex(h[1], h[5]),
            "ud": _complex(h[2], -h[3]),
            "du": _complex(h[6], h[7]),
        }
    return support, {name: support.transposed(values) for name, values in components.items()}, overlap


def _complex(real: Floats, imaginary: Floats) -> NDArray[np.complex128]:
    values = np.empty(len(real), dtype=np.complex128)
    values.real, values.imag = real, imaginary
    return values


def _check_not_folded(structure: Structure, basis: Basis, geometry: Geometry, where: str) -> None:
    """Refuse matrices whose blocks hold the sum over images, as SIESTA writes them for the Gamma point alone."""
    known = {tuple(cell) for cell in geometry.cells.tolist()}
    lacking = [tuple(r) for r in np.unique(find_pairs(structure, basis)[:, :3], axis=0).tolist() if tuple(r) not in known]
    if lacking:
        raise InputError(
            where,
            f"atoms overlap with images in {len(lacking)} cells that it has no blocks for: it is folded into "
            f"{len(known)} (a calculation of the Gamma point alone)",
            "H(R) of all cells",
            "Run it again with `ForceAuxCell true`, or with several k points",
        )


def _fermi_level(found: Matrices, rydberg: float, path: Path) -> float | None:
    """E_F in eV; from ``.EIG`` where the matrices do not hold it."""
    if found.fermi_level is not None:
        return found.fermi_level * rydberg
    file = _files.beside(path, ".EIG")
    return None if file is None else _siesta_text.eigenvalues(_files.text(file), str(file))[0]


def _units(found: Matrices, path: Path) -> tuple[float, float]:
    """Bohr in Å and Rydberg in eV of the version that wrote the file, which the Fermi level in ``.EIG`` (eV) tells."""
    file = _files.beside(path, ".EIG")
    old = found.layout == "HSX 0" or _report(path.parent).startswith("4.")
    if file is not None and found.fermi_level:
        stated = _siesta_text.eigenvalues(_files.text(file), str(file))[0] / found.fermi_level
        old = abs(stated - SIESTA_4_RYDBERG) < abs(stated - SIESTA_RYDBERG)
        if abs(stated - SIESTA_RYDBERG) > 1e-3 and abs(found.fermi_level) > 1e-3:
            expected = f"that of {path.name}, {found.fermi_level * SIESTA_RYDBERG:.6f}"
            raise InputError(file, f"a Fermi level of {stated * found.fermi_level:.6f} eV", expected, "Take files of one run")
    return (SIESTA_4_BOHR, SIESTA_4_RYDBERG) if old else (SIESTA_BOHR, SIESTA_RYDBERG)


def _report(folder: Path) -> str:
    """Version and convergence, from whatever report lies there.

    Raises
    ------
    InputError
        If the run did not converge.
    """
    for file in _files.matching(folder, _files.variants("*.out", "*.log")):
        found = _siesta_text.report(_files.text(file))
        if found is None:
            continue
        version, converged = found
        if converged is False:
            raise InputError(file, "the run did not converge", remedy="Run it again with more steps (MaxSCFIterations)")
        return f"{version}; {'converged' if converged else 'convergence unknown'}"
    return "version unknown; convergence unknown"
