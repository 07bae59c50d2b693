"""Many raw calculations into one shard: read by many workers, checked, and written in order.

Each worker holds one calculation, and the writer one more. A calculation that cannot be used goes by name and cause into the
quarantine table beside the shard, and the rest goes on. Reading is not this room's business: the function that reads is given.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orbitrace.errors import InputError
from orbitrace.graphs.records import Record, encode
from orbitrace.graphs.shards import ShardWriter, shard_writer
from orbitrace.graphs.store import writing
from orbitrace.physics.calculation import Calculation

Read = Callable[[Path, str], Calculation]
Progress = Callable[[int, int, str], None]  # calculations done, calculations in all, id of the last one

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A raw calculation to be read: its id, its folder, and the name of its reader."""

    id: str
    path: Path
    code: str


_Outcomes = Generator[tuple[Entry, Record | InputError], None, None]
_Flying = deque[tuple[Entry, Future[Record | InputError]]]


@dataclass(frozen=True)
class Quarantined:
    """A calculation that was left out, and why."""

    id: str
    path: Path
    cause: str


@dataclass(frozen=True)
class IngestReport:
    """What became of the entries: the shard, the ids in it (in its order), those left out, and the table that lists them."""

    shard: Path
    ids: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    table: Path


def ingest(
    entries: Sequence[Entry],
    read: Read,
    out: Path,
    *,
    on_bad: Literal["stop", "quarantine"] = "quarantine",
    workers: int = 1,
    progress: Progress | None = None,
    table: Path | None = None,
    allow_empty: bool = False,
) -> IngestReport:
    """Read calculations and write them into one shard, in the order of `entries` whatever the number of workers.

    Parameters
    ----------
    entries
        What to read.
    read
        ``read(folder, code)`` makes a calculation or raises InputError; importable by name if there are several workers.
    out
        The shard; an old one is replaced when the new one is complete.
    on_bad
        ``quarantine`` leaves a bad calculation out; ``stop`` ends with its error.
    workers
        Processes that read; 1 reads in this process.
    progress
        Called after each calculation.
    table
        The quarantine table (tab-separated: id, path, cause); by default beside the shard. Written also if nothing is in it.
    allow_empty
        Write an empty shard, rather than raise, if every calculation is bad.

    Raises
    ------
    InputError
        If all calculations are bad, or one is and `on_bad` is ``stop``, or the disk is full. Then there is no new shard.
    """
    _check(entries, on_bad, workers, out)
    table = table or quarantine_table(out)
    bad: list[Quarantined] = []
    with shard_writer(out) as writer, closing(_outcomes(entries, read, workers)) as outcomes:
        for done, (entry, outcome) in enumerate(outcomes, start=1):
            failure = _added(writer, entry, outcome)
            if failure and on_bad == "stop":
                raise failure
            if failure:
                bad.append(Quarantined(entry.id, entry.path, str(failure)))
            if progress:
                progress(done, len(entries), entry.id)
            del outcome  # or it would stay in memory while the next one is read
        ids = tuple(writer.provenances)
        _write_table(table, bad)
        if not ids and not allow_empty:
            raise InputError(out, f"all {len(bad)} calculations are bad; the first: {bad[0].cause}", "", f"All are in {table}")
    return IngestReport(out, ids, tuple(bad), table)


def quarantine_table(shard: Path) -> Path:
    """Where the quarantine table of a shard lies: ``0000.quarantine.tsv`` beside ``0000.zarr``."""
    return shard.with_name(shard.name.removesuffix(".zarr") + ".quarantine.tsv")


def _check(entries: Sequence[Entry], on_bad: str, workers: int, out: Path) -> None:
    if not entries:
        raise InputError(out, "there is no calculation to put into this shard", "one at least", "Run `orbitrace scan` first")
    if on_bad not in ("stop", "quarantine"):
        raise InputError("on_bad", f"{on_bad!r}", "stop or quarantine")
    if workers < 1:
        raise InputError("workers", f"{workers} workers", "1 at least")


def _added(writer: ShardWriter, entry: Entry, outcome: Record | InputError) -> InputError | None:
    """Add a calculation to the shard; why it cannot be, if so. What the disk refuses is raised."""
    if isinstance(outcome, InputError):
        return outcome
    try:
        writer.admit(outcome)
    except InputError as error:
        return _named(entry, error)
    writer.add(outcome)
    return None


def _write_table(table: Path, bad: Sequence[Quarantined]) -> None:
    rows = [("id", "path", "cause"), *((q.id, str(q.path), q.cause) for q in bad)]
    # Whatever white space there is in a name or cause, a row stays one line.
    lines = ("\t".join(" ".join(cell.split()) for cell in row) for row in rows)
    temporary = table.with_name(f".{table.name}.{os.getpid()}")
    with writing(table):
        table.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
            temporary.replace(table)
        finally:
            temporary.unlink(missing_ok=True)


# --- reading ---------------------------------------------------------------------------------------------------------------


def _outcomes(entries: Sequence[Entry], read: Read, workers: int) -> _Outcomes:
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
        return _named(entry, error)
    except Exception as error:
        _log.debug("reading calculation %s failed", entry.id, exc_info=True)
        at = traceback.extract_tb(error.__traceback__)[-1]
        return InputError(
            f"calculation {entry.id} ({entry.path})",
            f"reading it failed with {type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})",
            "",
            "Check that its files are whole; if they are, this is a defect of the reader: please report it",
        )


def _named(entry: Entry, error: InputError) -> InputError:
    """The same error, with the calculation's id in front of the place."""
    if error.where.startswith(f"calculation {entry.id}"):
        return error
    return InputError(f"calculation {entry.id} ({error.where})", error.found, error.expected, error.remedy)


def _from_workers(entries: Sequence[Entry], read: Read, workers: int) -> _Outcomes:
    """As `_outcomes`, with several processes; if one is killed, each that was under way gets one of its own."""
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


def _flow(pool: ProcessPoolExecutor, waiting: deque[Entry], flying: _Flying, workers: int, read: Read) -> _Outcomes:
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
