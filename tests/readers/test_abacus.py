"""ABACUS: the matrices that are read have ABACUS' own eigenvalues; all kinds of files and of spin come back."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orbitrace import readers
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.plugins import load
from raw_files import abacus, crystal, fractions

Levels = Callable[[Calculation, np.ndarray], np.ndarray]


@pytest.fixture
def silicon(tmp_path: Path, shared_data: Path) -> Path:
    """The reference of ABACUS' own tests, whose files have one more ending there."""
    for file in (shared_data / "formats/abacus/Si2_ref").iterdir():
        shutil.copy(file, tmp_path / file.name.removesuffix(".ref"))
    return tmp_path


def test_levels_of_the_mesh_are_those_of_abacus(shared_data: Path, levels: Levels) -> None:
    folder = shared_data / "formats/abacus/MoS2/OUT.ABACUS"
    calculation, reference = readers.read(folder), load("readers", "abacus").scf_levels(folder)
    assert reference.energies.shape == (1, 3, 23)
    for k, point in enumerate(reference.kpoints):
        np.testing.assert_allclose(levels(calculation, point)[:, :23], reference.energies[:, k], rtol=0, atol=4e-7)


def test_what_files_beside_the_matrices_tell(shared_data: Path) -> None:
    found = readers.read(shared_data / "formats/abacus/MoS2/OUT.ABACUS")
    assert found.provenance.version == "3.10.0; converged; text"
    assert (found.fermi_level, found.n_electrons) == (-2.3123356452, 26)
    assert {z: (str(s), s.valence) for z, s in found.basis.shells.items()} == {42: ("s4p2d2f1", 14), 16: ("s2p2d1", 6)}
    assert found.basis[42].cutoff == pytest.approx(8 * 0.529177)  # by the name of its orbital file
    assert found.structure.pbc == (True, True, False)


def test_pairs_are_those_of_h_and_s_together(silicon: Path) -> None:
    """H reaches farther than S: pairs that S lacks hold up to 0.7 meV."""
    found = readers.read(silicon)
    assert found.basis[14].ls == (0, 0, 1, 1, 2) and found.basis[14].cutoff == pytest.approx(8 * 0.529177)

    def filled(blocks):
        return np.array([np.abs(blocks.block(pair)).max() for pair in range(blocks.n_pairs)])

    of_h, of_s = filled(found.hamiltonian), filled(found.overlap)
    assert ((of_h > 0).sum(), (of_s > 0).sum()) == (538, 246)
    assert of_h[of_s == 0].max() == pytest.approx(7.05e-4, abs=1e-6)
    assert found.overlap.lengths(found.structure)[of_s > 0].max() < 2 * found.basis[14].cutoff


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize("kind", ["old", "new", "binary"])
def test_all_kinds_of_files_come_back(tmp_path: Path, spin: Spin, kind: str) -> None:
    house = crystal(spin)
    abacus.write(tmp_path, house, kind)
    found, run = readers.read(tmp_path), abacus.as_run(house)
    assert found.spin is spin and found.structure.numbers.tolist() == [1, 1, 8, 8]
    np.testing.assert_allclose(found.structure.positions, run.structure.positions, atol=1e-12)
    for a, b in ((found.hamiltonian, run.hamiltonian), (found.overlap, run.overlap)):
        np.testing.assert_array_equal(a.pairs, b.pairs)
        np.testing.assert_allclose(a.values, b.values, rtol=0, atol=2e-9 if kind == "binary" else 4e-8)
    assert {z: found.basis[z].ls for z in (1, 8)} == {1: (0, 1), 8: (0, 0, 1, 2)}


@pytest.mark.parametrize("positions", ["Direct", "Cartesian", "Cartesian_angstrom", "Cartesian_au"])
def test_atoms_outside_of_the_cell_are_wrapped_as_abacus_does(tmp_path: Path, positions: str) -> None:
    house = crystal(Spin.NONE)
    assert ((fractions(house) < 0) | (fractions(house) >= 1)).any()
    abacus.write(tmp_path, house, positions=positions)
    found = readers.read(tmp_path)
    np.testing.assert_allclose(found.structure.positions, abacus.as_run(house).structure.positions, atol=1e-9)
    assert ((fractions(found) >= 0) & (fractions(found) < 1)).all()


@pytest.mark.parametrize("digits", [6, 8, 12, 15])
def test_any_number_of_digits(tmp_path: Path, digits: int) -> None:
    house = crystal(Spin.NONE)
    abacus.write(tmp_path, house, "new", digits)
    found = readers.read(tmp_path).hamiltonian
    np.testing.assert_allclose(
        found.values, abacus.as_run(house).hamiltonian.values, rtol=0, atol=max(3e-9, 4 * 10**-digits * 14)
    )


