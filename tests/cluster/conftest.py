"""A cluster of SLURM for the whole session, and projects to run on it: three calculations, a network too small to be good."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cluster as machinery
from cluster import MEMORY, Cluster, Job, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
LONGEST = 900.0  # s that one run of Snakemake may take
CONFIG = """
datasets: {bilayers: {path: raw}}
scan: {shard_size: 1}
models:
  tiny:
    datasets: [bilayers]
    network: {irreps: 6x0e+3x1o+2x2e, blocks: 1}
    train: {max_steps: 8, validate_every: 4, validation: 0.3, accelerator: cpu}
targets:
  known: {reference: references/AB}
bands: {solver: dense}
"""
# In place of `orbitrace`: notes the job and the stage, lets a test step in, and then does what was asked.
STAND_IN = """#!/usr/bin/env bash
[ -z "${{SLURM_JOB_ID:-}}" ] || [ "$SITE" = here ] || exit 9
echo "${{SLURM_JOB_ID:-none}} $*" >> {folder}/calls.txt
if [ -e {folder}/bin/before-$1 ]; then . {folder}/bin/before-$1; fi
exec {python} -c 'from orbitrace.cli import main; main()' "$@"
"""


class Project:
    """A folder to run Snakemake in, beside a cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.results = folder / "results"
        command = folder / "bin/orbitrace"
        command.parent.mkdir(exist_ok=True)
        command.write_text(STAND_IN.format(folder=folder, python=sys.executable))
        command.chmod(0o755)
        self._first = len(cluster.jobs())

    @property
    def environment(self) -> dict[str, str]:
        own = self.cluster.environment
        site = {"ORBITRACE_CPU_PARTITION": "cpu", "ORBITRACE_GPU_PARTITION": "gpu", "ORBITRACE_BEFORE": "export SITE=here"}
        site["ORBITRACE_MEMORY"] = str(MEMORY)
        path = {"PATH": f"{self.folder / 'bin'}:{own['PATH']}", "PYTHONPATH": str(REPOSITORY / "src")}
        home = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / ".cache")}
        return {**own, **home, **path, **site, "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Run Snakemake on the cluster, in the background; what it says lies in `said.txt`."""
        profiles = ["--profile", "slurm", "--profile", "tests/cluster/site"]
        with (self.folder / "said.txt").open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "snakemake", *profiles, *arguments],
                cwd=self.folder, env={**self.environment, **variables}, stdout=said, stderr=subprocess.STDOUT, text=True,
                start_new_session=True,
            )  # fmt: skip

    def wait(self, run: subprocess.Popen[str], seconds: float = LONGEST) -> int:
        """Wait for a run in the background; one that takes too long is ended, with its jobs."""
        try:
            return run.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end(run)
            raise AssertionError(f"Snakemake did not end in {seconds:g} s:\n{self.said}") from None

    def end(self, run: subprocess.Popen[str]) -> None:
        """End Snakemake as a user does who presses Ctrl-C, then its jobs."""
        os.killpg(run.pid, signal.SIGINT)
        try:
            run.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        self.cluster.ask("scancel", "--user=root")

    def run(self, *arguments: str, **variables: str) -> int:
        return self.wait(self.start(*arguments, **variables))

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def log(self, name: str) -> str:
        file = self.folder / f"logs/{name}.log"
        return file.read_text() if file.exists() else f"no {file}"

    def edit(self, old: str, new: str) -> None:
        """Change the configuration."""
        file = self.folder / "config.yaml"
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def before(self, stage: str, *lines: str) -> None:
        """Lines of shell that run in each job of a stage before it; without any, nothing does."""
        file = self.folder / f"bin/before-{stage}"
        file.unlink(missing_ok=True)
        if lines:
            file.write_text("\n".join(lines) + "\n")

    def calls(self) -> Counter[str]:
        """How often each stage was started."""
        file = self.folder / "calls.txt"
        return Counter(line.split()[1] for line in file.read_text().splitlines()) if file.exists() else Counter()

    def jobs(self, rule: str = "") -> list[Job]:
        """Jobs since this project was made."""
        return [job for job in self.cluster.jobs()[self._first :] if job.rule.startswith(f"rule_{rule}")]

    def running(self, rule: str) -> str:
        """Number of the job of a rule that runs; empty if there is none."""
        return next((job.id for job in self.jobs(rule) if job.state == "RUNNING"), "")

    def wait_for(self, what: str, condition: Callable[[], object], run: subprocess.Popen[str], seconds: float = 300.0) -> None:
        """Wait for something that happens while Snakemake runs."""
        try:
            wait_for(what, lambda: bool(condition()) or run.poll() is not None, seconds)
        except TimeoutError as error:
            self.end(run)
            raise AssertionError(f"{error}\n{self.said}\n{self.cluster.ask('squeue', '--states=all')}") from None
        assert condition(), f"Snakemake ended before {what}:\n{self.said}"

    def leftovers(self) -> list[str]:
        """Temporary files that nobody works on any more."""
        return [str(path.relative_to(self.folder)) for path in self.results.rglob(".*part*")]

    def state(self, pattern: str = "**/*") -> dict[str, int]:
        """When each finished file was written."""
        files = (path for path in self.results.glob(pattern) if path.is_file() and "benchmarks" not in path.parts)
        return {str(path.relative_to(self.results)): path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    reason = machinery.missing()
    if reason:
        pytest.skip(reason)
    with machinery.new() as started:
        yield started


@pytest.fixture(scope="session")
def fresh(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, example: Path) -> Project:
    """A project in which nothing was run."""
    folder = tmp_path_factory.mktemp("fresh")
    for name in ("workflow", "profiles", "envs", "tests/cluster/site"):
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copy(REPOSITORY / "Snakefile", folder)
    (folder / "slurm").symlink_to("profiles/slurm")
    for number in ("000", "001", "002"):
        shutil.copytree(example / "data/bilayers" / number, folder / "raw" / number)
    shutil.copytree(example / "references/AB", folder / "references/AB")
    (folder / "config.yaml").write_text(CONFIG)
    return Project(folder, cluster)


@pytest.fixture(scope="session")
def finished(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was run to its end."""
    project = copied(fresh, tmp_path_factory.mktemp("finished"))
    assert project.run() == 0, project.said
    return project


@pytest.fixture
def copy_of(tmp_path: Path) -> Iterator[Callable[[Project], Project]]:
    """Makes copies of projects, to be changed; their jobs end with the test."""
    made: list[Project] = []

    def copy(project: Project) -> Project:
        made.append(copied(project, tmp_path))
        return made[-1]

    yield copy
    for project in made:
        project.cluster.ask("scancel", "--user=root")


@pytest.fixture
def untrained(finished: Project, copy_of: Callable[[Project], Project]) -> Project:
    """A finished project whose model is gone: training and all that follows is due."""
    project = copy_of(finished)
    shutil.rmtree(project.results / "models/tiny")
    return project


def copied(project: Project, folder: Path) -> Project:
    shutil.copytree(project.folder, folder / "project", symlinks=True)
    (folder / "project/calls.txt").unlink(missing_ok=True)
    time.sleep(0.01)
    return Project(folder / "project", project.cluster)
