"""Figures as vector graphics inside the page: drawn by matplotlib, coloured by the page, so that they follow its light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from ase.data import covalent_radii
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.spatial import cKDTree

from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats, Structure
from orbitrace.report.results import Row

# Stand-ins that matplotlib draws with, and what the page's style sheet calls them.
INK, MUTED, RULE, ACCENT, SECOND = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_COLOURS = {INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent", SECOND: "--second"}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "orbitrace",  # equal figures have equal bytes
    "path.simplify": False,
    "text.parse_math": False,  # names come from users
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 1.5,
    "lines.solid_joinstyle": "round",
    "legend.frameon": False,
}
_MOST_ATOMS = 3000  # drawn in a structure
_MOST_STATES = 4000  # drawn in a figure of errors


def bands_figure(spectrum: Spectrum, own: Spectrum | None, window: tuple[float, float]) -> str:
    """Predicted bands along their path, over the DFT code's own if these are given; `window` is in eV from the Fermi level."""
    with mpl.rc_context(_STYLE):
        axes, figure = _axes(4.4, 3.6)
        zero = spectrum.fermi_level is not None and (own is None or own.fermi_level is not None)
        for bands, style in ((own, _OWN), (spectrum, _PREDICTED if own else _ALONE)):
            if bands is not None:
                _draw_bands(axes, bands, style, zero, window)
        if zero:
            axes.axhline(0.0, color=MUTED, linewidth=0.6, dashes=(2, 2))
        lower, upper = _shown(spectrum, zero, window)
        axes.set(ylim=(lower, upper), ylabel="E − E_F (eV)" if zero else "E (eV)")
        _mark_points(axes, spectrum)
        if own is not None:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, handlelength=1.8, borderpad=0.1)
        return _svg(figure, "Band structure" + ("" if own is None else ", predicted and computed by DFT"))


