"""Density of states, whole and projected: from levels on a mesh, each a Gaussian, or for large cells without any level.

Method ``levels`` takes all levels of a small cell (or those in the window) at each k of a mesh; method ``kpm`` the moments of
the density, by random vectors (`kpm`). Both give the same broadened density. The projected ones are sums of Mulliken weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from orbitrace.bands import kpm
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import Levels
from orbitrace.bands.fermi import electron_count, find_fermi_level
from orbitrace.bands.kpath import completed_lattice
from orbitrace.bands.levels import USUAL_BANDS, Ask, Progress, choose_solver, scatter, spread
from orbitrace.bands.mesh import Divisions, Mesh, divisions_for, uniform_mesh
from orbitrace.bands.projections import Projected, Projection, projections
from orbitrace.bands.velocities import Velocities
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.structure import Floats, Structure

SPACING = 0.1  # 1/Å between k points of the mesh
KPM_FROM = 4000  # orbitals from which `auto` takes no levels: LAPACK needs a minute or more per k there
FAR = 6.0  # widths, beyond which a Gaussian is nothing
STEPS_WIDE = 0.5  # standard deviation of an adaptive Gaussian in units of the step of its level from k to k


@dataclass(frozen=True)
class Settings:
    """How a density of states is computed.

    Parameters
    ----------
    window
        Lowest and highest energy, eV from the Fermi level.
    width
        Standard deviation of the Gaussians, eV; the least one if `broadening` is ``adaptive``.
    broadening
        ``gaussian``: all levels alike; ``adaptive``: as wide as the step of the level from one k of the mesh to the next.
    method
        ``levels``, ``kpm``, or ``auto``: by size.
    projections
        Groups that get a density of their own: kinds of `projections.KINDS`.
    mesh, spacing
        Divisions, or by default at most `spacing` 1/Å between points.
    solver, options
        Eigensolver of method ``levels``, by name, and its options.
    fermi
        The Fermi level of the calculation, or counted; ``auto``: the first if there is one.
    n_points
        Energies.
    vectors, seed
        Random vectors of method ``kpm``; 0 stands for exact traces.
    n_workers
        Processes over which k points are spread.
    """

    window: tuple[float, float] = (-5.0, 5.0)
    width: float = 0.05
    broadening: Literal["gaussian", "adaptive"] = "gaussian"
    method: Literal["auto", "levels", "kpm"] = "auto"
    projections: tuple[str, ...] = ()
    mesh: Divisions | None = None
    spacing: float = SPACING
    solver: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    fermi: Literal["auto", "file", "count"] = "auto"
    n_points: int = 1001
    vectors: int = 8
    seed: int = 0
    n_workers: int = 1


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
    projected
        By kind: [n_spin, n, n_groups] 1/eV, which sum to `density`.
    error
        [n_spin, n] 1/eV, standard error of a density from random vectors; None where there are none.
    record
        Method, broadening, solver, sizes.
    """

    energies: Floats
    density: Floats
    fermi_level: float | None
    width: float
    divisions: Divisions
    projected: Mapping[str, Projected] = field(default_factory=dict)
    error: Floats | None = None
    record: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def density_of_states(
    calculation: Calculation, settings: Settings = Settings(), progress: Progress | None = None
) -> DensityOfStates:
    """Density of states of a calculation.

    Raises
    ------
    InputError
        If the window is empty, the width not positive, the Fermi level neither known nor computable, or the overlap not
        positive definite at some k.
    """
    _check(settings)
    pencils = Pencil.channels(calculation)
    divisions = settings.mesh or divisions_for(calculation.structure, settings.spacing, calculation.hamiltonian.pairs)
    mesh = uniform_mesh(divisions, time_reversal=all(p.is_real for p in pencils))
    fermi = _fermi(calculation, pencils, settings)
    energies = np.linspace(fermi + settings.window[0], fermi + settings.window[1], settings.n_points)
    groups = projections(calculation, settings.projections)
    method = settings.method if settings.method != "auto" else "kpm" if pencils[0].size >= KPM_FROM else "levels"
    record: dict[str, str | int | float | bool] = {"method": method, "size": pencils[0].size, "k_points": len(mesh.kpoints)}
    error = None
    if method == "kpm":
        if settings.broadening != "gaussian":
            found = f"{settings.broadening!r} with method kpm, which has no levels"
            raise InputError("broadening", found, "gaussian", "Or use method levels")
        whole, parts, error = _from_moments(pencils, mesh, energies, groups, settings, progress)
        record |= {"vectors": settings.vectors}
    else:
        table = _levels(pencils, mesh, fermi, groups, settings, progress)
        whole, parts = _from_levels(calculation.structure, table, mesh, energies, groups, settings)
        record |= {"solver": ", ".join(sorted({levels.solver for row in table for levels in row}))}
    record |= {"broadening": settings.broadening}
    degeneracy = 2 if calculation.spin is Spin.NONE else 1
    return DensityOfStates(
        energies,
        degeneracy * whole,
        fermi,
        settings.width,
        divisions,
        _named(groups, degeneracy * parts),
        None if error is None else degeneracy * error,
        record,
    )


