"""The manifest of a data set: which raw calculations lie in its folder, in which shard each belongs, and what changed.

Raw folders are discovered at any depth by the names of their files. A calculation is known by its id, the path of its folder
relative to the data set's, with ``/``. Shards are append-only batches: a known id keeps its shard for ever, a removed one
leaves its place empty (and finds it again if it comes back), new ids fill the last shard and then open new ones. The digest
of a shard changes if and only if one of its calculations was added, removed or changed. This module is light: it reads names,
sizes and times (and contents under the policy ``hash``), never physics.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from orbitrace.discovery import Patterns, RawFile, discover, with_hashes
from orbitrace.errors import InputError
from orbitrace.files import replacing

SCHEMA = 1
POLICIES = ("mtime", "hash")


class RawCalculation(NamedTuple):
    """One raw calculation: its folder, the code that wrote it, its shard and its files (sorted by name)."""

    id: str
    code: str
    shard: int
    files: tuple[RawFile, ...]


class Changes(NamedTuple):
    """Ids that differ between two manifests, sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """All calculations of a data set with their shards.

    Parameters
    ----------
    dataset
        Name of the data set: that of its folder.
    policy
        What tells that a file changed: ``mtime`` (size and time) or ``hash`` (content; slower, survives copying).
    shard_size
        Most calculations per shard.
    calculations
        By id, sorted.
    removed
        Shard of each id that was there once; kept so that it finds its place again.
    """

    dataset: str
    policy: str
    shard_size: int
    calculations: Mapping[str, RawCalculation]
    removed: Mapping[str, int]

    @cached_property
    def shards(self) -> dict[int, tuple[RawCalculation, ...]]:
        """The calculations of each shard that has any, sorted by id; shards ascending."""
        members: dict[int, list[RawCalculation]] = {}
        for calculation in self.calculations.values():
            members.setdefault(calculation.shard, []).append(calculation)
        return {shard: tuple(sorted(members[shard])) for shard in sorted(members)}

    @cached_property
    def digests(self) -> dict[int, str]:
        """Digest of each shard that has any calculation: sha256 over ids, codes and files."""
        return {shard: _digest(members, self.policy) for shard, members in self.shards.items()}

    def changes_since(self, previous: Manifest | None) -> Changes:
        """What is new, changed or gone with respect to an earlier manifest."""
        before = previous.calculations if previous else {}
        both = self.calculations.keys() & before.keys()
        changed = (i for i in both if not _same(self.calculations[i], before[i], self.policy))
        return Changes(
            added=tuple(sorted(self.calculations.keys() - before.keys())),
            changed=tuple(sorted(changed)),
            removed=tuple(sorted(before.keys() - self.calculations.keys())),
        )


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No garbage collection: of many small tuples none is garbage, yet looking through them takes longer than making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_at_rest()
def scan(
    folder: Path,
    markers: Mapping[str, tuple[str, ...]],
    previous: Manifest | None = None,
    shard_size: int = 200,
    *,
    policy: str = "mtime",
    beside: Mapping[str, tuple[str, ...]] | None = None,
) -> Manifest:
    """Look at the folder of a data set and bring its manifest up to date.

    Parameters
    ----------
    folder
        ``data/<dataset>``; it and folders in it may be symbolic links. Hidden folders and files are passed over.
    markers
        For each DFT code the patterns of file names that mark a calculation, e.g. ``{"openmx": ("*.scfout", "*.scfout.xz")}``.
    previous
        The manifest of the last scan; None at the first.
    shard_size
        Most calculations per shard; a change applies to calculations added from then on.
    policy
        See `Manifest`. A file whose size and time did not change is never read again.
    beside
        For each code the patterns of further files that its reader reads, e.g. ``{"openmx": ("*.out",)}``; they do not mark
        a calculation, but a change of theirs is a change of it.

    Raises
    ------
    InputError
        If the folder is missing or holds no calculation, a folder holds outputs of two codes, or an option makes no sense.
    """
    _check_options(folder, shard_size, policy)
    found = dict(discover(folder, Patterns(markers, beside or {})))
    if not found:
        known = "; ".join(f"{', '.join(patterns)} ({code})" for code, patterns in sorted(markers.items()))
        raise InputError(
            folder,
            "no calculation was found in this folder or below it",
            f"files named like {known}",
            "Drop the calculation folders in as the DFT code left them",
        )
    before = previous.calculations if previous else {}
    placed = {**{i: c.shard for i, c in before.items()}, **(previous.removed if previous else {})}
    shards = _assign(found, placed, shard_size)
    calculations = {}
    for i in sorted(found):
        code, files = found[i]
        if policy == "hash":
            files = with_hashes(folder / i, files, before[i].files if i in before else ())
        calculations[i] = RawCalculation(i, code, shards[i], tuple(sorted(files)))
    removed = {i: placed[i] for i in sorted(placed.keys() - found.keys())}
    return Manifest(folder.name, policy, shard_size, calculations, removed)


def split_of(calculation_id: str, fractions: Mapping[str, float], seed: int = 0) -> str:
    """The part of a data set that a calculation belongs to, by a stable hash of its id.

    Adding or removing data never moves a calculation. `fractions` gives the share of each part but ``train``, which takes
    the rest; e.g. ``{"test": 0.1, "validation": 0.1}``. Enlarging the last part takes calculations from ``train`` only.
    A small data set may leave a part empty.

    Raises
    ------
    InputError
        If a fraction is negative or they leave nothing to train on.
    """
    if any(not 0 <= f < 1 for f in fractions.values()) or sum(fractions.values()) >= 1:
        shares = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
        raise InputError("split", f"fractions {shares}", "fractions in [0, 1) with a sum below 1", "The rest is for training")
    draw = int.from_bytes(hashlib.sha256(f"{seed}:".encode() + os.fsencode(calculation_id)).digest()[:8], "big") / 2**64
    edge = 0.0
    for name, share in fractions.items():
        edge += share
        if draw < edge:
            return name
    return "train"


