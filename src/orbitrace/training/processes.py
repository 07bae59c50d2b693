"""Several processes for one training: who starts them, how they find each other, and what is said when one of them dies.

* On one node `supervised` starts one process per device, watches them, and ends all when one ends badly.
* Under ``srun`` either every task is one process (``--ntasks-per-node`` = devices), or every node has one task, which starts
  and watches the processes of its node (``--ntasks-per-node 1``).
* What ``torchrun`` started is taken as it is.

Light: the process that watches never imports Lightning.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from orbitrace.errors import InputError
from orbitrace.learning import TrainSection
from orbitrace.training.stopping import SIGNALS, Stop

GRACE = 10.0  # s that the other processes may take to say what happened to them, once one has ended badly
Work = Callable[[], None]


class LostError(InputError):
    """Another process does not answer any more; what happened to it is known elsewhere."""


@dataclass(frozen=True)
class Place:
    """Where in a training on several nodes this process stands: its node, and where the first process listens."""

    node: int
    address: str
    port: int


def run(work: Work, settings: TrainSection, workdir: Path) -> None:
    """Do some work in as many processes as the settings ask for. It must be picklable if that is more than one.

    Raises
    ------
    InputError
        If there are not as many devices or processes as asked for, or one of the processes ends before its work is done.
    """
    devices = devices_per_node(settings)
    ranks = devices * settings.nodes
    tasks = _tasks()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _check_number(int(os.environ["WORLD_SIZE"]), ranks, "torchrun")
        work()
    elif tasks == 1 and ranks == 1:
        work()
    elif tasks == 1 and settings.nodes == 1:
        supervised(work, devices, settings, Place(0, "127.0.0.1", _free_port()), workdir)
    elif tasks == settings.nodes:
        supervised(work, devices, settings, _place_in_slurm(), workdir)
    else:
        _check_number(tasks, ranks, "srun")
        place = _place_in_slurm()
        os.environ.update(_environment(place, int(os.environ["SLURM_LOCALID"]), devices, settings))
        work()


def devices_per_node(settings: TrainSection) -> int:
    """Processes of one node: one for each device that is asked for, or for each GPU.

    Raises
    ------
    InputError
        If there are not as many GPUs as asked for.
    """
    if not on_gpu(settings):
        return settings.devices or 1
    import torch

    found = torch.cuda.device_count()
    wanted = settings.devices or found
    if found == 0 or wanted > found:
        raise InputError(
            f"train.accelerator: {settings.accelerator}, devices: {settings.devices or 'all'}",
            f"this process sees {found} GPUs (PyTorch {torch.__version__})",
            "as many GPUs as devices, all of them seen by every process of a node",
            "Ask the cluster for GPUs per node and not per task, install a PyTorch with CUDA, or set accelerator: cpu",
        )
    return wanted


def on_gpu(settings: TrainSection) -> bool:
    """Whether a training runs on GPUs."""
    if settings.accelerator != "auto":
        return settings.accelerator == "gpu"
    import torch

    return bool(torch.cuda.is_available())


def supervised(work: Work, devices: int, settings: TrainSection, place: Place, workdir: Path) -> None:
    """Start the processes of this node and wait for them; end all of them when one ends badly, and say why.

    Raises
    ------
    InputError
        That of a process, or one that says which process died.
    """
    # A fresh interpreter for each: a fork would share the threads of numerical libraries, which cannot be shared.
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    pipes: list[Connection] = []
    stop = Stop(workdir)
    try:
        for k in range(devices):
            mine, theirs = context.Pipe(duplex=False)
            with _environment_of_children(_environment(place, k, devices, settings)):
                process = context.Process(target=_rank, args=(work, theirs), name=f"rank {place.node * devices + k}")
                process.start()
            theirs.close()
            processes.append(process)
            pipes.append(mine)
        with stop.listening():
            _watch(processes, stop)
        failures = [_told(pipe) for pipe in pipes]
        codes = [process.exitcode for process in processes]
    finally:
        _end(processes)
    _raise_first(failures, codes, place.node * devices, devices * settings.nodes, workdir)


def _watch(processes: Sequence[SpawnProcess], stop: Stop) -> None:
    """Return when all have ended, or `GRACE` after the first that ended badly; hand on what asks to stop."""
    deadline: float | None = None
    while running := [p.sentinel for p in processes if p.is_alive()]:
        if deadline is None and any(p.exitcode for p in processes):
            deadline = time.monotonic() + GRACE
        if deadline is not None and deadline <= time.monotonic():
            return
        for process in processes if stop.asked else ():  # again and again: one that still starts does not listen yet
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, stop.asked)
        wait(running, 1.0)


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End what still runs. Nothing is lost: files are written whole or not at all."""
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()


def _told(pipe: Connection) -> BaseException | str | None:
    """What a process said when it failed: an InputError, or the traceback of anything else."""
    try:
        told: BaseException | str | None = pipe.recv() if pipe.poll() else None
    except EOFError:
        return None
    return told


