"""Sections of settings: from plain data to checked, frozen objects, and from complaints to one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from orbitrace import __version__, plugins
from orbitrace.errors import InputError

# Counts up when the results of a stage change although its settings do not, so that those of older versions are redone.
SCHEMA = 1

# Of data sets, models and targets: they become names of folders.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]


class Section(BaseModel):
    """Any part of the configuration: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, data: Any) -> Any:
        # YAML gives None for a section whose every line is commented out.
        return {} if data is None else data


S = TypeVar("S", bound=Section)


def section_from(kind: type[S], data: Mapping[str, Any], where: str) -> S:
    """One section from plain data; raises `InputError` with the key in dots."""
    try:
        return kind.model_validate(dict(data))
    except ValidationError as errors:
        raise _as_input_error(kind, errors, where) from errors


def to_json(section: Section) -> str:
    """A section as sorted JSON on one line, with the versions that its results depend on."""
    versions = {"orbitrace": __version__, "schema": SCHEMA}
    return json.dumps({**section.model_dump(mode="json"), "versions": versions}, sort_keys=True)


def from_json(kind: type[S], text: str) -> S:
    """The inverse of `to_json`; keys that are missing take their defaults."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            "--settings", f"is not JSON: {error}", "an object of settings", "Use --config FILE instead"
        ) from error
    if not isinstance(data, dict):
        raise InputError("--settings", f"is {type(data).__name__}, not an object", "an object of settings")
    data.pop("versions", None)
    return section_from(kind, data, "--settings")


def refused(found: str, expected: str, remedy: str = "") -> PydanticCustomError:
    """An error of a validator that keeps its parts for `InputError`."""
    return PydanticCustomError("input", "{found}", {"found": found, "expected": expected, "remedy": remedy})


def _ascending(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] >= window[1]:
        raise refused(f"the window {list(window)} is empty", "[lower, upper] with lower < upper")
    return window


EnergyWindow = Annotated[tuple[float, float], AfterValidator(_ascending)]


def plugin(room: str, *others: str) -> AfterValidator:
    """The name of a plug-in of `room`, or one of some other words."""

    def check(name: str) -> str:
        known = [*others, *plugins.names(room)]
        if name not in known:
            raise refused(f"unknown name {name!r}", f"one of {', '.join(known)}", did_you_mean(name, known))
        return name

    return AfterValidator(check)


def check_options(room: str, name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a plug-in does not have, or whose values it cannot use; it is imported only if there are any."""
    if not options:
        return
    kind = plugins.load(room, name).Settings
    known = [field.name for field in fields(kind)]
    for key in options:
        if key not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise refused(f"unknown option {key!r} of {name}", expected, did_you_mean(key, known))
    try:
        TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as errors:
        first = errors.errors()[0]
        found = f"option {first['loc'][0]} of {name} is {first['input']!r}"
        raise refused(found, first["msg"].removeprefix("Input should be ")) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the closest known word; empty if none is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""


def _as_input_error(kind: type[Section], errors: ValidationError, where: str) -> InputError:
    """The first complaint of pydantic in one sentence of ours."""
    first = errors.errors()[0]
    steps = [str(step) for step in first["loc"]]
    key = f"{where}: {'.'.join(steps)}" if steps else where
    if first["type"] == "extra_forbidden":
        known = _keys(kind, steps[:-1])
        close = did_you_mean(steps[-1], known)
        return InputError(key, "unknown key", "" if close else f"one of {', '.join(known)}", close)
    if first["type"] == "input":
        return InputError(key, **first["ctx"])
    meaning = _meaning(kind, steps)
    if first["type"] == "missing":
        return InputError(key, "is missing", meaning)
    expected = first["msg"].removeprefix("Input should be ").removeprefix("String should ")
    return InputError(key, f"found {first['input']!r}", f"{expected} ({meaning})" if meaning else expected)


def _section_at(kind: type[Section], steps: list[str]) -> type[Section] | None:
    """The section that stands under some keys; names of data sets, models and targets are stepped over."""
    for step in steps:
        field = kind.model_fields.get(step)
        if field is not None:
            inner = _section_in(field.annotation)
            if inner is None:
                return None
            kind = inner
    return kind


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((inner for inner in map(_section_in, get_args(annotation)) if inner is not None), None)


def _keys(kind: type[Section], steps: list[str]) -> list[str]:
    section = _section_at(kind, steps)
    return sorted(section.model_fields) if section else []


def _meaning(kind: type[Section], steps: list[str]) -> str:
    """What a key means, from its field."""
    section = _section_at(kind, steps[:-1])
    field = section.model_fields.get(steps[-1]) if section and steps else None
    return field.description or "" if field else ""
