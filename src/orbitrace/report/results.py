"""What lies in the tree of results, as numbers: data sets, trainings, tables of errors. Light: JSON, CSV and TSV, no matrices.

What does not exist yet is None; what exists and cannot be read is None too, and a note says why.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from orbitrace import layout
from orbitrace.config import Contents
from orbitrace.errors import InputError
from orbitrace.manifest import read_manifest

T = TypeVar("T")
_OPTIONAL = ("overlap_max_error", "per_dataset")


@dataclass(frozen=True)
class PartErrors:
    """Errors on the calculations of one data set by itself, meV."""

    calculations: int
    mae: float
    mae_aligned: float
    mae_worst_sample: float
    worst_sample: str
    mae_worst_block: float
    worst_block: str


@dataclass(frozen=True)
class Errors:
    """Errors of predicted Hamiltonians, meV: the table of `training.metrics.summarise`."""

    mae: float
    mae_aligned: float
    mae_worst_sample: float
    worst_sample: str
    mae_worst_block: float
    worst_block: str
    mae_per_block: Mapping[str, float]
    mae_per_sample: Mapping[str, float]
    gauge_shift_mev: Mapping[str, float]
    overlap_max_error: float | None = None  # dimensionless
    per_dataset: Mapping[str, PartErrors] | None = None  # of a model


@dataclass(frozen=True)
class Evaluation:
    """A table of errors: of blocks, and of bands where the DFT code's own are known.

    Parameters
    ----------
    hamiltonian
        Errors of blocks.
    split
        The part of the data set that judged a model; None for a target.
    band_rmse
        Root mean square error of the bands in `window`, eV.
    window
        Energies whose bands count, eV from the Fermi level.
    missing_bands
        Bands of the reference in the window that were not computed; no error covers them.
    """

    hamiltonian: Errors
    split: str | None = None
    band_rmse: float | None = None
    window: tuple[float, float] | None = None
    missing_bands: int = 0


class Row(NamedTuple):
    """One validation of a training: seconds since its start, and mean absolute errors in meV (NaN where not known)."""

    step: int
    seconds: float
    train_mae: float
    validation_mae: float


class Quarantined(NamedTuple):
    """A calculation that was left out, and why."""

    id: str
    path: str
    cause: str


@dataclass(frozen=True)
class DataSet:
    """A data set: what was found, what was built from it, what was left out."""

    name: str
    calculations: int
    codes: tuple[str, ...]
    raw_bytes: int
    shards: int
    shards_built: int
    quarantined: tuple[Quarantined, ...]


@dataclass(frozen=True)
class Model:
    """A model: its training so far (`settings` as the training noted them) and its errors, or a note why there are none."""

    name: str
    trained: bool
    log: tuple[Row, ...] = ()
    settings: Mapping[str, Any] | None = None
    evaluation: Evaluation | None = None
    not_judged: str = ""

    @property
    def best(self) -> Row | None:
        """The validation whose network was kept."""
        known = [row for row in self.log if isfinite(row.validation_mae)]
        return min(known, key=lambda row: row.validation_mae, default=None)


@dataclass(frozen=True)
class Prediction:
    """A target predicted by a model.

    Parameters
    ----------
    has_reference
        Whether the DFT code computed it too.
    place
        Folder of the prediction, for people to read.
    hamiltonian, bands, own_bands, dos, unfold
        Where the predicted blocks, their bands, those of the DFT code, density of states and unfolded bands are (or will be).
    info, reference_info
        What the DeepH folders of prediction and reference say of themselves.
    """

    model: str
    target: str
    has_reference: bool
    place: str
    hamiltonian: Path
    bands: Path
    own_bands: Path
    dos: Path
    unfold: Path
    info: Mapping[str, Any] | None = None
    reference_info: Mapping[str, Any] | None = None
    evaluation: Evaluation | None = None

    @property
    def reference_code(self) -> str:
        """The DFT code that computed the reference, with its version and what else is known of the run after a semicolon."""
        made = (self.reference_info or {}).get("orbitrace", {}).get("provenance", {})
        return " ".join(str(made[key]) for key in ("code", "version") if made.get(key)) or "the DFT code"


@dataclass(frozen=True)
class Ablation:
    """The table of errors of all set-ups of a model, as `ablation.tabulate` makes it."""

    model: str
    table: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything there is; `datasets` holds None for one that was not scanned. `notes` say what could not be read."""

    datasets: Mapping[str, DataSet | None]
    models: tuple[Model, ...]
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...]
    ablations: tuple[Ablation, ...] = ()


def gather(contents: Contents, root: Path = Path()) -> Results:
    """Look at the tree of results below `root`."""
    notes: list[str] = []
    datasets = {name: attempt(notes, partial(_dataset, root, name)) for name in contents.datasets}
    models = [_model(root, name, notes) for name in contents.predictions]
    predictions = [
        _prediction(root, model, target, target in contents.references, notes)
        for model, targets in contents.predictions.items()
        for target in targets
    ]
    tables = {name: attempt(notes, partial(_ablation, root, name)) for name in contents.predictions}
    ablations = tuple(Ablation(name, table) for name, table in tables.items() if table is not None)
    return Results(datasets, tuple(models), tuple(predictions), tuple(dict.fromkeys(notes)), ablations)


