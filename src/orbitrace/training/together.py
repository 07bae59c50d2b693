"""Several processes as one: means over all of them, and who writes files.

Each process holds a share of the batch, and `torch`'s DDP averages the gradients of all processes. Shares hold different
numbers of elements, so a mean over the whole batch is no mean of the processes' means. `mean` returns the mean over all of
them, with the gradient that becomes that of the whole batch once it is averaged: whatever loss is made of such means trains
as one process with the whole batch would, to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _several() else 0


def ranks() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _several() else 1


def first() -> bool:
    """Whether this process writes files: of all, the first."""
    return rank() == 0


def mean(values: Tensor) -> Tensor:
    """Mean of all elements of all processes' tensors, whatever their sizes; its gradient is meant to be averaged by DDP.

    Every process must call it, equally often and in the same order.
    """
    if ranks() == 1:
        return values.mean()
    return _mean(values, _sums(values))


def mean_of_some(values: Tensor) -> Tensor | None:
    """The same where a process may have no element; None if none has any."""
    if ranks() == 1:
        return values.mean() if values.numel() else None
    sums = _sums(values)
    return _mean(values, sums) if float(sums[1]) > 0 else None


def _sums(values: Tensor) -> Tensor:
    """Sum and number of all processes' elements: [2], float64."""
    total = values.detach().sum(dtype=torch.float64)
    sums = torch.stack([total, total.new_tensor(values.numel())])
    distributed.all_reduce(sums)
    return sums


def _mean(values: Tensor, sums: Tensor) -> Tensor:
    own = values.sum() * (ranks() / sums[1]).to(values.dtype)
    return own + ((sums[0] / sums[1]).to(values.dtype) - own.detach())


def summed(values: list[float], device: torch.device | str = "cpu") -> list[float]:
    """Numbers added up over all processes, in float64."""
    return _reduced(values, distributed.ReduceOp.SUM, device)


def largest(value: float, device: torch.device | str = "cpu") -> float:
    """The largest of a number over all processes."""
    return _reduced([value], distributed.ReduceOp.MAX, device)[0]


def wait_for_all() -> None:
    """Return when every process has come here."""
    if _several():
        distributed.barrier()


def _reduced(values: list[float], operation: distributed.ReduceOp.RedOpType, device: torch.device | str) -> list[float]:
    if ranks() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(tensor, operation)
    result: list[float] = tensor.tolist()
    return result


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
