"""Levels at many k: what is asked for at each of them, and the work spread over processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np

from orbitrace import plugins
from orbitrace.bands import eigensolvers
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import TOLERANCE, Levels
from orbitrace.bands.observing import Observer, observed
from orbitrace.errors import InputError
from orbitrace.physics.structure import Floats

Progress = Callable[[int, int], None]  # k points done, k points in all
A = TypeVar("A")
R = TypeVar("R")

DENSE_BELOW = 1000  # orbitals up to which LAPACK is the faster choice
USUAL_BANDS = 40  # levels near the Fermi level that a sparse solver looks for unless told otherwise
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Ask:
    """What is wanted at a k point.

    Parameters
    ----------
    solver, options, tolerance
        Name of an eigensolver, its options, and the residual that is accepted.
    bands
        First and one past the last absolute band number; None for the levels nearest to `sigma`, or all.
    n_bands
        How many levels near `sigma` to begin with; None for all.
    sigma
        Energy that a sparse solver looks around, eV.
    window
        Energies, eV, between which no level may be left out.
    states
        Whether states are computed, and residuals with them.
    observers
        What is derived from the states at each k.
    keep_states
        Whether the states are returned.
    """

    solver: str
    bands: tuple[int, int] | None = None
    n_bands: int | None = None
    sigma: float | None = None
    window: tuple[float, float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    states: bool = True
    observers: tuple[Observer, ...] = ()
    keep_states: bool = False

    def verified(self) -> Ask:
        """The same with a proof that no level is missing, if the solver offers one."""
        known = {f.name for f in fields(plugins.load(eigensolvers.ROOM, self.solver).Settings)}
        return replace(self, options={**self.options, "verify": True}) if "verify" in known else self


def choose_solver(name: str, size: int) -> str:
    """The solver itself, or for ``auto`` the faster one for matrices of this size."""
    if name != "auto":
        return name
    return "dense" if size <= DENSE_BELOW else "shift_invert"


def point(k: Floats) -> str:
    """A k point in messages."""
    return f"k = ({', '.join(f'{x:.4f}' for x in k)})"


def levels_at(pencil: Pencil, k: Floats, ask: Ask) -> Levels:
    """Levels at one k, with what `ask.observers` see in their states, and without these unless they are to be kept.

    Raises
    ------
    InputError
        What the eigensolvers' door raises; it names k.
    """
    if ask.observers and ask.options.get("accuracy") == "values":
        raise InputError(
            "accuracy: values", "weights or velocities, which need states", "accuracy: states", "Or leave them out"
        )
    H, S = pencil.at(k)
    where = point(k)
    n = ask.n_bands
    if n is None and ask.bands is not None and ask.sigma is not None:
        n = ask.bands[1] - ask.bands[0] + 4  # levels move against sigma from k to k
    while True:
        n = None if n is None else min(n, pencil.size)
        levels = eigensolvers.solve(
            ask.solver, H, S, n, ask.sigma, ask.options, states=ask.states, where=where, tolerance=ask.tolerance
        )
        more = _missing(levels, ask, pencil.size)
        if n is None or n == pencil.size or more == 0:
            seen = observed(ask.observers, pencil, k, S, levels.energies, levels.states)
            states = levels.states if ask.keep_states else None
            return cut(replace(levels, states=states, observed=seen), ask.bands, where)
        n += 2 * more + 4


def _missing(levels: Levels, ask: Ask, size: int) -> int:
    """How many levels lack, on the side where most do, of what was asked for; a guess for a window."""
    if ask.window is not None:
        n, first = len(levels.energies), levels.first_band
        below = levels.energies[0] > ask.window[0] and first != 0
        above = levels.energies[-1] < ask.window[1] and (first is None or first + n < size)
        if below or above:
            return n // 2
    if ask.bands is None or levels.first_band is None:
        return 0
    first, last = ask.bands
    return max(levels.first_band - first, last - levels.first_band - len(levels.energies), 0)


def cut(levels: Levels, bands: tuple[int, int] | None, where: str) -> Levels:
    """Only these bands of some levels."""
    if bands is None:
        return levels
    if levels.first_band is None:
        raise InputError(where, "the solver does not know the numbers of its bands", "a count", "Use the solver 'dense'")
    wanted = slice(bands[0] - levels.first_band, bands[1] - levels.first_band)
    residuals = None if levels.residuals is None else levels.residuals[wanted]
    seen = {name: values[wanted] for name, values in levels.observed.items()}
    states = None if levels.states is None else levels.states[:, wanted]
    cut_to = replace(levels, energies=levels.energies[wanted], states=states, residuals=residuals)
    return replace(cut_to, first_band=bands[0], observed=seen)


def scatter(
    pencils: Sequence[Pencil],
    kpoints: Floats,
    asks: Sequence[Ask],
    n_workers: int = 1,
    progress: Progress | None = None,
) -> list[list[Levels]]:
    """Levels of each pencil at each k: [n_pencils][n_k]; `asks` says what is wanted at each k. See `spread`."""
    return spread(levels_at, pencils, kpoints, asks, n_workers, progress)


def spread(
    work: Callable[[Pencil, Floats, A], R],
    pencils: Sequence[Pencil],
    kpoints: Floats,
    asks: Sequence[A],
    n_workers: int = 1,
    progress: Progress | None = None,
) -> list[list[R]]:
    """What `work` (a function of a module) makes of each pencil at each k: [n_pencils][n_k].

    Parameters
    ----------
    kpoints, asks
        [n_k, 3], and what is wanted at each.
    n_workers
        Processes, with one thread each; every one holds a copy of the pencils.
    progress
        Called with (done, all) after each k.
    """
    tasks = list(zip(kpoints, asks, strict=True))
    if n_workers <= 1 or len(tasks) == 1:
        return _gathered(map(partial(_at_all, work, pencils), tasks), len(tasks), progress)
    with _one_thread_each():
        pool = ProcessPoolExecutor(min(n_workers, len(tasks)), get_context("spawn"), _start, (pencils,))
        with pool:
            return _gathered(pool.map(partial(_in_worker, work), tasks), len(tasks), progress)


def _gathered(results: Iterator[list[R]], n: int, progress: Progress | None) -> list[list[R]]:
    """Results in the order of pencils and k, while telling how far it is."""
    rows = []
    for done, row in enumerate(results, start=1):
        rows.append(row)
        if progress is not None:
            progress(done, n)
    return [list(column) for column in zip(*rows, strict=True)]


def _at_all(work: Callable[[Pencil, Floats, A], R], pencils: Sequence[Pencil], task: tuple[Floats, A]) -> list[R]:
    """The work for all pencils at one k."""
    return [work(pencil, *task) for pencil in pencils]


_PENCILS: list[Pencil] = []  # of a worker process


def _start(pencils: Sequence[Pencil]) -> None:
    """Give a worker process its pencils, once."""
    _PENCILS[:] = pencils


def _in_worker(work: Callable[[Pencil, Floats, A], R], task: tuple[Floats, A]) -> list[R]:
    """The work at one k, in a worker process."""
    return _at_all(work, _PENCILS, task)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started within have one thread: their libraries read these variables when they are loaded."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def energies_of(table: list[list[Levels]]) -> Floats:
    """[n_pencils, n_k, n_bands] energies, if all have equally many."""
    return np.array([[levels.energies for levels in row] for row in table])


def observed_of(table: list[list[Levels]], name: str) -> Floats:
    """[n_pencils, n_k, n_bands, ...] what the observer called `name` saw, if there are equally many levels everywhere."""
    return np.array([[levels.observed[name] for levels in row] for row in table], dtype=np.float64)
