"""A signal stops a training between two steps; it goes on from there, and ends as if nothing had happened."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from learner_cases import calculation, small_settings, structure
from orbitrace import training
from orbitrace.graphs.shards import write_shard
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.schema import to_json
from orbitrace.training import checkpoint, stopping
from orbitrace.training.module import HamiltonianLearner

SMALL = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}
STEPS = 12


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stopping") / "0000.zarr"
    write_shard(path, ((f"run/{k}", calculation(structure(k, 3), k)) for k in range(6)))
    return path


def section(**train: object) -> LearnSection:
    settings = {
        "max_steps": STEPS, "validate_every": 4, "batch_pairs": 60, "validation": 0.3, "precision": "float64", "seed": 1,
        "accelerator": "cpu", **train,
    }  # fmt: skip
    return LearnSection(network=small_settings("deeph_e3_local", **SMALL), train=TrainSection(**settings))


@pytest.fixture(scope="module")
def whole(shard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which training was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    training.train([shard], folder / "model.pt", folder / "run", section())
    return folder


def assert_same(one: Path, other: Path) -> None:
    weights = [checkpoint.load(folder / "model.pt").weights for folder in (one, other)]
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name
    logs = [csv.DictReader((folder / "run/log.csv").read_text().splitlines()) for folder in (one, other)]
    for row, same in zip(*logs, strict=True):
        for column in ("step", "validation_mae", "learning_rate"):  # means over steps count from where it went on
            assert row[column] == same[column]


@pytest.mark.parametrize("last", [1, 4, 7])
def test_a_training_stopped_after_any_step_ends_as_if_it_had_not_been(
    shard: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Also at a validation, after which it stops with the next step; bit for bit."""
    requeued = []
    monkeypatch.setattr(stopping, "requeue", requeued.append)
    step = HamiltonianLearner.training_step

    def signalled(self: HamiltonianLearner, batch: object, number: int) -> torch.Tensor:
        if self.global_step == last - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, batch, number)

    monkeypatch.setattr(HamiltonianLearner, "training_step", signalled)
    reached = last + 1 if last % 4 == 0 else last
    with pytest.raises(stopping.StoppedError, match=f"stopped by SIGUSR1 after step {reached}"):
        training.train([shard], tmp_path / "model.pt", tmp_path / "run", section())
    assert requeued == [True]
    assert not (tmp_path / "model.pt").exists()
    monkeypatch.undo()
    training.train([shard], tmp_path / "model.pt", tmp_path / "run", section())
    assert_same(whole, tmp_path)


def command(shard: Path, folder: Path, **train: object) -> list[str]:
    program = [sys.executable, "-c", "from orbitrace.cli import main; main()", "train"]
    return [*program, str(shard), "--out", str(folder / "model.pt"), "--settings", to_json(section(**train))]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_command_that_gets_a_signal_says_so_in_one_sentence_and_goes_on(
    shard: Path, tmp_path: Path, number: signal.Signals, devices: int
) -> None:
    """With two processes the signal reaches their supervisor alone, and both stop after the same step."""
    long = {"max_steps": 4000, "validate_every": 2000, "devices": devices, "batch_pairs": 60 // devices}
    job = subprocess.Popen(command(shard, tmp_path, **long), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not (tmp_path / "run/training.json").exists():
        assert time.monotonic() < until
        assert job.poll() is None
        time.sleep(0.1)
    time.sleep(5)
    job.send_signal(number)
    said = job.communicate(timeout=300)[1]
    assert job.returncode == 2, said
    assert f"the training was stopped by {number.name} after step" in said
    assert "Traceback" not in said
    state = torch.load(tmp_path / "run/last.ckpt", weights_only=False, map_location="cpu")
    assert 0 < state["global_step"] < 2000


def test_only_a_job_that_did_not_want_to_end_queues_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of SLURM's controller notes what it is asked."""
    program = tmp_path / "scontrol"
    program.write_text(f"""#!/bin/sh
echo "$@" >> {tmp_path}/asked
[ "$1" = show ] && echo "PreemptTime=$PREEMPTED"
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stopping.requeue(True)
    assert not (tmp_path / "asked").exists()  # no job
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    for preempted, announced in (("None", False), ("2026-01-01T10:00:00", False), ("None", True)):
        monkeypatch.setenv("PREEMPTED", preempted)
        stopping.requeue(announced)
    assert (tmp_path / "asked").read_text().splitlines() == ["show job 17", "show job 17", "requeue 17", "requeue 17"]
