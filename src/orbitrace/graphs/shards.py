"""Shards: many calculations in one zarr v3 store of flat arrays.

Every column of `records.COLUMNS` is one array, uncompressed, to which each calculation adds its rows; `offsets`
[n_calculations + 1, 7] says which rows are whose. The attributes of the store hold the ids, the provenances, the basis of all
elements, the version of this layout, the sha256 of each array, and the digest of the whole. The store is written into a
temporary sibling, its attributes last, and then renamed: what has the name of a shard is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.common import JSON

from orbitrace import __version__
from orbitrace.errors import InputError
from orbitrace.graphs.records import COLUMNS, OFFSETS, Array, Record, decode, decode_structure, encode
from orbitrace.graphs.store import ColumnWriter, column_sha256, n_chunks, replaced_folder, writing
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats, Structure

FORMAT = "orbitrace shard"
SCHEMA = 1
_REMEDY = "Delete it and run `orbitrace shard` again"


class ShardWriter:
    """Appends calculations to a shard in the making; made by `shard_writer`. In memory is only what does not fill a chunk."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.basis = Basis({})
        self.provenances: dict[str, Mapping[str, Any]] = {}
        with writing(path):
            self._store = zarr.create_group(folder, zarr_format=3)
        self._columns = {name: ColumnWriter(self._store, name, c.dtype, c.row, c.about) for name, c in COLUMNS.items()}
        about = f"where the rows of each calculation start: {', '.join(OFFSETS)}"
        self._offsets = ColumnWriter(self._store, "offsets", "int64", (len(OFFSETS),), about)
        self._ends = np.zeros((1, len(OFFSETS)), dtype=np.int64)
        self._offsets.append(self._ends)

    def __len__(self) -> int:
        return len(self.provenances)

    def admit(self, record: Record) -> None:
        """Check that a calculation may join this shard.

        Raises
        ------
        InputError
            If its id is there already, or one of its elements has another basis than before.
        """
        where = f"calculation {record.id}"
        if record.id in self.provenances:
            raise InputError(where, "this id occurs twice in one shard", "one calculation per id")
        self.basis.merged(record.basis, where, "the calculations of this shard before it")

    def add(self, record: Record) -> None:
        """Append a calculation. Raises InputError as `admit`, and if the disk is full."""
        self.admit(record)
        # What was known first stays, but for radii that were inferred: those grow with what later calculations show.
        self.basis = record.basis.merged(self.basis, f"calculation {record.id}")
        self._ends = self._ends + record.sizes()
        with writing(self.path):
            for name, column in self._columns.items():
                column.append(record.rows[name])
            self._offsets.append(self._ends)
        self.provenances[record.id] = record.provenance

    def finish(self) -> None:
        """Write the last rows and the attributes. Raises InputError if the disk is full."""
        with writing(self.path):
            sums = {name: column.close() for name, column in {**self._columns, "offsets": self._offsets}.items()}
            attributes: dict[str, Any] = {
                "format": FORMAT,
                "schema": SCHEMA,
                "version": __version__,
                "spins": [spin.value for spin in Spin],
                "offsets": list(OFFSETS),
                "basis": self.basis.to_json(),
                "sha256": sums,
                "ids": list(self.provenances),
                "provenance": list(self.provenances.values()),
            }
            attributes["digest"] = _digest(attributes)
            self._store.attrs.put(cast("dict[str, JSON]", {**attributes, "seal": _seal(attributes)}))


@contextmanager
def shard_writer(path: Path) -> Iterator[ShardWriter]:
    """A writer whose shard is at `path` when the body of the ``with`` ends; if it raises, all is as before.

    Raises
    ------
    InputError
        If the disk is full or cannot be written.
    """
    with replaced_folder(path) as folder:
        writer = ShardWriter(path, folder)
        yield writer
        writer.finish()


def write_shard(path: Path, items: Iterable[tuple[str, Calculation]]) -> None:
    """Write calculations, with their ids, into one shard; `items` is consumed one by one.

    Raises
    ------
    InputError
        If an id occurs twice, two calculations give an element different bases, or the disk is full.
    """
    with shard_writer(path) as writer:
        for calculation_id, calculation in items:
            writer.add(encode(calculation_id, calculation))


