"""DeepH-E3's norm, whose statistics run over the whole graph: what the paper's network does, not a local one.

Per kind of irrep and graph (Gong et al., Nat. Commun. 14, 2848 (2023), and their code): the mean over all members and channels
is taken off, of l > 0 as a vector; invariants are divided by their root mean square; then a factor per channel, and a bias on
invariants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orbitrace.nets.layout import Features, Layout, rotate_in, rotate_out

EPS = 1e-5


class GraphNorm(nn.Module):
    """The norm on features by l; of edges it takes the frames, for the mean of vectors has to be taken in the global one."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.weights = nn.ParameterList(torch.ones(n) for n, _, _ in layout.entries)
        self.bias = nn.Parameter(torch.zeros(layout.scalars))

    def forward(self, features: Features, graph: Tensor, n_graphs: int) -> Features:
        """Features by l of all members, the graph of each [n], and how many there are -> features by l."""
        single = [x.mean(2, keepdim=True) for x in features]
        centred = [x - m[graph] for x, m in zip(features, _means(single, graph, n_graphs), strict=True)]
        return self._scaled(centred, graph, n_graphs)

    def of_edges(self, slabs: Features, graph: Tensor, n_graphs: int, frames: Features) -> Features:
        """The same on features by m in the frames of the edges."""
        ones = Layout(tuple((1, l, natural) for _, l, natural in self.layout.entries))
        local = self.layout.to_local(slabs)
        single = rotate_out([x.mean(2, keepdim=True) for x in local], ones, frames)
        means = rotate_in([m[graph] for m in _means(single, graph, n_graphs)], ones, frames)
        return self.layout.to_m(self._scaled([x - m for x, m in zip(local, means, strict=True)], graph, n_graphs))

    def _scaled(self, features: Features, graph: Tensor, n_graphs: int) -> Features:
        result = []
        for x, weight, (_, l, natural) in zip(features, self.weights, self.layout.entries, strict=True):
            if l > 0:
                result.append(x * weight)
                continue
            (square,) = _means([(x**2).mean(2, keepdim=True)], graph, n_graphs)
            scaled = x * torch.rsqrt(square + EPS)[graph] * weight
            result.append(scaled + self.bias if natural else scaled)
        return result


def _means(features: Features, graph: Tensor, n_graphs: int) -> Features:
    """Mean over the members of each graph: [n, ...] -> [n_graphs, ...]."""
    counts = torch.bincount(graph, minlength=n_graphs).clamp_min(1)
    return [
        torch.zeros(n_graphs, *x.shape[1:], dtype=x.dtype, device=x.device).index_add_(0, graph, x)
        / counts[:, None, None].to(x.dtype)
        for x in features
    ]
