"""The door of the readers: from any code's order to the house's, and what it never lets through."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrace import plugins, readers
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks, sort_pairs
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import Basis, Order, Shells, plain_order
from orbitrace.physics.structure import Structure
from orbitrace.readers._checks import check
from orbitrace.readers._convert import to_house
from orbitrace.readers._raw import RawCalculation
from raw_files import BASIS, crystal

PLAIN: Order = plain_order()


def as_a_code_writes(
    house: Calculation, order: Order, file_shells: dict[int, tuple[int, ...]], seed: int, with_du: bool = False
) -> RawCalculation:
    """The same calculation with pairs, shells, orbitals and signs as some code may have them; slow and independent."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(house.overlap.n_pairs)

    def places(z: int) -> list[tuple[int, int]]:
        """For each orbital in the order of the code: its place in the house's, and its sign."""
        ls, slices = house.basis[z].ls, house.basis[z].slices
        left = {l: [s.start for k, s in zip(ls, slices, strict=True) if k == l] for l in ls}
        starts = [left[l].pop(0) for l in file_shells[z]]
        return [(start + l + m, sign) for l, start in zip(file_shells[z], starts, strict=True) for m, sign in order[l]]

    def coded(block: np.ndarray, i: int, j: int) -> np.ndarray:
        rows, row_signs = zip(*places(int(house.structure.numbers[i])), strict=True)
        columns, column_signs = zip(*places(int(house.structure.numbers[j])), strict=True)
        return (np.outer(row_signs, column_signs) * block[np.ix_(rows, columns)]).reshape(-1)

    def flat(blocks: Blocks, row: int = 0, column: int = 0, spins: int = 1) -> np.ndarray:
        parts = []
        for pair in shuffled:
            n, m = blocks.shapes[pair] // spins
            part = blocks.block(int(pair))[row * n : (row + 1) * n, column * m : (column + 1) * m]
            parts.append(coded(part, int(blocks.pairs[pair, 3]), int(blocks.pairs[pair, 4])))
        return np.concatenate(parts)

    names = {Spin.NONE: [""], Spin.COLLINEAR: ["uu", "dd"], Spin.NONCOLLINEAR: ["uu", "ud", "dd"] + ["du"] * with_du}
    hamiltonian = {
        name: flat(house.hamiltonian, *("ud".index(c) for c in name), spins=2) if name else flat(house.hamiltonian)
        for name in names[house.spin]
    }
    return RawCalculation(
        house.structure, house.basis, house.overlap.pairs[shuffled], hamiltonian, flat(house.overlap), house.fermi_level,
        house.n_electrons, house.spin, house.provenance, file_shells=file_shells,
    )  # fmt: skip


def assert_equal(found: Calculation, expected: Calculation) -> None:
    for a, b in ((found.hamiltonian, expected.hamiltonian), (found.overlap, expected.overlap)):
        np.testing.assert_array_equal(a.pairs, b.pairs)
        np.testing.assert_array_equal(a.shapes, b.shapes)
        np.testing.assert_array_equal(a.values, b.values)


def raw(spin: Spin = Spin.NONE, **changes: object) -> RawCalculation:
    house = crystal(spin)
    return replace(as_a_code_writes(house, PLAIN, {z: house.basis[z].ls for z in (1, 8)}, 0), **changes)


@settings(max_examples=40, deadline=None)
@given(spin=st.sampled_from(Spin), seed=st.integers(0, 10**6), data=st.data())
def test_any_order_and_sign_of_orbitals_comes_out_in_the_order_of_the_house(
    spin: Spin, seed: int, data: st.DataObject
) -> None:
    order = {
        l: tuple((m, data.draw(st.sampled_from([1, -1]))) for m in data.draw(st.permutations(range(-l, l + 1))))
        for l in range(3)
    }
    shells = {1: data.draw(st.permutations((0, 1))), 8: data.draw(st.permutations((0, 0, 1, 2)))}
    house = crystal(spin, seed)
    written = as_a_code_writes(house, order, {z: tuple(ls) for z, ls in shells.items()}, seed, data.draw(st.booleans()))
    assert_equal(to_house(written, order), house)


def test_molecules_and_open_directions() -> None:
    molecule = crystal(Spin.NONE, pbc=False)
    written = as_a_code_writes(molecule, PLAIN, {z: molecule.basis[z].ls for z in (1, 8)}, 1)
    boxed = Structure(molecule.structure.positions, 30 * np.eye(3), molecule.structure.numbers, (True, True, True))
    found = to_house(replace(written, structure=boxed), PLAIN)
    assert found.structure.pbc == (False, False, False)
    assert_equal(found, molecule)


def test_a_hamiltonian_that_reaches_farther_than_the_overlap_keeps_all_its_pairs() -> None:
    whole = raw()
    n_orbitals = BASIS.n_orbitals(whole.structure.numbers)
    lengths = np.linalg.norm(whole.structure.pair_vectors(whole.pairs), axis=1)
    sizes = n_orbitals[whole.pairs[:, 3:]].prod(axis=1)
    near = lengths < 2.5
    cut = replace(whole, overlap_pairs=whole.pairs[near], overlap=whole.overlap[np.repeat(near, sizes)])
    found, expected = to_house(cut, PLAIN), to_house(whole, PLAIN)
    np.testing.assert_array_equal(found.hamiltonian.values, expected.hamiltonian.values)
    for pair in range(found.overlap.n_pairs):
        kept = found.overlap.lengths(found.structure)[pair] < 2.5
        np.testing.assert_array_equal(found.overlap.block(pair), expected.overlap.block(pair) * kept)