def states_figure(energies: Floats, errors: Floats, rmse: float) -> str:
    """Error of every state (meV) against its energy (eV from the Fermi level), with the root mean square (meV) as a band."""
    step = -(-len(energies) // _MOST_STATES)
    energies, errors = energies[::step], errors[::step]
    with mpl.rc_context(_STYLE):
        axes, figure = _axes(3.4, 2.5)
        axes.axhspan(-rmse, rmse, facecolor=RULE, edgecolor="none", alpha=0.6)
        axes.axhline(0.0, color=MUTED, linewidth=0.6)
        # Dots as strokes without length: one short path, where markers would be one element each.
        dots = np.repeat(np.column_stack([energies, errors]), 3, axis=0)
        dots[1::3, 0] += 1e-3 * np.ptp(energies)
        dots[2::3] = np.nan
        axes.plot(*dots.T, color=ACCENT, linewidth=1.8, solid_capstyle="round", alpha=0.55)
        axes.set(xlabel="E − E_F of DFT (eV)", ylabel="predicted − DFT (meV)")
        return _svg(figure, "Error of every state against its energy")


def learning_figure(log: Sequence[Row], best: Row | None, against: str) -> str:
    """Errors of training and validation (meV, logarithmic) against "step" or "seconds"."""
    longest = log[-1].seconds
    unit, length = ("h", 3600.0) if longest > 7200 else ("minutes", 60.0) if longest > 120 else ("seconds", 1.0)
    scale = length if against == "seconds" else 1.0

    with mpl.rc_context(_STYLE):
        axes, figure = _axes(3.6, 2.6)
        for name, colour in (("train_mae", MUTED), ("validation_mae", ACCENT)):
            points = np.array([(getattr(row, against) / scale, getattr(row, name)) for row in log])
            dot = "o" if len(points) == 1 else ""
            label = name.removesuffix("_mae").replace("train", "training")
            axes.plot(*points.T, color=colour, linewidth=1.3, marker=dot, markersize=3, label=label)
        if best is not None:
            axes.plot(getattr(best, against) / scale, best.validation_mae, "o", color=ACCENT, markersize=4.5, label="kept")
        _logarithmic(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set(xlabel="steps" if against == "step" else f"{unit} of training", ylabel="MAE of H (meV)")
        axes.legend(loc="upper right", ncols=3, handlelength=1.2, columnspacing=1.0, borderpad=0.0)
        return _svg(figure, f"Learning curve against {against}")


def structure_figure(structure: Structure) -> str | None:
    """Atoms and bonds seen along the third lattice vector; one element is coloured by height. None if there are too many."""
    if structure.n_atoms > _MOST_ATOMS:
        return None
    view = _along_third(structure)
    positions, numbers, home = _repeated(structure, view)
    top = _groups(positions, numbers)
    bonds = _bonds(positions, numbers)
    with mpl.rc_context(_STYLE):
        axes, figure = _axes(3.0, 2.6)
        for group, colour in ((False, MUTED), (True, ACCENT)):
            chosen = bonds[(top[bonds] == group).all(axis=1)]
            ends = np.full((len(chosen), 3, 2), np.nan)
            ends[:, 0], ends[:, 1] = positions[chosen[:, 0], :2], positions[chosen[:, 1], :2]
            axes.plot(*ends.reshape(-1, 2).T, color=colour, linewidth=0.8, alpha=0.85, solid_capstyle="round")
            axes.plot(*positions[top == group, :2].T, ".", color=colour, markersize=1.6 if len(chosen) else 4.0)
        axes.plot(*home.T, color=INK, linewidth=1.0)
        axes.set_aspect("equal")
        axes.set_axis_off()
        return _svg(figure, "Structure, seen from above")


# --- bands -----------------------------------------------------------------------------------------------------------------

_OWN: dict[str, Any] = {"color": MUTED, "linewidth": 2.6, "alpha": 0.5, "label": "DFT"}
_PREDICTED: dict[str, Any] = {"color": ACCENT, "linewidth": 0.9, "label": "predicted"}
_ALONE: dict[str, Any] = {"color": ACCENT, "linewidth": 1.1, "label": "predicted"}


def _draw_bands(axes: Axes, bands: Spectrum, style: dict[str, Any], zero: bool, window: tuple[float, float]) -> None:
    shift = bands.fermi_level if zero and bands.fermi_level is not None else 0.0
    x = bands.distances
    # A path may jump: there the line breaks.
    gaps = np.flatnonzero(np.diff(x) == 0) + 1
    for spin, energies in enumerate(bands.energies - shift):
        inside = (energies.max(axis=0) >= window[0] - 1) & (energies.min(axis=0) <= window[1] + 1) if zero else slice(None)
        y = np.insert(energies[:, inside], gaps, np.nan, axis=0)
        lines = axes.plot(np.insert(x, gaps, np.nan), y, **style, linestyle="-" if spin == 0 else (0, (3, 1.5)))
        for line in lines[1 if spin == 0 else 0 :]:
            line.set_label("_")


def _shown(spectrum: Spectrum, zero: bool, window: tuple[float, float]) -> tuple[float, float]:
    """The energies shown: the window, or less where only some bands about the Fermi level are known."""
    if not zero:
        return float(spectrum.energies.min()), float(spectrum.energies.max())
    energies = spectrum.energies - (spectrum.fermi_level or 0.0)
    lowest = window[0] if spectrum.first_band == 0 else float(energies.min()) - 0.02 * float(np.ptp(energies))
    return max(window[0], lowest), min(window[1], float(energies.max()) + 0.02 * float(np.ptp(energies)))


def _mark_points(axes: Axes, spectrum: Spectrum) -> None:
    """Named k points below, with a line at each; two that meet at a jump share a place."""
    x = spectrum.distances
    names: dict[float, list[str]] = {}
    for k, name in spectrum.labels:
        place = names.setdefault(float(x[k]), [])
        shown = "Γ" if name.upper() in ("G", "GAMMA", "\\GAMMA", "Γ") else name
        if shown not in place:
            place.append(shown)
    axes.set_xticks(list(names), ["|".join(place) for place in names.values()])
    axes.tick_params(axis="x", length=0)
    for place in names:
        axes.axvline(place, color=RULE, linewidth=0.7, zorder=0)
    if not names:
        axes.set_xlabel("k along the path (1/Å)")
    axes.set_xlim(x[0], max(x[-1], x[0] + 1e-9))


# --- structure -------------------------------------------------------------------------------------------------------------


def _along_third(structure: Structure) -> Floats:
    """Rotation [3, 3] to the view: the third direction towards the eye, the first lattice vector to the right."""
    a, b = structure.lattice[:2]
    up = np.cross(a, b)
    if np.linalg.norm(up) < 1e-6:  # a molecule or wire, whose other lattice vectors may be anything
        return np.eye(3)
    right = a / np.linalg.norm(a)
    up = up / np.linalg.norm(up)
    return np.array([right, np.cross(up, right), up])


def _repeated(structure: Structure, view: Floats) -> tuple[Floats, Floats, Floats]:
    """Positions and atomic numbers of some cells in the view's frame, and the outline [5, 2] of the first."""
    across = [3 if periodic and structure.n_atoms <= 150 else 1 for periodic in structure.pbc[:2]]
    shifts = [i * structure.lattice[0] + j * structure.lattice[1] for i in range(across[0]) for j in range(across[1])]
    positions = np.concatenate([structure.positions + shift for shift in shifts]) @ view.T
    a, b = structure.lattice[:2]
    centre = sum(n // 2 * v for n, v in zip(across, (a, b), strict=True)) + structure.positions.mean(axis=0) - (a + b) / 2
    corners = np.array([0 * a, a, a + b, b, 0 * a]) + centre
    home = (corners @ view.T)[:, :2] if any(structure.pbc[:2]) else np.empty((0, 2))
    return positions, np.tile(structure.numbers, len(shifts)), home


def _groups(positions: Floats, numbers: Floats) -> Floats:
    """Which atoms have the second colour: the upper half of one element, else all but the first element."""
    if len(np.unique(numbers)) > 1:
        return np.asarray(numbers != numbers.min())
    heights = positions[:, 2]
    return np.asarray(heights > (heights.min() + heights.max()) / 2)


def _bonds(positions: Floats, numbers: Floats) -> Floats:
    """Pairs [n, 2] of atoms no farther apart than 1.2 times the sum of their covalent radii."""
    radii = covalent_radii[numbers.astype(int)]
    pairs = cKDTree(positions).query_pairs(2.4 * radii.max(), output_type="ndarray")
    lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    return np.asarray(pairs[lengths <= 1.2 * radii[pairs].sum(axis=1)])


# --- drawing ---------------------------------------------------------------------------------------------------------------


def _axes(width: float, height: float) -> tuple[Axes, Figure]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]
    return figure.add_subplot(), figure


def _logarithmic(axes: Axes) -> None:
    """Errors on a logarithmic axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color=RULE, linewidth=0.6)


def _svg(figure: Figure, label: str) -> str:
    """The figure as one element of a page, with its colours as those of the style sheet."""
    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    text = stream.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"/>', "", body)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    body = re.sub(r"font-family: [^;]*; ", "", body)
    body = re.sub(r"(\d\.\d\d)\d+", r"\1", body)
    for colour, name in _COLOURS.items():
        body = body.replace(colour, f"var({name})")
    view = re.search(r'viewBox="[^"]*"', text)
    box = view.group() if view else ""
    return f'<svg {box} role="img" aria-label="{escape(label)}">' + re.sub(r"\n\s*", "\n", body)