def test_the_cell_that_the_files_of_2026_repeat_is_enough(tmp_path: Path) -> None:
    house = crystal(Spin.NONE)
    abacus.write(tmp_path, house, "new")
    text = (tmp_path / "STRU").read_text()
    (tmp_path / "STRU").unlink()
    with pytest.raises(InputError, match="no orbitals of H are known"):
        readers.read(tmp_path)
    (tmp_path / "running_scf.log").write_text(LOG)
    found = readers.read(tmp_path)
    np.testing.assert_allclose(found.structure.positions, abacus.as_run(house).structure.positions, atol=1e-6)
    assert found.basis[1].inferred and found.basis[8].inferred  # no file tells the radii
    (tmp_path / "STRU").write_text(text.replace("LATTICE_CONSTANT\n1.7", "LATTICE_CONSTANT\n1.8"))
    with pytest.raises(InputError, match="another structure than that in the matrices"):
        readers.read(tmp_path)


LOG = """
                              ABACUS v3.11.0-beta
 READING ATOM TYPE 1
                               atom label = H
                      L=0, number of zeta = 1
                      L=1, number of zeta = 1
             number of atom for this type = 2

 READING ATOM TYPE 2
                               atom label = O
                      L=0, number of zeta = 2
                      L=1, number of zeta = 1
                      L=2, number of zeta = 1
             number of atom for this type = 2
"""


def test_matrices_of_an_old_run_without_a_structure(tmp_path: Path) -> None:
    abacus.write(tmp_path, crystal(Spin.NONE))
    (tmp_path / "STRU").unlink()
    with pytest.raises(InputError, match="no STRU in it or in the folder above"):
        readers.read(tmp_path)


def test_files_in_the_folder_above(tmp_path: Path) -> None:
    out = tmp_path / "OUT.ABACUS"
    out.mkdir()
    abacus.write(tmp_path, crystal(Spin.NONE))
    for file in tmp_path.glob("*.csr"):
        file.rename(out / file.name)
    assert readers.read(out).structure.n_atoms == 4


def test_a_run_that_moved_its_atoms(tmp_path: Path) -> None:
    abacus.write(tmp_path, crystal(Spin.NONE))
    (tmp_path / "INPUT").write_text("INPUT_PARAMETERS\ncalculation   relax  # atoms move\n")
    with pytest.raises(InputError, match=r"INPUT: calculation relax, after which STRU holds other positions"):
        readers.read(tmp_path)


def test_a_run_that_did_not_converge(tmp_path: Path) -> None:
    abacus.write(tmp_path, crystal(Spin.NONE))
    (tmp_path / "running_scf.log").write_text(LOG + " !! CONVERGENCE: convergence has NOT been achieved\n")
    with pytest.raises(InputError, match=r"running_scf\.log: the run did not converge"):
        readers.read(tmp_path)


def test_several_steps_in_one_file(tmp_path: Path) -> None:
    abacus.write(tmp_path, crystal(Spin.NONE))
    file = tmp_path / "data-HR-sparse_SPIN0.csr"
    file.write_bytes(file.read_bytes() * 2)
    with pytest.raises(InputError, match="more than one step"):
        readers.read(tmp_path)


def test_positions_that_were_not_wrapped_are_refused(tmp_path: Path) -> None:
    """As other tools take them, from STRU as it stands."""
    house = crystal(Spin.NONE)
    abacus.write(tmp_path, house)
    found = readers.read(tmp_path)
    order = np.argsort(house.structure.numbers, kind="stable")
    unwrapped = replace(found, structure=replace(found.structure, positions=house.structure.positions[order]))
    from orbitrace.readers._checks import check

    with pytest.raises(InputError, match="positions were probably wrapped"):
        check(unwrapped)


@pytest.mark.parametrize(
    ("latname", "parameters", "vectors"),
    [
        ("sc", "", np.eye(3)),
        ("hexagonal", "2.5", [[1, 0, 0], [-0.5, 0.75**0.5, 0], [0, 0, 2.5]]),
        ("fcc", "", [[-0.5, 0, 0.5], [0, 0.5, 0.5], [-0.5, 0.5, 0]]),
        ("so", "1.5 2.5", np.diag([1, 1.5, 2.5])),
    ],
)
def test_lattices_by_name(latname: str, parameters: str, vectors: object) -> None:
    from orbitrace.readers._abacus_text import stru

    text = f"ATOMIC_SPECIES\nH 1 H.upf\nLATTICE_CONSTANT\n2\nLATTICE_PARAMETERS\n{parameters}\n"
    text += "ATOMIC_POSITIONS\nDirect\nH\n0\n1\n-0.25 0 1.5\n"
    found = stru(text, latname, "STRU")
    np.testing.assert_allclose(found.lattice, 2 * 0.529177 * np.array(vectors), atol=1e-12)
    np.testing.assert_allclose(found.fractions, [[0.75, 0, 0.5]])
    with pytest.raises(InputError, match="no LATTICE_VECTORS, and latname 'none'"):
        stru(text, "none", "STRU")
