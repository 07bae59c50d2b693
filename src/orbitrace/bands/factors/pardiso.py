"""PARDISO of Intel's MKL, called by ctypes: multifrontal L D L^H with Bunch-Kaufman pivots. x86-64; the extra ``mkl``.

Measured traps and what is done about them: matrices are handed over as what they are (-2 real symmetric, -4 complex
Hermitian); all of ``iparm`` is set, for the defaults changed between versions; pivoting stays Bunch-Kaufman, because without
it factors of complex matrices are wrong and nothing says so (the door tries each factor on a right-hand side besides).

For complex matrices PARDISO reports no inertia. But D alone can be solved with (phase 332, one right-hand side at a time:
with several of them it mixes elements up), and D^-1 consists of blocks of one and two. Three right-hand sides tell them
apart and give their elements (`_pairs.py`), so the count costs milliseconds. All is done in one thread: with two, phase 332
returned numbers that are not finite, and counts were wrong by three. Several k points run side by side in processes instead.

Source: O. Schenk, K. Gaertner, Electron. Trans. Numer. Anal. 23, 158 (2006); Intel oneMKL, "oneMKL PARDISO".
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from orbitrace.bands.factors import SingularError
from orbitrace.bands.factors._pairs import negatives_of
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats, Ints

Array: TypeAlias = NDArray[Any]

INSTALL = "Install it by: pip install 'orbitrace[mkl]' (x86-64 Linux and Windows only)"
TYPES = {"f": -2, "c": -4}  # real symmetric and complex Hermitian, both indefinite
ANALYSE, FACTORISE, SOLVE, SOLVE_D, FORGET_FACTOR, FORGET_ALL = 11, 22, 33, 332, 0, -1
ZERO_PIVOT, NO_MEMORY = -4, -2
LIBRARY = 8 << 20  # bytes that MKL itself takes


def missing() -> str:
    """How to install it, if it is not."""
    return "" if _library() is not None else INSTALL


@cache
def _library() -> Any:
    """The library of the wheel ``mkl``, with one thread; None if it is not installed."""
    try:
        files = metadata.files("mkl") or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name.startswith(("libmkl_rt.", "mkl_rt.")) and file.suffix != ".lib":
            try:
                library = ctypes.CDLL(str(file.locate()))
            except OSError:
                return None
            library.MKL_Set_Interface_Layer(0)  # integers of 32 bits
            library.MKL_Set_Num_Threads(1)
            return library
    return None


def analyse(pattern: sparse.csr_matrix, kind: np.dtype[Any]) -> PardisoAnalysis:
    """The analysis of a pattern; see the contract of the room."""
    size, kept = pattern.shape[0], _index_type(pattern.nnz)
    rows = np.repeat(np.arange(size, dtype=np.int32), np.diff(pattern.indptr))
    upper = np.flatnonzero(pattern.indices >= rows).astype(kept)
    rows, columns = rows[upper], pattern.indices[upper].astype(np.int32)
    bare = np.setdiff1d(np.arange(size, dtype=np.int32), rows[rows == columns])
    if len(bare):  # PARDISO wants every diagonal element, if only a zero
        order = np.lexsort((np.concatenate([columns, bare]), np.concatenate([rows, bare])))
        rows, columns = np.concatenate([rows, bare])[order], np.concatenate([columns, bare])[order]
        upper = np.concatenate([upper, np.full(len(bare), pattern.nnz, dtype=kept)])[order]
    if _index_type(len(rows)) is np.int64:
        raise InputError("factorisation pardiso", f"{len(rows)} elements", "less than 2^31", "Use another factorisation")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))]).astype(np.int32)
    return PardisoAnalysis(kind, upper, indptr, columns)


def _index_type(n: int) -> type[np.int32] | type[np.int64]:
    """The shorter type of integers that can count to n."""
    return np.int32 if n < np.iinfo(np.int32).max else np.int64


@dataclass(eq=False)
class PardisoAnalysis:
    """The upper triangle of a pattern, and handles of PARDISO that have analysed it and are free for a factor.

    Parameters
    ----------
    kind
        Type of the elements.
    take
        [n] place of each element of the upper triangle in the data of the whole matrix; one past the end for a zero.
    indptr, indices
        CSR arrays of the upper triangle.
    """

    kind: np.dtype[Any]
    take: Array
    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    free: list[_Handle] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = _Handle(self)
        told = 1024 * max(int(first.iparm[14]), int(first.iparm[15]) + int(first.iparm[16]))
        self.bytes = LIBRARY + told + len(self.take) * (self.kind.itemsize + self.take.itemsize + self.indices.itemsize)
        self.free.append(first)

    def memory(self) -> int:
        """Bytes: what PARDISO foresees, and the upper triangle."""
        return self.bytes

    def factor(self, matrix: sparse.csr_matrix, pivoting: bool) -> Pardiso:  # noqa: ARG002 it always pivots
        """Factorise a Hermitian matrix; see the contract of the room."""
        handle = self.free.pop() if self.free else _Handle(self)
        bare = len(self.take) > 0 and int(self.take.max()) == len(matrix.data)
        data = (np.append(matrix.data, 0) if bare else matrix.data)[self.take]
        error = handle.call(FACTORISE, data)
        perturbed = int(handle.iparm[13])
        if error or perturbed:
            handle.call(FORGET_FACTOR, data)
            self.free.append(handle)
            if error not in (0, ZERO_PIVOT):
                raise _failure(FACTORISE, error)
            raise SingularError(f"{perturbed or 'some'} pivots vanish")
        return Pardiso(self, handle, data)


class Pardiso:
    """A factorisation by PARDISO; its handle goes back to the analysis when nobody holds it any more."""

    def __init__(self, analysis: PardisoAnalysis, handle: _Handle, data: Values) -> None:
        self.handle, self.data = handle, data
        weakref.finalize(self, _give_back, handle, analysis.free).atexit = False

    def solve(self, block: Values) -> Values:
        """A^-1 block."""
        right = np.asfortranarray(block, dtype=self.data.dtype)
        result: Any = np.empty_like(right, order="F")
        if error := self.handle.call(SOLVE, self.data, right, result):
            raise _failure(SOLVE, error)
        solution: Values = result
        return solution

    def negatives(self) -> int | None:
        """Number of negative eigenvalues: PARDISO's for real matrices, else those of D."""
        if self.data.dtype.kind == "f":
            return int(self.handle.iparm[22])
        eps = float(np.finfo(self.data.dtype.char).eps)
        return negatives_of(self._inverse_d, len(self.handle.indptr) - 1, eps)

    def _inverse_d(self, vector: Floats) -> Values:
        """D^-1 times a vector, in the order of elimination."""
        right = vector.astype(self.data.dtype)[:, None]
        result = np.empty_like(right)
        if error := self.handle.call(SOLVE_D, self.data, right, result):
            raise _failure(SOLVE_D, error)
        return result[:, 0].astype(np.complex128)


