"""Batches that worker processes make are those that the training process would make, and come in time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Sampler

from learner_cases import calculation, labeller, structure
from orbitrace import training
from orbitrace.errors import InputError
from orbitrace.graphs.batches import Batch, Sample, mapped
from orbitrace.graphs.shards import write_shard
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.training import callbacks, checkpoint, data
from orbitrace.training.data import Corpus, PairBatches, Samples
from orbitrace.training.loading import Loader


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loading") / "0000.zarr"
    write_shard(path, ((f"run/{k}", calculation(structure(k, 3, elements=(6,)), k)) for k in range(6)))
    return path


def tensors(batch: Batch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    mapped(batch, torch.Tensor, lambda x: (found.append(x), x)[1])
    return found


def test_batches_do_not_depend_on_who_makes_them(shard: Path) -> None:
    """Two epochs, made here and by a worker: the same tensors in the same order, that can be written to."""
    corpus = Corpus([shard])
    samples = Samples(corpus, corpus.items, labeller())
    made = []
    for workers in (0, 1):
        order = PairBatches([item.pairs for item in corpus.items], 150, 3, seed=4)
        loader = Loader(samples, order, torch.float64, workers)
        made.append([])
        for epoch in (1, 2):
            batches = iter(loader)  # before the epoch is known, as Lightning does it
            order.first = epoch * order.length
            made[-1] += list(batches)
        del loader
    assert len(made[0]) == len(made[1]) == 6
    for one, other in zip(*made, strict=True):
        for left, right in zip(tensors(one), tensors(other), strict=True):
            assert torch.equal(left, right)
            right += 0


class Complaints:
    """Samples that cannot be made; what they complain of is where they were to be made."""

    def __getitem__(self, k: int) -> Sample:
        raise InputError(f"sample {k}", f"{torch.get_num_threads()} threads, OMP_NUM_THREADS {os.environ['OMP_NUM_THREADS']}")


class Numbers(Sampler[list[int]]):
    def __len__(self) -> int:
        return 6

    def __iter__(self):
        return iter([[k] for k in range(6)])


def test_the_error_of_a_worker_is_told_as_it_is_and_a_worker_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(InputError) as error:
        next(iter(Loader(Complaints(), Numbers(), torch.float32, workers=1)))
    assert str(error.value) == "sample 0: 1 threads, OMP_NUM_THREADS 1."
    assert os.environ["OMP_NUM_THREADS"] == "3"


class Slow:
    """Samples that take a while, without work for the processor."""

    def __init__(self, corpus: Corpus) -> None:
        self.samples = Samples(corpus, corpus.items, labeller())

    def __getitem__(self, k: int) -> Sample:
        time.sleep(0.3)
        return self.samples[k]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_training_waits_is_measured_and_hidden_by_a_worker(workers: int, shard: Path) -> None:
    loader = Loader(Slow(Corpus([shard])), Numbers(), torch.float32, workers)
    batches = iter(loader)
    next(batches)
    first = loader.waited
    for _ in batches:
        time.sleep(0.6)  # a step
    assert first > 0.3
    assert (loader.waited - first > 5 * 0.3) == (workers == 0)


# --- through a whole training -----------------------------------------------------------------------------------------------

SMALL = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}


def trained(shard: Path, folder: Path, **train: object) -> None:
    settings = {"max_steps": 6, "validate_every": 2, "batch_pairs": 200, "precision": "float64", "validation": 0.3, **train}
    section = LearnSection(network=SMALL, train=TrainSection(**settings))
    training.train([shard], folder / "model.pt", folder / "run", section)


@pytest.mark.slow
def test_a_training_with_workers_that_is_stopped_and_goes_on_without_is_that_without(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(shard, tmp_path / "alone", workers=0)
    keep = callbacks.Keep.on_train_epoch_end

    def stopped(self: callbacks.Keep, trainer: object, module: object) -> None:
        keep(self, trainer, module)
        if trainer.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(BaseException):  # noqa: B017
        patch.setattr(callbacks.Keep, "on_train_epoch_end", stopped)
        trained(shard, tmp_path / "helped", workers=2)
    trained(shard, tmp_path / "helped", workers=1)
    one, other = (checkpoint.load(tmp_path / name / "model.pt").weights for name in ("alone", "helped"))
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


@pytest.mark.slow
def test_what_is_damaged_while_training_is_told_in_one_sentence(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CACHED", 0)
    note = callbacks.Keep.on_train_start

    def damage(self: callbacks.Keep, *arguments: object) -> None:
        note(self, *arguments)
        for chunk in (shard / "positions" / "c").rglob("*"):
            if chunk.is_file():
                chunk.unlink()

    monkeypatch.setattr(callbacks.Keep, "on_train_start", damage)
    with pytest.raises(InputError, match=r"0000\.zarr: the array positions cannot be read .*run `orbitrace shard` again"):
        trained(shard, tmp_path)
