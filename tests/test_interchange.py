"""Files of other tools: what is written comes back exactly, and what others wrote is read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import h5py
import numpy as np
import pytest

from orbitrace import interchange, readers
from orbitrace.errors import InputError
from orbitrace.graphs.shards import open_shard, write_shard
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure

BASIS = Basis({1: Shells((0, 1), 1.6, 1.0), 8: Shells((0, 0, 1, 2), 1.9, 6.0), 16: Shells((0,), 1.7)})


def calculation(spin: Spin = Spin.NONE, pbc: tuple[bool, bool, bool] = (True, True, False)) -> Calculation:
    """Two elements that are not grouped, atoms outside the cell."""
    rng = np.random.default_rng(5)
    lattice = np.where(np.array(pbc)[:, None], [[3.3, 0.1, 0.0], [0.4, 3.6, 0.0], [0.0, 0.2, 3.4]], 0.0)
    structure = Structure(rng.uniform(-4, 8, (5, 3)), lattice, np.array([8, 1, 8, 16, 1]), pbc)
    pairs = find_pairs(structure, BASIS)

    def matrix(components: int, dtype: type) -> Blocks:
        size = int((BASIS.n_orbitals(structure.numbers)[pairs[:, 3:]] * components).prod(axis=1).sum())
        values = rng.normal(size=size) + (1j * rng.normal(size=size) if dtype is complex else 0.0)
        return Blocks.over(pairs, structure, BASIS, values, components).hermitian()

    hamiltonian = matrix(spin.components, complex if spin is Spin.NONCOLLINEAR else float)
    origin = Provenance("openmx", "3.9.23; converged", "there", {"a.scfout": "00ff"})
    return Calculation(structure, BASIS, hamiltonian, matrix(1, float), -4.1 / 3, 20 / 3, spin, origin)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same_blocks(one: Blocks, other: Blocks) -> None:
    np.testing.assert_array_equal(one.pairs, other.pairs)
    np.testing.assert_array_equal(one.shapes, other.shapes)
    np.testing.assert_array_equal(one.values, other.values)
    assert one.values.dtype == other.values.dtype


def assert_same_structure(one: Structure, other: Structure) -> None:
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.lattice, other.lattice)
    np.testing.assert_array_equal(one.numbers, other.numbers)
    assert one.pbc == other.pbc


def assert_same(one: Calculation, other: Calculation) -> None:
    assert_same_structure(one.structure, other.structure)
    assert_same_blocks(one.hamiltonian, other.hamiltonian)
    assert_same_blocks(one.overlap, other.overlap)
    for name in ("basis", "fermi_level", "n_electrons", "spin", "provenance"):
        assert getattr(one, name) == getattr(other, name)


# ---- round trips -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_calculations_come_back_exactly(tmp_path: Path, spin: Spin, pbc: tuple[bool, bool, bool]) -> None:
    written = calculation(spin, pbc)
    interchange.write_folder(tmp_path / "new" / "folder", written)
    assert_same(interchange.read_folder(tmp_path / "new" / "folder"), written)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["folder"]


def test_unknown_fermi_level_and_electrons_come_back_as_unknown(tmp_path: Path) -> None:
    written = replace(calculation(), fermi_level=None, n_electrons=None)
    interchange.write_folder(tmp_path / "x", written)
    assert_same(interchange.read_folder(tmp_path / "x"), written)


def test_overlaps_alone(tmp_path: Path) -> None:
    c = calculation()
    interchange.write_overlap_folder(tmp_path / "s", c.structure, c.basis, c.overlap, 17.5)
    structure, basis, overlap, n_electrons = interchange.read_overlap_folder(tmp_path / "s")
    assert_same_structure(structure, c.structure)
    assert_same_blocks(overlap, c.overlap)
    assert (basis, n_electrons) == (c.basis, 17.5)
    with pytest.raises(InputError, match=r"no hamiltonian\.h5 in it"):
        interchange.read_folder(tmp_path / "s")


@pytest.mark.parametrize("spin", Spin)
def test_a_reference_hamiltonian_comes_back_beside_the_other(tmp_path: Path, spin: Spin) -> None:
    c = calculation(spin)
    written = replace(c, initial=c.hamiltonian.with_values(c.hamiltonian.values / 3))
    interchange.write_folder(tmp_path / "x", written)
    found = interchange.read_folder(tmp_path / "x")
    assert_same(found, written)
    assert_same_blocks(found.initial, written.initial)
    assert_same_blocks(interchange.read_initial_folder(tmp_path / "x"), written.initial)
    interchange.write_folder(tmp_path / "x", c)
    assert interchange.read_folder(tmp_path / "x").initial is None


def test_a_reference_hamiltonian_comes_through_the_reader_too(tmp_path: Path, example: Path) -> None:
    c = readers.read(example / "references" / "AB")
    interchange.write_folder(tmp_path, replace(c, initial=c.hamiltonian.with_values(c.hamiltonian.values / 3)))
    again = readers.read(tmp_path)
    np.testing.assert_allclose(again.initial.values, c.hamiltonian.values / 3, atol=1e-14)
    assert "initial_hamiltonian.h5" in again.provenance.hashes


def test_a_reference_hamiltonian_over_fewer_pairs_is_zero_elsewhere(tmp_path: Path) -> None:
    c = calculation()
    near = np.flatnonzero(c.hamiltonian.onsite)
    values = np.concatenate([c.hamiltonian.block(int(k)).reshape(-1) for k in near])
    few = Blocks(c.hamiltonian.pairs[near], c.hamiltonian.shapes[near], values)
    interchange.write_folder(tmp_path / "x", replace(c, initial=few))
    found = interchange.read_folder(tmp_path / "x")
    np.testing.assert_array_equal(found.initial.pairs, found.hamiltonian.pairs)
    assert np.abs(found.initial.values).sum() == pytest.approx(np.abs(values).sum())


def test_the_overlap_of_a_whole_calculation(tmp_path: Path) -> None:
    c = calculation(Spin.NONCOLLINEAR)
    interchange.write_folder(tmp_path / "x", c)
    assert_same_blocks(interchange.read_overlap_folder(tmp_path / "x")[2], c.overlap)


@pytest.mark.parametrize("name", ["AB", "twisted_1_2"])
def test_real_calculations_come_back_exactly_and_through_the_reader_too(tmp_path: Path, example: Path, name: str) -> None:
    written = readers.read(example / "references" / name)
    interchange.write_folder(tmp_path, written)
    assert_same(interchange.read_folder(tmp_path), written)
    again = readers.read(tmp_path)
    assert_same(replace(again, provenance=written.provenance), written)
    assert set(again.provenance.hashes) == {"openmx.scfout.xz", "hamiltonian.h5", "overlap.h5"}


@pytest.mark.parametrize("name", ["fe", "gaas", "h2of"])
def test_real_calculations_with_spin_and_molecules_come_back_exactly(tmp_path: Path, shared_data: Path, name: str) -> None:
    written = readers.read(shared_data / "formats/openmx" / name)
    interchange.write_folder(tmp_path, written)
    assert_same(interchange.read_folder(tmp_path), written)
    assert_same(replace(readers.read(tmp_path), provenance=written.provenance), written)


# ---- what other tools see --------------------------------------------------------------------------------------------------


def test_other_tools_see_atoms_grouped_by_element(tmp_path: Path) -> None:
    c = calculation(Spin.COLLINEAR, (True, True, True))
    interchange.write_folder(tmp_path / "x", c)
    atoms = ase.io.read(tmp_path / "x" / "POSCAR")
    grouped = [0, 2, 1, 4, 3]
    assert atoms.get_chemical_symbols() == ["O", "O", "H", "H", "S"]
    np.testing.assert_array_equal(atoms.positions, c.structure.positions[grouped])
    np.testing.assert_array_equal(atoms.cell.array, c.structure.lattice)
    info = json.loads((tmp_path / "x" / "info.json").read_text())
    assert (info["atoms_quantity"], info["orbits_quantity"], info["spinful"]) == (5, 29, True)
    assert info["elements_orbital_map"] == {"H": [0, 1], "O": [0, 0, 1, 2], "S": [0]}
    assert (info["fermi_energy_eV"], info["occupation"]) == (c.fermi_level, c.n_electrons)
    with h5py.File(tmp_path / "x" / "hamiltonian.h5") as store:
        assert {name: (data.dtype.kind, data.chunks) for name, data in store.items()} == {
            "atom_pairs": ("i", None),
            "chunk_boundaries": ("i", None),
            "chunk_shapes": ("i", None),
            "entries": ("c", None),
        }
        pairs, bounds, shapes = store["atom_pairs"][:], store["chunk_boundaries"][:], store["chunk_shapes"][:]
        for k in (0, len(pairs) // 2, len(pairs) - 1):
            x, y, z, i, j = (int(n) for n in pairs[k])
            mine = c.hamiltonian.block(c.hamiltonian.find(grouped[i], grouped[j], (x, y, z)))
            np.testing.assert_array_equal(store["entries"][bounds[k] : bounds[k + 1]].reshape(shapes[k]), mine)


def test_a_molecule_without_a_cell_gets_a_box_for_other_tools(tmp_path: Path) -> None:
    c = calculation(pbc=(False, False, False))
    interchange.write_folder(tmp_path / "x", c)
    cell = ase.io.read(tmp_path / "x" / "POSCAR").cell
    assert cell.volume > 20**3 and cell.lengths().min() > np.ptp(c.structure.positions, axis=0).max()


# ---- what other tools wrote ------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder without our section of info.json, of a calculation whose atoms are grouped."""
    interchange.write_folder(tmp_path / "foreign", calculation(Spin.NONCOLLINEAR, (True, True, True)))
    change_info(tmp_path / "foreign", lambda info: info.pop("orbitrace"))
    return tmp_path / "foreign"


