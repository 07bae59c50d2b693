"""Weights of a network in another one of the same model, which may know more elements.

Both are walked side by side, layer by layer, by the names of the layers. Three things depend on the elements:

* embeddings (`nn.Embedding`) have one row for each element, in the order of the basis;
* read-outs are named by atomic numbers: one that only the new network has stays as it is made;
* a shell more makes more basic blocks, and with them outputs of TraceGrad's invariants. New outputs start at zero, so that the
  gradient of their sum is what it was. The decoder of traces sees all of them at once and starts afresh if their number
  changes: it shapes the loss, and no block.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from orbitrace.errors import InputError
from orbitrace.nets.tracegrad import InvariantNetwork

DECODER = "traces"  # of the invariants


def inherit(network: nn.Module, older: nn.Module, places: Mapping[int, int], model: str, name: str = "") -> None:
    """Put the weights of `older` into `network`, in place.

    Parameters
    ----------
    network, older
        Two networks, or two layers of the same name in them.
    places
        Place of each element in the older basis -> its place in the new one.
    model
        What both are, for messages.
    name
        Of the layer.

    Raises
    ------
    InputError
        If weights have other shapes for another reason than new elements.
    """
    if isinstance(network, nn.Embedding) and isinstance(older, nn.Embedding):
        _embedding(network, older, places)
        return
    if isinstance(network, InvariantNetwork) and isinstance(older, InvariantNetwork):
        _outputs(network.linear3, older.linear3)
        skipped = {"linear3"}
    else:
        skipped = set()
        _own(network, older, model, name)
    children = dict(older.named_children())
    for child, module in network.named_children():
        if child in children and child not in skipped and not _other_decoder(child, module, children[child]):
            inherit(module, children[child], places, model, f"{name}.{child}" if name else child)


@torch.no_grad()
def _own(network: nn.Module, older: nn.Module, model: str, name: str) -> None:
    """The parameters of one layer itself, which must have the same shapes."""
    known = dict(older.named_parameters(recurse=False))
    for key, parameter in network.named_parameters(recurse=False):
        if key not in known or known[key].shape != parameter.shape:
            raise InputError(
                "init_from",
                f"the layer {name} of {model} changes its size with the new elements",
                "elements whose blocks need no irreps that the network of the checkpoint lacks",
                "Train one network on both data sets from the start",
            )
        parameter.copy_(known[key])


@torch.no_grad()
def _embedding(network: nn.Embedding, older: nn.Embedding, places: Mapping[int, int]) -> None:
    """Rows of known elements; those of new ones start as the mean of them."""
    new = network.weight
    new.copy_(older.weight.mean(0).expand_as(new))
    new[list(places.values())] = older.weight[list(places)].to(new.dtype)


@torch.no_grad()
def _outputs(network: nn.Linear, older: nn.Linear) -> None:
    """A layer with more outputs, the new ones zero."""
    for new, old in ((network.weight, older.weight), (network.bias, older.bias)):
        new.zero_()
        new[: len(old)] = old.to(new.dtype)


def _other_decoder(name: str, new: nn.Module, old: nn.Module) -> bool:
    return name == DECODER and _shapes(new) != _shapes(old)


def _shapes(module: nn.Module) -> list[torch.Size]:
    parameters: list[Tensor] = list(module.parameters())
    return [x.shape for x in parameters]