class Shard:
    """A shard opened for reading. Arrays are read when asked for; it can be pickled and sent to other processes.

    Attributes
    ----------
    path
        The store.
    ids
        Id of each calculation.
    basis
        The basis of every element of the shard.
    digest
        sha256 over ids, basis and arrays, but not over provenance: equal contents from other folders have equal digests.
    """

    def __init__(self, path: Path, store: zarr.Group, attributes: Mapping[str, Any]) -> None:
        self.path = path
        self.ids: tuple[str, ...] = tuple(attributes["ids"])
        self.basis = Basis.from_json(attributes["basis"])
        self.digest = str(attributes["digest"])
        self._attributes = attributes
        self._store = store
        self._arrays: dict[str, zarr.Array[Any]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __reduce__(self) -> tuple[Callable[[Path], Shard], tuple[Path]]:
        return open_shard, (self.path,)

    def structure(self, k: int) -> Structure:
        """Structure of calculation number k."""
        return decode_structure(self._rows(k, ("positions", "lattice", "numbers", "pbc")))

    def calculation(self, k: int) -> Calculation:
        """Calculation number k, as it was written; its basis is that of its own elements."""
        rows = self._rows(k, (name for name in COLUMNS if name not in ("traces", "shell_counts")))
        return decode(rows, self.basis, Provenance(**self._attributes["provenance"][k]))

    def trace_labels(self, k: int) -> Floats:
        """Trace labels of calculation number k, eV², laid out as `traces.trace_labels` says."""
        labels: Floats = self._rows(k, ("traces",))["traces"]
        return labels

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """[n_calculations + 1, 7] first row of each calculation in each of `records.OFFSETS`."""
        return np.asarray(self._read("offsets", itemgetter(slice(None))))

    def verify(self) -> None:
        """Read everything and compare it with the hashes in the store.

        Raises
        ------
        InputError
            If anything differs; the message names the arrays.
        """
        sums = self._attributes["sha256"]
        wrong = [name for name in sums if self._read(name, column_sha256) != sums[name]]
        if self._attributes.get("seal") != _seal(self._attributes):
            wrong.append("the attributes")
        if wrong:
            raise InputError(self.path, f"what it holds is not what was written: {', '.join(wrong)}", "", _REMEDY)

    @cached_property
    def _single(self) -> dict[str, Array]:
        """The columns with one row per calculation, read once."""
        return {name: self._read(name, itemgetter(slice(None))) for name, c in COLUMNS.items() if c.counts is None}

    def _rows(self, k: int, names: Iterable[str]) -> dict[str, Array]:
        if not 0 <= k < len(self):
            raise IndexError(f"calculation {k} of {len(self)}")
        rows: dict[str, Array] = {}
        for name in names:
            counts = COLUMNS[name].counts
            if counts is None:
                rows[name] = self._single[name][k : k + 1]
            elif counts not in self._attributes["offsets"]:  # a column newer than this shard
                rows[name] = np.zeros((0, *COLUMNS[name].row), dtype=COLUMNS[name].dtype)
            else:
                span = slice(*(int(row) for row in self.offsets[k : k + 2, OFFSETS.index(counts)]))
                rows[name] = self._read(name, itemgetter(span))
        return rows

    def _read(self, name: str, read: Callable[[zarr.Array[Any]], Any]) -> Any:
        """What `read` makes of an array. Raises InputError, which names the array, if it is damaged."""
        try:
            if name not in self._arrays:
                self._arrays[name] = self._complete(name)
            return read(self._arrays[name])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(self.path, f"the array {name} cannot be read ({error})", "a complete shard", _REMEDY) from error

    def _complete(self, name: str) -> zarr.Array[Any]:
        """An array, none of whose chunks is missing; zarr itself would read zeros in their place."""
        array = cast("zarr.Array[Any]", self._store[name])
        lost = n_chunks(array) - sum(1 for file in (self.path / name / "c").rglob("*") if file.is_file())
        if lost:
            raise ValueError(f"{lost} of its {n_chunks(array)} chunks are missing")
        return array


def open_shard(path: Path) -> Shard:
    """Open a shard for reading.

    Raises
    ------
    InputError
        If it is missing, incomplete, or of another layout.
    """
    attributes = _attributes(path)
    if attributes.get("format") != FORMAT:
        raise InputError(path, "this is not a complete shard", "a zarr store that `orbitrace shard` finished", _REMEDY)
    if attributes.get("schema") != SCHEMA:
        raise InputError(
            path,
            f"a shard of layout {attributes.get('schema')}, written by OrbiTrace {attributes.get('version')}",
            f"layout {SCHEMA}, which OrbiTrace {__version__} reads",
            f"{_REMEDY}, or install the version that wrote it",
        )
    try:
        return Shard(path, zarr.open_group(path, mode="r"), attributes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"the attributes of this shard are damaged ({error})", "a complete shard", _REMEDY) from error


def _attributes(path: Path) -> Mapping[str, Any]:
    """The attributes of a zarr group."""
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(path, "there is no shard", "a zarr store", "Run `orbitrace shard` first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"its zarr.json cannot be read ({error})", "a complete shard", _REMEDY) from error
    return attributes if isinstance(attributes, dict) else {}


def _digest(attributes: Mapping[str, Any]) -> str:
    """Hash over what a network learns from: ids, basis and arrays."""
    return _json_sha256([attributes[name] for name in ("ids", "basis", "sha256")])


def _seal(attributes: Mapping[str, Any]) -> str:
    """Hash over all attributes but itself."""
    return _json_sha256({name: value for name, value in attributes.items() if name != "seal"})


def _json_sha256(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
