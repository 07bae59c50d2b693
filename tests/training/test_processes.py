"""Several processes that train together: they do what one does, and the death of one is told and harmless."""

from __future__ import annotations

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
from orbitrace import plugins, training
from orbitrace.errors import InputError
from orbitrace.graphs.shards import write_shard
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.schema import to_json
from orbitrace.training import checkpoint, processes

SMALL = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}
ELEMENTS = [(6,), (1, 5, 6), (5, 6), (1,), (6,), (1, 6), (1, 5, 6), (5,), (1, 5), (6,)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calculations of all sizes; most lack some element, so that processes lack kinds of blocks that others have."""
    path = tmp_path_factory.mktemp("processes") / "0000.zarr"
    several = (calculation(structure(k, 2 + k % 4, elements=elements), k) for k, elements in enumerate(ELEMENTS))
    write_shard(path, ((f"run/{k}", c) for k, c in enumerate(several)))
    return path


def section(model: str = "deeph_e3_local", **train: object) -> LearnSection:
    settings = {
        "max_steps": 20, "validate_every": 5, "batch_pairs": 150, "validation": 0.3, "precision": "float64",
        "gradient_clip": 0.5, "learning_rate": 0.003, "loss": {"mse": 0.5}, "seed": 1, "accelerator": "cpu", **train,
    }  # fmt: skip
    return LearnSection(model=model, network=small_settings(model, **SMALL), train=TrainSection(**settings))


def rows_of(folder: Path) -> list[dict[str, float]]:
    """By step: a kill between the line of the log and the state to resume from repeats a line."""
    rows = csv.DictReader((folder / "run" / "log.csv").read_text().splitlines())
    kept = [{k: float(v) for k, v in row.items() if v and k not in ("seconds", "wait")} for row in rows]
    return list({row["step"]: row for row in kept}.values())


def assert_same_training(one: Path, other: Path, tolerance: float) -> None:
    for left, right in zip(rows_of(one), rows_of(other), strict=True):
        assert left == pytest.approx(right, rel=tolerance)
    weights = [checkpoint.load(folder / "model.pt").weights for folder in (one, other)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def two(shard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have trained."""
    folder = tmp_path_factory.mktemp("two")
    training.train([shard], folder / "model.pt", folder / "run", section(devices=2))
    return folder


def test_two_processes_train_as_one_with_the_same_batches(shard: Path, two: Path, tmp_path: Path) -> None:
    """Same losses, errors and weights, although processes hold different numbers of elements of H, and 3 to validate on."""
    training.train([shard], tmp_path / "model.pt", tmp_path / "run", section(batch_pairs=300))
    assert len(rows_of(tmp_path)) == 4
    assert len(checkpoint.load(two / "model.pt").split["validation"]) == 3
    assert_same_training(tmp_path, two, 1e-7)
    assert sorted(file.name for file in (two / "run").iterdir()) == [
        "best.pt", "identity", "last.ckpt", "log.csv", "training.json",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", plugins.names("models"))
def test_processes_train_every_model_as_one(shard: Path, tmp_path: Path, model: str) -> None:
    for name, where in {"one": {"batch_pairs": 300}, "two": {"devices": 2}}.items():
        training.train([shard], tmp_path / name / "model.pt", tmp_path / name / "run", section(model, max_steps=10, **where))
    assert_same_training(tmp_path / "one", tmp_path / "two", 1e-6)


# --- processes that die -----------------------------------------------------------------------------------------------------


def command(shard: Path, folder: Path, **train: object) -> list[str]:
    """What a rule of the workflow runs."""
    program = [sys.executable, "-c", "from orbitrace.cli import main; main()", "train"]
    return [*program, str(shard), "--out", str(folder / "model.pt"), "--settings", to_json(section(**train))]


def children(pid: int) -> dict[str, int]:
    """Rank -> number of each process that a supervisor started."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
            variables = dict(entry.split("=", 1) for entry in (place / "environ").read_text().split("\0") if "=" in entry)
        except (OSError, IndexError):
            continue
        if parent == pid and "RANK" in variables:
            found[variables["RANK"]] = int(place.name)
    return found


def wait_until(condition: object, job: subprocess.Popen[str], seconds: float = 900) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def killed_after_its_first_validation(shard: Path, folder: Path, rank: str) -> tuple[subprocess.Popen[str], dict[str, int]]:
    """A training of two processes, one of which (or their supervisor) was ended by SIGKILL."""
    job = subprocess.Popen(command(shard, folder, devices=2), stderr=subprocess.PIPE, text=True)
    wait_until((folder / "run" / "last.ckpt").exists, job)
    ranks = children(job.pid)
    assert sorted(ranks) == ["0", "1"]
    os.kill(job.pid if rank == "supervisor" else ranks[rank], signal.SIGKILL)
    return job, ranks


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_process_ends_the_training_which_can_go_on(rank: str, shard: Path, two: Path, tmp_path: Path) -> None:
    job, _ = killed_after_its_first_validation(shard, tmp_path, rank)
    began = time.monotonic()
    _, told = job.communicate(timeout=60)
    assert time.monotonic() - began < 2 * processes.GRACE
    assert job.returncode == 2
    assert f"process {rank} of the 2 that train together (0 to 1) was ended by signal SIGKILL" in told
    assert "Run the same command again: training goes on from its last validation" in told
    assert "Traceback" not in told
    assert not (tmp_path / "model.pt").exists()
    subprocess.run(command(shard, tmp_path, devices=2), check=True, timeout=900)
    assert rows_of(tmp_path) == rows_of(two)
    assert_same_training(tmp_path, two, 1e-12)


@pytest.mark.slow
def test_no_process_outlives_its_supervisor(shard: Path, tmp_path: Path) -> None:
    job, ranks = killed_after_its_first_validation(shard, tmp_path, "supervisor")
    job.communicate(timeout=60)
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in ranks.values()):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_an_error_of_one_process_is_told_once_and_in_its_own_words(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"diverged: after 5 steps.*Lower learning_rate"):
        training.train([shard], tmp_path / "model.pt", tmp_path / "run", section(devices=2, learning_rate=1e30, warmup=0.0))


@pytest.mark.slow
def test_processes_that_srun_starts_are_used(shard: Path, two: Path, tmp_path: Path) -> None:
    """With the variables that SLURM sets for two tasks of one node."""
    common = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NODEID": "0"}
    jobs = []
    for rank in ("0", "1"):
        environment = {**os.environ, **common, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        jobs.append(subprocess.Popen(command(shard, tmp_path, devices=2), env=environment))
    assert [job.wait(timeout=900) for job in jobs] == [0, 0]
    assert_same_training(tmp_path, two, 1e-12)


# --- who starts processes ---------------------------------------------------------------------------------------------------


def nothing() -> None:
    raise AssertionError("not to be called")


def test_several_nodes_need_someone_who_starts_processes_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"devices x nodes is 4, but one process was started.*srun --nodes"):
        processes.run(nothing, TrainSection(nodes=2, devices=2, accelerator="cpu"), tmp_path)


def test_tasks_that_fit_neither_devices_nor_nodes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    with pytest.raises(InputError, match="devices x nodes is 2, but 3 processes were started by srun"):
        processes.run(nothing, TrainSection(devices=2, accelerator="cpu"), tmp_path)


def test_gpus_that_are_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"sees 1 GPUs.*as many GPUs as devices"):
        processes.run(nothing, TrainSection(devices=2, accelerator="gpu"), tmp_path)


@pytest.mark.parametrize(
    ("nodes", "host"), [("gpu[03-05,9],login", "gpu03"), ("n1", "n1"), ("a-1,b", "a-1"), ("rack2-n[7,9]", "rack2-n7")]
)
def test_the_first_host_is_found_in_the_list_of_slurm(nodes: str, host: str) -> None:
    assert processes.first_host(nodes) == host
