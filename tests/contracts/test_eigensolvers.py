"""What every eigensolver must do; a new file in bands/eigensolvers is tested here without a line added."""

import numpy as np
import pytest
from scipy import sparse

from orbitrace import plugins
from orbitrace.bands import factors
from orbitrace.bands.eigensolvers import ROOM, Levels, _mixed, solve
from orbitrace.errors import InputError

SOLVERS = plugins.names(ROOM)
FACTORS = [name for name in plugins.names(factors.ROOM) if not factors.missing(name)]
SIZE, WANTED = 240, 16


def pencil(complex_: bool, lowest_overlap: float = 0.3, copies: int = 1) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """A banded Hermitian H (eV) and positive definite S on one pattern; every level occurs `copies` times."""
    n = SIZE // copies
    rng = np.random.default_rng(7)
    near = abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 12
    h, s = (rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if complex_ else 0.0) for _ in range(2))
    h, s = ((m + m.conj().T) * near for m in (2 * h, 0.05 * s))
    s += (lowest_overlap - np.linalg.eigvalsh(s)[0]) * np.eye(n)
    h, s = (np.kron(m, np.eye(copies)) for m in (h, s))
    pattern = sparse.csr_matrix(s)
    rows, columns = pattern.nonzero()
    return sparse.csr_matrix((h[rows, columns], pattern.indices, pattern.indptr)), pattern


def reference(H: sparse.csr_matrix, S: sparse.csr_matrix) -> np.ndarray:
    """All levels by numpy: Cholesky, and eigenvalues of a full matrix."""
    inverse = np.linalg.inv(np.linalg.cholesky(S.toarray()))
    return np.linalg.eigvalsh(inverse @ H.toarray() @ inverse.conj().T)


def nearest(levels: np.ndarray, sigma: float, n: int) -> np.ndarray:
    return np.sort(levels[np.argsort(abs(levels - sigma), kind="stable")[:n]])


def check_states(levels: Levels, H: sparse.csr_matrix, S: sparse.csr_matrix) -> None:
    c = levels.states
    assert c is not None and levels.residuals is not None
    assert abs(c.conj().T @ (S @ c) - np.eye(c.shape[1])).max() < 1e-8
    assert np.linalg.norm(H @ c - (S @ c) * levels.energies, axis=0).max() < 1e-7
    assert levels.residuals.max() <= 1e-8


@pytest.fixture(params=[False, True], ids=["real", "complex"])
def matrices(request):
    return pencil(request.param)


@pytest.mark.parametrize("name", SOLVERS)
def test_levels_near_an_energy_are_those_of_numpy(name, matrices):
    H, S = matrices
    everything = reference(H, S)
    levels = solve(name, H, S, WANTED, 0.37)
    assert levels.solver == name
    assert np.allclose(levels.energies, nearest(everything, 0.37, WANTED), rtol=0, atol=1e-9)
    check_states(levels, H, S)


