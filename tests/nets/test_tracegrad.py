"""TraceGrad: the closed formula of the gradient is the one that autograd finds, and it is equivariant."""

import math

import pytest
import torch
from features import LAYOUTS, assert_close, directions, frames_of, random_features, turned
from torch import Tensor, nn

from learner_cases import numbers_of, orthogonal, stirred
from orbitrace.nets.layout import Features, Layout, rotate_in, rotate_out
from orbitrace.nets.tracegrad import InvariantNetwork, TraceGrad

N, WIDTH, OUTPUTS = 5, 6, 3
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def tracegrad(layout: Layout, by_m: bool, seed: int = 0) -> TraceGrad:
    with numbers_of(torch.float64), torch.random.fork_rng():
        torch.manual_seed(seed)
        return stirred(TraceGrad(layout, WIDTH, OUTPUTS, by_m), seed)


def features_of(layout: Layout, by_m: bool) -> Features:
    local = random_features(layout, N, 3)
    return layout.to_m(local) if by_m else local


@by_layout
@pytest.mark.parametrize("by_m", [False, True])
def test_the_update_is_the_gradient_of_the_sum_of_the_invariants(layout: Layout, by_m: bool) -> None:
    """The update is d(sum_p z_p)/df, by autograd, to 1e-12."""
    layer = tracegrad(layout, by_m)
    features = [x.requires_grad_() for x in features_of(layout, by_m)]
    updated, z = layer(features)
    gradient = torch.autograd.grad(z.sum(), features)
    assert z.shape == (N, OUTPUTS)
    assert_close([y - x for x, y in zip(features, updated, strict=True)], list(gradient), 1e-12)
    assert all(float(g.abs().max()) > 1e-3 for g in gradient)


@by_layout
def test_invariants_are_those_of_the_definition(layout: Layout) -> None:
    """Written out with loops, u_c = sum_l 1/sqrt(2l+1) sum_m (A_l f)_cm², and then three layers."""
    layer = tracegrad(layout, by_m=False)
    features = features_of(layout, by_m=False)
    u = torch.zeros(N, WIDTH, dtype=torch.float64)
    for x, factor, (multiplicity, l, _) in zip(features, layer.factors, layout.entries, strict=True):
        for c in range(WIDTH):
            for m in range(2 * l + 1):
                a = sum(factor[i, c] * x[:, m, i] for i in range(multiplicity))
                u[:, c] += (a**2).detach() / math.sqrt(2 * l + 1)
    s = layer.network
    silu = nn.functional.silu
    expected = s.linear3(silu(s.norm2(s.linear2(silu(s.norm1(s.linear1(u)))))))
    torch.testing.assert_close(layer(features)[1], expected, rtol=0, atol=1e-12)


@by_layout
@pytest.mark.parametrize("determinant", [1, -1])
def test_it_is_equivariant_and_its_invariants_are_invariant(layout: Layout, determinant: int) -> None:
    layer, q = tracegrad(layout, by_m=False), orthogonal(8, determinant)
    features = features_of(layout, by_m=False)
    updated, z = layer(features)
    after, same = layer(turned(features, layout, q))
    torch.testing.assert_close(same, z, rtol=0, atol=1e-12)
    assert_close(after, turned(updated, layout, q), 1e-12)


@by_layout
def test_edges_in_their_frames_and_nodes_in_the_global_one_agree(layout: Layout) -> None:
    """The same weights by m, in frames of any bonds, and by l give the same result."""
    by_l, by_m = tracegrad(layout, by_m=False), tracegrad(layout, by_m=True)
    by_m.load_state_dict(by_l.state_dict())
    features, frames = features_of(layout, by_m=False), frames_of(directions(N), layout.l_max)
    updated, z = by_l(features)
    slabs, same = by_m(layout.to_m(rotate_in(features, layout, frames)))
    torch.testing.assert_close(same, z, rtol=0, atol=1e-12)
    assert_close(rotate_out(layout.to_local(slabs), layout, frames), updated, 1e-12)


def test_a_kind_that_is_zero_stays_zero() -> None:
    """The gradient is a sum of copies of the feature's own irreps: it makes no new direction."""
    layout = LAYOUTS["both"]
    features = features_of(layout, by_m=False)
    features[3] = torch.zeros_like(features[3])
    updated, _ = tracegrad(layout, by_m=False)(features)
    assert float(updated[3].detach().abs().max()) == 0.0


def test_the_gradient_of_the_network_of_invariants_is_that_of_autograd() -> None:
    with numbers_of(torch.float64):
        s = stirred(InvariantNetwork(WIDTH, OUTPUTS), 2)
    u = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    z, g = s(u)
    (expected,) = torch.autograd.grad(z.sum(), u)
    torch.testing.assert_close(g, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("by_m", [False, True])
def test_gradients_are_right(by_m: bool) -> None:
    """Of the update itself too: training differentiates the closed formula."""
    layout = Layout.parse("2x0e+1x1o+1x1e+1x2e")
    layer = tracegrad(layout, by_m)
    features = [x[:2].clone().requires_grad_() for x in features_of(layout, by_m)]

    def run(*_: Tensor) -> tuple[Tensor, ...]:
        updated, z = layer(features)
        return (*updated, z)

    assert torch.autograd.gradcheck(run, (*features, *layer.parameters()), atol=1e-6)


def test_float32_is_enough() -> None:
    layout = LAYOUTS["both"]
    layer, features = tracegrad(layout, by_m=False), features_of(layout, by_m=False)
    expected, z = layer(features)
    updated, z32 = layer.float()([x.float() for x in features])
    torch.testing.assert_close(z32.double(), z, rtol=1e-4, atol=1e-4)
    for x, y in zip(updated, expected, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=1e-4)
