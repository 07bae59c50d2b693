"""The door of training: shards in, a checkpoint out. One trainer for all models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orbitrace.learning import LearnSection


def train(shards: Sequence[Path], checkpoint: Path, workdir: Path, section: LearnSection) -> None:
    """Train a network on the calculations of some shards: see `training.fit.train`."""
    # Lightning takes seconds to import; predictions, which need checkpoints only, do without it.
    from orbitrace.training import fit

    fit.train(shards, checkpoint, workdir, section)
