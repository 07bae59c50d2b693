"""Positive definite or not: the sign of the lowest eigenvalue of an overlap, by Cholesky or by Lanczos."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from orbitrace import readers
from orbitrace.physics import definite
from orbitrace.physics.definite import at_gamma, lowest_eigenvalue


@pytest.mark.parametrize("size", [200, 1700], ids=["by Cholesky", "by Lanczos"])
@pytest.mark.parametrize("lowest", [-0.02, 0.02])
def test_the_sign_of_the_lowest_overlap_is_found(size: int, lowest: float) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([[lowest], rng.uniform(0.1, 3.0, size - 1)])
    turn = sparse.block_diag([np.linalg.qr(rng.normal(size=(20, 20)))[0] for _ in range(size // 20)]).tocsr()
    S = (turn @ sparse.diags(values) @ turn.T).tocsr()
    found = lowest_eigenvalue(S)
    assert (found > 0) == (lowest > 0)
    if lowest < 0:
        assert np.isclose(found, lowest, rtol=1e-3)


def test_a_complex_overlap_at_a_general_k_has_a_sign_too() -> None:
    S = np.array([[1.0, 0.9j, 0.0], [-0.9j, 1.0, 0.9j], [0.0, -0.9j, 1.0]])
    assert lowest_eigenvalue(S) == pytest.approx(1 - 0.9 * np.sqrt(2))
    assert lowest_eigenvalue(sparse.csr_matrix(S)) == lowest_eigenvalue(S)
    assert lowest_eigenvalue(0.5 * S + 0.5 * np.eye(3)) > 0


def test_the_overlap_at_gamma_is_the_same_dense_and_sparse_and_lanczos_finds_its_lowest_eigenvalue(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = readers.read(example / "references" / "twisted_1_2")
    full = at_gamma(c.overlap, c.structure, c.basis)
    monkeypatch.setattr(definite, "DENSE", 10)
    spread = at_gamma(c.overlap, c.structure, c.basis)
    assert isinstance(full, np.ndarray) and sparse.issparse(spread)
    np.testing.assert_allclose(spread.toarray(), full, rtol=0, atol=1e-14)
    assert lowest_eigenvalue(spread, steps=200) == pytest.approx(np.linalg.eigvalsh(full)[0], abs=1e-6)
