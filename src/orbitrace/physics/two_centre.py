"""Fitting two-centre tables to the blocks of calculations, in one pass over any number of them.

Two kinds of data, two fits, both by quintic B-splines on equal knots from 0 to the cutoff with a penalty on differences of
neighbouring coefficients (P-splines: P. H. C. Eilers and B. D. Marx, Statist. Sci. 11, 89 (1996)), which carries the curve
smoothly across gaps in the data:

* ``interpolate``: the data are a function of the distance but for rounding (overlaps). A few samples per 0.005 Å are kept
  and fitted tightly; what remains is the error of the spline (3e-11 for OpenMX's carbon overlaps).
* ``smooth``: the data scatter about their mean (Hamiltonians: each bond has its own neighbourhood). Normal equations are
  summed up; the curve is the mean, and the scatter about it is kept beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import lstsq, solve

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.slater_koster import BRIDGE, DEGREE, BondTable, TwoCentreTable, by_elements, channels, to_channels
from orbitrace.physics.structure import Floats, Ints, Structure

__all__ = ["Mode", "TwoCentreTable", "fit_two_centre"]

Mode = Literal["interpolate", "smooth"]
_BIN = 0.005  # Å; resolution at which distances are counted
_PER_BIN = 3  # samples kept in each, for 'interpolate'


def fit_two_centre(samples: Iterable[tuple[Structure, Basis, Blocks]], mode: Mode, where: str = "data") -> TwoCentreTable:
    """Fit a two-centre table to the blocks of some structures.

    Parameters
    ----------
    samples
        Structure, basis and blocks (overlaps, or Hamiltonians without spin) of each calculation; taken one by one, none is
        kept. All must have the same basis for the same element.
    mode
        "interpolate" for overlaps, "smooth" for Hamiltonians.
    where
        What the samples come from, for messages.

    Raises
    ------
    InputError
        If there is no sample, the bases differ, or blocks are spin-doubled.
    """
    basis: Basis | None = None
    bonds: dict[tuple[int, int], _Fit] = {}
    onsite: dict[int, _Mean] = {}
    for number, (structure, own, blocks) in enumerate(samples, 1):
        place = f"{where}, calculation {number} ({structure.n_atoms} atoms)"
        basis = own if basis is None else basis.merged(own, place)
        _check_shapes(structure, own, blocks, place)
        for z in structure.elements:
            members = np.flatnonzero(blocks.onsite & (structure.numbers[blocks.pairs[:, 3]] == z))
            onsite.setdefault(z, _Mean()).add(_stack(blocks, members))
        vectors = structure.pair_vectors(blocks.pairs)
        for zs, members, turned in by_elements(structure, blocks):
            if zs not in bonds:
                bonds[zs] = _FITS[mode](own[zs[0]], own[zs[1]])
            fit = bonds[zs]
            members = members[fit.select(np.linalg.norm(vectors[members], axis=1))]
            values = _stack(blocks, members)
            fit.add(-vectors[members] if turned else vectors[members], values.transpose(0, 2, 1) if turned else values)
    if basis is None:
        raise InputError(where, "no calculations", "at least one")
    tables = {zs: fit.finish(symmetric=zs[0] == zs[1]) for zs, fit in sorted(bonds.items())}
    return TwoCentreTable(basis, tables, {z: mean.spherical(basis[z]) for z, mean in sorted(onsite.items())})


class _Fit(ABC):
    """What one pair of elements collects while the samples pass by."""

    def __init__(self, first: Shells, second: Shells, spacing: float) -> None:
        self.shells = first, second
        self.cutoff = first.cutoff + second.cutoff
        self.n_intervals = int(np.ceil(self.cutoff / spacing))
        inner = np.linspace(0.0, self.cutoff, self.n_intervals + 1)
        self.knots = np.concatenate([np.zeros(DEGREE), inner, np.full(DEGREE, self.cutoff)])
        self.labels = channels(first, second)
        n_bins = int(self.cutoff / _BIN) + 2
        self.shortest, self.longest = np.full(n_bins, np.inf), np.full(n_bins, -np.inf)  # distance in each bin
        self.leak = 0.0

    def select(self, lengths: Floats) -> Ints:
        """Take note of some distances; which of them to `add`."""
        inside = np.flatnonzero(lengths <= self.cutoff + 1e-6)
        bins = (lengths[inside] / _BIN).astype(np.int64)
        np.minimum.at(self.shortest, bins, lengths[inside])
        np.maximum.at(self.longest, bins, lengths[inside])
        return inside[self._choose(bins)]

    def add(self, vectors: Floats, blocks: Floats) -> None:
        """Collect blocks [n, rows, columns] of pairs that `select` chose."""
        if len(vectors) == 0:
            return
        values = to_channels(blocks, vectors, *self.shells)
        copies = np.array([1 if m == 0 else 2 for _, _, m in self.labels])
        lost = (blocks**2).sum(axis=(1, 2)) - (copies * values**2).sum(axis=1)
        self.leak = max(self.leak, float(np.sqrt(max(lost.max(), 0.0))))
        self._collect(np.minimum(np.linalg.norm(vectors, axis=1), self.cutoff), values)

    def finish(self, symmetric: bool) -> BondTable:
        """The fitted functions; `symmetric` where both atoms are of one element.

        Zero, and covering no distance below the cutoff, if all pairs were beyond it (some codes write such pairs).
        """
        if not np.isfinite(self.shortest).any():
            nothing = np.zeros((len(self.knots) - DEGREE - 1, len(self.labels)))
            return BondTable(self.knots, nothing, self._covered(), np.zeros((self.n_intervals, len(self.labels))), 0.0)
        coefficients, spread, residual = self._solve()
        if symmetric:
            coefficients = self._same_both_ways(coefficients)
        return BondTable(self.knots, coefficients, self._covered(), spread, residual)

    def _same_both_ways(self, coefficients: Floats) -> Floats:
        """Between equal elements t_ba = (-1)^(l_a + l_b) t_ab, exactly."""
        ls = self.shells[0].ls
        partner = [self.labels.index((b, a, m)) for a, b, m in self.labels]
        signs = np.array([(-1.0) ** (ls[a] + ls[b]) for a, b, _ in self.labels])
        return (coefficients + signs * coefficients[:, partner]) / 2

    def _covered(self) -> Floats:
        """Distances between which the data have no long gap: [n, 2]. The cutoff counts: all is zero there."""
        seen = np.isfinite(self.shortest)
        low, high = np.append(self.shortest[seen], self.cutoff), np.append(self.longest[seen], self.cutoff)
        ends = np.flatnonzero(low[1:] - high[:-1] > BRIDGE)
        covered: Floats = np.stack([low[np.append(0, ends + 1)], high[np.append(ends, len(high) - 1)]], axis=1)
        return covered

    def _roughness(self, order: int) -> Floats:
        """Matrix that takes coefficients to their differences: [n_coefficients - order, n_coefficients]."""
        return np.diff(np.eye(len(self.knots) - DEGREE - 1), order, axis=0)

    @abstractmethod
    def _choose(self, bins: Ints) -> Ints: ...

    @abstractmethod
    def _collect(self, lengths: Floats, values: Floats) -> None: ...

    @abstractmethod
    def _solve(self) -> tuple[Floats, Floats, float]:
        """Coefficients, spread, residual as in `BondTable`."""


class _Interpolation(_Fit):
    """A few samples of each distance, and least squares at the end."""

    def __init__(self, first: Shells, second: Shells) -> None:
        super().__init__(first, second, spacing=0.03)
        self.counts = np.zeros(len(self.shortest), dtype=np.int64)
        self.lengths: list[Floats] = []
        self.values: list[Floats] = []

    def _choose(self, bins: Ints) -> Ints:
        order = np.argsort(bins, kind="stable")
        _, first, counts = np.unique(bins[order], return_index=True, return_counts=True)
        rank = np.arange(len(bins)) - np.repeat(first, counts)
        chosen = order[rank < _PER_BIN - self.counts[bins[order]]]
        np.add.at(self.counts, bins[chosen], 1)
        return chosen

    def _collect(self, lengths: Floats, values: Floats) -> None:
        self.lengths.append(lengths)
        self.values.append(values)

    def _solve(self) -> tuple[Floats, Floats, float]:
        lengths, values = np.concatenate(self.lengths), np.concatenate(self.values)
        design = BSpline.design_matrix(lengths, self.knots, DEGREE).toarray()
        rough = 1e-7 * self._roughness(order=3)
        target = np.concatenate([values, np.zeros((len(rough), values.shape[1]))])
        coefficients = lstsq(np.concatenate([design, rough]), target, lapack_driver="gelsy")[0]
        deviation = values - design @ coefficients
        bins = np.minimum((lengths / self.cutoff * self.n_intervals).astype(np.int64), self.n_intervals - 1)
        squares = np.zeros((self.n_intervals, values.shape[1]))
        np.add.at(squares, bins, deviation**2)
        spread = np.sqrt(squares / np.maximum(np.bincount(bins, minlength=self.n_intervals), 1)[:, None])
        return coefficients, spread, max(self.leak, float(np.abs(deviation).max()))


class _Smooth(_Fit):
    """Sums of squares and products on each interval between knots, and a penalised fit at the end."""

    def __init__(self, first: Shells, second: Shells) -> None:
        super().__init__(first, second, spacing=0.15)
        n, n_channels = self.n_intervals, len(self.labels)
        self.counts = np.zeros(n, dtype=np.int64)
        self.gram = np.zeros((n, DEGREE + 1, DEGREE + 1))
        self.moments = np.zeros((n, DEGREE + 1, n_channels))
        self.squares = np.zeros((n, n_channels))

    def _choose(self, bins: Ints) -> Ints:
        return np.arange(len(bins))

    def _collect(self, lengths: Floats, values: Floats) -> None:
        design = BSpline.design_matrix(lengths, self.knots, DEGREE)  # DEGREE + 1 neighbouring coefficients in each row
        weights = design.data.reshape(-1, DEGREE + 1)
        intervals = design.indices.reshape(-1, DEGREE + 1)[:, 0]
        for n in np.unique(intervals):
            mine = intervals == n
            self.counts[n] += mine.sum()
            self.gram[n] += weights[mine].T @ weights[mine]
            self.moments[n] += weights[mine].T @ values[mine]
            self.squares[n] += (values[mine] ** 2).sum(axis=0)

    def _solve(self) -> tuple[Floats, Floats, float]:
        rough = self._roughness(order=2)
        n_coefficients = rough.shape[1]
        normal = 1e-4 * self.counts.sum() / n_coefficients * rough.T @ rough
        moments = np.zeros((n_coefficients, self.squares.shape[1]))
        for n in range(self.n_intervals):
            normal[n : n + DEGREE + 1, n : n + DEGREE + 1] += self.gram[n]
            moments[n : n + DEGREE + 1] += self.moments[n]
        free = slice(0, n_coefficients - 3)  # value, slope and curvature vanish at the cutoff
        coefficients = np.zeros_like(moments)
        coefficients[free] = solve(normal[free, free], moments[free], assume_a="pos")
        local = np.stack([coefficients[n : n + DEGREE + 1] for n in range(self.n_intervals)])
        squares = self.squares - 2 * (local * self.moments).sum(axis=1) + (local * (self.gram @ local)).sum(axis=1)
        spread = np.sqrt(np.maximum(squares, 0.0) / np.maximum(self.counts, 1)[:, None])
        return coefficients, spread, float(spread.max())


_FITS: dict[Mode, type[_Interpolation] | type[_Smooth]] = {"interpolate": _Interpolation, "smooth": _Smooth}


class _Mean:
    """Mean of the blocks of atoms with themselves."""

    def __init__(self) -> None:
        self.count, self.total = 0, np.zeros(())

    def add(self, blocks: Floats) -> None:
        self.count += len(blocks)
        self.total = self.total + blocks.sum(axis=0)

    def spherical(self, shells: Shells) -> Floats:
        """The mean, averaged over all directions too: what is left does not turn with the structure."""
        mean = self.total / self.count
        result = np.zeros_like(mean)
        for la, a in zip(shells.ls, shells.slices, strict=True):
            for lb, b in zip(shells.ls, shells.slices, strict=True):
                if la == lb:
                    result[a, b] = np.trace(mean[a, b]) / (2 * la + 1) * np.eye(2 * la + 1)
        return result


def _stack(blocks: Blocks, members: Ints) -> Floats:
    """Some blocks of equal shape: [n, rows, columns]."""
    rows, columns = blocks.shapes[members[0]] if len(members) else (0, 0)
    stacked = blocks.values[blocks.offsets[members][:, None] + np.arange(rows * columns)]
    return stacked.real.reshape(len(members), rows, columns)


def _check_shapes(structure: Structure, basis: Basis, blocks: Blocks, where: str) -> None:
    counts = basis.n_orbitals(structure.numbers)
    if np.iscomplexobj(blocks.values) or not np.array_equal(blocks.shapes, counts[blocks.pairs[:, 3:]]):
        raise InputError(where, "blocks with spin", "blocks over the orbitals alone, real", "Fit one spin at a time")
