"""Batches read ahead by worker processes, and how long training waits for them.

A worker makes whole batches: it reads shards, makes samples and collates them. Which calculations a batch holds and in which
order batches come is decided in the training process alone, so neither depends on the number of workers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from orbitrace.errors import InputError
from orbitrace.graphs.batches import Batch, collate, mapped
from orbitrace.training import together
from orbitrace.training.data import Samples

AHEAD = 4  # batches that a worker makes before they are asked for
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Batches(Dataset[Any]):
    """Batches by the numbers of their samples; no batch for no numbers.

    In a worker process tensors travel as arrays: torch would open a file for each. An InputError is a result like any other,
    since torch would wrap its text into a traceback.
    """

    def __init__(self, samples: Samples, dtype: torch.dtype) -> None:
        self.samples, self.dtype = samples, dtype

    def __getitem__(self, numbers: Sequence[int]) -> Any:
        if not numbers:
            return None
        try:
            batch = collate([self.samples[k] for k in numbers], self.dtype)
        except InputError as error:
            return error
        return batch if torch.utils.data.get_worker_info() is None else mapped(batch, torch.Tensor, torch.Tensor.numpy)


class Loader(DataLoader[Any]):
    """Batches in the order of a sampler, made here or by worker processes that last as long as the training.

    Parameters
    ----------
    samples
        What batches are made of.
    order
        Numbers of the samples of each batch.
    dtype
        Of the batches' tensors.
    workers
        Worker processes; 0 makes batches when they are asked for.
    pinned
        Whether batches lie in page-locked memory, for fast copies to a GPU.
    """

    def __init__(
        self, samples: Samples, order: Sampler[list[int]], dtype: torch.dtype, workers: int = 0, pinned: bool = False
    ) -> None:
        # A fresh interpreter for each: a fork would inherit threads, of zarr and of gloo, and the state of the GPU.
        ahead: dict[str, Any] = {"prefetch_factor": AHEAD, "multiprocessing_context": "spawn"} if workers else {}
        super().__init__(
            Batches(samples, dtype),
            sampler=order,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            **ahead,
        )
        self.pinned = pinned
        self.waited = 0.0  # s that training spent waiting for batches

    def __iter__(self) -> Iterator[Batch | None]:  # type: ignore[override]
        # Starts at the first batch, not before: Lightning makes iterators before it says which epoch it is.
        since = time.monotonic()
        with _one_thread(self.num_workers > 0):
            batches = super().__iter__()
        for made in batches:
            if isinstance(made, InputError):
                raise made
            batch = mapped(made, np.ndarray, torch.from_numpy) if self.num_workers else made
            if self.pinned and batch is not None:
                batch = batch.pin_memory()
            self.waited += time.monotonic() - since
            yield batch
            since = time.monotonic()


class Shares(Sampler[list[int]]):
    """One sample per batch, each in one process only; those that have one less than others end with an empty batch."""

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples

    def __len__(self) -> int:
        return -(-self.n_samples // together.ranks())

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(len(self)):
            k = number * together.ranks() + together.rank()
            yield [k] if k < self.n_samples else []


def _as_it_is(item: Any) -> Any:
    return item


@contextmanager
def _one_thread(applies: bool) -> Iterator[None]:
    """Processes started inside use one thread each for numerical libraries."""
    before = {name: os.environ.get(name) for name in THREADS}
    if applies:
        os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
