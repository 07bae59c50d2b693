"""Checkpoints: a trained network with all that a prediction needs, as plain data. No code is ever imported from one.

A checkpoint is written by `torch.save` and read with ``weights_only=True``: tensors, numbers and strings. It holds the
weights, the model's name and settings, the basis, the labeller's arrays (reference and scales), the split of the data,
metrics, and versions.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orbitrace import __version__, models
from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.graphs.labels import Labeller
from orbitrace.graphs.spin import SpinKind
from orbitrace.graphs.store import writing
from orbitrace.models import BlockNetwork
from orbitrace.physics.orbitals import Basis

FORMAT = "orbitrace-checkpoint"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network.

    Parameters
    ----------
    model, network
        Name of the model's file and its settings.
    weights
        State of the network.
    labeller
        Basis, treatment of spin, reference and scales of the training data.
    precision
        "float32" or "float64".
    split
        "train", "validation", "test" -> ids of calculations, with their data sets before them where several use the same id.
    metrics
        What is known of it: steps, seconds, validation error in meV.
    """

    model: str
    network: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    labeller: Labeller
    precision: str = "float32"
    split: Mapping[str, list[str]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def basis(self) -> Basis:
        """Basis of the training data."""
        return self.labeller.basis

    def build(self) -> BlockNetwork:
        """The network with its weights, ready to predict.

        Raises
        ------
        InputError
            If the model is not known, or its network has changed since.
        """
        dtype = getattr(torch, self.precision)
        with default_dtype(dtype):
            network = models.build(self.model, self.network, self.basis, self.labeller.spin).to(dtype)
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise InputError(
                "the checkpoint",
                f"its weights do not fit the network {self.model} of this version: {' '.join(str(error).split())[:200]}",
                "weights written by this version of OrbiTrace",
                "Train again, or use the version that wrote it",
            ) from error
        return network.eval()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New tensors are of this type. A constant made in float32 and cast to float64 afterwards would keep float32's error."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def save(file: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears whole or not at all."""
    data = {
        "format": FORMAT,
        "schema": SCHEMA,
        "orbitrace": __version__,
        "model": checkpoint.model,
        "network": dict(checkpoint.network),
        "weights": {key: value.detach().cpu() for key, value in checkpoint.weights.items()},
        "basis": checkpoint.basis.to_json(),
        "spin": checkpoint.labeller.spin.value,
        "l_max": checkpoint.labeller.l_max,
        "labeller": {key: torch.as_tensor(value) for key, value in checkpoint.labeller.to_arrays().items()},
        "precision": checkpoint.precision,
        "split": {key: list(ids) for key, ids in checkpoint.split.items()},
        "metrics": dict(checkpoint.metrics),
    }
    # Into an open file: given a path, torch writes its (temporary) name into the file, so that equal checkpoints differ.
    with written(file) as part, part.open("wb") as stream:
        torch.save(data, stream)


@contextmanager
def written(file: Path) -> Iterator[Path]:
    """A temporary sibling to which torch writes, and which becomes `file`; a full disk is told in one sentence."""
    with writing(file), replacing(file) as part:
        try:
            yield part
        except RuntimeError as error:  # of torch's writer of zip files, for a full disk too
            raise OSError(str(error).splitlines()[0]) from error


def load(file: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    InputError
        If the file is missing, damaged, not a checkpoint of OrbiTrace, or of a newer version.
    """
    data = _plain(file)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(file, "is not a checkpoint of OrbiTrace", "a file written by `orbitrace train`")
    if data.get("schema") != SCHEMA:
        raise InputError(
            file,
            f"has checkpoint version {data.get('schema')}, written by OrbiTrace {data.get('orbitrace')}",
            f"version {SCHEMA}",
            "Use that version of OrbiTrace, or train again",
        )
    try:
        basis = Basis.from_json(data["basis"])
        arrays = {key: value.numpy() for key, value in data["labeller"].items()}
        labeller = Labeller.from_arrays(arrays, basis, data["l_max"], SpinKind(data.get("spin", SpinKind.NONE)))
        return Checkpoint(
            data["model"], data["network"], data["weights"], labeller, data["precision"], data["split"], data["metrics"]
        )
    except KeyError as error:
        raise InputError(file, f"lacks {error}", "a whole checkpoint written by `orbitrace train`") from error


def _plain(file: Path) -> Any:
    if not file.is_file():
        raise InputError(file, "does not exist", "a checkpoint written by `orbitrace train`")
    try:
        with zipfile.ZipFile(file) as archive:  # torch writes zip files, with checksums that it does not look at
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(file, "cannot be read as a checkpoint", "an undamaged file written by `orbitrace train`") from error
    raise InputError(file, f"cannot be read as a checkpoint: its part {damaged} is damaged", "the file as it was written")
