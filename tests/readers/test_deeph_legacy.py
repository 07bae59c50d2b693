"""Folders of DeepH-pack: they hold what the new ones hold, and wrapped atoms are found and moved back."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from orbitrace import interchange, readers
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.readers import openmx
from orbitrace.readers._unwrapping import shifts
from raw_files import crystal, moved


def test_the_order_of_orbitals_is_that_of_openmx() -> None:
    assert dict(interchange.LEGACY_ORDER) == dict(openmx.ORDER)


def test_old_and_new_folder_of_one_calculation_are_the_same(shared_data: Path) -> None:
    old, new = readers.read(shared_data / "formats/deeph_legacy/MoTe2"), readers.read(shared_data / "formats/deeph_new/MoTe2")
    assert old.fermi_level == new.fermi_level and old.spin is Spin.NONE
    assert [old.basis[z].ls for z in (42, 52)] == [new.basis[z].ls for z in (42, 52)]
    for a, b in ((old.hamiltonian, new.hamiltonian), (old.overlap, new.overlap)):
        np.testing.assert_array_equal(a.pairs, b.pairs)
        np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_allclose(old.structure.positions, new.structure.positions, atol=1e-12)
    assert old.provenance.version == "DeepH-pack folder" and old.structure.pbc == (True, True, False)


def test_a_folder_with_an_overlap_only_is_refused(shared_data: Path) -> None:
    with pytest.raises(InputError, match=r"Bi2Se3_SOC: no hamiltonians\.h5 in it"):
        readers.read(shared_data / "formats/deeph_legacy/Bi2Se3_SOC")


def foreign(folder: Path, house: Calculation) -> Path:
    """As other tools write it: without what only OrbiTrace knows."""
    interchange.write_legacy_folder(folder, house)
    info = json.loads((folder / "info.json").read_text())
    del info["orbitrace"]
    (folder / "info.json").write_text(json.dumps(info))
    return folder


def assert_equal(a: Calculation, b: Calculation, tolerance: float = 0) -> None:
    for x, y in ((a.hamiltonian, b.hamiltonian), (a.overlap, b.overlap)):
        np.testing.assert_array_equal(x.pairs, y.pairs)
        np.testing.assert_allclose(x.values, y.values, rtol=0, atol=tolerance)
        assert x.values.dtype == y.values.dtype
    np.testing.assert_array_equal(a.structure.numbers, b.structure.numbers)
    np.testing.assert_array_equal(a.structure.lattice, b.structure.lattice)


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize("pbc", [True, False])
def test_what_we_write_comes_back_exactly(tmp_path: Path, spin: Spin, pbc: bool) -> None:
    house = crystal(spin, pbc=pbc)
    interchange.write_legacy_folder(tmp_path / "x", house)
    found = readers.read(tmp_path / "x")
    assert_equal(found, house)
    np.testing.assert_array_equal(found.structure.positions, house.structure.positions)
    assert (found.spin, found.basis, found.fermi_level, found.n_electrons) == (spin, house.basis, -1.5, 14.0)
    assert found.structure.pbc == (pbc,) * 3 and found.provenance.code == "a code"


def test_a_real_calculation_comes_back_exactly(tmp_path: Path, example: Path) -> None:
    house = readers.read(example / "references" / "AB")
    interchange.write_legacy_folder(tmp_path / "x", house)
    found = readers.read(tmp_path / "x")
    assert_equal(found, house)
    assert found.provenance.version == house.provenance.version


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.NONCOLLINEAR])
def test_folders_of_other_tools(tmp_path: Path, spin: Spin) -> None:
    house = crystal(spin)
    found = readers.read(foreign(tmp_path / "x", house))
    assert_equal(found, house)
    assert found.spin is spin and found.n_electrons is None and found.provenance.code == "deeph"
    np.testing.assert_array_equal(found.structure.positions, house.structure.positions)


def wrapped(folder: Path, house: Calculation) -> int:
    """Wrap the positions in a folder, as reports of codes have them, and say of how many atoms."""
    s = house.structure
    whole = np.floor(s.positions @ np.linalg.inv(s.lattice)).astype(int)
    whole[:, [k for k in range(3) if not s.pbc[k]]] = 0
    positions = s.positions - whole @ s.lattice
    rows = "\n".join(" ".join(f"{x:.16g}" for x in row) for row in positions.T)
    (folder / "site_positions.dat").write_text(rows + "\n")
    relative = whole - max(map(tuple, whole), key=lambda row: sum((whole == row).all(axis=1)))
    return int(relative.any(axis=1).sum())


def test_wrapped_positions_are_found_by_the_lengths_of_pairs_and_moved_back(tmp_path: Path, example: Path) -> None:
    """The report of OpenMX wraps 3 of these 16 atoms, and DeepH-pack takes positions from there."""
    house = readers.read(example / "data" / "bilayers" / "000")
    folder = foreign(tmp_path / "x", house)
    count = wrapped(folder, house)
    found = readers.read(folder)
    assert count == 3 and found.provenance.version.endswith("; 3 of 16 atoms unwrapped by the lengths of pairs")
    assert_equal(found, house)
    vectors = found.structure.pair_vectors(found.overlap.pairs) - house.structure.pair_vectors(house.overlap.pairs)
    np.testing.assert_allclose(vectors, 0, atol=1e-9)
    # Without pairs across the open direction, c stays as it is.
    assert found.structure.pbc == house.structure.pbc


@pytest.mark.parametrize("seed", range(20))
def test_any_shifts_of_atoms_are_found(seed: int) -> None:
    house = crystal(Spin.NONE, seed)
    rng = np.random.default_rng(seed)
    moves = rng.integers(-3, 4, (4, 3))
    s = house.structure
    astray = replace(s, positions=s.positions + moves @ s.lattice)
    found = shifts(astray, house.overlap.pairs, "here") + moves
    np.testing.assert_array_equal(found, np.broadcast_to(found[0], (4, 3)))  # all atoms together may stand anywhere
    np.testing.assert_array_equal(shifts(s, house.overlap.pairs, "here"), 0)
    away = moved(house, moves)
    np.testing.assert_array_equal(shifts(away.structure, away.overlap.pairs, "here"), 0)


def test_pairs_that_no_positions_explain(tmp_path: Path) -> None:
    house = crystal(Spin.NONE)
    folder = foreign(tmp_path / "x", house)
    positions = np.loadtxt(folder / "site_positions.dat")
    np.savetxt(folder / "site_positions.dat", -positions)
    with pytest.raises(InputError, match=r"lattice vectors R no positions explain|lack their reverse|longer than"):
        readers.read(folder)


# ---- damaged ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["element.dat", "lat.dat", "site_positions.dat", "orbital_types.dat", "info.json", "overlaps.h5"]
)
@pytest.mark.parametrize("content", [None, b"", b"\0\1\2", b"nan nan nan\n", b"1 2\n3\n", b"[" * 5000, b'{"isspinful": 0}'])
def test_files_that_are_missing_or_something_else(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = foreign(tmp_path / "x", crystal(Spin.NONE))
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    if (name, content) == ("info.json", b'{"isspinful": 0}'):
        assert readers.read(folder).fermi_level is None
        return
    with pytest.raises(InputError) as error:
        readers.read(folder, "deeph_legacy")
    assert str(folder) in str(error.value)


def test_links_and_datasets_in_other_files_are_refused(tmp_path: Path) -> None:
    house = crystal(Spin.NONE)
    folder = foreign(tmp_path / "x", house)
    key = str([0, 0, 0, 1, 1])
    (tmp_path / "secret").write_bytes(bytes(8 * 196))
    with h5py.File(tmp_path / "other.h5", "w") as store:
        store[key] = np.zeros((14, 14))
    for make in (
        lambda store: store.__setitem__(key, h5py.ExternalLink(str(tmp_path / "other.h5"), key)),
        lambda store: store.__setitem__(key, h5py.SoftLink(str([0, 0, 0, 2, 2]))),
        lambda store: store.create_dataset(key, (14, 14), "f8", external=[(str(tmp_path / "secret"), 0, 8 * 196)]),
    ):
        with h5py.File(folder / "hamiltonians.h5", "a") as store:
            del store[key]
            make(store)
        with pytest.raises(InputError, match=r"is a link to elsewhere|lies in another file"):
            readers.read(folder)


def test_a_block_that_claims_to_be_huge_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "x", crystal(Spin.NONE))
    (folder / "orbital_types.dat").write_text("\n".join(["6 " * 100] * 4))
    with h5py.File(folder / "hamiltonians.h5", "a") as store:
        del store[str([0, 0, 0, 1, 1])]
        store.create_dataset(str([0, 0, 0, 1, 1]), (10**6, 10**6), "f8", chunks=(1000, 1000))
    with pytest.raises(InputError, match=r"hamiltonians\.h5"):
        readers.read(folder)
