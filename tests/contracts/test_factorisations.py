"""What every factorisation must do; a new file in bands/factors is tested here without a line added."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import linalg, sparse

from orbitrace import plugins
from orbitrace.bands import factors
from orbitrace.bands.factors import ROOM, SingularError, factor, missing
from orbitrace.bands.inertia import shifted
from orbitrace.errors import InputError

FACTORS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(missing(name)), reason=f"{name}: {missing(name)}"))
    for name in plugins.names(ROOM)
]
KINDS = [np.dtype(np.float64), np.dtype(np.complex128)]


def lattice(side: int, orbitals: int, kind: np.dtype, seed: int = 3, reach: float = 1.5) -> sparse.csr_matrix:
    """A random Hermitian matrix of sites on a periodic square lattice, coupled within `reach`, with blocks of orbitals."""
    rng = np.random.default_rng(seed)
    x, y = (c.ravel() for c in np.meshgrid(np.arange(side), np.arange(side)))
    steps = [(a, b) for a in range(-2, 3) for b in range(-2, 3) if a * a + b * b <= reach * reach]
    columns = np.sort(np.stack([(x + a) % side + side * ((y + b) % side) for a, b in steps], axis=1), axis=1)
    blocks = rng.normal(size=(columns.size, orbitals, orbitals)).astype(kind)
    if kind.kind == "c":
        blocks += 1j * rng.normal(size=blocks.shape)
    matrix = sparse.bsr_matrix((blocks, columns.ravel(), np.arange(0, columns.size + 1, len(steps)))).tocsr()
    return ((matrix + matrix.conj().T) / 2).tocsr().sorted_indices()


def relative_residual(A: sparse.csr_matrix, x: np.ndarray, b: np.ndarray) -> float:
    return float((np.linalg.norm(A @ x - b, axis=0) / np.linalg.norm(b, axis=0)).max())


@pytest.fixture(params=KINDS, ids=["real", "complex"])
def matrix(request):
    return lattice(9, 4, request.param)


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("columns", [1, 3, 8])
def test_blocks_are_solved_for_to_ten_digits(name, columns, matrix):
    b = np.random.default_rng(0).normal(size=(matrix.shape[0], columns)).astype(matrix.dtype)
    before = b.copy()
    made = factor(name, matrix)
    for block in (b, np.asfortranarray(b), np.repeat(b, 2, axis=1)[:, ::2]):
        x = made.solve(block)
        assert x.dtype == matrix.dtype and relative_residual(matrix, x, b) < 1e-10
    assert np.array_equal(b, before)
    assert made.residual < 1e-10


@pytest.mark.parametrize("name", FACTORS)
def test_inertia_is_the_dense_count_of_negative_eigenvalues(name, matrix):
    levels = np.linalg.eigvalsh(matrix.toarray())
    one = sparse.identity(matrix.shape[0], format="csr", dtype=matrix.dtype)
    for energy in (levels[0] - 1, -3.3, 0.0, (levels[160] + levels[161]) / 2, 4.1, levels[-1] + 1):
        assert factor(name, shifted(matrix, one, energy)).negatives() in (None, (levels < energy).sum())
    assert factor(name, shifted(matrix, one, 1.1)).negatives() == (levels < 1.1).sum()


@pytest.mark.parametrize("name", FACTORS)
def test_a_pattern_is_analysed_once_for_all_values(name, matrix, monkeypatch):
    calls = []
    module = plugins.load(ROOM, name)
    analyse = module.analyse
    monkeypatch.setattr(module, "analyse", lambda *args: calls.append(args) or analyse(*args))
    first, second = matrix.copy(), matrix.copy()
    second.data = lattice(9, 4, matrix.dtype, seed=5).data
    for A in (first, second, first):
        assert factor(name, A).residual < 1e-10
    assert len(calls) <= 1  # none if another test has had this pattern


@pytest.mark.parametrize("name", FACTORS)
def test_another_pattern_of_the_same_size_is_not_confused(name):
    a, b = (lattice(9, 4, KINDS[0], reach=reach) for reach in (1.5, 2.0))
    b = (b + sparse.identity(b.shape[0])).tocsr()
    turned = a[::-1][:, ::-1].tocsr().sorted_indices()
    for A in (a, b, turned):
        assert factor(name, A).residual < 1e-10


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_outlives_the_making_of_another(name, matrix):
    other = lattice(9, 4, matrix.dtype, seed=5)
    first, second = factor(name, matrix), factor(name, other)
    b = np.ones((matrix.shape[0], 2), dtype=matrix.dtype)
    for A, made in ((matrix, first), (other, second), (matrix, first)):
        assert relative_residual(A, made.solve(b), b) < 1e-10
    assert first.negatives() == (np.linalg.eigvalsh(matrix.toarray()) < 0).sum()


@pytest.mark.parametrize("name", FACTORS)
def test_a_singular_matrix_is_refused(name):
    with pytest.raises(SingularError):
        factor(name, sparse.csr_matrix(np.ones((6, 6))))
    block = np.array([[1.0, 2.0], [2.0, 4.0]])
    with pytest.raises(SingularError):
        factor(name, sparse.block_diag([np.eye(5), block, 3 * np.eye(3)]).tocsr())


@pytest.mark.parametrize("name", FACTORS)
def test_a_shift_on_a_level_is_refused(name, matrix):
    other = lattice(9, 4, matrix.dtype, seed=5)
    S = (other @ other.conj().T).tocsr()
    S.data *= 0.1 / abs(S.data).max()
    S = (S + sparse.identity(S.shape[0])).tocsr().sorted_indices()
    levels = linalg.eigvalsh(matrix.toarray(), S.toarray())
    with pytest.raises(SingularError):
        factor(name, (matrix - levels[100] * S).tocsr())
    assert factor(name, (matrix - (levels[100] + 1e-6) * S).tocsr()).negatives() in (None, 101)


@pytest.mark.parametrize("name", FACTORS)
def test_a_diagonal_element_that_is_not_stored_is_a_zero(name):
    A = sparse.csr_matrix(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 2.0], [0.0, 2.0, 1.0]]))
    b = np.eye(3)
    for pivoting in (False, True):
        try:
            made = factor(name, A, pivoting)
        except SingularError:
            assert not pivoting  # without pivoting it may be told so
        else:
            assert np.allclose(A @ made.solve(b), b) and made.negatives() in (None, 1)


@pytest.mark.parametrize("name", FACTORS)
def test_single_precision_solves_and_counts_in_half_the_memory(name, matrix):
    made = factor(name, matrix, single=True)
    b = np.ones((matrix.shape[0], 2), dtype=factors.SINGLE[matrix.dtype])
    x = made.solve(b)
    assert x.dtype == b.dtype and relative_residual(matrix, x.astype(matrix.dtype), b) < 1e-2
    assert made.negatives() == (np.linalg.eigvalsh(matrix.toarray()) < 0).sum()
    large = lattice(40, 4, matrix.dtype)
    single, double = (factors.analyse(name, large, single=s).memory() for s in (True, False))
    assert 0.4 < single / double < 0.8


MEASURE = """
import ctypes, gc, json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_factorisations import KINDS, lattice
from orbitrace import plugins
from orbitrace.bands import factors

