"""From a network's irreps to its part of a Hamiltonian: scale, Clebsch-Gordan, and Hermiticity by construction.

The rest of H, known beforehand, is added in float64 where predictions are made (`Labeller.known`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from orbitrace.graphs.batches import Batch
from orbitrace.graphs.graph import Graph, Kind, irreps_of_kind
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats


class Assembly(nn.Module):
    """Normalised irreps -> elements of the residual of H, for the blocks of a batch in the order of its groups."""

    def __init__(self, basis: Basis) -> None:
        super().__init__()
        n = range(len(basis.elements))
        kinds: list[Kind] = [*((e,) for e in n), *((e, f) for e in n for f in n)]
        for kind in kinds:
            matrix = torch.as_tensor(irreps_of_kind(basis, kind).matrix, dtype=torch.get_default_dtype())
            self.register_buffer(_name(kind), matrix, persistent=False)

    def forward(self, batch: Batch, irreps: Sequence[Tensor], independent: bool = False) -> Tensor:
        """[elements of all blocks] eV; H[j, i, -R] is the transpose of H[i, j, R] by construction, unless the two directions
        are to be `independent`.
        """
        blocks = [(x * g.scale) @ getattr(self, _name(g.kind)).T for g, x in zip(batch.groups, irreps, strict=True)]
        values = torch.cat([b.reshape(-1) for b in blocks])
        if independent:
            return values
        hermitian: Tensor = (values + values[batch.transposed]) / 2
        return hermitian


def _name(kind: Kind) -> str:
    return "matrix_" + "_".join(map(str, kind))


def to_blocks(graph: Graph, like: Blocks, values: Floats) -> Blocks:
    """Elements of H in the order of a graph's groups -> blocks over the pairs of `like`."""
    result, at = np.zeros(len(like.values)), 0
    for group in sorted(graph.groups, key=lambda g: (len(g.kind), g.kind)):
        rows, columns = like.shapes[group.blocks[0]]
        size = int(rows * columns) * len(group.blocks)
        like.with_group(result, group.blocks, values[at : at + size])
        at += size
    return like.with_values(result)
