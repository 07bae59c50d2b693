"""Overlaps from SIESTA's basis files: those of SIESTA itself, and files that are none are refused."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

from gaussians import ions, write_ion
from orbitrace import overlaps
from orbitrace.errors import InputError
from orbitrace.overlaps import from_data, from_ion
from orbitrace.overlaps._ion_file import IonFile, read_ion
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.units import SIESTA_BOHR
from overlap_samples import siesta


@pytest.fixture(scope="module")
def gaussians(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ions(tmp_path_factory.mktemp("ion"))


@pytest.fixture(scope="module")
def samples(shared_data: Path) -> Path:
    return shared_data / "formats" / "siesta"


SAMPLES = ["Si_pdos_k", "Si_v2_intel", "Pt2_soc", "Bi_hexagonal_soc"]
LONGER = [pytest.param(name, marks=pytest.mark.slow) for name in ("MoS2_HPRO", "SrTiO3_unpolarized")]  # many shells


@pytest.mark.parametrize("name", [*SAMPLES, *LONGER])
def test_overlap_is_that_of_siesta(samples: Path, name: str) -> None:
    structure, basis, theirs = siesta(samples / name)
    mine = overlaps.overlap("from_ion", structure, basis, ion=samples / name)
    assert np.abs(mine.values - theirs.values).max() < 2e-8  # 1e-8 at most measured; 1e-4 is the promise


def test_tables_from_files_and_from_data_agree(samples: Path) -> None:
    structure, basis, theirs = siesta(samples / "Si_pdos_k")
    table = from_data.fit([(structure, basis, theirs)])
    mine = overlaps.overlap("from_ion", structure, basis, ion=samples / "Si_pdos_k")
    fitted = overlaps.overlap("from_data", structure, basis, table=table)
    assert np.abs(mine.values - fitted.values).max() < 1e-8


def test_an_xml_file_holds_the_same_as_a_netcdf_file(gaussians: Path, tmp_path: Path) -> None:
    (tmp_path / "C.ion.xml").write_text(xml(read_ion(gaussians / "C.ion.nc")))
    basis = from_ion.read_basis([6], gaussians)
    assert from_ion.read_basis([6], tmp_path) == basis
    one, other = (read_ion(path) for path in (gaussians / "C.ion.nc", tmp_path / "C.ion.xml"))
    for a, b in zip(one.orbitals, other.orbitals, strict=True):
        assert (a.l, a.cutoff, a.delta) == (b.l, pytest.approx(b.cutoff), pytest.approx(b.delta))
        np.testing.assert_allclose(b.values, a.values, rtol=1e-11)


def test_a_file_of_both_kinds_is_one_species(gaussians: Path, tmp_path: Path) -> None:
    shutil.copy(gaussians / "C.ion.nc", tmp_path)
    (tmp_path / "C.ion.xml").write_text("not read, as the other has more digits")
    assert from_ion.read_basis([6], tmp_path) == from_ion.read_basis([6], gaussians)


def test_netcdf_on_hdf5_is_read_too(gaussians: Path, tmp_path: Path) -> None:
    file = read_ion(gaussians / "N.ion.nc")
    with h5py.File(tmp_path / "N.ion.nc", "w") as store:
        store.attrs["Atomic_number"], store.attrs["Valence_charge"] = np.array([7]), np.array([5.0])
        store["orbnl_l"] = [orbital.l for orbital in file.orbitals]
        store["cutoff"] = [orbital.cutoff for orbital in file.orbitals]
        store["delta"] = [orbital.delta for orbital in file.orbitals]
        store["orb"] = [orbital.values for orbital in file.orbitals]
    again = read_ion(tmp_path / "N.ion.nc")
    assert (again.number, again.valence, again.ls) == (7, 5.0, file.ls)
    np.testing.assert_array_equal(again.orbitals[0].values, file.orbitals[0].values)


def xml(file: IonFile) -> str:
    """What SIESTA writes of a species, with a preamble that is no XML."""
    lines = ['<ion version="0.1">', "<preamble>", " a header with < and & in it", "</preamble>"]
    lines += [
        f"<z>  {file.number} </z>",
        f"<valence>  {file.valence} </valence>",
        f"<norbs_nl> {len(file.orbitals)} </norbs_nl>",
    ]
    lines += ["<paos>"]
    for orbital in file.orbitals:
        r = orbital.delta * np.arange(len(orbital.values))
        lines += ["<orbital ", f' l="   {orbital.l}" ', ' n="   2" ', " >", "<radfunc>", f"<npts>  {len(r)} </npts>"]
        lines += [f"<delta> {orbital.delta:.12e} </delta>", f"<cutoff> {orbital.cutoff:.12e} </cutoff>", "<data>"]
        lines += [f"  {x:.12e}  {y:.12e}" for x, y in zip(r, orbital.values, strict=True)]
        lines += ["</data>", "</radfunc>", "</orbital>"]
    return "\n".join([*lines, "</paos>", "</ion>"])


@pytest.mark.parametrize(
    ("ls", "cutoff", "message"),
    [
        ((0, 0, 1, 2), 8.0, r"C\.ion\.nc: holds the orbitals s2p1d1f1\. Expected s2p1d1, as in the basis"),
        ((0, 0, 1, 2, 3), 7.9, r"C\.ion\.nc: its orbitals end at 8\.000 Bohr\. Expected 7\.900 Bohr"),
    ],
)
def test_a_basis_of_other_orbitals_is_refused(gaussians: Path, ls: tuple[int, ...], cutoff: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_ion.build(Basis({6: Shells(ls, cutoff * SIESTA_BOHR)}), gaussians)


def test_a_radius_that_was_only_inferred_is_replaced_by_that_of_the_file(gaussians: Path) -> None:
    inferred = Basis({7: Shells((0, 1, 1), 2.7, inferred=True)})
    assert from_ion.build(inferred, gaussians).basis == Basis({7: Shells((0, 1, 1), 8 * SIESTA_BOHR)})


def test_files_that_are_missing_or_ambiguous_are_named(gaussians: Path, tmp_path: Path) -> None:
    basis = from_ion.read_basis([6], gaussians)
    with pytest.raises(InputError, match=r"no \.ion\.nc or \.ion\.xml file of C \(there is: nothing\)"):
        from_ion.build(basis, tmp_path)
    shutil.copy(gaussians / "N.ion.nc", tmp_path)
    with pytest.raises(InputError, match=r"no \.ion\.nc or \.ion\.xml file of C \(there is: N\)"):
        from_ion.build(basis, tmp_path)
    with pytest.raises(InputError, match=r"N\.ion\.nc: is of N\. Expected C"):
        from_ion.build(basis, {6: tmp_path / "N.ion.nc"})
    for name in ("C_up.ion.nc", "C_down.ion.nc"):
        shutil.copy(gaussians / "C.ion.nc", tmp_path / name)
    with pytest.raises(InputError, match=r"holds C_down\.ion\.nc, C_up\.ion\.nc, all of C"):
        from_ion.build(basis, tmp_path)
    assert from_ion.build(basis, {6: tmp_path / "C_up.ion.nc"}).basis == basis
    with pytest.raises(InputError, match=r"absent\.ion\.nc: no such file"):
        from_ion.build(basis, {6: tmp_path / "absent.ion.nc"})
    with pytest.raises(InputError, match="no such folder"):
        from_ion.build(basis, tmp_path / "absent")
    with pytest.raises(InputError, match=r"mine: no folder of \.ion\.nc files is given"):
        from_ion.fit([], "mine")


@pytest.mark.parametrize("kind", ["nc", "xml"])
def test_a_truncated_file_is_refused(gaussians: Path, tmp_path: Path, kind: str) -> None:
    whole = gaussians / "N.ion.nc"
    content = whole.read_bytes() if kind == "nc" else xml(read_ion(whole)).encode()
    for share in (0.0, 0.001, 0.01, 0.3, 0.8, 0.99):
        (tmp_path / f"N.ion.{kind}").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=rf"N\.ion\.{kind}: "):
            read_ion(tmp_path / f"N.ion.{kind}")


def test_foreign_files_are_refused(gaussians: Path, tmp_path: Path) -> None:
    file = tmp_path / "N.ion.nc"
    file.write_text("hello")
    with pytest.raises(InputError, match="damaged, or no file"):
        read_ion(file)
    with h5py.File(file, "w") as store:
        store["energies"] = np.zeros(3)
    with pytest.raises(InputError, match="damaged, or no file"):
        read_ion(file)
    write_ion(tmp_path, 7, [(0, np.full(50, np.nan))])
    with pytest.raises(InputError, match="something else than finite numbers"):
        read_ion(file)
    with netcdf_file(file, "w") as other:
        other.createDimension("x", 2)
        other.createVariable("x", "f8", ("x",))[:] = 1.0
    with pytest.raises(InputError, match="damaged, or no file"):
        read_ion(file)
    write_ion(tmp_path, 7, [(0, np.ones(50))], cutoff=300.0)
    with pytest.raises(InputError, match=r"ends at 300\.000 Bohr"):
        read_ion(file)
    text = xml(read_ion(gaussians / "N.ion.nc"))
    for old, new, message in (("<norbs_nl> 3", "<norbs_nl> 4", "3 orbitals where 4"), ('l="   1"', "", "without l")):
        (tmp_path / "N.ion.xml").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=message):
            read_ion(tmp_path / "N.ion.xml")


def test_a_ghost_is_no_element(tmp_path: Path) -> None:
    write_ion(tmp_path, 7, [(0, np.ones(50))])
    with netcdf_file(tmp_path / "N.ion.nc", "a") as store:
        store.Atomic_number = -7
    with pytest.raises(InputError, match=r"N\.ion\.nc: is of no element \(atomic number -7\)"):
        from_ion.build(Basis({7: Shells((0,), 8 * SIESTA_BOHR)}), {7: tmp_path / "N.ion.nc"})
    with pytest.raises(InputError, match=r"no .*file of N"):
        from_ion.read_basis([7], tmp_path)
