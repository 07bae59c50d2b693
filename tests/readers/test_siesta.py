"""SIESTA: the matrices that are read have SIESTA's own eigenvalues, for every version of its files and treatment of spin."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrace import readers
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.structure import Structure
from orbitrace.plugins import load
from orbitrace.readers import siesta as siesta_reader
from raw_files import crystal, siesta

Levels = Callable[[Calculation, np.ndarray], np.ndarray]

SAMPLES = (
    "Bi_hexagonal_soc",
    "Fe_bcc_collinear",
    "MoS2_HPRO",
    "Pt2_soc",
    "Si_pdos_k",
    "Si_v2_intel",
    "SrTiO3_non-collinear",
    "SrTiO3_polarized",
    "SrTiO3_unpolarized",
)


def exact(kpoints: np.ndarray) -> np.ndarray:
    """The points of a regular mesh that were printed to six digits, which changes high levels of iron by 1 meV."""
    for mesh in range(1, 65):
        if np.abs(kpoints * mesh - np.round(kpoints * mesh)).max() < 1e-5 * mesh:
            return np.round(kpoints * mesh) / mesh
    raise AssertionError("no regular mesh")


def copied(source: Path, to: Path, *endings: str) -> Path:
    for file in source.iterdir():
        if file.name.endswith(endings):
            shutil.copy(file, to)
    return to


@pytest.mark.parametrize("name", SAMPLES)
def test_levels_of_the_mesh_are_those_of_siesta(shared_data: Path, levels: Levels, name: str) -> None:
    folder = shared_data / "formats/siesta" / name
    calculation = readers.read(folder)
    reference = load("readers", "siesta").scf_levels(folder)
    assert calculation.fermi_level == pytest.approx(reference.fermi_level, abs=1e-8)
    mesh = exact(reference.kpoints)
    for k in np.linspace(0, len(mesh) - 1, 4).astype(int):
        found, expected = levels(calculation, mesh[k]), reference.energies[:, k]
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)  # high levels of nearly dependent orbitals
        low = expected < calculation.fermi_level + 20
        np.testing.assert_allclose(found[low], expected[low], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["Si_v2_intel", "SrTiO3_polarized", "SrTiO3_non-collinear"])
def test_bands_are_those_of_siesta(shared_data: Path, levels: Levels, name: str) -> None:
    folder = shared_data / "formats/siesta" / name
    calculation, reference = readers.read(folder), readers.reference_spectrum(folder)
    assert reference is not None and [label for _, label in reference.labels][:1] in (["L"], ["\\Gamma"])
    np.testing.assert_allclose(reference.lattice, calculation.structure.lattice)
    for k in (1, len(reference.kpoints) // 2, len(reference.kpoints) - 1):
        found = levels(calculation, reference.kpoints[k])
        np.testing.assert_allclose(found, reference.energies[:, k], rtol=0, atol=1.1e-4)  # printed to 1e-4


def test_version_spin_shells_and_radii(shared_data: Path) -> None:
    found = readers.read(shared_data / "formats/siesta/SrTiO3_polarized")
    assert (found.spin, found.n_electrons) == (Spin.COLLINEAR, pytest.approx(40))
    assert {z: str(found.basis[z]) for z in found.basis.elements} == {8: "s2p2d1", 22: "s3p2d2", 38: "s3p2d1"}
    assert found.basis[22].valence == 12 and found.basis[22].cutoff == pytest.approx(6.106 * 0.529177, abs=1e-3)
    silicon = readers.read(shared_data / "formats/siesta/Si_v2_intel")
    assert silicon.provenance.version == "5.4.2-dirty; converged; HSX 2"
    assert list(silicon.provenance.hashes) == ["Si.HSX"]


@pytest.mark.parametrize("name", ["Pt2_soc", "Si_pdos_k"])
def test_tshs_holds_what_hsx_holds(tmp_path: Path, shared_data: Path, name: str) -> None:
    """Its energies are not shifted to the Fermi level, whatever tools say of them after they shifted them."""
    source = shared_data / "formats/siesta" / name
    a, b = readers.read(source), readers.read(copied(source, tmp_path, ".TSHS", ".XV", ".ORB_INDX"))
    assert b.provenance.version.endswith("TSHS 1")
    np.testing.assert_array_equal(a.hamiltonian.pairs, b.hamiltonian.pairs)
    np.testing.assert_array_equal(a.hamiltonian.values, b.hamiltonian.values)
    assert (a.fermi_level, a.n_electrons, a.basis) == (b.fermi_level, b.n_electrons, replace(a.basis, shells={
        z: replace(s, valence=a.basis[z].valence) for z, s in b.basis.shells.items()
    }))  # fmt: skip


def test_the_oldest_version_holds_the_same_in_single_precision(tmp_path: Path, shared_data: Path) -> None:
    """Two files of one run: version 0 knows R only by distances, and the geometry from another file."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, number in ((old, 0), (new, 1)):
        folder.mkdir()
        shutil.copy(shared_data / f"formats/siesta/ancient/si_pdos_kgrid.{number}.HSX", folder / "si.HSX")
    b = readers.read(new)
    with pytest.raises(InputError, match=r"version 0, which holds no lattice, without the \.XV"):
        readers.read(old)
    (old / "si.XV").write_text(siesta.xv(b, 0.529177210903))
    a = readers.read(old)
    np.testing.assert_array_equal(a.overlap.pairs, b.overlap.pairs)
    np.testing.assert_allclose(a.overlap.values, b.overlap.values, atol=1e-7)
    unit = 13.60580 / 13.605693122994  # the older Rydberg
    np.testing.assert_allclose(a.hamiltonian.values, b.hamiltonian.values * unit, atol=2e-6)
    assert a.fermi_level is None and a.basis[14].inferred and a.basis[14].ls == (0, 0, 1, 1, 2)


