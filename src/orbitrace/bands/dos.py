"""Density of states: levels on a mesh, each a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.fermi import MeshLevels, electron_count, find_fermi_level, mesh_levels
from orbitrace.bands.levels import USUAL_BANDS, Ask, Progress, choose_solver
from orbitrace.bands.mesh import Divisions, divisions_for, uniform_mesh
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.structure import Floats

SPACING = 0.1  # 1/Å between k points of the mesh


@dataclass(frozen=True, eq=False)
class DensityOfStates:
    """States per eV and cell.

    Parameters
    ----------
    energies
        [n] eV, raw.
    density
        [n_spin, n] 1/eV per cell; without spin both electrons of a level are counted.
    fermi_level
        eV; None where it is not known.
    width
        Standard deviation of the Gaussians, eV.
    divisions
        Of the mesh.
    """

    energies: Floats
    density: Floats
    fermi_level: float | None
    width: float
    divisions: Divisions


def density_of_states(
    calculation: Calculation,
    window: tuple[float, float] = (-5.0, 5.0),
    width: float = 0.05,
    mesh: Divisions | None = None,
    solver: str = "auto",
    n_points: int = 1001,
    n_workers: int = 1,
    progress: Progress | None = None,
) -> DensityOfStates:
    """Density of states of a calculation.

    Parameters
    ----------
    window
        Lowest and highest energy, eV from the Fermi level.
    width
        Standard deviation of the Gaussians, eV.
    mesh
        Divisions; by default at most 0.1 1/Å between points.

    Raises
    ------
    InputError
        If the window is empty, the width not positive, or the Fermi level neither known nor computable.
    """
    if not window[0] < window[1]:
        raise InputError("window", f"{window}", "two ascending energies")
    pencils = Pencil.channels(calculation)
    divisions = mesh or divisions_for(calculation.structure, SPACING, calculation.hamiltonian.pairs)
    points = uniform_mesh(divisions, time_reversal=all(p.is_real for p in pencils))
    fermi = calculation.fermi_level
    if fermi is None:
        electron_count(calculation)
        fermi = find_fermi_level(calculation, pencils, solver=solver, n_workers=n_workers).energy
    ask = Ask(choose_solver(solver, pencils[0].size), states=False)
    if ask.solver != "dense":
        reach = 5 * width
        n = min(USUAL_BANDS, pencils[0].size)
        ask = replace(
            ask,
            n_bands=n,
            sigma=fermi + sum(window) / 2,
            window=(fermi + window[0] - reach, fermi + window[1] + reach),
            states=True,
        )
    degeneracy = 2 if calculation.spin is Spin.NONE else 1
    levels = mesh_levels(pencils, points, degeneracy, ask, n_workers, progress)
    energies = np.linspace(fermi + window[0], fermi + window[1], n_points)
    return DensityOfStates(energies, broadened(levels, energies, width), fermi, width, divisions)


def broadened(levels: MeshLevels, energies: Floats, width: float) -> Floats:
    """[n_spin, n] states per eV and cell at some energies, from Gaussians of standard deviation `width`."""
    if not (np.isfinite(width) and width > 0):
        raise InputError("width", f"{width} eV", "a positive number")
    result = np.zeros((len(levels.energies), len(energies)))
    for s, channel in enumerate(levels.energies):
        for weight, row in zip(levels.mesh.weights, channel, strict=True):
            steps = (energies[:, None] - row[None, :]) / width
            result[s] += weight * np.exp(-0.5 * steps**2).sum(axis=1)
    density: Floats = result * levels.degeneracy / (width * np.sqrt(2 * np.pi))
    return density
