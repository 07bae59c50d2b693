"""From a checkpoint, a structure and its overlap to a Hamiltonian."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from orbitrace.errors import InputError
from orbitrace.graphs.assembly import Assembly, to_blocks
from orbitrace.graphs.batches import collate
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.structure import Structure
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint


def predict(
    checkpoint: Path,
    structure: Structure,
    basis: Basis,
    overlap: Blocks,
    where: str = "structure",
    initial: Blocks | None = None,
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

    Returns
    -------
    Blocks
        eV, over the pairs of the overlap, exactly Hermitian; on the mean energy zero of the training data, and spin-doubled if
        these are.

    Raises
    ------
    InputError
        If the checkpoint is of another basis, lacks an element, never saw pairs as close as some of these, or needs H0.
    """
    trained = checkpoints.load(checkpoint)
    check_target(trained, structure, basis, overlap, checkpoint, where)
    return Predictor(trained)(structure, overlap, initial, where)


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


class Predictor:
    """A trained network, ready for any number of structures."""

    def __init__(self, trained: Checkpoint, device: str = "cpu") -> None:
        self.labeller = trained.labeller
        self.dtype: torch.dtype = getattr(torch, trained.precision)
        self.device = device
        self.network = trained.build().to(device)
        with checkpoints.default_dtype(self.dtype):
            self.assembly = Assembly(trained.basis, self.labeller.spin).to(device)

    @torch.no_grad()
    def __call__(
        self, structure: Structure, overlap: Blocks, initial: Blocks | None = None, where: str = "structure"
    ) -> Blocks:
        """Hamiltonian over the pairs of the overlap, eV. Raises InputError if the network learned H - H0 and H0 is missing."""
        known = self.labeller.known(structure, overlap, initial, where)
        sample = self.labeller.sample(structure, overlap)
        batch = collate([sample], self.dtype).to(self.device)
        values = self.assembly(batch, self.network(batch).irreps)
        elements = values.cpu().numpy().astype(np.float64)
        learned = to_blocks(sample.graph, overlap, elements, self.labeller.spin)
        return known.with_values(known.values + learned.values).hermitian()
