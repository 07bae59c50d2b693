"""TraceGrad: the closed formula of the gradient is the one that autograd finds, and it is equivariant."""

import math

import numpy as np
import pytest
import torch
from features import LAYOUTS, assert_close, directions, frames_of, random_features, turned
from torch import Tensor, nn

from learner_cases import numbers_of, orthogonal, stirred
from orbitrace.nets.layout import Features, Layout, rotate_in, rotate_out
from orbitrace.nets.tracegrad import InvariantNetwork, SameL, SameM, TraceGrad, Use

N, WIDTH, OUTPUTS = 5, 6, 3
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def tracegrad(layout: Layout, form: str, use: Use = "grad", seed: int = 0) -> TraceGrad:
    with numbers_of(torch.float64), torch.random.fork_rng():
        torch.manual_seed(seed)
        quadratic = SameM(layout, WIDTH) if form == "same m" else SameL(layout, WIDTH, by_m=form == "same l, by m")
        return stirred(TraceGrad(layout, quadratic, OUTPUTS, use), seed)


def features_of(layout: Layout, form: str) -> Features:
    local = random_features(layout, N, 3)
    return local if form == "same l" else layout.to_m(local)


FORMS = ("same l", "same l, by m", "same m")


@by_layout
@pytest.mark.parametrize("form", FORMS)
def test_the_update_is_the_gradient_of_the_sum_of_the_invariants(layout: Layout, form: str) -> None:
    """The update is d(sum_p z_p)/df, by autograd, to 1e-12."""
    layer = tracegrad(layout, form)
    features = [x.requires_grad_() for x in features_of(layout, form)]
    updated, z = layer(features)
    gradient = torch.autograd.grad(z.sum(), features)
    assert z.shape == (N, OUTPUTS)
    assert_close([y - x for x, y in zip(features, updated, strict=True)], list(gradient), 1e-12)
    assert all(float(g.abs().max()) > 1e-3 for g in gradient)


@by_layout
def test_invariants_are_those_of_the_definition(layout: Layout) -> None:
    """Written out with loops, u_c = sum_l 1/sqrt(2l+1) sum_m (A_l f)_cm², and then three layers."""
    layer = tracegrad(layout, "same l")
    features = features_of(layout, "same l")
    u = torch.zeros(N, WIDTH, dtype=torch.float64)
    for x, factor, (multiplicity, l, _) in zip(features, layer.quadratic.factors, layout.entries, strict=True):
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
    layer, q = tracegrad(layout, "same l"), orthogonal(8, determinant)
    features = features_of(layout, "same l")
    updated, z = layer(features)
    after, same = layer(turned(features, layout, q))
    torch.testing.assert_close(same, z, rtol=0, atol=1e-12)
    assert_close(after, turned(updated, layout, q), 1e-12)


@by_layout
def test_edges_in_their_frames_and_nodes_in_the_global_one_agree(layout: Layout) -> None:
    """The same weights by m, in frames of any bonds, and by l give the same result."""
    by_l, by_m = tracegrad(layout, "same l"), tracegrad(layout, "same l, by m")
    by_m.load_state_dict(by_l.state_dict())
    features, frames = features_of(layout, "same l"), frames_of(directions(N), layout.l_max)
    updated, z = by_l(features)
    slabs, same = by_m(layout.to_m(rotate_in(features, layout, frames)))
    torch.testing.assert_close(same, z, rtol=0, atol=1e-12)
    assert_close(rotate_out(layout.to_local(slabs), layout, frames), updated, 1e-12)


@by_layout
@pytest.mark.parametrize("use", ["nothing", "gate", "grad"])
def test_in_the_frame_a_turn_about_the_bond_or_a_mirror_through_it_changes_no_invariant(layout: Layout, use: Use) -> None:
    """What is left of O(3) once the bond lies along z; components of l > 0 turn with it."""
    layer, local = tracegrad(layout, "same m", use), random_features(layout, N, 3)
    mirror = np.diag([1.0, -1.0, 1.0])
    angle = 0.7
    about = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    for q in (about, mirror, about @ mirror):
        updated, z = layer(layout.to_m(in_frame(local, layout)))
        after, same = layer(layout.to_m(in_frame(turned(local, layout, q), layout)))
        torch.testing.assert_close(same, z, rtol=0, atol=1e-12)
        expected = turned(from_frame(layout.to_local(updated), layout), layout, q)
        assert_close(from_frame(layout.to_local(after), layout), expected, 1e-12)


def in_frame(features: Features, layout: Layout) -> Features:
    """Features by l of edges along z, in the frames of these edges."""
    return rotate_in(features, layout, frames_of(along_z(), layout.l_max))


def from_frame(local: Features, layout: Layout) -> Features:
    return rotate_out(local, layout, frames_of(along_z(), layout.l_max))


def along_z() -> np.ndarray:
    return np.tile([0.0, 0.0, 1.0], (N, 1))


@by_layout
@pytest.mark.parametrize("form", FORMS)
def test_a_gate_multiplies_every_channel_by_a_mix_of_the_invariants(layout: Layout, form: str) -> None:
    layer, features = tracegrad(layout, form, "gate"), features_of(layout, form)
    updated, z = layer(features)
    factors = layer.gate(z)
    at = 0
    for x, y in zip(features, updated, strict=True):
        n = x.shape[2]
        own = factors[:, at : at + n] if form == "same l" else factors[:, factors.shape[1] - n :]
        torch.testing.assert_close(y, x * (1 + own[:, None]), rtol=0, atol=1e-12)
        at += n


def test_without_use_the_features_stay() -> None:
    layout = LAYOUTS["both"]
    features = features_of(layout, "same m")
    updated, z = tracegrad(layout, "same m", "nothing")(features)
    assert all(x is y for x, y in zip(features, updated, strict=True))
    assert float(z.detach().abs().max()) > 1e-3


def test_a_kind_that_is_zero_stays_zero() -> None:
    """The gradient is a sum of copies of the feature's own irreps: it makes no new direction."""
    layout = LAYOUTS["both"]
    features = features_of(layout, "same l")
    features[3] = torch.zeros_like(features[3])
    updated, _ = tracegrad(layout, "same l")(features)
    assert float(updated[3].detach().abs().max()) == 0.0


def test_the_gradient_of_the_network_of_invariants_is_that_of_autograd() -> None:
    with numbers_of(torch.float64):
        s = stirred(InvariantNetwork(WIDTH, WIDTH + 1, OUTPUTS), 2)
    u = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    z, gradient = s(u)
    g = gradient()
    (expected,) = torch.autograd.grad(z.sum(), u)
    torch.testing.assert_close(g, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_right(form: str) -> None:
    """Of the update itself too: training differentiates the closed formula."""
    layout = Layout.parse("2x0e+1x1o+1x1e+1x2e")
    layer = tracegrad(layout, form)
    features = [x[:2].clone().requires_grad_() for x in features_of(layout, form)]

    def run(*_: Tensor) -> tuple[Tensor, ...]:
        updated, z = layer(features)
        return (*updated, z)

    assert torch.autograd.gradcheck(run, (*features, *layer.parameters()), atol=1e-6)


def test_float32_is_enough() -> None:
    layout = LAYOUTS["both"]
    layer, features = tracegrad(layout, "same l"), features_of(layout, "same l")
    expected, z = layer(features)
    updated, z32 = layer.float()([x.float() for x in features])
    torch.testing.assert_close(z32.double(), z, rtol=1e-4, atol=1e-4)
    for x, y in zip(updated, expected, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=1e-4)
