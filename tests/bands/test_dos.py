"""Density of states: it integrates to the states there are, and has the shape of known models."""

from dataclasses import replace

import numpy as np
import pytest
from tight_binding import chain, graphene, honeycomb, polarised, slater_koster

from orbitrace.bands.dos import Settings, density_of_states
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError


def test_density_integrates_to_the_states_of_the_cell():
    dos = density_of_states(graphene(), Settings(window=(-20.0, 20.0), width=0.1, mesh=(9, 9, 1), n_points=4001))
    assert np.trapezoid(dos.density[0], dos.energies) == pytest.approx(4.0, abs=1e-6)
    filled = dos.energies <= dos.fermi_level
    assert np.trapezoid(dos.density[0][filled], dos.energies[filled]) == pytest.approx(2.0, abs=0.05)


def test_chain_has_its_arcsine_density():
    dos = density_of_states(chain(), Settings(window=(-1.5, 1.5), width=0.02, mesh=(900, 1, 1)))
    exact = 2 / (np.pi * np.sqrt(4 - dos.energies**2))
    assert np.allclose(dos.density[0], exact, rtol=1e-3)


def test_density_of_graphene_vanishes_at_the_dirac_point():
    dos = density_of_states(graphene(overlap=0.0), Settings(window=(-3.0, 3.0), width=0.08, mesh=(60, 60, 1)))
    middle = len(dos.energies) // 2
    assert dos.density[0, middle] < 0.05 < 0.3 < dos.density[0].max()
    assert np.allclose(dos.density[0], dos.density[0, ::-1], atol=1e-6)  # electrons and holes alike


def test_spins_have_densities_of_their_own():
    c = slater_koster(honeycomb())
    plain = density_of_states(c, Settings(mesh=(5, 5, 1)))
    split = density_of_states(replace(polarised(c, 0.0), fermi_level=plain.fermi_level), Settings(mesh=(5, 5, 1)))
    assert split.density.shape == (2, 1001)
    assert np.allclose(split.density.sum(axis=0), plain.density[0], atol=1e-9)


def test_a_sparse_solver_gives_the_same_density_in_the_window():
    c = repeated(slater_koster(honeycomb()), (6, 6, 1))
    c = replace(c, fermi_level=-2.8)
    dense, sparse = (
        density_of_states(c, Settings(window=(-0.5, 0.5), mesh=(2, 1, 1), solver=solver))
        for solver in ("dense", "shift_invert")
    )
    assert dense.density.max() > 1.0
    assert np.allclose(sparse.density, dense.density, rtol=0, atol=1e-4)


@pytest.mark.parametrize("width", [0.0, -0.1, float("nan")])
def test_a_width_that_is_not_positive_is_refused(width):
    with pytest.raises(InputError, match=r"width: .* a positive number"):
        density_of_states(graphene(), Settings(width=width, mesh=(3, 3, 1)))


def test_an_empty_window_is_refused():
    with pytest.raises(InputError, match="two ascending energies"):
        density_of_states(graphene(), Settings(window=(1.0, -1.0)))