def change_info(folder: Path, change: Any) -> None:
    info = json.loads((folder / "info.json").read_text())
    change(info)
    (folder / "info.json").write_text(json.dumps(info))


def test_folders_of_other_tools_have_the_smallest_radii_that_explain_their_pairs(foreign: Path) -> None:
    found = interchange.read_folder(foreign)
    assert found.spin is Spin.NONCOLLINEAR and found.provenance.code == "deeph"
    assert (found.n_electrons, found.fermi_level) == (20 / 3, -4.1 / 3)
    lengths = found.hamiltonian.lengths(found.structure)
    cutoffs = found.basis.cutoffs(found.structure.numbers)
    room = cutoffs[found.hamiltonian.pairs[:, 3]] + cutoffs[found.hamiltonian.pairs[:, 4]] - lengths
    assert room.min() > -1e-9
    for z in found.basis.elements:
        assert found.basis[z].ls == BASIS[z].ls and found.basis[z].cutoff <= BASIS[z].cutoff + 0.2
    assert readers.detect(foreign) == "deeph"


def test_the_sample_of_deeph_dock(shared_data: Path) -> None:
    folder = shared_data / "formats/deeph_new/MoTe2"
    found = interchange.read_folder(folder)
    assert found.structure.pbc == (True, True, False) and found.hamiltonian.n_pairs == 131
    assert found.fermi_level == -4.1934752874697425
    radii = [found.basis[z].cutoff for z in (42, 52)]
    assert all(3.5 < radius <= 7.0 * 0.529177249 for radius in radii)
    assert_same_structure(interchange.read_structure(folder), replace(found.structure, pbc=(True, True, True)))
    other = readers.read(shared_data / "formats/openmx/mote2")  # OpenMX run on the same structure
    np.testing.assert_array_equal(found.overlap.pairs, other.overlap.pairs)
    np.testing.assert_allclose(found.overlap.values, other.overlap.values, atol=1e-9)


