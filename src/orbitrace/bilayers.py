"""From the settings of a twist to its atoms: layers from names or files, the cell, the registry, the relief."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orbitrace import interchange
from orbitrace.errors import InputError
from orbitrace.physics import commensurate, registry
from orbitrace.physics.commensurate import Coincidence
from orbitrace.physics.layers import Layer, built_in, layer_of
from orbitrace.physics.relaxed import relaxed
from orbitrace.physics.structure import Floats, Structure
from orbitrace.physics.twist import bilayer, hexagonal_layer, two_integers
from orbitrace.twisting import BUILT_IN, TwistSection, layer_hint

HEADINGS = ("atoms", "degrees", "a/Å", "b/Å", "gamma", "strain below xx yy xy/%", "strain above xx yy xy/%", "cells")


@dataclass(frozen=True, eq=False)
class Built:
    """A twisted bilayer, and the cell of its layers that it came from."""

    structure: Structure
    cell: Coincidence

    def __str__(self) -> str:
        parts = f"below {_percent(self.cell.strain_bottom)}, above {_percent(self.cell.strain_top)}"
        return f"{self.cell} (xx yy xy: {parts})"


def build(settings: TwistSection) -> Built:
    """Make the structure that the settings ask for.

    Raises
    ------
    InputError
        If a layer or the relaxed positions cannot be used, or no cell fulfils what is asked; it names the closest.
    """
    below, above = _layers(settings)
    cell = _cell(below, above, settings)
    if settings.stacking is not None:
        below, above = registry.stacked(below, above, settings.stacking, settings.centre)
    structure = bilayer(
        below,
        above,
        cell,
        settings.distance,
        vacuum=settings.vacuum,
        shift=settings.shift,
        corrugation={str(name): d for name, d in settings.corrugation.items()} if settings.corrugation else None,
    )
    if settings.relaxed is not None:
        found = interchange.read_structure(Path(settings.relaxed))
        structure = relaxed(structure, found, settings.relaxed, settings.relaxed_within)
    return Built(structure, cell)


def candidates(settings: TwistSection, limit: int) -> list[Coincidence]:
    """Cells near the asked angle, those of fewest atoms first.

    Raises
    ------
    InputError
        If no angle is given, or no cell is near enough; it names the closest.
    """
    if settings.angle is None:
        raise InputError("twist", "a search without an angle", "an angle, degrees", "Give --angle, and --angle-tolerance")
    below, above = _layers(settings)
    window = below, above, settings.angle, settings.angle_tolerance, settings.max_strain, settings.max_atoms
    found = commensurate.search(*window, strained=settings.strained, limit=limit)
    return found or [_missing(below, above, settings)]


def table(cells: list[Coincidence]) -> Iterator[tuple[str, ...]]:
    """Rows of text for some cells, the headings first."""
    yield HEADINGS
    for cell in cells:
        (a, b), degrees = np.linalg.norm(cell.lattice, axis=1), round(cell.angle, 4) + 0.0
        gamma = np.degrees(np.arccos(cell.lattice[1, 0] / b))
        numbers = str(cell.n_atoms), f"{degrees:.4f}", f"{a:.3f}", f"{b:.3f}", f"{gamma:.2f}"
        rows = str([cell.bottom.tolist(), cell.top.tolist()]).replace(" ", "")
        yield (*numbers, _percent(cell.strain_bottom), _percent(cell.strain_top), rows)


def _layers(settings: TwistSection) -> tuple[Layer, Layer]:
    """The layers below and above."""
    wanted = {"layer": settings.layer} | ({} if settings.top is None else {"top": settings.top})
    kind = layer_of if settings.m is None else hexagonal_layer
    made = [kind(_structure(name), f"twist: {key} {name}") for key, name in wanted.items()]
    return made[0], made[-1]


def _structure(name: str) -> Structure:
    """The primitive cell that a name or a file means."""
    if name in BUILT_IN:
        return built_in(name)
    if not Path(name).exists():
        expected, remedy = layer_hint(name)
        raise InputError(name, "neither a file nor a layer that is built in", expected, remedy)
    return interchange.read_structure(Path(name))


def _cell(below: Layer, above: Layer, settings: TwistSection) -> Coincidence:
    """The cell of both layers that the settings ask for."""
    if settings.m is not None and settings.n is not None:
        strain = settings.max_strain
        return two_integers(below, above, settings.m, settings.n, strained=settings.strained, max_strain=strain)
    if settings.cells is not None:
        cell = commensurate.coincidence(below, above, *settings.cells, settings.strained)
        if cell.strain > settings.max_strain + 1e-9:
            raise InputError(
                "twist: cells",
                f"a strain of {100 * cell.strain:.4f} %",
                f"at most {100 * settings.max_strain:g} %, as max_strain says",
                "Choose other cells, or allow more",
            )
        return cell
    window = settings.angle or 0.0, settings.angle_tolerance, settings.max_strain, settings.max_atoms
    return commensurate.best(below, above, *window, strained=settings.strained) or _missing(below, above, settings)


def _missing(below: Layer, above: Layer, settings: TwistSection) -> Coincidence:
    """Say which cell is closest where none is near enough."""
    window = settings.angle or 0.0, settings.angle_tolerance, settings.max_strain
    asked = f"{window[0]:g} degrees within {window[1]:g}, and a strain within {100 * window[2]:g} %"
    closest = commensurate.nearest(below, above, *window, settings.max_atoms, strained=settings.strained)
    larger = commensurate.search(below, above, *window, 8 * settings.max_atoms, strained=settings.strained, limit=1)
    hints = [f"The closest has {closest}"] if closest else []
    hints += [f"A larger one has {larger[0]}"] if larger else []
    hints += ["Allow more by max_atoms, angle_tolerance or max_strain"]
    raise InputError("twist", f"no cell of at most {settings.max_atoms} atoms has {asked}", "", ". ".join(hints))


def _percent(strain: Floats) -> str:
    """Components xx, yy and xy."""
    return " ".join(f"{100 * strain[i, j] + 0.0:.4f}".replace("-0.0000", "0.0000") for i, j in ((0, 0), (1, 1), (0, 1)))
