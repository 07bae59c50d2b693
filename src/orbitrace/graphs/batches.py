"""Batches: several graphs as one, on torch tensors, with the labels of their blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orbitrace.graphs.graph import Graph, Kind
from orbitrace.graphs.pencils import Pencil, batched
from orbitrace.graphs.spin import SpinKind, hermitian_partner
from orbitrace.nets.radial import envelope
from orbitrace.physics.structure import Floats, Ints


@dataclass(frozen=True, eq=False)
class Labels:
    """What the blocks of one structure are measured against, one entry per group of its graph.

    Without spin the elements of a block are its n_i * n_j numbers; with spin see `graphs.spin`.

    Parameters
    ----------
    scale
        [g, elements] eV: typical size of the residual, for every component of the irreps.
    residual
        [g, elements] eV: H without what is known beforehand, subtracted in float64; empty list where H is to be predicted.
    traces
        [g, basic blocks] squared norms of the basic blocks of residual / scale; empty list likewise.
    """

    scale: list[Floats]
    residual: list[Floats]
    traces: list[Floats]


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure ready for a batch."""

    name: str
    graph: Graph
    labels: Labels
    pencil: Pencil | None = None  # for losses of levels
    spin: SpinKind = SpinKind.NONE


@dataclass(frozen=True, eq=False)
class Group:
    """Blocks of one kind in a batch; see `graphs.graph.BlockGroup`. Tensors of `Labels` stand beside them."""

    kind: Kind
    members: Tensor
    scale: Tensor
    residual: Tensor | None
    traces: Tensor | None
    n_basic_blocks: int

    @property
    def onsite(self) -> bool:
        """Whether the blocks belong to one atom each."""
        return len(self.kind) == 1


@dataclass(frozen=True, eq=False)
class Batch:
    """Several graphs as one; `graph` [n_atoms] says which one an atom belongs to.

    `transposed` [elements of all blocks]: where the Hermitian partner of each element of H stands, empty in a part of a graph;
    `signs`: which sign it has there, None where all are +1. `pencils`: H and S of each structure, if all samples have theirs.
    """

    n_atoms: int
    n_graphs: int
    graph: Tensor
    element: Tensor
    source: Tensor
    target: Tensor
    ratio: Tensor
    fade: Tensor
    rotations: list[Tensor]
    groups: list[Group]
    transposed: Tensor
    signs: Tensor | None = None
    pencils: list[Pencil] = field(default_factory=list)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved: Batch = mapped(self, Tensor, lambda x: x.to(device, non_blocking=True))
        return moved

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, for fast copies to a GPU."""
        pinned: Batch = mapped(self, Tensor, lambda x: x.pin_memory())
        return pinned

    @property
    def residual(self) -> Tensor:
        """[elements of all blocks] eV, the labels in the order of the groups."""
        return torch.cat([_labels(g.residual).reshape(-1) for g in self.groups])


def collate(samples: Sequence[Sample], dtype: torch.dtype = torch.float32, whole: bool = True) -> Batch:
    """One batch of several samples, which are whole graphs or not. Geometry is subtracted in float64 before it is cast."""
    graphs = [s.graph for s in samples]
    atoms = np.concatenate([[0], np.cumsum([len(g.element) for g in graphs])])
    edges = np.concatenate([[0], np.cumsum([len(g.source) for g in graphs])])

    def tensor(parts: Sequence[Floats]) -> Tensor:
        return torch.as_tensor(np.concatenate(parts), dtype=dtype)

    kinds = sorted({g.kind for graph in graphs for g in graph.groups}, key=lambda k: (len(k), k))
    groups, slots = [], []
    for kind in kinds:
        group, slot = _group(kind, samples, atoms, edges, tensor)
        groups.append(group)
        slots.append(slot)
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
    transposed, signs = _hermitian(kinds, groups, slots, samples[0].spin) if whole else nothing
    ratio = tensor([g.ratio for g in graphs])
    n_l = min(len(g.rotations) for g in graphs)
    return Batch(
        n_atoms=int(atoms[-1]),
        n_graphs=len(graphs),
        graph=torch.as_tensor(np.repeat(np.arange(len(graphs)), np.diff(atoms))),
        element=torch.as_tensor(np.concatenate([g.element for g in graphs])),
        source=torch.as_tensor(np.concatenate([g.source + a for g, a in zip(graphs, atoms, strict=False)])),
        target=torch.as_tensor(np.concatenate([g.target + a for g, a in zip(graphs, atoms, strict=False)])),
        ratio=ratio,
        fade=envelope(ratio),
        rotations=[tensor([g.rotations[l] for g in graphs]) for l in range(n_l)],
        groups=groups,
        transposed=torch.as_tensor(transposed),
        signs=tensor([signs]) if (signs < 0).any() else None,
        pencils=batched([s.pencil for s in samples if s.pencil is not None]),
    )


def _group(kind: Kind, samples: Sequence[Sample], atoms: Ints, edges: Ints, tensor: Any) -> tuple[Group, Ints]:
    """The group of one kind over all samples, and for each of its blocks the place of its partner in the partner's group."""
    parts = [(n, k) for n, s in enumerate(samples) for k, g in enumerate(s.graph.groups) if g.kind == kind]
    offsets = atoms if len(kind) == 1 else edges
    chosen = [samples[n].graph.groups[k] for n, k in parts]
    labels = [(samples[n].labels, k) for n, k in parts]
    # The reverse kind has as many blocks, sample by sample, so the offset of a partner is that of its own block.
    starts = np.concatenate([[0], np.cumsum([len(g.members) for g in chosen])])
    partners = np.concatenate([g.partners + s for g, s in zip(chosen, starts, strict=False)])
    known = all(lab.residual for lab, _ in labels)
    traces = tensor([lab.traces[k] for lab, k in labels]) if known else None
    group = Group(
        kind=kind,
        members=torch.as_tensor(np.concatenate([g.members + offsets[n] for (n, _), g in zip(parts, chosen, strict=True)])),
        scale=tensor([lab.scale[k] for lab, k in labels]),
        residual=tensor([lab.residual[k] for lab, k in labels]) if known else None,
        traces=traces,
        n_basic_blocks=0 if traces is None else traces.shape[1],
    )
    return group, partners


