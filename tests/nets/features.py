"""Random features in every layout, and how a rotation or mirror turns them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from orbitrace.nets.layout import Features, Layout, to_frames
from orbitrace.physics.harmonics import rotations, wigner

# Natural only; both kinds with a pseudoscalar; gaps in l; more unnatural than natural; invariants alone.
LAYOUTS = {
    "natural": Layout.parse("4x0e+3x1o+2x2e"),
    "both": Layout.parse("3x0e+2x0o+2x1o+3x1e+1x2e+2x2o+1x3o"),
    "gaps": Layout.parse("2x0e+2x1e+3x3o+1x4o"),
    "scalars": Layout.parse("3x0e"),
}


def random_features(layout: Layout, n: int, seed: int = 0) -> Features:
    """Features by l: one [n, 2l+1, multiplicity] per entry."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 2 * l + 1, k, generator=generator, dtype=torch.float64) for k, l, _ in layout.entries]


def turned(features: Features, layout: Layout, q: np.ndarray) -> Features:
    """Features by l after the orthogonal matrix `q`: unnatural ones change sign besides when space is mirrored."""
    ds, sign = wigner(q, layout.l_max), round(float(np.linalg.det(q)))
    return [
        torch.as_tensor(ds[l] * (1 if natural else sign)) @ x
        for x, (_, l, natural) in zip(features, layout.entries, strict=True)
    ]


def directions(n: int, seed: int = 0) -> np.ndarray:
    """Bonds of any direction, among them some along the axes."""
    bonds = np.random.default_rng(seed).normal(size=(n, 3))
    special = np.array([[0, 0, 1.0], [0, 0, -2.0], [1.0, 0, 0], [0, -1.0, 0]])
    bonds[: min(4, n)] = special[: min(4, n)]
    return bonds


def frames_of(bonds: np.ndarray, l_max: int, angles: np.ndarray | None = None) -> Features:
    """Frames of some bonds; `angles` turn each about its bond."""
    ds = rotations(bonds, l_max)
    if angles is not None:
        about = [wigner(np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]), l_max) for a in angles]
        ds = [d @ np.stack([turn[l] for turn in about]) for l, d in enumerate(ds)]
    return to_frames([torch.as_tensor(d) for d in ds])


def assert_close(left: Features, right: Features, tolerance: float = 1e-10) -> None:
    """Two lists of tensors are equal, relative to their largest element."""
    left, right = [x.detach() for x in left], [x.detach() for x in right]
    size = max([1.0, *(float(x.abs().max()) for x in right if x.numel())])
    for x, y in zip(left, right, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance * size)


def flat(features: Features) -> Tensor:
    """All components in one tensor [n, ...]."""
    return torch.cat([x.reshape(len(x), -1) for x in features], dim=1)
