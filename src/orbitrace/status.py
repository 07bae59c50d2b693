"""What of a configuration is done and what is missing, in lines to print. Light: it reads tables, never matrices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orbitrace import layout
from orbitrace.config import Config
from orbitrace.manifest import read_manifest

# Headline numbers of a table of errors, all in meV.
NUMBERS = {"mae": "MAE", "mae_aligned": "aligned", "mae_worst_sample": "worst sample", "mae_worst_block": "worst block"}


def status_lines(config: Config) -> list[str]:
    """One line for each data set, model and prediction, and one for the report."""
    lines = [*_datasets(config), *_models(config), *_predictions(config)]
    lines.append(_line("report", "", layout.REPORT if Path(layout.REPORT).exists() else "missing"))
    return lines


def headline(table: dict[str, Any]) -> str:
    """The numbers of a table of errors that one looks at first."""
    errors = table.get("hamiltonian", {})
    words = [f"{word} {errors[key]:.2f} meV" for key, word in NUMBERS.items() if key in errors]
    text = "H: " + ", ".join(words) if words else ""
    if "bands" in table:
        bands = table["bands"]
        lower, upper = bands["window"]
        text += f"; bands: RMSE {bands['rmse'] * 1000:.1f} meV in [{lower:g}, {upper:g}] eV"
    return text


def _datasets(config: Config) -> Iterator[str]:
    for dataset in config.datasets:
        file = Path(layout.MANIFEST.format(dataset=dataset))
        if not file.exists():
            yield _line("data set", dataset, "not scanned")
            continue
        manifest = read_manifest(file)
        names = [layout.shard_name(number) for number in manifest.shards]
        built = sum(Path(layout.SHARD.format(dataset=dataset, shard=name)).exists() for name in names)
        bad = sum(_rows(Path(layout.QUARANTINE.format(dataset=dataset, shard=name))) for name in names)
        text = f"{len(manifest.calculations)} calculations, {built} of {len(names)} shards"
        yield _line("data set", dataset, text + (f", {bad} in quarantine" if bad else ""))


def _models(config: Config) -> Iterator[str]:
    for model in config.models:
        trained = Path(layout.CHECKPOINT.format(model=model)).exists()
        table = _table(layout.MODEL_EVALUATION.format(model=model))
        yield _line("model", model, (headline(table) if table else "trained") if trained else "missing")


def _predictions(config: Config) -> Iterator[str]:
    for model in config.models:
        for target in config.targets_of(model):
            bands = Path(layout.BANDS.format(model=model, target=target))
            table = _table(layout.TARGET_EVALUATION.format(model=model, target=target))
            text = ", ".join(filter(None, [headline(table or {}), str(bands.parent)]))
            yield _line("target", f"{target} by {model}", text if bands.exists() else "missing")


def _table(file: str) -> dict[str, Any] | None:
    table: dict[str, Any] | None = json.loads(Path(file).read_text()) if Path(file).exists() else None
    return table


def _rows(table: Path) -> int:
    """Rows of a table below its header."""
    return max(0, len(table.read_text().splitlines()) - 1) if table.exists() else 0


def _line(noun: str, name: str, text: str) -> str:
    return f"{noun:9} {name + ':' if name else '':32} {text}"
