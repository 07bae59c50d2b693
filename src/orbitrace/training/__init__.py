"""The door of training: shards in, a checkpoint out. One trainer for all models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from orbitrace.learning import LearnSection


def train(shards: Sequence[Path], checkpoint: Path, workdir: Path, section: LearnSection) -> None:
    """Train a network on the calculations of some shards, in one process for each device: see `training.fit.train`."""
    from orbitrace.training import processes

    processes.run(partial(_fit, list(shards), checkpoint, workdir, section), section.train, workdir)


def _fit(shards: Sequence[Path], checkpoint: Path, workdir: Path, section: LearnSection) -> None:
    # Lightning takes seconds to import; predictions, which need checkpoints only, and what watches processes do without it.
    from orbitrace.training import fit

    fit.train(shards, checkpoint, workdir, section)
