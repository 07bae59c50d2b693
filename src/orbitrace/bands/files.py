"""Spectra on disk: one HDF5 file each, written whole or not at all.

Datasets ``kpoints`` [n_k, 3], ``energies`` [n_spin, n_k, n_bands] (eV), ``lattice`` [3, 3] (Å, rows), ``label_places``,
``label_names`` and, where known, ``residuals`` [n_spin, n_k]; attributes ``fermi_level`` (eV) and ``first_band`` where known;
group ``record`` with the attributes that tell how the bands were computed.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from orbitrace.bands.spectrum import BandStructure, Record
from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.physics.spectrum import Spectrum

FORMAT = "orbitrace spectrum"
VERSION = 1


def write_spectrum(file: Path, spectrum: Spectrum) -> None:
    """Write a spectrum, with its record if OrbiTrace computed it; the file appears only when it is complete."""
    with replacing(file) as part, h5py.File(part, "w") as h5:
        h5.attrs.update({"format": FORMAT, "version": VERSION})
        for name in ("kpoints", "energies", "lattice", "residuals"):
            if (array := getattr(spectrum, name)) is not None:
                h5.create_dataset(name, data=array)
        h5.create_dataset("label_places", data=np.array([place for place, _ in spectrum.labels], dtype=np.int64))
        h5.create_dataset("label_names", data=[name for _, name in spectrum.labels], dtype=h5py.string_dtype())
        for name in ("fermi_level", "first_band"):
            if (value := getattr(spectrum, name)) is not None:
                h5.attrs[name] = value
        if isinstance(spectrum, BandStructure):
            h5.create_group("record").attrs.update(spectrum.record)


def read_spectrum(file: Path) -> Spectrum:
    """Read a spectrum; a `BandStructure` if it has a record.

    Raises
    ------
    InputError
        If the file is missing, is not HDF5, or is no spectrum of a version that is known.
    """
    try:
        with h5py.File(file, "r") as h5:
            found = h5.attrs.get("format"), h5.attrs.get("version")
            if found != (FORMAT, VERSION):
                raise InputError(file, f"format {found[0]}, version {found[1]}", f"{FORMAT}, version {VERSION}")
            return _spectrum(h5)
    except FileNotFoundError:
        raise InputError(file, "there is no such file", "bands in HDF5", "Compute them first") from None
    except (OSError, KeyError) as reason:
        raise InputError(file, f"cannot be read as HDF5 ({reason})", "bands in HDF5", "Compute them again") from reason


def _spectrum(h5: h5py.File) -> Spectrum:
    """The spectrum of an open file."""
    names = [name.decode() for name in h5["label_names"][:]]
    parts = {
        "kpoints": h5["kpoints"][:],
        "energies": h5["energies"][:],
        "lattice": h5["lattice"][:],
        "residuals": h5["residuals"][:] if "residuals" in h5 else None,
        "labels": tuple(zip(map(int, h5["label_places"][:]), names, strict=True)),
        "fermi_level": float(h5.attrs["fermi_level"]) if "fermi_level" in h5.attrs else None,
        "first_band": int(h5.attrs["first_band"]) if "first_band" in h5.attrs else None,
    }
    if "record" not in h5:
        return Spectrum(**parts)
    record: Record = {name: value.item() if hasattr(value, "item") else value for name, value in h5["record"].attrs.items()}
    return BandStructure(**parts, record=record)
