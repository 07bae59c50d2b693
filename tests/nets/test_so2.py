"""SO(2) maps: as general as the tensor product with all harmonics of an edge, and equivariant under O(3)."""

from itertools import product

import numpy as np
import pytest
import torch
from e3nn import o3
from features import LAYOUTS, assert_close, directions, frames_of, random_features, turned
from torch import Tensor

from learner_cases import numbers_of, orthogonal, stirred
from orbitrace.nets.layout import Features, Layout, rotate_in, rotate_out
from orbitrace.nets.so2 import SO2Linear

N = 9
PAIRS = [
    ("4x0e+3x1o+2x2e", "2x0e+2x1o+3x2e+1x3o"),
    ("2x0e+2x0o+2x1o+1x1e+2x2e+1x2o", "1x0e+2x0o+2x1o+2x1e+1x2e+2x2o+1x3o+1x3e"),
    ("3x0e+1x3o+2x3e", "2x0e+1x1e+2x4e+1x4o"),
    ("2x1e+2x2o", "3x0e+2x0o+2x1o+1x2e"),
    ("3x0e", "1x0e+2x2e"),
]


def linear(layouts_in: list[Layout], layout_out: Layout, bias: bool = True) -> SO2Linear:
    with numbers_of(torch.float64):
        layer = stirred(SO2Linear(layouts_in, layout_out), 1)
    if not bias:
        layer.bias.data.zero_()
    return layer


def through(layer: SO2Linear, inputs: list[Features], frames: Features) -> Features:
    """From the global frame through the map in each edge's frame, and back."""
    slabs = [layout.to_m(rotate_in(x, layout, frames)) for x, layout in zip(inputs, layer.layouts_in, strict=True)]
    return rotate_out(layer.layout_out.to_local(layer(slabs)), layer.layout_out, frames)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_turning_the_input_and_the_edges_turns_the_result(before: str, after: str, determinant: int) -> None:
    layouts, out = [Layout.parse(before), LAYOUTS["both"]], Layout.parse(after)
    layer, q, bonds = linear(layouts, out), orthogonal(7, determinant), directions(N)
    inputs = [random_features(layout, N, k) for k, layout in enumerate(layouts)]
    l_max = max(out.l_max, *(x.l_max for x in layouts))
    y = through(layer, inputs, frames_of(bonds, l_max))
    after_turn = through(
        layer, [turned(x, layout, q) for x, layout in zip(inputs, layouts, strict=True)], frames_of(bonds @ q.T, l_max)
    )
    assert_close(after_turn, turned(y, out, q))
    assert all(float(x.detach().abs().max()) > 1e-3 for x in y)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirrors_are_kept(axis: int) -> None:
    """An SO(2) map without the rule of naturality passes every test with rotations alone, and fails here."""
    layout, out = LAYOUTS["both"], Layout.parse("2x0e+2x0o+2x1o+2x1e+1x2e+1x2o")
    mirror = np.eye(3)
    mirror[axis, axis] = -1
    layer, bonds, x = linear([layout], out), directions(N), random_features(layout, N)
    y = through(layer, [x], frames_of(bonds, 3))
    assert_close(through(layer, [turned(x, layout, mirror)], frames_of(bonds @ mirror, 3)), turned(y, out, mirror))


def test_the_turn_of_a_frame_about_its_bond_does_not_matter() -> None:
    layout, out = LAYOUTS["both"], LAYOUTS["gaps"]
    layer, bonds, x = linear([layout], out), directions(N), random_features(layout, N)
    angles = np.random.default_rng(1).uniform(0, 7, N)
    assert_close(through(layer, [x], frames_of(bonds, 4, angles)), through(layer, [x], frames_of(bonds, 4)), 1e-12)


def test_a_feature_of_one_edge_does_not_reach_another() -> None:
    layout = LAYOUTS["both"]
    layer, x, bonds = linear([layout], layout), random_features(layout, N), directions(N)
    y = through(layer, [x], frames_of(bonds, 3))
    alone = through(layer, [[part[3:4] for part in x]], frames_of(bonds[3:4], 3))
    assert_close(alone, [part[3:4] for part in y], 1e-13)


def test_inputs_are_added_up() -> None:
    layouts, out = [LAYOUTS["both"], LAYOUTS["natural"]], LAYOUTS["gaps"]
    layer, frames = linear(layouts, out, bias=False), frames_of(directions(N), 4)
    x, y = (random_features(layout, N, k) for k, layout in enumerate(layouts))
    nothing = [[torch.zeros_like(part) for part in z] for z in (x, y)]
    both = through(layer, [x, y], frames)
    parts = zip(through(layer, [x, nothing[1]], frames), through(layer, [nothing[0], y], frames), strict=True)
    assert_close([a + b for a, b in parts], both, 1e-13)


def test_no_edges_are_no_problem() -> None:
    layout = LAYOUTS["both"]
    assert [x.shape[0] for x in linear([layout], LAYOUTS["gaps"])([layout.to_m(random_features(layout, 0))])] == [0] * 5


# --- the Clebsch-Gordan tensor product ------------------------------------------------------------------------------------