def _give_back(handle: _Handle, free: list[_Handle]) -> None:
    """Free the memory of a factor, and keep the analysis for the next one."""
    handle.call(FORGET_FACTOR, None)
    free.append(handle)


def _failure(phase: int, error: int) -> Exception:
    """What an error of PARDISO means."""
    if error == NO_MEMORY:
        return MemoryError("PARDISO finds no memory")
    return RuntimeError(f"PARDISO fails in phase {phase} with error {error}")


class _Handle:
    """PARDISO's own memory for one pattern: an analysis, and at most one factor."""

    def __init__(self, analysis: PardisoAnalysis) -> None:
        self.kind, self.indptr, self.indices = analysis.kind, analysis.indptr, analysis.indices
        self.pt = np.zeros(64, dtype=np.int64)
        self.iparm = _parameters(analysis.kind)
        if error := self.call(ANALYSE, np.ones(len(self.indices), dtype=self.kind)):
            raise _failure(ANALYSE, error)
        weakref.finalize(self, _forget, self.pt, self.kind, self.iparm, self.indptr, self.indices).atexit = False

    def call(self, phase: int, data: Array | None, right: Array | None = None, result: Array | None = None) -> int:
        """Run a phase; its error."""
        return _call(self.pt, self.kind, phase, data, self.indptr, self.indices, self.iparm, right, result)


def _forget(
    pt: Ints, kind: np.dtype[Any], iparm: NDArray[np.int32], indptr: NDArray[np.int32], indices: NDArray[np.int32]
) -> None:
    """Free all that PARDISO holds behind a handle."""
    _call(pt, kind, FORGET_ALL, None, indptr, indices, iparm)


def _parameters(kind: np.dtype[Any]) -> NDArray[np.int32]:
    """PARDISO's iparm; the comments count from one, as its manual does."""
    iparm = np.zeros(64, dtype=np.int32)
    iparm[0] = 1  # 1: the rest is set here
    iparm[1] = 2  # 2: nested dissection of METIS
    iparm[9] = 13  # 10: pivots below 1e-13 of the norm vanish, and are reported
    iparm[20] = 1  # 21: Bunch-Kaufman; nothing else is right for complex Hermitian matrices
    iparm[27] = kind in (np.dtype(np.float32), np.dtype(np.complex64))  # 28: single precision
    iparm[34] = 1  # 35: indices from zero
    return iparm


def _call(
    pt: Ints,
    kind: np.dtype[Any],
    phase: int,
    data: Array | None,
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    iparm: NDArray[np.int32],
    right: Array | None = None,
    result: Array | None = None,
) -> int:
    """Call the library; arrays are passed by their places, so they must be contiguous, blocks column by column."""
    size, error = len(indptr) - 1, ctypes.c_int(0)
    one, none = ctypes.c_int(1), ctypes.c_int(0)
    columns = 1 if right is None else right.shape[1]
    place = [
        None if a is None else a.ctypes.data_as(ctypes.c_void_p) for a in (pt, data, indptr, indices, iparm, right, result)
    ]
    numbers = [ctypes.byref(ctypes.c_int(n)) for n in (TYPES[kind.kind], phase, size, columns)]
    _library().pardiso(
        place[0], ctypes.byref(one), ctypes.byref(one), *numbers[:3], place[1], place[2], place[3], None, numbers[3],
        place[4], ctypes.byref(none), place[5], place[6], ctypes.byref(error),
    )  # fmt: skip
    return error.value
