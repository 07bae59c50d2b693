"""Ablations on the page: the table in the paper's form, and the learning curves of all set-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from orbitrace.report.headlines import counted, digits
from orbitrace.report.results import Ablation

_MEASURES = {"mae_all": "MAE", "mae_cha_sample": "challenging sample", "mae_cha_block": "challenging block"}


def ablation_section(ablation: Ablation) -> dict[str, Any]:
    """What the template shows of one ablation."""
    from orbitrace.report.figures import ablation_figure

    table = ablation.table
    keys = [(name, key) for name in table["sets"] for key in _MEASURES]
    return {
        "model": ablation.model,
        "sets": [(name, len(_MEASURES)) for name in table["sets"]],
        "columns": [*(_MEASURES[key] for _, key in keys), "steps", "time", "s/step", "cost"],
        "rows": [_row(row, keys) for row in table["rows"]],
        "seeds": len(table["seeds"]),
        "worst": [_worst(name, judge) for name, judge in table["sets"].items()],
        "curves": [Markup(ablation_figure(table["rows"], against)) for against in ("step", "seconds")],
    }


def _row(row: Mapping[str, Any], keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    errors = [row["errors"][name][key] for name, key in keys]
    cells = [(digits(error["mean"]) + _spread(error), _gain(error)) for error in errors]
    costs = [digits(row["steps"]), f"{digits(row['seconds'])} s", digits(row["seconds_per_step"]), digits(row["cost"])]
    return {"name": row["name"], "cells": [*cells, *((cost, "") for cost in costs)]}


def _spread(error: Mapping[str, Any]) -> str:
    return "" if error["spread"] is None else f" ± {digits(error['spread'])}"


def _gain(error: Mapping[str, Any]) -> str:
    """How much lower than that of the base, in words; empty for the base."""
    return "" if error["gain"] == 0 else f"{-error['gain']:+.0f} %".replace("-", "−")


def _worst(name: str, judge: Mapping[str, Any]) -> str:
    where = f"{judge['challenging_sample']} and on the block {judge['challenging_block']}"
    return f"{name}: {counted(len(judge['samples']), 'structure')}; the base is worst on {where}"
