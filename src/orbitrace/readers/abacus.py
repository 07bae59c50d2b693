"""ABACUS (LCAO): H(R) and S(R) of ``out_mat_hs2`` or ``out_hsr``, text up to 3.10 and of 2026, and binary; nspin 1, 2 and 4.

The matrices lie in ``OUT.<suffix>``; ``STRU``, ``INPUT`` and ``.orb`` files are taken from there or from the folder above.
H reaches farther than S: pairs are those of both. Atoms are wrapped into the cell, as ABACUS does before it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.orbitals import Basis, Order, Shells
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats, Structure
from orbitrace.readers import _abacus_text, _files
from orbitrace.readers._abacus_csr import Csr, parse
from orbitrace.readers._abacus_text import Log, Orbital, Stru
from orbitrace.readers._elements import Elements, Support
from orbitrace.readers._radii import with_smallest_radii
from orbitrace.readers._raw import RawCalculation
from orbitrace.readers._species import add_shells, element
from orbitrace.units import ABACUS_RYDBERG

MARKERS = _files.variants("data-HR-sparse_SPIN0.csr", "hrs1_nao.csr")
_DOWN = _files.variants("data-HR-sparse_SPIN1.csr", "hrs2_nao.csr")
_OVERLAP = _files.variants("data-SR-sparse_SPIN0.csr", "srs1_nao.csr", "sr_nao.csr")
_LOG = _files.variants("running_*.log")
BESIDE = (*_DOWN, *_OVERLAP, *_LOG, *_files.variants("STRU", "INPUT", "*.orb", "istate.info"))

# Real harmonics with Condon-Shortley phase: m = 0, 1, -1, 2, -2, ..., (-1)^m.
ORDER: Order = {l: ((0, 1), *((sign * m, -1 if m % 2 else 1) for m in range(1, l + 1) for sign in (1, -1))) for l in range(7)}


def read(folder: Path) -> RawCalculation:
    """The calculation in a folder, in ABACUS' order of orbitals.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another calculation, or the run did not converge.
    """
    paths = {"H": _files.the_only(folder, MARKERS), "S": _files.the_only(folder, _OVERLAP)}
    if _files.matching(folder, _DOWN):
        paths["H down"] = _files.the_only(folder, _DOWN)
    where = str(paths["H"])
    matrices = {name: parse(_files.contents(path), str(path)) for name, path in paths.items()}
    log = _log(folder)
    stru = _stru(folder, matrices["H"], where)
    known = {label: _orbital(folder, label, stru, log, where) for label in dict.fromkeys(stru.labels)}
    numbers = np.array([element(label, where) for label in stru.labels])
    basis = _basis(known, log, where)
    spin = _check_sizes(matrices, paths, int(basis.n_orbitals(numbers).sum()))
    components = {name: part for name, matrix in matrices.items() for name, part in _parts(name, matrix, spin).items()}
    support = Support(basis.n_orbitals(numbers), [elements for elements, _ in components.values()], where)
    elements, values = components.pop("S")
    overlap: Floats = support.fill(elements, np.ascontiguousarray(values.real))
    structure = Structure(stru.fractions @ stru.lattice, stru.lattice, numbers)
    if any(orbital.radius is None for orbital in known.values()):
        basis = with_smallest_radii(basis, structure, support.pairs, overlap)
    hamiltonian: dict[str, Values] = {
        name: support.fill(elements, values) * ABACUS_RYDBERG for name, (elements, values) in components.items()
    }
    return RawCalculation(
        structure=structure,
        basis=basis,
        pairs=support.pairs,
        hamiltonian=hamiltonian,
        overlap=overlap,
        fermi_level=log.fermi_level,
        n_electrons=log.n_electrons,
        spin=spin,
        provenance=Provenance(
            "abacus", _version(log, matrices["H"]), where, {p.name: _files.sha256(p) for p in paths.values()}
        ),
    )


def scf_levels(folder: Path) -> Spectrum | None:
    """Eigenvalues in ``istate.info`` on the mesh of the self-consistent cycle, or None."""
    files = _files.matching(folder, _files.variants("istate.info"))
    if not files:
        return None
    path = _files.the_only(folder, MARKERS)
    stru = _stru(folder, parse(_files.contents(path), str(path)), str(path))
    return _abacus_text.levels(_files.text(files[0]), _log(folder).fermi_level, stru.lattice, str(files[0]))


def _beside(folder: Path, *names: str) -> Path | None:
    """A file in the folder, or in the one above, where ABACUS was started."""
    for place in (folder, folder.parent):
        if found := _files.matching(place, _files.variants(*names)):
            return found[0]
    return None


def _log(folder: Path) -> Log:
    """What the log of the run tells.

    Raises
    ------
    InputError
        If the run did not converge.
    """
    files = _files.matching(folder, _LOG)
    if not files:
        return Log(None, None, None, None, {}, {})
    file = next((f for f in files if f.name.startswith("running_scf")), files[0])
    found = _abacus_text.log(_files.text(file))
    if found.converged is False:
        raise InputError(file, "the run did not converge", remedy="Run it again with more steps (scf_nmax)")
    return found


def _version(log: Log, matrix: Csr) -> str:
    convergence = "converged" if log.converged else "convergence unknown"
    return f"{log.version or 'version unknown'}; {convergence}; {matrix.layout}"


def _stru(folder: Path, matrix: Csr, where: str) -> Stru:
    """The structure: from ``STRU``, which has more digits than what the matrices of 2026 repeat of it.

    Raises
    ------
    InputError
        If there is none, or it is that of the beginning of a run that moved its atoms, or of another run.
    """
    repeated = _abacus_text.repeated_cell(matrix.cell_text, where) if matrix.cell_text.strip() else None
    inputs, file = _beside(folder, "INPUT"), _beside(folder, "STRU")
    if file is None:
        if repeated is None:
            raise InputError(folder, "no STRU in it or in the folder above", "the structure of the calculation")
        return repeated
    text = "" if inputs is None else _files.text(inputs)
    kind = _abacus_text.parameter(text, "calculation", "scf")
    found = _abacus_text.stru(_files.text(file), _abacus_text.parameter(text, "latname", "none"), str(file))
    if repeated is None and kind not in ("scf", "nscf"):
        raise InputError(
            str(inputs), f"calculation {kind}, after which STRU holds other positions than the matrices", "scf",
            "Run a self-consistent cycle for the last structure, with out_mat_hs2 1",
        )  # fmt: skip
    if repeated is not None and not _alike(found, repeated, str(file)):
        raise InputError(file, "another structure than that in the matrices", remedy="Take files of one run")
    return found


def _alike(a: Stru, b: Stru, where: str) -> bool:
    """Whether two structures are the same, up to the digits that are printed."""
    if [element(label, where) for label in a.labels] != [element(label, where) for label in b.labels]:
        return False
    apart = np.abs(a.fractions - b.fractions)
    return np.allclose(a.lattice, b.lattice, atol=1e-3) and bool((np.minimum(apart, 1 - apart) < 1e-4).all())


def _orbital(folder: Path, label: str, stru: Stru, log: Log, where: str) -> Orbital:
    """Shells and radius of a species: from its ``.orb`` file, or the log and the file's name."""
    name = stru.orbital_files.get(label, "")
    file = _beside(folder, name) if name.endswith(".orb") and "*" not in name and "[" not in name else None
    if file is not None:
        return _abacus_text.orbital(_files.text(file), str(file))
    named = _abacus_text.orbital_by_name(name)
    if counts := log.zetas.get(label):
        ls = tuple(l for l, count in enumerate(counts) for _ in range(count))
        if len(counts) <= 7 and 0 < len(ls) <= 100:
            return Orbital(ls, named.radius if named else None)
    if named is None:
        raise InputError(
            where, f"no orbitals of {label} are known ({name or 'no NUMERICAL_ORBITAL'})",
            f"{name or 'its .orb file'} beside STRU, or the running log",
        )  # fmt: skip
    return named


