"""Overlaps from ABACUS' basis files: those of ABACUS itself, and files that are none are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from gaussians import orbs
from orbitrace import overlaps
from orbitrace.errors import InputError
from orbitrace.overlaps import from_data, from_orb
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.units import ABACUS_BOHR
from overlap_samples import abacus


@pytest.fixture(scope="module")
def gaussians(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return orbs(tmp_path_factory.mktemp("orb"))


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "formats" / "abacus" / "Si2_ref"


def test_overlap_is_that_of_abacus(folder: Path) -> None:
    structure, basis, theirs = abacus(folder)
    mine = overlaps.overlap("from_orb", structure, basis, orb=folder)
    assert np.abs(mine.values - theirs.values).max() < 1e-9  # 5e-10: the digits of the file; 1e-4 is the promise


def test_tables_from_files_and_from_data_agree(folder: Path) -> None:
    structure, basis, theirs = abacus(folder)
    table = from_data.fit([(structure, basis, theirs)])
    mine = overlaps.overlap("from_orb", structure, basis, orb=folder)
    fitted = overlaps.overlap("from_data", structure, basis, table=table)
    assert np.abs(mine.values - fitted.values).max() < 1e-8


@pytest.mark.parametrize(
    ("ls", "cutoff", "message"),
    [
        ((0, 1), 8.0, r"N_gga_8au_100Ry\.orb: holds the orbitals s1p2\. Expected s1p1, as in the basis"),
        ((0, 1, 1), 7.0, r"N_gga_8au_100Ry\.orb: its orbitals end at 8\.000 Bohr\. Expected 7\.000 Bohr"),
    ],
)
def test_a_basis_of_other_orbitals_is_refused(gaussians: Path, ls: tuple[int, ...], cutoff: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_orb.build(Basis({7: Shells(ls, cutoff * ABACUS_BOHR)}), gaussians)


def test_files_that_are_missing_or_ambiguous_are_named(gaussians: Path, tmp_path: Path) -> None:
    basis = from_orb.read_basis([7], gaussians)
    with pytest.raises(InputError, match=r"no \.orb file of N \(there is: nothing\)"):
        from_orb.build(basis, tmp_path)
    name = "N_gga_8au_100Ry.orb"
    text = (gaussians / name).read_text()
    shutil.copy(gaussians / name, tmp_path)
    # Of several files of one element, the shells tell which one is meant, as long as they do.
    (tmp_path / "N_other.orb").write_text(text.replace("Porbital-->  2", "Porbital-->  1").rpartition("  Type")[0])
    assert from_orb.build(basis, tmp_path).basis == basis
    shutil.copy(gaussians / name, tmp_path / "N_again.orb")
    with pytest.raises(InputError, match=r"holds N_again\.orb, N_gga_8au_100Ry\.orb, all of N"):
        from_orb.build(basis, tmp_path)
    with pytest.raises(InputError, match=r"C_gga_8au_100Ry\.orb: is of C\. Expected N"):
        from_orb.build(basis, {7: gaussians / "C_gga_8au_100Ry.orb"})
    with pytest.raises(InputError, match=r"absent\.orb: cannot be read"):
        from_orb.build(basis, {7: tmp_path / "absent.orb"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Element  N", "Element  Q", "the element 'Q'"),
        ("Element  N", "", "has no line Element"),
        ("Mesh  801", "Mesh  eight", "Mesh is 'eight'"),
        ("Mesh  801", "Mesh  701", "a mesh that reaches to the cutoff"),
        ("dr  0.01", "", "has no dr"),
        ("Lmax  1", "Lmax  2", r"has no Number of Dorbital-->"),
        ("Lmax  1", "Lmax  99", "up to l = 99"),
        ("Porbital-->  2", "Porbital-->  3", "holds 3 of the 4 orbitals"),
        ("  0   1   1", "  0   1   0", "holds 2 of the 3 orbitals"),
        ("  0   1   1", "  0   1   x", "something else than numbers"),
        ("  0   1   1", "  0   1   1 nan", "has 802 points"),
    ],
)
def test_a_damaged_file_is_refused(gaussians: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (gaussians / "N_gga_8au_100Ry.orb").read_text()
    assert text.count(old) == 1
    (tmp_path / "N.orb").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        from_orb.build(Basis({7: Shells((0, 1, 1), 8 * ABACUS_BOHR)}), {7: tmp_path / "N.orb"})
    assert "N.orb" in str(caught.value)


def test_a_truncated_file_is_refused(gaussians: Path, tmp_path: Path) -> None:
    text = (gaussians / "N_gga_8au_100Ry.orb").read_text()
    for share in (0.0, 0.0001, 0.002, 0.3, 0.8, 0.999):
        (tmp_path / "N.orb").write_text(text[: int(share * len(text))])
        with pytest.raises(InputError, match=r"N\.orb: "):
            from_orb.read_basis([7], tmp_path)
