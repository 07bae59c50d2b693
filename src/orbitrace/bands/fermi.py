"""The Fermi level from the number of electrons: levels on a mesh, filled from below.

Small systems are diagonalised in full at each k of the mesh. For large ones the levels near the Fermi level are enough,
because counting (inertia) tells how many lie below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.inertia import count_below
from orbitrace.bands.levels import USUAL_BANDS, Ask, Progress, choose_solver, scatter
from orbitrace.bands.mesh import Divisions, Mesh, divisions_for, uniform_mesh
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.physics.structure import Floats, Ints
from orbitrace.units import BOLTZMANN

SPACING = 0.15  # 1/Å between k points of the mesh
TEMPERATURE = 300.0  # K
WIDE = 20.0  # in units of kT: within a wider gap the Fermi level is put in the middle
TAIL = 15.0  # in units of kT: levels farther from the Fermi level are full or empty


@dataclass(frozen=True, eq=False)
class MeshLevels:
    """Levels on a mesh.

    Parameters
    ----------
    mesh
        The k points.
    energies
        [n_spin, n_k, n_bands] eV, ascending; infinite where fewer levels were found at a k than at others.
    first_band
        [n_spin, n_k] number of the lowest of these among all levels.
    size
        Number of all levels of one spin at one k.
    degeneracy
        Electrons that a level holds: 2 without spin, else 1.
    """

    mesh: Mesh
    energies: Floats
    first_band: Ints
    size: int
    degeneracy: int


@dataclass(frozen=True)
class FermiLevel:
    """The Fermi level and what it follows from.

    Parameters
    ----------
    energy
        eV: middle of the gap of an insulator, else where the occupations of a Fermi-Dirac distribution sum to `n_electrons`.
    n_electrons
        Electrons per cell.
    gap
        Lowest empty minus highest full level on the mesh, eV; 0 for a metal. The mesh may miss the band edges.
    divisions, temperature
        The mesh, and K.
    """

    energy: float
    n_electrons: float
    gap: float
    divisions: Divisions
    temperature: float


def fermi_level(calculation: Calculation, mesh: Divisions | None = None, temperature: float = TEMPERATURE) -> float:
    """The Fermi level of a calculation in eV, from its electron count; see `find_fermi_level`."""
    return find_fermi_level(calculation, mesh=mesh, temperature=temperature).energy


def find_fermi_level(
    calculation: Calculation,
    pencils: Sequence[Pencil] | None = None,
    mesh: Divisions | None = None,
    temperature: float = TEMPERATURE,
    solver: str = "auto",
    n_workers: int = 1,
    progress: Progress | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> FermiLevel:
    """The Fermi level of a calculation, from its electron count.

    Parameters
    ----------
    pencils
        Of the calculation, if they are at hand.
    mesh
        Divisions of the mesh, which holds Gamma; by default at most 0.15 1/Å between points, and 1 where nothing disperses.
    temperature
        Of the electrons, K.
    solver, options
        Eigensolver (``auto`` chooses by size), and its options if it is named.

    Raises
    ------
    InputError
        If neither the calculation nor its basis knows the electrons, the orbitals cannot hold them, or a solver fails.
    """
    n_electrons = electron_count(calculation)
    pencils = pencils or Pencil.channels(calculation)
    divisions = mesh or divisions_for(calculation.structure, SPACING, calculation.hamiltonian.pairs)
    points = uniform_mesh(divisions, time_reversal=all(p.is_real for p in pencils))
    degeneracy = 2 if calculation.spin is Spin.NONE else 1
    _check_capacity(n_electrons, degeneracy * sum(p.size for p in pencils))
    solver = choose_solver(solver, pencils[0].size)
    if solver == "dense":
        levels = mesh_levels(pencils, points, degeneracy, Ask("dense", states=False, options=options), n_workers, progress)
        return occupied(levels, n_electrons, temperature)
    guess = calculation.fermi_level
    if guess is None:
        guess = _energy_of_count(pencils, points.kpoints[0], n_electrons / degeneracy, USUAL_BANDS // 4)
    ask = Ask(solver, options=options, sigma=guess)
    return _from_windows(pencils, points, degeneracy, n_electrons, temperature, ask, n_workers, progress)


def electron_count(calculation: Calculation) -> float:
    """Electrons per cell: as the DFT code counted them, else the valence electrons of the basis.

    Raises
    ------
    InputError
        If neither is known.
    """
    if calculation.n_electrons is not None:
        return float(calculation.n_electrons)
    valences = {z: calculation.basis[z].valence for z in calculation.structure.elements}
    unknown = [SYMBOLS[z] for z, valence in valences.items() if valence is None]
    if unknown:
        raise InputError(
            calculation.provenance.source or "the calculation",
            f"the number of electrons is not known, nor the valence of {', '.join(unknown)}",
            "one of them",
            "State the electrons of the cell, or the valence of each element's basis",
        )
    return float(sum(valences[int(z)] or 0.0 for z in calculation.structure.numbers))


def mesh_levels(
    pencils: Sequence[Pencil], mesh: Mesh, degeneracy: int, ask: Ask, n_workers: int = 1, progress: Progress | None = None
) -> MeshLevels:
    """Levels at all k of a mesh."""
    table = scatter(pencils, mesh.kpoints, [ask] * len(mesh.kpoints), n_workers, progress)
    firsts = [[levels.first_band for levels in row] for row in table]
    if any(first is None for row in firsts for first in row):
        raise InputError(f"solver {ask.solver}", "it cannot count levels on the mesh", "a count", "Use the solver 'dense'")
    most = max(len(levels.energies) for row in table for levels in row)
    energies = np.full((len(table), len(mesh.kpoints), most), np.inf)
    for s, row in enumerate(table):
        for k, levels in enumerate(row):
            energies[s, k, : len(levels.energies)] = levels.energies
    return MeshLevels(mesh, energies, np.array(firsts, dtype=np.int64), pencils[0].size, degeneracy)


def occupied(levels: MeshLevels, n_electrons: float, temperature: float = TEMPERATURE) -> FermiLevel:
    """The Fermi level at which the levels hold `n_electrons`.

    Raises
    ------
    InputError
        If the levels cannot hold so many, or must hold more.
    """
    kt = max(BOLTZMANN * temperature, 1e-5)
    low, high = levels.energies.min() - 50 * kt, levels.energies.max() + 50 * kt
    # At these ends everything is empty or full up to e^-50
    if not electrons_at(levels, low, kt) <= n_electrons <= electrons_at(levels, high, kt):
        raise InputError("Fermi level", f"{n_electrons} electrons", "a number that the levels can hold")
    energy = float(brentq(lambda mu: electrons_at(levels, mu, kt) - n_electrons, low, high, xtol=1e-12))
    top, bottom = _edges(levels, energy)
    gap = max(bottom - top, 0.0) if np.isfinite(bottom - top) else 0.0
    if gap > WIDE * kt:
        energy = (top + bottom) / 2
    return FermiLevel(energy, n_electrons, gap, levels.mesh.divisions, temperature)


def electrons_at(levels: MeshLevels, mu: float, kt: float) -> float:
    """Electrons per cell for a Fermi level mu and a temperature kt, both in eV."""
    filled = levels.first_band + expit((mu - levels.energies) / kt).sum(axis=2)
    return float(levels.degeneracy * (filled @ levels.mesh.weights).sum())


def _edges(levels: MeshLevels, energy: float) -> tuple[float, float]:
    """Highest full and lowest empty level if the same number of levels is full at all k; else no gap: (0, 0)."""
    below = levels.energies < energy
    full = levels.first_band + below.sum(axis=2)
    if np.ptp(full, axis=1).any():
        return 0.0, 0.0
    top = np.where(below, levels.energies, -np.inf).max()
    bottom = np.where(below, np.inf, levels.energies).min()
    return float(top), float(bottom)


def _check_capacity(n_electrons: float, capacity: int) -> None:
    """Refuse more electrons than the orbitals hold."""
    if not 0 < n_electrons <= capacity:
        raise InputError(
            "Fermi level", f"{n_electrons:g} electrons", f"more than 0 and at most {capacity}, which all orbitals hold"
        )


def _energy_of_count(pencils: Sequence[Pencil], k: Floats, wanted: float, margin: int) -> float:
    """An energy, eV, with about `wanted` levels below it at one k (within `margin`), by bisection of counts."""
    matrices = [pencil.at(k) for pencil in pencils]
    onsite = np.concatenate([H.diagonal().real / S.diagonal().real for H, S in matrices])

    def excess(energy: float) -> float:
        return sum(count_below(H, S, energy) for H, S in matrices) - wanted

    low, high = float(np.min(onsite)) - 20.0, float(np.max(onsite))
    energy = float(np.quantile(onsite, min(wanted / len(onsite), 1.0)))
    for _ in range(60):
        now = excess(energy)
        if abs(now) <= margin:
            break
        low, high = (low, energy) if now > 0 else (energy, max(high, energy + 20.0))
        energy = (low + high) / 2
    return energy


def _from_windows(
    pencils: Sequence[Pencil],
    mesh: Mesh,
    degeneracy: int,
    n_electrons: float,
    temperature: float,
    ask: Ask,
    n_workers: int,
    progress: Progress | None,
) -> FermiLevel:
    """The Fermi level from some levels near it; they are widened until they hold it and its tail at every k."""
    kt = max(BOLTZMANN * temperature, 1e-5)
    n_bands = USUAL_BANDS
    while True:
        levels = mesh_levels(pencils, mesh, degeneracy, replace(ask, n_bands=n_bands), n_workers, progress)
        lowest, highest = levels.energies[:, :, 0].max(), levels.energies[:, :, -1].min()
        held = [electrons_at(levels, float(mu), 1e-5) for mu in (levels.energies.min() - 1e-3, levels.energies.max() + 1e-3)]
        if held[0] <= n_electrons <= held[1]:
            found = occupied(levels, n_electrons, temperature)
            if lowest < found.energy - TAIL * kt and found.energy + TAIL * kt < highest:
                return found
            ask = replace(ask, sigma=found.energy)
        else:
            ask = replace(ask, sigma=float(levels.energies.min() if n_electrons < held[0] else levels.energies.max()))
        if n_bands >= pencils[0].size:
            raise InputError("Fermi level", f"not found among {n_bands} levels at each k", "levels on both sides of it")
        n_bands = min(2 * n_bands, pencils[0].size)
