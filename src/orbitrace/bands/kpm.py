"""The kernel polynomial method for H c = E S c: spectral densities of large matrices without a level.

With the energies mapped onto x in [-1, 1], the density of states is a Chebyshev series whose moments are the traces of
T_m(A), A = (S^-1 H - b) / a. They are estimated by random vectors v with covariance S^-1, v = S^-1/2 z: for t_m = T_m(A) v

    tr P T_2m(A)     = 2 E[Re (S t_m)^H P t_m]     - tr P
    tr P T_2m+1(A)   = 2 E[Re (S t_m)^H P t_m+1]   - tr P A

for any group P of orbitals, so that half of the recursion is enough for Mulliken's projections too. Each step is a product
with H and a solution with the sparse factor of S; S^-1/2 is a Chebyshev series in S itself. Wanted is the density broadened by
a Gaussian, of which the series gives all digits if it is long enough: no other kernel blurs it.

Sources: A. Weisse, G. Wellein, A. Alvermann, H. Fehske, Rev. Mod. Phys. 78, 275 (2006); the doubling for projections is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, linalg, sparse

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import check_overlap
from orbitrace.bands.factors import AUTO, Factor, SingularError, factor
from orbitrace.bands.levels import point
from orbitrace.bands.projections import Projection
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats

STEPS = 60  # of Lanczos for the ends of the spectrum
MARGIN = 0.02  # of the spectrum, beyond these
DIGITS = 5.0  # moments are kept up to exp(-DIGITS^2 / 2) of the first: 4e-6
ROOT = 1e-7  # relative error of S^-1/2
MOST_TERMS = 20000


@dataclass(frozen=True, eq=False)
class Moments:
    """What is asked at each k.

    Parameters
    ----------
    energies
        [n] eV at which densities are wanted.
    width
        Standard deviation of the Gaussians, eV: it fixes the number of moments.
    vectors, seed
        Random vectors; 0 stands for all unit vectors (exact traces, for small matrices).
    block
        Vectors at a time.
    projections
        Groups whose densities are wanted beside the whole.
    """

    energies: Floats
    width: float
    vectors: int = 8
    seed: int = 0
    block: int = 8
    projections: tuple[Projection, ...] = ()


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """Densities at one k, 1/eV.

    Parameters
    ----------
    whole
        [n_vectors, n] estimates by each random vector; one exact row if there are none.
    groups
        [n, n_groups] of the groups of all projections, one after the other: mean over the vectors.
    """

    whole: Floats
    groups: Floats


def spectral_density(pencil: Pencil, k: Floats, ask: Moments) -> SpectralDensity:
    """Densities of all groups at one k.

    Raises
    ------
    InputError
        If S is not positive definite, or the width so small beside the spectrum that 20 000 moments are not enough.
    """
    H, S = pencil.at(k)
    where = point(k)
    check_overlap(S, where)
    try:
        inverse = factor(AUTO, S)
    except SingularError as reason:
        raise InputError(where, f"the overlap cannot be factorised: {reason}", "a positive definite one") from reason
    centre, half = _spectrum(H, S, inverse)
    n = _n_moments(ask, centre, half, where)
    take = _groups(pencil.size, ask.projections)
    whole, groups = [], np.zeros((n, take.shape[0]))
    for start in _starts(S, inverse, ask):
        moments = _moments(H, S, inverse, start, take, (centre, half), n)
        whole.append(moments[:, 0] if ask.vectors else moments[:, 0].sum(axis=1, keepdims=True))
        groups += moments.sum(axis=2)
    each = _broadened(np.concatenate(whole, axis=1), ask, centre, half).T
    return SpectralDensity(each, _broadened(groups[:, 1:] / max(ask.vectors, 1), ask, centre, half))


def _n_moments(ask: Moments, centre: float, half: float, where: str) -> int:
    """Moments that resolve the width everywhere at the energies: at x a term of order m oscillates with m / sqrt(1 - x^2)."""
    ends = np.clip((ask.energies[[0, -1]] - centre) / half, -1, 1)
    nearest = 0.0 if ends[0] < 0 < ends[1] else float(np.abs(ends).min())
    steepest = half * np.sqrt(max(1 - nearest**2, 1e-4))
    n = int(np.ceil(DIGITS * steepest / ask.width / 2)) * 2 + 16
    if n > MOST_TERMS:
        least = DIGITS * steepest / MOST_TERMS
        raise InputError(where, f"a width of {ask.width} eV for a spectrum of {2 * half:.0f} eV", f"at least {least:.3f} eV")
    return n


def _groups(size: int, projections: Sequence[Projection]) -> sparse.csr_matrix:
    """[n_groups, size] with ones where an orbital belongs to a group; the first group is the whole."""
    rows, columns, first = [np.zeros(size, dtype=np.int64)], [np.arange(size)], 1
    for projection in projections:
        rows.append(projection.members + first)
        columns.append(np.arange(size))
        first += len(projection.groups)
    index = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.ones(len(index[0])), index), shape=(first, size))


def _spectrum(H: sparse.csr_matrix, S: sparse.csr_matrix, inverse: Factor) -> tuple[float, float]:
    """Centre and half width of an interval that holds all levels, eV, from some steps of Lanczos."""
    v = np.random.default_rng(0).standard_normal((H.shape[0], 1)).astype(H.dtype)
    v /= np.sqrt(np.vdot(v, S @ v).real)
    before, beta = np.zeros_like(v), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(STEPS, H.shape[0])):
        dual = H @ v
        diagonal.append(float(np.vdot(v, dual).real))
        w = inverse.solve(dual) - diagonal[-1] * v - beta * before
        beta = float(np.sqrt(max(np.vdot(w, S @ w).real, 0.0)))
        beside.append(beta)
        if beta < 1e-9 * max(map(abs, diagonal)):
            break
        before, v = v, w / beta
    ends, vectors = linalg.eigh_tridiagonal(np.array(diagonal), np.array(beside[:-1]))
    low, high = (float(ends[e] + s * beside[-1] * abs(vectors[-1, e])) for e, s in ((0, -1), (-1, 1)))
    return (low + high) / 2, (high - low) / 2 * (1 + 2 * MARGIN) + 1e-6


def _starts(S: sparse.csr_matrix, inverse: Factor, ask: Moments) -> Iterator[Values]:
    """Blocks of random vectors with covariance S^-1; or, for exact traces, all columns of its square root."""
    if ask.vectors == 0:
        values, axes = linalg.eigh(S.toarray())
        yield np.asarray(axes / np.sqrt(values))
        return
    rng = np.random.default_rng(ask.seed)
    for first in range(0, ask.vectors, ask.block):
        size = (S.shape[0], min(ask.block, ask.vectors - first))
        signs: Values = rng.integers(0, 2, size=size) * np.float64(2) - 1
        if np.iscomplexobj(S.data):
            signs = signs * np.exp(2j * np.pi * rng.random(signs.shape))
        yield _inverse_root(S, inverse, signs)


def _inverse_root(S: sparse.csr_matrix, inverse: Factor, vectors: Values) -> Values:
    """S^-1/2 applied to some vectors, by a Chebyshev series."""
    centre, half = _overlap_range(S, inverse)
    terms = _root_series(centre, half)

    def mapped(x: Values) -> Values:
        image: Values = (S @ x - centre * x) / half
        return image

    before, now = vectors, mapped(vectors)
    result = terms[0] * before + terms[1] * now
    for term in terms[2:]:
        before, now = now, 2 * mapped(now) - before
        result = result + term * now
    return np.asarray(result)


def _root_series(centre: float, half: float) -> Floats:
    """Chebyshev coefficients of s^-1/2 on [centre - half, centre + half], to `ROOT` of the first."""
    n = 64
    while True:
        nodes = np.cos(np.pi * (np.arange(n) + 0.5) / n)
        terms: Floats = fft.dct((centre + half * nodes) ** -0.5, type=2) / n
        count = int(np.flatnonzero(np.abs(terms) > ROOT * abs(terms[0]))[-1]) + 1
        if count < n // 2:
            terms[0] /= 2
            return terms[: max(count, 2)]
        n *= 2


def _overlap_range(S: sparse.csr_matrix, inverse: Factor) -> tuple[float, float]:
    """Centre and half width of an interval with all eigenvalues of S: from Lanczos below, from its largest row sum above."""
    middle, half = _spectrum(sparse.identity(S.shape[0], dtype=S.dtype, format="csr"), S, inverse)
    low, high = 1 / (middle + half), float(abs(S).sum(axis=1).max())
    return (high + low) / 2, (high - low) / 2 + 1e-12


def _moments(
    H: sparse.csr_matrix,
    S: sparse.csr_matrix,
    inverse: Factor,
    start: Values,
    take: sparse.csr_matrix,
    mapping: tuple[float, float],
    n: int,
) -> Floats:
    """[n, n_groups, n_vectors] the moments of each group by each vector of a block; n is even."""
    centre, half = mapping
    moments = np.empty((n, take.shape[0], start.shape[1]))
    before, dual_before = start, S @ start
    dual = (H @ before - centre * dual_before) / half
    now = inverse.solve(dual)

    def traced(bra: Values, ket: Values) -> Floats:
        return np.asarray(take @ (bra.conj() * ket).real)

    moments[0] = traced(dual_before, before)
    moments[1] = (traced(dual_before, now) + traced(dual, before)) / 2
    for m in range(1, n // 2):
        after_dual = 2 * (H @ now - centre * dual) / half - dual_before
        after = inverse.solve(after_dual)
        moments[2 * m] = 2 * traced(dual, now) - moments[0]
        moments[2 * m + 1] = traced(dual, after) + traced(after_dual, now) - moments[1]
        dual_before, dual, now = dual, after_dual, after
    return moments


def _broadened(moments: Floats, ask: Moments, centre: float, half: float) -> Floats:
    """[n_energies, ...] the densities whose moments [n, ...] are given, broadened by Gaussians.

    The series becomes weights at twice as many Chebyshev nodes, whose sum with the Gaussian is then exact.
    """
    n = 2 * len(moments)
    nodes = centre + half * np.cos(np.pi * (np.arange(n) + 0.5) / n)
    weights = fft.dct(np.concatenate([moments, np.zeros_like(moments)]), type=3, axis=0) / n
    gaussians = np.exp(-0.5 * ((ask.energies[:, None] - nodes[None, :]) / ask.width) ** 2) / (ask.width * np.sqrt(2 * np.pi))
    density: Floats = gaussians @ weights
    return density
