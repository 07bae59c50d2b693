r"""TraceGrad: invariants of a feature, learned under the traces of the blocks, and their gradient as an equivariant update.

From the equivariant feature f form quadratic invariants u, pass them through a network ``z = s(u)``, and add the gradient
``v = d(sum_p z_p)/df`` to f. v is equivariant because z is invariant (TraceGrad, arXiv 2405.05722, theorem 2). The invariants
z of all updates are trained to predict ``tr(Q Q^dagger)`` of every basic block Q (theorem 1). For comparison, f may also be
multiplied by z (the paper's *gate*), or left as it is.

Two families of quadratic invariants, each with rank-one weights, which the first layer of s mixes with any sign, so that sums
of them reach every symmetric weight (the antisymmetric part drops out of a square):

* `SameL`, the paper's: copies of one kind of irrep, ``u_c = sum_l kappa_l sum_m (A_l f)_cm^2``, kappa_l = 1 / sqrt(2 l + 1);
* `SameM`, for features in the frame of an edge: all channels of one abs(m), ``u_cm = (B_m f)_c,-m^2 + (B_m f)_c,+m^2``. Turns
  about the bond and mirrors through it leave them as they are, so that they are invariants of the feature together with the
  direction of its bond. They contain the paper's, also couple different l, and cost a quarter.

With g = d(sum_p z_p)/du the update is ``2 A^T (g A f)`` (times kappa), written out for the layers of s: a closed formula, and
training needs no second differentiation. A test compares it with autograd's derivative of z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from orbitrace.nets.layout import Features, Layout

HIDDEN = 2  # width of the layers of s, in numbers of invariants per kind
Use = Literal["nothing", "gate", "grad"]


class InvariantNetwork(nn.Module):
    """s: three linear layers with layer norm and SiLU between them, and the gradient of the sum of its outputs."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.linear1, self.linear2, self.linear3 = nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, outputs)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        # z starts at zero, and so does its gradient: a fresh network is the one without TraceGrad.
        nn.init.zeros_(self.linear3.weight)

    def forward(self, u: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """Invariants u [n, inputs] -> (z [n, outputs], and what computes d(sum_p z_p)/du [n, inputs])."""
        x1, back1 = _norm_silu(self.linear1(u), self.norm1)
        x2, back2 = _norm_silu(self.linear2(x1), self.norm2)

        def gradient() -> Tensor:
            g = back2(self.linear3.weight.sum(0).expand_as(x2)) @ self.linear2.weight
            return back1(g) @ self.linear1.weight

        return self.linear3(x2), gradient


class _NormSiluBack:
    """Derivative of SiLU(LayerNorm(x)), transposed, at the point where it was evaluated."""

    def __init__(self, normalised: Tensor, inverse: Tensor, slope: Tensor, weight: Tensor) -> None:
        self.normalised, self.inverse, self.slope, self.weight = normalised, inverse, slope, weight

    def __call__(self, g: Tensor) -> Tensor:
        g = g * self.slope * self.weight
        projected = g - g.mean(1, keepdim=True) - self.normalised * (g * self.normalised).mean(1, keepdim=True)
        return projected * self.inverse


def _norm_silu(x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, _NormSiluBack]:
    centred = x - x.mean(1, keepdim=True)
    inverse = torch.rsqrt((centred**2).mean(1, keepdim=True) + norm.eps)
    normalised = centred * inverse
    y = normalised * norm.weight + norm.bias
    s = torch.sigmoid(y)
    return y * s, _NormSiluBack(normalised, inverse, s * (1 + y * (1 - s)), norm.weight)


class SameL(nn.Module):
    """Quadratic invariants of copies of one irrep, [n, width], for features by l, or by m in the frame of an edge."""

    kappa: Tensor

    def __init__(self, layout: Layout, width: int, by_m: bool) -> None:
        super().__init__()
        self.width = self.invariants = width
        self.layout, self.by_m = layout, by_m
        self.factors = nn.ParameterList(
            nn.Parameter(torch.randn(n, width) / math.sqrt(n)) for n, _, _ in layout.entries
        )  # A_l^T
        # Entries whose components each tensor of a feature holds: one by l; by m, all with l >= m, which are the last ones.
        ls = [l for _, l, _ in layout.entries]
        n = len(ls)
        by_m_places = [slice(sum(l < m for l in ls), n) for m in range(layout.l_max + 1)]
        self.places = by_m_places if by_m else [slice(k, k + 1) for k in range(n)]
        self.register_buffer("kappa", torch.tensor([1 / math.sqrt(2 * l + 1) for l in ls])[:, None], persistent=False)

    def maps(self) -> list[Tensor]:
        """A^T of each tensor of a feature, block-diagonal over its entries: [channels, entries * width]."""
        if not self.by_m:
            return list(self.factors)
        return [torch.block_diag(*list(self.factors)[place]) for place in self.places]  # type: ignore[no-untyped-call]

    def forward(self, products: Features) -> Tensor:
        """A f -> u [n, width]; the order of components does not matter to a sum over them."""
        total = products[0].new_zeros(len(products[0]), self.width)
        for product, place in zip(products, self.places, strict=True):
            squares = (product**2).sum(1).reshape(len(total), product.shape[2] // self.width, self.width)
            total = total + (squares * self.kappa[place]).sum(1)
        return total

    def slopes(self, g: Tensor) -> list[Tensor]:
        """d(sum z)/du [n, width] -> d(sum z)/d(A f) = slope * A f of each tensor: [n, entries * width]."""
        return [(2 * self.kappa[place] * g[:, None]).flatten(1) for place in self.places]


class SameM(nn.Module):
    """Quadratic invariants of the components of one abs(m) in the frame of an edge, [n, invariants].

    For m = 0 a mirror turns the sign of unnatural components alone, so that natural and unnatural ones have products apart.
    """

    by_m = True

    def __init__(self, layout: Layout, width: int) -> None:
        super().__init__()
        natural = layout.natural_mask()
        kinds = 1 if bool(natural.all()) else 2
        columns = [width * kinds, *(width for _ in range(layout.l_max))]
        self.width, self.invariants = width, sum(columns)
        self.columns = columns
        self.factors = nn.ParameterList(
            nn.Parameter(torch.randn(layout.width(m), n) / math.sqrt(layout.width(m))) for m, n in enumerate(columns)
        )  # B_m^T
        mask = natural[:, None] == torch.tensor([True, False])[:kinds].repeat_interleave(width)
        self.register_buffer("mask", None if kinds == 1 else mask, persistent=False)

    def maps(self) -> list[Tensor]:
        """B_m^T of every m."""
        first, *rest = self.factors
        return [first if self.mask is None else first * self.mask, *rest]

    def forward(self, products: Features) -> Tensor:
        """B f -> u [n, invariants], those of m = 0 first."""
        return torch.cat([(x**2).sum(1) for x in products], dim=1)

    def slopes(self, g: Tensor) -> list[Tensor]:
        """d(sum z)/du [n, invariants] -> d(sum z)/d(B f) = slope * B f of every m: [n, columns]."""
        return [2 * x for x in torch.split(g, self.columns, dim=1)]


class TraceGrad(nn.Module):
    """Invariants of features, and the features updated by their gradient.

    Parameters
    ----------
    layout
        Layout of the features.
    quadratic
        The quadratic invariants u: `SameL` or `SameM` of that layout.
    outputs
        Number of learned invariants z.
    use
        What becomes of z: its gradient is added to the features, they are multiplied by it, or nothing.
    """

    def __init__(self, layout: Layout, quadratic: SameL | SameM, outputs: int, use: Use = "grad") -> None:
        super().__init__()
        self.layout, self.quadratic, self.use = layout, quadratic, use
        self.network = InvariantNetwork(quadratic.invariants, HIDDEN * quadratic.width, outputs)
        self.gate = nn.Linear(outputs, layout.channels, bias=False) if use == "gate" else None
        self.widths = None if quadratic.by_m else [n for n, _, _ in layout.entries]

    def forward(self, features: Features) -> tuple[Features, Tensor]:
        """Features -> (features + gradient of the invariants, invariants z [n, outputs])."""
        maps = self.quadratic.maps()
        products = [(x.flatten(0, 1) @ a).view(*x.shape[:2], a.shape[1]) for x, a in zip(features, maps, strict=True)]
        z, gradient = self.network(self.quadratic(products))
        if self.use == "nothing":
            return features, z
        if self.gate is not None:
            return self._gated(features, self.gate(z)), z
        slopes = self.quadratic.slopes(gradient())
        updated = [
            torch.addmm(x.flatten(0, 1), (y * slope[:, None]).flatten(0, 1), a.T).view_as(x)
            for x, y, slope, a in zip(features, products, slopes, maps, strict=True)
        ]
        return updated, z

    def _gated(self, features: Features, gates: Tensor) -> Features:
        """F + f * (mix of z), one factor for each channel."""
        if self.widths is not None:
            parts = list(torch.split(gates, self.widths, dim=1))
        else:
            parts = [gates[:, gates.shape[1] - x.shape[2] :] for x in features]
        return [x + x * factor[:, None] for x, factor in zip(features, parts, strict=True)]
