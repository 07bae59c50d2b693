"""Plug-ins are files: the name of a reader, overlap, model or eigensolver is the name of its file.

`names(room)` lists them without importing anything; `load(room, name)` imports that one file. A new plug-in is a new file
in its room and nothing else.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType

from orbitrace.errors import InputError

_PACKAGE = Path(__file__).parent


def names(room: str) -> list[str]:
    """Names of the plug-ins in a room, sorted; `room` is a sub-package in dots, e.g. ``"bands.eigensolvers"``."""
    folder = _PACKAGE.joinpath(*room.split("."))
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load(room: str, name: str) -> ModuleType:
    """Import one plug-in by its name.

    Raises
    ------
    InputError
        If the room has no such plug-in; the message lists the known ones and the closest match.
    """
    known = names(room)
    if name not in known:
        close = get_close_matches(name, known, n=1)
        raise InputError(
            where=room,
            found=f"unknown name {name!r}",
            expected=f"one of {', '.join(known)}",
            remedy=f"Did you mean {close[0]!r}?" if close else f"Add a file {name}.py to src/orbitrace/{room}/",
        )
    return import_module(f"orbitrace.{room}.{name}")
