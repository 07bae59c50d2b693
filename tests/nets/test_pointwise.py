"""Layers that treat every node or edge by itself: equivariant, and no node knows of another."""

from collections.abc import Callable

import pytest
import torch
from features import LAYOUTS, assert_close, directions, frames_of, random_features, turned
from torch import Tensor, nn

from learner_cases import numbers_of, orthogonal, stirred
from orbitrace.nets.layout import Features, Layout, rotate_in, rotate_out
from orbitrace.nets.pointwise import EntryLinear, Gate, NormByL, NormByM
from orbitrace.nets.radial import RadialNetwork, envelope

N, WIDTH = 6, 4
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def made(factory: Callable[[], nn.Module]) -> nn.Module:
    with numbers_of(torch.float64):
        return stirred(factory(), 3)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_frames(layer: Callable[[Features], Features], layout: Layout, x: Features, bonds: object) -> Features:
    """A layer by m, from the global frame and back to it."""
    frames = frames_of(bonds, layout.l_max)
    return rotate_out(layout.to_local(layer(layout.to_m(rotate_in(x, layout, frames)))), layout, frames)


@by_layout
@pytest.mark.parametrize("determinant", [1, -1])
def test_all_layers_are_equivariant(layout: Layout, determinant: int) -> None:
    q, x, bonds = orthogonal(9, determinant), random_features(layout, N), directions(N)
    linear = made(lambda: EntryLinear(layout, LAYOUTS["both"]))
    assert_close(linear(turned(x, layout, q)), turned(linear(x), LAYOUTS["both"], q), 1e-12)
    norm = made(lambda: NormByL(layout))
    assert_close(norm(turned(x, layout, q)), turned(norm(x), layout, q), 1e-12)
    norm_m, gate = made(lambda: NormByM(layout)), made(lambda: Gate(WIDTH, layout))
    gates, radial = noise(N, layout.channels - layout.scalars), noise(N, WIDTH, seed=1)
    for by_m in (norm_m, lambda slabs: gate(slabs, gates, radial)):
        before = in_frames(by_m, layout, x, bonds)
        assert_close(in_frames(by_m, layout, turned(x, layout, q), bonds @ q.T), turned(before, layout, q), 1e-12)


@by_layout
def test_both_norms_are_the_same_function(layout: Layout) -> None:
    by_l, by_m = made(lambda: NormByL(layout)), made(lambda: NormByM(layout))
    weights = [w for w in by_l.weights if w.numel()]
    with torch.no_grad():
        by_m.weight.copy_(torch.cat(weights) if weights else by_m.weight)
        by_m.scalars.load_state_dict(by_l.scalars.state_dict())
    x = random_features(layout, N)
    assert_close(in_frames(by_m, layout, x, directions(N)), by_l(x), 1e-12)


@by_layout
def test_norms_bring_large_features_to_order_one(layout: Layout) -> None:
    with numbers_of(torch.float64):
        norm = NormByL(layout)
    for size in (1e2, 1e4):
        for x in norm([size * x for x in random_features(layout, N)]):
            assert 0.5 < float((x**2).mean().detach()) < 1.5


@by_layout
def test_norms_do_not_blow_up_what_is_nearly_zero(layout: Layout) -> None:
    """Features that vanish by symmetry are rounding errors; a norm that makes them of order one breaks the symmetry."""
    with numbers_of(torch.float64):
        by_l, by_m = NormByL(layout), NormByM(layout)
    noise_level = 1e-6
    x = [noise_level * part if k else part for k, part in enumerate(random_features(layout, N))]
    for y in by_l(x)[1:] + in_frames(by_m, layout, x, directions(N))[1:]:
        assert float(y.detach().abs().max()) < 20 * noise_level


@by_layout
def test_norms_of_nothing_are_finite_and_have_finite_gradients(layout: Layout) -> None:
    norm = made(lambda: NormByL(layout))
    x = [torch.zeros_like(part).requires_grad_() for part in random_features(layout, N)]
    y = norm(x)
    sum(part.sum() for part in y).backward()
    assert all(torch.isfinite(part).all() for part in y)
    assert all(part.grad is not None and torch.isfinite(part.grad).all() for part in x)


@by_layout
def test_one_row_does_not_reach_another(layout: Layout) -> None:
    x = random_features(layout, N)
    for layer in (made(lambda: NormByL(layout)), made(lambda: EntryLinear(layout, layout))):
        assert_close(layer([part[2:3] for part in x]), [part[2:3] for part in layer(x)], 1e-13)
    norm = made(lambda: NormByM(layout))
    slabs = layout.to_m(x)
    assert_close(norm([part[2:3] for part in slabs]), [part[2:3] for part in norm(slabs)], 1e-13)


