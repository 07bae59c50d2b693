"""Training: exact resume, checkpoints that are always usable, and what is refused."""

import csv
from pathlib import Path

import pytest
import torch

from orbitrace import readers, training
from orbitrace.config import LearnSection, TrainSection
from orbitrace.errors import InputError
from orbitrace.graphs.shards import write_shard
from orbitrace.training import callbacks, checkpoint
from orbitrace.training.data import Corpus, PairBatches

SMALL = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}


@pytest.fixture(scope="session")
def shard(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The AB cell and three bilayers."""
    folders = [example / "references" / "AB", *(example / "data" / "bilayers" / f"00{k}" for k in range(3))]
    path = tmp_path_factory.mktemp("shards") / "0000.zarr"
    write_shard(path, ((folder.name, readers.read(folder)) for folder in folders))
    return path


def section(**train: object) -> LearnSection:
    settings = {"max_steps": 8, "validate_every": 2, "batch_pairs": 1000, "validation": 0.3, "precision": "float64", **train}
    return LearnSection(network=SMALL, train=TrainSection(**settings))


def test_training_killed_halfway_and_resumed_equals_training_in_one_go(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.train([shard], tmp_path / "whole" / "model.pt", tmp_path / "whole" / "run", section())

    keep = callbacks.Keep.on_train_epoch_end

    def killed(self: callbacks.Keep, trainer: object, module: object) -> None:
        keep(self, trainer, module)
        if trainer.global_step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.Keep, "on_train_epoch_end", killed)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning turns the interrupt into SystemExit
        training.train([shard], tmp_path / "halves" / "model.pt", tmp_path / "halves" / "run", section())
    assert checkpoint.load(tmp_path / "halves" / "run" / "best.pt").metrics["step"] <= 4
    assert not (tmp_path / "halves" / "model.pt").exists()
    monkeypatch.undo()
    training.train([shard], tmp_path / "halves" / "model.pt", tmp_path / "halves" / "run", section())

    logs = [list(csv.DictReader((tmp_path / way / "run" / "log.csv").read_text().splitlines())) for way in ("whole", "halves")]
    for one, other in zip(*logs, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    one, other = (checkpoint.load(tmp_path / way / "model.pt") for way in ("whole", "halves"))
    assert one.metrics["step"] == other.metrics["step"]
    for name, weight in one.weights.items():
        assert torch.equal(weight, other.weights[name]), name