def test_overlaps_that_other_tools_doubled_for_spin(foreign: Path) -> None:
    plain = interchange.read_folder(foreign)
    with h5py.File(foreign / "overlap.h5", "r+") as store:
        shapes, bounds, values = store["chunk_shapes"][:], store["chunk_boundaries"][:], store["entries"][:]
        blocks = [np.kron(np.eye(2), values[a:b].reshape(s)) for a, b, s in zip(bounds, bounds[1:], shapes, strict=False)]
        for name in ("chunk_shapes", "chunk_boundaries", "entries"):
            del store[name]
        store["chunk_shapes"], store["chunk_boundaries"] = 2 * shapes, 4 * bounds
        store["entries"] = np.concatenate([block.reshape(-1) for block in blocks])
    assert_same(interchange.read_folder(foreign), plain)


def test_a_hamiltonian_over_other_pairs_than_the_overlap(foreign: Path) -> None:
    whole = interchange.read_folder(foreign)
    kept = 3  # the overlap of the first pairs only, and they are not the first ones of the house
    with h5py.File(foreign / "overlap.h5", "r+") as store:
        arrays = {name: data[:] for name, data in store.items()}
        end = int(arrays["chunk_boundaries"][kept])
        for name, length in (("atom_pairs", kept), ("chunk_shapes", kept), ("chunk_boundaries", kept + 1), ("entries", end)):
            del store[name]
            store[name] = arrays[name][:length]
    found = interchange.read_folder(foreign)
    assert_same_blocks(found.hamiltonian, whole.hamiltonian)
    np.testing.assert_array_equal(found.overlap.pairs, whole.overlap.pairs)
    same = [np.array_equal(found.overlap.block(k), whole.overlap.block(k)) for k in range(whole.overlap.n_pairs)]
    zero = [not found.overlap.block(k).any() for k in range(whole.overlap.n_pairs)]
    assert sum(same) == kept and sum(zero) == whole.overlap.n_pairs - kept


