"""The jobs of the workflow as their logs tell: which run, and which failed and why. Light: it reads the ends of text files.

Every job has one log, whose place says which job it is. Once its output is there it is done, and no longer listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orbitrace import layout

# Log of each rule, and an output of it.
LOGS: Final = {
    "logs/shard/{dataset}/{shard}.log": layout.SHARD,
    "logs/read/{target}.log": layout.REFERENCE,
    "logs/twist/{target}.log": layout.STRUCTURE,
    "logs/take/{model}.log": layout.CHECKPOINT,
    "logs/train/{model}.log": layout.CHECKPOINT,
    "logs/evaluate/{model}.log": layout.MODEL_EVALUATION,
    "logs/overlap_table/{model}.log": layout.OVERLAP_TABLE,
    "logs/overlap/{model}/{target}.log": layout.OVERLAP,
    "logs/predict/{model}/{target}.log": layout.PREDICTION,
    "logs/bands/{model}/{target}.log": layout.BANDS,
    "logs/dos/{model}/{target}.log": layout.DOS,
    "logs/unfold/{model}/{target}.log": layout.UNFOLD,
    "logs/evaluate/{model}/{target}.log": layout.TARGET_EVALUATION,
    "logs/train_setup/{model}/{setup}/{seed}.log": layout.SETUP_CHECKPOINT,
    "logs/evaluate_setup/{model}/{setup}/{seed}/{set}.log": layout.SETUP_ERRORS,
    "logs/report.log": layout.REPORT,
}
_TAIL = 4096  # bytes of a log that are looked at
_LINES = 5
# What `orbitrace` says last when it gives up, and Snakemake's locks while it runs in a folder.
_GAVE_UP = "orbitrace: "
_LOCKS = ".snakemake/locks"


@dataclass(frozen=True)
class Job:
    """A job whose output is not there: its stage and names, whether it still runs, its log, and the last lines of that."""

    stage: str
    names: str
    running: bool
    log: str
    last: tuple[str, ...]

    @property
    def cause(self) -> str:
        """Why it failed, as far as it could say that itself."""
        said = [line for line in self.last if line.startswith(_GAVE_UP)]
        return said[-1].removeprefix(_GAVE_UP) if said else "it ended without a word: killed, perhaps for memory or time"


def unfinished(root: Path = Path()) -> list[Job]:
    """The jobs that were started and did not finish, running ones first; by name.

    A job runs if it did not give up and some Snakemake is at work in the folder.
    """
    at_work = (root / _LOCKS).is_dir() and any((root / _LOCKS).iterdir())
    jobs = []
    for log in sorted((root / "logs").rglob("*.log")):
        place = log.relative_to(root).as_posix()
        for pattern, output in LOGS.items():
            names = _matched(pattern, place)
            if names is not None and not (root / output.format(**names)).exists():
                last = _last_lines(log)
                gave_up = any(line.startswith(_GAVE_UP) for line in last)
                jobs.append(Job(pattern.split("/")[1].removesuffix(".log"), "/".join(names.values()), at_work and not gave_up,
                                place, last or _cluster_says(root, pattern, names)))  # fmt: skip
    return sorted(jobs, key=lambda job: not job.running)


def job_lines(root: Path = Path()) -> Iterator[str]:
    """What `orbitrace status` says of them."""
    for job in unfinished(root):
        name = f"{job.stage} {job.names}".strip()
        if job.running:
            yield f"running: {name}" + (f": {job.last[-1]}" if job.last else "")
        else:
            yield f"failed: {name}: {job.cause}"
            yield from (f"    {line}" for line in job.last)
            yield f"    ({job.log})"


def _matched(pattern: str, place: str) -> dict[str, str] | None:
    """Names in the place of a log, if it has this pattern."""
    expression = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(pattern))
    found = re.fullmatch(expression, place)
    return None if found is None else found.groupdict()


def _last_lines(log: Path) -> tuple[str, ...]:
    with log.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - _TAIL))
        lines = stream.read().decode(errors="replace").splitlines()
    return tuple([line.rstrip() for line in lines if line.strip()][-_LINES:])


def _cluster_says(root: Path, pattern: str, names: dict[str, str]) -> tuple[str, ...]:
    """Where the job said nothing: the end of what SLURM noted of it."""
    rule = pattern.split("/")[1].removesuffix(".log")
    folder = root / "logs/slurm" / f"rule_{rule}" / "_".join(names.values())
    logs = sorted(folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
    return _last_lines(logs[-1]) if logs else ()
