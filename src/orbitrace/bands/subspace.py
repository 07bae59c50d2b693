"""H(k) and S(k) within a small basis that serves many k.

In the smooth gauge, orbitals of k carry the phase exp(i k.tau) of their own atom, and the levels' states change slowly with k.
A basis Q of them at some k, V(k) = diag(exp(i k.tau)) Q at any other, reduces the sparse problem to dense matrices of a few
hundred rows. These are smooth functions of k, sums of exp(i k.d) over the distances d of coupled atoms, and so are
interpolated between Chebyshev points, whose number follows from the largest d.

Rayleigh-Ritz within a spectrum finds spurious levels besides the true ones. Residuals tell them apart, and their squares are
quadratic forms of three more small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.inertia import shifted
from orbitrace.bands.kpath import completed_lattice
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats, Ints

ROWS = 4096  # of the sparse matrices at a time
INDEPENDENT = 1e-4  # length of what a state adds to the basis below which it adds nothing
INTERPOLATION = 1e-11  # error of exp(i k.d) between Chebyshev points
STRAIGHT = 1e-9  # how far from a line the k points on it may lie, fractional


class ReducedBasis:
    """States of several k in the smooth gauge, orthonormalised.

    Parameters
    ----------
    pencil
        H and S.
    sigma
        Energy, eV, near which levels are wanted.
    """

    def __init__(self, pencil: Pencil, sigma: float) -> None:
        self.pencil, self.sigma = pencil, sigma
        self._places = pencil.structure.positions @ np.linalg.inv(completed_lattice(pencil.structure))
        self.vectors: Values = np.zeros((pencil.size, 0), dtype=np.complex128)

    @property
    def size(self) -> int:
        """Number of basis vectors."""
        return int(self.vectors.shape[1])

    def _phases(self, k: Floats) -> Values:
        """[size, 1] exp(i k.tau) of each orbital."""
        phases: Values = np.exp(2j * np.pi * (self._places @ k))[self.pencil.pattern.atoms, None]
        return phases

    def add(self, k: Floats, states: Values) -> None:
        """Add the states [size, n] of k."""
        new = self._phases(k).conj() * states
        new /= np.linalg.norm(new, axis=0)
        for limit in (INDEPENDENT, 0.5):  # the second pass only restores orthogonality
            new = new - self.vectors @ (self.vectors.conj().T @ new)
            scale, axes = linalg.eigh(new.conj().T @ new)
            kept = scale > limit**2
            new = new @ (axes[:, kept] / np.sqrt(scale[kept]))
        self.vectors = np.concatenate([self.vectors, new], axis=1)

    def project(self, k: Floats) -> ReducedMatrices:
        """The matrices within the basis at k."""
        H, S = self.pencil.at(k)
        A = shifted(H, S, self.sigma)
        v = self._phases(k) * self.vectors
        m = self.size
        forms = np.zeros((5, m, m), dtype=np.complex128)
        for start in range(0, len(v), ROWS):
            rows = slice(start, start + ROWS)
            av, sv = A[rows] @ v, S[rows] @ v
            left = v[rows].conj().T
            for form, (one, other) in zip(forms, ((left, av), (left, sv), (av, av), (av, sv), (sv, sv)), strict=True):
                form += (one if one is left else one.conj().T) @ other
        return ReducedMatrices(forms)


@dataclass(frozen=True, eq=False)
class ReducedMatrices:
    """A = H - sigma S and S within a basis V.

    Parameters
    ----------
    forms
        [5, m, m] V^H A V, V^H S V, and for residuals (A V)^H A V, (A V)^H S V, (S V)^H S V.
    """

    forms: NDArray[np.complex128]

    def ritz(self, sigma: float, low: float, high: float) -> RitzLevels:
        """The levels between two energies, spurious ones among them."""
        a, s = self.forms[:2]
        lower = linalg.cholesky((s + s.conj().T) / 2, lower=True)
        half = linalg.solve_triangular(lower, (a + a.conj().T) / 2, lower=True)
        standard = linalg.solve_triangular(lower, half.conj().T, lower=True)
        inside = (low - sigma, high - sigma)
        energies, mix = linalg.eigh(standard, subset_by_value=inside, driver="evr", overwrite_a=True, check_finite=False)
        c = linalg.solve_triangular(lower, mix, lower=True, trans="C")
        aa, as_, ss = (np.einsum("ij,ij->j", c.conj(), form @ c) for form in self.forms[2:])
        squares = aa.real - 2 * energies * as_.real + energies**2 * ss.real
        hh = aa.real + 2 * sigma * as_.real + sigma**2 * ss.real
        energies = energies + sigma
        scale = np.sqrt(np.maximum(hh, 0)) + np.abs(energies) * np.sqrt(ss.real)
        return RitzLevels(energies, c, s, np.sqrt(np.maximum(squares, 0)), scale)


@dataclass(frozen=True, eq=False)
class RitzLevels:
    """Levels of a reduced problem.

    Parameters
    ----------
    energies
        [n] ascending, eV.
    states
        [m, n] in the basis.
    overlap
        [m, m] V^H S V.
    residuals
        [n] ||H c - E S c||, eV.
    scale
        [n] ||H c|| + |E| ||S c||, eV.
    """

    energies: Floats
    states: Values
    overlap: Values
    residuals: Floats
    scale: Floats

    def only(self, which: NDArray[np.bool_] | Ints) -> RitzLevels:
        """Some of the levels."""
        return RitzLevels(self.energies[which], self.states[:, which], self.overlap, self.residuals[which], self.scale[which])


@dataclass(frozen=True, eq=False)
class Patch:
    """k = origin + x . axes for x from -1 to 1, and the Chebyshev points in it.

    Parameters
    ----------
    origin, axes
        [3] and [d, 3], fractional.
    counts
        [d] Chebyshev points along each axis.
    members
        Numbers of the k points that lie in it.
    """

    origin: Floats
    axes: Floats
    counts: tuple[int, ...]
    members: Ints

    @property
    def cost(self) -> int:
        """Projections that it takes: at its Chebyshev points, or at its k points if these are fewer."""
        return min(int(np.prod(self.counts)), len(self.members))

    def nodes(self) -> Floats:
        """[n, 3] k of the Chebyshev points, the last axis fastest."""
        points = [_chebyshev(count) for count in self.counts]
        grid = np.array(list(product(*points))).reshape(-1, len(self.counts))
        return self.origin + grid @ self.axes

    def weights(self, k: Floats) -> Floats:
        """[n] weights of the Chebyshev points in the interpolant at k."""
        x, *_ = np.linalg.lstsq(self.axes.T, k - self.origin, rcond=None)
        result = np.ones(1)
        for place, count in zip(x, self.counts, strict=True):
            result = np.multiply.outer(result, _lagrange(_chebyshev(count), float(place))).ravel()
        return result


class Interpolant:
    """The matrices within a basis at any of the k points that it is made for."""

    def __init__(self, basis: ReducedBasis, kpoints: Floats) -> None:
        self.basis = basis
        self.patches = patches(basis.pencil, kpoints)
        self.direct = [len(p.members) <= int(np.prod(p.counts)) for p in self.patches]
        self.projected = [
            [] if direct else [basis.project(k) for k in patch.nodes()]
            for patch, direct in zip(self.patches, self.direct, strict=True)
        ]
        self._patch_of = {int(member): number for number, p in enumerate(self.patches) for member in p.members}

    def together(self, one: int, other: int) -> bool:
        """Whether two k points lie in the same patch."""
        return self._patch_of[one] == self._patch_of[other]

    def between(self, one: int, other: int, k: Floats) -> ReducedMatrices:
        """The matrices at k between two of the k points."""
        return self.at(one, k) if self.together(one, other) else self.basis.project(k)

    def at(self, number: int, k: Floats) -> ReducedMatrices:
        """The matrices at k, in the patch of the k point with this number."""
        patch = self._patch_of[number]
        if self.direct[patch]:
            return self.basis.project(k)
        weights = self.patches[patch].weights(k)
        points = self.projected[patch]
        forms = np.zeros_like(points[0].forms)
        for weight, point in zip(weights, points, strict=True):
            forms += weight * point.forms
        return ReducedMatrices(forms)


def patches(pencil: Pencil, kpoints: Floats) -> list[Patch]:
    """Straight stretches of a list of k points, or the box that holds them all, whichever takes fewer projections."""
    lines = [_patch(pencil, kpoints, run) for run in _straight_runs(kpoints)]
    box = _patch(pencil, kpoints, np.arange(len(kpoints)), box=True)
    return [box] if box.cost < sum(line.cost for line in lines) else lines


def _patch(pencil: Pencil, kpoints: Floats, members: Ints, box: bool = False) -> Patch:
    """The patch of some k points: a line between the first and the last one, or a box."""
    k = kpoints[members]
    if box:
        low, high = k.min(axis=0), k.max(axis=0)
        axes = np.diag((high - low) / 2)[high - low > STRAIGHT]
        origin = (low + high) / 2
    else:
        origin, axes = (k[0] + k[-1]) / 2, ((k[-1] - k[0]) / 2)[None]
        axes = axes[np.linalg.norm(axes, axis=1) > STRAIGHT]
    lengths = 2 * np.pi * np.linalg.norm(axes @ np.linalg.inv(completed_lattice(pencil.structure)).T, axis=1)
    return Patch(origin, axes, tuple(_count(length * pencil.reach) for length in lengths), members)


def _straight_runs(kpoints: Floats) -> list[Ints]:
    """Numbers of consecutive k points that lie on a line in one order; each point is in one run."""
    runs: list[Ints] = []
    start = 0
    for end in range(1, len(kpoints) + 1):
        if end < len(kpoints) and _straight(kpoints[start : end + 1]):
            continue
        runs.append(np.arange(start, end))
        start = end
    return runs


def _straight(k: Floats) -> bool:
    """Whether points lie on a line, one after the other."""
    along = k[-1] - k[0]
    length = float(along @ along)
    if length == 0:
        return bool((k == k[0]).all())
    x = (k - k[0]) @ along / length
    return bool((np.diff(x) >= -STRAIGHT).all() and np.abs(k - k[0] - x[:, None] * along).max() < STRAIGHT)


def _count(phase: float) -> int:
    """Chebyshev points that interpolate exp(i phase x), -1 <= x <= 1: its expansion has Bessel functions in it."""
    count = 2
    while count < phase or 4 * abs(special.jv(count, phase)) > INTERPOLATION:
        count += 1
    return count


def _chebyshev(count: int) -> Floats:
    """Chebyshev points of the first kind."""
    points: Floats = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return points


def _lagrange(points: Floats, x: float) -> Floats:
    """Weights of Chebyshev points in the interpolant at x (barycentric formula)."""
    distance = x - points
    if (hit := np.abs(distance) < 1e-14).any():
        return hit.astype(np.float64)
    n = len(points)
    terms = (-1.0) ** np.arange(n) * np.sin(np.pi * (np.arange(n) + 0.5) / n) / distance
    weights: Floats = terms / terms.sum()
    return weights
