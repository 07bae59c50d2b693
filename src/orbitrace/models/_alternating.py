"""What both DeepH-E3 networks share: the alternation of node and edge updates, in the frames of the edges, with TraceGrad.

A node gathers equivariant messages from its pairs, then every pair is updated from its two nodes (Gong et al., Nat. Commun.
14, 2848 (2023)). Common to both networks here, each for a reason:

* products with the edge's harmonics are SO(2) maps in the edge's frame (`nets.so2`), and edges never leave their frame: the
  same functions, far fewer operations;
* on-site blocks have a head of their own on the nodes; every pair of elements has its own linear read-out, so shells never
  need padding. Irreps up to the largest L of any block are added if the settings stop before: an f-f block needs l = 6.

TraceGrad (`nets.tracegrad`) follows every update of edges and of nodes. What differs between the networks is a `Style`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from orbitrace.graphs.batches import Batch, Group
from orbitrace.graphs.irreps import BlockIrreps, block_irreps
from orbitrace.graphs.spin import SpinKind
from orbitrace.models import BlockNetwork, Output, State
from orbitrace.nets.layout import Features, Layout, rotate_in, rotate_out, to_frames
from orbitrace.nets.pointwise import EntryLinear
from orbitrace.nets.radial import RadialNetwork
from orbitrace.nets.so2 import SO2Linear
from orbitrace.nets.tracegrad import TraceGrad, Use
from orbitrace.physics.orbitals import Basis

ADDED = 8  # channels of an irrep that the settings lack and the blocks need
AT_ONCE = 11  # as many times the features of a pair are in memory at most; 10 were measured

Branch = Literal["none", "trace", "gate", "grad", "tracegate", "tracegrad"]


class Settings(BaseModel):
    """Settings of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    irreps: str = Field("64x0e+32x1o+16x2e+8x3o+8x4e", description="irreps of nodes and edges, in e3nn's notation")
    blocks: int = Field(3, ge=1, description="number of node and edge updates")
    gaussians: int = Field(64, ge=2, description="radial functions on [0, cutoff of the pair]")
    radial_width: int = Field(64, ge=1, description="width of the radial network")
    neighbours: float = Field(40.0, gt=0, description="typical number of pairs of an atom, by whose root messages are divided")
    tracegrad: Branch = Field(
        "tracegrad",
        description="learned invariants: none; trained under the traces of the blocks (trace); multiplying the features "
        "(gate, tracegate); updating them by their gradient (grad, tracegrad)",
    )
    invariants: int = Field(16, ge=1, description="quadratic invariants of TraceGrad, per abs(m) where it acts in frames")

    @field_validator("irreps")
    @classmethod
    def _readable(cls, text: str) -> str:
        try:
            layout = Layout.parse(text)
        except (KeyError, ValueError) as error:
            raise ValueError("is not in e3nn's notation, such as 64x0e+32x1o+16x2e") from error
        if layout.scalars == 0:
            raise ValueError("has no invariant features (0e)")
        return text

    @property
    def traces(self) -> bool:
        """Whether invariants are trained under the traces of the blocks."""
        return self.tracegrad.startswith("trace")

    @property
    def use(self) -> Use | None:
        """What becomes of the invariants; None if there are none."""
        if self.tracegrad == "none":
            return None
        return "gate" if self.tracegrad.endswith("gate") else "grad" if self.tracegrad.endswith("grad") else "nothing"


