"""Many raw calculations into one shard: read by many workers, checked, and written in order.

Each worker holds one calculation, and the writer one more. A calculation that cannot be used goes by name and cause into the
quarantine table beside the shard, and the rest goes on. Reading is not this room's business: the function that reads is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orbitrace.errors import InputError
from orbitrace.graphs.reading import Entry as Entry
from orbitrace.graphs.reading import Read, named, outcomes
from orbitrace.graphs.records import Record
from orbitrace.graphs.shards import ShardWriter, shard_writer
from orbitrace.graphs.store import writing

Progress = Callable[[int, int, str], None]  # calculations done, calculations in all, id of the last one


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
    with shard_writer(out) as writer, closing(outcomes(entries, read, workers)) as results:
        for done, (entry, outcome) in enumerate(results, start=1):
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
        return named(entry, error)
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