@pytest.mark.parametrize("name", ["Bi_hexagonal_soc", "SrTiO3_non-collinear", "Fe_bcc_collinear"])
def test_sisl_reads_the_same_but_for_the_shift_of_energies(shared_data: Path, levels: Levels, name: str) -> None:
    sisl = pytest.importorskip("sisl", reason="sisl is not installed")
    found = readers.read(shared_data / "formats/siesta" / name)
    file = next((shared_data / "formats/siesta" / name).glob("*.HSX"))
    other = sisl.get_sile(file).read_hamiltonian()
    k = np.array([0.1, 0.2, 0.3])
    theirs = np.array([other.eigh(k, spin=s) for s in (0, 1)]) if found.spin is Spin.COLLINEAR else other.eigh(k)[None]
    np.testing.assert_allclose(levels(found, k) - found.fermi_level, theirs, rtol=0, atol=5e-6)


# ---- written by ourselves, in every version --------------------------------------------------------------------------------


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize(("version", "true"), [(0, 1), (1, 1), (2, -1), (10, 1)])
def test_all_versions_come_back(tmp_path: Path, spin: Spin, version: int, true: int) -> None:
    house = crystal(spin)
    siesta.write(tmp_path, house, version, true)
    found = readers.read(tmp_path)
    single = version == 0
    for a, b in ((found.hamiltonian, house.hamiltonian), (found.overlap, house.overlap)):
        np.testing.assert_array_equal(a.pairs, b.pairs)
        np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-5 if single else 1e-12)
    assert found.spin is spin and found.n_electrons == 14.0
    assert found.fermi_level == (None if single else pytest.approx(-1.5))
    np.testing.assert_allclose(found.structure.positions, house.structure.positions, atol=1e-8)
    assert [found.basis[z].ls for z in (1, 8)] == [(0, 1), (0, 0, 1, 2)]


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize("shells_told", [True, False])
def test_netcdf_files_come_back(tmp_path: Path, spin: Spin, shells_told: bool) -> None:
    house = crystal(spin)
    siesta.write_nc(tmp_path, house, shells_told)
    (tmp_path / "H.ion.nc").touch()  # orbitals of a species, no calculation
    found = readers.read(tmp_path)
    np.testing.assert_allclose(found.hamiltonian.values, house.hamiltonian.values, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.overlap.values, house.overlap.values, rtol=0, atol=1e-12)
    assert found.spin is spin and found.provenance.version.endswith("; nc") and found.fermi_level == pytest.approx(-1.5)
    for file in tmp_path.glob("crystal.[XO]*"):
        file.unlink()
    if shells_told:
        assert readers.read(tmp_path).structure.numbers.tolist() == [8, 1, 8, 1]
    else:
        with pytest.raises(InputError, match="nc, which does not tell the elements"):
            readers.read(tmp_path)


