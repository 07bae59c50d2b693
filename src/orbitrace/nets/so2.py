"""Linear maps in the frame of an edge: the product with the edge's spherical harmonics, without Clebsch-Gordan sums.

With the bond along z only Y_l0 differs from zero, so the general product of a feature with all harmonics of the edge,
followed by a linear map, is a linear map that keeps |m| and acts alike on -m and +m (Passaro and Zitnick, arXiv 2302.03655).
Mirrors through the bond restrict it further; `layout` says how that is met. The class of functions is that of e3nn's fully
connected tensor product, which a test shows by mapping its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from orbitrace.nets.layout import Features, Layout


class SO2Linear(nn.Module):
    """Linear map between features by m, one real matrix per m and input.

    Parameters
    ----------
    layouts_in
        Layouts of the inputs, which are mapped each by its own matrices and added up.
    layout_out
        Layout of the result.
    """

    def __init__(self, layouts_in: Sequence[Layout], layout_out: Layout) -> None:
        super().__init__()
        self.layouts_in, self.layout_out = tuple(layouts_in), layout_out
        self.weights = nn.ModuleList(
            _weights([x.width(m) for x in layouts_in], layout_out.width(m)) for m in range(layout_out.l_max + 1)
        )
        self.bias = nn.Parameter(torch.zeros(layout_out.scalars))
        for n, layout in enumerate(layouts_in):
            mixes = layout.natural_mask()[:, None] == layout_out.natural_mask()[None, :]
            self.register_buffer(f"mask{n}", None if bool(mixes.all()) else mixes, persistent=False)

    def forward(self, inputs: Sequence[Features]) -> Features:
        """Features by m of every input -> of the result."""
        first = self._zero(inputs)
        return [first, *(self._pair(m, inputs) for m in range(1, self.layout_out.l_max + 1))]

    def _zero(self, inputs: Sequence[Features]) -> Tensor:
        """Components m = 0: natural and unnatural ones apart, and a bias on the invariants."""
        bias = nn.functional.pad(self.bias, (0, self.layout_out.channels - len(self.bias)))
        total = bias.expand(len(inputs[0][0]), -1)
        for n, (x, weight) in enumerate(zip(inputs, self._of(0), strict=True)):
            mask = getattr(self, f"mask{n}")
            total = torch.addmm(total, x[0][:, 0], weight if mask is None else weight * mask)
        return total[:, None]

    def _pair(self, m: int, inputs: Sequence[Features]) -> Tensor:
        """Components -m and +m, by the same matrices."""
        n = len(inputs[0][0])
        terms = [(x[m], weight) for x, weight in zip(inputs, self._of(m), strict=True) if len(x) > m]
        if not terms:
            return inputs[0][0].new_zeros(n, 2, self.layout_out.width(m))
        total = terms[0][0].flatten(0, 1) @ terms[0][1]
        for x, weight in terms[1:]:
            total = torch.addmm(total, x.flatten(0, 1), weight)
        return total.reshape(n, 2, self.layout_out.width(m))

    def _of(self, m: int) -> list[Tensor]:
        parameters = self.weights[m]
        assert isinstance(parameters, nn.ParameterList)
        return list(parameters)


def _weights(rows: Sequence[int], columns: int) -> nn.ParameterList:
    """One matrix per input, such that the sum has the size of one component of the inputs."""
    total = max(sum(rows), 1)
    return nn.ParameterList(nn.Parameter(torch.randn(n, columns) / math.sqrt(total)) for n in rows)
