"""How far a prediction is: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 30.0  # s between two lines
Advance = Callable[[int], None]  # tells how many tiles are done


@contextmanager
def shown(total: int, before: int, wanted: bool) -> Iterator[Advance]:
    """Show a number of tiles, of which some were done before, if that is wanted."""
    if not wanted:
        yield lambda _: None
        return
    console = Console(stderr=True)
    if sys.stderr.isatty():
        columns = [
            TextColumn("predict"), BarColumn(), MofNCompleteColumn(), TextColumn("tiles"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        ]  # fmt: skip
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("predict", total=total, completed=before)
            yield lambda done: progress.update(task, completed=done)
        return
    yield _Lines(console, total, before).tell


class _Lines:
    def __init__(self, console: Console, total: int, before: int) -> None:
        self.console, self.total, self.before = console, total, before
        self.began = self.told = time.monotonic()

    def tell(self, done: int) -> None:
        now = time.monotonic()
        if now - self.told < EVERY and done < self.total:
            return
        self.told = now
        left = (self.total - done) * (now - self.began) / max(done - self.before, 1) / 60
        self.console.print(f"tile {done}/{self.total}  {left:.1f} min left", soft_wrap=True)
