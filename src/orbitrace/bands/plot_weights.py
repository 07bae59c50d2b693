"""Figures of weights: fat bands, effective band structures of unfolded cells, and densities of states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from orbitrace.bands.dos import DensityOfStates
from orbitrace.bands.plot import STYLE, check_files, frame_path, legs_of, save
from orbitrace.bands.projections import Projected
from orbitrace.errors import InputError
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats

# Of groups: distinct in print, on screens and for most kinds of colour blindness (after M. Okabe and K. Ito).
GROUP_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a6761d", "#4d4d4d")
WHOLE, FILL = "#111111", "#e6e6e6"
MUTED = "#999999"
HIGHEST = 0.03  # of the window: of a band that belongs to one group alone
SHOWN = len(GROUP_COLOURS)  # groups that a figure tells apart


def plot_weights(
    spectrum: Spectrum,
    part: Projected,
    files: Path | Sequence[Path],
    window: tuple[float, float] = (-3.0, 3.0),
    title: str = "",
) -> None:
    """Draw fat bands: a ribbon about each band, divided between the groups by their weights.

    Parameters
    ----------
    part
        [n_spin, n_k, n_bands, n_groups] weights; of more than eight groups those with most weight in the window are drawn.
    files, window
        As of `plot.plot_bands`.

    Raises
    ------
    InputError
        If a suffix is unknown, or the window is empty.
    """
    _save(files, window, lambda: draw_weights(spectrum, part, window, title))


def plot_unfolded(
    spectrum: Spectrum,
    part: Projected,
    files: Path | Sequence[Path],
    window: tuple[float, float] = (-3.0, 3.0),
    title: str = "",
) -> None:
    """Draw the effective band structure of an unfolded cell: states are the darker, the more they have of each k."""
    _save(files, window, lambda: draw_unfolded(spectrum, part, window, title))


def plot_dos(dos: DensityOfStates, kind: str | None, files: Path | Sequence[Path], title: str = "") -> None:
    """Draw a density of states, and those of the groups of one kind of projection; spin down points downwards."""
    low = dos.fermi_level or 0.0
    _save(files, (dos.energies[0] - low, dos.energies[-1] - low), lambda: draw_dos(dos, kind, title))


def _save(files: Path | Sequence[Path], window: tuple[float, float], draw: Any) -> None:
    """Check, draw, and write."""
    files = [files] if isinstance(files, Path) else list(files)
    check_files(files, window)
    style: Any = STYLE
    with rc_context(style):
        save(draw(), files)


def draw_weights(spectrum: Spectrum, part: Projected, window: tuple[float, float], title: str) -> Figure:
    """The figure of fat bands itself: one panel for each spin."""
    if part.values.shape[:3] != spectrum.energies.shape:
        raise InputError("weights", f"of shape {part.values.shape}", f"{spectrum.energies.shape} and one for each group")
    figure = Figure(figsize=(4.2 * len(spectrum.energies), 3.6))
    panels = figure.subplots(1, len(spectrum.energies), squeeze=False, sharey=True)[0]
    groups = _heaviest(spectrum, part, window)
    for s, axes in enumerate(panels):
        shares = HIGHEST * (window[1] - window[0]) * np.clip(part.values[s][..., groups], 0.0, 1.0)
        tops = np.cumsum(shares, axis=-1) - shares.sum(axis=-1, keepdims=True) / 2
        for place, group in enumerate(groups):
            colour = GROUP_COLOURS[place % SHOWN]
            _ribbons(axes, spectrum, s, tops[..., place] - shares[..., place], tops[..., place], window, colour)
            axes.plot([], [], lw=4, color=colour, label=part.groups[group])
        frame_path(axes, spectrum, window)
    _head(panels, title)
    return figure


def draw_unfolded(spectrum: Spectrum, part: Projected, window: tuple[float, float], title: str) -> Figure:
    """The figure of an effective band structure: dots whose area is the weight."""
    figure = Figure(figsize=(4.2 * len(spectrum.energies), 3.6))
    panels = figure.subplots(1, len(spectrum.energies), squeeze=False, sharey=True)[0]
    energies = spectrum.energies - (spectrum.fermi_level or 0.0)
    for s, axes in enumerate(panels):
        x = np.repeat(spectrum.distances, energies.shape[2])
        y, weight = energies[s].reshape(-1), np.clip(part.values[s, :, :, 0].reshape(-1), 0.0, 1.0)
        seen = (y >= window[0]) & (y <= window[1]) & (weight > 1e-2)
        dots = axes.scatter(
            x[seen], y[seen], s=14 * weight[seen], color=GROUP_COLOURS[0], lw=0, label=f"{part.groups[0]}, unfolded"
        )
        dots.set_rasterized(True)
        frame_path(axes, spectrum, window)
    _head(panels, title)
    return figure


def draw_dos(dos: DensityOfStates, kind: str | None, title: str) -> Figure:
    """The figure of densities itself."""
    if kind is not None and kind not in dos.projected:
        known = ", ".join(dos.projected) or "none"
        raise InputError("projections", f"no densities by {kind}", f"one of those computed: {known}")
    figure = Figure(figsize=(4.2, 3.0))
    axes = figure.subplots()
    x = dos.energies - (dos.fermi_level or 0.0)
    signs = (1.0,) if len(dos.density) == 1 else (1.0, -1.0)
    for s, sign in enumerate(signs):
        axes.fill_between(x, sign * dos.density[s], color=FILL, lw=0)
        axes.plot(x, sign * dos.density[s], color=WHOLE, lw=1.0, label="whole" if s == 0 else "_")
        if kind is not None:
            part = dos.projected[kind]
            for place, group in enumerate(_largest(part.values.sum(axis=(0, 1)))):
                label = part.groups[group] if s == 0 else "_"
                axes.plot(x, sign * part.values[s, :, group], color=GROUP_COLOURS[place % SHOWN], lw=1.0, label=label)
    axes.axvline(0.0, color=MUTED, lw=0.6, ls=":", zorder=1)
    if len(signs) == 2:
        axes.axhline(0.0, color=MUTED, lw=0.6)
    axes.set_xlim(float(x[0]), float(x[-1]))
    if len(signs) == 1:
        axes.set_ylim(bottom=0.0)
    axes.set_xlabel(r"$E - E_\mathrm{F}$ (eV)" if dos.fermi_level is not None else "$E$ (eV)")
    axes.set_ylabel("states / (eV cell)" if len(signs) == 1 else "states / (eV cell), spin up above")
    _head([axes], title)
    return figure


def _ribbons(
    axes: Axes, spectrum: Spectrum, s: int, low: Floats, high: Floats, window: tuple[float, float], colour: str
) -> None:
    """Ribbons along the bands of one spin, from `low` to `high` above each of them: [n_k, n_bands], eV."""
    energies = spectrum.energies[s] - (spectrum.fermi_level or 0.0)
    shown = np.flatnonzero((energies.max(axis=0) >= window[0]) & (energies.min(axis=0) <= window[1]))
    ribbons = []
    for leg in legs_of(spectrum):
        x = spectrum.distances[leg]
        for band in shown:
            middle = energies[leg, band]
            there, back = np.column_stack([x, middle + high[leg, band]]), np.column_stack([x, middle + low[leg, band]])
            ribbons.append(np.concatenate([there, back[::-1]]))
    axes.add_collection(PolyCollection(ribbons, facecolors=colour, edgecolors="none", alpha=0.8))


def _heaviest(spectrum: Spectrum, part: Projected, window: tuple[float, float]) -> list[int]:
    """Groups that a figure shows: those with most weight in the window, in their own order."""
    energies = spectrum.energies - (spectrum.fermi_level or 0.0)
    inside = (energies >= window[0]) & (energies <= window[1])
    return _largest(part.values[inside].sum(axis=0))


def _largest(sums: Floats) -> list[int]:
    """Numbers of the largest ones, ascending."""
    return sorted(int(group) for group in np.argsort(-sums, kind="stable")[:SHOWN])


def _head(panels: Sequence[Axes], title: str) -> None:
    """Legend and title above the panels."""
    handles, labels = panels[0].get_legend_handles_labels()
    rows = -(-len(labels) // 4)
    if len(panels) == 2:
        for axes, spin in zip(panels, ("spin up", "spin down"), strict=True):
            axes.text(0.02, 0.98, spin, transform=axes.transAxes, va="top", fontsize=8.5)
    if title:
        panels[0].set_title(title, fontsize=10, pad=8 + 12 * rows)
    if handles:
        panels[0].legend(
            loc="lower center", bbox_to_anchor=(0.5, 0.995), ncols=4, handlelength=1.6, columnspacing=1.2, borderpad=0.2
        )