class Update(nn.Module):
    """One block: nodes from their edges, then edges from their nodes. Networks fill in messages and norms."""

    message: nn.Module
    edge: nn.Module
    node_tracegrad: TraceGrad | None
    edge_tracegrad: TraceGrad | None

    def __init__(self, layout: Layout, layout_node: Layout, settings: Settings) -> None:
        super().__init__()
        self.layout, self.layout_node = layout, layout_node
        self.self_connection = EntryLinear(layout, layout_node)
        self.mix = EntryLinear(layout_node, layout_node)
        self.shrink = 1 / math.sqrt(settings.neighbours)

    def normed_nodes(self, nodes: Features, batch: Batch) -> Features:
        """The norm of the nodes' update, on features by l."""
        raise NotImplementedError

    def normed_edges(self, edges: Features, batch: Batch, frames: Features) -> Features:
        """The norm of the edges' update, on features by m."""
        raise NotImplementedError

    def faded(self, messages: Features, batch: Batch) -> Features:
        """Messages, as they are heard of pairs at their cutoff."""
        raise NotImplementedError

    def update_nodes(
        self, nodes: Features, ends: Features, edges: Features, radial: Tensor, batch: Batch, frames: Features
    ) -> Features:
        """Features of the nodes, by l, after gathering messages from their edges."""
        slabs = self.faded(self.message([ends, edges], radial), batch)
        messages = rotate_out(self.layout_node.to_local(slabs), self.layout_node, frames)
        gathered = [
            torch.zeros(batch.n_atoms, *x.shape[1:], dtype=x.dtype, device=x.device).index_add_(0, batch.source, x)
            * self.shrink
            for x in messages
        ]
        heard = [a + b for a, b in zip(self.mix(gathered), self.self_connection(nodes), strict=True)]
        update = self.normed_nodes(heard, batch)
        kept = {entry[1:]: x for entry, x in zip(self.layout.entries, nodes, strict=True)}
        return [kept[e[1:]] + x if e[1:] in kept else x for e, x in zip(self.layout_node.entries, update, strict=True)]

    def update_edges(self, ends: Features, edges: Features, radial: Tensor, batch: Batch, frames: Features) -> Features:
        """Features of the edges, by m, after hearing from their nodes."""
        update = self.normed_edges(self.edge([ends, edges], radial), batch, frames)
        return [x + y for x, y in zip(edges, update, strict=True)]


