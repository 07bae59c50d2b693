"""Functions of the length of an edge, scaled to the cutoff of its pair of elements."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def envelope(ratio: Tensor) -> Tensor:
    """Smooth step from 1 at length 0 to 0 at the cutoff, with two continuous derivatives there; `ratio` is length / cutoff.

    1 - 28 x^6 + 48 x^7 - 21 x^8 (Gasteiger et al., arXiv 2003.03123, eq. 8, p = 6).
    """
    x = ratio.clamp(max=1.0)
    return 1 - 28 * x**6 + 48 * x**7 - 21 * x**8


class RadialNetwork(nn.Module):
    """What an edge knows by itself: its length and the elements at its ends, as invariant features [n_edges, width].

    Gaussians of length / cutoff, and embeddings of both elements, through two layers.
    """

    centres: Tensor

    def __init__(self, n_elements: int, gaussians: int, width: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0.0, 1.0, gaussians))
        self.sharpness = (gaussians - 1) ** 2 / 2  # width of a Gaussian = distance of their centres
        self.source = nn.Embedding(n_elements, width)
        self.target = nn.Embedding(n_elements, width)
        self.first = nn.Linear(gaussians, width)
        self.second = nn.Linear(width, width)

    def forward(self, ratio: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Length / cutoff [n_edges] and the numbers of the elements at both ends [n_edges] -> [n_edges, width]."""
        bumps = torch.exp(-self.sharpness * (ratio[:, None] - self.centres) ** 2)
        hidden = nn.functional.silu(self.first(bumps) + self.source(source) + self.target(target))
        return nn.functional.silu(self.second(hidden))