def attempt(notes: list[str], read: Callable[[], T]) -> T | None:
    """What `read` returns; None, and a note, if what it reads is damaged."""
    try:
        return read()
    except InputError as error:
        notes.append(str(error))
        return None


def read_evaluation(file: Path) -> Evaluation | None:
    """Read a table of errors that `orbitrace evaluate` wrote; None if there is none, or only a note in its place.

    Raises
    ------
    InputError
        If it is damaged.
    """
    table = _json(file)
    if table is None or _note(table):
        return None
    try:
        found = {key: table["hamiltonian"].get(key) for key in Errors.__annotations__}
        parts = {name: PartErrors(**part) for name, part in (found["per_dataset"] or {}).items()}
        errors = Errors(**{**found, "per_dataset": parts})
        bands = table.get("bands") or {}
        window = (float(bands["window"][0]), float(bands["window"][1])) if bands else None
        missing_bands = int((bands.get("details") or {}).get("n_missing_bands", 0))
        evaluation = Evaluation(errors, table.get("split"), float(bands["rmse"]) if bands else None, window, missing_bands)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _damaged(file, f"{type(error).__name__} {error}", "evaluate") from error
    missing = [key for key in Errors.__annotations__ if getattr(errors, key) is None and key not in _OPTIONAL]
    if missing:
        raise _damaged(file, f"no {', '.join(missing)} in it", "evaluate")
    return evaluation


def read_log(file: Path) -> tuple[Row, ...]:
    """Read the log of a training, by steps. A step that a resumed training repeated counts once; torn lines do not count."""
    if not file.exists():
        return ()
    rows: dict[int, Row] = {}
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        for cells in csv.DictReader(stream):
            step, seconds, *errors = (_number(cells.get(name)) for name in Row._fields)
            if isfinite(step) and isfinite(seconds):
                rows[int(step)] = Row(int(step), seconds, *errors)
    return tuple(rows[step] for step in sorted(rows))


def _dataset(root: Path, name: str) -> DataSet | None:
    file = root / layout.MANIFEST.format(dataset=name)
    if not file.exists():
        return None
    manifest = read_manifest(file)
    shards = [layout.shard_name(number) for number in manifest.shards]
    tables = [root / layout.QUARANTINE.format(dataset=name, shard=shard) for shard in shards]
    calculations = manifest.calculations.values()
    return DataSet(
        name=name,
        calculations=len(manifest.calculations),
        codes=tuple(sorted({c.code for c in calculations})),
        raw_bytes=sum(f.size for c in calculations for f in c.files),
        shards=len(shards),
        shards_built=sum((root / layout.SHARD.format(dataset=name, shard=shard)).exists() for shard in shards),
        quarantined=tuple(row for table in tables for row in _quarantined(table)),
    )


def _quarantined(table: Path) -> list[Quarantined]:
    if not table.exists():
        return []
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    return [Quarantined(*[*line.split("\t", 2), "", ""][:3]) for line in lines if line.strip()]


def _model(root: Path, name: str, notes: list[str]) -> Model:
    run = root / layout.RUN.format(model=name)
    judged = root / layout.MODEL_EVALUATION.format(model=name)
    return Model(
        name=name,
        trained=(root / layout.CHECKPOINT.format(model=name)).exists(),
        log=read_log(run / "log.csv"),
        settings=attempt(notes, lambda: _json(run / "training.json")),
        evaluation=attempt(notes, lambda: read_evaluation(judged)),
        not_judged=attempt(notes, lambda: _note(_json(judged) or {})) or "",
    )


def _prediction(root: Path, model: str, target: str, has_reference: bool, notes: list[str]) -> Prediction:
    names = {"model": model, "target": target}
    hamiltonian = root / layout.PREDICTION.format(**names)
    reference = root / layout.REFERENCE.format(**names)
    evaluation = root / layout.TARGET_EVALUATION.format(**names)
    return Prediction(
        model=model,
        target=target,
        has_reference=has_reference,
        place=str(Path(layout.BANDS.format(**names)).parent),
        hamiltonian=hamiltonian,
        bands=root / layout.BANDS.format(**names),
        own_bands=reference / "bands.h5",
        dos=root / layout.DOS.format(**names),
        unfold=root / layout.UNFOLD.format(**names),
        info=attempt(notes, lambda: _json(hamiltonian / "info.json")),
        reference_info=attempt(notes, lambda: _json(reference / "info.json")) if has_reference else None,
        evaluation=attempt(notes, lambda: read_evaluation(evaluation)) if has_reference else None,
    )


def _ablation(root: Path, model: str) -> dict[str, Any] | None:
    file = root / layout.ABLATION.format(model=model)
    table = _json(file)
    missing = [key for key in ("sets", "seeds", "rows") if table is not None and key not in table]
    if missing:
        raise _damaged(file, f"no {', '.join(missing)} in it", "ablate")
    return table


def _note(table: Mapping[str, Any]) -> str:
    """Why a table of errors holds none; empty if it does."""
    return str(table.get("note", "")) if table.get("hamiltonian") is None else ""


def _json(file: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is no such file."""
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(data, dict):
        raise _damaged(file, f"it holds {type(data).__name__}")
    return data


def _damaged(file: Path, found: str, stage: str = "") -> InputError:
    return InputError(file, f"is damaged: {found}", f"what `orbitrace {stage}` writes" if stage else "a JSON object")


def _number(cell: str | None) -> float:
    try:
        return float(cell or nan)
    except ValueError:
        return nan
