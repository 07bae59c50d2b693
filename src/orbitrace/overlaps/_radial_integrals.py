"""Two-centre integrals of numerical orbitals as functions of the distance, by way of reciprocal space.

With ``F_a(k) = int r^2 R_a(r) j_l(k r) dr``, the Slater-Koster functions of two shells (z along the bond) are

    t_{ab|m|}(r) = 8 sum_L i^(la - lb - L) G(la m, lb m, L 0) Y_L0(z) int k^2 w(k) F_a(k) F_b(k) j_L(k r) dk,

G the integral of three real harmonics; w = 1 for overlaps and k^2 / 2 for the kinetic energy (O. F. Sankey and
D. J. Niklewski, Phys. Rev. B 40, 3979 (1989)). The integrals are sums over the very points that the DFT code takes
(`Quadrature`): what matters is not the exact integral, from which the code's is 1e-6 to 1e-4 away, but the matrix that
belongs to its Hamiltonian.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy.interpolate import BSpline, CubicHermiteSpline, make_interp_spline
from scipy.special import spherical_jn

from orbitrace.physics.harmonics import real_harmonics
from orbitrace.physics.orbitals import Shells
from orbitrace.physics.slater_koster import DEGREE, BondTable, channels
from orbitrace.physics.structure import Floats
from orbitrace.units import OPENMX_BOHR, OPENMX_HARTREE

Quantity = Literal["overlap", "kinetic"]
TABLE_ERROR = 1e-10  # largest error of the splines, as a part of the largest value (1 for overlaps)
_SPACING = 0.06  # Å; of the knots at first
_HALVINGS = 6  # of the spacing, at most


@dataclass(frozen=True)
class Quadrature:
    """The points of the radial integrals.

    Parameters
    ----------
    n_r, n_k
        Intervals in r and in k (the code's keywords 1DFFT.NumGridR and 1DFFT.NumGridK).
    k_max
        End of the integrals over k, 1/Bohr (the root of 1DFFT.EnergyCutoff in Rydberg).
    k_min
        Their begin.
    tail
        Bohr beyond the cutoff at which integrals over r end.
    """

    n_r: int = 900
    n_k: int = 900
    k_max: float = 60.0
    k_min: float = 1e-6
    tail: float = 0.5

    @property
    def nodes(self) -> tuple[Floats, Floats]:
        """Points and weights in k: [n_k + 1] each."""
        return _trapezoid(self.k_min, self.k_max, self.n_k)


@dataclass(frozen=True, eq=False)
class Transforms:
    """The orbitals of one element in reciprocal space.

    Parameters
    ----------
    shells
        Their l and cutoff radius (Å).
    values
        [n_shells, n_k + 1] F_a at the points of the quadrature, Bohr^3/2.
    """

    shells: Shells
    values: Floats


def transform(shells: Shells, cutoff: float, radii: Floats, functions: list[Floats], quadrature: Quadrature) -> Transforms:
    """Bessel transforms of radial functions.

    Parameters
    ----------
    shells
        l of each function.
    cutoff
        Radius beyond which they vanish, Bohr, to all digits of the file: the points in r depend on it.
    radii
        [n_radii] Bohr, ascending.
    functions
        [n_radii] of each shell, Bohr^-3/2.
    quadrature
        The points.
    """
    r, weights = _trapezoid(float(radii[0]), cutoff + quadrature.tail, quadrature.n_r)
    # The code tabulates F at these k, and interpolates between them to its nodes, which lie less than 1e-6 beside them; its
    # slopes are so coarse that this changes S by 1e-8. Beyond the last of them F counts as zero.
    grid: Floats = quadrature.k_max / quadrature.n_k * np.arange(quadrature.n_k, dtype=np.float64)
    nodes, _ = quadrature.nodes
    values = np.zeros((len(functions), len(nodes)))
    for l in sorted(set(shells.ls)):
        mine = [shell for shell, other in enumerate(shells.ls) if other == l]
        on_r = _interpolate(radii, np.stack([functions[shell] for shell in mine], axis=1), r)
        on_grid = spherical_jn(l, np.outer(grid, r)) @ ((weights * r**2)[:, None] * on_r)
        values[mine] = _interpolate(grid, on_grid, nodes).T
    return Transforms(shells, values)


def bond_table(first: Transforms, second: Transforms, quantity: Quantity, quadrature: Quadrature) -> BondTable:
    """The functions of the distance between two elements, as splines whose error is at most `TABLE_ERROR`.

    Overlaps have no unit, kinetic energies are in eV. The error that was found between the knots is the table's `residual`.
    """
    cutoff = first.shells.cutoff + second.shells.cutoff
    n_intervals = int(np.ceil(cutoff / _SPACING))
    for _ in range(_HALVINGS):
        knots = np.concatenate([np.zeros(DEGREE), np.linspace(0.0, cutoff, n_intervals + 1), np.full(DEGREE, cutoff)])
        # Collocation at the averages of the knots, checked halfway between them.
        points = np.array([knots[i + 1 : i + 1 + DEGREE].mean() for i in range(len(knots) - DEGREE - 1)])
        between = (points[1:] + points[:-1]) / 2
        exact = slater_koster(first, second, np.concatenate([points, between]), quantity, quadrature)
        coefficients = make_interp_spline(points, exact[: len(points)], DEGREE, t=knots).c
        deviation = np.abs(BSpline(knots, coefficients, DEGREE)(between) - exact[len(points) :]).max()
        if deviation <= TABLE_ERROR * np.abs(exact).max():
            break
        n_intervals *= 2
    return BondTable(knots, coefficients, np.array([[0.0, cutoff]]), np.zeros((1, coefficients.shape[1])), float(deviation))


def slater_koster(
    first: Transforms, second: Transforms, distances: Floats, quantity: Quantity, quadrature: Quadrature
) -> Floats:
    """t_{ab|m|} at some distances (Å): [n, n_channels] in the order of `physics.slater_koster.channels`."""
    k, weights = quadrature.nodes
    weights = weights * k**2 * (1.0 if quantity == "overlap" else OPENMX_HARTREE * k**2 / 2)
    arguments = np.outer(distances / OPENMX_BOHR, k)
    labels = channels(first.shells, second.shells)
    result = np.zeros((len(distances), len(labels)))
    for degree in range(max(first.shells.ls) + max(second.shells.ls) + 1):
        factors = np.array([_factor(first.shells.ls[a], second.shells.ls[b], m, degree) for a, b, m in labels])
        some = np.flatnonzero(factors)
        products = np.stack([first.values[labels[c][0]] * second.values[labels[c][1]] for c in some], axis=1)
        integrals = spherical_jn(degree, arguments) @ (weights[:, None] * products)
        result[:, some] += factors[some] * integrals
    return result


def onsite_block(own: Transforms, quantity: Quantity, quadrature: Quadrature) -> Floats:
    """The block of an atom with itself: [n_orbitals, n_orbitals]."""
    shells = own.shells
    values = slater_koster(own, own, np.zeros(1), quantity, quadrature)[0]
    block = np.zeros((shells.n_orbitals, shells.n_orbitals))
    for (a, b, m), value in zip(channels(shells, shells), values, strict=True):
        if shells.ls[a] == shells.ls[b] and m == 0:
            block[shells.slices[a], shells.slices[b]] = value * np.eye(2 * shells.ls[a] + 1)
    return block


@cache
def _factor(la: int, lb: int, m: int, degree: int) -> float:
    """8 i^(la - lb - L) G(la m, lb m, L 0) Y_L0(z)."""
    if (la + lb + degree) % 2 or not abs(la - lb) <= degree <= la + lb:
        return 0.0
    n = la + lb + degree + 2  # enough points for the product of three harmonics
    z, weights = np.polynomial.legendre.leggauss(n)
    phi = 2 * np.pi / n * np.arange(n)
    flat = np.sqrt(1 - z**2)
    points = np.stack([np.outer(flat, np.cos(phi)), np.outer(flat, np.sin(phi)), np.outer(z, np.ones(n))], axis=-1)
    harmonics = real_harmonics(points.reshape(-1, 3), max(la, lb, degree))
    triple = harmonics[la][:, la + m] * harmonics[lb][:, lb + m] * harmonics[degree][:, degree]
    gaunt = float((triple.reshape(n, n).sum(axis=1) * weights).sum() * 2 * np.pi / n)
    sign = (-1) ** ((la - lb - degree) // 2)
    return float(8 * sign * gaunt * np.sqrt((2 * degree + 1) / (4 * np.pi)))


def _trapezoid(begin: float, end: float, n_intervals: int) -> tuple[Floats, Floats]:
    """Points and weights of the trapezoidal rule: [n_intervals + 1] each."""
    points: Floats = np.linspace(begin, end, n_intervals + 1, dtype=np.float64)
    weights = np.full(n_intervals + 1, (end - begin) / n_intervals)
    weights[[0, -1]] /= 2
    return points, weights


def _interpolate(points: Floats, values: Floats, at: Floats) -> Floats:
    """Cubic Hermite interpolation whose slopes are those of the parabolas through three points; zero beyond the last point.

    ``[n], [n, columns], [m] -> [m, columns]``. `at` must not lie below the first point.
    """
    steps = np.diff(points)[:, None]
    secants = np.diff(values, axis=0) / steps
    slopes = np.empty_like(values)
    slopes[1:-1] = (secants[1:] * steps[:-1] + secants[:-1] * steps[1:]) / (steps[1:] + steps[:-1])
    slopes[0], slopes[-1] = secants[0], secants[-1]
    result: Floats = CubicHermiteSpline(points, values, slopes, extrapolate=False)(at)
    return np.nan_to_num(result, copy=False, nan=0.0)