def _raise_first(
    failures: Sequence[BaseException | str | None], codes: Sequence[int | None], first: int, ranks: int, workdir: Path
) -> None:
    """Raise what came first, as far as that can be known: one death makes all other processes fail."""
    known = [f for f in failures if isinstance(f, BaseException)]
    causes = [f for f in known if not isinstance(f, LostError)]
    if causes:
        raise causes[0]
    for k, code in enumerate(codes):
        if code and failures[k] is None:
            raise _died(first + k, code, ranks, workdir)
    for text in (f for f in failures if isinstance(f, str)):
        raise RuntimeError(f"a process of the training failed:\n{text}")
    if known:
        raise known[0]


def _died(rank: int, code: int, ranks: int, workdir: Path) -> InputError:
    name = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    memory = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
    return InputError(
        workdir,
        f"process {rank} of the {ranks} that train together (0 to {ranks - 1}) was ended by {name}{memory}",
        "all of them to run until the end",
        _go_on(workdir),
    )


def lost(workdir: Path, minutes: float) -> LostError:
    """The error of a process that waits for another one in vain."""
    return LostError(
        workdir,
        "another process of this training has ended, or did not answer",
        f"an answer within {minutes:g} minutes (train.timeout)",
        f"Look for what ended it above. {_go_on(workdir)}",
    )


def _go_on(workdir: Path) -> str:
    if (workdir / "last.ckpt").exists():
        return "Run the same command again: training goes on from its last validation"
    return "Run the same command again"


# --- in a process that was started ------------------------------------------------------------------------------------------


def _rank(work: Work, pipe: Connection) -> None:
    """Do the work, and tell the supervisor of an error instead of printing it."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    for number in SIGNALS:  # until the training listens to them
        signal.signal(number, signal.SIG_IGN)
    try:
        work()
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except InputError as error:
        pipe.send(error)
    except Exception:
        pipe.send(traceback.format_exc())
    else:
        return
    # At once: destructors of process groups may wait for the others.
    os._exit(1)


def end_with_parent() -> None:
    """No process outlives its supervisor, whatever ended that."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def joined(settings: TrainSection, workdir: Path) -> Iterator[None]:
    """Inside, this process and the others that `run` started know each other.

    Raises
    ------
    LostError
        If another process ends meanwhile, or does not answer in time.
    """
    devices = devices_per_node(settings)
    if devices * settings.nodes == 1:
        yield
        return
    import torch
    from torch import distributed

    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu(settings) else None
    if device is not None:
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group(
            "gloo" if device is None else "nccl",
            rank=int(os.environ["RANK"]),
            world_size=devices * settings.nodes,
            timeout=timedelta(minutes=settings.timeout),
            device_id=device,
        )
        yield
        distributed.destroy_process_group()
    except RuntimeError as error:  # gloo knows no other kind
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise lost(workdir, settings.timeout) from error
        raise


# --- environment ------------------------------------------------------------------------------------------------------------


def _environment(place: Place, local_rank: int, devices: int, settings: TrainSection) -> dict[str, str]:
    """What tells a process its place, in the words of torchrun; Lightning and torch read them."""
    return {
        "RANK": str(place.node * devices + local_rank),
        "LOCAL_RANK": str(local_rank),
        "NODE_RANK": str(place.node),
        "WORLD_SIZE": str(devices * settings.nodes),
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
        "OMP_NUM_THREADS": str(settings.threads),  # Lightning would set another number
    }


@contextmanager
def _environment_of_children(values: Mapping[str, str]) -> Iterator[None]:
    """Processes started inside have these variables from their first line on; this one has its own again afterwards."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in values if name in before})


def _tasks() -> int:
    """Processes that srun started in this step; 1 in a batch script, whatever the job asked for."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def _place_in_slurm() -> Place:
    nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
    alone = os.environ.get("SLURM_STEP_NUM_NODES", "1") == "1"
    address = os.environ.get("MASTER_ADDR") or ("127.0.0.1" if alone else first_host(nodes))
    job = f"{os.environ.get('SLURM_JOB_ID', '0')}{os.environ.get('SLURM_STEP_ID', '0')}"
    port = int(os.environ.get("MASTER_PORT") or 15000 + int(re.sub(r"\D", "", job)) % 15000)
    return Place(int(os.environ.get("SLURM_NODEID", "0")), address, port)


def first_host(nodes: str) -> str:
    """The first host of SLURM's list, e.g. ``gpu[03-05,9],login`` -> gpu03."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
    return nodes if found is None else found[1] + (found[2] or "")


def _check_number(found: int, wanted: int, starter: str) -> None:
    if found != wanted:
        how = f"{found} processes were started by {starter}" if found > 1 else "one process was started"
        raise InputError(
            "section train",
            f"devices x nodes is {wanted}, but {how}",
            "one process for each device, or for each node, which then starts those of its devices",
            "Change devices and nodes, or start it by `srun --nodes N --ntasks-per-node 1 orbitrace train ...`",
        )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
