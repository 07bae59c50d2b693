"""How far two spectra are apart: errors of bands in a window, and ghost bands.

Levels (spin, k, band) count where the *reference* lies within the window about its Fermi level. Bands are matched by
their absolute number, so a missing or an extra band shows as a large error instead of being absorbed.

A *ghost* is a level of the spectrum in the window that has no partner in the reference at that k within 0.1 eV, when levels
are paired one to one with the most pairs possible, Fermi levels aligned; a reference level without a partner is *lost*.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats

NEAR = 0.1  # eV between partners
SAME_K = 1e-6


@dataclass(frozen=True)
class Errors:
    """Errors of energies, eV."""

    rmse: float
    mae: float
    max: float


@dataclass(frozen=True)
class BandErrors:
    """Comparison of two spectra.

    Parameters
    ----------
    raw
        Energies as they are.
    aligned
        Energies from each spectrum's own Fermi level; None where one is not known.
    shifted
        After the constant shift that makes the RMSE least.
    shift
        That constant, spectrum minus reference, eV.
    n_levels
        Levels of the reference in the window that have been compared.
    n_missing_bands
        Bands of the reference in the window whose numbers the spectrum does not hold.
    ghosts, lost
        Levels in the window without a partner, of the spectrum and of the reference.
    window
        Lowest and highest energy, eV from the reference's Fermi level.
    """

    raw: Errors
    aligned: Errors | None
    shifted: Errors
    shift: float
    n_levels: int
    n_missing_bands: int
    ghosts: int
    lost: int
    window: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        """As plain data."""
        return asdict(self)


def band_rmse(spectrum: Spectrum, reference: Spectrum, window: tuple[float, float] = (-3.0, 3.0)) -> float:
    """RMSE of the bands in a window, eV, Fermi levels aligned where both are known; see `compare_bands`."""
    errors = compare_bands(spectrum, reference, window)
    return (errors.aligned or errors.raw).rmse


def compare_bands(spectrum: Spectrum, reference: Spectrum, window: tuple[float, float] = (-3.0, 3.0)) -> BandErrors:
    """Errors of a spectrum against a reference at the same k points.

    Parameters
    ----------
    window
        eV about the Fermi level of the reference (about that of the spectrum if only this one is known).

    Raises
    ------
    InputError
        If the k points or numbers of spins differ, band numbers or both Fermi levels are not known, or the window is empty.
    """
    zero = _check(spectrum, reference, window)
    first, e, r = _common(spectrum, reference)
    inside = _within(r, zero, window)
    everywhere = _within(reference.energies, zero, window).any(axis=(0, 1))
    numbers = np.flatnonzero(everywhere) + (reference.first_band or 0)
    missing = int(((numbers < first) | (numbers >= first + r.shape[2])).sum())
    if not inside.any():
        raise InputError("band errors", f"no common band in the window {window}", "at least one")
    difference = (e - r)[inside]
    offset = 0.0
    aligned = None
    if spectrum.fermi_level is not None and reference.fermi_level is not None:
        offset = spectrum.fermi_level - reference.fermi_level
        aligned = _errors(difference - offset)
    shift = float(difference.mean())
    ghosts, lost = _unpaired(spectrum.energies - offset, reference.energies, zero, window)
    return BandErrors(
        _errors(difference), aligned, _errors(difference - shift), shift, int(inside.sum()), missing, ghosts, lost, window
    )


def _check(spectrum: Spectrum, reference: Spectrum, window: tuple[float, float]) -> float:
    """The energy that the window refers to; refuses spectra that cannot be compared."""
    k, other = spectrum.kpoints, reference.kpoints
    if k.shape != other.shape or np.abs(k - other).max(initial=0.0) > SAME_K:
        raise InputError(
            "band errors",
            f"{len(k)} k points against other {len(other)} of the reference",
            "the same",
            "Compute at the reference's",
        )
    if len(spectrum.energies) != len(reference.energies):
        raise InputError("band errors", f"{len(spectrum.energies)} spins against {len(reference.energies)}", "equally many")
    if spectrum.first_band is None or reference.first_band is None:
        raise InputError("band errors", "the numbers of the bands are not known", "absolute numbers", "Use the solver 'dense'")
    zero = reference.fermi_level if reference.fermi_level is not None else spectrum.fermi_level
    if zero is None:
        raise InputError("band errors", f"no Fermi level for the window {window}", "one in either spectrum")
    return zero


def _common(spectrum: Spectrum, reference: Spectrum) -> tuple[int, Floats, Floats]:
    """Number of the first band that both hold, and the energies of both over the common bands."""
    mine, theirs = spectrum.first_band or 0, reference.first_band or 0
    first = max(mine, theirs)
    last = max(min(mine + spectrum.energies.shape[2], theirs + reference.energies.shape[2]), first)
    return first, spectrum.energies[:, :, first - mine : last - mine], reference.energies[:, :, first - theirs : last - theirs]


def _within(energies: Floats, zero: float, window: tuple[float, float]) -> np.ndarray:
    """Where energies lie in the window."""
    return (energies - zero >= window[0]) & (energies - zero <= window[1])


def _errors(difference: Floats) -> Errors:
    """Root mean square, mean and largest size."""
    size = np.abs(difference)
    return Errors(float(np.sqrt((size**2).mean())), float(size.mean()), float(size.max()))


def _unpaired(spectrum: Floats, reference: Floats, zero: float, window: tuple[float, float]) -> tuple[int, int]:
    """Levels in the window, of the spectrum and of the reference, left when as many as possible are paired within `NEAR`."""
    ghosts = lost = 0
    for mine, theirs in zip(spectrum.reshape(-1, spectrum.shape[2]), reference.reshape(-1, reference.shape[2]), strict=True):
        left, right = unpaired(mine, theirs)
        ghosts += int(_within(mine[left], zero, window).sum())
        lost += int(_within(theirs[right], zero, window).sum())
    return ghosts, lost


def unpaired(mine: Floats, theirs: Floats) -> tuple[list[int], list[int]]:
    """Numbers of the levels left over on both sides after pairing ascending levels one to one within `NEAR`.

    On a line, pairing from the lowest upwards gives the most pairs.
    """
    i = j = 0
    left, right = [], []
    while i < len(mine) and j < len(theirs):
        if abs(mine[i] - theirs[j]) <= NEAR:
            i, j = i + 1, j + 1
        elif mine[i] < theirs[j]:
            left.append(i)
            i += 1
        else:
            right.append(j)
            j += 1
    return left + list(range(i, len(mine))), right + list(range(j, len(theirs)))
