"""What happens beside the training: progress, the log, and the checkpoints that are kept."""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.learning import TrainSection
from orbitrace.training import together
from orbitrace.training.checkpoint import written
from orbitrace.training.module import HamiltonianLearner

COLUMNS = (
    "step",
    "seconds",
    "learning_rate",
    "train_mae",
    "validation_mae",
    "trace_loss",
    "wavefunction_error",
    "bands_error",
    "wait",
)


class Keep(Checkpoint):
    """After every validation: the best network so far, the state to resume from, and a line of the log.

    Files are written beside their place and renamed, so that a killed job leaves none half-written.
    """

    def __init__(self, workdir: Path, save_best: Callable[[HamiltonianLearner, dict[str, float]], None]) -> None:
        self.workdir, self.save_best = workdir, save_best
        self.best = float("inf")
        self.stale = 0  # validations since the best
        self.over = False  # patience or time is used up
        self._before = (0.0, 0.0)  # seconds of training and of waiting for data, at the last validation

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must remember."""
        return {"best": self.best, "stale": self.stale, "over": self.over}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse."""
        self.best, self.stale, self.over = state_dict["best"], state_dict["stale"], state_dict["over"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge, log, save."""
        learner = pl_module
        assert isinstance(learner, HamiltonianLearner)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if "validation_mae" not in metrics:  # a resumed training: Lightning repeats the end of the epoch that was saved
            trainer.should_stop = trainer.should_stop or self.over
            return
        error = metrics["validation_mae"]
        if not math.isfinite(error):
            rate = learner.settings.learning_rate
            raise InputError(
                self.workdir,
                f"the training diverged: after {trainer.global_step} steps the validation error is {error}",
                "a finite one",
                f"Lower learning_rate (now {rate:g}) in section train; best.pt there, if any, is the best network so far",
            )
        self.stale += 1
        if error < self.best:
            self.best, self.stale = error, 0
            if trainer.is_global_zero:
                self.save_best(learner, {**metrics, "step": trainer.global_step, "seconds": learner.seconds})
        s = learner.settings
        self.over = (s.patience is not None and self.stale >= s.patience) or learner.progress >= 1.0
        trainer.should_stop = trainer.should_stop or self.over
        metrics["wait"] = self._waiting(trainer, learner)
        if trainer.is_global_zero:
            self._log(trainer, learner, metrics)
        with written(self.workdir / "last.ckpt") if trainer.is_global_zero else nullcontext(self.workdir / "none") as part:
            trainer.save_checkpoint(part)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start counting, and forget what a killed training logged after the state that this one goes on from."""
        assert isinstance(pl_module, HamiltonianLearner)
        self._before = (pl_module.seconds, 0.0)
        if trainer.is_global_zero:
            _cut_log(self.workdir / "log.csv", trainer.global_step)

    def _waiting(self, trainer: lightning.Trainer, learner: HamiltonianLearner) -> float:
        """Part of the time since the last validation that was spent waiting for data; of several processes, the largest."""
        now = (learner.seconds, float(getattr(trainer.train_dataloader, "waited", 0.0)))
        (seconds, waited), self._before = self._before, now
        return together.largest((now[1] - waited) / max(now[0] - seconds, 1e-9), learner.device)

    def _log(self, trainer: lightning.Trainer, learner: HamiltonianLearner, metrics: dict[str, float]) -> None:
        file = self.workdir / "log.csv"
        new = not file.exists()
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"step": trainer.global_step, "seconds": round(learner.seconds, 3), "learning_rate": rate, **metrics}
        with file.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", restval="")
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})
            stream.flush()
            os.fsync(stream.fileno())


def _cut_log(file: Path, step: int) -> None:
    """Keep the lines of a log up to a step."""
    if not file.exists():
        return
    head, *lines = file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= step]
    if kept != lines:
        with replacing(file) as part:
            part.write_text("".join([head, *kept]))


class Digits(Callback):
    """TF32 in the gradients too, and the steps of CUDA graphs."""

    def __init__(self, settings: TrainSection) -> None:
        self.settings = settings

    def on_train_batch_start(self, *_: Any) -> None:
        """Memory of the graph of the last step may be used again."""
        if self.settings.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def on_before_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor) -> None:
        """Fewer digits."""
        if self.settings.matmul == "tf32":
            torch.set_float32_matmul_precision("high")

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """All digits again."""
        if self.settings.matmul == "tf32":
            torch.set_float32_matmul_precision("highest")


class Bar(Callback):
    """Progress with rate and time left: a bar on a terminal, a line per validation in a log file."""

    def __init__(self, total: int) -> None:
        self.console = Console(stderr=True)
        self.total = total
        self.started = (time.monotonic(), 0)
        columns = [
            TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.2f} steps/s"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        ]  # fmt: skip
        self.progress = Progress(*columns, console=self.console) if sys.stderr.isatty() else None
        self.task = None if self.progress is None else self.progress.add_task("train", total=total, rate=0.0, note="")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start counting from the step that was reached before."""
        self.started = (time.monotonic(), trainer.global_step)
        if self.progress is not None:
            self.progress.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """One step further."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=trainer.global_step, rate=self._rate(trainer))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say where the validation stands."""
        metrics = trainer.callback_metrics
        if "validation_mae" not in metrics:
            return
        note = f"validation MAE {float(metrics['validation_mae']):.3f} meV, training {float(metrics['train_mae']):.3f} meV"
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, note=note)
            return
        rate = self._rate(trainer)
        left = (self.total - trainer.global_step) / rate / 60 if rate > 0 else float("nan")
        self.console.print(
            f"step {trainer.global_step}/{self.total}  {note}  {rate:.2f} steps/s  {left:.1f} min left", soft_wrap=True
        )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the bar."""
        if self.progress is not None:
            self.progress.stop()

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        if self.progress is not None:
            self.progress.stop()

    def _rate(self, trainer: lightning.Trainer) -> float:
        began, first = self.started
        return (trainer.global_step - first) / max(time.monotonic() - began, 1e-9)