def _check_options(folder: Path, shard_size: int, policy: str) -> None:
    if not folder.is_dir():
        raise InputError(
            folder,
            "there is no such folder",
            "the folder of a data set, with raw calculations at any depth",
            "Make it and drop calculations in, or correct the name of the data set",
        )
    if shard_size < 1:
        raise InputError("shard_size", f"{shard_size} calculations per shard", "at least 1", "100 to 1000 are a good size")
    if policy not in POLICIES:
        raise InputError("policy", f"unknown policy {policy!r}", f"one of {', '.join(POLICIES)}")


# --- shards ----------------------------------------------------------------------------------------------------------------


def _assign(ids: Iterable[str], placed: Mapping[str, int], shard_size: int) -> dict[str, int]:
    """Shard of each id: the one it had, or the last while it has room, or a new one.

    Places of removed ids count as taken: filling them would let an id that comes back overfill its shard.
    """
    last = max(placed.values(), default=0)
    taken = sum(shard == last for shard in placed.values())
    shards = {}
    for i in sorted(ids):
        if i in placed:
            shards[i] = placed[i]
            continue
        if taken >= shard_size:
            last, taken = last + 1, 0
        shards[i], taken = last, taken + 1
    return shards


def _fingerprint(calculation: RawCalculation, policy: str) -> str:
    """What of a calculation must be equal for it to count as unchanged; names hold no NUL, so that nothing is ambiguous."""
    by_content = policy == "hash"
    files = (f"{f.name}\0{f.size}\0{f.sha256 if by_content else f.mtime_ns}" for f in calculation.files)
    return "\0".join((calculation.id, calculation.code, *files))


def _same(left: RawCalculation, right: RawCalculation, policy: str) -> bool:
    return left == right or _fingerprint(left, policy) == _fingerprint(right, policy)


def _digest(calculations: Iterable[RawCalculation], policy: str) -> str:
    lines = sorted(_fingerprint(c, policy) for c in calculations)
    return hashlib.sha256(os.fsencode("\0\0".join(lines))).hexdigest()


# --- the file --------------------------------------------------------------------------------------------------------------
# JSON, one calculation per line. The first line alone holds the digests of all shards, so that a Snakefile, which every
# cluster job parses twice, reads one line however many calculations there are.


def write_manifest(file: Path, manifest: Manifest) -> bool:
    """Write a manifest; True if the file changed. An equal manifest leaves the file, and its time, untouched."""
    content = _to_text(manifest).encode()
    if file.is_file() and file.read_bytes() == content:
        return False
    with replacing(file) as part:
        part.write_bytes(content)
    return True


@_collector_at_rest()
def read_manifest(file: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another version.
    """
    try:
        return _from_json(_parsed(file, _text(file)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(file, f"{type(error).__name__} {error}") from error


def read_digests(file: Path) -> dict[int, str]:
    """Digest of each shard, from the first line of a manifest alone; fast however many calculations there are.

    Raises
    ------
    InputError
        As `read_manifest`.
    """
    head = _text(file, head=True).rstrip()
    data = _parsed(file, head.removesuffix(",") + "}" if head.endswith("},") else head)
    try:
        return {int(shard): str(digest) for shard, digest in data["shards"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise _damaged(file, f"{type(error).__name__} {error}") from error


def _from_json(data: Mapping[str, Any]) -> Manifest:
    calculations = {
        i: RawCalculation(i, c["code"], int(c["shard"]), tuple(RawFile(*f) for f in c["files"]))
        for i, c in data["calculations"].items()
    }
    removed = {i: int(shard) for i, shard in data["removed"].items()}
    return Manifest(data["dataset"], data["policy"], int(data["shard_size"]), calculations, removed)


def _to_text(manifest: Manifest) -> str:
    head = {
        "schema": SCHEMA,
        "dataset": manifest.dataset,
        "policy": manifest.policy,
        "shard_size": manifest.shard_size,
        "shards": {str(shard): digest for shard, digest in manifest.digests.items()},
    }
    lines = [
        f"{json.dumps(c.id)}: " + json.dumps({"code": c.code, "shard": c.shard, "files": c.files})
        for c in manifest.calculations.values()
    ]
    removed = json.dumps(dict(sorted(manifest.removed.items())))
    return json.dumps(head)[:-1] + ',\n"calculations": {\n' + ",\n".join(lines) + f'\n}},\n"removed": {removed}}}\n'


def _text(file: Path, head: bool = False) -> str:
    try:
        with file.open(encoding="utf-8") as stream:
            return stream.readline() if head else stream.read()
    except FileNotFoundError as error:
        raise InputError(file, "there is no manifest", "the manifest of a data set", "Run `orbitrace scan` first") from error
    except UnicodeDecodeError as error:
        raise _damaged(file, str(error)) from error


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise _damaged(file, f"no valid JSON, {error}") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise _damaged(file, "no JSON object with a schema version")
    if data["schema"] != SCHEMA:
        raise InputError(
            file,
            f"a manifest of schema version {data['schema']}",
            f"version {SCHEMA}",
            "Install the version of OrbiTrace that wrote it, or delete it and scan again: all shards are then built anew",
        )
    return data


def _damaged(file: Path, what: str) -> InputError:
    return InputError(
        file,
        f"the manifest is damaged: {what}",
        "a file that `orbitrace scan` wrote",
        "Restore it from a copy, or delete it and scan again: calculations may then change shards, which are built anew",
    )
