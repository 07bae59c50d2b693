"""Folders of DeepH-pack, which many tools of the field read and write: one HDF5 dataset per block, text for the rest.

``hamiltonians.h5`` and ``overlaps.h5`` hold a dataset for each pair under the key ``[Rx, Ry, Rz, i, j]``, atoms from 1, eV,
with spin [[uu, ud], [du, dd]]; ``lat.dat`` and ``site_positions.dat`` hold vectors as *columns*, Å; ``orbital_types.dat`` l
of each atom's shells; ``element.dat`` atomic numbers; ``info.json`` the Fermi level and whether there is spin. Orbitals stand
in the order `LEGACY_ORDER`. What else the house knows stands in ``info.json``, as in the folders of 2026.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.interchange._header import SECTION, to_info
from orbitrace.interchange._poscar import boxed
from orbitrace.interchange._writing import filled, move_in
from orbitrace.physics.blocks import Blocks, Pairs, Values
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import Basis, Order, to_house_order
from orbitrace.physics.structure import Floats, Ints, Structure

REMEDY = "Give a whole folder as DeepH-pack's preprocessing writes it"
HAMILTONIAN, OVERLAP = "hamiltonians.h5", "overlaps.h5"
TEXTS = ("element.dat", "lat.dat", "site_positions.dat", "orbital_types.dat", "info.json")
FILES = (*TEXTS[:-1], "rlat.dat", OVERLAP, HAMILTONIAN, "info.json")
MOST_SHELLS, MOST_ATOMS = 100, 10**6
# p: x, y, z; d: 3z2-r2, x2-y2, xy, xz, yz; f: 5z3-3zr2, 5xz2-xr2, 5yz2-yr2, z(x2-y2), xyz, x3-3xy2, 3x2y-y3; no signs.
_MS = {0: (0,), 1: (1, -1, 0), 2: (0, 2, -2, 1, -1), 3: (0, 1, -1, 2, -2, 3, -3)}
LEGACY_ORDER: Order = {
    l: tuple((m, 1) for m in _MS.get(l, (0, *(sign * m for m in range(1, l + 1) for sign in (1, -1))))) for l in range(7)
}
_KEY = re.compile(rb"\[(-?\d{1,6}), (-?\d{1,6}), (-?\d{1,6}), (\d{1,7}), (\d{1,7})\]")
_LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)  # not those that take data from other files


@dataclass(frozen=True, eq=False)
class LegacyFolder:
    """What a folder holds, blocks in its own order of orbitals and of pairs.

    Parameters
    ----------
    structure
        Atoms as the folder has them; whoever wrote it may have wrapped them into the cell.
    shells
        l of each atom's shells.
    spinful
        Whether blocks of the Hamiltonian are spin-doubled.
    fermi_level
        eV; None if it is not told.
    ours
        What OrbiTrace itself wrote into info.json, or nothing.
    hamiltonian, overlap
        Pairs, and their blocks one after the other in row-major order.
    """

    structure: Structure
    shells: tuple[tuple[int, ...], ...]
    spinful: bool
    fermi_level: float | None
    ours: Mapping[str, Any]
    hamiltonian: tuple[Pairs, Values]
    overlap: tuple[Pairs, Values]


def read_legacy_folder(folder: Path) -> LegacyFolder:
    """Read a folder of DeepH-pack.

    Raises
    ------
    InputError
        If a file is missing or damaged, or they do not fit together.
    """
    missing = [name for name in (*TEXTS, HAMILTONIAN, OVERLAP) if not (folder / name).is_file()]
    if missing:
        raise InputError(folder, f"no {' and no '.join(missing)} in it", "a folder of DeepH-pack with its Hamiltonian", REMEDY)
    numbers = _table(folder / "element.dat").astype(np.int64).reshape(-1)
    lattice = _table(folder / "lat.dat").T
    positions = _table(folder / "site_positions.dat").T
    shells = tuple(_shells(folder / "orbital_types.dat"))
    volume = float(np.abs(np.linalg.det(lattice))) if lattice.shape == (3, 3) else 0.0
    if not 1e-6 < volume < 1e12 or positions.shape != (len(numbers), 3) or len(shells) != len(numbers):
        found = (
            f"{len(numbers)} elements, {len(positions)} positions, {len(shells)} lists of orbitals, and {len(lattice)} vectors"
        )
        raise InputError(folder, found, "as many of each of the first, and a cell", REMEDY)
    if ((numbers < 1) | (numbers > 118)).any():
        raise InputError(folder / "element.dat", f"the atomic number {numbers.min()} or {numbers.max()}", "1 to 118", REMEDY)
    spinful, fermi_level, ours = _info(folder / "info.json")
    counts = np.array([sum(2 * l + 1 for l in ls) for ls in shells], dtype=np.int64)
    return LegacyFolder(
        structure=Structure(positions, lattice, numbers),
        shells=shells,
        spinful=spinful,
        fermi_level=fermi_level,
        ours=ours,
        hamiltonian=_blocks(folder / HAMILTONIAN, counts * (2 if spinful else 1), spinful),
        overlap=_blocks(folder / OVERLAP, counts, False),
    )


def write_legacy_folder(folder: Path, calculation: Calculation) -> None:
    """Write a calculation as a folder of DeepH-pack; what stands there under the same names is replaced.

    Raises
    ------
    InputError
        If the folder cannot be written; nothing is left behind then.
    """
    folder, c = Path(folder), calculation
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "a file stands there", "a folder, or nothing yet", "Choose another name")
    spinful = c.spin is not Spin.NONE
    head = {"nsites": c.structure.n_atoms, "isorthogonal": False, "isspinful": spinful, "fermi_level": c.fermi_level}
    ours = to_info(c.structure, c.basis, c.spin, c.fermi_level, c.n_electrons, c.provenance)[SECTION]
    box = boxed(c.structure)

    def fill(partial: Path) -> None:
        _save(partial / "element.dat", c.structure.numbers.reshape(-1, 1), "d")
        _save(partial / "lat.dat", box.T, ".17g")
        _save(partial / "rlat.dat", 2 * np.pi * np.linalg.inv(box), ".17g")
        _save(partial / "site_positions.dat", c.structure.positions.T, ".17g")
        lines = ["  ".join(str(l) for l in c.basis[z].ls) for z in c.structure.numbers]
        (partial / "orbital_types.dat").write_text("\n".join(lines) + "\n")
        (partial / "info.json").write_text(json.dumps({**head, SECTION: ours | {"n_electrons": c.n_electrons}}, indent=1))
        _write_blocks(partial / HAMILTONIAN, c.hamiltonian, c.structure.numbers, c.basis, c.spin)
        _write_blocks(partial / OVERLAP, c.overlap, c.structure.numbers, c.basis, Spin.NONE)

    move_in(filled(folder, fill), folder, FILES)


def _table(file: Path) -> Floats:
    """Numbers in lines, [n_lines, n]."""
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        table = np.array(rows, dtype=np.float64)
        if table.ndim != 2 or not np.isfinite(table).all() or not (np.abs(table) < 1e9).all():
            raise ValueError("no table of finite numbers")
    except (ValueError, OSError) as error:
        raise InputError(file, f"damaged ({error})", "a table of numbers", REMEDY) from error
    return table


def _shells(file: Path) -> list[tuple[int, ...]]:
    try:
        rows = [tuple(int(word) for word in line.split()) for line in file.read_text(encoding="utf-8").splitlines()]
    except (ValueError, OSError) as error:
        raise InputError(file, f"damaged ({error})", "the l of each atom's shells", REMEDY) from error
    rows = [row for row in rows if row]
    for row in rows:
        if list(row) != sorted(row) or not row[0] >= 0 or row[-1] > 6 or len(row) > MOST_SHELLS:
            raise InputError(file, f"an atom with the shells {row}"[:200], "l from 0 to 6, ascending", REMEDY)
    return rows


def _info(file: Path) -> tuple[bool, float | None, Mapping[str, Any]]:
    """Whether there is spin, the Fermi level, and our own section."""
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        level = info.get("fermi_level")
        level = None if level is None else float(level)
        if info.get("isorthogonal") or (level is not None and not np.isfinite(level)):
            raise ValueError("an orthogonal basis, or no finite Fermi level")
        ours = info.get(SECTION, {})
        if not isinstance(ours, dict):
            raise TypeError("the section of OrbiTrace is none")
        return bool(info["isspinful"]), level, ours
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise InputError(file, f"damaged ({type(error).__name__}: {error})", "isspinful and fermi_level", REMEDY) from error


def _blocks(file: Path, counts: Ints, is_complex: bool) -> tuple[Pairs, Values]:
    """The blocks of a file in the order of its keys; `counts` are the orbitals of each atom."""
    try:
        with h5py.File(file, "r") as store:
            names = list(store.id)
            pairs = _pairs(names, len(counts))
            sizes = counts[pairs[:, 3]] * counts[pairs[:, 4]]
            total = int(sizes.sum())
            if total * 4 > file.stat().st_size * 1000:  # blocks may be compressed, but not to nothing
                raise ValueError(f"{len(names)} blocks of {total} numbers in {file.stat().st_size} bytes")
            values: Values = np.zeros(total, np.complex128) if is_complex else np.zeros(total, np.float64)
            at = 0
            for name, pair, size in zip(names, pairs, sizes.tolist(), strict=True):
                _read(store, name, (int(counts[pair[3]]), int(counts[pair[4]])), values[at : at + size])
                at += size
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(file, f"damaged, or no blocks of DeepH-pack ({error})", "a dataset for each pair", REMEDY) from error
    return pairs, values


def _pairs(names: list[bytes], n_atoms: int) -> Pairs:
    """The pairs that the keys name."""
    found = [_KEY.fullmatch(name) for name in names]
    if not found or None in found:
        strange = names[found.index(None)] if found else b"none"
        raise ValueError(f"the key {strange[:60]!r}, not [Rx, Ry, Rz, i, j]")
    pairs = np.array([[int(word) for word in key.groups()] for key in found if key], dtype=np.int32)
    pairs[:, 3:] -= 1
    if pairs[:, 3:].min() < 0 or pairs[:, 3:].max() >= n_atoms:
        raise ValueError(f"a key names atom {pairs[:, 3:].max() + 1} of {n_atoms}")
    return pairs


def _read(store: h5py.File, name: bytes, shape: tuple[int, int], out: Values) -> None:
    """One block; HDF5's own objects, because a folder has many thousands."""
    if store.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{name.decode()} is a link to elsewhere")
    data = h5py.h5d.open(store.id, name)
    plist = data.get_create_plist()
    if plist.get_layout() not in _LAYOUTS or plist.get_external_count():
        raise ValueError(f"{name.decode()} lies in another file")
    if data.shape != shape:
        raise ValueError(f"block {name.decode()} is {data.shape}, expected {shape} from orbital_types.dat")
    data.read(h5py.h5s.ALL, h5py.h5s.ALL, out.reshape(shape))


def _write_blocks(file: Path, blocks: Blocks, numbers: Ints, basis: Basis, spin: Spin) -> None:
    orders = {z: to_house_order(basis[z], LEGACY_ORDER)[0] for z in basis.elements}
    places = {}
    for z, house in orders.items():
        legacy = np.argsort(house)  # house[a] = legacy[permutation[a]]
        places[z] = np.concatenate([legacy + k * len(legacy) for k in range(spin.components)])
    with h5py.File(file, "w") as store:
        for pair, (*r, i, j) in enumerate(blocks.pairs.tolist()):
            block = blocks.block(pair)[np.ix_(places[int(numbers[i])], places[int(numbers[j])])]
            store[str([*r, i + 1, j + 1])] = block.astype(np.complex128) if spin is not Spin.NONE else block


def _save(file: Path, table: NDArray[Any], form: str) -> None:
    file.write_text("\n".join(" ".join(format(x, form) for x in row) for row in table.tolist()) + "\n")
