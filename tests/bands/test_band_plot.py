"""Figures of bands: they hold the bands, named points and both legends, and are written in every format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tight_binding import graphene, honeycomb

from orbitrace.bands.kpath import band_path
from orbitrace.bands.plot import STYLE, draw_bands, plot_bands
from orbitrace.bands.spectrum import BandStructure, band_structure
from orbitrace.errors import InputError
from orbitrace.physics.spectrum import Spectrum

NAMES = ("predicted", "reference")


@pytest.fixture(scope="module")
def bands() -> BandStructure:
    return band_structure(graphene(), band_path(honeycomb(), "GMK,MG"))


def test_a_figure_is_written_in_every_format(tmp_path: Path, bands):
    files = [tmp_path / f"bands{suffix}" for suffix in (".png", ".pdf", ".svg")]
    plot_bands(bands, files, reference=bands, window=(-5, 5), names=NAMES, title="graphene")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bands.pdf", "bands.png", "bands.svg"]
    heads = [file.read_bytes()[:200] for file in files]
    assert heads[0].startswith(b"\x89PNG") and heads[1].startswith(b"%PDF") and b"<svg" in files[2].read_bytes()
    assert "Γ" in files[2].read_text() and "predicted" in files[2].read_text()


def test_the_zero_is_each_spectrum_own_fermi_level(bands):
    shifted = replace(bands, energies=bands.energies + 3.0, fermi_level=bands.fermi_level + 3.0)
    axes = draw_bands(bands, shifted, (-20.0, 20.0), NAMES, "").axes[0]
    curves = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(curves) == 8  # two spectra, two parts of the path, two bands
    for theirs, ours in zip(curves[:4], curves[4:], strict=True):
        assert np.allclose(theirs, ours)


def test_named_points_are_ticks_and_share_one_at_a_break(bands):
    axes = draw_bands(bands, None, (-5.0, 5.0), NAMES, "").axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["Γ", "M", "K|M", "Γ"]
    assert axes.get_legend() is None


def test_both_spins_are_drawn_and_named(bands):
    both = replace(bands, energies=np.concatenate([bands.energies, bands.energies + 0.5]))
    axes = draw_bands(both, None, (-5.0, 5.0), NAMES, "").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["spin up", "spin down"]


def test_levels_of_a_molecule_are_short_lines(tmp_path: Path):
    levels = Spectrum(np.zeros((1, 3)), np.array([[[-1.0, 1.0]]]), 0.0, np.eye(3), ((0, "Γ"),))
    plot_bands(levels, tmp_path / "levels.png")
    assert (tmp_path / "levels.png").exists()


def test_a_reference_on_a_denser_mesh_of_the_same_path_fits(bands):
    dense = band_structure(graphene(), band_path(honeycomb(), "GMK,MG", density=40))
    axes = draw_bands(bands, dense, (-20.0, 20.0), NAMES, "").axes[0]
    ends = {round(float(line.get_xdata()[-1]), 9) for line in axes.lines if len(line.get_xdata()) > 2}
    assert len(ends) == 2


def test_a_reference_on_another_path_is_refused(tmp_path: Path, bands):
    other = band_structure(graphene(), band_path(honeycomb(), "GKM"))
    with pytest.raises(InputError, match=r"the path Γ-K-M. Expected Γ-M-K\|M-Γ"):
        plot_bands(bands, tmp_path / "bands.png", reference=other)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_or_an_empty_window_is_refused(tmp_path: Path, bands):
    with pytest.raises(InputError, match=r"unknown format '.bmp'. Expected one of .png, .pdf, .svg"):
        plot_bands(bands, tmp_path / "bands.bmp")
    with pytest.raises(InputError, match="two ascending energies"):
        plot_bands(bands, tmp_path / "bands.png", window=(1.0, 1.0))


def test_the_style_stays_within_the_figure(tmp_path: Path, bands):
    from matplotlib import rcParams

    before = rcParams["font.size"]
    plot_bands(bands, tmp_path / "bands.png")
    assert rcParams["font.size"] == before != STYLE["font.size"]
