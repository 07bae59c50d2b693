"""Writing zarr arrays piece by piece, and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from orbitrace.errors import InputError

# Bytes of an uncompressed chunk (compression buys 2-8 % on DFT matrices). Reading a matrix of 1 MB out of it takes 2 ms.
CHUNK_BYTES = 4 * 2**20

# A temporary folder of another machine counts as abandoned when nothing was written to it for this long.
ABANDONED_AFTER = 3600.0  # s


class ColumnWriter:
    """One array that grows row by row; only the rows that do not yet fill a chunk are in memory.

    Parameters
    ----------
    group
        Where the array is made, at the first full chunk; a short array becomes one chunk of its own length.
    name, dtype, row
        Its name, and type and shape of a row.
    about
        What it holds; kept as an attribute.
    """

    def __init__(self, group: zarr.Group, name: str, dtype: str, row: tuple[int, ...], about: str) -> None:
        self._group, self._name, self._dtype, self._row, self._about = group, name, np.dtype(dtype), row, about
        self._chunk = max(1, CHUNK_BYTES // (self._dtype.itemsize * int(np.prod(row))))  # rows
        self._pending: list[NDArray[Any]] = []
        self._waiting = 0  # rows in `_pending`
        self._sha256 = hashlib.sha256()
        self._array: zarr.Array[Any] | None = None

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows [n, *row] of the array's type."""
        rows = np.ascontiguousarray(rows, dtype=self._dtype).reshape(-1, *self._row)
        self._sha256.update(rows.data if rows.size else b"")
        self._pending.append(rows)
        self._waiting += len(rows)
        if self._waiting >= self._chunk:
            self._flush(self._waiting // self._chunk * self._chunk, self._chunk)

    def close(self) -> str:
        """Write what is left; the sha256 of all rows."""
        if self._waiting or self._array is None:
            self._flush(self._waiting, max(1, self._waiting))
        return self._sha256.hexdigest()

    def _flush(self, n_rows: int, chunk: int) -> None:
        data = np.concatenate(self._pending) if self._pending else np.zeros((0, *self._row), self._dtype)
        # A copy, so that the rest does not keep the whole alive.
        self._pending, self._waiting = [data[n_rows:].copy()], len(data) - n_rows
        # Chunks of zeros are written too: a chunk that is missing then is one that was lost.
        with zarr.config.set({"array.write_empty_chunks": True}):
            if self._array is None:
                self._array = self._create(chunk)
            start = self._array.shape[0]
            self._array.resize((start + n_rows, *self._row))
            # Chunk by chunk: of several at once, those under way would go on after one failed, into a folder being removed.
            for first in range(0, n_rows, chunk):
                last = min(first + chunk, n_rows)
                self._array[start + first : start + last] = data[first:last]

    def _create(self, chunk: int) -> zarr.Array[Any]:
        return self._group.create_array(
            self._name,
            shape=(0, *self._row),
            chunks=(chunk, *self._row),
            dtype=self._dtype,
            compressors=None,
            filters=None,
            fill_value=0,
            attributes={"about": self._about},
        )


def n_chunks(array: zarr.Array[Any]) -> int:
    """Chunks that an array of this shape has; it is cut along its first axis only."""
    return -(-array.shape[0] // array.chunks[0])


def column_sha256(array: zarr.Array[Any]) -> str:
    """The sha256 of all rows, read chunk by chunk."""
    digest = hashlib.sha256()
    for k in range(n_chunks(array)):
        digest.update(np.ascontiguousarray(array[k * array.chunks[0] : (k + 1) * array.chunks[0]]).data)
    return digest.hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk says against writing `path` into one sentence.

    Raises
    ------
    InputError
        If the disk is full, or `path` cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                path,
                f"the disk that holds it is full ({error.strerror})",
                "",
                "Free some space there or put the results on another disk, and run again; nothing was left half-written",
            ) from error
        raise InputError(path, f"it cannot be written ({error.strerror or error})", "", "Check its folder") from error


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """An empty temporary sibling of `target`, which takes its place when the body ends, and is removed if it raises.

    Siblings that dead processes left behind are removed first.

    Raises
    ------
    InputError
        If the disk is full or cannot be written.
    """
    temporary, aside = (target.with_name(f".{target.name}.{_owner()}.{role}") for role in ("partial", "old"))
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        temporary.mkdir()
    try:
        yield temporary
        with writing(target):
            if target.exists():
                target.rename(aside)
            temporary.rename(target)
            _remove(aside)
    finally:
        _remove(temporary)


def _remove(folder: Path) -> None:
    """Remove a folder, again if need be: a thread of zarr may still finish a chunk in it after a write has failed."""
    for _ in range(40):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def _owner() -> str:
    return f"{platform.node()}.{os.getpid()}"


def _sweep(target: Path) -> None:
    """Remove what dead processes left behind while they wrote `target`."""
    for role in ("partial", "old"):
        for left in target.parent.glob(f".{target.name}.*.{role}"):
            node, _, pid = left.name[len(target.name) + 2 : -len(role) - 1].rpartition(".")
            if not _alive(node, pid, left):
                shutil.rmtree(left, ignore_errors=True)


def _alive(node: str, pid: str, folder: Path) -> bool:
    """Whether the owner of a temporary folder still works on it; this process does not work on two."""
    if node != platform.node() or not pid.isdigit():
        newest = max((item.stat().st_mtime for item in (folder, *folder.rglob("*"))), default=0.0)
        return time.time() - newest < ABANDONED_AFTER
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and somebody else's
        return True
    return True
