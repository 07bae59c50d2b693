"""The configuration: every key of `config.yaml`, its default, its meaning, and what is refused.

Enters: plain data, as YAML or Snakemake give it. Leaves: a frozen `Config`. Everything that can be checked without opening a
calculation is checked here, in a second, before the first job. Two things wait until their job starts: the settings of a
network, which its own file checks (it needs torch), and whether the points of a path are points of the target's lattice.
Lengths are in Å and energies in eV. This module is light: the Snakefile imports it in every job of a cluster, so it never
imports torch.

A rule hands its own section to its stage as sorted JSON (`schema.to_json`), with the versions of package and schema in it: a
job reruns when its own settings change, and only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, model_validator

from orbitrace import lineage
from orbitrace.discovery import structures_in
from orbitrace.errors import InputError
from orbitrace.learning import LearnSection
from orbitrace.schema import EnergyWindow, Name, Section, did_you_mean, plugin, refused, section_from
from orbitrace.setups import AblateSection, check_judges, section_of
from orbitrace.spectra import BandsSection, DosSection, UnfoldSection
from orbitrace.twisting import TwistSection, layer_hint

Code = Annotated[str, plugin("readers", "auto")]


class DatasetSection(Section):
    """One data set: a folder of raw calculations, at any depth."""

    path: str | None = Field(None, description="folder of the raw calculations; data/<dataset> by default")
    code: Code = Field("auto", description="DFT code that wrote them; auto recognises it by its files")


class ScanSection(Section):
    """What becomes a shard, and what counts as a change."""

    shard_size: int = Field(100, gt=0, description="calculations per shard")
    fingerprint: Literal["mtime", "hash"] = Field(
        "mtime", description="how a changed file is noticed: date and size, or content"
    )


class ReadSection(Section):
    """Reading one calculation."""

    code: Code = Field("auto", description="DFT code of the reference of a target; auto recognises it by its files")


class ShardSection(Section):
    """Writing shards."""

    on_bad: Literal["quarantine", "stop"] = Field("quarantine", description="list a bad calculation and go on, or stop there")


class ModelSection(LearnSection):
    """One model: a network and the data sets that it learns."""

    datasets: tuple[Name, ...] = Field(
        min_length=1, description="data sets it learns from; an element has the same basis in all of them"
    )
    init_from: str | None = Field(
        None,
        min_length=1,
        description="model or checkpoint file whose weights it starts from; its network's settings are taken over",
    )
    retrain: Literal["auto", "never"] = Field("auto", description="train anew when its data change, or keep the checkpoint")
    checkpoint: str | None = Field(None, min_length=1, description="trained network to use as it is, instead of training")


class EvaluateSection(Section):
    """Comparing predictions with the DFT code."""

    split: Literal["train", "validation", "test", "all"] = Field(
        "validation", description="calculations that judge a model; all: also those of other data sets"
    )
    window: EnergyWindow = Field((-3.0, 3.0), description="bands that count, eV from the Fermi level")


class TargetSection(Section):
    """One structure to predict, given in exactly one of three ways."""

    twist: TwistSection | None = Field(None, description="make it by twisting two layers")
    structure: str | None = Field(None, description="file that ASE reads, or a DeepH folder")
    reference: str | None = Field(
        None, description="raw calculation: its structure is predicted, its H and bands compared with"
    )
    models: tuple[Name, ...] | None = Field(None, description="models that predict it; all by default")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [key for key in ("twist", "structure", "reference") if getattr(self, key) is not None]
        if len(given) != 1:
            raise refused(f"{' and '.join(given) or 'nothing'} given", "exactly one of twist, structure, reference")
        return self


class OverlapSection(Section):
    """The overlap of a target."""

    way: Annotated[str, plugin("overlaps")] = Field("from_data", description="how it is made: a file in overlaps/")
    pao: str | None = Field(None, description="folder of OpenMX's .pao files, for the way from_pao")
    ion: str | None = Field(None, description="folder of SIESTA's .ion.nc or .ion.xml files, for the way from_ion")
    orb: str | None = Field(None, description="folder of ABACUS' .orb files, for the way from_orb")

    @property
    def files(self) -> dict[str, str]:
        """The folders that are given, by their keys."""
        return {key: folder for key in ("pao", "ion", "orb") if (folder := getattr(self, key)) is not None}

    @model_validator(mode="after")
    def _files_of_the_way(self) -> Self:
        for key in self.files:
            if self.way != f"from_{key}":
                raise refused(f"{key} given for the way {self.way}", f"way: from_{key}", f"Set it, or leave {key} out")
        return self


class PredictSection(Section):
    """Predicting a Hamiltonian."""

    pairs: int = Field(
        20000, gt=0, description="atom pairs that a process has in memory at a time, of local networks; about 0.4 GB"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="where it runs")


class ReportSection(Section):
    """The report page."""

    title: str = Field("OrbiTrace", description="title of the page")
    show: tuple[Literal["dos", "unfold"], ...] = Field(
        (), description="what is computed of every target beside its bands, and shown: dos, unfold"
    )


class Contents(ReportSection):
    """What the report shows, by name: the settings of stage `report`."""

    datasets: tuple[Name, ...] = ()
    predictions: dict[Name, tuple[Name, ...]] = Field(default_factory=dict, description="targets of each model")
    references: tuple[Name, ...] = Field((), description="targets that the DFT code computed too")


class Config(Section):
    """The whole of `config.yaml`."""

    datasets: dict[Name, DatasetSection] = Field(min_length=1, description="data sets by name")
    scan: ScanSection = ScanSection()
    read: ReadSection = ReadSection()
    shard: ShardSection = ShardSection()
    models: dict[Name, ModelSection] = Field(min_length=1, description="models by name")
    evaluate: EvaluateSection = EvaluateSection()
    ablate: AblateSection = AblateSection()
    targets: Annotated[dict[Name, TargetSection], BeforeValidator(lambda data: data or {})] = Field(
        default_factory=dict, description="structures to predict, by name"
    )
    overlap: OverlapSection = OverlapSection()
    predict: PredictSection = PredictSection()
    bands: BandsSection = BandsSection()
    dos: DosSection = DosSection()
    unfold: UnfoldSection = UnfoldSection()
    report: ReportSection = ReportSection()

    def dataset_folder(self, dataset: str) -> Path:
        """Folder of a data set's raw calculations."""
        return Path(self.datasets[dataset].path or f"data/{dataset}")

    def targets_of(self, model: str) -> tuple[str, ...]:
        """Targets that a model predicts."""
        return tuple(name for name, target in self.targets.items() if target.models is None or model in target.models)

    def contents(self) -> Contents:
        """What the report shows."""
        return Contents(
            title=self.report.title,
            show=self.report.show,
            datasets=tuple(self.datasets),
            predictions={model: self.targets_of(model) for model in self.models},
            references=tuple(name for name, target in self.targets.items() if target.reference is not None),
        )

    @property
    def ablated(self) -> str:
        """The model whose set-ups are compared."""
        trained = (name for name, model in self.models.items() if model.checkpoint is None)
        return self.ablate.model or next(trained, next(iter(self.models)))

    def ablation(self, where: str = "the configuration") -> AblateSection:
        """Section `ablate` with its model and its sets.

        Raises
        ------
        InputError
            If a name is not known, a set is empty or was learned from, or the split is empty.
        """
        _known((self.ablated,), self.models, f"{where}: ablate.model", "model")
        model, sets = self.models[self.ablated], self.ablate.sets
        if model.checkpoint is not None:
            found = f"{self.ablated} is used as it is, from {model.checkpoint}"
            raise InputError(f"{where}: ablate.model", found, "a model that is trained", "Name another, or add one")
        referenced = tuple(name for name in self.targets_of(self.ablated) if self.targets[name].reference is not None)
        if sets is None:
            sets = {"targets": referenced} if referenced else {}
        section = self.ablate.model_copy(update={"model": self.ablated, "sets": sets})
        check_judges(section, model.train, referenced, [d for d in self.datasets if d not in model.datasets], where)
        return section

    def _training(self, model: str) -> LearnSection:
        section = self.models[model]
        own = {key: getattr(section, key) for key in LearnSection.model_fields}
        return LearnSection(**{**own, "init_from": lineage.start_of(self.models, model)})

    def settings_of(self, stage: str, names: Mapping[str, str | None] = MappingProxyType({})) -> Section:
        """Settings of a stage; `names` holds the model or target that is meant, if there are several.

        Raises
        ------
        InputError
            If the name is missing or unknown.
        """
        if stage == "train":
            return self._training(_meant(names.get("model"), list(self.models), "model"))
        if stage == "train_setup":
            setup, seed = names["setup"] or "", int(names["seed"] or 0)
            training = self._training(self.ablated)
            if training.init_from is not None:
                found = f"{self.ablated} starts from {training.init_from}, whose network cannot change"
                raise InputError("the configuration: ablate.model", found, "a model without init_from")
            return section_of(training, self.ablate, setup, seed)
        if stage == "evaluate_setup":
            split = self.ablate.split
            return EvaluateSection(split=split if names["set"] == split else "all")
        if stage == "ablate":
            return self.ablation()
        if stage == "twist":
            twists = {name: target.twist for name, target in self.targets.items() if target.twist is not None}
            return twists[_meant(names.get("target"), list(twists), "twisted target")]
        section: Section = self.contents() if stage == "report" else getattr(self, stage)
        return section


