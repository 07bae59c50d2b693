"""Figures of band structures: energies from the Fermi level along the path, over those of a reference if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats

FORMATS = (".png", ".pdf", ".svg")
COLOURS = ("#c8102e", "#1f5fa8")  # of our spins; a reference is black and grey
REFERENCE_COLOURS = ("#111111", "#8a8a8a")
STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "mathtext.fontset": "dejavusans",
    "axes.linewidth": 0.7,
    "axes.labelsize": 10,
    "xtick.labelsize": 10,
    "xtick.major.size": 0,
    "ytick.direction": "in",
    "ytick.right": True,
    "ytick.major.width": 0.7,
    "ytick.minor.visible": True,
    "ytick.minor.width": 0.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


def plot_bands(
    spectrum: Spectrum,
    files: Path | Sequence[Path],
    reference: Spectrum | None = None,
    window: tuple[float, float] = (-3.0, 3.0),
    names: tuple[str, str] = ("OrbiTrace", "reference"),
    title: str = "",
) -> None:
    """Draw bands to files, of the format that each suffix says.

    Parameters
    ----------
    files
        One file or several, ``.png``, ``.pdf`` or ``.svg``.
    reference
        Bands of a path with the same named points, drawn as thin black lines below ours.
    window
        Energies shown, eV from each spectrum's own Fermi level (from its own zero if that is not known).
    names
        What the legend calls the two.

    Raises
    ------
    InputError
        If a suffix is unknown, the window is empty, or the reference follows another path.
    """
    files = [files] if isinstance(files, Path) else list(files)
    check_files(files, window)
    style: Any = STYLE
    with rc_context(style):
        save(draw_bands(spectrum, reference, window, names, title), files)


def check_files(files: Sequence[Path], window: tuple[float, float]) -> None:
    """Refuse formats that are not known, and an empty window."""
    for file in files:
        if file.suffix.lower() not in FORMATS:
            raise InputError(file, f"unknown format {file.suffix!r}", f"one of {', '.join(FORMATS)}")
    if not window[0] < window[1]:
        raise InputError("window", f"{window}", "two ascending energies")


def save(figure: Figure, files: Sequence[Path]) -> None:
    """Write a figure to files, each whole or not at all."""
    for file in files:
        with replacing(file) as part:
            figure.savefig(part, dpi=300, bbox_inches="tight", pad_inches=0.04)


def draw_bands(
    spectrum: Spectrum, reference: Spectrum | None, window: tuple[float, float], names: tuple[str, str], title: str
) -> Figure:
    """The figure itself."""
    figure = Figure(figsize=(4.2, 3.6))
    axes = figure.subplots()
    if reference is not None:
        lines = {"lw": 0.9, "ls": "-", "zorder": 2}
        _draw(axes, reference, _on_path(reference, spectrum), window, REFERENCE_COLOURS, names[1], lines)
    lines = {"lw": 1.3, "ls": "-" if reference is None else (0, (3.2, 1.6)), "zorder": 3}
    _draw(axes, spectrum, spectrum.distances, window, COLOURS, names[0] if reference is not None else "", lines)
    frame_path(axes, spectrum, window)
    if title:
        axes.set_title(title, fontsize=10, pad=18 if reference is not None else 6)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 0.995), ncols=4, handlelength=2.2, columnspacing=1.5, borderpad=0.2
        )
    return figure


def frame_path(axes: Axes, spectrum: Spectrum, window: tuple[float, float]) -> None:
    """Named points below the axes, lines above them, and the Fermi level."""
    ticks = named_ticks(spectrum)
    axes.axhline(0.0, color="#999999", lw=0.6, ls=":", zorder=1)
    for x, _ in ticks:
        axes.axvline(x, color="#bbbbbb", lw=0.6, zorder=0)
    axes.set_xticks([x for x, _ in ticks], [name for _, name in ticks])
    length = float(spectrum.distances[-1])
    axes.set_xlim((0.0, length) if length > 0 else (-0.5, 0.5))
    axes.set_ylim(*window)
    axes.set_ylabel(r"$E - E_\mathrm{F}$ (eV)" if spectrum.fermi_level is not None else "$E$ (eV)")


def _draw(
    axes: Axes,
    spectrum: Spectrum,
    x: Floats,
    window: tuple[float, float],
    colours: tuple[str, str],
    name: str,
    lines: dict[str, Any],
) -> None:
    """Bands as lines, leg by leg, so that nothing is drawn across a break of the path."""
    spins = ("", "") if len(spectrum.energies) == 1 else ("spin up", "spin down")
    for s, channel in enumerate(spectrum.energies - (spectrum.fermi_level or 0.0)):
        shown = channel[:, (channel.max(axis=0) >= window[0]) & (channel.min(axis=0) <= window[1])]
        label = " ".join(part for part in (name, spins[s]) if part)
        for leg in legs_of(spectrum):
            if len(leg) == 1:
                axes.hlines(shown[leg[0]], -0.25, 0.25, color=colours[s], label=label, **lines)
            elif shown.shape[1]:
                curves = axes.plot(x[leg], shown[leg], color=colours[s], solid_capstyle="round", **lines)
                curves[0].set_label(label or "_")
            label = ""


def legs_of(spectrum: Spectrum) -> list[Floats]:
    """Numbers of the k points of each part of the path between breaks."""
    named = {place for place, _ in spectrum.labels}
    breaks = [k + 1 for k in range(len(spectrum.kpoints) - 1) if k in named and k + 1 in named]
    return list(np.split(np.arange(len(spectrum.kpoints)), breaks))


def named_ticks(spectrum: Spectrum) -> list[tuple[float, str]]:
    """Places and names of the named points; the two names at a break share one place."""
    ticks: list[tuple[float, str]] = []
    distances = spectrum.distances
    for place, name in spectrum.labels:
        x, name = float(distances[place]), {"G": "Γ", "GAMMA": "Γ", "Gamma": "Γ"}.get(name, name)
        if ticks and abs(ticks[-1][0] - x) < 1e-9:
            before = ticks[-1][1]
            ticks[-1] = (x, before if before == name else f"{before}|{name}")
        else:
            ticks.append((x, name))
    return ticks


def _on_path(reference: Spectrum, spectrum: Spectrum) -> Floats:
    """Distances of the reference's k points, stretched leg by leg onto our path."""
    theirs, ours = named_ticks(reference), named_ticks(spectrum)
    if [name for _, name in theirs] != [name for _, name in ours]:
        paths = ["-".join(name for _, name in ticks) or "unnamed" for ticks in (theirs, ours)]
        raise InputError(
            "reference bands",
            f"the path {paths[0]}",
            f"{paths[1]}, as of the bands",
            "Compute bands at the reference's k points",
        )
    if not ours:
        return reference.distances
    result: Floats = np.interp(reference.distances, [x for x, _ in theirs], [x for x, _ in ours])
    return result
