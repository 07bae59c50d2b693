"""Layouts: the same feature by l and by m, in the global frame and in that of an edge."""

import numpy as np
import pytest
import torch
from features import LAYOUTS, assert_close, directions, flat, frames_of, random_features, turned

from learner_cases import orthogonal
from orbitrace.nets.layout import Layout, rotate_in, rotate_out

N = 7
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def test_parity_and_l_tell_natural_from_unnatural() -> None:
    layout = Layout.parse("2x0e + 3x0o+4x1o+5x1e+6x2e+7x2o")
    natural, unnatural = [(2, 0, True), (4, 1, True), (6, 2, True)], [(3, 0, False), (5, 1, False), (7, 2, False)]
    assert layout.entries == tuple(entry for both in zip(natural, unnatural, strict=True) for entry in both)
    assert (layout.l_max, layout.channels, layout.scalars) == (2, 27, 2)


@by_layout
def test_a_layout_reads_what_it_writes(layout: Layout) -> None:
    assert Layout.parse(str(layout)) == layout


def test_entries_are_sorted_added_up_and_dropped_if_empty() -> None:
    layout = Layout.of([(2, 2, True), (1, 0, True), (0, 3, False), (3, 2, True), (1, 1, False), (1, 1, True)])
    assert layout.entries == ((1, 0, True), (1, 1, True), (1, 1, False), (5, 2, True))
    assert Layout.parse("1o+2x1o") == Layout.of([(3, 1, True)])


@pytest.mark.parametrize("text", ["", "x", "64x0", "64x0e+", "2x-1o", "-2x1o", "2y1o", "2x3x1o", "1.5x0e"])
def test_what_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"irrep"):
        Layout.parse(text)


@by_layout
def test_widths_count_the_channels_that_have_an_m(layout: Layout) -> None:
    for m in range(layout.l_max + 2):
        assert layout.width(m) == sum(n for n, l, _ in layout.entries if l >= m)
    assert layout.natural_mask().tolist() == [natural for n, _, natural in layout.entries for _ in range(n)]


@by_layout
def test_by_m_and_back_loses_nothing(layout: Layout) -> None:
    local = random_features(layout, N)
    slabs = layout.to_m(local)
    assert [tuple(x.shape) for x in slabs] == [(N, 1 if m == 0 else 2, layout.width(m)) for m in range(layout.l_max + 1)]
    assert sorted(flat(slabs)[0].tolist()) == sorted(flat(local)[0].tolist())
    for x, y in zip(layout.to_local(slabs), local, strict=True):
        assert torch.equal(x, y)


@by_layout
def test_channels_of_all_m_stand_in_one_order(layout: Layout) -> None:
    """Channel c of slab m is channel c of the last width(m) of m = 0: a factor per channel fits all slabs."""
    local = random_features(layout, N)
    factors = torch.arange(1.0, layout.channels + 1, dtype=torch.float64)
    scaled = [x * f for x, f in zip(local, torch.split(factors, [n for n, _, _ in layout.entries]), strict=True)]
    slabs = [x * factors[layout.channels - x.shape[2] :] for x in layout.to_m(local)]
    assert_close(layout.to_local(slabs), scaled, 1e-14)


@by_layout
def test_into_the_frame_of_an_edge_and_back_loses_nothing(layout: Layout) -> None:
    features, frames = random_features(layout, N), frames_of(directions(N), layout.l_max)
    local = rotate_in(features, layout, frames)
    assert_close(rotate_out(local, layout, frames), features, 1e-13)
    for x, y in zip(local, features, strict=True):
        torch.testing.assert_close((x**2).sum(1), (y**2).sum(1))


@by_layout
@pytest.mark.parametrize("angle", [0.3, -2.0])
def test_a_turn_about_the_bond_mixes_both_components_of_an_m_alike(layout: Layout, angle: float) -> None:
    """It leaves m = 0 and turns (-m, +m) by m times the angle, for natural and unnatural irreps alike."""
    bonds, features = directions(N), random_features(layout, N)
    plain = layout.to_m(rotate_in(features, layout, frames_of(bonds, layout.l_max)))
    other = layout.to_m(rotate_in(features, layout, frames_of(bonds, layout.l_max, np.full(N, angle))))
    torch.testing.assert_close(other[0], plain[0], rtol=0, atol=1e-13)
    for m in range(1, layout.l_max + 1):
        c, s = np.cos(m * angle), np.sin(m * angle)
        turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        one, two = turn @ plain[m], turn.T @ plain[m]
        assert min(float((other[m] - x).abs().max()) for x in (one, two)) < 1e-12  # one sense of turn for all channels


@by_layout
def test_a_mirror_through_the_bond_acts_alike_on_both_kinds(layout: Layout) -> None:
    """With bonds along z, y -> -y keeps all frames; by m, the same one of each pair changes sign in all channels."""
    bonds = np.tile([0.0, 0.0, 1.5], (N, 1))
    frames = frames_of(bonds, layout.l_max)
    features = random_features(layout, N)
    mirror = np.diag([1.0, -1.0, 1.0])
    plain = layout.to_m(rotate_in(features, layout, frames))
    other = layout.to_m(rotate_in(turned(features, layout, mirror), layout, frames))
    mask = torch.as_tensor(layout.natural_mask().numpy() * 2.0 - 1.0)
    torch.testing.assert_close(other[0], plain[0] * mask, rtol=0, atol=1e-13)
    for x, y in zip(other[1:], plain[1:], strict=True):
        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)[:, None]
        assert min(float((x - y * s).abs().max()) for s in (signs, -signs)) < 1e-13


@by_layout
def test_features_turned_with_their_bonds_are_the_same_in_the_frame(layout: Layout) -> None:
    """Up to a turn about the bond, of which the norm of every channel and m knows nothing."""
    bonds, features, q = directions(N, 1), random_features(layout, N), orthogonal(6)
    before = layout.to_m(rotate_in(features, layout, frames_of(bonds, layout.l_max)))
    after = layout.to_m(rotate_in(turned(features, layout, q), layout, frames_of(bonds @ q.T, layout.l_max)))
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-12)
    for x, y in zip(after[1:], before[1:], strict=True):
        torch.testing.assert_close((x**2).sum(1), (y**2).sum(1), rtol=1e-10, atol=1e-12)
