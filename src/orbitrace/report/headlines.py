"""The numbers that one looks at first, and how numbers are written. Light, as `results`."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple

from orbitrace.report.results import Model, Prediction, Results


class Headline(NamedTuple):
    """One number: what it is of, how it is called, value, unit, and what qualifies it."""

    subject: str
    quantity: str
    value: str
    unit: str
    detail: str


def headlines(results: Results) -> list[Headline]:
    """Errors of every target that has a reference, then time and error of every training."""
    several = len(results.models) > 1
    return [
        *(line for p in results.predictions for line in _of_prediction(p, several)),
        *(line for model in results.models for line in _of_model(model)),
    ]


def digits(number: float) -> str:
    """A number with three digits that count; a dash if there is none."""
    if not isfinite(number):
        return "–"
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    decimals = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:.{decimals}f}" if abs(number) >= 0.1 or number == 0 else f"{number:.2g}"


def duration(seconds: float) -> tuple[str, str]:
    """A time and its unit."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return digits(seconds / length), unit
    return digits(seconds), "s"


def energy_window(window: tuple[float, float]) -> str:
    """Energies about the Fermi level, in words."""
    lower, upper = window
    span = f"±{upper:g} eV" if lower == -upper else f"{lower:g} to {upper:g} eV".replace("-", "−")
    return f"{span} about the Fermi level"


def not_computed(bands: int) -> str:
    """What qualifies an error that does not cover all bands of the reference; empty if it does."""
    verb = "was" if bands == 1 else "were"
    return f", but for {counted(bands, 'band')} of the reference that {verb} not computed" if bands else ""


def _of_prediction(prediction: Prediction, several: bool) -> Iterator[Headline]:
    evaluation = prediction.evaluation
    if evaluation is None:
        return
    subject = f"{prediction.target} by {prediction.model}" if several else prediction.target
    errors = evaluation.hamiltonian
    aligned = f"{digits(errors.mae_aligned)} meV after the gauge shift"
    yield Headline(subject, "Hamiltonian MAE", digits(errors.mae), "meV", aligned)
    if evaluation.band_rmse is not None and evaluation.window is not None:
        detail = energy_window(evaluation.window) + not_computed(evaluation.missing_bands)
        yield Headline(subject, "band RMSE", digits(evaluation.band_rmse * 1000), "meV", detail)


def _of_model(model: Model) -> Iterator[Headline]:
    if model.log:
        time, unit = duration(model.log[-1].seconds)
        steps = digits(model.log[-1].step)
        yield Headline(model.name, "training time", time, unit, f"{steps} steps")
    if model.evaluation is not None:
        errors = model.evaluation.hamiltonian
        split = model.evaluation.split or "validation"
        detail = counted(len(errors.mae_per_sample), "calculation") + (
            " never trained on" if split in ("validation", "test") else ""
        )
        yield Headline(model.name, f"{split} MAE", digits(errors.mae), "meV", detail)


def counted(number: int, noun: str) -> str:
    """A number with its noun, in singular or plural."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
