"""Figures as vector graphics inside the page: drawn by matplotlib, coloured by the page's style sheet (light or dark)."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from orbitrace.bands.dos import DensityOfStates
from orbitrace.bands.plot import COLOURS, REFERENCE_COLOURS, draw_bands
from orbitrace.bands.plot_weights import FILL, draw_dos, draw_unfolded, draw_weights
from orbitrace.bands.projections import Projected
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats, Ints, Structure
from orbitrace.report.results import Row

# Stand-ins that matplotlib draws with, and what the page's style sheet calls them; the last ones are those of `bands.plot`.
INK, MUTED, RULE, ACCENT, SECOND = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_COLOURS = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    ACCENT: "--accent",
    SECOND: "--second",
    **dict(zip(COLOURS, ("--accent", "--second"), strict=True)),
    **dict(zip(REFERENCE_COLOURS, ("--ink", "--muted"), strict=True)),
    "#999999": "--muted",
    "#bbbbbb": "--rule",
    FILL: "--rule",
}
# Untyped, because a type checker wants every key as a literal where it is used.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "orbitrace",  # equal figures have equal bytes
    "path.simplify": False,
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
    "legend.frameon": False,
}
# Set-ups of an ablation.
_MECHANISMS = {"none": INK, "trace": INK, "gate": SECOND, "tracegate": SECOND, "grad": ACCENT, "tracegrad": ACCENT}
_DASHES = {setup: "-" if setup.startswith("trace") else "--" for setup in _MECHANISMS}
_MOST_ATOMS = 3000  # drawn in a structure
_LONGEST_BOND = 3.2  # Å
_MOST_STATES = 4000  # drawn in a figure of errors


def bands_figure(spectrum: Spectrum, own: Spectrum | None, window: tuple[float, float]) -> str:
    """Predicted bands along their path, over the DFT code's own if these are given; `window` is in eV from the Fermi level.

    Raises
    ------
    InputError
        If the two follow different paths.
    """
    frame = {"axes.spines.top": True, "axes.spines.right": True, "xtick.major.size": 0}
    with mpl.rc_context(_STYLE | frame | {"path.simplify": True}):
        reference = None if own is None else _plain(own)
        figure = draw_bands(_plain(spectrum), reference, window, ("predicted", "DFT"), "")
        _fit(figure, 4.4, 4.0)
        return _svg(figure, "Band structure" + ("" if own is None else ", predicted and computed by DFT"))


def weights_figure(spectrum: Spectrum, part: Projected, window: tuple[float, float]) -> str:
    """Fat bands: bands as high as their weights."""
    return _framed(lambda: draw_weights(_plain(spectrum), part, window, ""), "Weights of the bands", 4.4, 4.0)


def unfolded_figure(spectrum: Spectrum, part: Projected, window: tuple[float, float]) -> str:
    """Bands unfolded onto a layer."""
    return _framed(lambda: draw_unfolded(_plain(spectrum), part, window, ""), "Unfolded bands", 4.4, 4.0)


def dos_figure(dos: DensityOfStates, kind: str | None) -> str:
    """Density of states, with its parts by one kind of projection."""
    return _framed(lambda: draw_dos(dos, kind, ""), "Density of states", 4.4, 3.2)


def _framed(draw: Callable[[], Figure], label: str, width: float, height: float) -> str:
    """A figure of the room `bands` with a frame around it."""
    frame = {"axes.spines.top": True, "axes.spines.right": True, "xtick.major.size": 0 if height > width else 2}
    with mpl.rc_context(_STYLE | frame | {"path.simplify": True}):
        figure = draw()
        _fit(figure, width * len(figure.axes), height)
        return _svg(figure, label)


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
        axes.set(xlabel="DFT energy − Fermi level (eV)", ylabel="predicted − DFT (meV)")
        return _svg(figure, "Error of every state against its energy")


def learning_figure(log: Sequence[Row], best: Row | None, against: str) -> str:
    """Errors of training and validation (meV, logarithmic) against "step" or "seconds"."""
    unit, length = _unit_of_time(log[-1].seconds)
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


def ablation_figure(rows: Sequence[Mapping[str, Any]], against: str) -> str:
    """Validation error (meV, logarithmic) of every set-up of an ablation against "step" or "seconds".

    The mechanism has a colour; what is trained under the traces too is drawn whole, the rest in dashes.
    """
    longest = max((x for row in rows for curve in row["curves"] for x in curve["seconds"]), default=0.0)
    unit, scale = _unit_of_time(longest) if against == "seconds" else ("", 1.0)
    with mpl.rc_context(_STYLE):
        axes, figure = _axes(3.6, 2.9)
        for row in rows:
            for k, curve in enumerate(row["curves"]):
                label = "" if k else row["name"].rpartition("+")[2] if "+" in row["name"] else "base"
                (line,) = axes.plot(np.array(curve[against]) / scale, curve["validation_mae"], linewidth=1.2, label=label)
                line.set(color=_MECHANISMS[row["setup"]], linestyle=_DASHES[row["setup"]], markersize=3)
                line.set_marker("o" if len(curve["step"]) == 1 else "")
        _logarithmic(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set(xlabel="steps" if against == "step" else f"{unit} of training", ylabel="validation MAE of H (meV)")
        axes.legend(loc="upper right", ncols=2, handlelength=2.2, columnspacing=1.0, borderpad=0.0)
        return _svg(figure, f"Learning curves of all set-ups against {against}")


def structure_figure(structure: Structure) -> str | None:
    """Atoms and bonds seen along the third lattice vector; one element is coloured by height. None if there are too many."""
    if structure.n_atoms > _MOST_ATOMS:
        return None
    positions, numbers, cell = _repeated(structure, _along_third(structure))
    coloured = _coloured(positions, numbers)
    pairs = bonds(positions, numbers)
    with mpl.rc_context(_STYLE):
        axes, figure = _axes(3.0, 2.2)
        for group, colour in ((False, MUTED), (True, ACCENT)):
            chosen = pairs[(coloured[pairs] == group).any(axis=1)]
            ends = np.full((len(chosen), 3, 2), np.nan)
            # Each atom draws its half of a bond in its own colour.
            for end in (0, 1):
                mine, other = positions[chosen[:, end], :2], positions[chosen[:, 1 - end], :2]
                ends[:, 0], ends[:, 1] = mine, (mine + other) / 2
                axes.plot(*ends[coloured[chosen[:, end]] == group].reshape(-1, 2).T, color=colour, linewidth=0.9)
            axes.plot(*positions[coloured == group, :2].T, ".", color=colour, markersize=2.0 if len(pairs) else 4.0)
        axes.plot(*cell.T, color=INK, linewidth=1.0)
        axes.set_aspect("equal")
        axes.set_axis_off()
        _frame(axes, cell if len(cell) else positions[:, :2])
        return _svg(figure, "Structure, seen from above")


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


def _repeated(structure: Structure, view: Floats) -> tuple[Floats, Ints, Floats]:
    """Positions and atomic numbers of a cell and its neighbours in the view's frame, and the outline [5, 2] of the cell."""
    around = [(-1, 0, 1) if periodic and structure.n_atoms <= 400 else (0,) for periodic in structure.pbc[:2]]
    a, b = structure.lattice[:2]
    shifts = [i * a + j * b for i in around[0] for j in around[1]]
    positions = np.concatenate([structure.positions + shift for shift in shifts]) @ view.T
    corners = np.array([0 * a, a, a + b, b, 0 * a]) + structure.positions.mean(axis=0) - (a + b) / 2
    outline = (corners @ view.T)[:, :2] if all(structure.pbc[:2]) else np.empty((0, 2))
    return positions, np.tile(structure.numbers, len(shifts)), outline


