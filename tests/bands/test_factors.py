"""Sparse factorisations: they solve, and they count levels (inertia)."""

import numpy as np
import pytest
from scipy import sparse
from tight_binding import graphene, honeycomb, slater_koster

from orbitrace import plugins
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import solve
from orbitrace.bands.factors import ROOM, SingularError, factor
from orbitrace.bands.factors._dissection import nested_dissection
from orbitrace.bands.inertia import count_below, shifted
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError

FACTORS = plugins.names(ROOM)


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
    assert lu.lu.nnz < 0.7 * natural.nnz


def test_a_difference_keeps_the_common_pattern(flake):
    H, _ = flake.at((0.0, 0.0, 0.0))
    assert shifted(H, H, 1.0).nnz == H.nnz  # all zero, and all stored
    assert np.allclose(shifted(H, sparse.identity(flake.size, format="csr"), 2.0).diagonal(), H.diagonal() - 2.0)
