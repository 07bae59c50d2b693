"""Options of the spectra's plug-ins: frozen dataclasses filled from plain data, with unknown names refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from orbitrace.errors import InputError

T = TypeVar("T")


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind` from plain data.

    Raises
    ------
    InputError
        If there is no such option; the message lists the known ones and the closest match.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise InputError(
                f"{where}.{name}",
                "unknown key",
                f"one of {', '.join(known)}",
                f"Did you mean {close[0]!r}?" if close else "",
            )
    return kind(**values)