def test_folders_of_other_tools_form_a_data_set_though_their_radii_are_inferred_one_by_one(
    tmp_path: Path, example: Path
) -> None:
    found = []
    for name in ("000", "001"):
        interchange.write_folder(tmp_path / name, readers.read(example / "data" / "bilayers" / name))
        change_info(tmp_path / name, lambda info: info.pop("orbitrace"))
        found.append(readers.read(tmp_path / name))
    radii = [c.basis[6].cutoff for c in found]
    assert all(c.basis[6].inferred for c in found) and abs(radii[0] - radii[1]) > 1e-6
    assert found[0].basis.merged(found[1].basis, "x")[6].cutoff == max(radii)
    for order in (found, found[::-1]):
        write_shard(tmp_path / "shard.zarr", ((str(k), c) for k, c in enumerate(order)))
        shard = open_shard(tmp_path / "shard.zarr")
        assert {shard.basis[6].cutoff, *(shard.calculation(k).basis[6].cutoff for k in (0, 1))} == {max(radii)}


def test_radii_that_were_inferred_stay_inferred_when_written_again(foreign: Path, tmp_path: Path) -> None:
    found = interchange.read_folder(foreign)
    interchange.write_folder(tmp_path / "ours", found)
    assert interchange.read_folder(tmp_path / "ours").basis == found.basis
    assert all(shells.inferred for shells in found.basis.shells.values())


def test_an_atom_without_neighbours_of_another_tool_has_a_radius_too(tmp_path: Path) -> None:
    alone = Structure(np.zeros((1, 3)), np.zeros((3, 3)), np.array([16]), (False,) * 3)
    onsite = Blocks.over(np.zeros((1, 5), dtype=np.int32), alone, BASIS, np.ones(1))
    interchange.write_overlap_folder(tmp_path / "x", alone, BASIS.restricted((16,)), onsite)
    change_info(tmp_path / "x", lambda info: info.pop("orbitrace"))
    assert 0 < interchange.read_overlap_folder(tmp_path / "x")[1][16].cutoff < 0.1


# ---- bad input -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["POSCAR", "info.json", "overlap.h5", "hamiltonian.h5"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other"])
def test_damaged_folders(foreign: Path, name: str, damage: str) -> None:
    file = foreign / name
    data = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "other": b"\0\xff" * 500}[damage])
    with pytest.raises(InputError) as error:
        interchange.read_folder(foreign)
    assert str(foreign) in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda info: info.update(split_hkb=True), "split over two files"),
        (lambda info: info.update(orbitrace={"format": 9, "written_by": "7.0"}), "format 9, written by OrbiTrace 7.0"),
        (lambda info: info["elements_orbital_map"].pop("S"), "no orbitals for S"),
        (lambda info: info["elements_orbital_map"].update(S=[1, 0]), "not sorted by l"),
        (lambda info: info["elements_orbital_map"].update(S=[0, 0]), "other shapes than the basis says"),
        (lambda info: info.update(spinful=False), "other shapes than the basis says"),
        (lambda info: info.pop("spinful"), "KeyError"),
    ],
)
def test_headers_that_contradict_the_matrices(foreign: Path, change: Any, sentence: str) -> None:
    change_info(foreign, change)
    with pytest.raises(InputError, match=sentence):
        interchange.read_folder(foreign)


@pytest.mark.parametrize(
    ("name", "place", "value", "sentence"),
    [
        ("atom_pairs", (0, 4), 9, "an atom that does not exist"),
        ("chunk_shapes", (0, 0), 77, "contradict each other"),
        ("chunk_boundaries", -1, 7, "contradict each other"),
        ("entries", 0, np.nan, "not finite"),
    ],
)
def test_matrices_that_contradict_themselves(foreign: Path, name: str, place: Any, value: float, sentence: str) -> None:
    with h5py.File(foreign / "hamiltonian.h5", "r+") as store:
        store[name][place] = value
    with pytest.raises(InputError, match=sentence):
        interchange.read_folder(foreign)


