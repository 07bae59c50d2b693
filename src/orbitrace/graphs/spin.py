"""Spin in the blocks of a Hamiltonian: which of their elements are independent, and how these turn.

A spinor block is H = sum_mu sigma_mu (x) Q_mu over the unit matrix sigma_0 and Pauli's matrices. A rotation turns Q_x, Q_y and
Q_z as an axial vector and leaves Q_0 a scalar, beside what it does to the orbitals. Over real orbitals, time reversal
H -> sigma_y H* sigma_y leaves

    H = sigma_0 (x) A + i sum_a sigma_a (x) B_a        with real A, B_x, B_y, B_z

unchanged and flips the sign of the four other real matrices, so that a non-magnetic system needs half of them.

What is learned of a block are its independent *elements*, real numbers in a row: without spin all elements of the block;
of collinear spin those of uu and dd; of a non-magnetic spinor block the real and imaginary parts of its upper half (uu, ud),
since dd = uu* and du = -ud*; of a magnetic one the real and imaginary parts of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks, Values
from orbitrace.physics.calculation import Spin
from orbitrace.physics.structure import Floats, Ints

TimeReversal = Literal["auto", "on", "off"]
MAGNETIC_FROM = 1e-3  # eV; largest change of H under time reversal, halved, that passes for noise of the DFT code


class SpinKind(StrEnum):
    """How spin is learned: that of the data, and of spinors whether time reversal holds."""

    NONE = "none"
    COLLINEAR = "collinear"
    SPIN_ORBIT = "spin-orbit"  # spinors, symmetric under time reversal
    MAGNETIC = "magnetic"  # spinors, not so

    @property
    def spin(self) -> Spin:
        """Treatment of spin in the calculations."""
        return Spin(self.value) if self in (SpinKind.NONE, SpinKind.COLLINEAR) else Spin.NONCOLLINEAR

    @property
    def is_complex(self) -> bool:
        """Whether the elements are real and imaginary parts in turn."""
        return self.spin is Spin.NONCOLLINEAR

    @property
    def matrices(self) -> int:
        """Real matrices over the orbitals that a block has: 1, 2, 4 or 8."""
        return len(_PATTERNS[self])

    @property
    def traces(self) -> int:
        """Invariant labels of each pair of shells: 1, or with spin 2 (scalar and vector, see `graphs.traces`)."""
        return len({m.label for m in MULTIPLETS[self]})


@dataclass(frozen=True)
class Multiplet:
    """Matrices that rotations mix: a spin scalar (rank 0) or an axial vector in the order y, z, x (rank 1).

    `label` numbers the trace label that it belongs to.
    """

    rank: int
    label: int


_SCALAR, _VECTOR = Multiplet(0, 0), Multiplet(1, 1)
MULTIPLETS = {
    SpinKind.NONE: (_SCALAR,),
    SpinKind.COLLINEAR: (_SCALAR, Multiplet(0, 1)),  # sum and difference of up and down
    SpinKind.SPIN_ORBIT: (_SCALAR, _VECTOR),  # A, B
    SpinKind.MAGNETIC: (_SCALAR, _VECTOR, _SCALAR, _VECTOR),  # A, B, and what time reversal flips
}

# Axes of the elements of a block: orbitals a, b; spins s, t; r for real and imaginary part.
_AXES = {SpinKind.NONE: "ab", SpinKind.COLLINEAR: "sab", SpinKind.SPIN_ORBIT: "atbr", SpinKind.MAGNETIC: "satbr"}


def _patterns() -> dict[SpinKind, Floats]:
    """[matrices, spin axes] where each real matrix stands among the elements; orthonormal."""
    sigma = np.array([[[1, 0], [0, 1]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]], [[0, 1], [1, 0]]])  # 0, y, z, x
    odd = sigma * np.array([1j, 1, 1, 1])[:, None, None]
    even = sigma * np.array([1, 1j, 1j, 1j])[:, None, None]
    whole = np.ascontiguousarray(np.concatenate([even, odd])).view(np.float64).reshape(8, 2, 2, 2)
    return {
        SpinKind.NONE: np.ones(1),
        SpinKind.COLLINEAR: np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2),
        SpinKind.SPIN_ORBIT: whole[:4, 0],
        SpinKind.MAGNETIC: whole / np.sqrt(2),
    }


_PATTERNS = _patterns()


def _spin_axes(kind: SpinKind) -> str:
    return _AXES[kind].replace("a", "").replace("b", "")


def elements_of(matrices: Floats, kind: SpinKind) -> Floats:
    """Orthogonal map from real matrices to the elements of a block: [elements, ...] from [matrices, n_i, n_j, ...]."""
    elements: Floats = np.einsum(f"c{_spin_axes(kind)},cab...->{_AXES[kind]}...", _PATTERNS[kind], matrices)
    return elements.reshape(-1, *matrices.shape[3:])


def to_elements(dense: Values, kind: SpinKind) -> Floats:
    """Independent elements [g, elements] of blocks [g, rows, columns], spin-doubled unless `kind` is NONE.

    Those of SPIN_ORBIT belong to the part of the blocks that is symmetric under time reversal.
    """
    g, rows, columns = dense.shape
    if kind is SpinKind.NONE:
        return np.asarray(dense.reshape(g, -1), dtype=np.float64)
    q = dense.reshape(g, 2, rows // 2, 2, columns // 2)
    if kind is SpinKind.COLLINEAR:
        return np.stack([q[:, 0, :, 0], q[:, 1, :, 1]], axis=1).real.reshape(g, -1)
    if kind is SpinKind.SPIN_ORBIT:
        uu, ud, du, dd = q[:, 0, :, 0], q[:, 0, :, 1], q[:, 1, :, 0], q[:, 1, :, 1]
        upper = np.stack([uu + dd.conj(), ud - du.conj()], axis=2) / 2
        return np.ascontiguousarray(upper, dtype=np.complex128).view(np.float64).reshape(g, -1)
    return np.ascontiguousarray(q, dtype=np.complex128).view(np.float64).reshape(g, -1)


def to_dense(elements: Floats, n_i: int, n_j: int, kind: SpinKind) -> Values:
    """The inverse of `to_elements`: [g, rows, columns] blocks as a calculation has them."""
    g = len(elements)
    if kind is SpinKind.NONE:
        return elements.reshape(g, n_i, n_j)
    if kind is SpinKind.COLLINEAR:
        both = np.zeros((g, 2, n_i, 2, n_j))
        both[:, 0, :, 0], both[:, 1, :, 1] = elements.reshape(g, 2, n_i, n_j).transpose(1, 0, 2, 3)
        return both.reshape(g, 2 * n_i, 2 * n_j)
    numbers = np.ascontiguousarray(elements).view(np.complex128)
    if kind is SpinKind.SPIN_ORBIT:
        upper = numbers.reshape(g, n_i, 2, n_j)
        lower = np.stack([-upper[:, :, 1].conj(), upper[:, :, 0].conj()], axis=2)
        numbers = np.stack([upper, lower], axis=1)
    whole: Values = numbers.reshape(g, 2 * n_i, 2 * n_j)
    return whole


@cache
def hermitian_partner(n_i: int, n_j: int, kind: SpinKind) -> tuple[Ints, Floats]:
    """For every element of a block (i, j): which element of the block (j, i) is its Hermitian partner, and its sign."""
    axes = _AXES[kind]
    swap = {"a": "b", "b": "a"} | ({"s": "t", "t": "s"} if kind is SpinKind.MAGNETIC else {})
    sizes = {"a": n_j, "b": n_i, "s": 2, "t": 2, "r": 2}
    theirs = np.arange(np.prod([sizes[axis] for axis in axes])).reshape([sizes[axis] for axis in axes])
    order = [axes.index(swap.get(axis, axis)) for axis in axes]
    mine = theirs.transpose(order)
    signs = np.ones(mine.shape)
    if kind.is_complex:
        signs[..., 1] = -1  # imaginary parts
    if kind is SpinKind.SPIN_ORBIT:
        signs[:, 1] = -1  # ud, whose partner is du = -ud*
    return mine.reshape(-1), signs.reshape(-1)


def doubled(blocks: Blocks, kind: SpinKind) -> Blocks:
    """sigma_0 (x) blocks over the orbitals alone, as a Hamiltonian of this kind has them."""
    if kind is SpinKind.NONE:
        return blocks
    n = 4 * len(blocks.values)
    whole = Blocks(blocks.pairs, 2 * blocks.shapes, np.zeros(n, np.complex128) if kind.is_complex else np.zeros(n))
    for members, dense in blocks.groups():
        g, rows, columns = dense.shape
        both = np.zeros((g, 2, rows, 2, columns))
        both[:, 0, :, 0] = both[:, 1, :, 1] = dense.real
        whole.with_group(whole.values, members, both)
    return whole


def projected(blocks: Blocks, kind: SpinKind) -> Blocks:
    """The part of blocks that a Hamiltonian of this kind can have: of SPIN_ORBIT what time reversal leaves alone."""
    if kind is not SpinKind.SPIN_ORBIT:
        return blocks
    values = blocks.values.astype(np.complex128)
    for members, dense in blocks.groups():
        rows, columns = (n // 2 for n in dense.shape[1:])
        blocks.with_group(values, members, to_dense(to_elements(dense, kind), rows, columns, kind))
    return blocks.with_values(values)


def mean_over_spin(hamiltonian: Blocks, kind: SpinKind) -> Blocks:
    """The real part of (uu + dd) / 2: blocks over the orbitals alone."""
    if kind is SpinKind.NONE:
        return hamiltonian
    mean = Blocks(hamiltonian.pairs, hamiltonian.shapes // 2, np.zeros(len(hamiltonian.values) // 4))
    for members, dense in hamiltonian.groups():
        g, rows, columns = dense.shape
        q = dense.reshape(g, 2, rows // 2, 2, columns // 2)
        mean.with_group(mean.values, members, (q[:, 0, :, 0] + q[:, 1, :, 1]).real / 2)
    return mean


def time_reversal_violation(hamiltonian: Blocks) -> float:
    """Largest element of (H - T H T^-1) / 2 of spinor blocks, eV: zero without magnetism."""
    largest = 0.0
    for _, dense in hamiltonian.groups():
        g, rows, columns = dense.shape
        q = dense.reshape(g, 2, rows // 2, 2, columns // 2)
        odd = (q[:, 0, :, 0] - q[:, 1, :, 1].conj(), q[:, 0, :, 1] + q[:, 1, :, 0].conj())
        largest = max(largest, *(float(np.abs(part).max(initial=0.0)) / 2 for part in odd))
    return largest


def check_time_reversal(violation: float, where: str) -> None:
    """Refuse Hamiltonians that time reversal changes by more than noise, with an InputError."""
    if violation > MAGNETIC_FROM:
        raise InputError(
            where,
            f"time reversal changes H by up to {2 * violation:.3g} eV: it is magnetic",
            f"at most {2 * MAGNETIC_FROM:g} eV, because the network is symmetric under time reversal",
            "Set time_reversal: off in section train of the model",
        )


def kind_of(spin: Spin, violation: float, time_reversal: TimeReversal) -> SpinKind:
    """How Hamiltonians with this treatment of spin are learned; `violation` is how far they break time reversal, eV."""
    if spin is not Spin.NONCOLLINEAR:
        return SpinKind(spin.value)
    return SpinKind.MAGNETIC if time_reversal == "off" or violation > MAGNETIC_FROM else SpinKind.SPIN_ORBIT
