"""Layouts: which irreducible representations of O(3) a feature carries, and how their components lie in memory.

An entry is ``(multiplicity, l, natural)``. An irrep is *natural* if its parity is (-1)^l (0e, 1o, 2e, ..., as spherical
harmonics) and *unnatural* otherwise (1e, 2o, ...: what the product of two natural ones adds, e.g. the antisymmetric part of a
p-p block).

Three forms:

* **by l** (nodes): a list, one tensor [n, 2l+1, multiplicity] per entry, m = -l..l, in the global frame;
* **local** (edges): the same in the frame of an edge, with the components in the order 0, -1, +1, -2, +2, ...;
* **by m** (edges): a list, one tensor [n, s, width(m)] per m = 0..l_max, with s = 1 for m = 0 and s = 2 (-m and +m) else.
  Channels are ordered by l, so that those with l >= m are the last ``width(m)`` of all.

The mirror through the bond turns (-m, +m) of a natural irrep into (-m, +m) times (-1, 1), and of an unnatural one into times
(1, -1). Keeping an unnatural pair as (-x[+m], x[-m]) makes both alike, and keeps the action of turns about the bond: one real
matrix per m then mixes both kinds, which is the most general O(3)-equivariant choice. For m = 0 the two kinds never mix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Features = list[Tensor]
Entry = tuple[int, int, bool]
_TERM = re.compile(r"(?:(\d+)x)?(\d+)([eo])")  # 16x1o


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
        """A layout from e3nn's notation, e.g. ``"64x0e+32x1o+16x2e"``. Raises ValueError if it is something else."""
        entries = []
        for term in text.replace(" ", "").split("+"):
            match = _TERM.fullmatch(term)
            if match is None:
                raise ValueError(f"{term!r} is no irrep such as 16x1o")
            l, parity = int(match[2]), {"e": 1, "o": -1}[match[3]]
            entries.append((int(match[1] or 1), l, parity == (-1) ** l))
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

    def natural_mask(self) -> Tensor:
        """[channels] True for natural channels."""
        return torch.cat([torch.full((n,), natural) for n, _, natural in self.entries])

    def to_m(self, local: Features) -> Features:
        """Local features -> by m."""
        # Cut once and for all: the derivative of `split` is one `cat`, that of many slices fills as many tensors with zeros.
        pieces = [torch.split(x, [1, *(2 for _ in range(l))], dim=1) for x, (_, l, _) in zip(local, self.entries, strict=True)]
        return [torch.cat([parts[m] for parts in pieces if len(parts) > m], dim=2) for m in range(self.l_max + 1)]

    def to_local(self, slabs: Features) -> Features:
        """Features by m -> local."""
        widths = [[n for n, l, _ in self.entries if l >= m] for m in range(self.l_max + 1)]
        pieces = [torch.split(x, width, dim=2) for x, width in zip(slabs, widths, strict=False)]
        # Entries ascend in l, so those with l >= m are the last ones.
        first = [len(self.entries) - len(width) for width in widths]
        return [
            torch.cat([pieces[m][entry - first[m]] for m in range(l + 1)], dim=1)
            for entry, (_, l, _) in enumerate(self.entries)
        ]

    def place(self, entry: int, m: int) -> slice:
        """Channels of an entry among those with l >= m."""
        start = self.starts[entry] - (self.channels - self.width(m))
        return slice(start, start + self.entries[entry][0])


def rows(m: int) -> slice:
    """Where the components of one m stand among the local ones."""
    return slice(0, 1) if m == 0 else slice(2 * m - 1, 2 * m + 1)


def to_frames(rotations: Features) -> Features:
    """D^l of every edge [n, 2l+1, 2l+1], its columns brought from m = -l..l into the local order."""
    return [d[:, :, [l, *(l + s * m for m in range(1, l + 1) for s in (-1, 1))]] for l, d in enumerate(rotations)]


def rotate_in(features: Features, layout: Layout, frames: Features) -> Features:
    """Features by l -> local: x_local = D^T x."""
    result = []
    for x, (_, l, natural) in zip(features, layout.entries, strict=True):
        local = x if l == 0 else torch.bmm(frames[l].transpose(1, 2), x)
        result.append(local if natural else _twist(local, l))
    return result


def rotate_out(local: Features, layout: Layout, frames: Features) -> Features:
    """Local features -> by l: x = D x_local."""
    result = []
    for x, (_, l, natural) in zip(local, layout.entries, strict=True):
        straight = x if natural else _untwist(x, l)
        result.append(straight if l == 0 else torch.bmm(frames[l], straight))
    return result


def _twist(x: Tensor, l: int) -> Tensor:
    """(x[-m], x[+m]) -> (-x[+m], x[-m]) for every m > 0."""
    order = [0, *(k for m in range(1, l + 1) for k in (2 * m, 2 * m - 1))]
    signs = x.new_tensor([1.0] + [-1.0, 1.0] * l)
    return x.index_select(1, torch.tensor(order, device=x.device)) * signs[:, None]


def _untwist(x: Tensor, l: int) -> Tensor:
    """The inverse of `_twist`."""
    order = [0, *(k for m in range(1, l + 1) for k in (2 * m, 2 * m - 1))]
    signs = x.new_tensor([1.0] + [1.0, -1.0] * l)
    return x.index_select(1, torch.tensor(order, device=x.device)) * signs[:, None]
