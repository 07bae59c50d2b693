"""A project in a folder of its own, whose stages are stand-ins: they write what the rules expect, at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

CONFIG = """
datasets: {graphene: {}, nitride: {}}
scan: {shard_size: 2}
models:
  carbon: {datasets: [graphene]}
  both: {datasets: [graphene, nitride]}
targets:
  known: {reference: references/known, models: [carbon]}
  twisted: {twist: {m: 1, n: 2}, models: [carbon]}
"""

# Each file it writes differs from any other, as the results of real stages on other data would.
STAND_IN = """#!/usr/bin/env bash
echo "$@" >> calls.txt
stage=$1
while [ $# -gt 0 ]; do
  case "$1 $2" in
    "--out "*.*|"--quarantine "*) echo "$RANDOM$RANDOM $SECONDS" > "$2" ;;
    "--out "*) mkdir -p "$2"; echo $RANDOM$RANDOM > "$2/info.json" ;;
  esac
  case "$stage $1 $2" in
    "shard --out "*) rm "$2"; mkdir "$2"; echo $RANDOM$RANDOM > "$2/zarr.json" ;;
    "bands --out "*) echo $RANDOM > "${2%.h5}.png" ;;
    "ablate --out "*) touch "${2%.json}.csv" "${2%.json}.md" ;;
  esac
  shift
done
"""


class Project:
    """A folder to run Snakemake in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""  # by the last plan

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake with the stand-ins first on the path."""
        home = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / ".cache"), "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **home, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        environment.pop("SNAKEMAKE_PROFILE", None)
        command = [sys.executable, "-m", "snakemake", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def plan(self, *arguments: str) -> dict[str, int]:
        """Jobs of each rule that a run would start."""
        done = self.snakemake("-n", *arguments)
        text = self.said = done.stdout + done.stderr
        assert done.returncode == 0, text
        if "Nothing to be done" in text:
            return {}
        table = text.rsplit("Job stats:", 1)[1].strip().splitlines()[2:]
        rows = (line.split() for line in table[: next(i for i, line in enumerate(table) if line.startswith("total"))])
        return {rule: int(count) for rule, count in rows if rule != "all"}

    def edit(self, old: str, new: str) -> None:
        """Change the configuration."""
        file = self.folder / "config.yaml"
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def calculate(self, name: str, text: str = "0") -> None:
        """Drop in a raw calculation."""
        file = self.folder / name / "openmx.scfout"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Project:
    """A project in which nothing was run."""
    project = Project(tmp_path_factory.mktemp("fresh"))
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(REPOSITORY / name, project.folder / name)
    shutil.copy(REPOSITORY / "Snakefile", project.folder)
    (project.folder / "slurm").symlink_to("profiles/slurm")
    (project.folder / "config.yaml").write_text(CONFIG)
    for number in range(4):
        project.calculate(f"data/graphene/deep/{number}")
    project.calculate("data/nitride/0")
    project.calculate("references/known")
    stand_in = project.folder / "bin" / "orbitrace"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    return project


@pytest.fixture(scope="session")
def finished(fresh, tmp_path_factory) -> Project:
    """A project that was run to its end."""
    project = copied(fresh, tmp_path_factory.mktemp("finished"))
    done = project.snakemake()
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="session")
def finished_ablation(finished, tmp_path_factory) -> Project:
    """A finished project after an ablation."""
    project = copied(finished, tmp_path_factory.mktemp("ablation"))
    done = project.snakemake("ablate")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def copy_of(tmp_path):
    """Makes copies of projects, to be changed."""
    return lambda project: copied(project, tmp_path)


@pytest.fixture
def project(finished, copy_of) -> Project:
    """A copy of the finished project, to be changed."""
    return copy_of(finished)


def copied(project: Project, folder: Path) -> Project:
    shutil.copytree(project.folder, folder / "project", symlinks=True)
    return Project(folder / "project")
