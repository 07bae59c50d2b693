"""DeepH-E3 with TraceGrad, made local and smooth: the network of the house.

Differences from `deeph_e3`, each for a reason:

* norms act on each node and edge by itself, and messages fade out at the pair's cutoff: the network is local and smooth
  (a block itself ends there as the DFT code's does, at the size that its scale has), so that large cells can be predicted in
  tiles, and nothing depends on what else is in the cell;
* a convolution multiplies with the harmonics twice, before and after its gate, and its function of the edge's length belongs
  to a channel and abs(m);
* both directions of a pair share one loss: what is learned is their Hermitian mean;
* TraceGrad's invariants of edges are those of the frame (`nets.tracegrad.SameM`).
"""

from __future__ import annotations

from torch import Tensor, nn

from orbitrace.graphs.batches import Batch
from orbitrace.models import _alternating as alternating
from orbitrace.models._alternating import Alternating, both_ends
from orbitrace.nets.layout import Features, Layout
from orbitrace.nets.pointwise import Gate, NormByL, NormByM
from orbitrace.nets.so2 import SO2Linear
from orbitrace.nets.tracegrad import SameL, SameM, TraceGrad


class Settings(alternating.Settings):
    """Settings of the network."""


class Convolution(nn.Module):
    """Gated product of both nodes' and the edge's features with the edge's harmonics, in the edge's frame."""

    def __init__(self, layouts_in: list[Layout], layout: Layout, layout_out: Layout, radial_width: int) -> None:
        super().__init__()
        self.first = SO2Linear(layouts_in, layout)
        self.gate = Gate(radial_width, layout)
        self.gates = SO2Linear(layouts_in, Layout.of([(self.gate.gates, 0, True)]))
        self.second = SO2Linear([layout], layout_out)

    def forward(self, inputs: list[Features], radial: Tensor) -> Features:
        """Features by m of the inputs, and the radial features of the edges -> features by m."""
        slabs, gates = self.first(inputs), self.gates(inputs)[0][:, 0]
        features: Features = self.second([self.gate(slabs, gates, radial)])
        return features


class Update(alternating.Update):
    """One block with local norms."""

    def __init__(self, layout: Layout, layout_node: Layout, settings: alternating.Settings, basic_blocks: int) -> None:
        super().__init__(layout, layout_node, settings)
        layouts_in = [both_ends(layout), layout]
        self.message = Convolution(layouts_in, layout, layout_node, settings.radial_width)
        self.edge = Convolution(layouts_in, layout, layout, settings.radial_width)
        self.node_norm = NormByL(layout_node)
        self.edge_norm = NormByM(layout)
        use, width = settings.use, settings.invariants
        self.node_tracegrad = self.edge_tracegrad = None
        if use is not None:
            self.node_tracegrad = TraceGrad(layout_node, SameL(layout_node, width, by_m=False), basic_blocks, use)
            self.edge_tracegrad = TraceGrad(layout, SameM(layout, width), basic_blocks, use)

    def normed_nodes(self, nodes: Features, *_: object) -> Features:
        """Every node by itself."""
        normed: Features = self.node_norm(nodes)
        return normed

    def normed_edges(self, edges: Features, *_: object) -> Features:
        """Every edge by itself."""
        normed: Features = self.edge_norm(edges)
        return normed

    def faded(self, messages: Features, batch: Batch) -> Features:
        """Nothing is heard of an atom at the cutoff."""
        return [x * batch.fade[:, None, None] for x in messages]


class Network(Alternating):
    """The local network for all pairs of elements of a basis."""

    def update(self, layout: Layout, layout_node: Layout, settings: alternating.Settings, basic_blocks: int) -> Update:
        """One update of the network."""
        return Update(layout, layout_node, settings, basic_blocks)