class Alternating(BlockNetwork):
    """A network of alternating updates for all pairs of elements of a basis."""

    def update(self, layout: Layout, layout_node: Layout, settings: Settings, basic_blocks: int) -> Update:
        """One update of the network."""
        raise NotImplementedError

    def __init__(self, settings: Settings, basis: Basis, spin: SpinKind = SpinKind.NONE) -> None:
        super().__init__()
        self.elements, self.settings = basis.elements, settings
        self.blocks_of = {(e, f): block_irreps(basis[e].ls, basis[f].ls, spin) for e in self.elements for f in self.elements}
        layout = self.layout = _reaching(Layout.parse(settings.irreps), self.blocks_of.values())
        needed = Layout.of(entry for e in self.elements for entry in self.blocks_of[e, e].entries)
        self.layout_last = Layout.of(
            [*layout.entries, *((ADDED, L, nat) for _, L, nat in needed.entries if not _has(layout, L, nat))]
        )
        self.l_max = max(layout.l_max, *(Layout.of(b.entries).l_max for b in self.blocks_of.values()))
        basic_blocks = max(len(basis[e].ls) * len(basis[f].ls) for e in self.elements for f in self.elements) * spin.traces
        width = settings.radial_width
        self.radial = RadialNetwork(len(self.elements), settings.gaussians, width)
        self.embedding = nn.Embedding(len(self.elements), layout.scalars)
        self.start = nn.Linear(width, int(layout.natural_mask().sum()))
        last = settings.blocks - 1
        self.updates = nn.ModuleList(
            self.update(layout, self.layout_last if k == last else layout, settings, basic_blocks)
            for k in range(settings.blocks)
        )
        self.to_edges = EntryLinear(self.layout_last, layout)
        self.onsite = nn.ModuleDict(
            {str(e): EntryLinear(self.layout_last, Layout(self.blocks_of[e, e].entries)) for e in self.elements}
        )
        self.offsite = nn.ModuleDict(
            {
                f"{e}-{f}": SO2Linear([layout], Layout(self.blocks_of[e, f].entries))
                for e in self.elements
                for f in self.elements
            }
        )
        self.traces = nn.ModuleDict(self._trace_decoders(basic_blocks)) if settings.traces else None
        self.steps = settings.blocks
        size = torch.get_default_dtype().itemsize
        self.bytes_per_pair = AT_ONCE * size * sum((2 * l + 1) * n for n, l, _ in layout.entries)

    def _trace_decoders(self, n: int) -> dict[str, nn.Module]:
        """Four layers from the invariants of all updates to the traces of the basic blocks."""
        width = n * self.settings.blocks

        def decoder() -> nn.Module:
            hidden = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU())]
            return nn.Sequential(*hidden, nn.Linear(width, n))

        return {"onsite": decoder(), "offsite": decoder()}

    def forward(self, batch: Batch) -> Output:
        """Normalised irreps of every block of the batch."""
        frames, radial = self._geometry(batch)
        edges = self._first_edges(radial)
        nodes = self._first_nodes(batch)
        ends = self._ends(nodes, batch, frames)
        node_z: list[Tensor] = []
        edge_z: list[Tensor] = []
        for k in range(self.steps):
            nodes = self._next_nodes(k, nodes, ends, edges, radial, batch, frames, node_z)
            ends = self._ends(self.to_edges(nodes) if k == self.steps - 1 else nodes, batch, frames)
            edges = self._next_edges(k, ends, edges, radial, batch, frames, edge_z)
        return Output(self._irreps(nodes, edges, batch, frames), self._traces(batch, node_z, edge_z))

    def sharpen(self) -> None:
        """Read atoms out in float64."""
        self.onsite.double()

    def step(self, number: int, state: State | None, batch: Batch) -> State:
        """Edges hear from their nodes, unless this is the first step; then nodes from their edges."""
        frames, radial = self._geometry(batch)
        nodes = self._first_nodes(batch) if state is None else _unpacked(state.nodes, _shapes_by_l(self.layout))
        ends = self._ends(nodes, batch, frames)
        edges = self._edges_of(state, radial)
        if number > 0:
            edges = self._next_edges(number - 1, ends, edges, radial, batch, frames)
        own = [x[: batch.n_atoms] for x in nodes]
        nodes = self._next_nodes(number, own, ends, edges, radial, batch, frames)
        return State(_packed(nodes), _packed(edges) if number > 0 else None)

    def read(self, state: State, batch: Batch) -> Output:
        """Edges hear from their nodes for the last time; then the heads. There are no traces: nothing is trained."""
        frames, radial = self._geometry(batch)
        nodes = _unpacked(state.nodes, _shapes_by_l(self.layout_last))
        ends, edges = self._ends(self.to_edges(nodes), batch, frames), self._edges_of(state, radial)
        edges = self._next_edges(self.steps - 1, ends, edges, radial, batch, frames)
        return Output(self._irreps(nodes, edges, batch, frames), [])

    def _geometry(self, batch: Batch) -> tuple[Features, Tensor]:
        """Frames of the edges, and what an edge knows by its length and elements."""
        radial = self.radial(batch.ratio, batch.element[batch.source], batch.element[batch.target])
        return to_frames(batch.rotations), radial

    def _edges_of(self, state: State | None, radial: Tensor) -> Features:
        if state is None or state.edges is None:
            return self._first_edges(radial)
        return _unpacked(state.edges, [(1 if m == 0 else 2, self.layout.width(m)) for m in range(self.layout.l_max + 1)])

    def _next_nodes(
        self,
        k: int,
        nodes: Features,
        ends: Features,
        edges: Features,
        radial: Tensor,
        batch: Batch,
        frames: Features,
        invariants: list[Tensor] | None = None,
    ) -> Features:
        """Nodes after update k, and TraceGrad of them; its invariants are added to a list."""
        update = cast(Update, self.updates[k])
        nodes = update.update_nodes(nodes, ends, edges, radial, batch, frames)
        return nodes if update.node_tracegrad is None else _noted(update.node_tracegrad(nodes), invariants)

    def _next_edges(
        self,
        k: int,
        ends: Features,
        edges: Features,
        radial: Tensor,
        batch: Batch,
        frames: Features,
        invariants: list[Tensor] | None = None,
    ) -> Features:
        """Edges after update k, likewise."""
        update = cast(Update, self.updates[k])
        edges = update.update_edges(ends, edges, radial, batch, frames)
        return edges if update.edge_tracegrad is None else _noted(update.edge_tracegrad(edges), invariants)

    def _first_edges(self, radial: Tensor) -> Features:
        """An edge starts from its length and elements alone, times its harmonics: only m = 0 of natural irreps."""
        natural = self.layout.natural_mask()
        zero = radial.new_zeros(len(radial), self.layout.channels)
        zero[:, natural.to(zero.device)] = self.start(radial)
        rest = [radial.new_zeros(len(radial), 2, self.layout.width(m)) for m in range(1, self.layout.l_max + 1)]
        return [zero[:, None], *rest]

    def _first_nodes(self, batch: Batch) -> Features:
        scalars = self.embedding(batch.element)
        return [
            scalars[:, None] if l == 0 and natural else scalars.new_zeros(len(scalars), 2 * l + 1, n)
            for n, l, natural in self.layout.entries
        ]

    def _ends(self, nodes: Features, batch: Batch, frames: Features) -> Features:
        """Features of both nodes of every edge side by side, by m, in the frame of the edge."""
        both = [torch.cat([x[batch.source], x[batch.target]], dim=2) for x in nodes]
        layout = both_ends(self.layout)
        return layout.to_m(rotate_in(both, layout, frames))

    def _irreps(self, nodes: Features, edges: Features, batch: Batch, frames: Features) -> list[Tensor]:
        return [self._onsite(g, nodes) if g.onsite else self._offsite(g, edges, batch, frames) for g in batch.groups]

    def _onsite(self, group: Group, nodes: Features) -> Tensor:
        head = cast(EntryLinear, self.onsite[str(self.elements[group.kind[0]])])
        return _flat(head([x[group.members].to(head.bias.dtype) for x in nodes]))

    def _offsite(self, group: Group, edges: Features, batch: Batch, frames: Features) -> Tensor:
        e, f = (self.elements[k] for k in group.kind)
        readout = cast(SO2Linear, self.offsite[f"{e}-{f}"])
        whole = len(group.members) == len(batch.source)
        slabs = readout([edges if whole else [x[group.members] for x in edges]])
        own = frames if whole else [d[group.members] for d in frames]
        return _flat(rotate_out(readout.layout_out.to_local(slabs), readout.layout_out, own))

    def _traces(self, batch: Batch, node_z: list[Tensor], edge_z: list[Tensor]) -> list[Tensor]:
        if self.traces is None:
            return []
        onsite, offsite = self.traces["onsite"](torch.cat(node_z, 1)), self.traces["offsite"](torch.cat(edge_z, 1))
        return [(onsite if g.onsite else offsite)[g.members][:, : g.n_basic_blocks] for g in batch.groups]


