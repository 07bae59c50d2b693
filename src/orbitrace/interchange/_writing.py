"""Writing so that nothing half-written is ever seen: beside the target first, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from orbitrace.errors import InputError


def filled(target: Path, fill: Callable[[Path], None]) -> Path:
    """A new folder beside `target`, filled by `fill`.

    Raises
    ------
    InputError
        If it cannot be written; nothing is left of it then.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fill(partial)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(target, f"cannot be written ({error})", remedy="Check free space and permissions") from error
        raise
    return partial


def move_in(partial: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Put a finished folder in its place.

    Where a folder with files stands already, only those of `names` are replaced or removed, and others stay. The last of
    `names` is removed first and comes last, so that whoever demands it never sees old and new files together.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        partial.replace(folder)
        return
    for name in reversed(names):
        (folder / name).unlink(missing_ok=True)
    for name in names:
        if (partial / name).exists():
            (partial / name).replace(folder / name)
    partial.rmdir()
