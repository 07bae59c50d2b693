"""The set-ups of TraceGrad's ablation, and the training of each: section `ablate` of the configuration.

Apart from `config`, because the tables of `ablation` need the set-ups and know nothing of data sets and targets.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from orbitrace.errors import InputError
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.schema import Name, Section, did_you_mean, refused

# Values of the network's setting `tracegrad`, in the order of the paper's tables 5 and 6, and how those call them.
SETTING: Final = "tracegrad"
SETUPS: Final = {
    "none": "",
    "trace": "Trace",
    "gate": "Gate",
    "grad": "Grad",
    "tracegate": "TraceGate",
    "tracegrad": "TraceGrad",
}
BASE: Final = "none"


def _known(setup: str) -> str:
    if setup not in SETUPS:
        raise refused(f"unknown set-up {setup!r}", f"one of {', '.join(SETUPS)}", did_you_mean(setup, SETUPS))
    return setup


Setup = Annotated[str, AfterValidator(_known)]


class AblateSection(Section):
    """The ablation of one model: its set-ups, each trained with the same data, split, seeds and steps."""

    model: Name | None = Field(None, description="model whose set-ups are compared; the first that is trained")
    setups: tuple[Setup, ...] = Field(tuple(SETUPS), description="set-ups: values of the network's setting tracegrad")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1, description="seeds of weights and batches")
    max_steps: int | None = Field(None, gt=0, description="steps of each training; those of the model by default")
    split: Literal["validation", "test"] = Field("validation", description="calculations that judge the set-ups")
    sets: dict[Name, tuple[Name, ...]] | None = Field(
        None,
        description="further sets that judge them: targets with a reference, or data sets, by the name of their set; "
        "by default all targets with a reference are one set",
    )

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if BASE not in self.setups:
            raise refused(f"the set-ups {', '.join(self.setups)} lack {BASE}", f"{BASE}, which the others are compared with")
        for key in ("setups", "seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise refused(f"{key} {', '.join(map(str, values))}", "each of them once")
        if self.split in (self.sets or {}):
            raise refused(f"a set is called {self.split}, as the split", "another name for it")
        return self

    @property
    def runs(self) -> tuple[tuple[str, int], ...]:
        """(set-up, seed) of every training, in the order of the table."""
        return tuple((setup, seed) for setup in SETUPS if setup in self.setups for seed in self.seeds)

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of all sets that judge the set-ups; the split comes first."""
        return (self.split, *(self.sets or {}))


def section_of(section: LearnSection, ablate: AblateSection, setup: str, seed: int) -> LearnSection:
    """The training of one set-up: that of the model, with one setting of its network changed.

    What ends a training early is switched off: all set-ups take the same number of steps. All seeds share the model's split.
    None starts from another checkpoint, which would bring its own set-up along.
    """
    train = section.train
    same = {
        "seed": seed,
        "split_seed": train.seed if train.split_seed is None else train.split_seed,
        "max_steps": ablate.max_steps or train.max_steps,
        "max_minutes": None,
        "patience": None,
    }
    network = {**section.network, SETTING: setup}
    return section.model_copy(update={"network": network, "init_from": None, "train": train.model_copy(update=same)})


def check_judges(
    section: AblateSection, train: TrainSection, referenced: Collection[str], datasets: Collection[str], where: str
) -> None:
    """Refuse sets that cannot judge a model.

    Parameters
    ----------
    section, train
        The ablation, and how its model is trained.
    referenced
        Targets of the model that the DFT code computed too.
    datasets
        Data sets that the model does not learn from.
    where
        What holds them, for messages.

    Raises
    ------
    InputError
        If the split is empty, a set is empty, or holds what is unknown or was learned from.
    """
    if getattr(train, section.split) == 0:
        raise InputError(
            f"{where}: ablate.split",
            f"{section.split}, for which models.{section.model}.train.{section.split} = 0 keeps no calculation",
            "a part of the calculations that is not empty",
            f"Set models.{section.model}.train.{section.split} above 0, or choose another split",
        )
    known = [*referenced, *(name for name in datasets if name not in referenced)]
    for name, members in (section.sets or {}).items():
        key = f"{where}: ablate.sets.{name}"
        if not members:
            raise InputError(key, "it is empty", "names of targets with a reference, or of data sets")
        for member in members:
            if member not in known:
                expected = f"a target of {section.model} with a reference, or a data set that it does not learn from"
                known_names = f": {', '.join(known)}" if known else "; there is none"
                raise InputError(key, f"unknown name {member!r}", expected + known_names, did_you_mean(member, known))
            if member in referenced and member in datasets:
                raise InputError(key, f"{member!r} is a target and a data set", "one of both", "Give one another name")
