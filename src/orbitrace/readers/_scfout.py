"""The binary file ``.scfout`` of OpenMX: a raw C stream of int32 and float64, without record marks or checksums.

Layouts 0 (OpenMX 3.8 and before) and 3 (3.9 and 4.0) are known. Because the stream has no marks, every count is checked
against the others and against the size of the file before anything is read or allocated on its word. Only what is needed is
touched: H, S, the electron count from the density matrix, and the input that the file repeats; a third of the file or so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs
from orbitrace.physics.structure import Floats, Ints
from orbitrace.readers._files import Buffer

LAYOUTS = {0: "3.8 or before", 3: "3.9 or 4.0"}  # layout -> versions of OpenMX that write it
REMEDY = "Copy the file again from its source, or run the calculation again"
ECHO = 256  # bytes of each line of the input, as the file repeats it


@dataclass(frozen=True, eq=False)
class Scfout:
    """What a ``.scfout`` file holds, in Bohr and Hartree.

    Parameters
    ----------
    layout
        Key of `LAYOUTS`.
    spin
        SpinP_switch: 0 none, 1 collinear, 3 non-collinear.
    lattice, positions
        [3, 3] rows, and [n_atoms, 3]; not wrapped, what R refers to.
    orbitals
        [n_atoms] number of orbitals.
    pairs
        [n_pairs, 5] Rx, Ry, Rz, i, j in the order of the file.
    real, imaginary
        Flat arrays over `pairs`: Hks (1, 2 or 4 of them) and iHks (none, or 3).
    overlap
        Flat array.
    counted_electrons
        tr(rho S).
    chemical_potential, n_electrons
        Hartree; electrons in the cell.
    input_text
        The input, as the file repeats it.
    appended
        Text that somebody appended to the file (DeepH's users append the .out file), or nothing.
    has_vxc
        Whether the exchange-correlation potential follows the input (builds on 3.9.23).
    """

    layout: int
    spin: int
    lattice: Floats
    positions: Floats
    orbitals: Ints
    pairs: Pairs
    real: tuple[Floats, ...]
    imaginary: tuple[Floats, ...]
    overlap: Floats
    counted_electrons: float
    chemical_potential: float
    n_electrons: float
    input_text: str
    appended: str
    has_vxc: bool


def parse(data: Buffer, where: str) -> Scfout:
    """Read a whole file.

    Raises
    ------
    InputError
        If the bytes are no ``.scfout``, of an unknown version, cut short, or its counts contradict each other.
    """
    stream = _Stream(data, where)
    with np.errstate(invalid="ignore", over="ignore"):  # damaged numbers may be anything; they are refused below
        n_atoms, cells, vectors, layout, spin, order = _head(stream)
        orbitals, pairs = _pairs(stream, n_atoms, cells)
        lattice, positions = _geometry(stream, n_atoms, cells, vectors)
        size = int((orbitals[pairs[:, 3]] * orbitals[pairs[:, 4]]).sum())
        real, imaginary, overlap, counted = _matrices(stream, size, layout, spin, order)
    stream.integers(1, "solver")
    numbers = stream.floats(10, "energies")
    input_text = _echo(stream, int(stream.integers(1, "number of input lines")[0]))
    has_vxc, appended = _rest(stream, 8 * (spin + 1) * size)
    return Scfout(
        layout=layout,
        spin=spin,
        lattice=lattice,
        positions=positions,
        orbitals=orbitals,
        pairs=pairs,
        real=real,
        imaginary=imaginary,
        overlap=overlap,
        counted_electrons=counted,
        chemical_potential=float(numbers[0]),
        n_electrons=float(numbers[8]),
        input_text=input_text,
        appended=appended,
        has_vxc=has_vxc,
    )


class _Stream:
    """Numbers from a byte stream, one after the other; it never hands out what the stream does not hold."""

    def __init__(self, data: Buffer, where: str) -> None:
        self._data, self.where, self._at = data, where, 0
        # The file begins with the number of atoms: in the wrong byte order it would be a multiple of 2^16 or more.
        self._endian = "<" if int.from_bytes(data[:4], "little") <= int.from_bytes(data[:4], "big") else ">"

    def integers(self, count: int, what: str) -> Ints:
        """The next int32, as int64."""
        return np.frombuffer(self._data, self._endian + "i4", count, self._take(4 * count, what)).astype(np.int64)

    def floats(self, count: int, what: str) -> Floats:
        """The next float64, in the machine's byte order."""
        return np.frombuffer(self._data, self._endian + "f8", count, self._take(8 * count, what)).astype(np.float64)

    def skip(self, count: int) -> None:
        """Pass over float64."""
        self._take(8 * count, "values")

    def text(self, count: int, what: str) -> bytes:
        """The next bytes as they are."""
        start = self._take(count, what)
        return self._data[start : start + count]

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self._data) - self._at

    def reserve(self, size: int, what: str) -> None:
        """Make sure that so many bytes follow."""
        if not 0 <= size <= self.left:
            raise InputError(
                self.where,
                f"the file ends too early: {self.left} bytes follow byte {self._at}",
                f"{size} bytes for {what}",
                REMEDY,
            )

    def require(self, right: bool, found: str) -> None:
        """Refuse a file whose numbers cannot be those of a .scfout."""
        if not right:
            raise InputError(self.where, found, "a .scfout file of OpenMX 3.8, 3.9 or 4.0", REMEDY)

    def _take(self, size: int, what: str) -> int:
        self.reserve(size, what)
        self._at += size
        return self._at - size


