"""A trained network at work: on a whole structure at once, or on one tile of it for one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from orbitrace.graphs.assembly import Assembly, to_blocks
from orbitrace.graphs.batches import Batch, collate
from orbitrace.graphs.tiles import Tile, to_batch
from orbitrace.models import State
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.structure import Floats, Structure
from orbitrace.prediction.scratch import Scratch, write
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint


class TrainedNetwork:
    """The network of a checkpoint on a device, with all that turns its irreps into blocks of H."""

    def __init__(self, trained: Checkpoint, device: str = "cpu") -> None:
        self.trained, self.labeller = trained, trained.labeller
        self.dtype: torch.dtype = getattr(torch, trained.precision)
        self.device = device
        self.network = trained.build()
        self.network.sharpen()
        self.network.to(device)
        with checkpoints.default_dtype(torch.float64):
            self.assembly = Assembly(trained.basis, self.labeller.spin).to(device)

    @torch.inference_mode()
    def whole(self, structure: Structure, overlap: Blocks, initial: Blocks | None, where: str) -> Blocks:
        """Hamiltonian over the pairs of the overlap, eV."""
        known = self.labeller.known(structure, overlap, initial, where)
        sample = self.labeller.sample(structure, overlap)
        batch = collate([sample], self.dtype).to(self.device)
        elements = self._elements(batch, self.network(batch).irreps)
        learned = to_blocks(sample.graph, overlap, elements, self.labeller.spin)
        return known.with_values(known.values + learned.values).hermitian()

    @torch.inference_mode()
    def step(self, number: int, tile: Tile, place: int, scratch: Scratch) -> None:
        """One step of tile number `place`, from files to files."""
        _, batch = to_batch(tile, self.labeller, self.dtype)
        state = self.network.step(number, self._state(number, tile, place, scratch), batch.to(self.device))
        if state.edges is not None:
            write(scratch.edges(number, place), state.edges.cpu().numpy())
        write(scratch.nodes(number, place), state.nodes.cpu().numpy())  # last, for it says that the step is done
        scratch.edges(number - 1, place).unlink(missing_ok=True)

    @torch.inference_mode()
    def read(self, tile: Tile, place: int, scratch: Scratch, where: str) -> None:
        """Elements of H of tile number `place`, eV, after all steps; the two directions of a pair are not averaged."""
        last = self.network.steps
        state = self._state(last, tile, place, scratch)
        graph, batch = to_batch(tile, self.labeller, self.dtype)
        batch = batch.to(self.device)
        if state is None:
            raise ValueError("a network without steps cannot read")
        elements = self._elements(batch, self.network.read(state, batch).irreps, independent=True)
        learned = to_blocks(graph, tile.overlap, elements, self.labeller.spin)
        known = self.labeller.known(tile.structure, tile.overlap, tile.initial, where)
        write(scratch.values(place), known.values + learned.values)
        scratch.edges(last - 1, place).unlink(missing_ok=True)

    def _elements(self, batch: Batch, irreps: Sequence[Tensor], independent: bool = False) -> Floats:
        """Elements of the network's part of H, in the order of the groups, eV, put together in float64."""
        exact = replace(batch, groups=[replace(group, scale=group.scale.double()) for group in batch.groups])
        elements: Floats = self.assembly(exact, [x.double() for x in irreps], independent).cpu().numpy()
        return elements

    def _state(self, number: int, tile: Tile, place: int, scratch: Scratch) -> State | None:
        """What step `number` starts from; None is the beginning."""
        if number == 0:
            return None
        rows = np.load(scratch.nodes(number - 1), mmap_mode="r")[tile.atoms[tile.order]]
        edges = scratch.edges(number - 1, place)
        known = torch.from_numpy(np.load(edges)).to(self.device) if edges.exists() else None
        return State(torch.from_numpy(rows).to(self.device), known)