def load(file: Path, discover: Path | None = Path("targets")) -> Config:
    """Read and check a configuration file; structure files in the folder `discover` become targets.

    Raises
    ------
    InputError
        If it cannot be read, is not YAML, or `check` refuses it.
    """
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(file, error.strerror or "cannot be read", "a configuration like config.yaml") from error
    except yaml.YAMLError as error:
        raise InputError(file, f"is not YAML: {' '.join(str(error).split())}", "keys and values as in config.yaml") from error
    return check(data if isinstance(data, Mapping) else {}, str(file), discover)


def check(data: Mapping[str, Any], where: str = "config.yaml", discover: Path | None = Path("targets")) -> Config:
    """Check plain data against the schema; `where` names them in errors.

    Raises
    ------
    InputError
        At the first unknown key, wrong value, or name that is not defined; it says which key, and what was expected.
    """
    config = section_from(Config, data, where)
    _judged(config, where)
    lineage.check_starts(config.models, where)
    for model, section in config.models.items():
        _known(section.datasets, config.datasets, f"{where}: models.{model}.datasets", "data set")
    for target, wanted in config.targets.items():
        _known(wanted.models or (), config.models, f"{where}: targets.{target}.models", "model")
    if data.get("ablate"):
        config.ablation(where)
    found = {} if discover is None else _discovered(discover, config.targets)
    return config.model_copy(update={"targets": {**config.targets, **found}})


