"""Stopping between two steps when a signal asks for it, with the state kept: what a cluster sends before it takes a node away.

SIGUSR1 comes from SLURM before the end of a job's time, or when it gives the node to others (``--signal=USR1@120``); SIGTERM
comes when a job is ended otherwise. In both cases training goes on from the very step when the same command runs again. After
SIGUSR1 the first process also puts a job of SLURM back into the queue, so that nobody has to.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from orbitrace.errors import InputError
from orbitrace.training import together
from orbitrace.training.checkpoint import written

if TYPE_CHECKING:
    import lightning

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StoppedError(InputError):
    """A signal ended the training, which can go on."""


class Stop:
    """What asked a training to stop, if anything did."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.asked: int = 0  # number of the signal

    def ask(self, number: int, _: FrameType | None = None) -> None:
        """Stop after the step under way; the handler of the signals."""
        self.asked = max(self.asked, number)  # one that ends all counts more than one that puts back into the queue

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, the signals are heeded (in the main thread, the only one that gets any)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.ask) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def after_step(self, trainer: lightning.Trainer) -> None:
        """Save and raise if any of the processes was asked to; all of them must call it after every step.

        Raises
        ------
        StoppedError
            With the state on disk.
        """
        number = int(together.largest(float(self.asked), trainer.strategy.root_device))
        if number == 0 or trainer.is_last_batch:  # then a validation follows, after which the state is saved anyway
            return
        save(trainer, self.workdir)
        if number == signal.SIGUSR1 and trainer.is_global_zero:
            requeue()
        raise StoppedError(
            self.workdir,
            f"the training was stopped by {signal.Signals(number).name} after step {trainer.global_step}",
            "",
            "Run the same command again: training goes on from there",
        )


def save(trainer: lightning.Trainer, workdir: Path) -> None:
    """Write the state to resume from; the first process does, with the help of all."""
    if trainer.is_global_zero:
        with written(workdir / "last.ckpt") as part:
            trainer.save_checkpoint(part)
    else:
        trainer.save_checkpoint(workdir / "none")
    together.wait_for_all()  # whoever ends first may end all


def requeue() -> None:
    """Put this job of SLURM, if it is one, back into the queue, under the number that whoever waits for it knows."""
    job = os.environ.get("SLURM_JOB_ID")
    if job and shutil.which("scontrol"):
        subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, timeout=60)
