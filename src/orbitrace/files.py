"""Files that are there whole or not at all. Light: the standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary sibling to write to, which takes the place of `file` at the end, or vanishes if anything fails.

    It keeps the suffix, from which many writers take the format. Folders on the way to `file` are made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.stem}.{os.getpid()}.part{file.suffix}")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