def check_files(config: Config, where: str = "config.yaml") -> None:
    """Look for the files and folders that models and targets name; apart from `check`, for they may lie on another machine.

    Raises
    ------
    InputError
        At the first that does not exist; it names its key.
    """
    lineage.check_files(config.models, where)
    for name, target in config.targets.items():
        named = {"reference": target.reference, "structure": target.structure}
        named |= {f"twist.{key}": file for key, file in (target.twist.files if target.twist else {}).items()}
        for key, path in named.items():
            expected, remedy = _meant_by(key, str(path))
            if path is not None and not Path(path).exists():
                raise InputError(f"{where}: targets.{name}.{key}", f"{path} does not exist", expected, remedy)


def _meant_by(key: str, path: str) -> tuple[str, str]:
    """What a key of a target expects, and what to do if it is not there."""
    if key in ("twist.layer", "twist.top"):
        return layer_hint(path)
    return "the folder of a raw calculation" if key == "reference" else "a structure", "Correct the path"


def _judged(config: Config, where: str) -> None:
    """Refuse to judge models by calculations that none of theirs is kept aside for."""
    split = config.evaluate.split
    for name, model in config.models.items():
        if split in ("validation", "test") and getattr(model.train, split) == 0:
            raise InputError(
                f"{where}: evaluate.split",
                f"{split}, for which models.{name}.train.{split} = 0 keeps no calculation",
                "a part of the calculations that is not empty",
                f"Set models.{name}.train.{split} above 0, or choose another split; train is never empty",
            )


def _meant(name: str | None, known: list[str], noun: str) -> str:
    """The name that was given, or the only one."""
    if name is None and len(known) == 1:
        return known[0]
    if name is None:
        raise InputError("the configuration", f"{len(known)} {noun}s", "the name of one of them", "Give it with --name")
    _known((name,), dict.fromkeys(known), "the configuration", noun)
    return name


def _known(names: tuple[str, ...], known: Mapping[str, object], where: str, noun: str) -> None:
    """Refuse names that are not defined."""
    for name in names:
        if name not in known:
            raise InputError(where, f"unknown {noun} {name!r}", f"one of {', '.join(known)}", did_you_mean(name, known))


def _discovered(folder: Path, named: Mapping[str, TargetSection]) -> dict[str, TargetSection]:
    """Targets from the structures in a folder that the configuration does not name itself."""
    taken = {Path(target.structure) for target in named.values() if target.structure}
    found: dict[str, TargetSection] = {}
    for name, file in structures_in(folder):
        if file in taken:
            continue
        if name in found or name in named:
            raise InputError(file, f"a second target {name!r}", "one file for each name", "Rename one of them")
        section_from(_TargetName, {"name": name}, str(file))
        found[name] = TargetSection(structure=str(file))
    return found


class _TargetName(Section):
    name: Name
