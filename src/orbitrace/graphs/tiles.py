"""Tiles: a structure cut into atoms with all their pairs, so that a network sees a bounded number of pairs at a time.

A tile is a run of atoms; the blocks are sorted by their first atom, so its blocks are one slice of them. With it come the
atoms at the other ends of its pairs, and nothing else: what lies farther away reaches a tile through the features of those,
which other tiles hand on between the steps of a network (`models.BlockNetwork.step`). No pair is computed twice, so the shape
of the tiles does not matter, nor does a cell that is smaller than the reach of the network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from orbitrace.graphs.batches import Batch, collate
from orbitrace.graphs.graph import Graph
from orbitrace.graphs.labels import Labeller
from orbitrace.physics.blocks import Blocks, Pairs
from orbitrace.physics.structure import Ints, Structure


@dataclass(frozen=True, eq=False)
class Tile:
    """Some atoms of a structure with all their pairs.

    Parameters
    ----------
    first, last
        Atoms first .. last - 1 of the structure are its own.
    pairs
        Its pairs among those of the structure.
    atoms
        [n] numbers in the structure, ascending, of its own atoms and of those at the other ends of its pairs.
    structure
        These n atoms.
    overlap, initial
        The blocks of its pairs (views), with its own numbers for the atoms; H0 if there is one.
    """

    first: int
    last: int
    pairs: slice
    atoms: Ints
    structure: Structure
    overlap: Blocks
    initial: Blocks | None = None

    @property
    def order(self) -> Ints:
        """[n] places in `atoms`: its own atoms, then the others."""
        own = (self.atoms >= self.first) & (self.atoms < self.last)
        return np.concatenate([np.flatnonzero(own), np.flatnonzero(~own)])


def borders(overlap: Blocks, n_atoms: int, most: int) -> Ints:
    """[tiles + 1] the first atom of each tile, and the number of atoms: tiles of about as many pairs each, at most `most`.

    An atom that has more pairs than that is a tile by itself.
    """
    if n_atoms == 0:
        return np.zeros(1, dtype=np.int64)
    counts = np.bincount(overlap.pairs[:, 3], minlength=n_atoms)
    ends = np.cumsum(counts)
    total = int(ends[-1])
    tiles = -(-total // max(most - int(counts.max()) + 1, 1))  # each may go beyond its share by a part of an atom
    shares = total / tiles * np.arange(1, tiles + 1)
    return np.unique(np.concatenate([[0], np.searchsorted(ends, np.round(shares)) + 1])).astype(np.int64)


def cut(structure: Structure, overlap: Blocks, first: int, last: int, initial: Blocks | None = None) -> Tile:
    """The tile of the atoms first .. last - 1."""
    begin, end = np.searchsorted(overlap.pairs[:, 3], [first, last]).tolist()
    pairs = overlap.pairs[begin:end].copy()
    atoms, places = np.unique(pairs[:, 3:], return_inverse=True)
    pairs[:, 3:] = places.reshape(-1, 2)
    part = Structure(structure.positions[atoms], structure.lattice, structure.numbers[atoms], structure.pbc)
    own, *other = (_part(blocks, pairs, begin, end) for blocks in (overlap, initial) if blocks is not None)
    return Tile(first, last, slice(begin, end), atoms.astype(np.int64), part, own, other[0] if other else None)


def _part(blocks: Blocks, pairs: Pairs, begin: int, end: int) -> Blocks:
    values = blocks.values[blocks.offsets[begin] : blocks.offsets[end]]
    return Blocks(pairs, blocks.shapes[begin:end], values)


def to_batch(tile: Tile, labeller: Labeller, dtype: torch.dtype) -> tuple[Graph, Batch]:
    """The graph of a tile, and its batch: first its own atoms, which are `n_atoms`, then those at the other ends."""
    sample = labeller.sample(tile.structure, tile.overlap, whole=False)
    graph, order = sample.graph, tile.order
    rank = np.argsort(order)
    groups = [replace(g, members=rank[g.members]) if len(g.kind) == 1 else g for g in graph.groups]
    arranged = replace(
        graph, element=graph.element[order], source=rank[graph.source], target=rank[graph.target], groups=groups
    )
    batch = collate([replace(sample, graph=arranged)], dtype, whole=False)
    return arranged, replace(batch, n_atoms=tile.last - tile.first)