def test_a_negative_cutoff_is_refused_with_the_file_that_has_it(tmp_path: Path) -> None:
    interchange.write_folder(tmp_path / "x", calculation())
    change_info(tmp_path / "x", lambda info: info["orbitrace"]["basis"]["O"].update(cutoff=-1.9))
    with pytest.raises(InputError, match=r"x/info\.json: .*cutoff radius -1\.9 Å\. Expected a positive length"):
        interchange.read_folder(tmp_path / "x")


def test_a_pair_that_occurs_twice(foreign: Path) -> None:
    with h5py.File(foreign / "overlap.h5", "r+") as store:
        shapes = store["chunk_shapes"][:]
        twin = next(k for k in range(1, len(shapes)) if (shapes[k] == shapes[0]).all())
        store["atom_pairs"][twin] = store["atom_pairs"][0]
    with pytest.raises(InputError, match="occurs twice"):
        interchange.read_folder(foreign)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        interchange.read_folder(tmp_path / "nowhere")


# ---- writing ---------------------------------------------------------------------------------------------------------------


def test_writing_again_replaces_our_files_and_keeps_others(tmp_path: Path) -> None:
    c = calculation()
    interchange.write_folder(tmp_path / "x", c)
    (tmp_path / "x" / "bands.h5").write_text("mine")
    interchange.write_overlap_folder(tmp_path / "x", c.structure, c.basis, c.overlap)
    assert names(tmp_path / "x") == ["POSCAR", "bands.h5", "info.json", "overlap.h5"]
    assert names(tmp_path) == ["x"]
    interchange.write_folder(tmp_path / "x", c)
    assert_same(interchange.read_folder(tmp_path / "x"), c)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(interchange, "write_blocks", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left"):
        interchange.write_folder(tmp_path / "x", calculation())
    assert names(tmp_path) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="a file stands there"):
        interchange.write_folder(tmp_path / "x", calculation())


# ---- structures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["POSCAR", "x.cif", "x.xyz", "x.vasp", "x.xsf", "x.extxyz", "x.json"])
def test_structures_in_the_formats_of_ase(tmp_path: Path, name: str) -> None:
    atoms = ase.build.mx2("MoS2", a=3.18, thickness=3.19, vacuum=8.0)
    atoms.pbc = True
    structure = interchange.from_ase(atoms)
    interchange.write_structure(tmp_path / name, structure)
    found = interchange.read_structure(tmp_path / name)
    np.testing.assert_array_equal(np.sort(found.numbers), np.sort(structure.numbers))
    assert interchange.to_ase(found).get_volume() == pytest.approx(atoms.get_volume(), rel=1e-4)
    assert names(tmp_path) == [name]


def test_structures_from_ase_and_back() -> None:
    atoms = ase.Atoms("OH2", positions=[[0, 0, 40.0], [0.7, 0, 0], [-0.7, 0.1, 0]], cell=[10, 11, 12], pbc=(True, False, True))
    structure = interchange.from_ase(atoms)
    assert structure.pbc == (True, False, True) and structure.positions[0, 2] == 40.0
    assert interchange.to_ase(structure) == atoms


def test_the_structure_of_a_folder_has_its_original_order(tmp_path: Path) -> None:
    c = calculation()
    interchange.write_folder(tmp_path / "x", c)
    assert_same_structure(interchange.read_structure(tmp_path / "x"), c.structure)


@pytest.mark.parametrize("content", ["", "no structure\n" * 20])
def test_files_without_a_structure_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "thing.xyz").write_text(content)
    with pytest.raises(InputError, match=r"thing\.xyz: ASE cannot read"):
        interchange.read_structure(tmp_path / "thing.xyz")
    with pytest.raises(InputError, match="no such file"):
        interchange.read_structure(tmp_path / "nowhere.cif")


def test_unknown_formats_are_named_on_writing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ASE cannot write it"):
        interchange.write_structure(tmp_path / "x.unknown", calculation().structure)
    assert names(tmp_path) == []


def test_sites_that_are_occupied_in_part_are_refused(tmp_path: Path) -> None:
    (tmp_path / "alloy.cif").write_text(
        "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
        "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
        "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\n"
        "Si1 Si 0 0 0 0.5\nC1 C 0.5 0.5 0.5 1.0\n"
    )
    with pytest.raises(InputError, match="occupied only in part"):
        interchange.read_structure(tmp_path / "alloy.cif")
