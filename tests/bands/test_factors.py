"""Sparse factorisations: they solve, and they count levels (inertia)."""

import numpy as np
import pytest
from scipy import sparse
from tight_binding import graphene, honeycomb, slater_koster

from orbitrace import plugins
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import solve
from orbitrace.bands.factors import ROOM, SingularError, chosen, factor, missing
from orbitrace.bands.factors._dissection import nested_dissection
from orbitrace.bands.factors._pairs import negatives_of
from orbitrace.bands.inertia import count_below, shifted
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError

FACTORS = [name for name in plugins.names(ROOM) if not missing(name)]


@pytest.fixture(scope="module")
def flake() -> Pencil:
    """A cell of 72 atoms, 360 orbitals."""
    (pencil,) = Pencil.channels(repeated(slater_koster(honeycomb()), (6, 6, 1)))
    return pencil


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("k", [(0.0, 0.0, 0.0), (0.17, 0.31, 0.0)], ids=["real", "complex"])
def test_inertia_is_the_number_of_levels_below(name, k, flake):
    H, S = flake.at(k)
    levels = solve("dense", H, S).energies
    for energy in (-9.3, -3.31, 0.017, 7.7):
        assert factor(name, shifted(H, S, energy)).negatives() == (levels < energy).sum()


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("pivoting", [False, True])
def test_a_factor_solves_for_blocks(name, pivoting, flake):
    A = shifted(*flake.at((0.17, 0.31, 0.0)), -3.31)
    block = np.random.default_rng(0).normal(size=(A.shape[0], 3)).astype(complex)
    assert np.allclose(A @ factor(name, A, pivoting).solve(block), block, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FACTORS)
def test_a_singular_matrix_is_said_to_be_so(name):
    with pytest.raises(SingularError):
        factor(name, sparse.csr_matrix(np.ones((6, 6))))


@pytest.mark.parametrize("name", FACTORS)
def test_a_pivot_off_the_diagonal_forbids_counting(name):
    A = sparse.csr_matrix(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert factor(name, A).negatives() in (None, 1)
    (pencil,) = Pencil.channels(graphene())
    H, S = pencil.at([0, 0, 0])
    assert count_below(H, S, 0.0) == 1  # H has zeros on its diagonal: the energy is moved a little


def test_counting_at_an_energy_that_nothing_can_count_is_an_error():
    H, S = sparse.csr_matrix(np.ones((6, 6))), sparse.csr_matrix((6, 6))
    with pytest.raises(InputError, match=r"cannot count the levels below 0.0000 eV"):
        count_below(H, S, 0.0)


def test_nested_dissection_is_an_order_of_all_rows_with_atoms_kept_together(flake):
    order = nested_dissection(flake.pattern.indptr, flake.pattern.indices)
    assert np.array_equal(np.sort(order), np.arange(flake.size))
    atoms = flake.pattern.atoms[order].reshape(-1, 5)
    assert (atoms == atoms[:, :1]).all()


def test_nested_dissection_separates_parts_that_do_not_couple():
    parts = sparse.block_diag([np.ones((60, 60)), np.diag(np.ones(59), 1) + np.diag(np.ones(59), -1) + np.eye(60)]).tocsr()
    order = nested_dissection(parts.indptr, parts.indices)
    assert np.array_equal(np.sort(order), np.arange(120))


def test_nested_dissection_saves_fill_over_the_order_of_the_atoms():
    (pencil,) = Pencil.channels(repeated(slater_koster(honeycomb(), 3.0), (16, 16, 1)))
    A = shifted(*pencil.at((0.0, 0.0, 0.0)), -3.31)
    lu = factor("superlu", A)
    natural = sparse.linalg.splu(A.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    assert lu.factor.lu.nnz < 0.7 * natural.nnz


def test_a_difference_keeps_the_common_pattern(flake):
    H, _ = flake.at((0.0, 0.0, 0.0))
    assert shifted(H, H, 1.0).nnz == H.nnz  # all zero, and all stored
    assert np.allclose(shifted(H, sparse.identity(flake.size, format="csr"), 2.0).diagonal(), H.diagonal() - 2.0)


def test_auto_is_the_fastest_factorisation_that_is_installed(monkeypatch):
    assert chosen("auto") == ("multifrontal" if missing("pardiso") else "pardiso")
    monkeypatch.setattr(plugins.load(ROOM, "pardiso"), "missing", lambda: "Install it by pip")
    assert chosen("auto") == "multifrontal"


def test_a_factorisation_that_is_asked_for_and_not_installed_says_how_to_get_it(monkeypatch, flake):
    monkeypatch.setattr(plugins.load(ROOM, "pardiso"), "_library", lambda: None)
    with pytest.raises(InputError, match=r"pardiso: it is not installed.*pip install 'orbitrace\[mkl\]'"):
        solve("shift_invert", *flake.at((0.0, 0.0, 0.0)), 8, 0.0, {"factor": "pardiso"})


def test_levels_name_the_factorisation_that_was_used(flake):
    for name in FACTORS:
        levels = solve("shift_invert", *flake.at((0.1, 0.0, 0.0)), 8, 0.0, {"factor": name})
        assert (levels.solver, levels.factor) == ("shift_invert", name)
    assert solve("shift_invert", *flake.at((0.1, 0.0, 0.0)), 8, 0.0).factor == chosen()


@pytest.mark.parametrize("eps", [np.finfo(np.float32).eps, np.finfo(np.float64).eps])
def test_blocks_of_one_and_two_are_counted_by_what_they_do_to_vectors(eps):
    rng = np.random.default_rng(2)
    size, n_pairs = 900, 200
    diagonal = rng.normal(size=size) * 10 ** rng.uniform(-2, 2, size=size)
    rows = rng.permutation(size)[: 2 * n_pairs].reshape(2, -1)
    beside = (rng.normal(size=n_pairs) + 1j * rng.normal(size=n_pairs)) * 10 ** rng.uniform(-1, 1, size=n_pairs)
    D = sparse.diags(diagonal).tolil().astype(complex)
    D[rows[0], rows[1]], D[rows[1], rows[0]] = beside, beside.conj()
    D = D.tocsr()
    negatives = int((np.linalg.eigvalsh(D.toarray()) < 0).sum())
    kind = np.complex64 if eps > 1e-10 else np.complex128
    assert negatives_of(lambda v: (D.astype(kind) @ v.astype(kind)).astype(complex), size, float(eps)) == negatives


def test_products_that_are_not_finite_give_no_count() -> None:
    """As PARDISO's with D in several threads: some rows were not finite, and were not counted."""
    diagonal = np.array([-1.0, 2.0, np.nan, -3.0])
    assert negatives_of(lambda x: diagonal[:2] * x, 2, 1e-16) == 1
    assert negatives_of(lambda x: diagonal * x, 4, 1e-16) is None
