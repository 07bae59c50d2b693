"""What jobs ask of a cluster: nodes, tasks and GPUs of a training, from its settings alone; and what their inputs weigh.

Light: the Snakefile and the profile of the cluster use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from orbitrace.learning import TrainSection

CORES = 8  # of a node, for reading ahead beside the steps


class Placement(NamedTuple):
    """Cores on each node, resources in the words of Snakemake's SLURM executor, and what starts the command."""

    threads: int
    resources: Mapping[str, str | int]
    starter: str


def of(settings: TrainSection) -> Placement:
    """One task per node, which starts the processes of its devices itself (`training.processes`).

    On one node that is an ordinary job. On several it is what the executor calls an MPI job, which starts its tasks by `srun`:
    GPUs are then counted per node, since a total would let SLURM put all of them on one.
    """
    devices = settings.devices or 1
    gpus = 0 if settings.accelerator == "cpu" else devices
    threads = max(CORES, devices * (settings.threads + (settings.workers or 0)))
    if settings.nodes == 1:
        return Placement(threads, {"nodes": 1, "gpu": gpus} if gpus else {"nodes": 1}, "exec")
    nodes = settings.nodes
    resources: dict[str, str | int] = {"nodes": nodes, "tasks": nodes, "mpi": "srun"}
    command = f"exec srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --cpus-per-task={threads} --kill-on-bad-exit=1"
    if gpus:
        resources |= {"gres": f"gpu:{gpus}", "tasks_per_gpu": 0}
        command += f" --gres=gpu:{gpus}"
    return Placement(threads, resources, command)


def megabytes(paths: Iterable[str]) -> int:
    """Size of files and folders that exist, MB, rounded up: what memory and time of a job grow with."""
    found = (Path(path) for path in paths if Path(path).exists())
    return -(-sum(_bytes(path, path.stat().st_mtime_ns) for path in found) // 10**6)


@cache
def _bytes(path: Path, _: int) -> int:
    """Looked up once for each path and time of change: shards are the inputs of many jobs."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
