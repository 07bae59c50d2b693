"""Layouts: which irreducible representations of O(3) a feature carries, and how their components lie in memory.

An entry is ``(multiplicity, l, natural)``. An irrep is *natural* if its parity is (-1)^l (0e, 1o, 2e, ..., as spherical
harmonics) and *unnatural* otherwise (1e, 2o, ...: what the product of two natural ones adds, e.g. the antisymmetric part of a
p-p block).

Two forms:

* **by l** (nodes, rotations): a list, one tensor [n, 2l+1, multiplicity] per entry, m = -l..l;
* **by m** (edges): a list, one tensor [n, s, width(m)] per m = 0..l_max, with s = 1 for m = 0 and s = 2 (the components +m
and -m) else.
  Channels are ordered by l, so that those with l >= m are the last ``width(m)`` of all.

The mirror through the bond turns (+m, -m) of a natural irrep into (+m, -m) times (1, -1), and of an unnatural one into times
(-1, 1). Storing an unnatural pair as (x[-m], -x[+m]) makes both alike, and keeps the action of rotations about the bond: one
real matrix per m then mixes both kinds, which is the most general O(3)-equivariant choice. For m = 0 the two kinds never mix.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Features = list[Tensor]
Entry = tuple[int, int, bool]


@dataclass(frozen=True)
class Layout:
    """Entries (multiplicity, l, natural), by ascending l; natural before unnatural."""

    entries: tuple[Entry, ...]

    @staticmethod
    def of(entries: Iterable[Entry]) -> Layout:
        """A layout from entries in any order; entries of the same kind are added up, empty ones dropped."""
        total: dict[tuple[int, bool], int] = {}
        for multiplicity, l, natural in entries:
            total[l, natural] = total.get((l, natural), 0) + multiplicity
        ordered = sorted(total, key=lambda kind: (kind[0], not kind[1]))
        return Layout(tuple((total[kind], *kind) for kind in ordered if total[kind] > 0))

    @staticmethod
    def parse(text: str) -> Layout:
        """A layout from e3nn's notation, e.g. ``"64x0e+32x1o+16x2e"``."""
        entries = []
        for term in text.replace(" ", "").split("+"):
            multiplicity, _, irrep = term.rpartition("x")
            l, parity = int(irrep[:-1]), {"e": 1, "o": -1}[irrep[-1]]
            entries.append((int(multiplicity or 1), l, parity == (-1) ** l))
        return Layout.of(entries)

    def __str__(self) -> str:
        return "+".join(f"{n}x{l}{'e' if (l % 2 == 0) == natural else 'o'}" for n, l, natural in self.entries)

    @cached_property
    def l_max(self) -> int:
        """Largest l."""
        return max((l for _, l, _ in self.entries), default=0)

    @cached_property
    def channels(self) -> int:
        """Multiplicities added up."""
        return sum(n for n, _, _ in self.entries)

    @cached_property
    def scalars(self) -> int:
        """Number of invariant channels (natural, l = 0); they come first."""
        return sum(n for n, l, natural in self.entries if l == 0 and natural)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First channel of each entry."""
        starts, at = [], 0
        for n, _, _ in self.entries:
            starts.append(at)
            at += n
        return tuple(starts)

    def width(self, m: int) -> int:
        """Number of channels with l >= m."""
        return sum(n for n, l, _ in self.entries if l >= m)

    def kinds(self, m: int) -> tuple[int, ...]:
        """Places, among the channels with l >= m, where each entry begins, and the end."""
        ends = [0]
        for n, l, _ in self.entries:
            if l >= m:
                ends.append(ends[-1] + n)
        return tuple(ends)

    def natural_mask(self) -> Tensor:
        """[channels] True for natural channels."""
        return torch.cat([torch.full((n,), natural) for n, _, natural in self.entries])

    def to_m(self, features: Features) -> Features:
        """Features by l -> by m."""
        slabs = [torch.cat([x[:, l : l + 1] for x, (_, l, _) in zip(features, self.entries, strict=True)], dim=2)]
        for m in range(1, self.l_max + 1):
            parts = []
            for x, (_, l, natural) in zip(features, self.entries, strict=True):
                if l < m:
                    continue
                plus, minus = x[:, l + m], x[:, l - m]
                parts.append(torch.stack([plus, minus] if natural else [minus, -plus], dim=1))
            slabs.append(torch.cat(parts, dim=2))
        return slabs

    def to_l(self, slabs: Features) -> Features:
        """Features by m -> by l."""
        result = []
        for entry, (n, l, natural) in enumerate(self.entries):
            rows: list[Tensor] = [slabs[0][:, 0, self.starts[entry] : self.starts[entry] + n]]
            for m in range(1, l + 1):
                start = self.starts[entry] - (self.channels - self.width(m))
                pair = slabs[m][:, :, start : start + n]
                first, second = pair[:, 0], pair[:, 1]
                plus, minus = (first, second) if natural else (-second, first)
                rows = [minus, *rows, plus]
            result.append(torch.stack(rows, dim=1))
        return result


def rotate_in(features: Features, layout: Layout, rotations: Features) -> Features:
    """Turn features by l from the global frame into each edge's own: x_local = D^T x."""
    return [
        x if l == 0 else torch.bmm(rotations[l].transpose(1, 2), x)
        for x, (_, l, _) in zip(features, layout.entries, strict=True)
    ]


def rotate_out(features: Features, layout: Layout, rotations: Features) -> Features:
    """Turn features by l from each edge's own frame into the global one: x = D x_local."""
    return [x if l == 0 else torch.bmm(rotations[l], x) for x, (_, l, _) in zip(features, layout.entries, strict=True)]
