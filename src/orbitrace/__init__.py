"""OrbiTrace: from raw DFT outputs to the bands of structures that DFT cannot reach.

In a notebook, ``import orbitrace`` offers the stages as functions, ``orbitrace.stages.read(...)`` and so on, and the rooms
(``orbitrace.bands``, ``orbitrace.readers``, ...). They are imported when they are first asked for.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """A module of the package, on first use."""
    if not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
