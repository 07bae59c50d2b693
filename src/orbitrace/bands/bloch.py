"""The sparse pencil of a periodic system: H(k) and S(k) on one pattern for all k.

H(k) = sum_R exp(+2 pi i k.R) H(R), k fractional; the phase knows R only, not the positions of atoms within the cell.

Each stored element of H(k) is a sum over the few R at which its pair of atoms meets. So the whole Bloch sum is *one* product
of a sparse real matrix [elements of the pattern, R] with the vector of phases; its two columns cos and sin, side by side
in memory, are the complex elements of H(k). No loop runs over blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks, Pairs, Values
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats, Ints, Structure

REAL_PHASE = 1e-12  # phases closer than this to the real axis are +1 or -1


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where the elements of H(k) and S(k) stand: CSR, rows and columns ascending; atoms couple as whole blocks.

    Parameters
    ----------
    counts
        [n_atoms] orbitals (times spin) of each atom.
    keys, at
        [n_couplings] sorted ``i * n_atoms + j`` of the coupled atoms, and the place of block (i, j) in a row of atom i.
    indptr, indices
        CSR arrays: [size + 1] and [n_elements].
    """

    counts: Ints
    keys: Ints
    at: Ints
    indptr: NDArray[np.integer]
    indices: NDArray[np.integer]

    @staticmethod
    def of(counts: Ints, *tables: Pairs) -> Pattern:
        """The pattern that holds the pairs of all `tables`, and every diagonal block."""
        n = len(counts)
        keys = np.unique(np.concatenate([t[:, 3].astype(np.int64) * n + t[:, 4] for t in tables] + [np.arange(n) * (n + 1)]))
        i, j = keys // n, keys % n
        ends = np.cumsum(counts[j])
        starts = ends - counts[j]
        first = np.searchsorted(i, np.arange(n))  # first coupling of each atom
        widths = np.bincount(i, weights=counts[j], minlength=n).astype(np.int64)
        indptr = np.concatenate([[0], np.cumsum(np.repeat(widths, counts))])
        columns = ranges((np.cumsum(counts) - counts)[j], counts[j])  # those of one row per atom, atom after atom
        indices = columns[ranges(np.repeat(starts[first], counts), np.repeat(widths, counts))]
        kind = np.int32 if indptr[-1] < np.iinfo(np.int32).max else np.int64
        return Pattern(counts, keys, starts - starts[first][i], indptr.astype(kind), indices.astype(kind))

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def atoms(self) -> Ints:
        """[size] the atom of each orbital."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def matrix(self, data: Values) -> sparse.csr_matrix:
        """The CSR matrix with these elements [n_elements]; index arrays are shared, not copied."""
        matrix = sparse.csr_matrix((data, self.indices, self.indptr), shape=(self.size, self.size), copy=False)
        matrix.has_canonical_format = True
        return matrix

    def places(self, pairs: Pairs, sector: int = 0, sectors: int = 1) -> Ints:
        """Place in the data array of every element of some blocks, block after block, each in row-major order.

        With `sectors` = 2 the blocks cover one spin of the pattern's: the upper left (0) or lower right (1) quarter.
        """
        i, j = pairs[:, 3].astype(np.int64), pairs[:, 4].astype(np.int64)
        first = (np.cumsum(self.counts) - self.counts)[i]
        width = np.diff(self.indptr)[first].astype(np.int64)
        rows, columns = self.counts[i] // sectors, self.counts[j] // sectors
        block = self.at[np.searchsorted(self.keys, i * len(self.counts) + j)]
        corner = self.indptr[first] + sector * rows * width + block + sector * columns
        line = ranges(np.zeros(len(i), dtype=np.int64), rows)  # number of each row within its block
        return ranges(np.repeat(corner, rows) + line * np.repeat(width, rows), np.repeat(columns, rows))


class Pencil:
    """H and S of a periodic system as functions of k.

    Parameters
    ----------
    structure, basis
        Atoms and shells; they fix the number of orbitals.
    hamiltonian
        Blocks in eV, spin-doubled ([[uu, ud], [du, dd]]) unless `spin` is NONE.
    overlap
        Blocks, dimensionless, never spin-doubled; S(k) is doubled here.
    spin
        Treatment of spin. For collinear spin, `channels` gives one pencil of half the size for each spin.

    Attributes
    ----------
    asymmetry
        Largest |H - H^dagger| of the blocks as they came, eV. The pencil holds the Hermitian part.
    reach
        Largest distance of coupled atoms, Å.

    Raises
    ------
    InputError
        If a block (i, j, R) lacks its partner (j, i, -R), holds NaN, or has a shape that the basis does not give.
    """

    def __init__(
        self, structure: Structure, basis: Basis, hamiltonian: Blocks, overlap: Blocks, spin: Spin = Spin.NONE
    ) -> None:
        counts = basis.n_orbitals(structure.numbers)
        n = spin.components
        self.structure, self.spin = structure, spin
        h, self.asymmetry = _hermitian(hamiltonian, counts * n, "Hamiltonian")
        s, _ = _hermitian(overlap, counts, "overlap")
        self.pattern = Pattern.of(counts * n, h.pairs, s.pairs)
        self.reach = max(_longest(structure.pair_vectors(table)) for table in (h.pairs, s.pairs))
        self._h = _BlochSum.of(self.pattern, h, h.values, [self.pattern.places(h.pairs)])
        self._s = _BlochSum.of(self.pattern, s, s.values, [self.pattern.places(s.pairs, part, n) for part in range(n)])

    @staticmethod
    def channels(calculation: Calculation) -> tuple[Pencil, ...]:
        """The pencils of a calculation: two for collinear spin (up, down), else one."""
        c = calculation
        if c.spin is not Spin.COLLINEAR:
            return (Pencil(c.structure, c.basis, c.hamiltonian, c.overlap, c.spin),)
        return tuple(Pencil(c.structure, c.basis, spin_channel(c.hamiltonian, s), c.overlap) for s in (0, 1))

    @property
    def size(self) -> int:
        """Number of orbitals, times two for spinors: the dimension of H(k)."""
        return self.pattern.size

    @property
    def translations(self) -> Ints:
        """[n_R, 3] the lattice vectors R at which H has blocks."""
        return self._h.translations

    @property
    def is_real(self) -> bool:
        """Whether the blocks are real, so that the levels at k and -k are the same."""
        return self._h.is_real and self._s.is_real

    def at(self, k: ArrayLike) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """H(k) in eV and S(k), k fractional [3].

        Both are real if the blocks are real and 2k is integer along every direction that couples, else both complex. They
        share one pair of index arrays.
        """
        h, s = self._h.data(k), self._s.data(k)
        if np.iscomplexobj(h) or np.iscomplexobj(s):
            h, s = h.astype(np.complex128, copy=False), s.astype(np.complex128, copy=False)
        return self.pattern.matrix(h), self.pattern.matrix(s)

    def derivative(self, k: ArrayLike, axis: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """dH/dk in eV Å and dS/dk in Å along the Cartesian `axis`, k in 1/Å: sum_R i R_axis exp(2 pi i k.R) H(R)."""
        lattice = self.structure.lattice
        h, s = (total.data(k, (total.translations @ lattice)[:, axis] * np.complex128(1j)) for total in (self._h, self._s))
        return self.pattern.matrix(h), self.pattern.matrix(s)

    def dense(self, k: ArrayLike) -> tuple[Values, Values]:
        """H(k) and S(k) as full arrays [size, size]."""
        h, s = self.at(k)
        return h.toarray(), s.toarray()


@dataclass(frozen=True, eq=False)
class _BlochSum:
    """The map from the phases of R to the data array of a matrix."""

    translations: Ints  # [n_R, 3]
    parts: tuple[sparse.csr_matrix, ...]  # [n_elements, n_R]: real part, and imaginary part if blocks are complex

    @staticmethod
    def of(pattern: Pattern, blocks: Blocks, values: Values, places: list[Ints]) -> _BlochSum:
        """Collect values by the place that they add to; each entry of `places` is one more copy of them (spin)."""
        low = blocks.pairs[:, :3].min(axis=0, initial=0).astype(np.int64)
        span = blocks.pairs[:, :3].max(axis=0, initial=0) - low + 1
        keys, which = np.unique(np.ravel_multi_index((blocks.pairs[:, :3] - low).T, span), return_inverse=True)
        translations = np.stack(np.unravel_index(keys, span), axis=1) + low
        shape = (len(pattern.indices), len(keys))
        kind = pattern.indices.dtype
        columns = np.repeat(which.astype(kind), blocks.shapes.prod(axis=1))
        index = (np.concatenate(places).astype(kind), np.tile(columns, len(places)))
        parts = (values.real, values.imag) if np.iscomplexobj(values) else (values,)
        sums = tuple(sparse.csr_matrix((np.tile(part, len(places)), index), shape=shape) for part in parts)
        return _BlochSum(translations, sums)

    @property
    def is_real(self) -> bool:
        return len(self.parts) == 1

    def data(self, k: ArrayLike, factors: Values | None = None) -> Values:
        """[n_elements] the matrix elements at k; with `factors` [n_R] each phase is multiplied by its own."""
        turns = self.translations @ np.asarray(k, dtype=np.float64)
        phases = np.exp(2j * np.pi * (turns - np.round(turns)))
        data: Values
        if factors is not None:
            phases = phases * factors
        elif self.is_real and (np.abs(phases.imag) < REAL_PHASE).all():
            data = self.parts[0] @ np.round(phases.real)
            return data
        columns = np.stack([phases.real, phases.imag], axis=1)
        real, *imaginary = (np.ascontiguousarray(part @ columns).view(np.complex128)[:, 0] for part in self.parts)
        return real + 1j * imaginary[0] if imaginary else real


def spin_channel(hamiltonian: Blocks, spin: int) -> Blocks:
    """The up (0) or down (1) part of spin-doubled blocks: real blocks of half the size. Collinear spin only."""
    half = hamiltonian.shapes // 2
    result = Blocks(hamiltonian.pairs, half, np.empty(int(half.prod(axis=1).sum())))
    for members, blocks in hamiltonian.groups():
        rows, columns = half[members[0]]
        part = blocks[:, spin * rows : (spin + 1) * rows, spin * columns : (spin + 1) * columns]
        result.with_group(result.values, members, part.real)
    return result


def ranges(starts: NDArray[np.integer], sizes: NDArray[np.integer]) -> Ints:
    """Concatenation of the ranges start .. start + size."""
    ends = np.cumsum(sizes, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    places: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts - ends + sizes, sizes)
    return places


def _longest(vectors: Floats) -> float:
    """Largest length."""
    return float(np.sqrt((vectors**2).sum(axis=1)).max(initial=0.0))


def _hermitian(blocks: Blocks, counts: Ints, what: str) -> tuple[Blocks, float]:
    """The Hermitian part of checked blocks, and the largest |B - B^dagger|."""
    expected = np.stack([counts[blocks.pairs[:, 3]], counts[blocks.pairs[:, 4]]], axis=1)
    wrong = np.flatnonzero((blocks.shapes != expected).any(axis=1))
    if len(wrong):
        raise _refuse(
            what, blocks, wrong[0], f"has the shape {blocks.shapes[wrong[0]]}", f"{expected[wrong[0]]} from the basis"
        )
    lonely = np.flatnonzero(blocks.reverse < 0)
    if len(lonely):
        raise _refuse(what, blocks, lonely[0], "has no partner (j, i, -R)", f"one ({len(lonely)} blocks lack it)")
    if not np.isfinite(blocks.values).all():
        place = int(np.flatnonzero(~np.isfinite(blocks.values))[0])
        pair = int(np.searchsorted(blocks.offsets, place, side="right")) - 1
        raise _refuse(what, blocks, pair, "holds NaN or infinity", "finite numbers")
    dagger = blocks.dagger().values
    asymmetry = float(np.abs(blocks.values - dagger).max(initial=0.0))
    return blocks.with_values((blocks.values + dagger) / 2), asymmetry


def _refuse(what: str, blocks: Blocks, pair: int, found: str, expected: str) -> InputError:
    """The error that names one block."""
    x, y, z, i, j = blocks.pairs[pair]
    return InputError(what, f"the block of atoms {i}, {j} and R = ({x}, {y}, {z}) {found}", expected)
