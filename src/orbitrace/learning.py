"""What decides a checkpoint: the sections of a model in the configuration.

Apart from `config`, because the learner reads it and knows nothing of data sets, targets and stages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from orbitrace.schema import EnergyWindow, Section, plugin, refused

Fraction = Annotated[float, Field(ge=0, lt=1)]


def _part(part: float | tuple[str, ...]) -> float | tuple[str, ...]:
    if part == () or (isinstance(part, float) and not 0 <= part < 1):
        raise refused(f"found {part}", "less than 1, 0 or more; or patterns of ids")
    return part


Part = Annotated[float | tuple[str, ...], AfterValidator(_part)]  # by chance, or by patterns of ids such as "04[0-7]"
Weight = Annotated[float, Field(ge=0)]

# Keys of section `train` that do not decide a checkpoint: a training may go on elsewhere.
WHERE_IT_RUNS = {"threads", "accelerator", "devices", "nodes", "timeout", "workers", "compile", "cuda_graphs"}


class LossSection(Section):
    """The loss: a sum of errors with these weights, each (but the traces') in units of what the reference leaves of H."""

    mae: Weight = Field(1.0, description="weight of the mean absolute error of the elements of H")
    mse: Weight = Field(0.0, description="weight of their mean square error")
    trace: Weight = Field(0.3, description="weight of TraceGrad's trace loss, relative to all others together")
    wavefunction: Weight = Field(0.0, description="weight of the error between the true eigenvectors (wavefunction alignment)")
    bands: Weight = Field(0.0, description="weight of the mean absolute error of the energies in the window")
    window: EnergyWindow = Field((-5.0, 5.0), description="energies that count in bands, eV from the Fermi level")
    levels_from: Fraction = Field(0.5, description="part of the run after which wavefunction and bands count beside others")
    kpoints: int = Field(1, ge=0, description="random k points of each crystal and step, for wavefunction and bands; 0: Gamma")
    off_diagonal: Weight = Field(1.0, description="in wavefunction, weight of the elements between two levels beside the rest")
    high_levels: Weight = Field(0.1, description="in wavefunction, weight of levels above the window beside those below")

    @property
    def needs_levels(self) -> bool:
        """Whether eigenvalues or eigenvectors of the true H are needed."""
        return self.wavefunction > 0 or self.bands > 0

    def counts_levels(self, progress: float) -> bool:
        """Whether levels count when a part `progress` of the run is behind; alone they always do."""
        return self.needs_levels and (progress >= self.levels_from or self.mae + self.mse == 0)

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if self.mae + self.mse + self.wavefunction + self.bands == 0:
            raise refused("no weight but that of the trace loss", "a positive weight of mae, mse, wavefunction or bands")
        return self


class TrainSection(Section):
    """Training of one model."""

    max_steps: int = Field(20000, gt=0, description="end after this many steps, rounded up to a validation")
    max_minutes: float | None = Field(None, gt=0, description="end after this many minutes, if that comes first")
    batch_pairs: int = Field(
        1000, gt=0, description="atom pairs per step and device, at least one calculation; a step is that of all devices"
    )
    optimizer: Literal["muon", "adamw"] = Field("muon", description="orthogonalised momentum for matrices, or AdamW for all")
    learning_rate: float = Field(0.03, gt=0, description="the largest of the schedule; a third of it suits adamw")
    weight_decay: float = Field(0.05, ge=0, description="weight decay")
    warmup: Fraction = Field(0.02, description="part of the run over which the learning rate rises")
    ema: Fraction = Field(0.998, description="decay of the averaged weights that are kept; 0 switches the average off")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    validation: Part = Field(
        0.15, description="part of the calculations that chooses the checkpoint, never trained on; or patterns of their ids"
    )
    test: Part = Field(0.0, description="part of the calculations kept aside for evaluation; or patterns of their ids")
    validate_every: int = Field(100, gt=0, description="steps between two validations")
    patience: int | None = Field(None, gt=0, description="end after this many validations without progress")
    target: Literal["absolute", "gauge", "residual"] = Field(
        "absolute", description="what is learned: H; H - mu S with one mu per structure; H - H0, where the data have an H0"
    )
    time_reversal: Literal["auto", "on", "off"] = Field(
        "auto", description="whether non-collinear calculations are non-magnetic; auto looks at their H"
    )
    loss: LossSection = LossSection()
    seed: int = Field(0, ge=0, description="seed of weights and batches")
    split_seed: int | None = Field(None, ge=0, description="seed of the split of the calculations; seed by default")
    precision: Literal["float32", "float64"] = Field("float32", description="floating-point numbers of the network")
    matmul: Literal["float32", "tf32", "bf16"] = Field(
        "float32", description="digits of the linear maps between features while training; all else has the full precision"
    )
    compile: bool = Field(
        False, description="make code of the network (torch.compile): minutes once, then faster steps on GPUs"
    )
    cuda_graphs: bool = Field(
        False, description="with compile, on a GPU: launch a step's kernels together, once per batch size"
    )
    threads: int = Field(1, gt=0, description="CPU threads; more pay for large batches on an idle machine only")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="where it runs")
    devices: int | None = Field(
        None, gt=0, description="devices per node, each with a process of its own; by default all GPUs, or the CPU once"
    )
    nodes: int = Field(1, gt=0, description="nodes of the job")
    timeout: float = Field(10.0, gt=0, description="minutes after which a process that does not answer ends the training")
    workers: int | None = Field(
        None, ge=0, description="processes that read ahead for each device; by default none if all samples fit in memory"
    )

    @property
    def steps(self) -> int:
        """`max_steps`, rounded up to whole validations."""
        return -(-self.max_steps // self.validate_every) * self.validate_every

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.precision == "float64" and self.matmul != "float32":
            raise refused(f"matmul: {self.matmul} with precision: float64", "precision: float32 with fewer digits in products")
        if self.compile and self.matmul == "tf32":
            raise refused("matmul: tf32 with compile: true", "float32 or bf16 with compile, or tf32 without")
        if self.cuda_graphs and not self.compile:
            raise refused("cuda_graphs: true without compile: true", "both, or compile alone")
        return self

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        fractions = [part for part in (self.validation, self.test) if isinstance(part, float)]
        if sum(fractions) >= 1:
            raise refused(f"validation {self.validation} + test {self.test} leave nothing to train on", "a sum below 1")
        return self


class LearnSection(Section):
    """What decides a checkpoint, besides its shards: the settings of stage `train`."""

    model: Annotated[str, plugin("models")] = Field("deeph_e3_local", description="network: a file in src/orbitrace/models/")
    network: dict[str, Any] = Field(default_factory=dict, description="settings of the network, checked by its own file")
    init_from: str | None = Field(
        None, min_length=1, description="checkpoint whose weights it starts from; its network's settings are taken over"
    )
    train: TrainSection = TrainSection()