def test_kinds_that_the_input_lacks_are_zero_and_natural_scalars_have_a_bias() -> None:
    layer = made(lambda: EntryLinear(Layout.parse("2x0e+2x1o"), Layout.parse("2x0e+2x0o+1x1o+3x1e+1x2e")))
    y = layer(random_features(Layout.parse("2x0e+2x1o"), N))
    assert [tuple(x.shape) for x in y] == [(N, 1, 2), (N, 1, 2), (N, 3, 1), (N, 3, 3), (N, 5, 1)]
    assert [bool((x != 0).any()) for x in y] == [True, False, True, False, False]
    nothing = layer([torch.zeros(1, 1, 2, dtype=torch.float64), torch.zeros(1, 3, 2, dtype=torch.float64)])
    assert [bool((x != 0).any()) for x in nothing] == [True, False, False, False, False]


def test_a_gate_is_a_factor_per_channel_and_m_and_silu_of_invariants() -> None:
    layout = LAYOUTS["both"]
    gate = made(lambda: Gate(WIDTH, layout))
    slabs, radial = layout.to_m(random_features(layout, N)), noise(N, WIDTH, seed=1)
    gates = noise(N, layout.channels - layout.scalars)
    factors = torch.split(gate.linear(radial), [layout.width(m) for m in range(layout.l_max + 1)], dim=1)
    scaled = [x * f[:, None] for x, f in zip(slabs, factors, strict=True)]
    expected = [torch.cat([nn.functional.silu(scaled[0][:, :, :3]), scaled[0][:, :, 3:] * torch.sigmoid(gates)[:, None]], 2)]
    expected += [x * torch.sigmoid(gates)[:, None, -x.shape[2] :] for x in scaled[1:]]
    assert_close(gate(slabs, gates, radial), expected, 1e-13)


@pytest.mark.parametrize("name", ["linear", "norm by l", "norm by m", "gate", "radial"])
def test_gradients_are_right(name: str) -> None:
    layout = Layout.parse("3x0e+1x0o+2x1o+1x2e")
    x = random_features(layout, 2)
    features = [part.requires_grad_() for part in (layout.to_m(x) if name in ("norm by m", "gate") else x)]
    gates, radial = noise(2, 4).requires_grad_(), noise(2, WIDTH).requires_grad_()
    ratio, ends = torch.tensor([0.31, 0.87], dtype=torch.float64, requires_grad=True), torch.tensor([0, 1])
    factory, inputs, arguments = {
        "linear": (lambda: EntryLinear(layout, layout), features, (features,)),
        "norm by l": (lambda: NormByL(layout), features, (features,)),
        "norm by m": (lambda: NormByM(layout), features, (features,)),
        "gate": (lambda: Gate(WIDTH, layout), [*features, gates, radial], (features, gates, radial)),
        "radial": (lambda: RadialNetwork(2, 4, 3), [ratio], (ratio, ends, ends.flip(0))),
    }[name]
    layer = made(factory)

    def run(*_: Tensor) -> tuple[Tensor, ...]:
        result = layer(*arguments)
        return (result,) if isinstance(result, Tensor) else tuple(result)

    parameters = [p for p in layer.parameters() if p.numel()]
    assert torch.autograd.gradcheck(run, (*inputs, *parameters), atol=1e-6)


def test_the_envelope_falls_from_one_to_zero_with_two_derivatives() -> None:
    x = torch.linspace(0, 1.3, 261, dtype=torch.float64)
    y = envelope(x)
    assert float(y[0]) == 1.0
    assert (y[x >= 1] == 0).all()
    assert (y.diff() <= 0).all()
    near = torch.tensor([1.0 - 1e-4], dtype=torch.float64, requires_grad=True)
    value = envelope(near)
    (slope,) = torch.autograd.grad(value.sum(), near, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), near)
    assert value.item() == pytest.approx(56e-12, rel=1e-2)  # third order: 336 / 3! (1 - x)³
    assert abs(slope.item()) < 1e-5
    assert abs(curvature.item()) < 0.1


def test_the_radial_network_knows_which_end_is_which() -> None:
    radial = made(lambda: RadialNetwork(3, 5, 4))
    ratio = torch.full((4,), 0.4, dtype=torch.float64)
    ends = torch.tensor([[0, 1], [1, 0], [0, 2], [0, 1]])
    y = radial(ratio, ends[:, 0], ends[:, 1])
    torch.testing.assert_close(y[0], y[3])
    assert not torch.allclose(y[0], y[1])
    assert not torch.allclose(y[0], y[2])
    assert not torch.allclose(y, radial(ratio + 0.1, ends[:, 0], ends[:, 1]))
