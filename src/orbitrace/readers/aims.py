"""FHI-aims: ``rs_hamiltonian*.out``, ``rs_overlap.out`` and ``rs_indices.out`` (``output_rs_matrices plain``); with or without
collinear spin.

The row of a stored element lies in cell R and its column in cell 0, and atoms are folded into the centre cell before R is
counted; the bands of non-magnetic crystals show neither. Only one triangle is stored, and a few elements of the other.
Spin-orbit coupling, which FHI-aims adds after the self-consistent cycle, is not in these files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.orbitals import Basis, Order, Shells
from orbitrace.physics.structure import Floats, Structure
from orbitrace.readers import _aims_text, _files
from orbitrace.readers._elements import Support
from orbitrace.readers._numbers import REMEDY, floats
from orbitrace.readers._radii import with_smallest_radii
from orbitrace.readers._raw import RawCalculation
from orbitrace.readers._species import add_shells, element, unsorted
from orbitrace.units import AIMS_HARTREE

MARKERS = _files.variants("rs_indices.out")
_MATRICES = {
    name: _files.variants(f"rs_{name}.out") for name in ("hamiltonian", "hamiltonian_up", "hamiltonian_dn", "overlap")
}
_TEXTS = {name: _files.variants(name) for name in ("basis-indices.out", "geometry.in", "control.in", "aims.out")}
BESIDE = (*(p for patterns in _MATRICES.values() for p in patterns), *(p for patterns in _TEXTS.values() for p in patterns))

# Real harmonics: m = -l..l; the sign is that of the Condon-Shortley phase for m > 0 alone.
ORDER: Order = {l: tuple((m, -1 if m > 0 and m % 2 else 1) for m in range(-l, l + 1)) for l in range(7)}


def read(folder: Path) -> RawCalculation:
    """The calculation in a folder, in FHI-aims' order of orbitals.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another calculation, or the run did not converge.
    """
    path = _files.the_only(folder, MARKERS)
    where = str(path)
    n, size, elements = _aims_text.indices(bytes(_files.contents(path)), where)
    shells = _aims_text.orbitals(*_text(folder, "basis-indices.out"))
    geometry = _aims_text.geometry(*_text(folder, "geometry.in"))
    control = _text(folder, "control.in")[0] if _files.matching(folder, _TEXTS["control.in"]) else ""
    orbitals = _aims_text.counts(shells)
    if len(shells) != len(geometry.labels) or int(orbitals.sum()) != n:
        found = f"{n} orbitals of {len(geometry.labels)} atoms"
        raise InputError(where, found, f"{orbitals.sum()} of {len(shells)}, as in basis-indices.out", REMEDY)
    numbers = np.array([element(label, where) for label in geometry.labels], dtype=np.int64)
    paths = _matrix_files(folder)
    values = {name: _values(file, size, len(elements)) for name, file in paths.items()}
    support = Support(orbitals, [elements], where)
    blocks = {name: support.fill_triangle(elements, part) for name, part in values.items()}
    structure = Structure(geometry.positions, geometry.lattice, numbers, (bool(geometry.lattice.any()),) * 3)
    radii = _aims_text.radii(control)
    basis = _basis(geometry.labels, shells, radii, where)
    if not set(geometry.labels) <= set(radii):
        basis = with_smallest_radii(basis, structure, support.pairs, blocks["overlap"])
    version, fermi_level = _report(folder, _aims_text.keyword(control, "include_spin_orbit") is not None)
    overlap = blocks.pop("overlap")
    return RawCalculation(
        structure=structure,
        basis=basis,
        pairs=support.pairs,
        hamiltonian={_SPINS[name]: part * AIMS_HARTREE for name, part in blocks.items()},
        overlap=overlap,
        fermi_level=fermi_level,
        n_electrons=float(numbers.sum()) - _charge(control),
        spin=Spin.NONE if len(blocks) == 1 else Spin.COLLINEAR,
        provenance=Provenance("aims", version, where, {p.name: _files.sha256(p) for p in (path, *paths.values())}),
        file_shells=unsorted(dict(zip(numbers.tolist(), shells, strict=True))),
    )


_SPINS = {"hamiltonian": "", "hamiltonian_up": "uu", "hamiltonian_dn": "dd"}


def _text(folder: Path, name: str) -> tuple[str, str]:
    """The text of a file that must be there, and its path."""
    path = _files.the_only(folder, _TEXTS[name])
    return _files.text(path), str(path)


def _matrix_files(folder: Path) -> dict[str, Path]:
    """The files with the matrices; either one Hamiltonian, or one for each spin."""
    up = bool(_files.matching(folder, _MATRICES["hamiltonian_up"]))
    names = ["hamiltonian_up", "hamiltonian_dn"] if up else ["hamiltonian"]
    return {name: _files.the_only(folder, _MATRICES[name]) for name in (*names, "overlap")}


def _values(path: Path, size: int, n_elements: int) -> Floats:
    """The numbers of a matrix, one per line, without those at its end that belong to no element."""
    found = floats(bytes(_files.contents(path)), str(path))
    if len(found) != size:
        raise InputError(path, f"{len(found)} numbers", f"{size}, as rs_indices.out says", REMEDY)
    return found[:n_elements]


def _basis(labels: tuple[str, ...], shells: list[tuple[int, ...]], radii: dict[str, float], where: str) -> Basis:
    """Shells by ascending l; a radius of 1 Å stands where none is known."""
    table: dict[int, Shells] = {}
    kept: dict[int, tuple[int, ...]] = {}
    for label, ls in zip(labels, shells, strict=True):
        z = element(label, where)
        add_shells(table, z, Shells(tuple(sorted(ls)), radii.get(label, 1.0), float(z)), where)
        if kept.setdefault(z, ls) != ls:
            raise InputError(where, f"atoms of {label} list their shells in two orders", "one basis per element")
    return Basis(table)


def _charge(control: str) -> float:
    """The charge of the cell."""
    try:
        return float(_aims_text.keyword(control, "charge") or 0.0)
    except ValueError:
        return 0.0


def _report(folder: Path, spin_orbit: bool) -> tuple[str, float | None]:
    """Version and convergence in words, and the Fermi level.

    Raises
    ------
    InputError
        If the run did not converge.
    """
    version, converged, level = None, None, None
    if files := _files.matching(folder, _TEXTS["aims.out"]):
        version, converged, level = _aims_text.report(_files.text(files[0]))
        if converged is False:
            raise InputError(files[0], "the run did not converge", remedy="Run it again with more steps (sc_iter_limit)")
    words = [version or "version unknown", "converged" if converged else "convergence unknown", "plain text"]
    return "; ".join([*words, *(["without its spin-orbit coupling"] if spin_orbit else [])]), level
