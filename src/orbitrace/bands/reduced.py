"""Levels at many k from a reduced basis: exact states at a few of them, dense problems of some hundred rows at all others.

1. Exact levels at k points far from each other. Each new one, before it joins the basis, tests what the basis gives there; the
   basis is taken when two tests in a row pass.
2. Levels at all k within it. Spurious ones have large residuals and are dropped; where one of the wanted energies can be
   called neither true nor spurious, where the number of bands cannot be followed from the counts at exact k, or where
   residuals exceed those at tests that passed, an exact k is added.
3. Verification: exact levels, with inertia counts, at random k. Where energies differ by more than the tolerance, these k join
   the basis too, and other random ones are tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import Levels
from orbitrace.bands.kpath import completed_lattice
from orbitrace.bands.levels import Ask, Progress, cut, scatter
from orbitrace.bands.spurious import Filter, compared
from orbitrace.bands.subspace import Interpolant, ReducedBasis, ReducedMatrices, RitzLevels
from orbitrace.bands.tracking import shift_along
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats, Ints

FIRST = 3  # exact k before the first test
PASSED = 2  # tests in a row that must pass
AT_ONCE = 3  # suspicious k that are made exact at a time
MARGIN = 0.25  # by which Ritz levels are sought outside the energies of the exact ones, over the width of these


@dataclass(frozen=True)
class ReducedSettings:
    """How levels are computed in a reduced basis.

    Parameters
    ----------
    tolerance
        Largest error of energies at tests and checks, eV.
    checks
        Random k at which energies are verified.
    padding
        Bands below and above the wanted ones whose states join the basis.
    max_nodes
        Most exact k.
    seed
        Of the random k.
    """

    tolerance: float = 1e-5
    checks: int = 3
    padding: int = 8
    max_nodes: int = 60
    seed: int = 0


@dataclass
class _Report:
    """What tests and checks showed."""

    size: int = 0
    nodes: int = 0
    residual: float = 0.0
    error: float = 0.0
    checked: int = 0
    history: list[float] = field(default_factory=list)


def reduced_levels(
    pencil: Pencil,
    kpoints: Floats,
    ask: Ask,
    settings: ReducedSettings = ReducedSettings(),
    n_workers: int = 1,
    progress: Progress | None = None,
) -> tuple[list[Levels], Mapping[str, int | float]]:
    """Levels at many k, and the record of their verification.

    Parameters
    ----------
    kpoints
        [n_k, 3] fractional, on a path or a mesh.
    ask
        What is wanted at each: `bands` and `sigma` must be given.
    n_workers
        Processes over which the first exact k, and the checks, are spread.

    Raises
    ------
    InputError
        If more than `max_nodes` exact k points do not suffice, or an exact solver fails.
    """
    if ask.bands is None or ask.sigma is None:
        raise InputError("reduced basis", "no numbers of bands", "n_bands, around a Fermi level", "Give bands.n_bands")
    run = ReducedRun(pencil, kpoints, ask, settings, n_workers, progress)
    run.build()
    run.solve_all()
    run.verify()
    return run.levels(), run.record()


class ReducedRun:
    """The work of `reduced_levels`, step by step."""

    def __init__(
        self,
        pencil: Pencil,
        kpoints: Floats,
        ask: Ask,
        settings: ReducedSettings = ReducedSettings(),
        n_workers: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self.pencil, self.kpoints, self.settings = pencil, kpoints, settings
        self.n_workers, self.progress = n_workers, progress
        self.bands, self.sigma = ask.bands or (0, 0), ask.sigma or 0.0
        first, last = self.bands
        padded = (max(first - settings.padding, 0), min(last + settings.padding, pencil.size))
        self.ask = replace(ask, bands=padded, keep_states=True)
        self.exact: dict[int, Levels] = {}  # by the number of the k point
        self.basis = ReducedBasis(pencil, self.sigma)
        self.waiting: list[tuple[int, Values]] = []  # states that are not yet in the basis
        self.ritz: dict[int, RitzLevels] = {}
        self.first: dict[int, int] = {}  # number of the lowest accepted level at each k
        self.report = _Report()
        self.filter = Filter()

    # -- 1: the basis --------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Take exact k, far from each other, until the basis passes tests."""
        order = _far_apart(self.pencil, self.kpoints)
        self.compute(order[:FIRST].tolist())
        self.grow()
        passed = 0
        for number in order[FIRST:].tolist():
            passed = passed + 1 if self.test(number) else 0
            self.grow()
            if passed == PASSED:
                return

    def test(self, number: int) -> bool:
        """Compare what the basis gives with exact levels."""
        ritz = self.reduced(self.basis.project(self.kpoints[number]))
        self.compute([number])
        error, now = compared(ritz, self.wanted(number).energies)
        passed = error <= self.settings.tolerance and now.clear
        self.filter = self.filter.joined(now) if passed else Filter()
        return passed

    def compute(self, numbers: Sequence[int], check: bool = False) -> None:
        """Exact levels at some k, whose states wait for a place in the basis."""
        numbers = [number for number in numbers if number not in self.exact]
        if len(self.exact) + len(numbers) > self.settings.max_nodes:
            raise InputError(
                "reduced basis",
                f"more than {self.settings.max_nodes} exact k points are needed for {self.settings.tolerance:.0e} eV",
                "states that change slowly with k",
                "The cell is small, or k points are few: compute all of them exactly (reduced: false)",
            )
        if not numbers:
            return
        middles = [float(levels.energies[[0, -1]].mean()) for levels in self.exact.values()]
        ask = replace(self.ask, sigma=float(np.mean(middles or [self.sigma])))
        ask = ask.verified() if check else ask
        (found,) = scatter([self.pencil], self.kpoints[numbers], [ask] * len(numbers), self.n_workers)
        for number, levels in zip(numbers, found, strict=True):
            if levels.states is not None:
                self.waiting.append((number, levels.states))
            self.exact[number] = replace(levels, states=None)
            if self.progress is not None:
                self.progress(len(self.exact), len(self.kpoints))

    def grow(self) -> None:
        """Take the states that wait into the basis."""
        for number, states in self.waiting:
            self.basis.add(self.kpoints[number], states)
        self.waiting = []

    def wanted(self, number: int) -> Levels:
        """The exact levels of the wanted bands."""
        return cut(self.exact[number], self.bands, f"k point {number}")

    def reduced(self, matrices: ReducedMatrices) -> RitzLevels:
        """All levels near the wanted ones within the basis."""
        energies = [levels.energies for levels in self.exact.values()]
        low, high = min(float(e[0]) for e in energies), max(float(e[-1]) for e in energies)
        margin = MARGIN * (high - low)
        return matrices.ritz(self.sigma, low - margin, high + margin)

    # -- 2: all k ------------------------------------------------------------------------------------------------------

    def solve_all(self) -> None:
        """Levels at all k, with exact ones added until none is suspicious."""
        everything: list[RitzLevels] = []
        while True:
            if self.waiting or not everything:
                self.grow()
                self.interpolant = Interpolant(self.basis, self.kpoints)
                everything = [self.reduced(self.interpolant.at(n, k)) for n, k in enumerate(self.kpoints)]
            self.ritz = {n: self.filter.true(levels) for n, levels in enumerate(everything)}
            self.follow()
            suspicious = [n for n, levels in enumerate(everything) if n not in self.exact and self.suspects(n, levels)]
            if not suspicious:
                return
            passed = [self.test(number) for number in self.spread(suspicious)]
            if all(passed):
                self.waiting = []  # the basis is good enough: only the filter has learnt

    def follow(self) -> None:
        """Carry the numbers of bands from the exact k to all others, each time to the nearest one."""
        places = _cartesian(self.pencil, self.kpoints)
        self.first = {n: start for n in self.exact if (start := self.anchor(n)) is not None}
        known = np.zeros(len(places), dtype=bool)
        known[list(self.exact)] = True
        distance = np.linalg.norm(places[:, None] - places[None, known], axis=2)
        source = np.flatnonzero(known)[distance.argmin(axis=1)]
        distance = distance.min(axis=1)
        while not known.all():
            number = int(np.where(known, np.inf, distance).argmin())
            self.carry(int(source[number]), number)
            known[number] = True
            new = np.linalg.norm(places - places[number], axis=1)
            source = np.where(new < distance, number, source)
            distance = np.minimum(distance, new)

    def anchor(self, number: int) -> int | None:
        """Number of the lowest accepted level at an exact k."""
        levels, ritz = self.exact[number], self.ritz[number]
        if levels.first_band is None or not len(ritz.energies):
            return None
        middle = len(levels.energies) // 2
        return levels.first_band + middle - int(np.abs(ritz.energies - levels.energies[middle]).argmin())

    def carry(self, source: int, number: int) -> None:
        """The number of the lowest accepted level at a k point from that at another one."""
        shift = self.shift(source, number) if source in self.first else None
        if shift is not None:
            self.first[number] = self.first[source] + shift

    def shift(self, one: int, other: int) -> int | None:
        """Difference of the numbers of the lowest accepted levels."""

        def solve(k: Floats) -> RitzLevels:
            return self.filter.true(self.reduced(self.interpolant.between(one, other, k)))

        return shift_along(solve, self.kpoints[one], self.ritz[one], self.kpoints[other], self.ritz[other])

    def suspects(self, number: int, everything: RitzLevels) -> bool:
        """Whether the levels at a k point cannot be trusted."""
        bands = self.numbered(number)
        if bands is None or self.filter.doubtful(bands, self.bands[1] - self.bands[0], everything):
            return True
        return number > 0 and not self.agrees(number - 1, number)

    def agrees(self, one: int, other: int) -> bool:
        """Whether numbers that two neighbours in the list have from different counts are those that continuity gives."""
        if one not in self.first or other not in self.first or not self.interpolant.together(one, other):
            return True
        return self.shift(one, other) in (None, self.first[other] - self.first[one])

    def numbered(self, number: int) -> RitzLevels | None:
        """The reduced levels of the wanted bands; None if some are missing."""
        if number not in self.first:
            return None
        start = self.bands[0] - self.first[number]
        stop = start + self.bands[1] - self.bands[0]
        if start < 0 or stop > len(self.ritz[number].energies):
            return None
        return self.ritz[number].only(np.arange(start, stop))

    def spread(self, numbers: list[int]) -> list[int]:
        """Some of these k: far from all that are exact, and from each other."""
        places = _cartesian(self.pencil, self.kpoints)
        chosen: list[int] = []
        while numbers and len(chosen) < AT_ONCE:
            taken = places[[*self.exact, *chosen]]
            gaps = [float(np.linalg.norm(taken - places[n], axis=1).min()) for n in numbers]
            chosen.append(numbers.pop(int(np.argmax(gaps))))
        return chosen

    # -- 3: verification -----------------------------------------------------------------------------------------------

    def verify(self) -> None:
        """Compare with exact levels and their counts at random k, which join the basis where they differ."""
        rng = np.random.default_rng(self.settings.seed)
        while True:
            rest = np.setdiff1d(np.arange(len(self.kpoints)), list(self.exact))
            numbers = rng.permutation(rest)[: self.settings.checks].tolist()
            reduced = {n: self.numbered(n) for n in numbers}
            self.compute(numbers, check=True)
            errors = [_error(reduced[n], self.wanted(n).energies) for n in numbers]
            self.report.checked += len(numbers)
            worst = max(errors, default=0.0)
            self.report.history.append(worst)
            if worst <= self.settings.tolerance:
                self.report.error, self.waiting = worst, []
                return
            self.solve_all()

    def levels(self) -> list[Levels]:
        """Levels of the wanted bands at all k."""
        result = []
        for number in range(len(self.kpoints)):
            if number in self.exact:
                result.append(self.wanted(number))
                continue
            found = self.numbered(number)
            if found is None:
                raise InputError(f"k point {number}", "bands are missing", "all that are wanted", "Set reduced: false")
            self.report.residual = max(self.report.residual, float(found.residuals.max()))
            result.append(
                Levels(
                    found.energies,
                    residuals=found.residuals / found.scale,
                    first_band=self.bands[0],
                    solver="reduced basis",
                    accuracy="values",
                )
            )
        return result

    def record(self) -> dict[str, int | float]:
        """What to remember of the verification."""
        report = self.report
        return {
            "reduced_basis": self.basis.size,
            "reduced_exact_k_points": len(self.exact),
            "reduced_checks": report.checked,
            "reduced_failed_checks": len(report.history) - 1,
            "reduced_check_error": report.error,
            "reduced_tolerance": self.settings.tolerance,
            "reduced_largest_residual": report.residual,
        }