def _flat(features: Features) -> Tensor:
    """Irreps by l -> [n, all components], one irrep after the other."""
    return torch.cat([x.transpose(1, 2).reshape(len(x), -1) for x in features], dim=1)


def _noted(updated: tuple[Features, Tensor], invariants: list[Tensor] | None) -> Features:
    if invariants is not None:
        invariants.append(updated[1])
    return updated[0]


def _packed(features: Features) -> Tensor:
    """[n, all components] features as a network keeps them between two steps."""
    return torch.cat([x.flatten(1) for x in features], dim=1)


def _unpacked(flat: Tensor, shapes: list[tuple[int, int]]) -> Features:
    """The inverse of `_packed`."""
    parts = torch.split(flat, [a * b for a, b in shapes], dim=1)
    return [x.reshape(len(x), *shape) for x, shape in zip(parts, shapes, strict=True)]


def _shapes_by_l(layout: Layout) -> list[tuple[int, int]]:
    return [(2 * l + 1, n) for n, l, _ in layout.entries]


def both_ends(layout: Layout) -> Layout:
    """Twice the channels of every kind: both nodes of an edge."""
    return Layout(tuple((2 * n, l, natural) for n, l, natural in layout.entries))


def _reaching(layout: Layout, blocks: Iterable[BlockIrreps]) -> Layout:
    """The layout with a few channels of every l that some block has and the layout lacks: no linear map makes a larger |m|."""
    highest = max(L for block in blocks for _, L, _ in block.entries)
    return Layout.of([*layout.entries, *((ADDED, L, True) for L in range(layout.l_max + 1, highest + 1))])


def _has(layout: Layout, l: int, natural: bool) -> bool:
    return (l, natural) in {entry[1:] for entry in layout.entries}
