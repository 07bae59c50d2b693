"""ABACUS' matrices, old and new text and binary, with ``STRU`` and ``.orb``."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import SYMBOLS
from raw_files import coded, crystal, fractions, moved

BOHR, RYDBERG = 0.529177, 13.605698
NAMES = {
    "old": ("data-HR-sparse_SPIN0.csr", "data-HR-sparse_SPIN1.csr", "data-SR-sparse_SPIN0.csr"),
    "new": ("hrs1_nao.csr", "hrs2_nao.csr", "sr_nao.csr"),
    "binary": ("data-HR-sparse_SPIN0.csr", "data-HR-sparse_SPIN1.csr", "data-SR-sparse_SPIN0.csr"),
}


def order(l: int) -> list[tuple[int, int]]:
    ms = [0] + [sign * m for m in range(1, l + 1) for sign in (1, -1)]
    return [(m, (-1) ** abs(m)) for m in ms]


def as_run(house: Calculation) -> Calculation:
    """The calculation with atoms grouped by element and inside the cell, as ABACUS has them."""
    whole = -np.floor(fractions(house)).astype(int)
    return moved(house, whole, np.argsort(house.structure.numbers, kind="stable"))


@dataclass
class Matrix:
    """A sparse matrix by R."""

    size: int
    rows: dict[tuple[int, int, int], list[tuple[int, int, complex]]] = field(default_factory=dict)


def write(folder: Path, house: Calculation, kind: str = "old", digits: int = 8, positions: str = "Direct") -> None:
    run = as_run(house)
    for name, matrix in zip(NAMES[kind], matrices(run), strict=True):
        if matrix is not None:
            what = "S" if name.startswith(("data-S", "s")) else "H"
            text = {"old": old_text, "new": new_text, "binary": binary}[kind](matrix, what, digits, run)
            (folder / name).write_bytes(text)
    (folder / "STRU").write_text(stru(house, positions))
    for z in house.basis.elements:
        (folder / f"{SYMBOLS[z]}.orb").write_text(orb(house, z))


def matrices(run: Calculation) -> list[Matrix | None]:
    """H (up), H down, S."""
    counts = run.basis.n_orbitals(run.structure.numbers)
    begins, n = np.cumsum(counts) - counts, int(counts.sum())
    spinor = run.spin is Spin.NONCOLLINEAR
    up, down, overlap = (Matrix(n * (2 if spinor else 1)) for _ in range(3))

    def put(matrix: Matrix, r, i, j, block, row=0, column=0) -> None:
        out = matrix.rows.setdefault(r, [])
        for a, b in np.ndindex(block.shape):
            if abs(block[a, b]) > 1e-10:
                place = (begins[i] + a, begins[j] + b)
                place = (2 * place[0] + row, 2 * place[1] + column) if spinor else place
                out.append((*place, block[a, b]))

    for r, i, j, h, s in coded(run, order):
        if spinor:
            for name, block in h.items():
                put(up, r, i, j, block / RYDBERG, *("ud".index(c) for c in name))
            for spin in (0, 1):
                put(overlap, r, i, j, s + 0j, spin, spin)
        else:
            put(overlap, r, i, j, s)
            put(up, r, i, j, h["uu" if "uu" in h else ""] / RYDBERG)
            if "dd" in h:
                put(down, r, i, j, h["dd"] / RYDBERG)
    return [up, down if run.spin is Spin.COLLINEAR else None, overlap]


def csr(matrix: Matrix) -> list[tuple[tuple[int, int, int], list, list, list]]:
    """Values, columns and row pointers of each R."""
    result = []
    for r, entries in sorted(matrix.rows.items()):
        entries.sort(key=lambda entry: entry[:2])
        rows = np.array([row for row, _, _ in entries], dtype=int)
        pointers = np.searchsorted(rows, np.arange(matrix.size + 1)).tolist()
        result.append((r, [value for *_, value in entries], [int(column) for _, column, _ in entries], pointers))
    return result


def number(value: complex, digits: int) -> str:
    if isinstance(value, complex):
        return f"({value.real:.{digits}e},{value.imag:.{digits}e})"
    return f"{value:.{digits}e}"


def old_text(matrix: Matrix, what: str, digits: int, run: Calculation) -> bytes:
    found = csr(matrix)
    lines = ["STEP: 0", f"Matrix Dimension of {what}(R): {matrix.size}", f"Matrix number of {what}(R): {len(found)}"]
    for r, values, columns, pointers in found:
        lines.append(" ".join(map(str, (*r, len(values)))))
        if values:
            for part in ([number(value, digits) for value in values], columns, pointers):
                lines.append("".join(f" {x}" for x in part))
    return ("\n".join(lines) + "\n").encode()


def new_text(matrix: Matrix, what: str, digits: int, run: Calculation) -> bytes:
    found, s = csr(matrix), run.structure
    lines = [
        " --- Ionic Step 1 ---", f" # print {what} matrix in real space {what}(R)", " 1 # number of spin directions",
        " 1 # spin index",
        f" {matrix.size} # number of localized basis", f" {len(found)} # number of Bravais lattice vector R",
        "", " user_defined_lattice", " 1.25", *(" " + " ".join(f"{x / 1.25:.8g}" for x in row) for row in s.lattice),
        " " + " ".join(SYMBOLS[z] for z in s.elements), " " + " ".join(str((s.numbers == z).sum()) for z in s.elements),
        " Direct", *(" " + " ".join(f"{x:.8g}" for x in row) for row in fractions(run)), "",
        " #------------------------------#", " # CSR Format #", " #------------------------------#", "",
    ]  # fmt: skip
    for r, values, columns, pointers in found:
        lines.append(" " + " ".join(map(str, (*r, len(values)))))
        shown = [number(value, digits) for value in values]
        for title, part, width in (
            ("values", shown, 6), ("column indices", columns, 16), ("row pointers", pointers, 16),
        ):  # fmt: skip
            lines.append(f" # CSR {title}")
            lines += [" " + " ".join(map(str, part[k : k + width])) for k in range(0, len(part), width)]
        lines.append("")
    return "\n".join(lines).encode()


def binary(matrix: Matrix, what: str, digits: int, run: Calculation) -> bytes:
    found = csr(matrix)
    parts = [np.array([0, matrix.size, len(found)], "<i4").tobytes()]
    for r, values, columns, pointers in found:
        parts.append(np.array([*r, len(values)], "<i4").tobytes())
        if values:
            parts += [np.array(values).tobytes(), np.array(columns, "<i4").tobytes(), np.array(pointers, "<i4").tobytes()]
    return b"".join(parts)


def stru(house: Calculation, kind: str) -> str:
    """With positions as a user gives them: outside of the cell."""
    s = house.structure
    constant = 1.7
    scale = {"Cartesian": constant * BOHR, "Cartesian_angstrom": 1.0, "Cartesian_au": BOHR}
    shown = fractions(house) if kind == "Direct" else s.positions / scale[kind]
    symbols = [SYMBOLS[z] for z in s.elements]
    lines = ["ATOMIC_SPECIES", *(f"{symbol}1 1.0 {symbol}.upf  # pseudopotential" for symbol in symbols), ""]
    lines += ["NUMERICAL_ORBITAL", *(f"./{symbol}.orb" for symbol in symbols), "", "LATTICE_CONSTANT", f"{constant} // Bohr"]
    lines += ["LATTICE_VECTORS", *(" ".join(f"{x:.14f}" for x in row) for row in s.lattice / constant / BOHR)]
    lines += ["ATOMIC_POSITIONS", f"{kind}  # kind"]
    for z, symbol in zip(s.elements, symbols, strict=True):
        mine = shown[s.numbers == z]
        lines += [
            f"{symbol}1",
            "0.0",
            str(len(mine)),
            *(" ".join(f"{x:.14f}" for x in row) + " 1 1 1 mag 0.0" for row in mine),
        ]
    return "\n".join(lines) + "\n"


def orb(house: Calculation, z: int) -> str:
    shells = house.basis[z]
    lines = [
        "---",
        f"Element {SYMBOLS[z]}",
        "Energy Cutoff(Ry) 100",
        f"Radius Cutoff(a.u.)         {shells.cutoff / BOHR:.9f}",
    ]
    lines += [
        f"Lmax {max(shells.ls)}",
        *(f"Number of {'SPDFG'[l]}orbital-->  {shells.ls.count(l)}" for l in sorted(set(shells.ls))),
    ]
    return "\n".join([*lines, "---", "SUMMARY  END"]) + "\n"


def sample(folder: Path) -> None:
    """A small calculation that is in order."""
    write(folder, crystal(Spin.NONE))
