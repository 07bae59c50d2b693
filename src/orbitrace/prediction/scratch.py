"""What a prediction in tiles has finished so far, in a folder: what lies there whole need not be computed again.

One file per tile and step: features of its atoms, features of its pairs, and at the end elements of H. A file has its name
only when it is complete. The features of all atoms after a step are gathered into one file, from which every tile takes the
rows that it needs; features of pairs are of use to their own tile alone, and go when its next step is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orbitrace import __version__
from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.structure import Structure
from orbitrace.training.checkpoint import Checkpoint

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Scratch:
    """The folder of one prediction."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """A copy of the network, for other processes."""
        return self.folder / "checkpoint.pt"

    def edges(self, step: int, tile: int) -> Path:
        """Features of the pairs of a tile after a step."""
        return self.folder / f"edges-{step}-{tile}.npy"

    def nodes(self, step: int, tile: int | None = None) -> Path:
        """Features of the atoms of a tile, or of all atoms, after a step."""
        return self.folder / (f"nodes-{step}.npy" if tile is None else f"nodes-{step}-{tile}.npy")

    def values(self, tile: int) -> Path:
        """Elements of H of a tile, the two directions of a pair not averaged."""
        return self.folder / f"values-{tile}.npy"

    def has(self, step: int | None, tile: int) -> bool:
        """Whether a step of a tile is done; None means its elements of H."""
        if step is None:
            return self.values(tile).exists()
        return self.nodes(step).exists() or self.nodes(step, tile).exists()

    def gather(self, step: int, tiles: int) -> None:
        """One file with the features of all atoms after a step, from those of the tiles."""
        parts = [self.nodes(step, tile) for tile in range(tiles)]
        if not self.nodes(step).exists():
            write(self.nodes(step), np.concatenate([np.load(part) for part in parts]))
        for part in parts:
            part.unlink(missing_ok=True)


def write(file: Path, array: Array) -> None:
    """Write an array; the file is there whole or not at all."""
    with replacing(file) as part:
        np.save(part, array)


@contextmanager
def opened(folder: Path | None, key: str) -> Iterator[Scratch]:
    """The scratch folder of a prediction: what was left there is kept if its key is the same.

    It is removed at the end, unless the work inside fails or is killed; without a name, it is a temporary one.

    Raises
    ------
    InputError
        If the folder cannot be written, such as for want of space; then it is removed too.
    """
    if folder is None:
        with TemporaryDirectory(prefix="orbitrace-") as name, opened(Path(name) / "tiles", key) as scratch:
            yield scratch
        return
    note = folder / "key.json"
    try:
        if not note.exists() or json.loads(note.read_text(encoding="utf-8")).get("key") != key:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with replacing(note) as part:
                part.write_text(json.dumps({"key": key}), encoding="utf-8")
        yield Scratch(folder)
    except BrokenPipeError:  # of what shows the progress
        raise
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        found = f"cannot be written ({error.strerror or error})"
        raise InputError(folder, found, remedy="Check free space and permissions there") from error
    shutil.rmtree(folder, ignore_errors=True)


def key_of(trained: Checkpoint, structure: Structure, matrices: Iterable[Blocks | None], pairs: int) -> str:
    """A digest of everything that the files of a prediction depend on."""
    digest = hashlib.blake2b(digest_size=16)

    def add(array: Any) -> None:
        whole = np.ascontiguousarray(array)
        digest.update(f"{whole.dtype}{whole.shape}".encode())
        digest.update(whole.reshape(-1).view(np.uint8).data)

    plain = [__version__, trained.model, dict(trained.network), trained.precision, trained.basis.to_json()]
    labeller = trained.labeller
    digest.update(json.dumps([*plain, labeller.spin, labeller.l_max, structure.pbc, pairs], sort_keys=True).encode())
    for name, tensor in sorted(trained.weights.items()):
        digest.update(name.encode())
        add(tensor.detach().cpu().numpy())
    for name, array in sorted(labeller.to_arrays().items()):
        digest.update(name.encode())
        add(array)
    for part in (structure.positions, structure.lattice, structure.numbers):
        add(part)
    for blocks in matrices:
        if blocks is not None:
            add(blocks.pairs)
            add(blocks.shapes)
            add(blocks.values)
    return digest.hexdigest()
