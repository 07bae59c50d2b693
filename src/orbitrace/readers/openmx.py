"""OpenMX 3.8, 3.9 and 4.0: ``.scfout`` (HS.fileout on), without spin, collinear, non-collinear, with spin-orbit coupling.

Positions come from the binary only: the input may hold them unwrapped and ``.out`` always wraps them, while the lattice
vectors of the blocks refer to the binary's own. The report ``.out`` beside the file (or appended to it, as DeepH's users do)
tells OpenMX's version and whether the run converged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.orbitals import SYMBOLS, Basis, Order, Shells
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Ints, Structure
from orbitrace.readers import _files, _openmx_text
from orbitrace.readers._raw import RawCalculation
from orbitrace.readers._scfout import LAYOUTS, Scfout, parse
from orbitrace.units import OPENMX_BOHR, OPENMX_HARTREE

MARKERS = _files.variants("*.scfout")
BANDS = _files.variants("*.Band")
BESIDE = (*_files.variants("*.out"), *BANDS)

# Real harmonics without Condon-Shortley phase (AngularF.c). p: x, y, z; d: 3z2-r2, x2-y2, xy, xz, yz;
# f: 5z3-3zr2, 5xz2-xr2, 5yz2-yr2, z(x2-y2), xyz, x3-3xy2, 3x2y-y3; beyond: m = 0, 1, -1, 2, -2, ...
_MS = {
    0: (0,),
    1: (1, -1, 0),
    2: (0, 2, -2, 1, -1),
    3: (0, 1, -1, 2, -2, 3, -3),
    **{l: (0, *(sign * m for m in range(1, l + 1) for sign in (1, -1))) for l in (4, 5, 6)},
}
ORDER: Order = {l: tuple((m, 1) for m in ms) for l, ms in _MS.items()}


def read(folder: Path) -> RawCalculation:
    """The calculation in a folder, in OpenMX's order of orbitals.

    Raises
    ------
    InputError
        If there is not exactly one ``.scfout``, it is damaged or of an unknown version, or the run did not converge.
    """
    path = _scfout(folder)
    file = parse(_files.contents(path), str(path))
    version, convergence = _report(path, file)
    numbers, basis = _basis(file, str(path))
    layout = f"scfout layout {file.layout}{' with Vxc' if file.has_vxc else ''}"
    spin = {0: Spin.NONE, 1: Spin.COLLINEAR, 3: Spin.NONCOLLINEAR}[file.spin]
    return RawCalculation(
        structure=Structure(file.positions * OPENMX_BOHR, file.lattice * OPENMX_BOHR, numbers),
        basis=basis,
        pairs=file.pairs,
        hamiltonian=_hamiltonian(file),
        overlap=file.overlap,
        fermi_level=file.chemical_potential * OPENMX_HARTREE,
        n_electrons=file.n_electrons,
        spin=spin,
        provenance=Provenance("openmx", f"{version}; {layout}; {convergence}", str(path), {path.name: _files.sha256(path)}),
        counted_electrons=file.counted_electrons,
    )


def reference_spectrum(folder: Path) -> Spectrum | None:
    """OpenMX's own bands (``.Band``), or for a molecule its levels (``.out``); None if it computed neither.

    Levels of a crystal are no bands, not even where the mesh of the self-consistent cycle is a single point.

    Raises
    ------
    InputError
        If the file is damaged, or there is more than one.
    """
    if _files.matching(folder, BANDS):
        bands = _files.the_only(folder, BANDS)
        return _openmx_text.bands(_files.text(bands), str(bands))
    path = _scfout(folder)
    file = parse(_files.contents(path), str(path))
    if file.pairs[:, :3].any():  # orbitals overlap across cells
        return None
    spectrum = _levels(path, file)
    return spectrum if spectrum is not None and len(spectrum.kpoints) == 1 else None


def scf_levels(folder: Path) -> Spectrum | None:
    """Eigenvalues that ``.out`` lists, on the mesh of the self-consistent cycle (k rounded to 1e-5), or None."""
    path = _scfout(folder)
    return _levels(path, parse(_files.contents(path), str(path)))


def _levels(path: Path, file: Scfout) -> Spectrum | None:
    out = _files.beside(path, ".out")
    text = _files.text(out) if out else file.appended
    return _openmx_text.levels(text, file.lattice * OPENMX_BOHR, file.spin == 1, str(out or path))


def _scfout(folder: Path) -> Path:
    """The folder's one ``.scfout``."""
    path = _files.the_only(folder, MARKERS)
    if path.name.startswith("overlap.scfout"):
        raise InputError(
            path,
            "HamGNN's overlap file, which looks like a .scfout but holds other matrices (no Kohn-Sham Hamiltonian)",
            "the .scfout of a self-consistent run of OpenMX",
        )
    return path


