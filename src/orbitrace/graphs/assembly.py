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
from orbitrace.graphs.spin import SpinKind, to_dense
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats


class Assembly(nn.Module):
    """Normalised irreps -> elements of the residual of H, for the blocks of a batch in the order of its groups."""

    def __init__(self, basis: Basis, spin: SpinKind = SpinKind.NONE) -> None:
        super().__init__()
        self.spin = spin
        n = range(len(basis.elements))
        kinds: list[Kind] = [*((e,) for e in n), *((e, f) for e in n for f in n)]
        for kind in kinds:
            matrix = torch.as_tensor(irreps_of_kind(basis, kind, spin).matrix, dtype=torch.get_default_dtype())
            self.register_buffer(_name(kind), matrix, persistent=False)

    def forward(self, batch: Batch, irreps: Sequence[Tensor], independent: bool = False) -> Tensor:
        """[elements of all blocks] eV; H[j, i, -R] is the conjugate transpose of H[i, j, R] by construction, unless the two
        directions are to be `independent`.
        """
        blocks = [(x * g.scale) @ getattr(self, _name(g.kind)).T for g, x in zip(batch.groups, irreps, strict=True)]
        values = torch.cat([b.reshape(-1) for b in blocks])
        if independent:
            return values
        partners = values[batch.transposed]
        hermitian: Tensor = (values + (partners if batch.signs is None else batch.signs * partners)) / 2
        return hermitian

    def magnitudes(self, elements: Tensor) -> Tensor:
        """Absolute values of matrix elements: of spinor blocks, whose real and imaginary parts stand in turn, of both."""
        return torch.view_as_complex(elements.reshape(-1, 2)).abs() if self.spin.is_complex else elements.abs()


def _name(kind: Kind) -> str:
    return "matrix_" + "_".join(map(str, kind))


def to_blocks(graph: Graph, like: Blocks, values: Floats, spin: SpinKind = SpinKind.NONE) -> Blocks:
    """Elements of H in the order of a graph's groups -> blocks over the pairs of `like`, which is not spin-doubled."""
    n, at = spin.spin.components, 0
    whole = like.shapes * n
    size = int(whole.prod(1).sum())
    result = Blocks(like.pairs, whole, np.zeros(size, np.complex128) if spin.is_complex else np.zeros(size))
    for group in sorted(graph.groups, key=lambda g: (len(g.kind), g.kind)):
        rows, columns = (int(k) for k in like.shapes[group.blocks[0]])
        size = rows * columns * spin.matrices
        mine = values[at : at + size * len(group.blocks)].reshape(-1, size)
        result.with_group(result.values, group.blocks, to_dense(mine, rows, columns, spin))
        at += mine.size
    return result
