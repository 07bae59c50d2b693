"""From a checkpoint, a structure and its overlap to a Hamiltonian.

A structure of more pairs than are to be in memory at a time is cut into tiles (`graphs.tiles`), and a network that is local
goes over all of them once per step, handing on what atoms know in files (`scratch`). Every pair is computed once, as in the
whole graph: there is no halo that is computed twice, and memory and time per pair do not grow with the structure. Several
processes share the tiles (`team`), and a prediction that is killed goes on from its last finished tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from orbitrace import memory
from orbitrace.errors import InputError
from orbitrace.graphs.graph import check_whole
from orbitrace.graphs.tiles import borders, cut
from orbitrace.physics.blocks import Blocks, Values
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.structure import Ints, Structure
from orbitrace.prediction.network import TrainedNetwork
from orbitrace.prediction.progress import shown
from orbitrace.prediction.scratch import Scratch, key_of, opened
from orbitrace.prediction.team import Task, gathered
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint

PAIRS = 20_000  # at a time; about 0.4 GB in the default network
TILES_EACH = 4  # at least; a process takes as long to start as for three


@dataclass(frozen=True)
class How:
    """How a prediction is computed; nothing of its result depends on it but rounding.

    Parameters
    ----------
    pairs
        Pairs of atoms that a process has in memory at a time. Larger structures are cut into tiles of so many.
    processes
        Processes that share the tiles.
    device
        "cpu" or "cuda"; several processes share all GPUs.
    scratch
        Folder for what is finished, from which a killed prediction goes on; a temporary one by default.
    progress
        Whether to show on standard error how far it is.
    """

    pairs: int = PAIRS
    processes: int = 1
    device: str = "cpu"
    scratch: Path | None = None
    progress: bool = False


def predict(
    checkpoint: Path,
    structure: Structure,
    basis: Basis,
    overlap: Blocks,
    where: str = "structure",
    initial: Blocks | None = None,
    how: How = How(),
) -> Blocks:
    """The Hamiltonian of a structure.

    Parameters
    ----------
    checkpoint
        File written by training.
    structure, basis, overlap
        The atoms, the basis of their overlap, and the overlap itself, whose pairs are those of the result.
    where
        What the structure comes from, for messages.
    initial
        eV; reference Hamiltonian H0 over the same pairs, for a network that learned H - H0.
    how
        Memory, processes, device.

    Returns
    -------
    Blocks
        eV, over the pairs of the overlap, exactly Hermitian; on the mean energy zero of the training data, and spin-doubled if
        these are.

    Raises
    ------
    InputError
        If the checkpoint is of another basis, lacks an element, never saw pairs as close as some of these, or needs H0; and as
        `Predictor`.
    """
    trained = checkpoints.load(checkpoint)
    check_target(trained, structure, basis, overlap, checkpoint, where)
    return Predictor(trained, how)(structure, overlap, initial, where)


def check_target(
    trained: Checkpoint,
    structure: Structure,
    basis: Basis,
    overlap: Blocks,
    checkpoint: Path,
    where: str,
    distances: bool = True,
) -> None:
    """Refuse a target that the training data say nothing about: its elements, their basis and, if asked for, its distances."""
    unknown = [SYMBOLS[z] for z in structure.elements if z not in trained.basis]
    if unknown:
        known = ", ".join(SYMBOLS[z] for z in trained.basis.elements)
        raise InputError(
            where,
            f"{', '.join(unknown)} was never trained on",
            f"elements that {checkpoint} knows: {known}",
            "Add calculations with this element to the training data",
        )
    trained.basis.merged(basis.restricted(structure.elements), where, f"the checkpoint {checkpoint}")
    trained.labeller.check_neighbours(structure, overlap, where)
    if distances:
        trained.labeller.reference.check_coverage(structure, overlap.pairs, where)


def device_of(accelerator: Literal["auto", "cpu", "gpu"]) -> str:
    """Name of torch for where it runs. Raises InputError if a GPU is asked for, and there is none."""
    there = torch.cuda.is_available()
    if accelerator == "gpu" and not there:
        raise InputError(
            "predict.accelerator: gpu",
            f"this process sees no GPU (PyTorch {torch.__version__})",
            "a GPU, and a PyTorch with CUDA",
            "Ask the cluster for one, or set accelerator: cpu",
        )
    return "cuda" if there and accelerator != "cpu" else "cpu"


class Predictor:
    """A trained network, ready for any number of structures."""

    def __init__(self, trained: Checkpoint, how: How = How()) -> None:
        self.how = how
        self.network = TrainedNetwork(trained, how.device)

    def __call__(
        self, structure: Structure, overlap: Blocks, initial: Blocks | None = None, where: str = "structure"
    ) -> Blocks:
        """Hamiltonian over the pairs of the overlap, eV.

        Raises
        ------
        InputError
            If the network learned H - H0 and H0 is missing; if it needs the whole structure at once and memory does not
            suffice; if a process is killed, or the scratch folder cannot be written.
        """
        if overlap.n_pairs <= self.how.pairs:
            return self.network.whole(structure, overlap, initial, where)
        if not self.network.network.local:
            self._check_memory(overlap, where)
            return self.network.whole(structure, overlap, initial, where)
        check_whole(structure, overlap)
        self.network.labeller.check_initial(overlap, initial, where)
        return self._in_tiles(structure, overlap, initial, where).hermitian()

    def _in_tiles(self, structure: Structure, overlap: Blocks, initial: Blocks | None, where: str) -> Blocks:
        """As the network says it, the two directions of a pair not averaged."""
        ends = borders(overlap, structure.n_atoms, self.how.pairs)
        n, steps = len(ends) - 1, self.network.network.steps
        key = key_of(self.network.trained, structure, (overlap, initial), self.how.pairs)
        with opened(self.how.scratch, key) as scratch:

            def tasks(step: int) -> Iterator[Task]:
                for tile in range(n):
                    if not scratch.has(step if step < steps else None, tile):
                        own = cut(structure, overlap, int(ends[tile]), int(ends[tile + 1]), initial)
                        yield Task(step, tile, own, scratch, where)

            due = [sum(not scratch.has(k if k < steps else None, tile) for tile in range(n)) for k in range(steps + 1)]
            done = n * (steps + 1) - sum(due)
            with (
                gathered(max(min(self.how.processes, n // TILES_EACH), 1), self.network, scratch) as team,
                shown(n * (steps + 1), done, self.how.progress) as advance,
            ):
                for step in range(steps + 1):
                    for _ in team(tasks(step)):
                        done += 1
                        advance(done)
                    if step < steps:
                        scratch.gather(step, n)
            return self._collected(overlap, ends, scratch)

    def _collected(self, overlap: Blocks, ends: Ints, scratch: Scratch) -> Blocks:
        """The elements of all tiles in one flat array."""
        spin = self.network.labeller.spin
        shapes = overlap.shapes * spin.spin.components
        size = int(shapes.prod(1).sum())
        values: Values = np.empty(size, np.complex128) if spin.is_complex else np.empty(size)
        begin = 0
        for tile in range(len(ends) - 1):
            part = np.load(scratch.values(tile))
            values[begin : begin + len(part)] = part
            begin += len(part)
        return Blocks(overlap.pairs, shapes, values)

    def _check_memory(self, overlap: Blocks, where: str) -> None:
        """Refuse what does not fit, before it is tried."""
        need, there = overlap.n_pairs * self.network.network.bytes_per_pair, memory.available()
        if need > there:
            model = self.network.trained.model
            raise InputError(
                where,
                f"its {overlap.n_pairs} pairs need about {need / 1e9:.3g} GB at once, because every block of {model} hangs on "
                f"the whole structure; {there / 1e9:.3g} GB are free",
                "a structure that fits into memory, or a local network",
                "Train deeph_e3_local, which is predicted in tiles, or ask for more memory",
            )
