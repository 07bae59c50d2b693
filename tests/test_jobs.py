"""Jobs as their logs tell: what runs, what failed and why; what is done is not listed."""

import re
from pathlib import Path

import pytest

from orbitrace import layout
from orbitrace.jobs import LOGS, job_lines, unfinished

REPOSITORY = Path(__file__).resolve().parent.parent
NOT_LISTED = {"logs/ablate.log"}  # of the rule that makes the table alone


def log(root: Path, place: str, text: str) -> None:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def at_work(root: Path) -> None:
    log(root, ".snakemake/locks/0.input.lock", "")


def test_every_log_of_the_rules_is_known():
    rules = "".join(file.read_text() for file in (REPOSITORY / "workflow/rules").glob("*.smk"))
    assert {*re.findall(r'"(logs/[^"]+\.log)"', rules)} - NOT_LISTED == set(LOGS)


def test_what_is_done_is_not_listed(tmp_path):
    log(tmp_path, "logs/train/small.log", "step 4/8")
    log(tmp_path, layout.CHECKPOINT.format(model="small"), "weights")
    assert unfinished(tmp_path) == []
    assert unfinished(tmp_path / "nowhere") == []


def test_a_failure_is_shown_with_its_cause_its_last_lines_and_its_log(tmp_path):
    log(tmp_path, "logs/predict/small/known.log", "one\ntwo\n\norbitrace: overlap.h5: is damaged. Expected another.\n")
    assert [*job_lines(tmp_path)] == [
        "failed: predict small/known: overlap.h5: is damaged. Expected another.",
        "    one",
        "    two",
        "    orbitrace: overlap.h5: is damaged. Expected another.",
        "    (logs/predict/small/known.log)",
    ]


def test_a_job_runs_while_snakemake_does_unless_it_gave_up(tmp_path):
    at_work(tmp_path)
    log(tmp_path, "logs/train/small.log", "step 4/8\nstep 8/80\n")
    log(tmp_path, "logs/train/large.log", "orbitrace: shards: none were given.\n")
    log(tmp_path, "logs/shard/bilayers/0003.log", "")
    lines = [*job_lines(tmp_path)]
    assert lines[:3] == [
        "running: shard bilayers/0003",
        "running: train small: step 8/80",
        "failed: train large: shards: none were given.",
    ]


def test_a_job_that_was_killed_is_explained_by_the_cluster(tmp_path):
    log(tmp_path, "logs/bands/small/known.log", "")
    log(
        tmp_path,
        "logs/slurm/rule_bands/small_known/12.log",
        "slurmstepd: error: exceeded memory limit, being killed\n",
    )
    first, second, _ = job_lines(tmp_path)
    assert first == "failed: bands small/known: it ended without a word: killed, perhaps for memory or time"
    assert "exceeded memory limit" in second


@pytest.mark.parametrize("pattern", LOGS)
def test_each_log_belongs_to_one_job(tmp_path, pattern):
    log(tmp_path, re.sub(r"\{(\w+)\}", r"\1", pattern), "one line")
    assert len(unfinished(tmp_path)) == 1
