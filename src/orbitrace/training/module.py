"""The training step, the averaged weights and the schedule, as Lightning wants them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from orbitrace.graphs.assembly import Assembly
from orbitrace.graphs.batches import Batch
from orbitrace.graphs.spin import SpinKind
from orbitrace.learning import TrainSection
from orbitrace.models import BlockNetwork, Output
from orbitrace.physics.orbitals import Basis
from orbitrace.training import together
from orbitrace.training.data import PairBatches
from orbitrace.training.levels import LevelErrors, level_errors
from orbitrace.training.loss import hamiltonian_loss, total_loss, trace_loss
from orbitrace.training.optimizer import make_optimizer
from orbitrace.training.stopping import Stop

MEV = 1000.0


class HamiltonianLearner(lightning.LightningModule):
    """Trains any model of `orbitrace.models` on batches of blocks.

    Parameters
    ----------
    network
        Returns normalised irreps for a batch.
    basis
        Basis of the training data.
    settings
        Section `train` of the config.
    unit
        eV; mean absolute residual that the reference leaves on the training data.
    spin
        How spin is learned.
    """

    def __init__(
        self, network: BlockNetwork, basis: Basis, settings: TrainSection, unit: float, spin: SpinKind = SpinKind.NONE
    ) -> None:
        super().__init__()
        self.network = network
        self.assembly = Assembly(basis, spin)
        self.settings, self.unit = settings, unit
        self.stop: Stop | None = None
        self.average = {name: p.detach().clone() for name, p in network.named_parameters()}
        self.seconds = 0.0  # of training, over all runs that were resumed
        self._since = time.monotonic()
        self._first_seconds = 0.0
        self._errors: list[tuple[float, int]] = []

    def forward(self, batch: Batch) -> tuple[Tensor, Output]:
        """Elements of the residual of H in the order of the batch's groups, eV, and the network's output."""
        output: Output = self.network(batch)
        return self.assembly(batch, output.irreps), output

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch."""
        output: Output = self.network(batch)
        error = self.assembly(batch, output.irreps, self.network.independent_directions) - batch.residual
        levels = self._levels(batch, error)
        loss_h = hamiltonian_loss(error, self.unit, self.settings.loss, levels)
        loss_t = trace_loss(batch, output.traces) if output.traces else None
        self._note("train_mae", together.mean(self.assembly.magnitudes(error.detach())) * MEV)
        if loss_t is not None:
            self._note("trace_loss", loss_t.detach())
        return total_loss(loss_h, loss_t, self.settings.loss.trace)

    def _levels(self, batch: Batch, error: Tensor) -> LevelErrors | None:
        """Errors of levels at k points that change with each step, if they count yet."""
        s = self.settings
        if not s.loss.counts_levels(self.progress):
            return None
        levels = level_errors(batch, error, s.loss, (s.seed, self.global_step))
        for name, value in (("wavefunction_error", levels.wavefunction), ("bands_error", levels.bands)):
            if value is not None:
                self._note(name, value.detach() * MEV)
        return levels

    def _note(self, name: str, value: Tensor) -> None:
        """A column of the log: mean over the steps since the last validation."""
        self.log(name, value, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the averaged weights; then stop here if a signal asks for it."""
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        if self.settings.ema > 0:
            self._update_average()
        if self.stop is not None:
            self.stop.after_step(self.trainer)

    def _update_average(self) -> None:
        """With a shorter memory in the first steps."""
        decay = min(self.settings.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                self.average[name] = self.average[name].to(p.device).lerp_(p, 1 - decay)

    def on_train_start(self) -> None:
        """Start the clock, and the batches where a training goes on that was stopped between two validations."""
        self._since = time.monotonic()
        self._begin()

    def on_validation_epoch_start(self) -> None:
        """Judge the averaged weights."""
        self._swap()
        self._errors = []

    def validation_step(self, batch: Batch | None, _: int) -> None:
        """Absolute error of one batch; of several processes, some may have none for the last one."""
        if batch is None:
            return
        error = self.assembly.magnitudes(self(batch)[0] - batch.residual)
        self._errors.append((float(error.sum(dtype=torch.float64)), error.numel()))

    def on_validation_epoch_end(self) -> None:
        """Mean over all elements of all structures, meV; then back to the weights being trained."""
        own = [float(sum(column)) for column in zip((0.0, 0), *self._errors, strict=True)]
        total, count = together.summed(own, self.device)
        self.log("validation_mae", torch.tensor(total / count * MEV, dtype=torch.float64), sync_dist=True)
        self._swap()
        self._since = time.monotonic()  # validation is not training

    def kept_weights(self) -> dict[str, Tensor]:
        """State of the network with the averaged weights."""
        state = {key: value.detach().clone() for key, value in self.network.state_dict().items()}
        if self.settings.ema > 0:
            state.update({key: value.detach().clone() for key, value in self.average.items()})
        return state

    def _swap(self) -> None:
        if self.settings.ema == 0:
            return
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                kept = p.detach().clone()
                p.copy_(self.average[name])
                self.average[name] = kept

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The learning rate rises, then falls as half a cosine over the steps (or minutes) given."""
        s = self.settings
        optimizer = make_optimizer(s.optimizer, self.network, s.learning_rate, s.weight_decay)
        scheduler = LambdaLR(optimizer, lambda _: learning_rate_factor(self.progress, s.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def progress(self) -> float:
        """Part of the run that is behind, 0..1."""
        s = self.settings
        by_steps = self.global_step / s.steps if self._trainer is not None else 0.0
        by_time = self._agreed_seconds() / (60 * s.max_minutes) if s.max_minutes else 0.0
        return min(max(by_steps, by_time), 1.0)

    def _agreed_seconds(self) -> float:
        """Seconds of training; of several processes those of the first, as of the last validation: rates must be equal."""
        alone = self._trainer is None or self.trainer.world_size == 1
        return self.seconds if alone else self._first_seconds

    def on_train_epoch_start(self) -> None:
        """Agree on the time, and on where in the sequence of batches the epoch begins."""
        self._begin()

    def _begin(self) -> None:
        self._first_seconds = float(self.trainer.strategy.broadcast(self.seconds))
        order = getattr(self.trainer.train_dataloader, "sampler", None)
        if isinstance(order, PairBatches):
            order.first = self.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what Lightning does not know."""
        checkpoint["average"] = dict(self.average)
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """The inverse."""
        self.average = dict(checkpoint["average"])
        self.seconds = float(checkpoint["seconds"])


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Factor of the learning rate when a part `progress` of the run is behind: linear rise, then half a cosine to 1e-3."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    x = (progress - warmup) / (1 - warmup)
    return 1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * x))
