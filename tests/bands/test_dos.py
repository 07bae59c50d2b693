"""Density of states: it integrates to the states there are, and has the shape of known models."""

from dataclasses import replace

import numpy as np
import pytest
from tight_binding import chain, graphene, honeycomb, polarised, slater_koster

from orbitrace.bands.dos import Settings, broadened, density_of_states
from orbitrace.bands.populations import populations
from orbitrace.bands.projections import KINDS
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.structure import Structure

RIPPLE = np.array([[0.0, 0.1, 0.2], [0.05, 0.0, -0.1]])  # Å


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


@pytest.fixture(scope="module")
def rippled() -> Calculation:
    """A cell of 90 orbitals without symmetry."""
    flat = honeycomb()
    one = slater_koster(Structure(flat.positions + RIPPLE, flat.lattice, flat.numbers))
    return replace(repeated(one, (3, 3, 1)), fermi_level=-2.8)


def test_projected_densities_sum_to_the_whole(rippled):
    dos = density_of_states(rippled, Settings(mesh=(2, 1, 1), projections=KINDS))
    assert set(dos.projected) == set(KINDS)
    for part in dos.projected.values():
        assert np.allclose(part.values.sum(axis=2), dos.density, rtol=0, atol=1e-10)
    orbitals, shells = dos.projected["orbital"], dos.projected["shell"]
    assert np.allclose(orbitals.values[..., 1:].sum(axis=2), shells.values[..., 1], rtol=0, atol=1e-10)


def test_filled_up_to_the_fermi_level_projected_densities_are_populations():
    c = replace(slater_koster(honeycomb()), fermi_level=-5.0)
    settings = Settings(window=(-40.0, 0.0), width=0.01, mesh=(6, 6, 1), n_points=8001, projections=("shell",))
    dos = density_of_states(c, settings)
    below = np.trapezoid(dos.projected["shell"].values[0], dos.energies, axis=0)
    assert below == pytest.approx(populations(c, "shell", (6, 6, 1), temperature=1.0).values[0], abs=2e-3)


def test_moments_give_the_density_of_the_levels_to_all_digits(rippled):
    """With exact traces in place of random vectors nothing is left of the difference."""
    common = {
        "window": (-12.0, 9.0),
        "width": 0.1,
        "mesh": (2, 1, 1),
        "projections": ("element", "shell", "atom"),
        "n_points": 201,
    }
    levels = density_of_states(rippled, Settings(method="levels", **common))
    moments = density_of_states(rippled, Settings(method="kpm", vectors=0, **common))
    assert moments.record["method"] == "kpm" and moments.error is None
    assert np.allclose(moments.density, levels.density, rtol=0, atol=2e-5 * levels.density.max())
    for kind, part in levels.projected.items():
        assert np.allclose(moments.projected[kind].values, part.values, rtol=0, atol=2e-5 * levels.density.max())


def test_random_vectors_are_as_far_off_as_they_say(rippled):
    common = {"window": (-10.0, 8.0), "width": 0.4, "mesh": (2, 1, 1), "projections": ("shell",), "n_points": 101}
    exact = density_of_states(rippled, Settings(method="levels", **common))
    random = density_of_states(rippled, Settings(method="kpm", vectors=48, **common))
    assert random.error is not None and random.error.shape == exact.density.shape
    off = (random.density - exact.density) / random.error
    assert 0.5 < np.sqrt((off**2).mean()) < 2.0
    assert np.allclose(random.projected["shell"].values.sum(axis=2), random.density, rtol=0, atol=1e-9)
    again = density_of_states(rippled, Settings(method="kpm", vectors=48, **common))
    assert np.array_equal(again.density, random.density)


def test_moments_of_collinear_spins_and_in_several_processes(rippled):
    c = replace(polarised(slater_koster(honeycomb()), 0.7), fermi_level=-5.0)
    common = {"window": (-9.0, 9.0), "width": 0.2, "mesh": (3, 1, 1), "n_points": 101}
    levels = density_of_states(c, Settings(**common))
    moments = density_of_states(c, Settings(method="kpm", vectors=0, n_workers=2, **common))
    assert np.allclose(moments.density, levels.density, rtol=0, atol=2e-5 * levels.density.max())


def test_adaptive_widths_need_fewer_k_points():
    c = replace(graphene(overlap=0.0), fermi_level=0.0)
    phases = np.exp(2j * np.pi * np.arange(900) / 900)
    f = 2.7 * abs(1 + phases[:, None] + phases[None, :]).reshape(-1)
    counts, edges = np.histogram(np.concatenate([-f, f]), 4000, (-10.0, 10.0))
    levels, energies = (edges[1:] + edges[:-1]) / 2, np.linspace(-9.0, 9.0, 361)
    true = 2 * broadened(levels, np.full(4000, 0.05), counts[:, None] / len(f), energies)[:, 0]

    def error(**settings: object) -> float:
        dos = density_of_states(c, Settings((-9.0, 9.0), mesh=(12, 12, 1), n_points=361, **settings))
        return float(np.sqrt(((dos.density - true) ** 2).mean()))

    adaptive = error(broadening="adaptive")
    assert adaptive < 0.04
    assert adaptive < 0.7 * min(error(width=width) for width in (0.05, 0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "kpm", "broadening": "adaptive"}, "with method kpm, which has no levels. Expected gaussian"),
        ({"method": "kpm", "width": 1e-5}, r"k = \(0.*a width of 1e-05 eV for a spectrum of .* eV. Expected at least 0.00"),
        ({"projections": ("spin",)}, "unknown kind 'spin'"),
        ({"vectors": -1}, "vectors: -1"),
        ({"n_points": 1}, "n_points: 1. Expected at least 2"),
        ({"fermi": "file"}, "brings no Fermi level"),
    ],
)
def test_what_cannot_be_computed_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        density_of_states(graphene(), Settings(mesh=(1, 1, 1), **settings))


def test_moments_of_an_overlap_that_is_not_positive_definite_are_refused_by_k():
    c = replace(chain(overlap=0.6), fermi_level=0.0)
    with pytest.raises(InputError, match=r"k = \(0.5000, 0.0000, 0.0000\).*not positive definite.*-2.000e-01.*ill_threshold"):
        density_of_states(c, Settings(method="kpm", mesh=(2, 1, 1)))
