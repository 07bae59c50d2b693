"""Figures of weights and densities: every group has its colour and name, and what is drawn is what was computed."""

from pathlib import Path

import numpy as np
import pytest
from tight_binding import graphene, honeycomb, polarised, slater_koster

from orbitrace.bands.dos import Settings as DosSettings
from orbitrace.bands.dos import density_of_states
from orbitrace.bands.kpath import band_path
from orbitrace.bands.plot_weights import HIGHEST, draw_dos, draw_unfolded, draw_weights, plot_dos, plot_unfolded, plot_weights
from orbitrace.bands.projections import Projected
from orbitrace.bands.spectrum import BandStructure, Settings, band_structure
from orbitrace.bands.supercell import repeated
from orbitrace.bands.unfolding import UNFOLDED, unfold
from orbitrace.errors import InputError

WINDOW = (-30.0, 30.0)


@pytest.fixture(scope="module")
def bands() -> BandStructure:
    settings = Settings(projections=("orbital", "atom"))
    return band_structure(slater_koster(honeycomb()), band_path(honeycomb(), "GK,MG", density=5), settings=settings)


def names(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_ribbons_are_as_high_as_the_weights_and_lie_on_each_other(bands):
    part = bands.weights["orbital"]
    (axes,) = draw_weights(bands, part, WINDOW, "graphene").axes
    assert names(axes) == ["C s", "C py", "C pz", "C px"]
    assert len(axes.collections) == 4  # one for each group
    below = np.zeros(0)
    for group, ribbons in enumerate(axes.collections):
        paths = ribbons.get_paths()
        assert len(paths) == 2 * bands.energies.shape[2]  # parts of the path, bands
        leg = bands.labels[1][0] + 1
        corners = paths[0].vertices[: 2 * leg]
        heights = corners[:leg, 1] - corners[leg:, 1][::-1]
        expected = HIGHEST * 60 * np.clip(part.values[0, :leg, 0, group], 0, 1)
        assert np.allclose(heights, expected, rtol=0, atol=1e-9)
        if group:
            assert np.allclose(corners[leg:, 1][::-1], below, rtol=0, atol=1e-9)
        below = corners[:leg, 1]


def test_of_many_groups_the_heaviest_are_drawn(bands):
    values = np.concatenate([bands.weights["atom"].values / 2] + [np.zeros_like(bands.weights["atom"].values)] * 5, axis=-1)
    part = Projected(tuple(f"C{i}" for i in range(12)), values)
    (axes,) = draw_weights(bands, part, WINDOW, "").axes
    assert len(names(axes)) == 8 and names(axes)[:2] == ["C0", "C1"]


def test_unfolded_states_are_dots_of_their_weight():
    spectrum = unfold(repeated(graphene(), (2, 2, 1)), None, "GK", 5.0)
    part = spectrum.weights[UNFOLDED]
    (axes,) = draw_unfolded(spectrum, part, WINDOW, "").axes
    (dots,) = axes.collections
    assert len(dots.get_offsets()) == (part.values > 1e-2).sum() == 2 * len(spectrum.kpoints)
    assert names(axes) == ["all atoms, unfolded"]


def test_densities_of_both_spins_point_up_and_down():
    c = polarised(slater_koster(honeycomb()), 0.5)
    dos = density_of_states(c, DosSettings(mesh=(3, 3, 1), projections=("shell",), n_points=51))
    (axes,) = draw_dos(dos, "shell", "").axes
    assert names(axes) == ["whole", "C s", "C p"]
    drawn = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 51]
    assert np.allclose(drawn[0], dos.density[0]) and np.allclose(drawn[3], -dos.density[1])
    with pytest.raises(InputError, match=r"no densities by layer. Expected one of those computed: shell"):
        draw_dos(dos, "layer", "")


def test_figures_are_written_in_every_format_and_others_refused(tmp_path: Path, bands):
    dos = density_of_states(graphene(), DosSettings(mesh=(3, 3, 1), n_points=51))
    spectrum = unfold(graphene(), None, "GK", 5.0)
    plot_weights(bands, bands.weights["orbital"], [tmp_path / "bands.png", tmp_path / "bands.svg"], WINDOW)
    plot_dos(dos, None, tmp_path / "dos.pdf")
    plot_unfolded(spectrum, spectrum.weights[UNFOLDED], tmp_path / "unfold.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bands.png", "bands.svg", "dos.pdf", "unfold.png"]
    with pytest.raises(InputError, match=r"unknown format .\.gif"):
        plot_dos(dos, None, tmp_path / "dos.gif")
    with pytest.raises(InputError, match="two ascending energies"):
        plot_weights(bands, bands.weights["atom"], tmp_path / "x.png", (1.0, 1.0))
