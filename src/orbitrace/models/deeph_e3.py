"""DeepH-E3 as its paper has it, with TraceGrad as its paper has it: the base that others are measured against.

Gong et al., Nat. Commun. 14, 2848 (2023). Against the network of the house, `deeph_e3_local`:

* the layer norm takes its statistics over the whole graph, so that blocks depend on everything else in the cell: this network
  is not local, and large cells cannot be predicted in tiles;
* nothing fades out at the cutoff: a block jumps when a pair enters or leaves the list of neighbours;
* the two directions of a pair are learned apart; the mean of both is taken when the network is used;
* a convolution is one product with the harmonics, a gate, a function of length for each channel, and a linear map;
* TraceGrad's invariants of edges pair copies of one irrep (`nets.tracegrad.SameL`).

Not taken over are accidents of the authors' code: a last update only as wide as the blocks, one read-out for all elements,
radial functions that end at 6 Å. Labels, scales, optimiser and schedule belong to training, not to a network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orbitrace.graphs.batches import Batch
from orbitrace.models import _alternating as alternating
from orbitrace.models._alternating import Alternating, both_ends
from orbitrace.nets.graph_norm import GraphNorm
from orbitrace.nets.layout import Features, Layout
from orbitrace.nets.pointwise import EntryLinear
from orbitrace.nets.so2 import SO2Linear
from orbitrace.nets.tracegrad import SameL, TraceGrad


class Settings(alternating.Settings):
    """Settings of the network."""


class Convolution(nn.Module):
    """Product with the edge's harmonics, gate, function of length, linear map: DeepH-E3's, in the edge's frame."""

    def __init__(self, layouts_in: list[Layout], layout: Layout, layout_out: Layout, radial_width: int) -> None:
        super().__init__()
        self.layout = layout
        self.n_gates = layout.channels - layout.scalars
        self.product = SO2Linear(layouts_in, layout)
        self.gates = SO2Linear(layouts_in, Layout.of([(self.n_gates, 0, True)]))
        self.radial = nn.Linear(radial_width, layout.channels)
        self.linear = EntryLinear(layout, layout_out)

    def forward(self, inputs: list[Features], radial: Tensor) -> Features:
        """Features by m of the inputs, and the radial features of the edges -> features by m."""
        slabs, gates = self.product(inputs), self.gates(inputs)[0][:, 0]
        scalars = slabs[0][:, 0, : self.layout.scalars]
        factors = torch.sigmoid(torch.cat([scalars, gates], dim=1)) * self.radial(radial)  # SiLU(x) = x sigmoid(x)
        gated = [x * factors[:, None, factors.shape[1] - x.shape[2] :] for x in slabs]
        return self.linear.layout_out.to_m(self.linear(self.layout.to_local(gated)))


class Update(alternating.Update):
    """One block with norms over the whole graph."""

    def __init__(self, layout: Layout, layout_node: Layout, settings: alternating.Settings, basic_blocks: int) -> None:
        super().__init__(layout, layout_node, settings)
        layouts_in = [both_ends(layout), layout]
        self.message = Convolution(layouts_in, layout, layout_node, settings.radial_width)
        self.edge = Convolution(layouts_in, layout, layout, settings.radial_width)
        self.node_norm = GraphNorm(layout_node)
        self.edge_norm = GraphNorm(layout)
        use, width = settings.use, settings.invariants
        self.node_tracegrad = self.edge_tracegrad = None
        if use is not None:
            self.node_tracegrad = TraceGrad(layout_node, SameL(layout_node, width, by_m=False), basic_blocks, use)
            self.edge_tracegrad = TraceGrad(layout, SameL(layout, width, by_m=True), basic_blocks, use)

    def normed_nodes(self, nodes: Features, batch: Batch) -> Features:
        """All nodes of a graph together."""
        normed: Features = self.node_norm(nodes, batch.graph, batch.n_graphs)
        return normed

    def normed_edges(self, edges: Features, batch: Batch, frames: Features) -> Features:
        """All edges of a graph together."""
        return self.edge_norm.of_edges(edges, batch.graph[batch.source], batch.n_graphs, frames)

    def faded(self, messages: Features, *_: object) -> Features:
        """All are heard alike."""
        return messages


class Network(Alternating):
    """DeepH-E3 for all pairs of elements of a basis."""

    local = False
    independent_directions = True

    def update(self, layout: Layout, layout_node: Layout, settings: alternating.Settings, basic_blocks: int) -> Update:
        """One update of the network."""
        return Update(layout, layout_node, settings, basic_blocks)