def _hermitian(kinds: list[Kind], groups: list[Group], partners: list[Ints], spin: SpinKind) -> tuple[Ints, Floats]:
    """For every element of every block, in the order of the groups, the place of its Hermitian partner and its sign there."""
    orbitals = _orbital_counts(kinds, groups, spin)
    sizes = [g.scale.shape[1] for g in groups]
    starts = np.concatenate([[0], np.cumsum([s * len(p) for s, p in zip(sizes, partners, strict=True)])])
    places, signs = [], []
    for kind, size, partner in zip(kinds, sizes, partners, strict=True):
        reverse = kinds.index(kind[::-1])
        inner, sign = hermitian_partner(orbitals[kind[0]], orbitals[kind[-1]], spin)
        places.append((starts[reverse] + partner[:, None] * size + inner).reshape(-1))
        signs.append(np.tile(sign, len(partner)))
    return np.concatenate(places), np.concatenate(signs)


def _orbital_counts(kinds: list[Kind], groups: list[Group], spin: SpinKind) -> dict[int, int]:
    """Orbitals of each element that occurs; every element has on-site blocks."""
    n = spin.matrices
    return {k[0]: round((g.scale.shape[1] / n) ** 0.5) for k, g in zip(kinds, groups, strict=True) if len(k) == 1}


def _labels(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ValueError("the batch has no labels")
    return labels


def mapped(item: Any, kind: type, function: Any) -> Any:
    """A copy of nested dataclasses and lists with `function` applied to everything in it of one kind: its tensors."""
    if isinstance(item, kind):
        return function(item)
    if isinstance(item, list):
        return [mapped(x, kind, function) for x in item]
    if isinstance(item, Batch | Group | Pencil):
        return replace(item, **{f.name: mapped(getattr(item, f.name), kind, function) for f in fields(item)})
    return item
