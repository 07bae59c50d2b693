"""What is done and what is missing, and the headline numbers, in lines to print. Light: it reads tables, never matrices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from orbitrace import layout
from orbitrace.config import Contents
from orbitrace.jobs import job_lines
from orbitrace.report.headlines import counted, digits, duration, headlines
from orbitrace.report.results import DataSet, Model, Prediction, Results, gather


def status_lines(contents: Contents, root: Path = Path()) -> list[str]:
    """One line for each data set, model, ablation, target and headline number; what runs, failed (and why) or is damaged.

    Parameters
    ----------
    contents
        What a configuration asks for, by name.
    root
        Folder that holds the tree of results (`orbitrace.layout`).
    """
    results = gather(contents, root)
    cells = [*_states(results), *_ablations(results, root), *_numbers(results)]
    width = max((len(name) for name, _ in cells), default=0)
    report = f"report: {layout.REPORT}" if (root / layout.REPORT).exists() else "report is missing: `snakemake` makes it"
    return [*(f"{name:{width}}  {text}" for name, text in cells), *job_lines(root), *results.notes, report]


def _states(results: Results) -> Iterator[tuple[str, str]]:
    for name, dataset in results.datasets.items():
        yield f"data set {name}", _dataset(dataset) if dataset else "not scanned"
    for model in results.models:
        yield f"model {model.name}", _model(model)
    for prediction in results.predictions:
        yield f"target {prediction.target} by {prediction.model}", _prediction(prediction)


def _ablations(results: Results, root: Path) -> Iterator[tuple[str, str]]:
    """Of each ablation that was begun: how many of its trainings ended."""
    for model in results.models:
        begun = Path(layout.SETUP.format(model=model.name, setup="*", seed="*"))
        found = Counter("trained" if (run / "checkpoint.pt").exists() else "begun" for run in root.glob(str(begun)))
        if found:
            table = "table" if (root / layout.ABLATION.format(model=model.name)).exists() else "no table yet"
            yield f"ablation of {model.name}", f"{found['trained']} of {counted(found.total(), 'training')} ended, {table}"


def _numbers(results: Results) -> Iterator[tuple[str, str]]:
    for line in headlines(results):
        yield f"{line.quantity} of {line.subject}", f"{line.value} {line.unit} ({line.detail})"


def _dataset(dataset: DataSet) -> str:
    shards = f"{dataset.shards_built} of {counted(dataset.shards, 'shard')}"
    bad = f", {len(dataset.quarantined)} in quarantine" if dataset.quarantined else ""
    return f"{counted(dataset.calculations, 'calculation')}, {shards}{bad}"


def _model(model: Model) -> str:
    judged = f". {model.not_judged}" if model.not_judged else ""
    if not model.log:
        return f"trained{judged}" if model.trained else "missing"
    last = model.log[-1]
    so_far = f"{counted(last.step, 'step')} in {' '.join(duration(last.seconds))}"
    if model.trained:
        return f"trained: {so_far}{judged}"
    best = f", validation MAE {digits(model.best.validation_mae)} meV" if model.best else ""
    return f"in training: {so_far}{best}"


def _prediction(prediction: Prediction) -> str:
    if not prediction.bands.exists():
        return "missing" if prediction.info is None else "predicted; its bands are missing"
    judged = prediction.evaluation is not None or not prediction.has_reference
    return prediction.place if judged else f"{prediction.place}; not compared with its reference yet"
