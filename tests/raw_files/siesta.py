"""SIESTA's ``.HSX`` and ``.TSHS`` with ``.XV`` and ``.ORB_INDX``."""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import SYMBOLS
from raw_files import coded, crystal

# A code's lists of shells need not ascend in l: polarisation shells follow the shell that they polarise.
SHELLS = {8: (0, 1, 2, 0)}
NAME = "crystal"


def order(l: int) -> list[tuple[int, int]]:
    return [(m, (-1) ** abs(m)) for m in range(-l, l + 1)]


def write(folder: Path, house: Calculation, version: int = 1, true: int = 1, bohr: float = 0.529177210903) -> None:
    """`version` 0, 1 or 2 of HSX, or 10 for a TSHS; `true` is how the compiler writes .true."""
    rydberg = 13.60580 if version == 0 else 27.211386245988 / 2
    if version == 0:
        bohr = 0.529177
    matrices = sparse(house, bohr, rydberg)
    suffix = "TSHS" if version == 10 else "HSX"
    records = {0: hsx_0, 10: tshs}.get(version, hsx)(house, matrices, version, true, bohr, rydberg)
    (folder / f"{NAME}.{suffix}").write_bytes(b"".join(map(framed, records)))
    (folder / f"{NAME}.XV").write_text(xv(house, bohr))
    (folder / f"{NAME}.ORB_INDX").write_text(orb_indx(house, bohr))


def shells(house: Calculation, z: int) -> tuple[int, ...]:
    ls = SHELLS.get(z, house.basis[z].ls)
    return ls if sorted(ls) == list(house.basis[z].ls) else house.basis[z].ls


def sparse(house: Calculation, bohr: float, rydberg: float):
    """Dense matrices over orbitals and supercell columns, with what is an element: h [spin, n, n_all], s, distances, cells."""
    s = house.structure
    counts = house.basis.n_orbitals(s.numbers)
    begins, n = np.cumsum(counts) - counts, counts.sum()
    most = np.abs(house.overlap.pairs[:, :3]).max(axis=0)
    cells = [(0, 0, 0)] + [
        tuple(np.array(c) - most) for c in np.ndindex(*(2 * most + 1)) if tuple(np.array(c) - most) != (0, 0, 0)
    ]
    h = np.zeros((n_spin(house), n, n * len(cells)))
    overlap, there = np.zeros(h.shape[1:]), np.zeros(h.shape[1:], dtype=bool)
    distances = np.zeros((*h.shape[1:], 3))
    for r, i, j, blocks, block in coded(house, order, {z: shells(house, z) for z in house.basis.elements}):
        here = np.ix_(begins[i] + np.arange(counts[i]), cells.index(r) * n + begins[j] + np.arange(counts[j]))
        there[here], overlap[here] = True, block
        distances[here] = (s.positions[j] + np.array(r) @ s.lattice - s.positions[i]) / bohr
        if house.spin is not Spin.NONCOLLINEAR:
            for spin, name in enumerate(sorted(name for name in blocks if name in ("", "uu", "dd"))[::-1]):
                h[spin][here] = blocks[name] / rydberg
        else:  # the reverse pair holds these: matrices with off-diagonal spin are transposed in space
            back = np.ix_(
                begins[j] + np.arange(counts[j]), cells.index(tuple(-x for x in r)) * n + begins[i] + np.arange(counts[i])
            )
            parts = [
                blocks["uu"].real, blocks["dd"].real, blocks["ud"].real, -blocks["ud"].imag,
                blocks["uu"].imag, blocks["dd"].imag, blocks["du"].real, blocks["du"].imag,
            ]  # fmt: skip
            for spin, part in enumerate(parts):
                h[spin][back] = part.T / rydberg
    return h, overlap, there, distances, np.array(cells)


def n_spin(house: Calculation) -> int:
    return {Spin.NONE: 1, Spin.COLLINEAR: 2, Spin.NONCOLLINEAR: 8}[house.spin]


def framed(record: bytes) -> bytes:
    mark = np.array([len(record)], "<i4").tobytes()
    return mark + record + mark


def ints(*values: object) -> bytes:
    return b"".join(np.asarray(v, "<i4").tobytes() for v in values)


def reals(*values: object) -> bytes:
    return b"".join(np.asarray(v, "<f8").tobytes() for v in values)


def rows(matrix: np.ndarray, there: np.ndarray, dtype: str) -> list[bytes]:
    return [line[mask].astype(dtype).tobytes() for line, mask in zip(matrix, there, strict=True)]


def columns(there: np.ndarray) -> list[bytes]:
    return [ints(np.flatnonzero(mask) + 1) for mask in there]


def species(house: Calculation) -> tuple[bytes, list[bytes]]:
    """The record of the species, and n, l, zeta of each orbital of each."""
    elements = [int(z) for z in house.structure.elements]
    parts, tables = [], []
    for z in elements:
        ls = shells(house, z)
        zetas = [ls[: k + 1].count(l) for k, l in enumerate(ls)]
        orbitals = [(l + 1, l, zeta) for l, zeta in zip(ls, zetas, strict=True) for _ in range(2 * l + 1)]
        parts.append(SYMBOLS[z].ljust(20).encode() + reals(house.basis[z].valence or 1.0) + ints(len(orbitals)))
        tables.append(orbitals)
    return b"".join(parts), tables


