"""Who computes the tiles: this process, or several, each with one thread and, if there are GPUs, one of them."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized

from orbitrace.errors import InputError
from orbitrace.graphs.tiles import Tile
from orbitrace.prediction.network import TrainedNetwork
from orbitrace.prediction.scratch import Scratch
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.processes import end_with_parent


@dataclass(frozen=True, eq=False)
class Task:
    """One step of one tile, or, after the last step, its elements of H."""

    step: int
    place: int
    tile: Tile
    scratch: Scratch
    where: str

    def run(self, network: TrainedNetwork) -> None:
        """Do it, from files to files."""
        if self.step == network.network.steps:
            network.read(self.tile, self.place, self.scratch, self.where)
        else:
            network.step(self.step, self.tile, self.place, self.scratch)


Team = Callable[[Iterable[Task]], Iterator[None]]  # does tasks in any order, and says so after each


@contextmanager
def gathered(processes: int, network: TrainedNetwork, scratch: Scratch) -> Iterator[Team]:
    """A team of some processes; of one, it is this one.

    Raises
    ------
    InputError
        If a process is killed.
    """
    if processes == 1:
        yield lambda tasks: _alone(network, tasks)
        return
    if not scratch.checkpoint.exists():
        checkpoints.save(scratch.checkpoint, network.trained)
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of numerical libraries
    arguments = scratch, network.device, context.Value("i", 0)
    pool = ProcessPoolExecutor(processes, context, _start, arguments)
    try:
        yield lambda tasks: _shared(pool, tasks, 2 * processes, scratch)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(network: TrainedNetwork, tasks: Iterable[Task]) -> Iterator[None]:
    for task in tasks:
        task.run(network)
        yield


def _shared(pool: ProcessPoolExecutor, tasks: Iterable[Task], most: int, scratch: Scratch) -> Generator[None]:
    """Tasks are made as processes ask for them: their blocks are copies."""
    flying: set[Future[None]] = set()
    try:
        for task in tasks:
            flying.add(pool.submit(_work, task))
            if len(flying) >= most:
                yield from _landed(flying)
        while flying:
            yield from _landed(flying)
    except BrokenProcessPool as error:
        raise InputError(
            scratch.folder,
            "one of the processes that predict was killed, perhaps for want of memory",
            "all of them to run until the end",
            "Run the same command again, with fewer workers or smaller predict.pairs: it goes on from the last finished tile",
        ) from error


def _landed(flying: set[Future[None]]) -> Iterator[None]:
    done, _ = wait(flying, return_when=FIRST_COMPLETED)
    for future in done:
        flying.remove(future)
        future.result()
        yield


# --- in a process that was started ------------------------------------------------------------------------------------------

_network: TrainedNetwork | None = None


def _start(scratch: Scratch, device: str, started: Synchronized[int]) -> None:
    """Load the network once."""
    import torch

    global _network
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one deals with it
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    if device == "cuda":
        device = f"cuda:{number % torch.cuda.device_count()}"
    _network = TrainedNetwork(checkpoints.load(scratch.checkpoint), device)


def _work(task: Task) -> None:
    if _network is None:
        raise RuntimeError("the process was not started as it should")
    task.run(_network)
