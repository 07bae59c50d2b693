"""Spectra and densities of states on disk: one HDF5 file each, written whole or not at all.

Datasets ``kpoints`` [n_k, 3], ``energies`` [n_spin, n_k, n_bands] (eV), ``lattice`` [3, 3] (Å, rows), ``label_places``,
``label_names`` and, where known, ``residuals`` [n_spin, n_k]; attributes ``fermi_level`` (eV) and ``first_band`` where known;
group ``record`` with the attributes that tell how the bands were computed. Where asked for: group ``weights`` with a dataset
[n_spin, n_k, n_bands, n_groups] for each kind of projection (attribute ``groups``: their names), and ``velocities`` [n_spin,
n_k, n_bands, 3] (eV Å).

A density of states: datasets ``energies`` [n] (eV), ``density`` [n_spin, n] (1/eV per cell), where known ``error`` of the
same shape; group ``projected`` with a dataset [n_spin, n, n_groups] for each kind; attributes ``width``, ``mesh``,
``fermi_level``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from orbitrace.bands.dos import DensityOfStates
from orbitrace.bands.projections import Projected
from orbitrace.bands.spectrum import BandStructure, Record
from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.physics.spectrum import Spectrum

FORMAT = "orbitrace spectrum"
DOS_FORMAT = "orbitrace density of states"
VERSION = 1

T = TypeVar("T")


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
            _write_projected(h5, "weights", spectrum.weights)
            if spectrum.velocities is not None:
                h5.create_dataset("velocities", data=spectrum.velocities).attrs["unit"] = "eV Å"


def read_spectrum(file: Path) -> Spectrum:
    """Read a spectrum; a `BandStructure` if it has a record.

    Raises
    ------
    InputError
        If the file is missing, is not HDF5, or is no spectrum of a version that is known.
    """
    return _read(file, FORMAT, "bands", _spectrum)


def write_dos(file: Path, dos: DensityOfStates) -> None:
    """Write a density of states; the file appears only when it is complete."""
    with replacing(file) as part, h5py.File(part, "w") as h5:
        h5.attrs.update({"format": DOS_FORMAT, "version": VERSION, "width": dos.width, "mesh": dos.divisions})
        if dos.fermi_level is not None:
            h5.attrs["fermi_level"] = dos.fermi_level
        for name in ("energies", "density", "error"):
            if (array := getattr(dos, name)) is not None:
                h5.create_dataset(name, data=array)
        _write_projected(h5, "projected", dos.projected)
        h5.create_group("record").attrs.update(dos.record)


def read_dos(file: Path) -> DensityOfStates:
    """Read a density of states.

    Raises
    ------
    InputError
        If the file is missing, is not HDF5, or is no density of states of a version that is known.
    """
    return _read(file, DOS_FORMAT, "a density of states", _dos)


def _read(file: Path, kind: str, words: str, take: Callable[[h5py.File], T]) -> T:
    """What `take` makes of a file of one format."""
    try:
        with h5py.File(file, "r") as h5:
            found = h5.attrs.get("format"), h5.attrs.get("version")
            if found != (kind, VERSION):
                raise InputError(file, f"format {found[0]}, version {found[1]}", f"{kind}, version {VERSION}")
            return take(h5)
    except FileNotFoundError:
        raise InputError(file, "there is no such file", f"{words} in HDF5", "Compute it first") from None
    except (OSError, KeyError) as reason:
        raise InputError(file, f"cannot be read as HDF5 ({reason})", f"{words} in HDF5", "Compute it again") from reason


def _write_projected(h5: h5py.File, name: str, parts: Mapping[str, Projected]) -> None:
    """A group with a dataset for each kind of projection."""
    group = h5.create_group(name)
    for kind, part in parts.items():
        group.create_dataset(kind, data=part.values).attrs["groups"] = list(part.groups)


def _read_projected(h5: h5py.File, name: str) -> dict[str, Projected]:
    """The inverse of `_write_projected`; nothing where there is no such group."""
    parts = h5[name].items() if name in h5 else ()
    return {kind: Projected(tuple(map(str, part.attrs["groups"])), part[:]) for kind, part in parts}


def _record(h5: h5py.File) -> Record:
    return {name: value.item() if hasattr(value, "item") else value for name, value in h5["record"].attrs.items()}


def _dos(h5: h5py.File) -> DensityOfStates:
    """The density of states of an open file."""
    x, y, z = map(int, h5.attrs["mesh"])
    return DensityOfStates(
        h5["energies"][:],
        h5["density"][:],
        float(h5.attrs["fermi_level"]) if "fermi_level" in h5.attrs else None,
        float(h5.attrs["width"]),
        (x, y, z),
        _read_projected(h5, "projected"),
        h5["error"][:] if "error" in h5 else None,
        _record(h5),
    )


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
    velocities = h5["velocities"][:] if "velocities" in h5 else None
    return BandStructure(**parts, record=_record(h5), weights=_read_projected(h5, "weights"), velocities=velocities)