def _basis(known: Mapping[str, Orbital], log: Log, where: str) -> Basis:
    table: dict[int, Shells] = {}
    for label, orbital in known.items():
        shells = Shells(orbital.ls, orbital.radius or 1.0, log.valences.get(label))
        add_shells(table, element(label, where), shells, where)
    return Basis(table)


def _check_sizes(matrices: Mapping[str, Csr], paths: Mapping[str, Path], n_orbitals: int) -> Spin:
    """Treatment of spin.

    Raises
    ------
    InputError
        If a matrix has other dimensions than the basis, or is complex where others are real.
    """
    is_complex = np.iscomplexobj(matrices["H"].values)
    spin = Spin.NONCOLLINEAR if is_complex else Spin.COLLINEAR if "H down" in matrices else Spin.NONE
    if is_complex and "H down" in matrices:
        raise InputError(paths["H"], f"complex values, and {paths['H down'].name} beside it", "one of the two")
    expected = n_orbitals * (2 if is_complex else 1)
    for name, matrix in matrices.items():
        if matrix.size != expected or np.iscomplexobj(matrix.values) != is_complex:
            found = f"a matrix of dimension {matrix.size}"
            raise InputError(paths[name], found, f"{expected}, as the orbitals of all atoms say", _abacus_text.REMEDY)
    return spin


def _parts(name: str, matrix: Csr, spin: Spin) -> dict[str, tuple[Elements, Floats | NDArray[np.complex128]]]:
    """The spin components that a matrix holds, over the orbitals without spin."""
    if spin is not Spin.NONCOLLINEAR:
        key = "S" if name == "S" else "" if spin is Spin.NONE else "dd" if name == "H down" else "uu"
        return {key: (matrix.elements, matrix.values)}
    e = matrix.elements
    result: dict[str, tuple[Elements, Floats | NDArray[np.complex128]]] = {}
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):  # spin is the fastest index
        mine = (e.row % 2 == row) & (e.column % 2 == column)
        part = Elements(e.cells, e.cell[mine], e.row[mine] // 2, e.column[mine] // 2)
        result["ud"[row] + "ud"[column]] = (part, matrix.values[mine])
    return {"S": result["uu"]} if name == "S" else result
