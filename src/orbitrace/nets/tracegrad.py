r"""TraceGrad: invariants of a feature, learned under the traces of the blocks, and their gradient as an equivariant update.

From the equivariant feature f (copies f_i of irreps) form the quadratic invariants
``u_c = sum_ij W^c_ij CG(f_i x f_j -> 0)``, pass them through a network ``z = s(u)``, and add the gradient ``v = d(sum_p
z_p)/df`` to f. v is equivariant because z is invariant (TraceGrad, arXiv 2405.05722, theorem 2). The invariants z of all
blocks are trained to predict ``tr(Q Q^dagger)`` of every basic block Q (theorem 1).

Here ``W^c`` pairs copies of one kind of irrep and has rank one, ``W^c_ij = a_ci a_cj``; the first layer of s mixes them with
any sign, so that sums of them reach every symmetric matrix (the antisymmetric part of W^c drops out). Then

    u_c = sum_l kappa_l sum_m (A_l f)_cm^2,      kappa_l = 1 / sqrt(2 l + 1),
    v_l = 2 kappa_l A_l^T (g * A_l f),           g_c = d(sum_p z_p)/du_c,

and g is written out for the layers of s. The update is thus a closed formula: training needs no second differentiation. A test
compares it with autograd's derivative of z.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from orbitrace.nets.layout import Features, Layout


class InvariantNetwork(nn.Module):
    """s: three linear layers with layer norm and SiLU between them, and the gradient of the sum of its outputs."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear1, self.linear2, self.linear3 = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, outputs)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        # z starts at zero, and so does its gradient: a fresh network is the one without TraceGrad.
        nn.init.zeros_(self.linear3.weight)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Invariants u [n, width] -> (z [n, outputs], d(sum_p z_p)/du [n, width])."""
        x1, back1 = _norm_silu(self.linear1(u), self.norm1)
        x2, back2 = _norm_silu(self.linear2(x1), self.norm2)
        z = self.linear3(x2)
        g = back2(self.linear3.weight.sum(0).expand_as(x2)) @ self.linear2.weight
        return z, back1(g) @ self.linear1.weight


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


class TraceGrad(nn.Module):
    """Invariants of features, and the features updated by their gradient.

    Parameters
    ----------
    layout
        Layout of the features.
    width
        Number of quadratic invariants u.
    outputs
        Number of learned invariants z.
    by_m
        Whether the features come by m (edges) or by l (nodes).
    """

    kappa: Tensor

    def __init__(self, layout: Layout, width: int, outputs: int, by_m: bool) -> None:
        super().__init__()
        self.layout, self.width, self.by_m = layout, width, by_m
        self.factors = nn.ParameterList(
            nn.Parameter(torch.randn(n, width) / math.sqrt(n)) for n, _, _ in layout.entries
        )  # A_l^T
        self.network = InvariantNetwork(width, outputs)
        # Entries whose components each tensor of a feature holds: one by l; by m, all with l >= m, which are the last ones.
        ls = [l for _, l, _ in layout.entries]
        n = len(ls)
        by_m_places = [slice(sum(l < m for l in ls), n) for m in range(layout.l_max + 1)]
        self.places = by_m_places if by_m else [slice(k, k + 1) for k in range(n)]
        self.register_buffer("kappa", torch.tensor([1 / math.sqrt(2 * l + 1) for l in ls])[:, None], persistent=False)

    def forward(self, features: Features) -> tuple[Features, Tensor]:
        """Features -> (features + gradient of the invariants, invariants z [n, outputs])."""
        factors = [self._factor(place) for place in self.places]
        products = [x @ factor for x, factor in zip(features, factors, strict=True)]
        z, g = self.network(self._invariants(products))
        updated = []
        for x, product, factor, place in zip(features, products, factors, self.places, strict=True):
            pull = (2 * self.kappa[place] * g[:, None]).flatten(1)
            updated.append(x + (product * pull[:, None]) @ factor.T)
        return updated, z

    def _factor(self, place: slice) -> Tensor:
        """A^T of some entries as one block-diagonal matrix: [their channels, their number * width]."""
        parts = list(self.factors)[place]
        together: Tensor = torch.block_diag(*parts)  # type: ignore[no-untyped-call]
        return together

    def _invariants(self, products: Features) -> Tensor:
        """The quadratic invariants u [n, width] from A f; the order of components does not matter to a sum over them."""
        total = products[0].new_zeros(len(products[0]), self.width)
        for product, place in zip(products, self.places, strict=True):
            squares = (product**2).sum(1).reshape(len(total), product.shape[2] // self.width, self.width)
            total = total + (squares * self.kappa[place]).sum(1)
        return total
