"""Pictures of a target: its bands over those of the DFT code, the error of every state, and its structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orbitrace import interchange
from orbitrace.bands.compare import BandErrors, compare_bands
from orbitrace.bands.files import read_dos, read_spectrum
from orbitrace.bands.spectrum import BandStructure
from orbitrace.bands.unfolding import UNFOLDED
from orbitrace.config import EvaluateSection
from orbitrace.errors import InputError
from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats, Structure
from orbitrace.report import figures
from orbitrace.report.headlines import counted, digits, energy_window, not_computed
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
    more: tuple[Picture, ...]
    facts: tuple[tuple[str, str], ...]
    not_compared: str


def pictures(prediction: Prediction, notes: list[str]) -> Pictures:
    """Draw what there is of a target; what is damaged goes to `notes`."""
    spectrum = _spectrum(prediction.bands, notes)
    own = _spectrum(prediction.own_bands, notes) if prediction.has_reference else None
    structure = attempt(notes, lambda: interchange.read_structure(prediction.hamiltonian)) if prediction.info else None
    bands, not_compared = _bands(prediction, spectrum, own) if spectrum else (None, "")
    errors = _errors(spectrum, own, _window(prediction)) if spectrum and own else None
    states = _states(spectrum, own, errors) if spectrum and own and errors else None
    facts = (*_atoms(structure), *_fermi_levels(prediction, spectrum, own), *_facts(spectrum), *_error_facts(errors))
    more = (*_fat_bands(prediction, spectrum), *_unfolded(prediction, notes), *_densities(prediction, notes))
    return Pictures(bands, states, _structure(structure) if structure else None, more, facts, not_compared)


def _spectrum(file: Path, notes: list[str]) -> Spectrum | None:
    return attempt(notes, lambda: read_spectrum(file)) if file.exists() else None


# --- bands -----------------------------------------------------------------------------------------------------------------


def _bands(prediction: Prediction, spectrum: Spectrum, own: Spectrum | None) -> tuple[Picture, str]:
    """The bands, over those of the DFT code if these are known and follow the same path, and why not, if so."""
    window, code, why = _shown(spectrum, _window(prediction)), _code(prediction), ""
    if own is None and prediction.has_reference:
        why = f"{code} left no bands of its own to draw; a band RMSE refers to those of its Hamiltonian."
    try:
        svg = figures.bands_figure(spectrum, own, window)
    except InputError:
        own, why = None, f"{code} computed its bands along another path: they are not drawn here."
        svg = figures.bands_figure(spectrum, None, window)
    words = f"Bands of {prediction.target} from the Hamiltonian that {prediction.model} predicted"
    words += "." if own is None else f" (dashed, in colour), over those that {code} computed (thin)."
    if spectrum.fermi_level is not None:
        words += " Energies are in eV from the Fermi level"
        words += "." if own is None else ", each spectrum from the one counted from its own Hamiltonian."
    return Picture(svg, words), why


def _shown(spectrum: Spectrum, window: tuple[float, float]) -> tuple[float, float]:
    """Energies shown: the window, or less where only some bands about the Fermi level were computed."""
    energies = spectrum.energies - (spectrum.fermi_level or 0.0)
    lowest, highest = float(energies.min()), float(energies.max())
    margin = 0.03 * (highest - lowest)
    lower = window[0] if spectrum.first_band == 0 else max(window[0], lowest - margin)
    upper = min(window[1], highest + margin)
    return (lower, upper) if lower < upper else (lowest - 1, highest + 1)


def _fat_bands(prediction: Prediction, spectrum: Spectrum | None) -> list[Picture]:
    """The bands with their weights, for each kind of projection that was asked for."""
    if not isinstance(spectrum, BandStructure):
        return []
    window = _shown(spectrum, _window(prediction))
    words = "The same bands as ribbons, divided between the parts by {} as their shares (Mulliken) in each state are."
    return [
        Picture(figures.weights_figure(spectrum, part, window), words.format(kind)) for kind, part in spectrum.weights.items()
    ]


def _unfolded(prediction: Prediction, notes: list[str]) -> list[Picture]:
    """The effective band structure of a layer."""
    spectrum = _spectrum(prediction.unfold, notes)
    if not isinstance(spectrum, BandStructure) or UNFOLDED not in spectrum.weights:
        return []
    part, layer = spectrum.weights[UNFOLDED], spectrum.record.get("layer", "the layer")
    words = f"Bands unfolded onto the primitive lattice of {layer}: the area of a dot is how much the state has of this k."
    return [Picture(figures.unfolded_figure(spectrum, part, _shown(spectrum, _window(prediction))), words)]


def _densities(prediction: Prediction, notes: list[str]) -> list[Picture]:
    """Densities of states, whole and by each kind of projection that tells groups apart."""
    dos = attempt(notes, lambda: read_dos(prediction.dos)) if prediction.dos.exists() else None
    if dos is None:
        return []
    kinds: list[str | None] = [kind for kind, part in dos.projected.items() if len(part.groups) > 1]
    words = f"Density of states, broadened by Gaussians of {1000 * dos.width:g} meV"
    return [
        Picture(figures.dos_figure(dos, kind), f"{words}, and its parts by {kind}." if kind else f"{words}.")
        for kind in kinds or [None]
    ]


# --- errors ----------------------------------------------------------------------------------------------------------------


def _errors(spectrum: Spectrum, own: Spectrum, window: tuple[float, float]) -> BandErrors | None:
    """Errors of the bands; None if the two cannot be compared level by level."""
    try:
        return compare_bands(spectrum, own, window)
    except InputError:
        return None


def _states(spectrum: Spectrum, own: Spectrum, errors: BandErrors) -> Picture | None:
    if errors.aligned is None:
        return None
    rmse = 1000 * errors.aligned.rmse
    caption = (
        "Error of the band energies: each dot is one state at one k point, predicted minus DFT energy (meV), each from its "
        f"own Fermi level; the shaded strip is ± the root mean square error, {digits(rmse)} meV for "
        f"{energy_window(errors.window)}{not_computed(errors.n_missing_bands)}."
    )
    return Picture(figures.states_figure(*state_errors(spectrum, own, errors.window), rmse), caption)


def state_errors(spectrum: Spectrum, own: Spectrum, window: tuple[float, float]) -> tuple[Floats, Floats]:
    """Energies (eV) of the DFT code's states in a window, and errors (meV) of the predicted ones, from the Fermi levels.

    For spectra that `bands.compare` can compare.
    """
    mine, theirs = spectrum.first_band or 0, own.first_band or 0
    first = max(mine, theirs)
    last = min(mine + spectrum.energies.shape[2], theirs + own.energies.shape[2])
    truth = own.energies[:, :, first - theirs : last - theirs] - (own.fermi_level or 0.0)
    errors = spectrum.energies[:, :, first - mine : last - mine] - (spectrum.fermi_level or 0.0) - truth
    inside = (truth >= window[0]) & (truth <= window[1])
    return truth[inside], 1000 * errors[inside]


def _error_facts(errors: BandErrors | None) -> list[tuple[str, str]]:
    if errors is None:
        return []
    parts = errors.aligned or errors.raw
    return [
        ("band RMSE", f"{digits(1000 * parts.rmse)} meV"),
        ("largest band error", f"{digits(1000 * parts.max)} meV"),
        ("ghost levels", str(errors.ghosts) if errors.ghosts else "none"),
        *([("not computed", f"{counted(errors.n_missing_bands, 'band')} of the reference")] if errors.n_missing_bands else []),
    ]


# --- structure and facts ---------------------------------------------------------------------------------------------------


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


def _fermi_levels(prediction: Prediction, spectrum: Spectrum | None, own: Spectrum | None) -> list[tuple[str, str]]:
    """The predicted Fermi level, the one that `stages.read` counted in the same way, and the one that the DFT code printed."""
    if spectrum is None:
        return []
    printed = (prediction.reference_info or {}).get("fermi_energy_eV")
    levels = [
        ("Fermi level", spectrum.fermi_level),
        ("counted from the DFT Hamiltonian", own.fermi_level if own is not None else None),
        (f"as {_code(prediction)} gives it", printed if isinstance(printed, float | int) else None),
    ]
    return [(name, f"{level:.3f} eV".replace("-", "−")) for name, level in levels if level is not None]


def _facts(spectrum: Spectrum | None) -> list[tuple[str, str]]:
    """What a spectrum says of itself."""
    if spectrum is None:
        return []
    facts = [("bands × k points", f"{spectrum.energies.shape[-1]:,} × {len(spectrum.kpoints):,}")]
    if spectrum.residuals is not None:
        facts.append(("largest residual of a state", f"{float(np.max(spectrum.residuals)):.0e}".replace("-", "−")))
    return facts


def _code(prediction: Prediction) -> str:
    """The DFT code with its version, without further words."""
    return prediction.reference_code.partition(";")[0]


def _window(prediction: Prediction) -> tuple[float, float]:
    return (prediction.evaluation and prediction.evaluation.window) or WINDOW
