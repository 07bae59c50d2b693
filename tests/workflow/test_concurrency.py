"""Two workflows in one folder, and one that is killed: locked or clean, never corrupt; what was finished stays."""

import os
import signal
import subprocess
import sys
import time

import pytest

# A stage that writes half of its output, says so, and waits until it is told to go on.
HALFWAY = """
if [ "$1" = read ]; then
  mkdir -p results/targets/known/reference; echo half > results/targets/known/reference/info.json
  touch halfway; while [ -e halfway ]; do sleep 0.1; done
fi
"""


@pytest.fixture
def halfway(fresh, copy_of):
    """A project, and a workflow in it that is in the middle of a file."""
    project = copy_of(fresh)
    stand_in = project.folder / "bin/orbitrace"
    stand_in.write_text(stand_in.read_text().replace("stage=$1\n", f"stage=$1\n{HALFWAY}", 1))
    environment = {**os.environ, "HOME": str(project.folder), "PATH": f"{project.folder / 'bin'}:{os.environ['PATH']}"}
    environment.pop("SNAKEMAKE_PROFILE", None)
    said = (project.folder / "said.txt").open("w")
    first = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", "results/targets/known/reference"],
        cwd=project.folder, env=environment, stdout=said, stderr=said, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (project.folder / "halfway").exists():
        assert first.poll() is None, (project.folder / "said.txt").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)
    yield project, first
    said.close()
    if first.poll() is None:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def test_a_second_workflow_in_the_folder_is_refused_and_disturbs_nothing(halfway):
    project, first = halfway
    second = project.snakemake()
    assert second.returncode == 1
    assert "cannot be locked" in second.stdout + second.stderr
    assert project.snakemake("--dry-run").returncode == 0  # to look is allowed
    assert not (project.folder / "results/models").exists()
    (project.folder / "halfway").unlink()
    assert first.wait(120) == 0, (project.folder / "said.txt").read_text()
    assert "half" not in (project.folder / "results/targets/known/reference/info.json").read_text()


def test_after_a_workflow_was_killed_what_it_half_wrote_is_made_anew(halfway):
    project, first = halfway
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (project.folder / "halfway").unlink()
    assert "half" in (project.folder / "results/targets/known/reference/info.json").read_text()
    stand_in = project.folder / "bin/orbitrace"
    stand_in.write_text(stand_in.read_text().replace(HALFWAY, ""))
    assert "--unlock" in project.snakemake().stderr  # says what to do
    assert project.snakemake("--unlock").returncode == 0
    done = project.snakemake("results/targets/known/reference")
    assert done.returncode == 0, done.stderr
    assert "half" not in (project.folder / "results/targets/known/reference/info.json").read_text()
    assert project.plan("results/targets/known/reference") == {}
