"""What of a configuration is done and what is missing, and the headline numbers, in lines to print. Light: it reads tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orbitrace import layout
from orbitrace.config import Contents
from orbitrace.report.headlines import counted, headlines
from orbitrace.report.results import DataSet, Model, Prediction, Results, gather

WIDTH = 34  # of the first column


def status_lines(contents: Contents, root: Path = Path()) -> list[str]:
    """One line for each data set, model, target and headline number, and the place of the report."""
    results = gather(contents, root)
    return [*_states(results), *results.notes, *_numbers(results), _report(root)]


def _states(results: Results) -> Iterator[str]:
    for name, dataset in results.datasets.items():
        yield _line(f"data set {name}", _dataset(dataset))
    for model in results.models:
        yield _line(f"model {model.name}", _model(model))
    for prediction in results.predictions:
        yield _line(f"target {prediction.target} by {prediction.model}", _prediction(prediction))


def _numbers(results: Results) -> Iterator[str]:
    for line in headlines(results):
        yield _line(f"{line.subject}: {line.quantity}", f"{line.value} {line.unit} ({line.detail})")


def _report(root: Path) -> str:
    file = root / layout.REPORT
    return _line("report", str(file) if file.exists() else "missing")


def _dataset(dataset: DataSet | None) -> str:
    if dataset is None:
        return "not scanned"
    bad = f", {len(dataset.quarantined)} in quarantine" if dataset.quarantined else ""
    return f"{counted(dataset.calculations, 'calculation')}, {dataset.shards_built} of {counted(dataset.shards, 'shard')}{bad}"


def _model(model: Model) -> str:
    if model.trained:
        return "trained"
    return f"in training: {counted(model.log[-1].step, 'step')}" if model.log else "missing"


def _prediction(prediction: Prediction) -> str:
    return str(prediction.bands.parent) if prediction.bands.exists() else "missing"


def _line(name: str, text: str) -> str:
    return f"{name:{WIDTH}} {text}"
