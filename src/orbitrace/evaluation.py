"""Judging predictions: a Hamiltonian against the DFT code's, and a checkpoint on the calculations that it never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from orbitrace.errors import InputError
from orbitrace.graphs.labels import check_spin
from orbitrace.physics.calculation import Calculation
from orbitrace.prediction import Predictor, check_target
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint
from orbitrace.training.data import Corpus
from orbitrace.training.metrics import BlockErrors, block_errors, summarise


class EmptyPartError(InputError):
    """A part of a data set has no calculation that could judge a model."""


def evaluate(predicted: Calculation, reference: Calculation, name: str = "structure") -> dict[str, Any]:
    """Metrics of one predicted Hamiltonian, meV: see `training.metrics.summarise`.

    Raises
    ------
    InputError
        If the two are not of the same structure, basis, pairs and treatment of spin.
    """
    _check_same(predicted, reference, name)
    errors = block_errors(
        reference.structure,
        reference.basis,
        predicted.hamiltonian,
        reference.hamiltonian,
        reference.overlap,
        reference.spin,
    )
    distance = _overlap_error(predicted, reference)
    return {**summarise([(name, errors)]), "overlap_max_error": distance}


def evaluate_checkpoint(
    checkpoint: Path, shards: Sequence[Path], split: str, references: Mapping[str, Calculation] = MappingProxyType({})
) -> dict[str, Any]:
    """Metrics of a checkpoint on a part of some shards and on other calculations, meV.

    Parameters
    ----------
    checkpoint
        File written by training.
    shards
        Those that it was trained on; for the part "all", any of the same basis.
    split
        "train", "validation" or "test": the part that judges; "all": every calculation of the shards.
    references
        Further calculations that judge, by name.

    Raises
    ------
    EmptyPartError
        If the part is empty, or the shards lack its calculations.
    InputError
        If a calculation has another treatment of spin, or another basis.
    """
    trained = checkpoints.load(checkpoint)
    others = (("", name, c) for name, c in references.items())
    judges = chain(_part(trained, checkpoint, shards, split) if shards else (), others)
    predictor = Predictor(trained)
    errors: dict[str, list[tuple[str, BlockErrors]]] = {}
    for dataset, name, c in judges:
        check_spin(c, trained.labeller.spin.spin, name)
        check_target(trained, c.structure, c.basis, c.overlap, checkpoint, name, distances=False)
        predicted = predictor(c.structure, c.overlap, c.initial, name)
        found = block_errors(c.structure, c.basis, predicted, c.hamiltonian, c.overlap, c.spin)
        errors.setdefault(dataset, []).append((name, found))
    return {**summarise([error for some in errors.values() for error in some]), "per_dataset": _apart(errors)}


def _part(trained: Checkpoint, checkpoint: Path, shards: Sequence[Path], split: str) -> Iterator[tuple[str, str, Calculation]]:
    """(data set, name, calculation) of one part of some shards."""
    corpus = Corpus(shards)
    wanted = {item.id for item in corpus.items} if split == "all" else set(trained.split.get(split, ()))
    items = [item for item in corpus.items if {item.id, item.long_name} & wanted]
    if not items:
        there = {name for item in corpus.items for name in (item.id, item.long_name)}
        others = ", ".join(part for part, ids in trained.split.items() if there & set(ids))
        raise EmptyPartError(
            checkpoint,
            f"its part {split!r} has no calculation in these shards",
            f"a part that is not empty: {others}" if others else "the shards that it was trained on",
            f"Set a fraction for {split!r} in section train, or choose another part in section evaluate",
        )
    for item in items:
        yield item.dataset, corpus.name(item), corpus.calculation(item)


def _apart(errors: Mapping[str, list[tuple[str, BlockErrors]]]) -> dict[str, Any]:
    """What the errors are in each data set by itself: small ones hardly count in the mean over all elements."""
    tables = {dataset: summarise(some) for dataset, some in errors.items() if dataset}
    keys = ("mae", "mae_aligned", "mae_worst_block", "worst_block", "mae_worst_sample", "worst_sample")
    return {d: {**{key: table[key] for key in keys}, "calculations": len(errors[d])} for d, table in tables.items()}


def _check_same(predicted: Calculation, reference: Calculation, name: str) -> None:
    if predicted.spin is not reference.spin:
        kinds = f"spin treated as {predicted.spin.value!r}", f"{reference.spin.value!r}, as in the reference"
        raise InputError(name, *kinds, "Compare with a calculation like those of the training")
    ours, theirs = predicted.structure, reference.structure
    if not np.array_equal(ours.numbers, theirs.numbers):
        raise InputError(name, f"{ours.n_atoms} atoms predicted", f"the {theirs.n_atoms} atoms of the reference, in its order")
    if np.abs(ours.positions - theirs.positions).max() > 1e-4 or np.abs(ours.lattice - theirs.lattice).max() > 1e-4:
        raise InputError(
            name, "the predicted structure is not that of the reference", "equal positions and lattice, unwrapped"
        )
    reference.basis.merged(predicted.basis, name, "the reference")
    expected = reference.hamiltonian
    for blocks in (predicted.hamiltonian, predicted.overlap, reference.overlap):
        if not np.array_equal(blocks.pairs, expected.pairs):
            found = f"{blocks.n_pairs} blocks, not over the pairs of the reference"
            raise InputError(name, found, f"its {expected.n_pairs} blocks, for H and overlap alike", "Check the cutoffs")


def _overlap_error(predicted: Calculation, reference: Calculation) -> float:
    """Largest difference of the overlaps; dimensionless."""
    return float(np.abs(predicted.overlap.values - reference.overlap.values).max())