def _check(settings: Settings) -> None:
    """Refuse what has no meaning."""
    if not settings.window[0] < settings.window[1]:
        raise InputError("window", f"{settings.window}", "two ascending energies")
    if not (np.isfinite(settings.width) and settings.width > 0):
        raise InputError("width", f"{settings.width} eV", "a positive number")
    if settings.n_points < 2:
        raise InputError("n_points", f"{settings.n_points}", "at least 2")
    if settings.vectors < 0:
        raise InputError("vectors", f"{settings.vectors}", "a number of random vectors, or 0 for exact traces")


def _fermi(calculation: Calculation, pencils: Sequence[Pencil], settings: Settings) -> float:
    """The Fermi level, eV: of the calculation, or counted."""
    if settings.fermi != "count" and calculation.fermi_level is not None:
        return calculation.fermi_level
    if settings.fermi == "file":
        raise InputError("fermi: file", "the calculation brings no Fermi level", "one", "Use fermi: count")
    electron_count(calculation)
    return find_fermi_level(
        calculation, pencils, solver=settings.solver, n_workers=settings.n_workers, options=settings.options
    ).energy


def _named(groups: Sequence[Projection], parts: Floats) -> dict[str, Projected]:
    """The densities [n_spin, n, all groups] by kind."""
    ends = np.cumsum([len(projection.groups) for projection in groups])[:-1]
    pieces = np.split(parts, ends, axis=2) if groups else []
    return {p.kind: Projected(p.groups, piece) for p, piece in zip(groups, pieces, strict=True)}


# --- levels ----------------------------------------------------------------------------------------------------------------


def _levels(
    pencils: Sequence[Pencil],
    mesh: Mesh,
    fermi: float,
    groups: tuple[Projection, ...],
    settings: Settings,
    progress: Progress | None,
) -> list[list[Levels]]:
    """All levels at each k, or with a sparse solver those in the window, with their weights and velocities."""
    observers = (*groups, *((Velocities(),) if settings.broadening == "adaptive" else ()))
    name = choose_solver(settings.solver, KPM_FROM) if settings.solver != "auto" else "dense"
    ask = Ask(name, states=bool(observers), options=settings.options, observers=observers)
    if name != "dense":
        low, high = (fermi + end for end in settings.window)
        reach = FAR * settings.width
        n = min(USUAL_BANDS, pencils[0].size)
        ask = replace(ask, n_bands=n, sigma=(low + high) / 2, window=(low - reach, high + reach), states=True)
    return scatter(pencils, mesh.kpoints, [ask] * len(mesh.kpoints), settings.n_workers, progress)


def _from_levels(
    structure: Structure,
    table: list[list[Levels]],
    mesh: Mesh,
    energies: Floats,
    groups: Sequence[Projection],
    settings: Settings,
) -> tuple[Floats, Floats]:
    """[n_spin, n] whole density and [n_spin, n, n_groups] its parts, from levels at each k."""
    n_groups = sum(len(projection.groups) for projection in groups)
    sums = np.zeros((len(table), len(energies), 1 + n_groups))
    steps = 2 * np.pi * np.linalg.inv(completed_lattice(structure)) / np.array(mesh.divisions)  # columns: 1/Å
    for s, row in enumerate(table):
        for weight, levels in zip(mesh.weights, row, strict=True):
            widths = np.full(len(levels.energies), settings.width)
            if settings.broadening == "adaptive":
                widths = np.maximum(widths, STEPS_WIDE * np.linalg.norm(levels.observed["velocities"] @ steps, axis=1))
            shares = np.ones((len(widths), 1))
            shares = np.concatenate([shares, *(levels.observed[projection.name] for projection in groups)], axis=1)
            sums[s] += weight * broadened(levels.energies, widths, shares, energies)
    return sums[:, :, 0], sums[:, :, 1:]


def broadened(levels: Floats, widths: Floats, shares: Floats, energies: Floats) -> Floats:
    """[n, n_groups] densities at some energies, from levels [m] with Gaussians of widths [m] and shares [m, n_groups]."""
    near = (levels > energies[0] - FAR * widths) & (levels < energies[-1] + FAR * widths)
    steps = (energies[:, None] - levels[None, near]) / widths[near]
    density: Floats = np.exp(-0.5 * steps**2) / (widths[near] * np.sqrt(2 * np.pi)) @ shares[near]
    return density


# --- moments ---------------------------------------------------------------------------------------------------------------


def _from_moments(
    pencils: Sequence[Pencil],
    mesh: Mesh,
    energies: Floats,
    groups: tuple[Projection, ...],
    settings: Settings,
    progress: Progress | None,
) -> tuple[Floats, Floats, Floats | None]:
    """Whole density, its parts, and the standard error of the whole, by the kernel polynomial method."""
    asks = [
        kpm.Moments(energies, settings.width, settings.vectors, settings.seed + number, projections=groups)
        for number in range(len(mesh.kpoints))  # other vectors at each k, so that their errors average out
    ]
    table = spread(kpm.spectral_density, pencils, mesh.kpoints, asks, settings.n_workers, progress)
    weights = mesh.weights
    whole = np.array([sum(w * d.whole.mean(axis=0) for w, d in zip(weights, row, strict=True)) for row in table])
    parts = np.array([sum(w * d.groups for w, d in zip(weights, row, strict=True)) for row in table])
    if settings.vectors < 2:
        return whole, parts, None
    squares = [[w**2 * d.whole.var(axis=0, ddof=1) for w, d in zip(weights, row, strict=True)] for row in table]
    return whole, parts, np.sqrt(np.array(squares).sum(axis=1) / settings.vectors)
