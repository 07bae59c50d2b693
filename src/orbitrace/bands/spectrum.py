"""Band structures: the levels of a calculation at given k points, with the Fermi level beside them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import TOLERANCE, Levels
from orbitrace.bands.fermi import TEMPERATURE, FermiLevel, electron_count, fermi_level, find_fermi_level
from orbitrace.bands.inertia import count_below
from orbitrace.bands.kpath import KPath, completed_lattice
from orbitrace.bands.levels import (
    USUAL_BANDS,
    Ask,
    Progress,
    choose_solver,
    cut,
    energies_of,
    levels_at,
    observed_of,
    scatter,
)
from orbitrace.bands.mesh import Divisions
from orbitrace.bands.observing import Observer
from orbitrace.bands.projections import Projected, Projection, projections
from orbitrace.bands.reduced import ReducedSettings, reduced_levels
from orbitrace.bands.velocities import Velocities
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Floats

__all__ = ["BandStructure", "Settings", "band_structure", "fermi_level"]

Record = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, eq=False)
class BandStructure(Spectrum):
    """A spectrum that OrbiTrace computed, with the record of how.

    Parameters
    ----------
    record
        Solver, sizes, electrons, source of the Fermi level, largest residual, number of k points verified by counting.
    weights
        By kind of projection: [n_spin, n_k, n_bands, n_groups] Mulliken weights, which sum to 1 over the groups.
    velocities
        [n_spin, n_k, n_bands, 3] dE/dk, eV Å, Cartesian; None where not asked for. Degenerate bands have those of the
        branches along the path.
    """

    record: Record = field(default_factory=dict)
    weights: Mapping[str, Projected] = field(default_factory=dict)
    velocities: Floats | None = None


@dataclass(frozen=True)
class Settings:
    """How bands are computed.

    Parameters
    ----------
    solver
        Name of an eigensolver, or ``auto``: ``dense`` up to 1000 orbitals, else ``shift_invert``.
    n_bands
        Number of bands, centred at the Fermi level; by default all of a dense solver, 40 of a sparse one.
    window
        Instead of `n_bands`: all bands that enter these energies, eV from the Fermi level.
    fermi
        ``file``: the Fermi level that the calculation brings (of its DFT code); ``count``: the one that follows from the
        electron count on our mesh; ``auto``: of the file if it is there.
    mesh, temperature
        For the Fermi level: divisions (None: by the size of the zone) and K.
    tolerance
        Largest accepted residual ||H c - E S c|| / (||H c|| + |E| ||S c||).
    verify
        At which k points a sparse solver proves by counting that no level is missing.
    n_workers
        Processes over which k points are spread.
    options
        Options of the eigensolver, by name.
    projections
        Kinds of groups of orbitals (`projections.KINDS`) whose weights in each state are wanted.
    velocities
        Whether group velocities are wanted.
    reduced
        Exact levels at a few k only, and a reduced basis of their states at all others (`reduced.py`).
    """

    solver: str = "auto"
    n_bands: int | None = None
    window: tuple[float, float] | None = None
    fermi: Literal["auto", "file", "count"] = "auto"
    mesh: Divisions | None = None
    temperature: float = TEMPERATURE
    tolerance: float = TOLERANCE
    verify: Literal["never", "first", "every"] = "first"
    n_workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    projections: tuple[str, ...] = ()
    velocities: bool = False
    reduced: ReducedSettings | None = None


def band_structure(
    calculation: Calculation,
    kpoints: KPath | ArrayLike,
    labels: Sequence[tuple[int, str]] = (),
    settings: Settings = Settings(),
    progress: Progress | None = None,
) -> BandStructure:
    """Bands of a calculation.

    Parameters
    ----------
    kpoints
        A path, or [n_k, 3] fractional.
    labels
        (number of the k point, name); those of a path are its own.
    progress
        Called with (k points done, all) after each; if the Fermi level must be found, for its mesh first.

    Returns
    -------
    Spectrum with `record`; collinear spin has two channels, each with its own levels and the same numbers of bands.

    Raises
    ------
    InputError
        If the overlap is not positive definite at some k, a solver fails, the window holds no band, or the Fermi level is
        needed and neither known nor computable.
    """
    if isinstance(kpoints, KPath):
        points, labels = kpoints.kpoints, kpoints.labels
    else:
        points = np.asarray(kpoints, dtype=np.float64).reshape(-1, 3)
    lattice = completed_lattice(calculation.structure)
    groups = projections(calculation, settings.projections)
    observers = _observers(groups, settings, path_directions(points, lattice, labels))
    fermi, table, record = solved(calculation, points, settings, observers, progress)
    return BandStructure(
        kpoints=points,
        energies=energies_of(table),
        fermi_level=fermi,
        lattice=lattice,
        labels=tuple(labels),
        first_band=table[0][0].first_band,
        residuals=np.array([[_worst(levels) for levels in row] for row in table]),
        record=record,
        weights={p.kind: Projected(p.groups, observed_of(table, p.name)) for p in groups},
        velocities=observed_of(table, Velocities.name) if settings.velocities else None,
    )


def solved(
    calculation: Calculation,
    points: Floats,
    settings: Settings,
    observers: Sequence[tuple[Observer, ...]],
    progress: Progress | None = None,
) -> tuple[float | None, list[list[Levels]], Record]:
    """Fermi level, levels [n_spin][n_k] with what `observers` (some for each k) see in them, and the record of how."""
    started = time.perf_counter()
    pencils = Pencil.channels(calculation)
    solver = choose_solver(settings.solver, pencils[0].size)
    fermi, record = _fermi(calculation, pencils, settings, progress)
    table, told = _levels(calculation, pencils, points, solver, fermi, settings, observers, progress)
    done = _record(pencils, solver, table, settings, time.perf_counter() - started)
    return fermi, table, {**record, **told, **done}


def path_directions(points: Floats, lattice: Floats, labels: Sequence[tuple[int, str]]) -> Floats:
    """[n_k, 3] Cartesian direction of the path at each k, onwards where it bends; zero where there is none."""
    steps = np.diff(points, axis=0) @ np.linalg.inv(lattice).T
    named = {place for place, _ in labels}
    steps = np.where(np.array([k in named and k + 1 in named for k in range(len(steps))])[:, None], 0.0, steps)
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    units = np.append(steps / np.where(lengths > 0, lengths, 1.0), np.zeros((1, 3)), axis=0)
    before = np.roll(units, 1, axis=0)
    before[0] = 0.0
    directions: Floats = np.where(units.any(axis=1, keepdims=True), units, before)
    return directions


def _observers(groups: Sequence[Projection], settings: Settings, directions: Floats) -> list[tuple[Observer, ...]]:
    """What looks at the states of each k."""
    if not settings.velocities:
        return [tuple(groups)] * len(directions)
    return [(*groups, Velocities((float(x), float(y), float(z)))) for x, y, z in directions]


def _fermi(
    calculation: Calculation, pencils: Sequence[Pencil], settings: Settings, progress: Progress | None
) -> tuple[float | None, dict[str, str | int | float | bool]]:
    """The Fermi level, and where it comes from; None if nothing is known about electrons and all bands are wanted."""
    if settings.fermi == "file" and calculation.fermi_level is None:
        raise InputError("fermi: file", "the calculation brings no Fermi level", "one", "Use fermi: count")
    if settings.fermi != "count" and calculation.fermi_level is not None:
        return calculation.fermi_level, {"fermi_source": "file"}
    try:
        electron_count(calculation)
    except InputError:
        needed = settings.fermi == "count" or settings.n_bands is not None or settings.window is not None
        if needed or choose_solver(settings.solver, pencils[0].size) != "dense":
            raise
        return None, {"fermi_source": "unknown"}
    found = find_fermi_level(
        calculation,
        pencils,
        settings.mesh,
        settings.temperature,
        settings.solver,
        settings.n_workers,
        progress,
        settings.options,
    )
    return found.energy, _record_of(found)


def _record_of(found: FermiLevel) -> dict[str, str | int | float | bool]:
    """What to remember of a Fermi level."""
    return {
        "fermi_source": "count",
        "n_electrons": found.n_electrons,
        "gap": found.gap,
        "mesh": "x".join(map(str, found.divisions)),
        "temperature": found.temperature,
    }


def _levels(
    calculation: Calculation,
    pencils: Sequence[Pencil],
    points: Floats,
    solver: str,
    fermi: float | None,
    settings: Settings,
    observers: Sequence[tuple[Observer, ...]],
    progress: Progress | None,
) -> tuple[list[list[Levels]], Record]:
    """Levels at all k with the same numbers of bands everywhere, [n_spin][n_k], and what is to be told of the way."""
    size = pencils[0].size
    ask = Ask(solver, sigma=fermi, options=settings.options, tolerance=settings.tolerance)
    n_bands = settings.n_bands
    if n_bands is None and settings.window is None and (solver != "dense" or settings.reduced):
        n_bands = min(USUAL_BANDS, size)
    if settings.window is not None and fermi is not None:
        window = (fermi + settings.window[0], fermi + settings.window[1])
        if settings.reduced:
            raise InputError("reduced", "a window", "a number of bands", "Use n_bands, or reduced: false")
        return _in_window(pencils, points, ask, window, settings, observers, progress), {}
    if n_bands is not None:
        if not 1 <= n_bands <= size:
            raise InputError("n_bands", str(n_bands), f"1 to {size}, the number of bands")
        full = _full_bands(calculation, pencils[0], points[0], fermi)
        first = min(max(full - n_bands // 2, 0), size - n_bands)
        ask = replace(ask, bands=(first, first + n_bands))
    if settings.reduced:
        if any(observers):
            raise InputError("reduced", "weights or velocities", "energies only", "Set reduced: false")
        return _reduced(pencils, points, ask, settings.reduced, settings.n_workers, progress)
    return _trimmed(scatter(pencils, points, _asks(ask, observers, settings), settings.n_workers, progress)), {}


def _reduced(
    pencils: Sequence[Pencil],
    points: Floats,
    ask: Ask,
    how: ReducedSettings,
    n_workers: int,
    progress: Progress | None,
) -> tuple[list[list[Levels]], Record]:
    """Levels in a reduced basis, and the worse of the verifications of the two spins."""
    table, records = zip(*(reduced_levels(pencil, points, ask, how, n_workers, progress) for pencil in pencils), strict=True)
    return list(table), {name: max(record[name] for record in records) for name in records[0]}


def _full_bands(calculation: Calculation, pencil: Pencil, k: Floats, fermi: float | None) -> int:
    """Number of full bands (of one spin): from the electrons, or if they are not known by counting at one k."""
    try:
        electrons = electron_count(calculation)
    except InputError:
        if fermi is None:
            raise
        return count_below(*pencil.at(k), fermi)
    return round(electrons if calculation.spin is Spin.NONCOLLINEAR else electrons / 2)


def _in_window(
    pencils: Sequence[Pencil],
    points: Floats,
    ask: Ask,
    window: tuple[float, float],
    settings: Settings,
    observers: Sequence[tuple[Observer, ...]],
    progress: Progress | None,
) -> list[list[Levels]]:
    """All bands that enter a window somewhere: first the levels within it, then those k that lack one of the bands."""
    if not window[0] < window[1]:
        raise InputError("window", f"{settings.window}", "two ascending energies")
    n = None if ask.solver == "dense" else min(USUAL_BANDS, pencils[0].size)
    near = replace(ask, n_bands=n, window=window, sigma=sum(window) / 2)
    asks = _asks(near, observers, settings)
    table = scatter(pencils, points, asks, settings.n_workers, progress)
    firsts, lasts = [], []
    for levels in (levels for row in table for levels in row):
        inside = np.flatnonzero((levels.energies >= window[0]) & (levels.energies <= window[1]))
        if levels.first_band is None:
            raise InputError("window", f"{ask.solver} does not know the numbers of its bands", "a count", "Use n_bands")
        if len(inside):
            firsts.append(levels.first_band + int(inside[0]))
            lasts.append(levels.first_band + int(inside[-1]) + 1)
    if not firsts:
        raise _outside(table, window)
    return _completed(pencils, points, asks, table, (min(firsts), max(lasts)))


def _outside(table: list[list[Levels]], window: tuple[float, float]) -> InputError:
    """What to say of a window without bands: where the nearest ones are."""
    energies = np.concatenate([levels.energies for row in table for levels in row])
    below, above = energies[energies < window[0]], energies[energies > window[1]]
    ends = [f"up to {below.max():.3f} eV"] if len(below) else []
    ends += [f"from {above.min():.3f} eV on"] if len(above) else []
    found = f"no band between {window[0]:.3f} and {window[1]:.3f} eV"
    return InputError("window", found, "at least one", f"There are bands {' and '.join(ends)}, none between")


def _trimmed(table: list[list[Levels]]) -> list[list[Levels]]:
    """Equally many levels everywhere: `ill_threshold` of the dense solver may leave out others at each k, high up."""
    least = min(len(levels.energies) for row in table for levels in row)
    return [[levels if len(levels.energies) == least else cut(levels, (0, least), "") for levels in row] for row in table]


def _completed(
    pencils: Sequence[Pencil], points: Floats, asks: Sequence[Ask], table: list[list[Levels]], bands: tuple[int, int]
) -> list[list[Levels]]:
    """The same bands at all k: cut from the levels at hand, or computed where some are missing."""
    result = []
    for pencil, row in zip(pencils, table, strict=True):
        wanted = []
        for k, levels, ask in zip(points, row, asks, strict=True):
            first = levels.first_band or 0
            have = first <= bands[0] and bands[1] <= first + len(levels.energies)
            again = replace(ask, bands=bands, window=None)
            wanted.append(cut(levels, bands, "") if have else levels_at(pencil, k, again))
        result.append(wanted)
    return result


def _asks(ask: Ask, observers: Sequence[tuple[Observer, ...]], settings: Settings) -> list[Ask]:
    """What is asked at each k: the same, with proofs where they are wanted, and what looks at the states there."""
    proofs = {"never": 0, "first": 1, "every": len(observers)}[settings.verify]
    verified = ask.verified()
    return [replace(verified if k < proofs else ask, observers=some) for k, some in enumerate(observers)]


def _worst(levels: Levels) -> float:
    """Largest residual."""
    return float(np.max(levels.residuals)) if levels.residuals is not None else float("nan")


def _record(
    pencils: Sequence[Pencil], solver: str, table: list[list[Levels]], settings: Settings, seconds: float
) -> dict[str, str | int | float | bool]:
    """What to remember of a run."""
    flat = [levels for row in table for levels in row]
    used = sorted({levels.solver for levels in flat})
    return {
        "solver": ", ".join(used) or solver,
        "factor": ", ".join(sorted({levels.factor for levels in flat} - {""})),
        "accuracy": "values" if any(levels.accuracy == "values" for levels in flat) else "states",
        "size": pencils[0].size,
        "n_spin": len(pencils),
        "k_points": len(table[0]),
        "k_points_verified": sum(all(row[k].verified for row in table) for k in range(len(table[0]))),
        "largest_residual": max(_worst(levels) for levels in flat),
        "tolerance": settings.tolerance,
        "asymmetry": max(pencil.asymmetry for pencil in pencils),
        "seconds": seconds,
    }