def irreps(layout: Layout) -> o3.Irreps:
    return o3.Irreps(str(layout))


def to_e3nn(features: Features) -> Tensor:
    """e3nn keeps [n, multiplicity, 2l+1] of each kind, flattened."""
    return torch.cat([x.transpose(1, 2).reshape(len(x), -1) for x in features], dim=1)


def from_e3nn(values: Tensor, layout: Layout) -> Features:
    parts = torch.split(values, [n * (2 * l + 1) for n, l, _ in layout.entries], dim=1)
    return [x.reshape(len(x), n, 2 * l + 1).transpose(1, 2) for x, (n, l, _) in zip(parts, layout.entries, strict=True)]


def tensor_product(layout: Layout, out: Layout) -> tuple[o3.FullyConnectedTensorProduct, o3.Irreps]:
    """All paths from a feature and the harmonics of an edge to the result, with random weights."""
    harmonics = o3.Irreps.spherical_harmonics(layout.l_max + out.l_max)
    with numbers_of(torch.float64), torch.random.fork_rng():
        torch.manual_seed(2)
        return o3.FullyConnectedTensorProduct(irreps(layout), harmonics, irreps(out)), harmonics


def apply(tp: o3.FullyConnectedTensorProduct, harmonics: o3.Irreps, x: Features, bonds: np.ndarray, out: Layout) -> Features:
    """The product along some bonds. e3nn's harmonics of (y, z, x) are those of the house."""
    y = o3.spherical_harmonics(harmonics, torch.as_tensor(bonds[:, [1, 2, 0]]), normalize=True)
    with torch.no_grad():
        return from_e3nn(tp(to_e3nn(x), y), out)


def probe(tp: o3.FullyConnectedTensorProduct, harmonics: o3.Irreps, layout: Layout, out: Layout) -> list[Tensor]:
    """The matrix [channels in, channels out] of each m, read off the product along z for one unit vector after the other."""
    l_max = max(layout.l_max, out.l_max)
    result = []
    for m in range(min(layout.l_max, out.l_max) + 1):
        width = layout.width(m)
        slabs = [torch.zeros(width, 1 if k == 0 else 2, layout.width(k), dtype=torch.float64) for k in range(layout.l_max + 1)]
        slabs[m][:, 0] = torch.eye(width, dtype=torch.float64)
        bonds = np.tile([0.0, 0.0, 1.0], (width, 1))
        frames = frames_of(bonds, l_max)
        x = rotate_out(layout.to_local(slabs), layout, frames)
        y = out.to_m(rotate_in(apply(tp, harmonics, x, bonds, out), out, frames))
        others = [y[k] if k != m else y[k][:, 1:] for k in range(len(y))]
        assert all(float(z.abs().max()) < 1e-13 for z in others if z.numel())  # |m| is kept, and so is -m or +m
        result.append(y[m][:, 0])
    return result


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_it_is_the_clebsch_gordan_tensor_product_with_the_harmonics_of_the_edge(before: str, after: str) -> None:
    layout, out = Layout.parse(before), Layout.parse(after)
    tp, harmonics = tensor_product(layout, out)
    layer = linear([layout], out, bias=False)
    for parameters in layer.weights:
        for parameter in parameters:
            parameter.data.zero_()
    for m, weight in enumerate(probe(tp, harmonics, layout, out)):
        target = layer.weights[m][0]
        assert target.shape == weight.shape
        target.data.copy_(weight)
    x, bonds = random_features(layout, N), directions(N, 5)
    expected = apply(tp, harmonics, x, bonds, out)
    mine = through(layer, [x], frames_of(bonds, max(layout.l_max, out.l_max)))
    assert_close(mine, expected)
    assert max(float(y.abs().max()) for y in expected) > 0.1


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_it_has_as_many_free_weights_as_the_tensor_product_has_paths(before: str, after: str) -> None:
    """So neither knows a function that the other does not."""
    layout, out = Layout.parse(before), Layout.parse(after)
    tp, _ = tensor_product(layout, out)
    layer = linear([layout], out)
    free = 0
    for m, parameters in enumerate(layer.weights):
        for parameter in parameters:
            mask = layer.mask0 if m == 0 and layer.mask0 is not None else torch.ones(parameter.shape)
            free += int((mask != 0).sum()) if parameter.numel() else 0
    assert free == tp.weight_numel
    # And the same counted by hand: natural to natural min(l, l') + 1 paths, natural to unnatural min(l, l').
    paths = sum(n * k * (min(l, L) + (a == b)) for (n, l, a), (k, L, b) in product(layout.entries, out.entries))
    assert free == paths


def test_gradients_are_right() -> None:
    layout, out = Layout.parse("2x0e+1x0o+1x1o+1x1e+1x2e"), Layout.parse("1x0e+1x0o+1x1o+1x1e+1x2o")
    layer = linear([layout], out)
    slabs = [x.requires_grad_() for x in layout.to_m(random_features(layout, 2))]
    parameters = [p for p in layer.parameters() if p.numel()]

    def run(*_: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer([slabs]))

    assert torch.autograd.gradcheck(run, (*slabs, *parameters))