def test_files_of_species_mark_no_calculation(tmp_path: Path) -> None:
    (tmp_path / "Si.ion.nc").touch()
    with pytest.raises(InputError, match="no calculation that a reader knows"):
        readers.detect(tmp_path)
    for name in ("siesta.nc", "silicon.nc", "ion.nc", "n.nc"):
        assert any(fnmatch(name, pattern) for pattern in siesta_reader.MARKERS) == (name not in ("ion.nc", "n.nc"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_netcdf_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("nc")
    siesta.write_nc(folder, crystal(Spin.NONE))
    file = folder / "crystal.nc"
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    try:
        assert readers.read(folder).structure.n_atoms == 4
    except InputError as error:
        assert str(folder) in str(error)


def test_netcdf_files_that_point_elsewhere_or_claim_too_much(tmp_path: Path) -> None:
    siesta.write_nc(tmp_path, crystal(Spin.NONE))
    with h5py.File(tmp_path / "crystal.nc", "a") as store:
        n = store["SPARSE/S"].shape[0]
        del store["SPARSE/S"]
        store["SPARSE/S"] = h5py.ExternalLink("other.nc", "SPARSE/S")
    with pytest.raises(InputError, match="no SPARSE/S in it"):
        readers.read(tmp_path)
    with h5py.File(tmp_path / "crystal.nc", "a") as store:
        del store["SPARSE/S"], store["SPARSE/list_col"]
        store.create_dataset("SPARSE/list_col", (10**12,), "i4", chunks=(10**6,))
        store.create_dataset("SPARSE/S", (n,), "f8", external=[(str(tmp_path / "x"), 0, 8 * n)])
    with pytest.raises(InputError, match="list_col claims 1000000000000 numbers"):
        readers.read(tmp_path)


def test_files_of_a_machine_of_other_byte_order(tmp_path: Path) -> None:
    house = crystal(Spin.NONE)
    siesta.write(tmp_path, house)
    file = tmp_path / "crystal.HSX"
    data, swapped, at = file.read_bytes(), b"", 0
    for number in range(10**6):
        if at == len(data):
            break
        size = int(np.frombuffer(data, "<i4", 1, at)[0])
        record = data[at + 4 : at + 4 + size]
        swapped += np.array([size], ">i4").tobytes() + turned(record, number, house) + np.array([size], ">i4").tobytes()
        at += size + 8
    file.write_bytes(swapped)
    np.testing.assert_allclose(readers.read(tmp_path).hamiltonian.values, house.hamiltonian.values, atol=1e-12)


def turned(record: bytes, number: int, house: Calculation) -> bytes:
    """A record of HSX 1 with the bytes of each number reversed."""
    n_atoms, n = house.structure.n_atoms, int(house.basis.n_orbitals(house.structure.numbers).sum())
    if number == 3 or number > 8 + n:
        return np.frombuffer(record, "<f8").astype(">f8").tobytes()
    if number == 4:
        cells = len(record) - 32 * n_atoms
        middle = np.frombuffer(record[cells : cells + 24 * n_atoms], "<f8").astype(">f8").tobytes()
        return turned4(record[:cells]) + middle + turned4(record[cells + 24 * n_atoms :])
    if number == 5:
        kinds = [record[k : k + 32] for k in range(0, len(record), 32)]
        return b"".join(k[:20] + np.frombuffer(k[20:28], "<f8").astype(">f8").tobytes() + turned4(k[28:]) for k in kinds)
    return turned4(record)


def turned4(record: bytes) -> bytes:
    return np.frombuffer(record, "<i4").astype(">i4").tobytes()


# ---- what is refused -------------------------------------------------------------------------------------------------------


def test_matrices_folded_into_one_cell_are_refused(tmp_path: Path) -> None:
    """The Gamma point alone: SIESTA writes sums over images, which no H(R) can be made of."""
    house = crystal(Spin.NONE)
    home = (house.overlap.pairs[:, :3] == 0).all(axis=1)
    kept = np.repeat(home, house.overlap.shapes.prod(axis=1))
    folded = replace(
        house,
        overlap=type(house.overlap)(house.overlap.pairs[home], house.overlap.shapes[home], house.overlap.values[kept]),
        hamiltonian=type(house.overlap)(house.overlap.pairs[home], house.overlap.shapes[home], house.hamiltonian.values[kept]),
    )
    siesta.write(tmp_path, folded)
    with pytest.raises(
        InputError, match=r"crystal\.HSX: atoms overlap with images in \d+ cells .* folded into 1 .*ForceAuxCell"
    ):
        readers.read(tmp_path)


def test_an_isolated_molecule_in_one_cell_is_read(tmp_path: Path) -> None:
    house = crystal(Spin.NONE, pbc=False)
    siesta.write(tmp_path, replace(house, structure=replace(house.structure, lattice=30 * np.eye(3), pbc=(True,) * 3)))
    found = readers.read(tmp_path)
    assert found.structure.pbc == (False, False, False)
    np.testing.assert_allclose(found.hamiltonian.values, house.hamiltonian.values, atol=1e-12)


def test_wrapped_positions_are_refused(tmp_path: Path) -> None:
    house = crystal(Spin.NONE)
    s = house.structure
    wrapped = Structure((s.positions @ np.linalg.inv(s.lattice) % 1) @ s.lattice, s.lattice, s.numbers, s.pbc)
    siesta.write(tmp_path, replace(house, structure=wrapped))
    with pytest.raises(InputError, match=r"longer than rc_i \+ rc_j|lack their reverse|positions"):
        readers.read(tmp_path)


@pytest.mark.parametrize(
    ("missing", "sentence"), [("XV", "does not tell the elements"), ("ORB_INDX", "does not tell the shells")]
)
def test_a_tshs_alone_does_not_tell_enough(tmp_path: Path, missing: str, sentence: str) -> None:
    siesta.write(tmp_path, crystal(Spin.NONE), 10)
    (tmp_path / f"crystal.{missing}").unlink()
    with pytest.raises(InputError, match=sentence):
        readers.read(tmp_path)


def test_without_further_files_radii_are_the_smallest_that_explain_the_overlap(tmp_path: Path) -> None:
    house = crystal(Spin.NONE)
    siesta.write(tmp_path, house)
    (tmp_path / "crystal.XV").unlink()
    (tmp_path / "crystal.ORB_INDX").unlink()
    found = readers.read(tmp_path)
    assert found.structure.numbers.tolist() == [8, 1, 8, 1]
    assert all(found.basis[z].inferred and found.basis[z].cutoff <= house.basis[z].cutoff + 0.1 for z in (1, 8))


def test_ghost_atoms_are_refused(tmp_path: Path) -> None:
    siesta.write(tmp_path, crystal(Spin.NONE))
    file = tmp_path / "crystal.XV"
    file.write_text(file.read_text().replace("\n2 8 ", "\n2 -8 "))
    with pytest.raises(InputError, match=r"crystal\.XV: an atom with the atomic number -8"):
        readers.read(tmp_path)


def test_a_run_that_did_not_converge(tmp_path: Path) -> None:
    siesta.write(tmp_path, crystal(Spin.NONE))
    (tmp_path / "run.out").write_text(
        "Executable      : siesta\nVersion         : 5.2.0\nSCF_NOT_CONV: SCF did not converge\n"
    )
    with pytest.raises(InputError, match=r"run\.out: the run did not converge"):
        readers.read(tmp_path)


def test_levels_of_another_run_are_noticed(tmp_path: Path) -> None:
    siesta.write(tmp_path, crystal(Spin.NONE))
    (tmp_path / "crystal.EIG").write_text("-2.5\n 1 1 1\n 1 0.0\n")
    with pytest.raises(
        InputError, match=r"crystal\.EIG: a Fermi level of -2\.500000 eV\. Expected that of crystal\.HSX, -1\.5"
    ):
        readers.read(tmp_path)
