"""Overlaps from the overlaps of calculations: those of OpenMX to rounding, and what cannot be known is refused."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigh

from orbitrace import overlaps, readers
from orbitrace.errors import InputError
from orbitrace.overlaps import from_data
from orbitrace.physics import definite
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.physics.two_centre import TwoCentreTable

Sample = tuple[Structure, Basis, Blocks]


def sample(calculation: Calculation) -> Sample:
    return calculation.structure, calculation.basis, calculation.overlap


@pytest.fixture(scope="module")
def table(example: Path) -> TwoCentreTable:
    folders = sorted((example / "data" / "bilayers").iterdir())
    return from_data.fit((sample(readers.read(folder)) for folder in folders), "bilayers")


@pytest.mark.parametrize("name", ["twisted_1_2", "AB"])
def test_overlap_of_a_target_is_that_of_openmx(example: Path, table: TwoCentreTable, name: str) -> None:
    target = readers.read(example / "references" / name)
    mine = overlaps.overlap("from_data", target.structure, target.basis, table=table)
    np.testing.assert_array_equal(mine.pairs, target.overlap.pairs)
    assert np.abs(mine.values - target.overlap.values).max() < 1e-9  # 2e-11 measured
    lowest = [np.linalg.eigvalsh(at_gamma(s, target))[0] for s in (mine, target.overlap)]
    assert lowest[0] == pytest.approx(lowest[1], rel=1e-6)


def test_bands_do_not_feel_the_difference(example: Path, table: TwoCentreTable) -> None:
    target = readers.read(example / "references" / "twisted_1_2")
    mine = overlaps.overlap("from_data", target.structure, target.basis, table=table)
    h, s, s_mine = (at_gamma(b, target) for b in (target.hamiltonian, target.overlap, mine))
    energies, changed = (eigh(h, overlap, eigvals_only=True) for overlap in (s, s_mine))
    window = np.abs(energies - target.fermi_level) < 10
    assert np.abs(energies - changed)[window].max() < 1e-8


def at_gamma(blocks: Blocks, calculation: Calculation) -> np.ndarray:
    return definite.at_gamma(blocks, calculation.structure, calculation.basis)


def test_a_large_twist_takes_seconds(table: TwoCentreTable) -> None:
    structure = twisted_bilayer(graphene(), 5, 6, 3.35)
    blocks = overlaps.overlap("from_data", structure, table.basis, table=table)
    assert structure.n_atoms == 364
    assert blocks.n_pairs > 364 * 50


def test_a_table_is_written_and_read(table: TwoCentreTable, tmp_path: Path) -> None:
    file = tmp_path / "results" / "overlap.npz"
    from_data.write_table(file, table)
    assert [path.name for path in file.parent.iterdir()] == ["overlap.npz"]
    structure = twisted_bilayer(graphene(), 1, 2, 3.35)
    once = overlaps.overlap("from_data", structure, table.basis, table=table)
    again = overlaps.overlap("from_data", structure, table.basis, table=file)
    np.testing.assert_array_equal(once.values, again.values)


def test_a_failed_write_leaves_nothing(table: TwoCentreTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        from_data.write_table(tmp_path / "overlap.npz", table)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("not a table")
    np.savez(tmp_path / "other.npz", energies=np.zeros(3))
    for name, words in (("missing.npz", "no such file"), ("text.npz", "no table"), ("other.npz", "no table")):
        with pytest.raises(InputError, match=words) as caught:
            from_data.read_table(tmp_path / name)
        assert name in str(caught.value)


def test_atoms_closer_than_those_of_the_data_are_refused_with_the_numbers(table: TwoCentreTable) -> None:
    squeezed = twisted_bilayer(graphene(1.9), 1, 2, 3.35)
    with pytest.raises(InputError, match=r"my\.cif: .* pairs C-C at 1\.097 .* training data cover 1\.2\d\d-") as caught:
        overlaps.overlap("from_data", squeezed, table.basis, where="my.cif", table=table)
    assert "add calculations" in str(caught.value)


def test_an_element_without_data_is_refused(table: TwoCentreTable) -> None:
    boron = Structure(np.zeros((1, 3)), 9 * np.eye(3), np.array([5]))
    with pytest.raises(InputError, match="no basis for B"):
        overlaps.overlap("from_data", boron, table.basis, table=table)
    other = Basis({**table.basis.shells, 5: table.basis[6]})
    with pytest.raises(InputError, match="B never occurs in the training data"):
        overlaps.overlap("from_data", boron, other, table=table)


def test_overlaps_that_are_no_function_of_the_bond_are_refused(example: Path) -> None:
    good = sample(readers.read(example / "data" / "bilayers" / "000"))
    stretched = (Structure(good[0].positions * 1.01, good[0].lattice * 1.01, good[0].numbers), *good[1:])
    wrong = Blocks(good[2].pairs, good[2].shapes, np.sort(good[2].values))
    for data in ([good, stretched], [(good[0], good[1], wrong)]):
        with pytest.raises(InputError, match="mine: overlaps C-C deviate by"):
            from_data.fit(data, "mine")


def test_an_overlap_that_is_not_positive_definite_is_refused_with_its_lowest_eigenvalue(example: Path) -> None:
    structure, basis, overlap = sample(readers.read(example / "references" / "AB"))
    onsite = np.repeat(overlap.onsite, np.prod(overlap.shapes, axis=1))
    larger = overlap.with_values(np.where(onsite, overlap.values, 1.5 * overlap.values))
    with pytest.raises(InputError, match=r"x\.cif: the overlap is not positive definite \(lowest eigenvalue -"):
        overlaps.check(larger, structure, basis, "x.cif")


def test_overlaps_with_a_defect_are_refused(example: Path) -> None:
    structure, basis, overlap = sample(readers.read(example / "references" / "AB"))
    values = overlap.values.copy()
    values[3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        overlaps.check(overlap.with_values(values), structure, basis, "x")
    values[3] = 0.5
    with pytest.raises(InputError, match="differs from its transpose"):
        overlaps.check(overlap.with_values(values), structure, basis, "x")
    fewer = Blocks.over(overlap.pairs[:1], structure, basis, overlap.values[:25])
    with pytest.raises(InputError, match="other pairs"):
        overlaps.check(fewer, structure, basis, "x")


def test_an_unknown_way_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="from_data"):
        overlaps.overlap("form_data", graphene(), Basis({}))


@pytest.mark.parametrize("dataset", ["mos2", "graphene_hbn"])
def test_several_elements(shared_data: Path, dataset: str) -> None:
    *data, held_out = [readers.read(folder) for folder in sorted((shared_data / "openmx" / dataset).glob("00*"))]
    everything = from_data.fit(map(sample, [*data, held_out]))
    mine = overlaps.overlap("from_data", held_out.structure, held_out.basis, table=everything)
    assert np.abs(mine.values - held_out.overlap.values).max() < 1e-9