def _coloured(positions: Floats, numbers: Ints) -> NDArray[np.bool_]:
    """Which atoms have the second colour: the upper half of one element, else all but the lightest element."""
    if len(np.unique(numbers)) > 1:
        return np.asarray(numbers != numbers.min())
    heights = positions[:, 2]
    return np.asarray(heights > (heights.min() + heights.max()) / 2)


def bonds(positions: Floats, numbers: Ints) -> Ints:
    """Pairs [n, 2] of neighbours: not much farther apart than either is from its nearest (heavier than hydrogen, if it is)."""
    heavy = numbers > 1
    nearest = np.full(len(positions), np.inf)
    for among, of in ((heavy, heavy), (np.full_like(heavy, True), ~heavy)):
        if among.sum() > 1 and of.any():
            nearest[of] = cKDTree(positions[among]).query(positions[of], k=2)[0][:, 1]
    reach = 1.2 * np.minimum(nearest, _LONGEST_BOND)
    pairs = cKDTree(positions).query_pairs(float(reach.max()), output_type="ndarray").reshape(-1, 2)
    lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    light = ~heavy[pairs].all(axis=1)
    limit = np.where(light, reach[pairs].min(axis=1), reach[pairs].max(axis=1))
    return np.asarray(pairs[lengths <= limit])


def _frame(axes: Axes, points: Floats) -> None:
    """Show what lies about some points."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    margin = 0.12 * float((upper - lower).max()) + 0.5
    axes.set(xlim=(lower[0] - margin, upper[0] + margin), ylim=(lower[1] - margin, upper[1] + margin))


# --- drawing ---------------------------------------------------------------------------------------------------------------


def _unit_of_time(longest: float) -> tuple[str, float]:
    """A unit for times up to `longest` seconds, and its length in seconds."""
    return ("h", 3600.0) if longest > 7200 else ("minutes", 60.0) if longest > 120 else ("seconds", 1.0)


def _axes(width: float, height: float) -> tuple[Axes, Figure]:
    figure = Figure()
    _fit(figure, width, height)
    return figure.add_subplot(), figure


def _fit(figure: Figure, width: float, height: float) -> None:
    """Size in inches, with little empty space about the axes."""
    figure.set_size_inches(width, height)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)


def _plain(spectrum: Spectrum) -> Spectrum:
    """The spectrum with names of k points that matplotlib does not take for formulas."""
    return replace(spectrum, labels=tuple((k, name.replace("$", "")) for k, name in spectrum.labels))


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
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(stream, metadata={"Date": None})  # as savefig, which draws everything twice
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
