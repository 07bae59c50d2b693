"""Folders of DeepH-pack as other tools write them: without what only OrbiTrace knows."""

import json
from pathlib import Path

from orbitrace import interchange
from orbitrace.physics.calculation import Calculation, Spin
from raw_files import crystal


def write(folder: Path, house: Calculation) -> None:
    interchange.write_legacy_folder(folder, house)
    info = json.loads((folder / "info.json").read_text())
    del info["orbitrace"]
    (folder / "info.json").write_text(json.dumps(info))


def sample(folder: Path) -> None:
    """A small calculation that is in order."""
    write(folder, crystal(Spin.NONE))
