"""``.nc`` of SIESTA (CDF.Save): what HSX holds, in the groups of a NetCDF 4 file, which is an HDF5 file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.physics.structure import Ints
from orbitrace.readers._siesta_binary import MOST, NSPIN, Geometry, Kind, Matrices

REMEDY = "Run SIESTA with CDF.Save, or copy the file again from its source"
LEAST_PACKED = 1000  # a file that claims more numbers than this for each of its bytes is damaged


def parse_nc(path: Path) -> Matrices:
    """Read a ``.nc``.

    Raises
    ------
    InputError
        If it is no such file, damaged, or holds no Hamiltonian.
    """
    try:
        with h5py.File(path, "r") as store:
            return _parse(store, path)
    except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError, OverflowError, AttributeError) as error:
        found = f"damaged, or not SIESTA's ({type(error).__name__}: {error})"
        raise InputError(path, found, "a Hamiltonian in its group SPARSE", REMEDY) from error


def _parse(store: h5py.File, path: Path) -> Matrices:
    size = path.stat().st_size

    def data(name: str, *shape: int) -> NDArray[np.generic]:
        """A dataset of a known shape (-1 for any length), in this file and not larger than the file can hold."""
        place = store
        for part in name.split("/")[:-1]:
            place = place[part] if isinstance(place.get(part, getlink=True), h5py.HardLink) else None
        last = name.rpartition("/")[2]
        link = place.get(last, getlink=True) if place is not None else None
        found = place[last] if isinstance(link, h5py.HardLink) else None
        if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
            raise ValueError(f"no {name} in it")
        if len(found.shape) != len(shape) or any(m not in (-1, n) for n, m in zip(found.shape, shape, strict=True)):
            raise ValueError(f"{name} has the shape {found.shape}")
        if found.size > LEAST_PACKED * size:
            raise ValueError(f"{name} claims {found.size} numbers in {size} bytes")
        numbers: NDArray[np.generic] = found[...]
        return numbers

    rows = data("SPARSE/n_col", -1).astype(np.int64)
    columns = data("SPARSE/list_col", -1).astype(np.int64) - 1
    cells = data("SPARSE/isc_off", -1, 3).astype(np.int64)
    positions = data("xa", -1, 3).astype(np.float64)
    hamiltonian = data("SPARSE/H", -1, len(columns)).astype(np.float64)
    last = data("lasto", len(positions)).astype(np.int64)
    orbitals: Ints = last - np.concatenate([np.zeros(1, dtype=np.int64), last[:-1]])
    fine = rows.min() >= 0 and rows.sum() == len(columns) and columns.min() >= 0 and columns.max() < len(rows) * len(cells)
    if not fine or (orbitals <= 0).any() or orbitals.sum() != len(rows) or len(hamiltonian) not in NSPIN or len(rows) > MOST:
        raise ValueError("numbers of elements, orbitals and cells that contradict each other")
    species, kinds = _basis(store, data, len(positions))
    level, electrons = data("Ef", 1), data("Qtot", 1)
    return Matrices(
        layout="nc",
        geometry=Geometry(data("cell", 3, 3).astype(np.float64), positions, species, cells),
        orbitals=orbitals,
        kinds=kinds,
        rows=rows,
        columns=columns,
        hamiltonian=hamiltonian,
        overlap=data("SPARSE/S", len(columns)).astype(np.float64),
        fermi_level=float(level.astype(np.float64)[0]),
        n_electrons=float(electrons.astype(np.float64)[0]),
    )


def _basis(
    store: h5py.File, data: Callable[..., NDArray[np.generic]], n_atoms: int
) -> tuple[Ints | None, tuple[Kind, ...] | None]:
    """Species of each atom, and the species, if the file tells their shells."""
    kinds: dict[int, Kind] = {}
    for name in list(store["BASIS"]):
        group = store["BASIS"].get(name) if isinstance(store["BASIS"].get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(group, h5py.Group):
            continue
        if "orbnl_l" not in group:
            return None, None
        parts = [data(f"BASIS/{name}/orbnl_{part}", -1).astype(np.int64) for part in ("n", "l", "z")]
        shells = np.stack(parts, axis=1)
        if ((shells[:, 1] < 0) | (shells[:, 1] > 6)).any() or len(shells) > 1000:
            raise ValueError(f"orbitals of {name} that are none")
        number = int(np.ravel(group.attrs["Atomic_number"])[0])
        if not 0 < number < len(SYMBOLS):
            raise ValueError(f"the atomic number {number}")
        orbitals = np.repeat(shells, 2 * shells[:, 1] + 1, axis=0)
        kinds[int(np.ravel(group.attrs["ID"])[0])] = Kind(SYMBOLS[number], None, orbitals)
    ids = data("BASIS/basis", n_atoms).astype(np.int64)
    order = sorted(kinds)
    species = np.array([order.index(int(i)) for i in ids], dtype=np.int64)
    return species, tuple(kinds[i] for i in order)