@pytest.mark.parametrize("name", SOLVERS)
def test_first_band_is_the_number_of_levels_below(name, matrices):
    H, S = matrices
    levels = solve(name, H, S, WANTED, -1.9)
    assert levels.first_band is not None
    expected = reference(H, S)[levels.first_band : levels.first_band + WANTED]
    assert np.allclose(levels.energies, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_all_levels_can_be_asked_for(name, matrices):
    H, S = matrices
    levels = solve(name, H, S)
    assert levels.first_band == 0
    assert np.allclose(levels.energies, reference(H, S), rtol=0, atol=1e-9)
    check_states(levels, H, S)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_lowest_levels_come_without_sigma(name, matrices):
    H, S = matrices
    assert np.allclose(solve(name, H, S, 5).energies, reference(H, S)[:5], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("copies", [2, 3, 6])
def test_every_copy_of_a_degenerate_level_is_found(name, copies):
    H, S = pencil(True, copies=copies)
    n = 4 * copies
    levels = solve(name, H, S, n, 0.37)
    assert np.allclose(levels.energies, nearest(reference(H, S), 0.37, n), rtol=0, atol=1e-9)
    check_states(levels, H, S)


@pytest.mark.parametrize("name", SOLVERS)
def test_an_ill_conditioned_but_positive_overlap_is_solved(name):
    H, S = pencil(True, lowest_overlap=1e-7)
    everything = reference(H, S)
    assert abs(everything).max() > 1e4  # eV: the level that a nearly dependent combination of orbitals makes
    levels = solve(name, H, S, WANTED, 0.37, tolerance=1e-6)
    assert np.allclose(levels.energies, nearest(everything, 0.37, WANTED), rtol=0, atol=1e-7)  # numpy itself is no better


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("copies", [1, 3])
def test_sigma_on_a_level_is_no_accident(name, copies):
    H, S = pencil(True, copies=copies)
    everything = reference(H, S)
    sigma = float(everything[len(everything) // 2])
    levels = solve(name, H, S, WANTED, sigma)
    assert levels.first_band is not None
    assert np.allclose(levels.energies, everything[levels.first_band :][:WANTED], rtol=0, atol=1e-9)
    assert abs(levels.energies - sigma).min() < 1e-9


@pytest.mark.parametrize("name", SOLVERS)
def test_an_overlap_that_is_not_positive_definite_is_refused_by_k_and_number(name):
    H, S = pencil(True, lowest_overlap=-0.0123)
    with pytest.raises(InputError, match=r"k = \(0.1.*not positive definite.*-1.230e-02"):
        solve(name, H, S, WANTED, 0.0, where="k = (0.1, 0.2, 0.0)")


@pytest.mark.parametrize("name", SOLVERS)
def test_energies_alone_are_the_same(name, matrices):
    H, S = matrices
    with_states, alone = (solve(name, H, S, WANTED, 0.37, states=states) for states in (True, False))
    assert np.allclose(with_states.energies, alone.energies, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("n_bands", [0, SIZE + 1])
def test_more_bands_than_orbitals_are_refused(name, n_bands, matrices):
    with pytest.raises(InputError, match=f"{n_bands} bands.*1 to {SIZE}"):
        solve(name, *matrices, n_bands, 0.0)


@pytest.mark.parametrize("name", SOLVERS)
def test_almost_all_levels_can_be_asked_for(name, matrices):
    H, S = matrices
    n = SIZE - 3
    assert np.allclose(solve(name, H, S, n, 0.0).energies, nearest(reference(H, S), 0.0, n), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_an_unknown_option_is_refused(name, matrices):
    with pytest.raises(InputError, match=f"{name}.tolerence: unknown key"):
        solve(name, *matrices, 4, 0.0, {"tolerence": 1e-9})


def test_an_unknown_solver_is_refused_with_the_known_ones(matrices):
    with pytest.raises(InputError, match=r"dense, shift_invert.*Did you mean 'dense'"):
        solve("dens", *matrices)


def test_a_misspelt_option_is_guessed(matrices):
    with pytest.raises(InputError, match="Did you mean 'tolerance'"):
        solve("shift_invert", *matrices, 4, 0.0, {"tolerence": 1e-9})


def test_counting_proves_that_shift_invert_misses_no_level(matrices):
    levels = solve("shift_invert", *matrices, WANTED, 0.37, {"verify": True})
    assert levels.verified and levels.solver == "shift_invert"


def test_shift_invert_on_a_large_matrix_says_why_it_gives_up(monkeypatch, matrices):
    monkeypatch.setattr("orbitrace.bands.eigensolvers.DENSE_LIMIT", 100)
    with pytest.raises(InputError, match=r"gives up: 200 of 240 levels are too many.*use the solver 'dense'"):
        solve("shift_invert", *matrices, 200, 0.0)


def test_lanczos_that_does_not_converge_falls_back_to_dense(matrices):
    levels = solve("shift_invert", *matrices, WANTED, 0.37, {"max_vectors": 20})
    assert levels.solver == "dense"
    assert np.allclose(levels.energies, nearest(reference(*matrices), 0.37, WANTED), rtol=0, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.37, -1.9])
@pytest.mark.parametrize("factor", FACTORS)
def test_values_are_energies_to_ten_microelectronvolt(factor, sigma, matrices):
    H, S = matrices
    everything = reference(H, S)
    levels = solve("shift_invert", H, S, WANTED, sigma, {"accuracy": "values", "factor": factor, "verify": True})
    assert levels.accuracy == "values" and levels.factor.split()[0] == factor
    assert levels.verified and levels.first_band is not None
    expected = everything[levels.first_band : levels.first_band + WANTED]
    assert np.allclose(levels.energies, expected, rtol=0, atol=1e-5)
    assert np.allclose(levels.energies, nearest(everything, sigma, WANTED), rtol=0, atol=1e-5)
    if factor == "pardiso":  # it pivots, and so is good enough in single precision
        assert levels.factor == "pardiso (single precision)"
        assert levels.residuals is not None and levels.residuals.max() > 1e-7


@pytest.mark.parametrize("copies", [1, 3])
def test_values_next_to_a_level_are_numbered_rightly(copies):
    H, S = pencil(True, copies=copies)
    everything = reference(H, S)
    for distance in (0.0, 1e-6, -1e-4):
        levels = solve("shift_invert", H, S, WANTED, float(everything[120]) + distance, {"accuracy": "values"})
        assert levels.first_band is not None
        assert np.allclose(levels.energies, everything[levels.first_band :][:WANTED], rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", FACTORS)
def test_values_are_corrected_where_the_overlap_is_too_ill_conditioned_for_single_precision(factor):
    rng = np.random.default_rng(1)
    mix, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    h = 100 * rng.normal(size=(SIZE, SIZE))  # energies up to 1e9 eV, which single precision cannot tell from those near sigma
    H, S = (sparse.csr_matrix((m + m.T) / 2) for m in (h + h.T, (mix * np.logspace(-7, 0, SIZE)) @ mix.T))
    levels = solve("shift_invert", H, S, 8, 0.37, {"accuracy": "values", "factor": factor}, tolerance=1e-6)
    assert levels.accuracy == "values"
    assert np.allclose(levels.energies, nearest(reference(H, S), 0.37, 8), rtol=1e-7)  # NumPy itself is no better


@pytest.mark.parametrize(("limit", "value"), [("PROBE", 0.0), ("ENERGY_ERROR", 0.0)])
def test_values_that_single_precision_cannot_give_are_done_in_double(limit, value, matrices, monkeypatch):
    monkeypatch.setattr(_mixed, limit, value)
    levels = solve("shift_invert", *matrices, WANTED, 0.37, {"accuracy": "values", "factor": "multifrontal"})
    assert (levels.accuracy, levels.factor) == ("values", "multifrontal")
    assert np.allclose(levels.energies, nearest(reference(*matrices), 0.37, WANTED), rtol=0, atol=1e-5)


def test_an_unknown_accuracy_is_refused(matrices):
    with pytest.raises(InputError, match=r"accuracy: 'vales'. Expected 'states' or 'values'"):
        solve("shift_invert", *matrices, WANTED, 0.37, {"accuracy": "vales"})
