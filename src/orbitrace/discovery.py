"""Discovery: the raw calculations in a folder, at any depth, by the names of their files; and structures to predict.

Light: no physics.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from orbitrace.errors import InputError

# Files that ASE reads as a structure; and what makes a folder one in the DeepH format, which holds a structure too.
STRUCTURES = re.compile(r".+\.(cif|vasp|poscar|xyz|extxyz|xsf|pdb|gen)|(POSCAR|CONTCAR).*", re.IGNORECASE)
DEEPH_FOLDER = ("POSCAR", "info.json")


class RawFile(NamedTuple):
    """One file that a reader reads."""

    name: str
    size: int  # bytes
    mtime_ns: int  # time of the last change, ns
    sha256: str  # of the content; empty under the policy `mtime`


class Patterns:
    """Which names of files mark a calculation of which code, and which files its reader reads besides."""

    def __init__(self, markers: Mapping[str, tuple[str, ...]], beside: Mapping[str, tuple[str, ...]]) -> None:
        self._markers = {code: _any_of(patterns) for code, patterns in markers.items()}
        self._beside = {code: _any_of(beside.get(code, ())) for code in markers}
        self._known: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def codes(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Codes whose calculations a file of this name marks, and codes whose readers read it."""
        # The same few names occur in every folder; matching each once makes the walk as fast as the disk.
        if name not in self._known:
            marked = tuple(code for code, pattern in self._markers.items() if pattern.match(name))
            read = tuple(code for code, pattern in self._beside.items() if code in marked or pattern.match(name))
            self._known[name] = marked, read
        return self._known[name]

    def only_code(self, path: str, names: Iterable[str]) -> str | None:
        """The code whose calculation the files of one folder are; None if they are of none."""
        hits = {code: name for name in names for code in self.codes(name)[0]}
        if len(hits) > 1:
            raise InputError(
                path,
                "outputs of two codes in one folder: " + ", ".join(f"{name} ({code})" for code, name in sorted(hits.items())),
                "one calculation per folder",
                "Move them apart, or name the code of this data set in the config",
            )
        return next(iter(hits), None)


def structures_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of the structures in a folder, sorted; whatever else lies there is passed over."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and all((path / name).is_file() for name in DEEPH_FOLDER):
            yield path.name, path
        elif path.is_file() and STRUCTURES.fullmatch(path.name) and not path.name.startswith("."):
            yield path.stem, path


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Expression that matches a name which any of the glob patterns matches."""
    return re.compile("|".join(translate(p) for p in patterns) or r"(?!)")


def discover(folder: Path, patterns: Patterns) -> Iterator[tuple[str, tuple[str, list[RawFile]]]]:
    """(id, (code, files)) of every calculation in or below a folder."""
    # Of each folder: its id, its path, and the real paths entered through symbolic links on the way to it.
    todo: list[tuple[str, str, tuple[str, ...]]] = [("", str(folder), (os.path.realpath(folder),))]
    while todo:
        relative, path, entered = todo.pop()
        candidates: list[os.DirEntry[str]] = []
        for item in _listed(path):
            if item.name.startswith("."):
                continue
            if item.is_dir():
                below = _entered(item, path, entered)
                if below:
                    todo.append((f"{relative}/{item.name}" if relative else item.name, item.path, below))
            elif patterns.codes(item.name)[1]:
                candidates.append(item)
        files = _stat(candidates)
        code = patterns.only_code(path, (file.name for file in files))
        if code:
            yield relative or ".", (code, [file for file in files if code in patterns.codes(file.name)[1]])


def _listed(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as items:
            return list(items)
    except OSError as error:
        raise _unreadable(path, error) from error


def _entered(item: os.DirEntry[str], parent: str, entered: tuple[str, ...]) -> tuple[str, ...]:
    """Links entered once the walk steps into a folder; empty if it is a link that leads back to where the walk came from."""
    if not item.is_symlink():
        return entered
    real = os.path.realpath(item.path)
    behind = (*entered, os.path.realpath(parent))
    leads_back = any(place == real or place.startswith(real.rstrip(os.sep) + os.sep) for place in behind)
    return () if leads_back else (*entered, real)


def _stat(items: Iterable[os.DirEntry[str]]) -> list[RawFile]:
    files = []
    for item in items:
        try:
            if item.is_file():
                status = item.stat()
                files.append(RawFile(item.name, status.st_size, status.st_mtime_ns, ""))
        except FileNotFoundError:  # went away while we looked; the next scan settles it
            continue
    return files


def with_hashes(folder: Path, files: Iterable[RawFile], before: Iterable[RawFile]) -> list[RawFile]:
    """The files with the hash of their content, which is read only where size or time differ from `before`."""
    known = {(f.name, f.size, f.mtime_ns): f.sha256 for f in before}
    return [f._replace(sha256=known.get(f[:3]) or _sha256(folder / f.name)) for f in files]


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(path: str | Path, error: OSError) -> InputError:
    return InputError(path, f"it cannot be read ({error.strerror})", "", "Correct its permissions, or remove it")
