"""Spectra on disk: what is written is what is read, and nothing half-written is left."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from tight_binding import graphene, honeycomb

from orbitrace.bands import dos
from orbitrace.bands.files import read_dos, read_spectrum, write_dos, write_spectrum
from orbitrace.bands.kpath import band_path
from orbitrace.bands.spectrum import BandStructure, Settings, band_structure
from orbitrace.errors import InputError
from orbitrace.physics.spectrum import Spectrum


@pytest.fixture(scope="module")
def bands() -> BandStructure:
    return band_structure(graphene(), band_path(honeycomb()))


def same(a: Spectrum, b: Spectrum) -> bool:
    arrays = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("kpoints", "energies", "lattice"))
    return arrays and (a.fermi_level, a.labels, a.first_band) == (b.fermi_level, b.labels, b.first_band)


def test_a_spectrum_is_read_as_it_was_written(tmp_path: Path, bands):
    file = tmp_path / "deep" / "bands.h5"
    write_spectrum(file, bands)
    read = read_spectrum(file)
    assert isinstance(read, BandStructure) and same(read, bands)
    assert np.array_equal(read.residuals, bands.residuals)
    assert read.record == bands.record
    assert [path.name for path in file.parent.iterdir()] == ["bands.h5"]


def test_what_is_not_known_stays_unknown(tmp_path: Path):
    plain = Spectrum(np.zeros((1, 3)), np.zeros((2, 1, 4)), None, np.eye(3), first_band=None)
    write_spectrum(tmp_path / "bands.h5", plain)
    read = read_spectrum(tmp_path / "bands.h5")
    assert type(read) is Spectrum and same(read, plain) and read.residuals is None


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, bands, monkeypatch):
    file = tmp_path / "bands.h5"
    write_spectrum(file, bands)
    before = file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match="No space left"):
        write_spectrum(file, bands)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bands.h5"]


def test_files_that_hold_no_spectrum_are_refused(tmp_path: Path):
    text, other, broken = tmp_path / "text.h5", tmp_path / "other.h5", tmp_path / "broken.h5"
    text.write_text("no HDF5")
    with h5py.File(other, "w") as h5:
        h5["kpoints"] = 1
    with h5py.File(broken, "w") as h5:
        h5.attrs.update({"format": "orbitrace spectrum", "version": 1})
    for file, message in (
        (tmp_path / "none.h5", "there is no such file"),
        (text, "cannot be read as HDF5"),
        (other, "format None, version None. Expected orbitrace spectrum, version 1"),
        (broken, "cannot be read as HDF5"),
    ):
        with pytest.raises(InputError, match=f"{file.name}: {message}"):
            read_spectrum(file)


def test_weights_and_velocities_are_read_as_they_were_written(tmp_path: Path):
    settings = Settings(projections=("element", "orbital"), velocities=True)
    bands = band_structure(graphene(), band_path(honeycomb(), "GK"), settings=settings)
    write_spectrum(tmp_path / "bands.h5", bands)
    read = read_spectrum(tmp_path / "bands.h5")
    assert isinstance(read, BandStructure) and np.array_equal(read.velocities, bands.velocities)
    assert list(read.weights) == ["element", "orbital"]
    for kind, part in bands.weights.items():
        assert read.weights[kind].groups == part.groups and np.array_equal(read.weights[kind].values, part.values)


def test_a_density_of_states_is_read_as_it_was_written(tmp_path: Path):
    file = tmp_path / "dos.h5"
    for how in (dos.Settings(projections=("shell",)), dos.Settings(method="kpm", vectors=4, width=0.3)):
        density = dos.density_of_states(graphene(), replace(how, mesh=(3, 3, 1), n_points=21))
        write_dos(file, density)
        read = read_dos(file)
        for name in ("energies", "density", "error"):
            assert np.array_equal(getattr(read, name), getattr(density, name)), name
        assert (read.fermi_level, read.width, read.divisions) == (density.fermi_level, density.width, (3, 3, 1))
        assert read.record == density.record and list(read.projected) == list(density.projected)
    with pytest.raises(
        InputError, match=r"dos.h5: format orbitrace density of states, version 1. Expected orbitrace spectrum"
    ):
        read_spectrum(file)
    with pytest.raises(InputError, match=r"none.h5: there is no such file. Expected a density of states in HDF5"):
        read_dos(tmp_path / "none.h5")
