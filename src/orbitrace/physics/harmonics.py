"""Real spherical harmonics and how they turn, in the convention of the house.

Components m = -l..l, orthonormal on the sphere, no Condon-Shortley phase: ``Y_lm ~ P_l^|m|(cos theta) cos(m phi)`` for m > 0
and ``sin(|m| phi)`` for m < 0, so that l = 1 is (y, z, x). For an orthogonal matrix Q, ``Y_l(Q x) = D^l(Q) Y_l(x)``.

A turn about z acts on real harmonics by cosines and sines of m phi alone. A turn about y is the same thing seen after the
fixed quarter turn that takes z to y, whose D^l is computed once. Every D^l here is a product of those two, hence exact to
rounding for any direction, the poles included (the factorisation of Pinchon and Hoggan, J. Phys. A 40, 1597 (2007)).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from orbitrace.physics.structure import Floats


def real_harmonics(vectors: Floats, l_max: int) -> list[Floats]:
    """Real spherical harmonics of the directions of some vectors.

    Parameters
    ----------
    vectors
        [n, 3] of any length but zero.
    l_max
        Highest l.

    Returns
    -------
    list
        [n, 2l+1] for each l = 0..l_max.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    x, y, z = unit.T
    # sin^m(theta) e^{i m phi} = (x + iy)^m, so that nothing is singular at the poles.
    powers = [(x + 1j * y) ** m for m in range(l_max + 1)]
    legendre = _reduced_legendre(z, l_max)
    result = []
    for l in range(l_max + 1):
        components = np.empty((len(unit), 2 * l + 1))
        components[:, l] = legendre[l, 0]
        for m in range(1, l + 1):
            components[:, l + m] = np.sqrt(2) * legendre[l, m] * powers[m].real
            components[:, l - m] = np.sqrt(2) * legendre[l, m] * powers[m].imag
        result.append(components)
    return result


def rotations(vectors: Floats, l_max: int) -> list[Floats]:
    """D^l(Q_n) of rotations Q_n that take the z axis to the direction of each vector.

    The turn about the bond is whatever comes out; results that are invariant about the bond do not depend on it.

    Parameters
    ----------
    vectors
        [n, 3]; a zero vector gets the identity.
    l_max
        Highest l.

    Returns
    -------
    list
        [n, 2l+1, 2l+1] orthogonal, for each l = 0..l_max.
    """
    x, y, z = np.asarray(vectors, dtype=np.float64).T
    tilt, turn = _waves(np.arctan2(np.hypot(x, y), z), l_max), _waves(np.arctan2(y, x), l_max)
    result = []
    for l in range(l_max + 1):
        own = slice(l_max - l, l_max + l + 1)
        # Q = Rz(phi) Ry(theta)
        tilted = np.concatenate([tilt[0][:, own], tilt[1][:, own]], axis=1) @ _about_y(l)
        result.append(_turn_z(turn[0][:, own], turn[1][:, own], tilted.reshape(len(x), 2 * l + 1, 2 * l + 1)))
    return result


def wigner(rotation: Floats, l_max: int) -> list[Floats]:
    """D^l of one orthogonal matrix [3, 3], proper or not: [2l+1, 2l+1] for each l = 0..l_max."""
    sign = 1.0 if np.linalg.det(rotation) > 0 else -1.0  # Y_l(-x) = (-1)^l Y_l(x)
    points = _directions(l_max)
    turned, plain = real_harmonics(sign * points @ rotation.T, l_max), real_harmonics(points, l_max)
    solutions = [np.linalg.lstsq(plain[l], turned[l])[0].T.astype(np.float64) for l in range(l_max + 1)]
    return [sign**l * _nearest_orthogonal(solution) for l, solution in enumerate(solutions)]


def _waves(angles: Floats, l_max: int) -> tuple[Floats, Floats]:
    """cos(m a) and sin(m a), m = -l_max..l_max, of some angles: [n, 2 l_max + 1] each."""
    multiples = angles[:, None] * np.arange(l_max + 1)
    cosines, sines = np.cos(multiples), np.sin(multiples)
    return np.concatenate([cosines[:, :0:-1], cosines], axis=1), np.concatenate([-sines[:, :0:-1], sines], axis=1)


def _turn_z(cosines: Floats, sines: Floats, right: Floats) -> Floats:
    """D^l of rotations about z times a matrix: two [n, 2l+1] of `_waves`, [n, 2l+1, k] -> [n, 2l+1, k]."""
    # Row m mixes with row -m: cos(m(phi + a)) = cos(m a) cos(m phi) - sin(m a) sin(m phi), and likewise for the sine.
    turned: Floats = cosines[:, :, None] * right - sines[:, :, None] * right[:, ::-1]
    return turned


@cache
def _about_y(l: int) -> Floats:
    """D^l of rotations about y from cosines and sines of m times their angle: [2 (2l+1), (2l+1)^2].

    Ry = A Rz A^T with A the quarter turn that takes z to y.
    """
    quarter = _quarter_turn(l)
    even = quarter[:, :, None] * quarter.T[None]  # [a, m, b]
    odd = -quarter[:, :, None] * quarter.T[None, ::-1]
    return np.concatenate([even, odd], axis=1).transpose(1, 0, 2).reshape(2 * (2 * l + 1), -1)


@cache
def _quarter_turn(l: int) -> Floats:
    """D^l of the rotation about x that takes z to y."""
    return wigner(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]), l)[l]


def _nearest_orthogonal(matrix: Floats) -> Floats:
    """The orthogonal matrix closest to one that is orthogonal up to rounding."""
    left, _, right = np.linalg.svd(matrix)
    nearest: Floats = left @ right
    return nearest


def _directions(l_max: int) -> Floats:
    """Evenly spread unit vectors (a Fibonacci lattice), enough to tell all harmonics up to l_max apart."""
    n = 8 * (l_max + 1) ** 2
    z = (2 * np.arange(n) + 1) / n - 1
    phi = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    flat = np.sqrt(1 - z**2)
    return np.stack([flat * np.cos(phi), flat * np.sin(phi), z], axis=1)


def _reduced_legendre(z: Floats, l_max: int) -> Floats:
    """Normalised associated Legendre functions divided by sin^m: [l_max+1, l_max+1 (m), n], by the standard recurrences."""
    values = np.zeros((l_max + 1, l_max + 1, len(z)))
    values[0, 0] = np.sqrt(1 / (4 * np.pi))
    for m in range(1, l_max + 1):
        values[m, m] = np.sqrt((2 * m + 1) / (2 * m)) * values[m - 1, m - 1]
    for m in range(l_max):
        values[m + 1, m] = np.sqrt(2 * m + 3) * z * values[m, m]
    for m in range(l_max + 1):
        for l in range(m + 2, l_max + 1):
            a = np.sqrt((4 * l**2 - 1) / (l**2 - m**2))
            b = np.sqrt(((l - 1) ** 2 - m**2) / (4 * (l - 1) ** 2 - 1))
            values[l, m] = a * (z * values[l - 1, m] - b * values[l - 2, m])
    return values
