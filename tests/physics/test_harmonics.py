"""Real harmonics: values, and how they turn."""

import numpy as np
import pytest
from scipy.special import sph_harm_y

from orbitrace.physics.harmonics import real_harmonics, rotations, wigner

L_MAX = 6


def vectors(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3))


def orthogonal(seed: int, sign: int = 1) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.sign(np.linalg.det(q)) * sign


def test_harmonics_equal_those_of_scipy_without_condon_shortley_phase() -> None:
    x, y, z = vectors().T
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    for l, mine in enumerate(real_harmonics(vectors(), L_MAX)):
        for m in range(-l, l + 1):
            complex_one = sph_harm_y(l, abs(m), theta, phi) * (-1) ** m * (np.sqrt(2) if m else 1)
            np.testing.assert_allclose(mine[:, l + m], complex_one.imag if m < 0 else complex_one.real, atol=1e-13)


def test_p_is_y_z_x() -> None:
    unit = vectors() / np.linalg.norm(vectors(), axis=1, keepdims=True)
    np.testing.assert_allclose(real_harmonics(vectors(), 1)[1], np.sqrt(3 / (4 * np.pi)) * unit[:, [1, 2, 0]], atol=1e-15)


@pytest.mark.parametrize("sign", [1, -1])
def test_wigner_matrix_turns_harmonics(sign: int) -> None:
    q = orthogonal(1, sign)
    for d, before, after in zip(
        wigner(q, L_MAX), real_harmonics(vectors(), L_MAX), real_harmonics(vectors() @ q.T, L_MAX), strict=True
    ):
        np.testing.assert_allclose(after, before @ d.T, atol=1e-13)


def test_wigner_matrices_compose() -> None:
    a, b = orthogonal(1), orthogonal(2, -1)
    for product, left, right in zip(wigner(a @ b, L_MAX), wigner(a, L_MAX), wigner(b, L_MAX), strict=True):
        np.testing.assert_allclose(product, left @ right, atol=1e-13)


def test_rotations_take_the_z_axis_to_each_vector_and_are_proper_turns() -> None:
    special = np.array([[0, 0, 1], [0, 0, -2], [1, 0, 0], [0, -1, 0], [1e-17, 0, -1], [1e-300, -1e-300, 3], [-1e-9, 0, 1]])
    bonds = np.concatenate([vectors(20), special])
    matrices = rotations(bonds, L_MAX)
    unit = bonds / np.linalg.norm(bonds, axis=1, keepdims=True)
    for n in range(len(bonds)):
        q = matrices[1][n][np.ix_([2, 0, 1], [2, 0, 1])]  # from (y, z, x) to (x, y, z)
        np.testing.assert_allclose(q[:, 2], unit[n], atol=1e-13)
        assert np.linalg.det(q) == pytest.approx(1)
        for mine, general in zip(matrices, wigner(q, L_MAX), strict=True):
            np.testing.assert_allclose(mine[n], general, atol=1e-13)


def test_rotations_are_orthogonal() -> None:
    for l, matrices in enumerate(rotations(vectors(), L_MAX)):
        np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1) - np.eye(2 * l + 1), 0, atol=1e-13)


def test_rotation_of_a_zero_vector_is_the_identity() -> None:
    for l, matrices in enumerate(rotations(np.zeros((1, 3)), L_MAX)):
        np.testing.assert_allclose(matrices[0], np.eye(2 * l + 1), atol=1e-15)


def test_harmonics_equal_those_of_e3nn_fed_with_y_z_x() -> None:
    torch = pytest.importorskip("torch")
    o3 = pytest.importorskip("e3nn.o3")
    points = torch.tensor(vectors()[:, [1, 2, 0]])
    for l, mine in enumerate(real_harmonics(vectors(), L_MAX)):
        theirs = o3.spherical_harmonics(l, points, normalize=True, normalization="integral").numpy()
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
