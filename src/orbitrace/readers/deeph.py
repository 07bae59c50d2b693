"""DeepH 2026 folders (``hamiltonian.h5``), as DeepH-dock writes them from many codes, and as OrbiTrace does itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orbitrace.interchange import read_folder
from orbitrace.physics.blocks import Blocks, Values
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.orbitals import Order, plain_order
from orbitrace.readers import _files
from orbitrace.readers._raw import COMPONENTS, RawCalculation

MARKERS = ("hamiltonian.h5",)
BESIDE = ("POSCAR", "info.json", "overlap.h5", "initial_hamiltonian.h5")
ORDER: Order = plain_order()


def read(folder: Path) -> RawCalculation:
    """The calculation in a folder.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the files do not fit together.
    """
    found = read_folder(folder)
    origin = found.provenance
    names = [_files.the_only(folder, MARKERS), folder / "overlap.h5"]
    if found.initial is not None:
        names.append(folder / "initial_hamiltonian.h5")
    hashes = {path.name: _files.sha256(path) for path in names}
    return RawCalculation(
        structure=found.structure,
        basis=found.basis,
        pairs=found.overlap.pairs,
        hamiltonian=_components(found.hamiltonian, found.spin),
        overlap=np.asarray(found.overlap.values, dtype=np.float64),
        fermi_level=found.fermi_level,
        n_electrons=found.n_electrons,
        spin=found.spin,
        provenance=Provenance(origin.code, origin.version, str(folder), {**origin.hashes, **hashes}),
        initial=None if found.initial is None else _components(found.initial, found.spin),
    )


def _components(hamiltonian: Blocks, spin: Spin) -> dict[str, Values]:
    """The spin components of spin-doubled blocks, each as a flat array."""
    if spin is Spin.NONE:
        return {"": hamiltonian.values}
    halves = {"u": 0, "d": 1}
    result = {}
    for name in {*COMPONENTS[spin], *(("du",) if spin is Spin.NONCOLLINEAR else ())}:
        values = np.empty(hamiltonian.offsets[-1] // 4, dtype=hamiltonian.values.dtype)
        for pair, start in enumerate(hamiltonian.offsets[:-1] // 4):
            rows, columns = hamiltonian.shapes[pair] // 2
            row, column = halves[name[0]] * rows, halves[name[1]] * columns
            block = hamiltonian.block(pair)[row : row + rows, column : column + columns]
            values[start : start + rows * columns] = block.reshape(-1)
        result[name] = values
    return result
