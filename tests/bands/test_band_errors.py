"""Errors of bands against a reference: definitions, alignment, ghosts."""

from dataclasses import replace

import numpy as np
import pytest

from orbitrace.bands.compare import band_rmse, compare_bands, unpaired
from orbitrace.errors import InputError
from orbitrace.physics.spectrum import Spectrum

WINDOW = (-2.5, 2.5)


def spectrum(energies: object, fermi: float | None = 0.0, first: int | None = 0) -> Spectrum:
    array = np.array(energies, dtype=float)[None]
    return Spectrum(np.linspace(0, 0.5, array.shape[1])[:, None] * [1, 0, 0], array, fermi, np.eye(3), first_band=first)


@pytest.fixture
def reference() -> Spectrum:
    return spectrum([[-9.0, -2.0, -1.0, 1.0, 2.0, 7.0], [-9.0, -1.5, -0.5, 0.5, 1.5, 7.0]])


def test_a_spectrum_has_no_error_against_itself(reference):
    errors = compare_bands(reference, reference, WINDOW)
    assert errors.n_levels == 8
    assert (errors.raw.rmse, errors.raw.max, errors.aligned.rmse, errors.shift) == (0.0, 0.0, 0.0, 0.0)
    assert (errors.ghosts, errors.lost, errors.n_missing_bands) == (0, 0, 0)


def test_levels_outside_the_window_do_not_count(reference):
    wrong_far_away = reference.energies + np.where(abs(reference.energies) > 5, 3.0, 0.0)
    assert band_rmse(replace(reference, energies=wrong_far_away), reference, WINDOW) == 0.0


def test_rmse_mae_and_largest_error_are_of_the_levels_in_the_window(reference):
    off = np.zeros_like(reference.energies)
    off[0, 0, 2], off[0, 1, 3] = 0.03, -0.04
    errors = compare_bands(replace(reference, energies=reference.energies + off), reference, WINDOW)
    assert errors.raw.rmse == pytest.approx(np.sqrt((0.03**2 + 0.04**2) / 8))
    assert errors.raw.mae == pytest.approx(0.07 / 8)
    assert errors.raw.max == pytest.approx(0.04)


def test_a_constant_shift_is_an_error_only_before_alignment(reference):
    shifted = replace(reference, energies=reference.energies + 0.7, fermi_level=0.7)
    errors = compare_bands(shifted, reference, WINDOW)
    assert errors.raw.rmse == pytest.approx(0.7)
    assert errors.aligned.rmse == pytest.approx(0.0, abs=1e-12)
    assert errors.shift == pytest.approx(0.7) and errors.shifted.rmse == pytest.approx(0.0, abs=1e-12)
    assert (errors.ghosts, errors.lost) == (0, 0)
    assert band_rmse(shifted, reference, WINDOW) == pytest.approx(0.0, abs=1e-12)
    unknown = compare_bands(replace(shifted, fermi_level=None), reference, WINDOW)
    assert unknown.aligned is None and band_rmse(replace(shifted, fermi_level=None), reference, WINDOW) == pytest.approx(0.7)


def test_bands_are_matched_by_their_number(reference):
    part = replace(reference, energies=reference.energies[:, :, 2:5], first_band=2)
    errors = compare_bands(part, reference, WINDOW)
    assert (errors.raw.max, errors.n_levels, errors.n_missing_bands, errors.lost) == (0.0, 6, 1, 2)
    assert compare_bands(reference, part, WINDOW).raw.max == 0.0


def test_an_extra_level_is_a_ghost_and_a_missing_one_is_lost(reference):
    energies = reference.energies.copy()
    energies[0, 1] = np.sort([-9.0, -1.5, -0.5, 0.1, 0.5, 1.5])  # one more at 0.1, and 7.0 pushed out
    errors = compare_bands(replace(reference, energies=energies), reference, WINDOW)
    assert (errors.ghosts, errors.lost) == (1, 0)
    back = compare_bands(reference, replace(reference, energies=energies), WINDOW)
    assert (back.ghosts, back.lost) == (0, 1)


def test_a_level_just_outside_the_window_is_a_partner():
    a, b = spectrum([[-2.52, 0.0]]), spectrum([[-2.48, 0.0]])
    errors = compare_bands(a, b, WINDOW)
    assert (errors.ghosts, errors.lost) == (0, 0)


def test_pairing_makes_the_most_pairs():
    rng = np.random.default_rng(0)
    from scipy.optimize import linear_sum_assignment

    for _ in range(50):
        mine, theirs = (np.sort(rng.uniform(0, 1.5, size=rng.integers(1, 12))) for _ in range(2))
        close = abs(np.subtract.outer(mine, theirs)) <= 0.1
        rows, columns = linear_sum_assignment(~close)
        left, right = unpaired(mine, theirs)
        assert len(mine) - len(left) == len(theirs) - len(right) == close[rows, columns].sum()


def test_errors_become_plain_data(reference):
    assert compare_bands(reference, reference, WINDOW).to_json()["raw"] == {"rmse": 0.0, "mae": 0.0, "max": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kpoints": np.ones((2, 3))}, "2 k points against other 2 of the reference"),
        ({"energies": np.zeros((2, 2, 6))}, "2 spins against 1"),
        ({"first_band": None}, "numbers of the bands are not known"),
        ({"energies": np.zeros((1, 2, 1)), "first_band": 5}, "no common band in the window"),
    ],
)
def test_spectra_that_cannot_be_compared_are_refused(reference, change, message):
    with pytest.raises(InputError, match=message):
        compare_bands(replace(reference, **change), reference, WINDOW)


def test_a_window_needs_a_fermi_level(reference):
    nowhere = replace(reference, fermi_level=None)
    with pytest.raises(InputError, match="no Fermi level for the window"):
        compare_bands(nowhere, nowhere, WINDOW)
