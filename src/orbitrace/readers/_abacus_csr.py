"""H(R) and S(R) of ABACUS: one sparse matrix (CSR) for each R, as text of two kinds or binary.

Up to 3.10 the text has three lines for each R (values, columns, row pointers) under a line ``Rx Ry Rz n``; the files of 2026
(``hrs1_nao.csr``) wrap their numbers over many lines between comments, and repeat the cell. With off-diagonal spin, numbers
are complex, ``(re,im)``, and the two spins of an orbital are neighbours.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.structure import Floats, Ints
from orbitrace.readers._elements import FARTHEST, Elements
from orbitrace.readers._files import Buffer
from orbitrace.readers._numbers import REMEDY, floats_of_each, integers_of_each

MOST = 10**7  # orbitals, or R: more is damage
_BRACKETS = bytes.maketrans(b"(),", b"   ")
_OLD_HEAD = re.compile(
    rb"\s*(?:STEP:\s*\d+\s+)?Matrix Dimension of [HS]\(R\):\s*(\d{1,9})\s+Matrix number of [HS]\(R\):\s*(\d{1,9})[ \t\r]*\n"
)
_NEW_DIMENSION = re.compile(rb"(\d{1,9})\s*# number of localized basis")
_NEW_CELLS = re.compile(rb"(\d{1,9})\s*# number of Bravais lattice vector R")


@dataclass(frozen=True, eq=False)
class Csr:
    """One matrix.

    Parameters
    ----------
    layout
        "text", "text of 2026" or "binary".
    size
        Rows of the matrix: orbitals, twice as many where it is complex.
    elements
        Where its elements stand.
    values
        [n] as the file has them: Rydberg, or none for an overlap; complex with off-diagonal spin.
    cell_text
        The cell as the files of 2026 repeat it; else nothing.
    """

    layout: str
    size: int
    elements: Elements
    values: Floats | NDArray[np.complex128]
    cell_text: str = ""


@dataclass(frozen=True, eq=False)
class _Parts:
    """The numbers of a file.

    Parameters
    ----------
    heads
        [n_cells, 4] R and the number of elements.
    values
        Of all elements one number, or two in turn if they are complex.
    columns
        Of all elements.
    pointers
        [matrices that are not empty, size + 1] where each row begins among the elements of its R.
    """

    heads: Ints
    values: Floats
    columns: Ints
    pointers: Ints


def parse(data: Buffer, where: str) -> Csr:
    """Read a whole file of any kind.

    Raises
    ------
    InputError
        If it is no such file, cut short, its counts contradict each other, or it holds several steps.
    """
    head = bytes(data[:4096])
    if b"# number of localized basis" in head:
        return _parse_new(bytes(data), where)
    if (old := _OLD_HEAD.match(head)) is not None:
        size, n_cells = int(old.group(1)), int(old.group(2))
        _check_head(size, n_cells, where)
        body = bytes(data[old.end() :])
        return _assembled("text", size, _lines(body, size, n_cells, where), b"(" in body, where)
    if len(head) >= 12 and (b"\0" in head[:12]):
        step, size, n_cells = struct.unpack_from("<3i", head)
        if step >= 0:
            _check_head(size, n_cells, where)
            return _parse_binary(data, size, n_cells, where)
    raise InputError(where, "no matrix of ABACUS begins so", "H(R) or S(R) as out_mat_hs2 writes it", REMEDY)


def _parse_new(data: bytes, where: str) -> Csr:
    head, mark, body = data.partition(b"# CSR values")
    size, cells = _NEW_DIMENSION.search(head), _NEW_CELLS.search(head)
    if size is None or cells is None or not mark:
        raise InputError(where, "a damaged head", "numbers of orbitals and of R, and the comments of the format", REMEDY)
    n, n_cells = int(size.group(1)), int(cells.group(1))
    _check_head(n, n_cells, where)
    cell_text = head[cells.end() :].partition(b"#-----")[0].decode("utf-8", errors="replace")
    first = head.rpartition(b"#")[2].partition(b"\n")[2]  # behind the last comment: the first R
    parts = _sections(first, body, n, where)
    if len(parts.heads) != n_cells:
        raise InputError(where, f"{len(parts.heads)} matrices", f"{n_cells}, as its head says", REMEDY)
    return _assembled("text of 2026", n, parts, b"(" in body, where, cell_text)


def _parse_binary(data: Buffer, size: int, n_cells: int, where: str) -> Csr:
    """Integers of 32 bits, real numbers of 64; complex ones where the file is too long for real ones."""
    for width in (8, 16):
        parts = _binary(data, size, n_cells, width)
        if parts is not None:
            return _assembled("binary", size, parts, width == 16, where)
    raise InputError(where, f"{len(data)} bytes, which its counts do not explain", "a whole binary matrix", REMEDY)


def _binary(data: Buffer, size: int, n_cells: int, width: int) -> _Parts | None:
    """The numbers of a file whose elements have `width` bytes; None if its counts make no sense then."""
    at = 12
    heads, values, columns, pointers = [], [b""], [b""], [b""]
    for _ in range(n_cells):
        if at + 16 > len(data):
            return None
        heads.append(struct.unpack_from("<4i", data, at))
        n = heads[-1][3]
        ends = np.cumsum([at + 16, n * width, n * 4, 4 * (size + 1) if n > 0 else 0]).tolist()
        if n < 0 or ends[-1] > len(data):
            return None
        for part, start, end in zip((values, columns, pointers), ends, ends[1:], strict=False):
            part.append(bytes(data[start:end]))
        at = ends[-1]
    if at != len(data):
        return None
    integers_ = [np.frombuffer(b"".join(part), "<i4").astype(np.int64) for part in (columns, pointers)]
    numbers = np.frombuffer(b"".join(values), "<f8").astype(np.float64)
    return _Parts(np.array(heads, dtype=np.int64), numbers, integers_[0], integers_[1].reshape(-1, size + 1))


def _lines(body: bytes, size: int, n_cells: int, where: str) -> _Parts:
    """The matrices of the old text, four lines each, or one where a matrix is empty."""
    at = 0

    def line() -> bytes:
        nonlocal at
        if at >= len(body):
            raise InputError(where, "it ends too early", f"{n_cells} matrices", REMEDY)
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        found = body[at:end]
        at = end + 1
        return found

    heads: list[list[int]] = []
    parts: tuple[list[bytes], ...] = ([], [], [])
    for _ in range(n_cells):
        heads.append(_head(line(), where))
        for part in parts if heads[-1][3] else ():
            part.append(line())
    if body[at : at + 10**6].strip():
        raise InputError(where, "more than one step in it", "the matrices of one step", "Run with one ionic step")
    pointers, lengths = integers_of_each(parts[2], where)
    return _checked(np.array(heads, dtype=np.int64), parts[0], parts[1], pointers, lengths, size, where)


def _sections(first: bytes, body: bytes, size: int, where: str) -> _Parts:
    """The matrices of the new text: sections between comments, the next R at the end of the last."""
    marks = (b"# CSR column indices", b"# CSR row pointers", b"# CSR values")
    parts: tuple[list[bytes], ...] = ([], [], [])
    end = 0
    while end >= 0:
        for mark, part in zip(marks, parts, strict=True):
            start = end
            if start < 0:
                raise InputError(where, "it ends too early", "values, columns and row pointers of each R", REMEDY)
            end = body.find(mark, start)
            part.append(body[start : end if end >= 0 else len(body)])
            end = end + len(mark) if end >= 0 else end
    tails, lengths = integers_of_each([first, *parts[2]], where)
    begins = np.cumsum(lengths) - lengths
    pointers, heads = [], [tails[: lengths[0]]]
    for begin, length in zip(begins[1:], lengths[1:], strict=True):
        pointers.append(tails[begin : begin + min(length, size + 1)])
        heads.append(tails[begin + size + 1 : begin + length])
    if any(len(head) % 4 for head in heads) or any(len(head) == 0 or head[-1] == 0 for head in heads[:-1]):
        raise InputError(where, "sections that do not begin with R and a number of elements", "whole matrices", REMEDY)
    table = np.concatenate(heads).reshape(-1, 4)
    used = np.array([len(part) for part in pointers], dtype=np.int64)
    return _checked(table, parts[0], parts[1], np.concatenate(pointers), used, size, where)


def _head(line: bytes, where: str) -> list[int]:
    """R and the number of elements."""
    try:
        numbers = [int(word) for word in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or max(map(abs, numbers)) > 2**62 or numbers[3] < 0:
        raise InputError(where, f"{line[:60]!r} where a matrix begins", "R and the number of elements", REMEDY)
    return numbers


def _checked(
    heads: Ints, value_texts: list[bytes], column_texts: list[bytes], pointers: Ints, lengths: Ints, size: int, where: str
) -> _Parts:
    """Parts of which each matrix has as many as its head says."""
    counts = heads[heads[:, 3] != 0, 3]
    values, n_values = floats_of_each([text.translate(_BRACKETS) for text in value_texts], where)
    columns, n_columns = integers_of_each(column_texts, where)
    width = 2 if len(n_values) and n_values[0] == 2 * n_columns[0] else 1
    if len(counts) != len(n_values) or (lengths != size + 1).any():
        raise InputError(where, "row pointers that are not one more than rows", f"{size + 1} for each R", REMEDY)
    wrong = np.flatnonzero((n_values != width * counts) | (n_columns != counts))
    if len(wrong):
        k = wrong[0]
        found = f"{n_values[k]} values and {n_columns[k]} columns for an R that has {counts[k]} elements"
        raise InputError(where, found, "one of each", REMEDY)
    return _Parts(heads, values, columns, pointers.reshape(-1, size + 1))


def _assembled(layout: str, size: int, parts: _Parts, is_complex: bool, where: str, cell_text: str = "") -> Csr:
    """All matrices together."""
    counts = parts.heads[:, 3]
    rows = np.diff(parts.pointers, axis=1)
    full = counts[counts != 0]
    ends_fit = (parts.pointers[:, 0] == 0).all() and np.array_equal(parts.pointers[:, -1], full)
    if not ends_fit or (rows < 0).any() or len(parts.values) != (2 if is_complex else 1) * len(parts.columns):
        raise InputError(where, "row pointers that are not those of its elements", "0 to their number, ascending", REMEDY)
    cells = parts.heads[:, :3]
    if len(np.unique(cells, axis=0)) != len(cells) or (np.abs(cells) >= FARTHEST).any():
        raise InputError(where, "lattice vectors R that occur twice, or are far too long", "each R once", REMEDY)
    columns = parts.columns
    if not (len(columns) and columns.min() >= 0 and columns.max() < size):
        raise InputError(where, "elements in columns that it does not have, or none at all", f"0 to {size - 1}", REMEDY)
    values = parts.values.view(np.complex128) if is_complex else parts.values
    row = np.repeat(np.tile(np.arange(size), len(rows)), rows.reshape(-1))
    return Csr(layout, size, Elements(cells, np.repeat(np.arange(len(cells)), counts), row, columns), values, cell_text)


def _check_head(size: int, n_cells: int, where: str) -> None:
    if not (0 < size < MOST and 0 < n_cells < MOST):
        raise InputError(where, f"{n_cells} matrices of dimension {size}", "some of both", REMEDY)
