"""The door of the networks: one file per model, found by its name.

A model file supplies

* ``Settings``: a frozen pydantic model, the model's own section of the config (unknown keys are refused);
* ``Network(settings, basis, spin)``: a `BlockNetwork` with ``forward(batch) -> Output`` and the attribute ``l_max``, the
  largest l of the rotations that it wants for every edge. Basis and spin decide what it returns: `graphs.irreps.block_irreps`
  says which irreps, and there are ``spin.traces`` labels for every pair of shells.

It returns normalised irreps (scale 1) of every block; labels, scales, assembly of blocks, Hermiticity, losses, the training
loop, checkpoints and prediction are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from orbitrace import plugins
from orbitrace.errors import InputError
from orbitrace.graphs.batches import Batch
from orbitrace.graphs.spin import SpinKind
from orbitrace.physics.orbitals import Basis


@dataclass(frozen=True)
class Output:
    """What a network says of a batch.

    Parameters
    ----------
    irreps
        For each group of the batch: [members, components] normalised irreps in the order of `graphs.irreps.BlockIrreps`, in
        the global frame.
    traces
        For each group: [members, basic blocks] predicted traces of the normalised blocks; empty without TraceGrad's trace
        labels.
    """

    irreps: list[Tensor]
    traces: list[Tensor]


class BlockNetwork(nn.Module):
    """What every network is: a map from batches to the normalised irreps of their blocks.

    A model says what it lacks: `local` is False if a block feels atoms outside a receptive field, and `independent_directions`
    True if the two directions of a pair are trained apart; their mean is what it predicts in any case.
    """

    l_max: int
    local: bool = True
    independent_directions: bool = False

    def __call__(self, batch: Batch) -> Output:
        """`forward`, with its type."""
        output: Output = super().__call__(batch)
        return output


def settings_of(model: str, values: Mapping[str, Any], where: str = "network") -> BaseModel:
    """The checked settings of a model. Raises InputError for unknown keys or impossible values."""
    schema: type[BaseModel] = plugins.load("models", model).Settings
    try:
        return schema(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(schema.model_fields)
        unknown = first["type"] == "extra_forbidden"
        close = get_close_matches(key, schema.model_fields, n=1) if unknown else []
        raise InputError(
            f"{where}.{key}",
            "unknown key" if unknown else f"{first['msg']} (found {first['input']!r})",
            f"settings of {model}: {known}",
            f"Did you mean {close[0]}?" if close else "",
        ) from error


def build(model: str, values: Mapping[str, Any], basis: Basis, spin: SpinKind = SpinKind.NONE) -> BlockNetwork:
    """The network of a model for a basis and a treatment of spin, with fresh weights."""
    network: BlockNetwork = plugins.load("models", model).Network(settings_of(model, values), basis, spin)
    return network