def hsx(house, matrices, version, true, bohr, rydberg) -> list[bytes]:
    h, overlap, there, _, cells = matrices
    s = house.structure
    counts = house.basis.n_orbitals(s.numbers)
    kind = [s.elements.index(int(z)) + 1 for z in s.numbers]
    head, tables = species(house)
    folds = 2 * cells.max(axis=0) + 1
    return [
        ints(version),
        ints(true),
        ints(s.n_atoms, counts.sum(), len(h), len(tables), folds),
        reals(s.lattice / bohr, house.fermi_level / rydberg, house.n_electrons, 0.01),
        ints(cells) + reals(s.positions / bohr) + ints(kind, np.cumsum(counts)),
        head,
        *(ints(table) for table in tables),
        *([ints(np.eye(3)) + reals(np.zeros(3))] if version == 2 else []),
        ints(there.sum(axis=1)),
        *columns(there),
        *(row for part in h for row in rows(part, there, "<f8")),
        *rows(overlap, there, "<f8"),
    ]


def hsx_0(house, matrices, version, true, bohr, rydberg) -> list[bytes]:
    h, overlap, there, distances, _ = matrices
    s = house.structure
    counts = house.basis.n_orbitals(s.numbers)
    n, n_all = there.shape
    head, tables = species(house)
    return [
        ints(n, n_all, len(h), there.sum()),
        ints(0),
        ints(np.arange(n_all) % n + 1),
        ints(there.sum(axis=1)),
        *columns(there),
        *(row for part in h for row in rows(part, there, "<f4")),
        *rows(overlap, there, "<f4"),
        reals(house.n_electrons, 0.01),
        *rows(distances, there, "<f4"),
        ints(len(tables)),
        head,
        *(ints(orbital) for table in tables for orbital in table),
        ints(s.n_atoms),
        ints([s.elements.index(int(z)) + 1 for z in s.numbers]),
        ints([k + 1 for c in counts for k in range(c)], [k + 1 for c in counts for k in range(c)]),
    ]


def tshs(house, matrices, version, true, bohr, rydberg) -> list[bytes]:
    h, overlap, there, _, cells = matrices
    s = house.structure
    counts = house.basis.n_orbitals(s.numbers)
    n, n_all = there.shape
    return [
        ints(1),
        ints(s.n_atoms, n, n_all, len(h), there.sum()),
        ints(2 * cells.max(axis=0) + 1),
        reals(s.lattice / bohr, s.positions / bohr),
        ints(0, 0, 0),
        ints(np.eye(3)) + reals(np.zeros(3)),
        reals(house.fermi_level / rydberg, house.n_electrons, 0.01),
        ints(0, 0),
        ints(0, np.cumsum(counts)),
        ints(there.sum(axis=1)),
        *columns(there),
        *rows(overlap, there, "<f8"),
        *(row for part in h for row in rows(part, there, "<f8")),
        ints(cells),
    ]


def lines(table: Iterable[Iterable[float]]) -> list[str]:
    return [" ".join(f"{x:18.9f}" for x in row) for row in table]


def xv(house: Calculation, bohr: float) -> str:
    s = house.structure
    still = " 0.0 0.0 0.0"
    atoms = [
        f"{s.elements.index(int(z)) + 1} {z} {x}{still}" for z, x in zip(s.numbers, lines(s.positions / bohr), strict=True)
    ]
    return "\n".join([*(line + still for line in lines(s.lattice / bohr)), str(s.n_atoms), *atoms]) + "\n"


def orb_indx(house: Calculation, bohr: float) -> str:
    out, orbital = [], 0
    for atom, z in enumerate(int(z) for z in house.structure.numbers):
        ls = shells(house, z)
        for k, l in enumerate(ls):
            for m in range(-l, l + 1):
                orbital += 1
                radius = house.basis[z].cutoff / bohr
                out.append(
                    f"{orbital} {atom + 1} 1 {SYMBOLS[z]} {orbital} {l + 1} {l} {m} {ls[: k + 1].count(l)} F s "
                    f"{radius:.6f} 0 0 0 {orbital}"
                )
    return "\n".join([f"{orbital} {orbital} = orbitals in unit cell and supercell.", "", "io ia is spec iao n l m z p", *out])


def write_nc(folder: Path, house: Calculation, shells_told: bool = True) -> None:
    """The same as NetCDF 4, with what of it is read."""
    bohr, rydberg = 0.529177210903, 27.211386245988 / 2
    h, overlap, there, _, cells = sparse(house, bohr, rydberg)
    s = house.structure
    with h5py.File(folder / f"{NAME}.nc", "w") as store:
        store["cell"], store["xa"] = s.lattice / bohr, s.positions / bohr
        store["lasto"] = np.cumsum(house.basis.n_orbitals(s.numbers)).astype("i4")
        store["Ef"], store["Qtot"] = [house.fermi_level / rydberg], [house.n_electrons]
        store["SPARSE/n_col"] = there.sum(axis=1).astype("i4")
        store["SPARSE/list_col"] = np.concatenate([np.flatnonzero(mask) + 1 for mask in there]).astype("i4")
        store["SPARSE/isc_off"] = cells.astype("i4")
        store["SPARSE/S"], store["SPARSE/H"] = overlap[there], np.array([part[there] for part in h])
        store["BASIS/basis"] = np.array([s.elements.index(int(z)) + 1 for z in s.numbers], "i4")
        for number, z in enumerate(s.elements):
            group = store.create_group(f"BASIS/{SYMBOLS[z]}_up")
            group.attrs["ID"], group.attrs["Atomic_number"] = np.array([number + 1], "i4"), np.array([z], "i4")
            ls = shells(house, z)
            if shells_told:
                group["orbnl_n"], group["orbnl_l"] = np.array(ls) + 1, np.array(ls)
                group["orbnl_z"] = [ls[: k + 1].count(l) for k, l in enumerate(ls)]
    (folder / f"{NAME}.XV").write_text(xv(house, bohr))
    (folder / f"{NAME}.ORB_INDX").write_text(orb_indx(house, bohr))


def sample(folder: Path) -> None:
    """A small calculation that is in order."""
    write(folder, crystal(Spin.NONE))