def test_the_hermitian_part_is_taken_where_the_code_rounds() -> None:
    whole = raw(Spin.NONCOLLINEAR)
    noise = np.random.default_rng(1).uniform(-1e-9, 1e-9, len(whole.overlap))
    noisy = replace(whole, hamiltonian={name: values + noise for name, values in whole.hamiltonian.items()})
    found = to_house(noisy, PLAIN).hamiltonian
    np.testing.assert_array_equal(found.values, found.dagger().values)
    np.testing.assert_allclose(found.values, to_house(whole, PLAIN).hamiltonian.values, atol=2e-9)


# ---- what is refused -------------------------------------------------------------------------------------------------------


def test_a_pair_without_its_reverse() -> None:
    whole = raw()
    sizes = BASIS.n_orbitals(whole.structure.numbers)[whole.pairs[:, 3:]].prod(axis=1)
    keep = np.arange(len(sizes)) != int(np.flatnonzero(whole.pairs[:, 3] != whole.pairs[:, 4])[0])
    values = np.repeat(keep, sizes)
    cut = replace(
        whole, pairs=whole.pairs[keep], hamiltonian={"": whole.hamiltonian[""][values]}, overlap=whole.overlap[values]
    )
    with pytest.raises(InputError, match=r"somewhere: 1 of \d+ pairs lack their reverse"):
        to_house(cut, PLAIN)


def test_a_pair_that_occurs_twice() -> None:
    whole = raw()
    pairs = whole.pairs.copy()
    pairs[sort_pairs(pairs)[1]] = pairs[sort_pairs(pairs)[0]]
    with pytest.raises(InputError, match="pairs occur twice"):
        to_house(replace(whole, pairs=pairs), PLAIN)


def test_too_few_values() -> None:
    with pytest.raises(InputError, match=r"the overlap has 5 elements\. Expected \d+"):
        to_house(raw(overlap=np.ones(5)), PLAIN)


def test_a_matrix_that_is_not_hermitian() -> None:
    whole = raw(Spin.NONCOLLINEAR)
    values = whole.hamiltonian["dd"].copy()
    values[0] += 1e-3j
    with pytest.raises(InputError, match=r"H\(dd\) is not Hermitian.*differ by up to 1\.0e-03"):
        to_house(replace(whole, hamiltonian={**whole.hamiltonian, "dd": values}), PLAIN)


def test_down_up_that_contradicts_up_down() -> None:
    house = crystal(Spin.NONCOLLINEAR)
    whole = as_a_code_writes(house, PLAIN, {z: house.basis[z].ls for z in (1, 8)}, 0, with_du=True)
    assert_equal(to_house(whole, PLAIN), house)
    with pytest.raises(InputError, match=r"H\(ud\) is not Hermitian"):
        to_house(replace(whole, hamiltonian={**whole.hamiltonian, "du": whole.hamiltonian["ud"]}), PLAIN)


def test_wrapped_positions_of_a_real_calculation_are_told_with_their_numbers(example: Path) -> None:
    """The trap of converters that take positions from OpenMX's report: three of 16 atoms are wrapped there."""
    found = readers.read(example / "data" / "bilayers" / "000")
    s = found.structure
    wrapped = (s.positions @ np.linalg.inv(s.lattice) % 1.0) @ s.lattice
    moved = replace(found, structure=Structure(wrapped, s.lattice, s.numbers, s.pbc))
    pairs = found.overlap.pairs
    wrong = np.abs(moved.structure.pair_vectors(pairs) - s.pair_vectors(pairs)).max(axis=1) > 1
    assert (len(pairs), wrong.sum()) == (898, 268)  # of which 172 are too long to be possible
    with pytest.raises(
        InputError, match=r"172 of 898 pairs are longer than rc_i \+ rc_j \(5\.29 Å\), largest 12\.70 Å: positions were"
    ):
        check(moved)


def test_long_pairs_without_overlap_are_no_contradiction() -> None:
    found = crystal(Spin.NONE)
    check(found, 14.0)
    lengths = found.overlap.lengths(found.structure)
    short = replace(found, basis=Basis({z: Shells(s.ls, lengths.max() / 2 - 0.2) for z, s in BASIS.shells.items()}))
    with pytest.raises(InputError, match="longer than"):
        check(short)
    far = np.repeat(lengths > lengths.max() - 0.5, found.overlap.shapes.prod(axis=1))
    check(replace(short, overlap=found.overlap.with_values(np.where(far, 0.0, found.overlap.values))))


def test_electrons_that_are_missing() -> None:
    with pytest.raises(InputError, match=r"tr\(rho S\) = 13\.000000 electrons\. Expected 14\.000000"):
        check(crystal(Spin.NONE), 13.0)


# ---- finding the reader ----------------------------------------------------------------------------------------------------


def test_the_reader_is_found_from_the_files(example: Path) -> None:
    assert readers.detect(example / "references" / "AB") == "openmx"


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder is empty\. Expected files of .*openmx \(\*\.scfout.*"):
        readers.read(tmp_path)


def test_a_folder_of_a_code_without_a_reader_lists_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "potcar.unknown").touch()
    with pytest.raises(InputError) as error:
        readers.read(tmp_path)
    assert "potcar.unknown" in str(error.value)
    assert all(name in str(error.value) for name in plugins.names("readers"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        readers.read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        readers.read(tmp_path / "file")


def test_a_folder_of_two_codes(tmp_path: Path) -> None:
    (tmp_path / "a.scfout").touch()
    (tmp_path / "hamiltonian.h5").touch()
    with pytest.raises(InputError, match="files of several codes: deeph, openmx"):
        readers.detect(tmp_path)


def test_a_reader_that_does_not_exist(example: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'openmx'"):
        readers.read(example / "references" / "AB", code="openxm")