def status(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))

matrix = lattice(36, 4, KINDS[int(sys.argv[3])], reach=2.3)
factors.missing(sys.argv[2])
gc.collect()
ctypes.CDLL(None).malloc_trim(0)  # else what the heap kept of freed arrays would be used again, uncounted
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
before = status("VmRSS")
analysis = plugins.load(factors.ROOM, sys.argv[2]).analyse(matrix, matrix.dtype)
made = analysis.factor(matrix, False)
made.solve(np.ones((matrix.shape[0], 4), dtype=matrix.dtype))
made.negatives()
print(json.dumps([analysis.memory(), status("VmHWM") - before]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured by Linux's /proc")
@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("kind", [0, 1], ids=["real", "complex"])
def test_memory_is_foreseen_within_fifteen_per_cent(name, kind, request):
    command = [sys.executable, "-c", MEASURE, str(request.path.parent), name, str(kind)]
    told, measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert told == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("name", FACTORS)
def test_what_the_memory_cannot_hold_is_not_begun(name, matrix, monkeypatch):
    monkeypatch.setattr(factors, "available", lambda: 1000.0)
    with pytest.raises(InputError, match=r"of 324 orbitals: it needs .* at most the 0.00 GiB that are free"):
        factor(name, matrix)


def test_an_unknown_factorisation_is_refused_with_the_known_ones(matrix):
    with pytest.raises(InputError, match=r"superlu.*Did you mean 'superlu'"):
        factor("superlut", matrix)
