"""The page: what stands in it, in the order in which one reads it; `page.html` says how it looks.

Whatever is missing becomes a sentence where it would have stood. Text is escaped by the template; figures are our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orbitrace.config import Contents
from orbitrace.origins import versions
from orbitrace.report.ablations import ablation_section
from orbitrace.report.blocks import Bar, Matrix, bars, block_bars, matrices
from orbitrace.report.headlines import counted, digits, duration, headlines
from orbitrace.report.provenance import origins
from orbitrace.report.results import DataSet, Errors, Evaluation, Model, Prediction, Results, gather
from orbitrace.report.spectra import Picture, Pictures, pictures

_SHOWN_BARS = 12
_SHOWN_QUARANTINED = 200
_COLUMNS = (
    "MAE (meV)",
    "aligned (meV)",
    "worst calculation (meV)",
    "worst block (meV)",
    "gauge shift (meV)",
    "ΔS",
    "band RMSE (meV)",
)
_NONE = ("–", "")

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Blocks:
    """Errors by basic block: as matrices, and as bars, of which the first are shown at once."""

    matrices: tuple[Matrix, ...]
    worst: tuple[Bar, ...]
    others: tuple[Bar, ...]


def render(contents: Contents, root: Path = Path()) -> str:
    """The whole page as HTML."""
    results = gather(contents, root)
    notes = list(results.notes)
    targets = [_target(prediction, notes) for prediction in results.predictions]
    environment = Environment(
        loader=PackageLoader("orbitrace.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html").render(
        title=contents.title,
        summary=_summary(results),
        headlines=headlines(results),
        notes=notes,
        several=len(results.models) > 1,
        targets=targets,
        models=[_model(model) for model in results.models],
        ablations=[ablation_section(ablation) for ablation in results.ablations],
        metrics=_metrics(results),
        datasets=[_dataset(name, dataset) for name, dataset in results.datasets.items()],
        versions=[*versions().items()],
        origins=origins(results, root),
    )


def _summary(results: Results) -> str:
    known = [dataset for dataset in results.datasets.values() if dataset is not None]
    codes = ", ".join(sorted({code for dataset in known for code in dataset.codes}))
    calculations = counted(sum(dataset.calculations for dataset in known), "calculation") + (f" by {codes}" if codes else "")
    models = ", ".join(model.name for model in results.models)
    targets = ", ".join(dict.fromkeys(prediction.target for prediction in results.predictions))
    return " → ".join(filter(None, [calculations, models, targets]))


# --- targets ---------------------------------------------------------------------------------------------------------------


def _target(prediction: Prediction, notes: list[str]) -> dict[str, Any]:
    seen = pictures(prediction, notes)
    return {
        "name": prediction.target,
        "model": prediction.model,
        "bands": _figure(seen.bands),
        "states": _figure(seen.states),
        "more": [_figure(picture) for picture in seen.more],
        "structure": _figure(seen.structure),
        "facts": _target_facts(prediction, seen),
        "missing": _target_missing(prediction, seen),
        "blocks": _blocks(prediction.evaluation),
    }


def _target_facts(prediction: Prediction, seen: Pictures) -> Facts:
    facts: Facts = list(seen.facts)
    if prediction.has_reference:
        facts.append(("reference", prediction.reference_code))
    if prediction.info is not None:
        facts.append(("files", prediction.place))
    return facts


def _target_missing(prediction: Prediction, seen: Pictures) -> list[str]:
    missing = []
    if prediction.info is None:
        missing.append("Its Hamiltonian has not been predicted yet.")
    elif not prediction.bands.exists():
        missing.append("Its bands have not been computed yet.")
    elif not prediction.has_reference:
        missing.append("No DFT calculation of it is given: there is nothing to compare with.")
    elif seen.not_compared:
        missing.append(seen.not_compared)
    if prediction.has_reference and prediction.info is not None and prediction.evaluation is None:
        missing.append("Its errors have not been computed yet.")
    return missing


# --- models ----------------------------------------------------------------------------------------------------------------


def _model(model: Model) -> dict[str, Any]:
    from orbitrace.report.figures import learning_figure

    judged = model.evaluation
    samples = bars(judged.hamiltonian.mae_per_sample) if judged else ()
    settings = (model.settings or {}).get("section")
    split: Mapping[str, Any] = (model.settings or {}).get("split") or {}
    curves = [learning_figure(model.log, model.best, against) for against in ("step", "seconds")] if model.log else []
    return {
        "name": model.name,
        "curves": [Markup(curve) for curve in curves],
        "facts": _model_facts(model),
        "missing": _model_missing(model),
        "split": (judged.split if judged else None) or "validation",
        "blocks": _blocks(judged),
        "samples": samples[:_SHOWN_BARS],
        "more_samples": samples[_SHOWN_BARS:],
        "settings": json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) if settings else None,
        "split_ids": [(part, [str(i) for i in ids]) for part, ids in split.items() if ids],
    }


def _model_facts(model: Model) -> Facts:
    facts: Facts = []
    settings = (model.settings or {}).get("section") or {}
    if "model" in settings:
        facts.append(("network", str(settings["model"])))
    if settings.get("init_from"):
        facts.append(("started from", str(settings["init_from"])))
    if model.log:
        last = model.log[-1]
        facts += [("steps", digits(last.step)), ("time", " ".join(duration(last.seconds)))]
    if model.best is not None:
        facts.append(("kept", f"step {digits(model.best.step)}"))
        facts.append(("validation MAE of it", f"{digits(model.best.validation_mae)} meV"))
        if isfinite(model.best.train_mae):
            facts.append(("training MAE of it", f"{digits(model.best.train_mae)} meV"))
    train = settings.get("train") or {}
    facts += [(name, str(train[name])) for name in ("seed", "precision") if name in train]
    return facts


def _model_missing(model: Model) -> list[str]:
    missing = []
    if not model.trained:
        missing.append("Its training has not ended yet." if model.log else "It has not been trained yet.")
    elif not model.log:
        missing.append("The log of its training is not there: no learning curve.")
    if model.not_judged:
        missing.append(model.not_judged)
    elif model.trained and model.evaluation is None:
        missing.append("Its errors have not been computed yet.")
    return missing


def _blocks(evaluation: Evaluation | None) -> Blocks | None:
    if evaluation is None:
        return None
    per_block = evaluation.hamiltonian.mae_per_block
    sorted_bars = block_bars(per_block)
    return Blocks(matrices(per_block), sorted_bars[:_SHOWN_BARS], sorted_bars[_SHOWN_BARS:])


# --- tables ----------------------------------------------------------------------------------------------------------------


def _metrics(results: Results) -> dict[str, Any] | None:
    several = len(results.models) > 1
    rows = [
        _row(p.target, f"target, by {p.model}" if several else "target", p.evaluation)
        for p in results.predictions
        if p.evaluation is not None
    ]
    for model in results.models:
        if model.evaluation is not None:
            n = len(model.evaluation.hamiltonian.mae_per_sample)
            name = f"{model.evaluation.split or 'validation'}" + (f" of {model.name}" if several else "")
            rows += [_row(name, counted(n, "calculation"), model.evaluation), *_apart(model.evaluation.hamiltonian)]
    filled = [k for k in range(len(_COLUMNS)) if any(row["cells"][k][0] != "–" for row in rows)]
    for row in rows:
        row["cells"] = [row["cells"][k] for k in filled]
    return {"columns": [_COLUMNS[k] for k in filled], "rows": rows} if rows else None


def _apart(errors: Errors) -> list[dict[str, Any]]:
    """A row for each data set, if there are several."""
    parts = errors.per_dataset or {}
    return [
        {
            "name": f"… {dataset}",
            "detail": counted(part.calculations, "calculation"),
            "cells": [
                (digits(part.mae), ""),
                (digits(part.mae_aligned), ""),
                (digits(part.mae_worst_sample), part.worst_sample) if part.calculations > 1 else _NONE,
                (digits(part.mae_worst_block), part.worst_block),
                *(_NONE for _ in range(len(_COLUMNS) - 4)),
            ],
        }
        for dataset, part in sorted(parts.items())
        if len(parts) > 1
    ]


def _row(name: str, detail: str, evaluation: Evaluation) -> dict[str, Any]:
    errors = evaluation.hamiltonian
    several = len(errors.mae_per_sample) > 1
    shift = max((abs(value) for value in errors.gauge_shift_mev.values()), default=float("nan"))
    overlap = errors.overlap_max_error
    return {
        "name": name,
        "detail": detail,
        "cells": [
            (digits(errors.mae), ""),
            (digits(errors.mae_aligned), ""),
            (digits(errors.mae_worst_sample), errors.worst_sample) if several else ("–", ""),
            (digits(errors.mae_worst_block), errors.worst_block),
            (digits(shift), ""),
            (f"{overlap:.1e}" if overlap is not None else "–", ""),
            (digits(evaluation.band_rmse * 1000) if evaluation.band_rmse is not None else "–", ""),
        ],
    }


def _dataset(name: str, dataset: DataSet | None) -> dict[str, Any]:
    if dataset is None:
        return {"name": name, "facts": [("state", "not scanned yet")], "quarantined": (), "unlisted": 0}
    size = dataset.raw_bytes
    bad = dataset.quarantined
    facts = [
        ("calculations", f"{dataset.calculations:,}"),
        ("DFT code", ", ".join(dataset.codes)),
        ("raw files", f"{digits(size / 1e9)} GB" if size >= 1e9 else f"{digits(size / 1e6)} MB"),
        ("shards", f"{dataset.shards_built} of {dataset.shards}"),
        ("in quarantine", f"{len(bad):,}" if bad else "none"),
    ]
    unlisted = max(0, len(bad) - _SHOWN_QUARANTINED)
    return {"name": name, "facts": facts, "quarantined": bad[:_SHOWN_QUARANTINED], "unlisted": unlisted}


def _figure(picture: Picture | None) -> dict[str, str] | None:
    """A figure for the template: the one thing on the page that is not escaped, for it is our own."""
    return None if picture is None else {"svg": Markup(picture.svg), "caption": picture.caption}