def _hamiltonian(file: Scfout) -> dict[str, np.ndarray]:
    """Spin components, eV; "du" is left to the door, because it must come from "ud" of the reverse pair."""
    real = [values * OPENMX_HARTREE for values in file.real]
    if file.spin == 0:
        return {"": real[0]}
    if file.spin == 1:
        return {"uu": real[0], "dd": real[1]}
    imaginary = [values * OPENMX_HARTREE for values in file.imaginary]
    return {
        "uu": real[0] + 1j * imaginary[0],
        "dd": real[1] + 1j * imaginary[1],
        "ud": real[2] + 1j * (real[3] + imaginary[2]),
    }


def _report(path: Path, file: Scfout) -> tuple[str, str]:
    """Version of OpenMX, and what is known of convergence.

    Raises
    ------
    InputError
        If the run did not converge, or the report beside the file is that of another run.
    """
    out = _files.beside(path, ".out")
    where = str(out or path)
    run = _openmx_text.report(_files.text(out) if out else file.appended)
    version = run.version or LAYOUTS[file.layout]
    if not run.energies:
        return version, "convergence unknown"
    _openmx_text.check_converged(run, file.input_text, where)
    potential = run.chemical_potential
    if potential is not None and abs(potential - file.chemical_potential) > 1e-6:
        raise InputError(
            where,
            f"its chemical potential is {potential:.9f} Hartree, that of {path.name} is {file.chemical_potential:.9f}",
            "the report of the same run",
            "Put the report of the same run there, or remove it",
        )
    return version, "converged"


def _basis(file: Scfout, where: str) -> tuple[Ints, Basis]:
    """Atomic numbers, and the basis of each element, from the input that the file repeats."""
    known = _openmx_text.species(file.input_text, where)
    atoms = _openmx_text.atoms(file.input_text, where)
    if len(atoms) != len(file.orbitals):
        raise InputError(where, f"{len(atoms)} atoms in its input and {len(file.orbitals)} in its matrices", "the same number")
    shells: dict[int, Shells] = {}
    numbers = np.zeros(len(atoms), dtype=np.int64)
    for atom, (label, valence) in enumerate(atoms):
        if label not in known:
            raise InputError(where, f"atom {atom + 1} is of the species {label!r}", f"one of {', '.join(known)}")
        kind = known[label]
        mine = Shells(kind.ls, kind.cutoff * OPENMX_BOHR, valence)
        numbers[atom] = kind.number
        if mine.n_orbitals != file.orbitals[atom]:
            raise InputError(
                where,
                f"atom {atom + 1} ({label}) has {file.orbitals[atom]} orbitals",
                f"{mine.n_orbitals}, as its basis {mine} says",
                "The file is damaged",
            )
        _add(shells, kind.number, mine, where)
    return numbers, Basis(shells)


def _add(shells: dict[int, Shells], number: int, mine: Shells, where: str) -> None:
    """Add an atom's shells to the table; all atoms of an element must share them."""
    other = shells.setdefault(number, mine)
    if (other.ls, other.cutoff) != (mine.ls, mine.cutoff):
        raise InputError(
            where,
            f"{SYMBOLS[number]} has two bases, {other} ({other.cutoff:.2f} Å) and {mine} ({mine.cutoff:.2f} Å)",
            "one basis per element",
        )
    if other.valence != mine.valence:
        shells[number] = Shells(mine.ls, mine.cutoff)  # excited atoms: the input does not tell the valence