def _head(stream: _Stream) -> tuple[int, Ints, Floats, int, int, int]:
    """Number of atoms, lattice translations (counted, and in Bohr), layout, spin, and order of the moments."""
    n_atoms, code, *leads, last_cell = (int(x) for x in stream.integers(6, "counts"))
    layout, spin = code // 4, code % 4
    known = " and ".join(f"{number} (OpenMX {versions})" for number, versions in LAYOUTS.items())
    stream.require(layout in LAYOUTS, f"its layout is {layout}, of a version that this reader does not know; it knows {known}")
    stream.require(spin in (0, 1, 3), f"its treatment of spin is {spin}, which does not exist")
    stream.require(not any(leads), f"atoms of leads are in it ({leads}), so it is a transport calculation, not a crystal")
    stream.require(n_atoms > 0, f"it counts {n_atoms} atoms")
    width = round((last_cell + 1) ** (1 / 3)) if last_cell >= 0 else 0
    stream.require(width**3 == last_cell + 1 and width % 2 == 1, f"it counts {last_cell + 1} translations, not an odd cube")
    order = int(stream.integers(1, "order of the moments")[0]) if layout else 1
    stream.require(1 <= order <= 20, f"the moments' order is {order}")
    vectors = stream.floats(4 * width**3, "lattice translations").reshape(-1, 4)[:, 1:]
    cells = stream.integers(4 * width**3, "lattice translations").reshape(-1, 4)[:, 1:]
    return n_atoms, cells, vectors, layout, spin, order


def _pairs(stream: _Stream, n_atoms: int, cells: Ints) -> tuple[Ints, Pairs]:
    """Orbitals of each atom, and the pairs in the order of the file."""
    orbitals = stream.integers(n_atoms, "orbitals of each atom")
    stream.require(bool(((orbitals > 0) & (orbitals < 1000)).all()), "an atom has no orbitals, or thousands")
    neighbours = stream.integers(n_atoms, "neighbours of each atom") + 1  # the atom itself comes first
    stream.require(bool((neighbours > 0).all()), "an atom has a negative number of neighbours")
    n_pairs = int(neighbours.sum())
    stream.reserve(8 * n_pairs, f"{n_pairs} pairs")
    first = np.repeat(np.arange(n_atoms), neighbours)
    second = stream.integers(n_pairs, "pairs") - 1
    cell = stream.integers(n_pairs, "pairs")
    stream.require(bool(((second >= 0) & (second < n_atoms)).all()), f"a neighbour is not among its {n_atoms} atoms")
    stream.require(bool(((cell >= 0) & (cell < len(cells))).all()), f"a neighbour is not in one of its {len(cells)} cells")
    pairs = np.column_stack([cells[cell], first, second]).astype(np.int32)
    itself = pairs[np.cumsum(neighbours) - neighbours]
    stream.require(bool((itself[:, 3] == itself[:, 4]).all() and not itself[:, :3].any()), "an atom is not its own first pair")
    return orbitals, pairs


