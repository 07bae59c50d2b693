"""Pictures of a target: its bands over those of the DFT code, the error of every state, and its structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orbitrace import interchange
from orbitrace.bands.files import read_spectrum
from orbitrace.config import EvaluateSection
from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats, Structure
from orbitrace.report import figures
from orbitrace.report.headlines import digits, energy_window
from orbitrace.report.results import Prediction, attempt

WINDOW = EvaluateSection().window


@dataclass(frozen=True)
class Picture:
    """A figure and the sentence that explains it."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Pictures:
    """What can be shown of a target. `not_compared` says why its bands do not lie over those of the DFT code, if so."""

    bands: Picture | None
    states: Picture | None
    structure: Picture | None
    facts: tuple[tuple[str, str], ...]
    not_compared: str


def pictures(prediction: Prediction, notes: list[str]) -> Pictures:
    """Draw what there is of a target; what is damaged goes to `notes`."""
    spectrum = _spectrum(prediction.bands, notes)
    own = _spectrum(prediction.own_bands, notes) if prediction.has_reference else None
    structure = attempt(notes, lambda: interchange.read_structure(prediction.hamiltonian)) if prediction.info else None
    not_compared = _not_compared(prediction, spectrum, own)
    reference = None if not_compared else own
    return Pictures(
        bands=_bands(prediction, spectrum, reference) if spectrum else None,
        states=_states(prediction, spectrum, reference) if spectrum and reference else None,
        structure=_structure(structure) if structure else None,
        facts=(*_atoms(structure), *_facts(spectrum, reference)),
        not_compared=not_compared,
    )


def _spectrum(file: Path, notes: list[str]) -> Spectrum | None:
    return attempt(notes, lambda: read_spectrum(file)) if file.exists() else None


def _not_compared(prediction: Prediction, spectrum: Spectrum | None, own: Spectrum | None) -> str:
    """Why bands cannot be drawn over those of the DFT code; empty if they can, or if there are none."""
    if spectrum is None or not prediction.has_reference:
        return ""
    if own is None:
        return f"The calculation of {prediction.reference_code} holds no bands of its own to compare with."
    ours, theirs = _ends(spectrum), _ends(own)
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, atol=1e-3):
        return f"{prediction.reference_code} computed its bands along another path: they are not drawn here."
    return ""


def _ends(spectrum: Spectrum) -> Floats:
    """The named points of a path without repetition, or its first and last point."""
    named = [k for k, _ in spectrum.labels] or [0, len(spectrum.kpoints) - 1]
    points = spectrum.kpoints[named]
    repeated = np.r_[False, (np.abs(np.diff(points, axis=0)) < 1e-6).all(axis=1)]
    return np.asarray(points[~repeated])


def _bands(prediction: Prediction, spectrum: Spectrum, own: Spectrum | None) -> Picture:
    svg = figures.bands_figure(spectrum, own, _window(prediction))
    predicted = f"Bands of {prediction.target} from the Hamiltonian that {prediction.model} predicted"
    zero = "" if spectrum.fermi_level is None else " Energies are in eV from the Fermi level (dashed)"
    zero += ", each spectrum from its own." if zero and own is not None else "." if zero else ""
    if own is None:
        return Picture(svg, f"{predicted}.{zero}")
    return Picture(svg, f"{predicted} (thin, in colour), over those that {prediction.reference_code} computed (grey).{zero}")


def _states(prediction: Prediction, spectrum: Spectrum, own: Spectrum) -> Picture | None:
    window = _window(prediction)
    found = state_errors(spectrum, own, window)
    if found is None or not len(found[0]):
        return None
    energies, errors = found
    rmse = float(np.sqrt((errors**2).mean()))
    caption = (
        f"Error of the band energies: each dot is one state at one k point, predicted minus DFT energy in meV; "
        f"the shaded strip is ± the root mean square error, {digits(rmse)} meV for {energy_window(window)}."
    )
    return Picture(figures.states_figure(energies, errors, rmse), caption)


def state_errors(spectrum: Spectrum, own: Spectrum, window: tuple[float, float]) -> tuple[Floats, Floats] | None:
    """Energies (eV) of the DFT code's states in a window, from its Fermi level, and errors (meV) of the predicted ones.

    None if the two have no k points, bands or Fermi level in common.
    """
    comparable = spectrum.kpoints.shape == own.kpoints.shape and np.allclose(spectrum.kpoints, own.kpoints, atol=1e-5)
    if not comparable or len(spectrum.energies) != len(own.energies):
        return None
    if None in (spectrum.first_band, own.first_band, spectrum.fermi_level, own.fermi_level):
        return None
    ours, theirs = _numbered(spectrum), _numbered(own)
    first = max(spectrum.first_band or 0, own.first_band or 0)
    last = min(ours[1], theirs[1])
    truth = theirs[0][..., first - (own.first_band or 0) : last - (own.first_band or 0)]
    errors = 1000 * (ours[0][..., first - (spectrum.first_band or 0) : last - (spectrum.first_band or 0)] - truth)
    chosen = (truth >= window[0]) & (truth <= window[1])
    return truth[chosen], errors[chosen]


def _numbered(spectrum: Spectrum) -> tuple[Floats, int]:
    """Energies from the Fermi level, and the number after that of the highest band."""
    return spectrum.energies - (spectrum.fermi_level or 0.0), (spectrum.first_band or 0) + spectrum.energies.shape[-1]


def _structure(structure: Structure) -> Picture | None:
    svg = figures.structure_figure(structure)
    if svg is None:
        return None
    elements = [SYMBOLS[z] for z in structure.elements]
    colour = f"{elements[0]} is grey" if len(elements) > 1 else "the upper half is coloured"
    frame = "; the frame is the cell" if any(structure.pbc) else ""
    return Picture(svg, f"Atoms and bonds, seen from above; {colour}{frame}.")


def _atoms(structure: Structure | None) -> list[tuple[str, str]]:
    if structure is None:
        return []
    counts = {SYMBOLS[z]: int((structure.numbers == z).sum()) for z in structure.elements}
    return [("atoms", " ".join(f"{count:,} {symbol}" for symbol, count in counts.items()))]


def _facts(spectrum: Spectrum | None, own: Spectrum | None) -> list[tuple[str, str]]:
    """What a spectrum says of itself."""
    if spectrum is None:
        return []
    facts = []
    if spectrum.fermi_level is not None:
        theirs = f" (DFT {own.fermi_level:.3f})" if own is not None and own.fermi_level is not None else ""
        facts.append(("Fermi level", f"{spectrum.fermi_level:.3f} eV{theirs}".replace("-", "−")))
    facts.append(("bands × k points", f"{spectrum.energies.shape[-1]:,} × {len(spectrum.kpoints):,}"))
    if spectrum.residuals is not None:
        facts.append(("largest residual of a state", f"{float(np.max(spectrum.residuals)):.0e}".replace("-", "−")))
    return facts


def _window(prediction: Prediction) -> tuple[float, float]:
    return (prediction.evaluation and prediction.evaluation.window) or WINDOW
