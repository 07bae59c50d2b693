"""Stopping between two steps when a signal asks for it, with the state kept: what a cluster sends before it takes a node away.

SIGUSR1 comes from SLURM before the end of a job's time, or when it gives the node to others (``--signal=USR1@120``); SIGTERM
comes when a job is ended otherwise. In both cases training goes on from the very step when the same command runs again. A job
of SLURM that did not want to end also puts itself back into the queue, so that nobody has to.
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
NONE = 100  # more than any of them


class StoppedError(InputError):
    """A signal ended the training, which can go on."""


class Stop:
    """What asked a training to stop, if anything did."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.asked: int = 0  # number of the signal

    def ask(self, number: int, _: FrameType | None = None) -> None:
        """Stop after the step under way; the handler of the signals."""
        self.asked = min(self.asked or number, number)  # SIGUSR1 if both come: it puts the job back into the queue

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
        number = -int(together.largest(-float(self.asked or NONE), trainer.strategy.root_device))
        if number == NONE or trainer.is_last_batch:  # then a validation follows, after which the state is saved anyway
            return
        save(trainer, self.workdir)
        if trainer.is_global_zero:
            requeue(number == signal.SIGUSR1)
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


def requeue(announced: bool) -> None:
    """Put this job of SLURM, if it is one, back into the queue, under the number that whoever waits for it knows.

    Some clusters announce with SIGTERM, too, that others need the node; then the controller says so. Jobs that a user ends get
    the same signal, and stay ended.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job and shutil.which("scontrol") and (announced or "PreemptTime=2" in _controller("show", "job", job)):
        _controller("requeue", job)


def _controller(*words: str) -> str:
    return subprocess.run(["scontrol", *words], check=False, capture_output=True, text=True, timeout=60).stdout
