"""FHI-aims: the two traps of its sparse matrices, which geometry alone can show, and files written by ourselves.

No sample has eigenvalues beside it: what is verified is that orbitals overlap only where they can, to the last pair.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orbitrace import readers
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.readers import _aims_text
from orbitrace.readers._checks import check
from raw_files import aims, crystal, fractions


@pytest.mark.parametrize(("name", "longest"), [("Si", 8.031), ("MoS2", 8.245)])
def test_orbitals_overlap_within_their_reach(shared_data: Path, name: str, longest: float) -> None:
    found = readers.read(shared_data / "formats/aims" / name)
    overlap = found.overlap
    there = np.array([np.abs(overlap.block(pair)).max() > 1e-6 for pair in range(overlap.n_pairs)])
    assert {shells.cutoff for shells in found.basis.shells.values()} == {5.0}
    assert overlap.lengths(found.structure)[there].max() == pytest.approx(longest, abs=1e-3)


def test_what_files_beside_the_matrices_tell(shared_data: Path) -> None:
    found = readers.read(shared_data / "formats/aims/MoS2")
    assert found.spin is Spin.COLLINEAR and found.n_electrons == 74  # all of them: 42 + 2 x 16
    assert {z: str(s) for z, s in found.basis.shells.items()} == {16: "s4p3d1f1", 42: "s6p4d3f1"}
    assert found.provenance.version.endswith("without its spin-orbit coupling")
    assert found.hamiltonian.values.min() < -1.9e4  # the 1s of Mo, eV


def turned(found: Calculation) -> Calculation:
    """With R of the other sign, as tools have it that take the row to lie in cell 0."""

    def change(blocks: Blocks) -> Blocks:
        return Blocks.sorted(blocks.pairs * np.array([-1, -1, -1, 1, 1]), blocks.shapes, blocks.values)

    return replace(found, hamiltonian=change(found.hamiltonian), overlap=change(found.overlap))


@pytest.mark.parametrize("name", ["Si", "MoS2"])
def test_the_other_sign_of_r_is_refused(shared_data: Path, name: str) -> None:
    with pytest.raises(InputError, match="longer than rc_i"):
        check(turned(readers.read(shared_data / "formats/aims" / name)))


def test_positions_that_are_not_folded_are_refused(shared_data: Path) -> None:
    folder = shared_data / "formats/aims/MoS2"
    found = readers.read(folder)
    given = _aims_text.geometry((folder / "geometry.in").read_text(), "geometry.in")
    rows = [line.split()[1:4] for line in (folder / "geometry.in").read_text().splitlines() if line.startswith("atom")]
    unfolded = replace(found, structure=replace(found.structure, positions=np.array(rows, dtype=float)))
    assert np.abs(given.positions - unfolded.structure.positions).max() > 1
    with pytest.raises(InputError, match="positions were probably wrapped"):
        check(unfolded)


def test_one_half_stays_one_half() -> None:
    np.testing.assert_allclose(
        _aims_text.folded(np.array([0.5, -0.5, 0.5 + 1e-12, -0.5 - 1e-12, 0.75, -1.25])), [0.5, 0.5, 0.5, 0.5, -0.25, -0.25]
    )


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR])
@pytest.mark.parametrize("both", [0.0, 0.03, 1.0])
def test_triangles_with_some_partners_come_back(tmp_path: Path, spin: Spin, both: float) -> None:
    house = crystal(spin)
    assert (np.abs(fractions(house)) > 0.5).any()
    aims.write(tmp_path, house, both)
    found, run = readers.read(tmp_path), aims.as_run(house)
    np.testing.assert_allclose(found.structure.positions, run.structure.positions, atol=1e-9)
    for a, b in ((found.hamiltonian, run.hamiltonian), (found.overlap, run.overlap)):
        np.testing.assert_array_equal(a.pairs, b.pairs)
        np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-13)
    assert found.spin is spin and found.n_electrons == 18


def test_a_molecule(tmp_path: Path) -> None:
    house = crystal(Spin.NONE, pbc=False)
    aims.write(tmp_path, house)
    found = readers.read(tmp_path)
    assert found.structure.pbc == (False, False, False)
    np.testing.assert_allclose(found.hamiltonian.values, house.hamiltonian.values, rtol=0, atol=1e-13)


def test_partners_that_contradict_each_other(tmp_path: Path) -> None:
    aims.write(tmp_path, crystal(Spin.NONE), both=1.0)
    lines = (tmp_path / "rs_hamiltonian.out").read_text().splitlines()
    lines[1] = "0.9999999999999999E+00"
    (tmp_path / "rs_hamiltonian.out").write_text("\n".join(lines))
    with pytest.raises(InputError, match="is not Hermitian"):
        readers.read(tmp_path)


def test_without_control_radii_are_the_smallest_that_explain_the_overlap(tmp_path: Path) -> None:
    aims.write(tmp_path, crystal(Spin.NONE))
    (tmp_path / "control.in").unlink()
    assert all(shells.inferred for shells in readers.read(tmp_path).basis.shells.values())


def test_ghosts_are_refused(tmp_path: Path) -> None:
    aims.write(tmp_path, crystal(Spin.NONE))
    with (tmp_path / "geometry.in").open("a") as file:
        file.write("empty 0 0 0 H\n")
    with pytest.raises(InputError, match=r"geometry\.in: atoms of the kind 'empty'"):
        readers.read(tmp_path)


def test_charge_changes_the_number_of_electrons(tmp_path: Path) -> None:
    aims.write(tmp_path, crystal(Spin.NONE))
    with (tmp_path / "control.in").open("a") as file:
        file.write("charge  -1.0  # an anion\n")
    assert readers.read(tmp_path).n_electrons == 19


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    aims.write(tmp_path, crystal(Spin.NONE))
    (tmp_path / "basis-indices.out").unlink()
    with pytest.raises(InputError, match=r"no file basis-indices\.out"):
        readers.read(tmp_path)
