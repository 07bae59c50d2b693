"""The Fermi level from the electron count: closed forms, and what OpenMX found on the same mesh."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tight_binding import chain, graphene, honeycomb, polarised, slater_koster

from orbitrace import readers
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import solve
from orbitrace.bands.fermi import electron_count, fermi_level, find_fermi_level
from orbitrace.bands.mesh import divisions_for, uniform_mesh
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis, Shells


def gapped(mass: float) -> Calculation:
    """Graphene whose two atoms differ by 2 `mass` eV: levels -+ sqrt(mass^2 + t^2 |f|^2), a gap of 2 `mass` at K."""
    c = graphene(overlap=0.0)
    values = c.hamiltonian.values.copy()
    values[c.hamiltonian.onsite] = [mass, -mass]
    return replace(c, hamiltonian=c.hamiltonian.with_values(values))


def test_half_filled_chain_has_its_fermi_level_at_the_middle_of_the_band():
    found = find_fermi_level(chain(), mesh=(12, 1, 1))
    assert abs(found.energy) < 1e-9
    assert (found.n_electrons, found.gap) == (1.0, 0.0)


def test_a_chain_filled_otherwise_has_its_fermi_level_at_that_k():
    # A mesh of N holds the k = n / N; with 2 electrons per level, filling 1/3 ends at k = 1/6 of the zone on either side
    filled = replace(chain(), n_electrons=2 / 3)
    assert fermi_level(filled, mesh=(300, 1, 1), temperature=10.0) == pytest.approx(-2 * np.cos(2 * np.pi / 6), abs=0.02)


def test_graphene_is_filled_up_to_its_dirac_point_even_with_overlap():
    found = find_fermi_level(graphene(overlap=0.1))
    assert abs(found.energy) < 1e-9
    assert found.gap < 1e-9
    assert all(n % 3 == 0 for n in found.divisions[:2]) and found.divisions[2] == 1


def test_an_insulator_has_its_fermi_level_in_the_middle_of_the_gap():
    found = find_fermi_level(gapped(1.5))
    assert found.gap == pytest.approx(3.0, abs=1e-9)
    assert abs(found.energy) < 1e-9


def test_electrons_come_from_the_calculation_or_else_from_the_valence():
    assert electron_count(graphene()) == 2.0
    assert electron_count(replace(graphene(), n_electrons=1.9)) == 1.9


def test_doping_moves_the_fermi_level():
    neutral, doped = (fermi_level(replace(graphene(overlap=0.0), n_electrons=n)) for n in (2.0, 2.1))
    assert doped > neutral + 0.1


def test_unknown_electrons_are_refused():
    c = graphene()
    unknown = replace(c, basis=Basis({6: Shells((0,), c.basis[6].cutoff)}))
    with pytest.raises(InputError, match="number of electrons is not known, nor the valence of C"):
        fermi_level(unknown)


@pytest.mark.parametrize("n", [0.0, 4.5])
def test_more_electrons_than_the_orbitals_hold_are_refused(n):
    with pytest.raises(InputError, match=f"{n:g} electrons. Expected more than 0 and at most 4"):
        fermi_level(replace(graphene(), n_electrons=n))


def test_collinear_spins_share_one_fermi_level():
    split = polarised(replace(gapped(1.5), n_electrons=2.0), 0.4)
    found = find_fermi_level(split)
    assert found.energy == pytest.approx(0.2, abs=1e-9)
    assert found.gap == pytest.approx(2.6, abs=1e-9)


def test_counting_in_a_large_cell_gives_the_fermi_level_of_all_levels():
    big = repeated(slater_koster(honeycomb()), (6, 6, 1))
    dense, sparse = (find_fermi_level(big, mesh=(2, 2, 1), solver=solver) for solver in ("dense", "shift_invert"))
    assert sparse.energy == pytest.approx(dense.energy, abs=1e-9)


@pytest.mark.parametrize(
    ("folder", "mesh"),
    [("references/AB", (12, 12, 1)), ("data/bilayers/000", (6, 6, 1)), ("data/bilayers/001", (6, 6, 1))],
)
def test_fermi_level_on_openmx_mesh_is_openmx_own(example: Path, folder, mesh):
    # OpenMX: the same mesh with Gamma, Fermi-Dirac occupations at 300 K; its count of electrons is converged to 1e-8
    calculation = readers.read(example / folder)
    assert fermi_level(calculation, mesh, 300.0) == pytest.approx(calculation.fermi_level, abs=1e-6)


def test_fermi_level_of_spinors_is_openmx_own(shared_data: Path):
    calculation = readers.read(shared_data / "openmx" / "bismuthene_soc" / "prim")
    assert fermi_level(calculation, (6, 6, 1), 300.0) == pytest.approx(calculation.fermi_level, abs=1e-6)


@pytest.mark.parametrize("divisions", [(4, 3, 1), (5, 5, 2), (1, 1, 1), (6, 4, 3)])
def test_half_of_a_mesh_stands_for_all_of_it(divisions):
    whole, half = (uniform_mesh(divisions, time_reversal) for time_reversal in (False, True))
    assert whole.weights.sum() == pytest.approx(1.0) and half.weights.sum() == pytest.approx(1.0)
    assert len(half.kpoints) <= len(whole.kpoints) // 2 + 4
    waves = np.random.default_rng(0).integers(-9, 9, size=(20, 3))  # even functions have the same mean over both
    means = [np.cos(2 * np.pi * m.kpoints @ waves.T).T @ m.weights for m in (whole, half)]
    assert np.allclose(*means, rtol=0, atol=1e-12)


def test_default_mesh_holds_the_corner_of_the_zone_and_ignores_vacuum():
    c = graphene()
    divisions = divisions_for(c.structure, 0.15, c.hamiltonian.pairs)
    assert divisions == (21, 21, 1)
    k = uniform_mesh(divisions, time_reversal=False).kpoints
    (pencil,) = Pencil.channels(c)
    gaps = [np.ptp(solve("dense", *pencil.at(point)).energies) for point in k]
    assert min(gaps) < 1e-9


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_a_mesh_spacing_that_is_not_positive_is_refused(spacing):
    with pytest.raises(InputError, match="a positive number"):
        divisions_for(honeycomb(), spacing)


def test_a_mesh_without_points_is_refused():
    with pytest.raises(InputError, match="three whole numbers from 1"):
        fermi_level(graphene(), mesh=(3, 0, 1))
