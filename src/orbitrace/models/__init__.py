"""The door of the networks: one file per model, found by its name.

A model file supplies

* ``Settings``: a frozen pydantic model, the model's own section of the config (unknown keys are refused);
* ``Network(settings, basis, spin)``: a `BlockNetwork` with ``forward(batch) -> Output`` and the attribute ``l_max``, the
  largest l of the rotations that it wants for every edge. Basis and spin decide what it returns: `graphs.irreps.block_irreps`
  says which irreps, and there are ``spin.traces`` labels for every pair of shells.

It returns normalised irreps (scale 1) of every block; labels, scales, assembly of blocks, Hermiticity, losses, the training
loop, checkpoints and prediction are shared.

A local network also says what it does step by step (`BlockNetwork.step`, `read`), so that large structures are predicted in
tiles: atoms hear of each other between two steps only, where the tiles have handed on their features.
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


@dataclass(frozen=True)
class State:
    """What is known of atoms and pairs between two steps of a network, as plain numbers.

    Parameters
    ----------
    nodes
        [n_atoms, width] features of the atoms.
    edges
        [n_edges, width] features of the pairs; None where they follow from the batch alone.
    """

    nodes: Tensor
    edges: Tensor | None


class BlockNetwork(nn.Module):
    """What every network is: a map from batches to the normalised irreps of their blocks.

    A model says what it lacks: `local` is False if a block feels atoms outside a receptive field, and `independent_directions`
    True if the two directions of a pair are trained apart; their mean is what it predicts in any case. `bytes_per_pair` is
    about the memory that it takes without gradients, 0 if it does not say.

    The same in steps, for a local network: `forward(batch)` equals ``read(state, batch)`` after
    ``state = step(k, state, batch)`` for k = 0 .. steps - 1. Within one of them, an atom or a pair hears of the features of
    its own atom, pairs and their other ends alone. A batch may then be a tile (`graphs.tiles`): its first `n_atoms` atoms
    with all their pairs, after them the atoms at the other ends.
    """

    l_max: int
    steps: int
    local: bool = True
    independent_directions: bool = False
    bytes_per_pair: int = 0

    def sharpen(self) -> None:
        """Before predicting, give more digits to what costs little and needs them: on-site elements are the largest."""

    def step(self, number: int, state: State | None, batch: Batch) -> State:
        """Features of the first `n_atoms` atoms and of all pairs, from those of all atoms and pairs; None at first."""
        raise NotImplementedError

    def read(self, state: State, batch: Batch) -> Output:
        """Normalised irreps of the blocks, after the last step."""
        raise NotImplementedError

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
