"""Pencils that cannot be solved as they stand: each ends in one sentence, or is solved all the same."""

from dataclasses import replace

import numpy as np
import pytest
from tight_binding import chain, graphene, honeycomb, slater_koster

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import solve
from orbitrace.bands.spectrum import Settings, band_structure
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.structure import Structure

RIPPLE = np.array([[0.0, 0.1, 0.2], [0.05, 0.0, -0.1]])  # Å
K_POINT = [[0.17, 0.31, 0.0]]


@pytest.fixture(scope="module")
def crystal() -> Calculation:
    flat = honeycomb()
    one = slater_koster(Structure(flat.positions + RIPPLE, flat.lattice, flat.numbers))
    return replace(repeated(one, (6, 6, 1)), fermi_level=-2.8)


def dependent() -> Calculation:
    """A chain of two atoms per cell whose orbitals overlap so much that S(k) is negative at the zone's edge, but not at Γ."""
    return replace(repeated(chain(hopping=-1.0, overlap=0.52), (2, 1, 1)), fermi_level=0.0)


def test_an_overlap_that_is_not_positive_definite_is_refused_with_k_number_and_remedy():
    with pytest.raises(InputError) as refused:
        band_structure(dependent(), [[0.25, 0, 0], [0.0, 0, 0]])
    sentence = str(refused.value)
    assert sentence.startswith(
        "k = (0.0000, 0.0000, 0.0000): the overlap is not positive definite: its lowest eigenvalue is -4.000e-02"
    )
    assert (
        "`ill_threshold` of the solver 'dense' leaves out the combinations of orbitals whose overlap is below it" in sentence
    )
    assert "\n" not in sentence


def test_ill_threshold_leaves_out_what_makes_the_overlap_singular():
    settings = Settings("dense", options={"ill_threshold": 1e-3})
    bands = band_structure(dependent(), [[0.0, 0, 0], [0.25, 0, 0]], settings=settings)
    assert bands.energies.shape == (1, 2, 1)  # one level is left at Γ, and so one everywhere
    assert bands.energies[0, 0, 0] == pytest.approx(-2 / (1 + 2 * 0.52))  # that of the combination in phase


def test_ill_threshold_changes_nothing_where_the_overlap_is_good(crystal):
    plain = band_structure(crystal, K_POINT, settings=Settings("dense"))
    kept = band_structure(crystal, K_POINT, settings=Settings("dense", options={"ill_threshold": 1e-4}))
    assert np.allclose(plain.energies, kept.energies, rtol=0, atol=1e-9)


def test_a_threshold_that_leaves_too_little_is_refused():
    with pytest.raises(InputError, match=r"k = .*the threshold 5 leaves 0 of 2 combinations of orbitals"):
        band_structure(
            replace(graphene(), fermi_level=0.0), K_POINT, settings=Settings("dense", options={"ill_threshold": 5.0})
        )


@pytest.mark.parametrize("which", [0, 144, 359])
def test_a_shift_on_a_level_gives_the_levels_about_it(crystal, which):
    H, S = Pencil.channels(crystal)[0].at(K_POINT[0])
    everything = solve("dense", H, S).energies
    sigma = float(everything[which])
    levels = solve("shift_invert", H, S, 10, sigma)
    nearest = np.sort(everything[np.argsort(abs(everything - sigma), kind="stable")[:10]])
    assert levels.solver == "shift_invert"
    assert np.allclose(levels.energies, nearest, rtol=0, atol=1e-9)


def test_no_convergence_is_said_where_lapack_cannot_take_over(crystal, monkeypatch):
    monkeypatch.setattr("orbitrace.bands.eigensolvers.DENSE_LIMIT", 100)
    settings = Settings("shift_invert", n_bands=20, options={"max_vectors": 24})
    with pytest.raises(InputError) as refused:
        band_structure(crystal, K_POINT, settings=settings)
    sentence = str(refused.value)
    assert sentence.startswith("k = (0.1700, 0.3100, 0.0000): shift_invert gives up: after 24 Lanczos vectors a residual of")
    assert "Move sigma, ask for fewer bands, or use the solver 'dense' (360 orbitals)" in sentence


@pytest.mark.parametrize("solver", ["dense", "shift_invert"])
@pytest.mark.parametrize(
    ("window", "words"),
    [
        ((900.0, 901.0), "There are bands up to "),
        ((-901.0, -900.0), "There are bands from -"),
    ],
)
def test_a_window_outside_the_spectrum_is_refused_with_where_the_bands_are(crystal, solver, window, words, monkeypatch):
    monkeypatch.setattr("orbitrace.bands.eigensolvers.DENSE_LIMIT", 100)  # no way out for the sparse solver
    with pytest.raises(InputError) as refused:
        band_structure(crystal, K_POINT, settings=Settings(solver, window=window))
    sentence = str(refused.value)
    assert f"window: no band between {window[0] + crystal.fermi_level:.3f} and" in sentence and words in sentence


def test_levels_at_zero_energy_are_no_accident():
    """At the Dirac point of a model without on-site energies H c vanishes, and with it what residuals are compared with."""
    c = replace(repeated(graphene(), (2, 2, 1)), fermi_level=0.0)
    bands = band_structure(c, [[2 / 3, -2 / 3, 0.0], [2 / 3, 1 / 3, 0.0]])
    assert (abs(bands.energies) < 1e-12).sum() == 4 and bands.residuals.max() < 1e-8
