"""What decides a checkpoint: the sections of a model in the configuration.

Apart from `config`, because the learner reads it and knows nothing of data sets, targets and stages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from orbitrace.schema import Section, plugin, refused

Fraction = Annotated[float, Field(ge=0, lt=1)]


class TrainSection(Section):
    """Training of one model."""

    max_steps: int = Field(20000, gt=0, description="end after this many steps, rounded up to a validation")
    max_minutes: float | None = Field(None, gt=0, description="end after this many minutes, if that comes first")
    batch_pairs: int = Field(1000, gt=0, description="atom pairs per step and device, at least one calculation")
    optimizer: Literal["muon", "adamw"] = Field("muon", description="orthogonalised momentum for matrices, or AdamW for all")
    learning_rate: float = Field(0.03, gt=0, description="the largest of the schedule; a third of it suits adamw")
    weight_decay: float = Field(0.05, ge=0, description="weight decay")
    warmup: Fraction = Field(0.02, description="part of the run over which the learning rate rises")
    ema: Fraction = Field(0.998, description="decay of the averaged weights that are kept; 0 switches the average off")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    validation: Fraction = Field(0.15, description="part of the calculations that chooses the checkpoint, never trained on")
    test: Fraction = Field(0.0, description="part of the calculations kept aside for evaluation")
    validate_every: int = Field(100, gt=0, description="steps between two validations")
    patience: int | None = Field(None, gt=0, description="end after this many validations without progress")
    square_weight: float = Field(
        0.0, ge=0, description="weight of the mean square in the loss, beside the mean absolute error"
    )
    trace_weight: float = Field(0.3, ge=0, description="lambda of the trace loss, relative to the loss of the blocks")
    seed: int = Field(0, ge=0, description="seed of weights and batches")
    split_seed: int | None = Field(None, ge=0, description="seed of the split of the calculations; seed by default")
    precision: Literal["float32", "float64"] = Field("float32", description="floating-point numbers of the network")
    threads: int = Field(1, gt=0, description="CPU threads; more pay for large batches on an idle machine only")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="where it runs")
    devices: int | None = Field(None, gt=0, description="devices per node; all by default")
    nodes: int = Field(1, gt=0, description="nodes of the job")

    @property
    def steps(self) -> int:
        """`max_steps`, rounded up to whole validations."""
        return -(-self.max_steps // self.validate_every) * self.validate_every

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.validation + self.test >= 1:
            raise refused(f"validation {self.validation} + test {self.test} leave nothing to train on", "a sum below 1")
        return self


class LearnSection(Section):
    """What decides a checkpoint, besides its shards: the settings of stage `train`."""

    model: Annotated[str, plugin("models")] = Field("deeph_e3_local", description="network: a file in src/orbitrace/models/")
    network: dict[str, Any] = Field(default_factory=dict, description="settings of the network, checked by its own file")
    train: TrainSection = TrainSection()