def verification(record: Mapping[str, str | int | float | bool]) -> str:
    """One line on how the levels of a reduced basis were verified; empty if the record is not of one."""
    if "reduced_checks" not in record:
        return ""
    told, error, residual = record, record["reduced_check_error"], record["reduced_largest_residual"]
    return (
        f"Reduced basis of {told['reduced_basis']} states from {told['reduced_exact_k_points']} of {told['k_points']} k;"
        f" checked at {told['reduced_checks']} random k, {told['reduced_failed_checks']} rounds of which failed; the last one"
        f" showed errors up to {error:.1e} eV; largest residual {residual:.1e} eV"
    )


def _cartesian(pencil: Pencil, kpoints: Floats) -> Floats:
    """K points in 1/Å."""
    places: Floats = kpoints @ np.linalg.inv(completed_lattice(pencil.structure)).T
    return places


def _far_apart(pencil: Pencil, kpoints: Floats) -> Ints:
    """All k points, each as far as can be from those before it; equal ones last."""
    places = _cartesian(pencil, kpoints)
    order = [0]
    distance = np.linalg.norm(places - places[0], axis=1)
    while len(order) < len(places) and distance.max() > 1e-9:
        order.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(places - places[order[-1]], axis=1))
    return np.array(order)


def _error(levels: RitzLevels | None, energies: Floats) -> float:
    """Largest difference from exact levels of the same numbers."""
    return float("inf") if levels is None else float(np.abs(levels.energies - energies).max())
