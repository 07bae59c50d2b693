"""Linear maps in the frame of an edge: the product with the edge's spherical harmonics, without Clebsch-Gordan sums.

With the bond along z only Y_l0 differs from zero, so the general product of a feature with all harmonics of the edge,
followed by a linear map, is a linear map that keeps |m| and acts alike on +m and -m (Passaro and Zitnick, arXiv 2302.03655).
Mirrors through the bond restrict it further; `layout` says how that is met. The class of functions is that of e3nn's fully
connected tensor product, which a test shows by mapping its weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from orbitrace.nets.layout import Features, Layout


class SO2Linear(nn.Module):
    """Linear map between features by m, one real matrix per m.

    Parameters
    ----------
    layouts_in
        Layouts of the inputs; they are concatenated.
    layout_out
        Layout of the result.
    extra_scalars
        Further invariant channels of the result, returned apart (for gates).
    """

    def __init__(self, layouts_in: list[Layout], layout_out: Layout, extra_scalars: int = 0) -> None:
        super().__init__()
        self.layouts_in, self.layout_out, self.extra = layouts_in, layout_out, extra_scalars
        self.weights = nn.ParameterList()
        for m in range(min(max(x.l_max for x in layouts_in), layout_out.l_max) + 1):
            rows = sum(x.width(m) for x in layouts_in)
            columns = layout_out.width(m) + (extra_scalars if m == 0 else 0)
            self.weights.append(nn.Parameter(torch.randn(rows, columns) / math.sqrt(rows)))
        self.bias = nn.Parameter(torch.zeros(layout_out.scalars + extra_scalars))
        natural_in = torch.cat([x.natural_mask() for x in layouts_in])
        natural_out = torch.cat([layout_out.natural_mask(), torch.ones(extra_scalars, dtype=torch.bool)])
        mixes = natural_in[:, None] == natural_out[None, :]
        self.register_buffer("mask", None if bool(mixes.all()) else mixes, persistent=False)

    def forward(self, inputs: list[Features]) -> tuple[Features, Tensor]:
        """Slabs of the inputs -> (slabs of the result, extra scalars [n, extra])."""
        weight = self.weights[0] if self.mask is None else self.weights[0] * self.mask
        zero = torch.cat([x[0] for x in inputs], dim=2) @ weight
        scalars, width = self.layout_out.scalars, self.layout_out.channels
        extra = zero[:, 0, width:] + self.bias[scalars:]
        first = torch.cat([zero[:, :, :scalars] + self.bias[:scalars], zero[:, :, scalars:width]], dim=2)
        result = [first]
        for m in range(1, self.layout_out.l_max + 1):
            parts = [x[m] for x in inputs if len(x) > m]
            if m < len(self.weights):
                result.append(torch.cat(parts, dim=2) @ self.weights[m])
            else:
                result.append(first.new_zeros(len(first), 2, self.layout_out.width(m)))
        return result, extra
