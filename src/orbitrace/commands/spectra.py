"""Sub-commands of the spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from orbitrace.commands.options import Config, Settings, settings_of

Blocks = Annotated[Path, typer.Argument(help="DeepH folder: a prediction, or what `orbitrace read` wrote.")]
Result = Annotated[Path, typer.Option("--out", help="HDF5 file, with a figure beside it; or a .png, .pdf or .svg figure.")]
Solver = Annotated[str | None, typer.Option(help="auto, dense or shift_invert.")]
Bands = Annotated[int | None, typer.Option(help="Bands around the Fermi level.")]
Density = Annotated[float | None, typer.Option(help="k points per 1/Å of the path.")]
Window = Annotated[tuple[float, float] | None, typer.Option(help="Energies shown, eV from the Fermi level.")]
Workers = Annotated[int, typer.Option(help="Processes that share the k points.")]
Kinds = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--project", help="Onto element, atom, shell, orbital or layer; may be given several times."),
]


def bands(
    folder: Blocks,
    out: Result,
    reference: Annotated[str | None, typer.Option(help="DeepH folder of the DFT code, to compare with.")] = None,
    solver: Solver = None,
    n_bands: Bands = None,
    path: Annotated[str | None, typer.Option(help="Path such as GMKG; auto takes it from reference or lattice.")] = None,
    density: Density = None,
    project: Kinds = None,
    velocities: Annotated[bool | None, typer.Option("--velocities", help="Keep group velocities.")] = None,
    window: Window = None,
    reduced: Annotated[bool | None, typer.Option("--reduced", help="A few k exactly, the others by their states.")] = None,
    workers: Workers = 1,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Compute bands along a path from a Hamiltonian and an overlap, and draw them."""
    from orbitrace import stages
    from orbitrace.spectra import BandsSection

    given: dict[str, Any] = {"solver": solver, "n_bands": n_bands, "path": path, "density": density, "window": window}
    given |= {"projections": project or None, "velocities": velocities, "reduced": reduced}
    chosen = settings_of(BandsSection, "bands", config, settings, **given)
    spectrum = stages.bands(folder, out, chosen, Path(reference) if reference else None, workers)
    if told := stages.verification(spectrum):
        typer.echo(told)


def dos(
    folder: Blocks,
    out: Result,
    window: Window = None,
    width: Annotated[float | None, typer.Option(help="Standard deviation of the Gaussians, eV.")] = None,
    broadening: Annotated[str | None, typer.Option(help="gaussian, or adaptive: as levels step from k to k.")] = None,
    method: Annotated[str | None, typer.Option(help="auto, levels, or kpm for large cells.")] = None,
    project: Kinds = None,
    mesh: Annotated[tuple[int, int, int] | None, typer.Option(help="Divisions of the k mesh.")] = None,
    spacing: Annotated[float | None, typer.Option(help="Instead: largest distance of k points, 1/Å.")] = None,
    vectors: Annotated[int | None, typer.Option(help="Random vectors of kpm.")] = None,
    solver: Solver = None,
    workers: Workers = 1,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Compute densities of states, whole and projected, from a Hamiltonian and an overlap, and draw them."""
    from orbitrace import stages
    from orbitrace.spectra import DosSection

    given: dict[str, Any] = {"window": window, "width": width, "broadening": broadening, "method": method}
    given |= {"projections": project or None, "mesh": mesh, "spacing": spacing, "vectors": vectors, "solver": solver}
    stages.dos(folder, out, settings_of(DosSection, "dos", config, settings, **given), workers)


def unfold(
    folder: Blocks,
    out: Result,
    layer: Annotated[str | None, typer.Option(help="Layer, counted from 1 at the bottom, or all for every atom.")] = None,
    solver: Solver = None,
    n_bands: Bands = None,
    path: Annotated[str | None, typer.Option(help="Path such as GMKG in the zone of the layer.")] = None,
    density: Density = None,
    window: Window = None,
    workers: Workers = 1,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Unfold bands onto the primitive lattice of a layer: how much each state has of every k there."""
    from orbitrace import stages
    from orbitrace.spectra import UnfoldSection

    given: dict[str, Any] = {"layer": layer, "solver": solver, "n_bands": n_bands, "path": path, "density": density}
    chosen = settings_of(UnfoldSection, "unfold", config, settings, **given, window=window)
    stages.unfold(folder, out, chosen, workers)