def _geometry(stream: _Stream, n_atoms: int, cells: Ints, vectors: Floats) -> tuple[Floats, Floats]:
    """Lattice and positions; the first of four columns is junk."""
    lattice = stream.floats(12, "lattice").reshape(3, 4)[:, 1:]
    stream.skip(12)  # reciprocal vectors
    positions = stream.floats(4 * n_atoms, "positions").reshape(-1, 4)[:, 1:]
    agree = bool((np.abs(cells @ lattice - vectors) < 1e-6).all())
    stream.require(agree, "its lattice vectors and its lattice translations contradict each other")
    stream.require(bool((np.abs(positions) < 1e9).all()), "a position is not a finite number")
    return lattice, positions


def _matrices(
    stream: _Stream, size: int, layout: int, spin: int, order: int
) -> tuple[tuple[Floats, ...], tuple[Floats, ...], Floats, float]:
    """Real and imaginary parts of H, S, and tr(rho S); what stands between and behind them is passed over."""
    n_real, n_imaginary = spin + 1, 3 if spin == 3 else 0
    n_position, n_momentum, n_density = 3 * order, 3 if layout else 0, spin + 1
    n_all = n_real + n_imaginary + 1 + n_position + n_momentum + n_density + (2 if layout else 0)
    stream.reserve(8 * n_all * size + 88, f"{n_all} matrices of {size} elements")
    real = tuple(stream.floats(size, "Hamiltonian") for _ in range(n_real))
    imaginary = tuple(stream.floats(size, "Hamiltonian") for _ in range(n_imaginary))
    overlap = stream.floats(size, "overlap")
    stream.skip(size * (n_position + n_momentum))
    n_diagonal = 2 if spin else 1  # up and down; without spin, one stands for both
    counted = sum(float(stream.floats(size, "density matrix") @ overlap) for _ in range(n_diagonal))
    stream.skip(size * (n_density - n_diagonal + (2 if layout else 0)))
    return real, imaginary, overlap, counted * 2 / n_diagonal


def _echo(stream: _Stream, n_lines: int) -> str:
    """The input: lines of 256 bytes, each with a NUL and junk after it; long lines are cut into several."""
    stream.reserve(ECHO * n_lines, f"{n_lines} lines of input")
    stored = stream.text(ECHO * n_lines, "input")
    lines = (stored[start : start + ECHO].partition(b"\0")[0] for start in range(0, len(stored), ECHO))
    return b"".join(lines).decode("utf-8", errors="replace")


def _rest(stream: _Stream, vxc_size: int) -> tuple[bool, str]:
    """Whether the exchange-correlation potential follows the input, and the text that was appended to the file."""
    if stream.left == vxc_size:
        return True, ""
    rest = stream.text(stream.left, "rest")
    for start in (0, vxc_size):
        if len(rest) >= start and _is_text(rest[start:]):
            return start > 0, rest[start:].decode("utf-8", errors="replace")
    found = f"{len(rest)} bytes follow the input, which are no text"
    raise InputError(stream.where, found, f"none, or {vxc_size} for the exchange-correlation potential", REMEDY)


def _is_text(data: bytes) -> bool:
    """Whether bytes are lines of text (or none): no control characters, and at least one line break."""
    return not data or (b"\n" in data and not data.translate(None, _PRINTABLE))


_PRINTABLE = bytes([*b"\t\n\f\r", *range(32, 127), *range(128, 256)])
