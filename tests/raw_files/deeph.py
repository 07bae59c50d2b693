"""Folders of DeepH, 2026, as OrbiTrace itself writes them."""

from pathlib import Path

from orbitrace import interchange
from orbitrace.physics.calculation import Spin
from raw_files import crystal


def sample(folder: Path) -> None:
    """A small calculation that is in order."""
    interchange.write_folder(folder, crystal(Spin.NONE))
