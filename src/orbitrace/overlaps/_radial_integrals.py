"""Two-centre integrals of numerical orbitals as functions of the distance, by way of reciprocal space.

With ``F_a(k) = int r^2 R_a(r) j_l(k r) dr``, the Slater-Koster functions of two shells (z along the bond) are

    t_{ab|m|}(r) = 8 sum_L i^(la - lb - L) G(la m, lb m, L 0) Y_L0(z) int k^2 w(k) F_a(k) F_b(k) j_L(k r) dk,

G the integral of three real harmonics; w = 1 for overlaps and k^2 / 2 for the kinetic energy (O. F. Sankey and
D. J. Niklewski, Phys. Rev. B 40, 3979 (1989)). The integrals are sums over the very points that the DFT code takes
(`Points`, made by each way for its code): what matters is not the exact integral, from which a code's may be 1e-6 to 1e-4
away, but the matrix that belongs to its Hamiltonian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline
from scipy.special import spherical_jn

from orbitrace.physics.harmonics import real_harmonics
from orbitrace.physics.orbitals import Shells
from orbitrace.physics.slater_koster import DEGREE, BondTable, channels
from orbitrace.physics.structure import Floats

Quantity = Literal["overlap", "kinetic"]
TABLE_ERROR = 1e-10  # largest error of the splines, as a part of the largest value (1 for overlaps)
_SPACING = 0.06  # Å; of the knots at first
_HALVINGS = 6  # of the spacing, at most


@dataclass(frozen=True, eq=False)
class Points:
    """The points at which a code sums its integrals over k, and its units.

    Parameters
    ----------
    k, weights
        [n_k] 1/Bohr.
    bohr, hartree
        The code's own, Å and eV.
    """

    k: Floats
    weights: Floats
    bohr: float
    hartree: float


@dataclass(frozen=True, eq=False)
class Transforms:
    """The orbitals of one element in reciprocal space.

    Parameters
    ----------
    shells
        Their l and cutoff radius (Å).
    values
        [n_shells, n_k] F_a at the points k, Bohr^3/2.
    """

    shells: Shells
    values: Floats


def bessel_transform(l: int, k: Floats, r: Floats, weights: Floats, functions: Floats) -> Floats:
    """F(k) of some radial functions of one l: [n_k], [n_r], [n_r], [n_r, n_functions] -> [n_k, n_functions]."""
    values: Floats = spherical_jn(l, np.outer(k, r)) @ ((weights * r**2)[:, None] * functions)
    return values


def trapezoid(begin: float, end: float, n_intervals: int) -> tuple[Floats, Floats]:
    """Points and weights of the trapezoidal rule: [n_intervals + 1] each."""
    points: Floats = np.linspace(begin, end, n_intervals + 1, dtype=np.float64)
    weights = np.full(n_intervals + 1, (end - begin) / n_intervals)
    weights[[0, -1]] /= 2
    return points, weights


def bond_table(first: Transforms, second: Transforms, quantity: Quantity, points: Points) -> BondTable:
    """The functions of the distance between two elements, as splines whose error is at most `TABLE_ERROR`.

    Overlaps have no unit, kinetic energies are in eV. The error that was found between the knots is the table's `residual`.
    """
    cutoff = first.shells.cutoff + second.shells.cutoff
    n_intervals = int(np.ceil(cutoff / _SPACING))
    for _ in range(_HALVINGS + 1):
        knots = np.concatenate([np.zeros(DEGREE), np.linspace(0.0, cutoff, n_intervals + 1), np.full(DEGREE, cutoff)])
        # Collocation at the averages of the knots, checked halfway between them.
        nodes = np.minimum([knots[i + 1 : i + 1 + DEGREE].mean() for i in range(len(knots) - DEGREE - 1)], cutoff)
        between = (nodes[1:] + nodes[:-1]) / 2
        exact = slater_koster(first, second, np.concatenate([nodes, between]), quantity, points)
        coefficients = make_interp_spline(nodes, exact[: len(nodes)], DEGREE, t=knots).c
        deviation = np.abs(BSpline(knots, coefficients, DEGREE)(between) - exact[len(nodes) :]).max()
        if deviation <= TABLE_ERROR * np.abs(exact).max():
            break
        n_intervals *= 2
    return BondTable(knots, coefficients, np.array([[0.0, cutoff]]), np.zeros((1, coefficients.shape[1])), float(deviation))


def slater_koster(first: Transforms, second: Transforms, distances: Floats, quantity: Quantity, points: Points) -> Floats:
    """t_{ab|m|} at some distances (Å): [n, n_channels] in the order of `physics.slater_koster.channels`."""
    k = points.k
    weights = points.weights * k**2 * (1.0 if quantity == "overlap" else points.hartree * k**2 / 2)
    arguments = np.outer(distances / points.bohr, k)
    labels = channels(first.shells, second.shells)
    result = np.zeros((len(distances), len(labels)))
    for degree, bessel in enumerate(_bessels(max(first.shells.ls) + max(second.shells.ls), arguments)):
        factors = np.array([_factor(first.shells.ls[a], second.shells.ls[b], m, degree) for a, b, m in labels])
        some = np.flatnonzero(factors)
        shells, place = np.unique([labels[c][:2] for c in some], axis=0, return_inverse=True)
        products = (first.values[shells[:, 0]] * second.values[shells[:, 1]]).T
        integrals = bessel @ (weights[:, None] * products)
        result[:, some] += factors[some] * integrals[:, place.reshape(-1)]
    return result


def onsite_block(own: Transforms, quantity: Quantity, points: Points) -> Floats:
    """The block of an atom with itself: [n_orbitals, n_orbitals]."""
    shells = own.shells
    values = slater_koster(own, own, np.zeros(1), quantity, points)[0]
    block = np.zeros((shells.n_orbitals, shells.n_orbitals))
    for (a, b, m), value in zip(channels(shells, shells), values, strict=True):
        if shells.ls[a] == shells.ls[b] and m == 0:
            block[shells.slices[a], shells.slices[b]] = value * np.eye(2 * shells.ls[a] + 1)
    return block


def _bessels(l_max: int, x: Floats) -> Iterator[Floats]:
    """j_0(x), j_1(x), ... one after the other, by the recurrence where it is stable: far faster than one by one."""
    small = np.nonzero(x <= l_max + 2)
    large = np.where(x <= l_max + 2, 1.0, x)
    before, value = np.cos(large) / large, np.sin(large) / large
    for l in range(l_max + 1):
        exact = value.copy()
        exact[small] = spherical_jn(l, x[small])
        yield exact
        before, value = value, (2 * l + 1) / large * value - before


@cache
def _factor(la: int, lb: int, m: int, degree: int) -> float:
    """8 i^(la - lb - L) G(la m, lb m, L 0) Y_L0(z)."""
    if (la + lb + degree) % 2 or not abs(la - lb) <= degree <= la + lb:
        return 0.0
    n = la + lb + degree + 2  # enough points for the product of three harmonics
    z, weights = np.polynomial.legendre.leggauss(n)
    phi = 2 * np.pi / n * np.arange(n)
    flat = np.sqrt(1 - z**2)
    sphere = np.stack([np.outer(flat, np.cos(phi)), np.outer(flat, np.sin(phi)), np.outer(z, np.ones(n))], axis=-1)
    harmonics = real_harmonics(sphere.reshape(-1, 3), max(la, lb, degree))
    triple = harmonics[la][:, la + m] * harmonics[lb][:, lb + m] * harmonics[degree][:, degree]
    gaunt = float((triple.reshape(n, n).sum(axis=1) * weights).sum() * 2 * np.pi / n)
    sign = (-1) ** ((la - lb - degree) // 2)
    return float(8 * sign * gaunt * np.sqrt((2 * degree + 1) / (4 * np.pi)))
