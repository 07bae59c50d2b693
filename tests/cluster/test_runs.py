"""The workflow on a real SLURM; and jobs that are killed: rerunning finishes the work, and redoes nothing that was done."""

import csv
import json
import shutil
import subprocess
import sys
from itertools import pairwise

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

CHECKPOINT = "results/models/tiny/checkpoint.pt"
REFERENCE = "results/targets/known/reference"
SHARDS = [f"results/datasets/bilayers/shards/000{k}.zarr" for k in range(3)]
SHORT = "max_steps: 8, validate_every: 4"
# Long enough for something to happen meanwhile.
LONG = "max_steps: 240, validate_every: 80"
# Shell: note the step that a training goes on from.
NOTE_STEP = f"""{sys.executable} -c 'import sys, torch
print(torch.load(sys.argv[1], weights_only=False, map_location="cpu")["global_step"])' results/models/tiny/run/last.ckpt \
>> steps.txt 2> /dev/null || echo 0 >> steps.txt"""


def nothing_is_due(project, *targets):
    """A second run does nothing."""
    calls = project.calls()
    assert project.run(*targets) == 0, project.said
    assert "Nothing to be done" in project.said
    assert project.calls() == calls
    assert project.leftovers() == []


def test_everything_runs_on_the_cluster_and_nothing_is_left_to_do(finished):
    rules = sorted(job.rule.split("_wildcards")[0].removeprefix("rule_") for job in finished.jobs())
    assert rules == sorted([
        *3 * ["shard"], "read", "train", "evaluate", "overlap_table", "overlap", "predict", "bands", "evaluate_target",
    ])  # fmt: skip
    assert {job.state for job in finished.jobs()} == {"COMPLETED"}
    (train,) = finished.jobs("train")
    assert (train.partition, train.nodes, train.cores) == ("gpu", "1", "8")
    assert {job.partition for job in finished.jobs("shard") + finished.jobs("bands")} == {"cpu"}
    table = json.loads((finished.results / "predictions/tiny/known/evaluation.json").read_text())
    assert 0 < table["hamiltonian"]["mae"] < 1000
    assert "<svg" in (finished.results / "report.html").read_text()
    nothing_is_due(finished)


def test_jobs_killed_for_memory_or_time_are_sent_again_with_more(fresh, copy_of):
    project = copy_of(fresh)
    # A process that holds more than the 2000 MB that a job of rule read asks for at first.
    project.before("read", f"{sys.executable} -c 'import time; held = b\"x\" * 2_500_000_000; time.sleep(5)'")
    sleep = "echo $SLURM_JOB_ID > sleeping; sleep 900"
    project.before("shard", f"[ $6 != 0001 -o -e sleeping ] || {{ {sleep}; }}")
    run = project.start(*SHARDS, REFERENCE)
    sleeping = project.folder / "sleeping"
    project.wait_for("the sleeping job", lambda: sleeping.exists() and sleeping.read_text(), run)
    project.cluster.ask("scontrol", "update", f"JobId={sleeping.read_text().strip()}", "TimeLimit=1")
    assert project.wait(run) == 0, project.said
    assert [(job.state, job.memory) for job in project.jobs("read")] == [("FAILED", "2000M"), ("COMPLETED", "4000M")]
    assert sorted(job.state for job in project.jobs("shard")) == [*3 * ["COMPLETED"], "TIMEOUT"]
    assert project.calls() == {"shard": 4, "read": 2}
    nothing_is_due(project, *SHARDS, REFERENCE)


def test_a_training_whose_node_others_need_saves_queues_again_and_goes_on(untrained):
    project = untrained
    project.edit(SHORT, LONG)
    project.before("train", NOTE_STEP)
    run = project.start(CHECKPOINT)
    project.wait_for("some steps", lambda: (project.results / "models/tiny/run/log.csv").exists(), run)
    project.cluster.ask("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap", "sleep 1")
    project.wait_for("the training to start again", lambda: project.calls()["train"] == 2, run)
    assert project.wait(run) == 0, project.said
    (job,) = project.jobs("train")
    assert job.state == "COMPLETED"
    first, second = map(int, (project.folder / "steps.txt").read_text().split())
    assert first == 0
    assert 80 < second < 240
    assert second % 80 != 0  # saved where the signal came
    steps = [row["step"] for row in csv.DictReader((project.results / "models/tiny/run/log.csv").read_text().splitlines())]
    assert steps == ["80", "160", "240"]
    nothing_is_due(project, CHECKPOINT)


def test_a_cancelled_training_goes_on_and_a_dead_controller_stops_nothing(untrained):
    project = untrained
    project.edit(SHORT, LONG)
    project.before("train", NOTE_STEP)
    log = project.results / "models/tiny/run/log.csv"
    run = project.start(CHECKPOINT)
    project.wait_for("some steps", log.exists, run)
    project.cluster.kill_controller()
    project.wait_for("steps without a controller", lambda: log.read_text().count("\n") > 2, run)
    project.cluster.start_controller()
    project.wait_for("the job to be known again", lambda: project.running("train"), run)
    project.cluster.ask("scancel", project.running("train"))
    assert project.wait(run) == 0, project.said
    assert [job.state for job in project.jobs("train")] == ["CANCELLED", "COMPLETED"]
    steps = [*map(int, (project.folder / "steps.txt").read_text().split())]
    assert all(one < other for one, other in pairwise(steps))
    assert steps[1] >= 80
    assert project.calls() == {"train": 2}
    nothing_is_due(project, CHECKPOINT)


def test_a_training_on_two_nodes_is_one_training(untrained):
    project = untrained
    project.edit(SHORT, f"{SHORT}, nodes: 2")
    assert project.run(CHECKPOINT, MASTER_ADDR="127.0.0.1") == 0, project.said + project.log("train/tiny")
    (job,) = project.jobs("train")
    assert (job.state, job.nodes) == ("COMPLETED", "2")
    assert (project.results / "models/tiny/run/identity").read_text().split()[2] == "2000"  # pairs of a step: of both nodes
    assert project.calls() == {"train": 2}  # one task on each
    nothing_is_due(project, CHECKPOINT)


def test_a_full_disk_leaves_nothing_half_written_and_what_was_finished_stays(fresh, copy_of):
    project = copy_of(fresh)
    project.results.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(project.results)], check=False)
    if mount.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        assert project.run(*SHARDS, REFERENCE, "--retries", "0") == 1
        assert "No space left on device" in "".join(file.read_text() for file in project.folder.glob("logs/**/*.log"))
        assert project.leftovers() == []
        assert not [path for path in project.results.glob("**/*.zarr") if not (path / "zarr.json").exists()]
        subprocess.run(["mount", "-o", "remount,size=500m", str(project.results)], check=True)
        kept = {path: state for path, state in project.state().items() if path.endswith("zarr.json")}
        assert project.run(*SHARDS, REFERENCE) == 0, project.said
        assert kept.items() <= project.state().items()
        nothing_is_due(project, *SHARDS, REFERENCE)
        shutil.copytree(project.results, project.folder / "copy")
    finally:
        subprocess.run(["umount", "-l", str(project.results)], check=True)
