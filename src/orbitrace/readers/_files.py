"""Raw files as people keep them: plain, or compressed with gzip, xz or Zstandard."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import mmap
import zlib
from pathlib import Path

import zstandard

from orbitrace.errors import InputError

SUFFIXES = ("", ".gz", ".xz", ".zst")

Buffer = bytes | mmap.mmap


def variants(*patterns: str) -> tuple[str, ...]:
    """Each pattern of file names with each way to compress the file."""
    return tuple(pattern + suffix for pattern in patterns for suffix in SUFFIXES)


def matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Files of a folder that match one of the patterns, sorted by name."""
    return sorted(path for path in {p for pattern in patterns for p in folder.glob(pattern)} if path.is_file())


def the_only(folder: Path, patterns: tuple[str, ...]) -> Path:
    """The one file of a folder that matches the patterns.

    Raises
    ------
    InputError
        If there is none or more than one; the message names them.
    """
    found = matching(folder, patterns)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(folder, "no file " + " or ".join(patterns), remedy="Give the folder of a finished calculation")
    raise InputError(
        folder,
        f"{len(found)} files of the same kind: {', '.join(path.name for path in found)}",
        "one calculation per folder",
        "Keep one of them, or put each calculation into its own folder",
    )


def beside(path: Path, ending: str) -> Path | None:
    """The file with the same stem and another ending (compressed or not), e.g. ``run.out.gz`` beside ``run.scfout.xz``."""
    stem = path.name.removesuffix(path.suffix if path.suffix in SUFFIXES else "").rpartition(".")[0]
    return next((file for suffix in SUFFIXES if (file := path.with_name(stem + ending + suffix)).is_file()), None)


def contents(path: Path) -> Buffer:
    """The bytes of a file, decompressed; a plain file is mapped, so that parts which nobody needs are never copied.

    Raises
    ------
    InputError
        If the file cannot be read, is empty, or its compressed data are damaged or cut short.
    """
    data = stored(path)
    if path.suffix not in SUFFIXES[1:]:
        return data
    try:
        if path.suffix == ".gz":
            return gzip.decompress(data)
        return lzma.decompress(data) if path.suffix == ".xz" else _from_zstandard(bytes(data))
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise InputError(
            path, f"compressed data damaged or cut short ({error})", "a whole file", "Copy the file again from its source"
        ) from error


def text(path: Path) -> str:
    """The text of a file; bytes that are no UTF-8 are replaced."""
    return bytes(contents(path)).decode("utf-8", errors="replace")


def stored(path: Path) -> Buffer:
    """The bytes of a file as they lie on the disk, mapped into memory."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file cannot be mapped
        raise InputError(
            path, "the file is empty", "a whole file", "Copy the file again, or run the calculation again"
        ) from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error


def sha256(path: Path) -> str:
    """Hash of the bytes on the disk, compressed as they are."""
    return hashlib.sha256(stored(path)).hexdigest()


def _from_zstandard(data: bytes) -> bytes:
    """All frames of a Zstandard file; unlike the library's reader, a frame that is cut short is an error."""
    parts = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise EOFError("the last frame is not complete")
        data = frame.unused_data
    return b"".join(parts)
