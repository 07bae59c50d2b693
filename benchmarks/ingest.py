"""Throughput of `orbitrace shard`: MB of raw file per second and core, plain and compressed, and where the time goes.

    OMP_NUM_THREADS=1 python benchmarks/ingest.py [--data FOLDER] [--workers N] [--repeat N]

By default it reads the embedded example. The steps are timed one by one in this process (processor time, so that what else
the machine does counts little); then `ingest` runs as a whole (wall time), with one and with several workers. MB is 10^6
bytes of the files that mark a calculation, decompressed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from orbitrace import plugins, readers
from orbitrace.graphs.ingest import Entry, ingest
from orbitrace.graphs.records import encode
from orbitrace.graphs.shards import open_shard, shard_writer
from orbitrace.manifest import scan
from orbitrace.readers import _files
from orbitrace.readers._checks import check
from orbitrace.readers._convert import to_house

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "bilayer_graphene" / "data"
STEPS = ("read", "convert", "check", "traces", "write", "reopen")

T = TypeVar("T")


@dataclass
class Clock:
    """Processor seconds of each step."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    def time(self, step: str, work: Callable[[], T]) -> T:
        """What `work` returns; its time is added to the step."""
        begin = time.process_time()
        result = work()
        self.seconds[step] += time.process_time() - begin
        return result


def found(folder: Path) -> list[Entry]:
    """The raw calculations below a folder."""
    return [Entry(c.id, folder / c.id, c.code) for c in scan(folder, readers.markers()).calculations.values()]


def marked(entry: Entry) -> list[Path]:
    """The files that mark a calculation."""
    return _files.matching(entry.path, readers.markers()[entry.code])


def raw_megabytes(entries: Sequence[Entry]) -> float:
    """Size of the marker files, decompressed."""
    return sum(len(_files.contents(path)) for entry in entries for path in marked(entry)) / 1e6


def decompressed(entries: Sequence[Entry], folder: Path) -> list[Entry]:
    """Copies of the calculations with nothing compressed."""
    copies = []
    for entry in entries:
        copy = folder / entry.id
        copy.mkdir(parents=True)
        for path in entry.path.iterdir():
            if path.is_file() and path.stat().st_size:
                plain = path.name.removesuffix(path.suffix) if path.suffix in _files.SUFFIXES[1:] else path.name
                (copy / plain).write_bytes(bytes(_files.contents(path)))
        copies.append(Entry(entry.id, copy, entry.code))
    return copies


def time_steps(entries: Sequence[Entry], out: Path) -> Clock:
    """The steps of one worker and of the writer, one by one."""
    clock = Clock()
    begin, before = time.process_time(), 0.0
    with shard_writer(out) as writer:
        for entry in entries:
            reader = plugins.load("readers", entry.code)
            raw = clock.time("read", lambda r=reader, e=entry: r.read(e.path))
            calculation = clock.time("convert", lambda r=reader, w=raw: to_house(w, r.ORDER))
            clock.time("check", lambda c=calculation, w=raw: check(c, w.counted_electrons))
            record = clock.time("traces", lambda e=entry, c=calculation: encode(e.id, c))
            writer.add(record)
        before = sum(clock.seconds.values())
    clock.seconds["write"] = time.process_time() - begin - before
    shard = clock.time("reopen", lambda: open_shard(out))
    clock.time("reopen", lambda: [shard.calculation(k) for k in range(len(shard))])
    return clock


def fastest(repeat: int, work: Callable[[], Clock]) -> Clock:
    """The repetition with the least time in all."""
    return min((work() for _ in range(repeat)), key=lambda clock: sum(clock.seconds.values()))


def steps_table(kinds: dict[str, Sequence[Entry]], megabytes: float, repeat: int, scratch: Path) -> Table:
    """Time per calculation of each step."""
    table = Table(title="One core, step by step: processor time per calculation, ms")
    for column in ("raw files", *STEPS[:-1], "sum", "MB/s/core", "reopen"):
        table.add_column(column, justify="right")
    for kind, entries in kinds.items():
        clock = fastest(repeat, lambda e=entries: time_steps(e, scratch / "steps.zarr"))
        total = sum(clock.seconds[step] for step in STEPS[:-1])
        times = [1e3 * t / len(entries) for t in (*(clock.seconds[s] for s in STEPS[:-1]), total)]
        reopen = 1e3 * clock.seconds["reopen"] / len(entries)
        table.add_row(kind, *(f"{t:.1f}" for t in times), f"{megabytes / total:.1f}", f"{reopen:.1f}")
    return table


def whole_table(kinds: dict[str, Sequence[Entry]], megabytes: float, args: argparse.Namespace, scratch: Path) -> Table:
    """Time of `ingest` as a whole."""
    table = Table(title="As a whole, `ingest`: wall time, with the start of the workers")
    for column in ("raw files", "workers", "s", "MB/s", "MB/s/worker"):
        table.add_column(column, justify="right")
    for kind, entries in kinds.items():
        for workers in sorted({1, args.workers}):
            seconds = []
            for _ in range(args.repeat):
                begin = time.perf_counter()
                ingest(entries, readers.read, scratch / "whole.zarr", workers=workers)
                seconds.append(time.perf_counter() - begin)
            rate = megabytes / min(seconds)
            table.add_row(kind, str(workers), f"{min(seconds):.2f}", f"{rate:.1f}", f"{rate / workers:.1f}")
    return table


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=EXAMPLE, help="folder with raw calculations at any depth")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="the fastest of so many runs counts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        entries = found(args.data)
        kinds = {"plain": decompressed(entries, scratch / "plain"), "as they are": entries}
        megabytes = raw_megabytes(entries)
        console = Console(file=sys.stdout, width=127)
        stored = sum(path.stat().st_size for entry in entries for path in marked(entry)) / 1e6
        console.print(f"{len(entries)} calculations, {megabytes:.1f} MB of raw files ({stored:.1f} MB as they are)")
        console.print(steps_table(kinds, megabytes, args.repeat, scratch))
        console.print(whole_table(kinds, megabytes, args, scratch))
        size = sum(path.stat().st_size for path in (scratch / "whole.zarr").rglob("*") if path.is_file()) / 1e6
        console.print(f"shard: {size:.1f} MB, {100 * size / megabytes:.0f} % of the raw files")


if __name__ == "__main__":
    main()
