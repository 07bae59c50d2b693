"""How a network's products of matrices are computed: by compiled code, and in how many digits.

Reduced digits are for the linear maps between features alone (`nets.so2.SO2Linear`, `nets.pointwise.EntryLinear`), where
nearly all operations are, and only while training. Geometry, Wigner blocks, norms, invariants, the assembly of blocks and the
loss have the training's own precision, and so has everything that is validated or predicted.

* ``bf16``: operands of these maps, forward and backward, have 8 bits; sums have 24.
* ``tf32``: operands have 11 bits (on NVIDIA GPUs from Ampere on; elsewhere they keep 24). Backward this holds for all
  products: torch's switch cannot be turned within (`callbacks.Digits` turns it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from orbitrace.errors import InputError
from orbitrace.learning import TrainSection
from orbitrace.nets.pointwise import EntryLinear
from orbitrace.nets.so2 import SO2Linear

Features = list[Tensor]
Map = Callable[..., Features]
LINEAR_MAPS = (SO2Linear, EntryLinear)
SHAPES = 64  # sets of kinds of blocks for which code is made; beyond it, batches run uncompiled


def prepare(network: nn.Module, settings: TrainSection) -> None:
    """Make a network compute as the settings of training say. Its parameters and their names stay the same."""
    if settings.matmul != "float32":
        inside = _bfloat16 if settings.matmul == "bf16" else _tf32
        for module in network.modules():
            if isinstance(module, LINEAR_MAPS):
                module.forward = _reduced(module, module.forward, inside)  # type: ignore[method-assign]
    if settings.compile:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
        # Sizes of batches differ from step to step: code for any size, not for each.
        network.compile(dynamic=True, mode="reduce-overhead" if settings.cuda_graphs else None)


def _reduced(module: nn.Module, forward: Map, inside: Any) -> Map:
    """The same map with fewer digits while training; the results have as many as before."""

    def reduced(*inputs: Any) -> Features:
        if not module.training:
            return forward(*inputs)
        some = next(module.parameters())
        with inside(some.device.type):
            features = forward(*inputs)
        return [x.to(some.dtype) for x in features]

    return reduced


def _bfloat16(device: str) -> torch.autocast:
    return torch.autocast(device, dtype=torch.bfloat16)


@contextmanager
def _tf32(_: str = "") -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def explained() -> Iterator[None]:
    """What torch says when it cannot make code, in one sentence.

    Raises
    ------
    InputError
        If there is no C++ compiler, or the network cannot be compiled.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0][:200] if lines else 'no reason given'}"
        raise InputError(
            "train.compile: true",
            f"PyTorch could not make code of the network ({reason})",
            "a C++ compiler such as g++ (which the variable CXX may name), and for GPUs Triton",
            "Install one, or set compile: false, which only costs time",
        ) from error
