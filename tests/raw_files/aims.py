"""FHI-aims' sparse matrices as plain text, with ``basis-indices.out``, ``geometry.in`` and ``control.in``."""

from pathlib import Path

import numpy as np

from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import SYMBOLS
from raw_files import coded, crystal, fractions, moved

HARTREE = 27.2113845
SHELLS = {8: (0, 2, 0, 1)}  # functions stand by their kind, not by l
NAMES = {Spin.NONE: {"rs_hamiltonian.out": ""}, Spin.COLLINEAR: {"rs_hamiltonian_up.out": "uu", "rs_hamiltonian_dn.out": "dd"}}


def order(l: int) -> list[tuple[int, int]]:
    return [(m, -1 if m > 0 and m % 2 else 1) for m in range(-l, l + 1)]


def shells(house: Calculation, z: int) -> tuple[int, ...]:
    ls = SHELLS.get(z, house.basis[z].ls)
    return ls if sorted(ls) == list(house.basis[z].ls) else house.basis[z].ls


def as_run(house: Calculation) -> Calculation:
    """The calculation with atoms in the centre cell, to which the matrices refer; geometry.in may have them anywhere."""
    return moved(house, -np.ceil(fractions(house) - 0.5).astype(int)) if any(house.structure.pbc) else house


def write(folder: Path, house: Calculation, both: float = 0.03) -> None:
    """`both` is the share of elements whose conjugate partner is stored as well."""
    run = as_run(house)
    counts = run.basis.n_orbitals(run.structure.numbers)
    begins, n = np.cumsum(counts) - counts, int(counts.sum())
    names = NAMES[run.spin] | {"rs_overlap.out": "s"}
    cells = sorted({tuple(r) for r in run.overlap.pairs[:, :3].tolist()}, key=lambda r: (r != (0, 0, 0), r))
    rows: dict[tuple[int, int], dict[int, list[float]]] = {}
    rng = np.random.default_rng(0)
    for r, i, j, h, s in coded(run, order, {z: shells(house, z) for z in house.basis.elements}):
        for a, b in np.ndindex(s.shape):
            row, column = begins[j] + b, begins[i] + a  # the row is the orbital in cell R
            if row >= column or rng.random() < both:
                values = [s[a, b] if key == "s" else h[key][a, b] / HARTREE for key in names.values()]
                rows.setdefault((cells.index(r), int(row)), {})[int(column)] = values
    table = np.zeros((2, len(cells) + 1, n), dtype=int)
    table[1] = -1
    columns: list[int] = []
    numbers: list[list[float]] = []
    for (cell, row), entries in sorted(rows.items()):
        table[0, cell, row] = len(columns) + 1
        for column in sorted(entries):
            columns.append(column + 1)
            numbers.append(entries[column])
        table[1, cell, row] = len(columns)
    for k, name in enumerate(names):
        (folder / name).write_text("".join(f"{fortran(values[k])}\n" for values in [*numbers, [0.0] * len(names)]))
    (folder / "rs_indices.out").write_text(indices(table, cells, columns, n))
    (folder / "basis-indices.out").write_text(basis(house))
    (folder / "geometry.in").write_text(geometry(house))
    (folder / "control.in").write_text(control(house))


def fortran(value: float) -> str:
    """As Fortran's E24.16 has it: the first digit stands behind the point."""
    mantissa, exponent = f"{value:.15E}".split("E")
    power = int(exponent) + (1 if value else 0)
    digits = mantissa.lstrip("-").replace(".", "")
    return f"{'-' if value < 0 else ''}0.{digits}E{power:+03d}".rjust(24)


def indices(table: np.ndarray, cells: list[tuple[int, int, int]], columns: list[int], n: int) -> str:
    lines = [f"n_hamiltonian_matrix_size:     {len(columns) + 1}", f"n_cells_in_hamiltonian:     {len(cells) + 1}"]
    lines += [f"n_basis:      {n}", "cell_index"]
    lines += [" ".join(f"{x:10d}" for x in r) for r in [*cells, (999999999,) * 3]]
    for k in (0, 1):
        lines += [f"index_hamiltonian({k + 1},:,:)", *(" ".join(f"{x:10d}" for x in row) for row in table[k])]
    return "\n".join([*lines, "column_index_hamiltonian", *(f"{x:10d}" for x in [*columns, 0])]) + "\n"


def basis(house: Calculation) -> str:
    lines, number = ["", "  fn.   type   at.   n   l   m"], 0
    for atom, z in enumerate(int(z) for z in house.structure.numbers):
        ls = shells(house, z)
        for k, l in enumerate(ls):
            for m in range(-l, l + 1):
                number += 1
                lines.append(f"{number:5d} {'atomic' if k % 2 else 'hydro'} {atom + 1:5d} {l + ls[: k + 1].count(l)} {l} {m}")
    return "\n".join(lines) + "\n"


def geometry(house: Calculation) -> str:
    s = house.structure
    vectors = [f"lattice_vector {' '.join(f'{x:.14f}' for x in row)}" for row in s.lattice] if any(s.pbc) else []
    atoms = [
        f"atom {' '.join(f'{x:.14f}' for x in x)} {SYMBOLS[z]}  # an atom" for x, z in zip(s.positions, s.numbers, strict=True)
    ]
    return "\n".join([*vectors, "", *atoms]) + "\n"


def control(house: Calculation) -> str:
    species = [
        f"  species        {SYMBOLS[z]}\n    cut_pot  {house.basis[z].cutoff - 1:.9f}  1.0  1.0\n"
        for z in house.basis.elements
    ]
    return "xc pbe\n" + "".join(species)


def sample(folder: Path) -> None:
    """A small calculation that is in order."""
    write(folder, crystal(Spin.NONE))
