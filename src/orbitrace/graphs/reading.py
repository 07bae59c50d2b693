"""Reading many calculations with many workers, in order, and whatever happens to one of them.

Workers import this file and what they read with, but not the storage of shards.
"""

from __future__ import annotations

import logging
import multiprocessing
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from orbitrace.errors import InputError
from orbitrace.graphs.records import Record, encode
from orbitrace.physics.calculation import Calculation

Read = Callable[[Path, str], Calculation]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A raw calculation to be read: its id, its folder, and the name of its reader."""

    id: str
    path: Path
    code: str


Outcomes = Generator[tuple[Entry, Record | InputError], None, None]
_Flying = deque[tuple[Entry, Future[Record | InputError]]]


def outcomes(entries: Sequence[Entry], read: Read, workers: int) -> Outcomes:
    """Each entry, in order, with its record or what is wrong with it."""
    workers = min(workers, len(entries))
    if workers > 1:
        yield from _from_workers(entries, read, workers)
        return
    for entry in entries:
        yield entry, _attempt(entry, read)


def _attempt(entry: Entry, read: Read) -> Record | InputError:
    """Read and encode one calculation; whatever is wrong with it comes back as a sentence."""
    try:
        return encode(entry.id, read(entry.path, entry.code))
    except InputError as error:
        return named(entry, error)
    except Exception as error:
        _log.debug("reading calculation %s failed", entry.id, exc_info=True)
        at = traceback.extract_tb(error.__traceback__)[-1]
        return InputError(
            f"calculation {entry.id} ({entry.path})",
            f"reading it failed with {type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})",
            "",
            "Check that its files are whole; if they are, this is a defect of the reader: please report it",
        )


def named(entry: Entry, error: InputError) -> InputError:
    """The same error, with the calculation's id in front of the place."""
    if error.where.startswith(f"calculation {entry.id}"):
        return error
    return InputError(f"calculation {entry.id} ({error.where})", error.found, error.expected, error.remedy)


def _from_workers(entries: Sequence[Entry], read: Read, workers: int) -> Outcomes:
    """As `outcomes`, with several processes; if one is killed, each that was under way gets one of its own."""
    waiting, flying = deque(entries), _Flying()
    while waiting or flying:
        pool = _pool(workers)
        try:
            yield from _flow(pool, waiting, flying, workers, read)
        except BrokenProcessPool:
            while flying:
                entry, future = flying.popleft()
                finished = future.done() and not future.exception()
                yield entry, future.result() if finished else _alone(entry, read)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _flow(pool: ProcessPoolExecutor, waiting: deque[Entry], flying: _Flying, workers: int, read: Read) -> Outcomes:
    """Results in order; those in `flying` are one per worker, and the one that is given out."""

    def launch(most: int) -> None:
        while waiting and len(flying) < most:
            flying.append((waiting[0], pool.submit(_attempt, waiting[0], read)))
            waiting.popleft()

    while waiting or flying:
        launch(workers)
        outcome = flying[0][1].result()
        launch(workers + 1)  # the workers go on while the caller writes
        entry, _ = flying.popleft()
        yield entry, outcome
        del outcome


def _alone(entry: Entry, read: Read) -> Record | InputError:
    """As `_attempt`, in a process of its own, which may be killed."""
    with _pool(1) as pool:
        try:
            return pool.submit(_attempt, entry, read).result()
        except BrokenProcessPool:
            return InputError(
                f"calculation {entry.id} ({entry.path})",
                "the process that read it was killed",
                "",
                "If it ran out of memory, use fewer workers or ask for more memory",
            )


def _pool(workers: int) -> ProcessPoolExecutor:
    # Fresh processes: a fork of one with threads (zarr has some) may hang.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
