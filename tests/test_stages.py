"""The stages on the embedded example: files in, files out, and what each refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orbitrace import evaluation, interchange, matching, readers, stages
from orbitrace.bands.fermi import fermi_level
from orbitrace.bands.files import read_dos, read_spectrum
from orbitrace.config import BandsSection, OverlapSection, ScanSection, ShardSection
from orbitrace.errors import InputError
from orbitrace.graphs.shards import open_shard, write_shard
from orbitrace.overlaps import from_data
from orbitrace.physics.calculation import Spin
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure
from orbitrace.report.results import read_evaluation
from orbitrace.spectra import DosSection, UnfoldSection


@pytest.fixture(scope="module")
def raw(tmp_path_factory, example) -> Path:
    """Two good calculations, and one whose file was cut off."""
    folder = tmp_path_factory.mktemp("raw")
    for name in ("000", "001", "bad"):
        shutil.copytree(example / "data/bilayers" / name.replace("bad", "002"), folder / "deep" / name)
    file = next((folder / "deep" / "bad").glob("*.scfout*"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return folder


@pytest.fixture(scope="module")
def shard(raw, tmp_path_factory) -> Path:
    """The shard of the good ones."""
    out = tmp_path_factory.mktemp("shards") / "0000.zarr"
    stages.shard(raw, out)
    return out


@pytest.fixture(scope="module")
def table(shard) -> Path:
    """Overlaps of the shard as functions of distance."""
    out = shard.with_name("overlap.npz")
    stages.overlap_table([shard], out)
    return out


def test_a_bad_calculation_goes_into_quarantine_by_name_and_cause_and_the_rest_goes_on(shard):
    assert open_shard(shard).ids == ("deep/000", "deep/001")
    rows = shard.with_name("0000.quarantine.tsv").read_text().splitlines()
    assert len(rows) == 2
    assert rows[1].startswith("deep/bad\t")


def test_a_bad_calculation_stops_everything_if_told_so(raw, tmp_path):
    with pytest.raises(InputError, match="bad"):
        stages.shard(raw, tmp_path / "s.zarr", ShardSection(on_bad="stop"))
    assert list(tmp_path.iterdir()) == []


def test_a_shard_of_a_manifest_holds_its_own_calculations_only(raw, tmp_path):
    manifest = tmp_path / "manifest.json"
    found = stages.scan(raw, manifest, ScanSection(shard_size=1))
    number = found.calculations["deep/001"].shard
    stages.shard(raw, tmp_path / "s.zarr", part=(manifest, number))
    assert open_shard(tmp_path / "s.zarr").ids == ("deep/001",)


def test_a_shard_of_bad_calculations_only_is_empty_so_that_the_others_go_on(raw, tmp_path):
    manifest = tmp_path / "manifest.json"
    found = stages.scan(raw, manifest, ScanSection(shard_size=1))
    done = stages.shard(raw, tmp_path / "s.zarr", part=(manifest, found.calculations["deep/bad"].shard))
    assert open_shard(tmp_path / "s.zarr").ids == done.ids == ()
    assert len(done.quarantined) == 1


def test_the_fingerprint_of_a_calculation_changes_with_its_file(raw, tmp_path):
    copy = shutil.copytree(raw / "deep/000", tmp_path / "copy")
    before = stages.fingerprint(copy)
    assert stages.fingerprint(copy) == before
    file = next(copy.glob("*.scfout*"))
    file.write_bytes(file.read_bytes() + b" ")
    assert stages.fingerprint(copy) != before


def test_a_code_without_reader_is_refused(raw, tmp_path):
    with pytest.raises(InputError, match="openmx"):
        stages.scan(raw, tmp_path / "manifest.json", code="opnmx")


def test_the_overlap_of_the_data_gives_that_of_a_structure_it_never_saw(table, example, tmp_path):
    known = readers.read(example / "references/AB")
    interchange.write_structure(tmp_path / "ab.extxyz", known.structure)
    stages.overlap(tmp_path / "ab.extxyz", table, tmp_path / "overlap")
    _, _, blocks, n_electrons = interchange.read_overlap_folder(tmp_path / "overlap")
    assert n_electrons == 16
    assert np.array_equal(blocks.pairs, known.overlap.pairs)
    assert np.abs(blocks.values - known.overlap.values).max() < 1e-6


def test_basis_files_give_the_same_overlap_as_the_data(shard, table, example, shared_data, tmp_path):
    folder = str(shared_data / "openmx" / "DFT_DATA13" / "PAO")
    stages.overlap_table([shard], tmp_path / "pao.npz", OverlapSection(way="from_pao", pao=folder))
    stages.read(example / "references" / "AB", tmp_path / "AB")
    for name, source, way in (("data", table, "from_data"), ("pao", tmp_path / "pao.npz", "from_pao")):
        stages.overlap(tmp_path / "AB", source, tmp_path / name, OverlapSection(way=way))
    one, other = (interchange.read_overlap_folder(tmp_path / name)[2] for name in ("data", "pao"))
    assert np.abs(one.values - other.values).max() < 1e-7


def test_an_element_that_the_data_lack_is_refused_by_name(table, tmp_path):
    structure = Structure(np.zeros((1, 3)), np.eye(3) * 10, np.array([14]))
    interchange.write_structure(tmp_path / "si.extxyz", structure)
    with pytest.raises(InputError, match=r"si.extxyz: holds Si.*Expected only elements of the training data: C"):
        stages.overlap(tmp_path / "si.extxyz", table, tmp_path / "overlap")
    assert not (tmp_path / "overlap").exists()


def test_converting_keeps_the_structure(raw, tmp_path):
    stages.convert(raw / "deep/000", tmp_path / "folder")
    stages.convert(tmp_path / "folder", tmp_path / "s.extxyz", "structure")
    found, known = interchange.read_structure(tmp_path / "s.extxyz"), readers.read(raw / "deep/000").structure
    assert np.allclose(found.positions, known.positions, atol=1e-7)


def test_converting_to_the_old_folders_of_deeph_and_back_is_exact(raw, tmp_path):
    stages.convert(raw / "deep/000", tmp_path / "old", "deeph-legacy")
    stages.convert(tmp_path / "old", tmp_path / "new")
    before, after = readers.read(raw / "deep/000"), readers.read(tmp_path / "new")
    np.testing.assert_array_equal(before.hamiltonian.values, after.hamiltonian.values)
    np.testing.assert_array_equal(before.overlap.values, after.overlap.values)
    np.testing.assert_array_equal(before.structure.positions, after.structure.positions)
    assert (before.basis, before.fermi_level, before.spin) == (after.basis, after.fermi_level, after.spin)


def test_converting_to_what_is_unknown_is_refused(raw, tmp_path):
    with pytest.raises(InputError, match="deeph, deeph-legacy or structure"):
        stages.convert(raw / "deep/000", tmp_path / "x", "cube")


def test_a_full_disk_leaves_no_part_of_a_table(tmp_path, monkeypatch):
    def full(file: Path, *_: object, **__: object) -> None:
        file.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        stages._write_json(tmp_path / "table.json", {})
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_calculations_to_judge_it_gets_a_note_in_place_of_its_errors(tmp_path, monkeypatch):
    def nothing(checkpoint: Path, shards: object, split: str, *_: object) -> None:
        raise evaluation.EmptyPartError(checkpoint, f"its part {split!r} has no calculation in these shards")

    monkeypatch.setattr(evaluation, "evaluate_checkpoint", nothing)
    stages.evaluate(Path("c.pt"), [], tmp_path / "evaluation.json")
    table = json.loads((tmp_path / "evaluation.json").read_text())
    assert (table["split"], table["hamiltonian"]) == ("validation", None)
    assert "there is no validation calculation" in table["note"]
    assert read_evaluation(tmp_path / "evaluation.json") is None


def test_fermi_levels_of_references_are_counted_whether_the_code_left_bands_or_not(example, tmp_path):
    calculation = stages.read(example / "references/AB", tmp_path / "AB")
    own = read_spectrum(tmp_path / "AB" / matching.OWN_BANDS)
    elsewhere = replace(own, kpoints=own.kpoints[:1] + 0.1, energies=own.energies[:, :1], labels=())
    computed = matching.reference_bands(tmp_path / "AB", elsewhere)
    assert computed.fermi_level == own.fermi_level == pytest.approx(fermi_level(calculation), abs=1e-9)
    assert computed.fermi_level != calculation.fermi_level


def test_one_number_of_bands_serves_cells_of_all_sizes(example, tmp_path):
    stages.read(example / "references/AB", tmp_path / "AB")
    settings = BandsSection(solver="shift_invert", n_bands=24, path="GM", density=1.0)
    spectrum = stages.bands(tmp_path / "AB", tmp_path / "bands.h5", settings)
    assert spectrum.energies.shape[2] == 20  # all of four atoms


def test_the_treatment_of_spin_shows_in_the_blocks(shard):
    c = open_shard(shard).calculation(0)
    assert matching.spin_of(c.hamiltonian, c.overlap) is Spin.NONE


def with_radius(of: Path, out: Path, name: str, radius: float, inferred: bool) -> Path:
    """A shard with the first calculation of another, whose carbon has another radius."""
    c = open_shard(of).calculation(0)
    write_shard(out, [(name, replace(c, basis=Basis({6: replace(c.basis[6], cutoff=radius, inferred=inferred)})))])
    return out


def test_overlaps_of_shards_with_inferred_radii_reach_as_far_as_the_largest(shard, tmp_path):
    shards = [with_radius(shard, tmp_path / f"{k}.zarr", f"c/{k}", r, True) for k, r in enumerate((2.64, 2.65, 2.63))]
    stages.overlap_table(shards, tmp_path / "overlap.npz")
    known = from_data.read_table(tmp_path / "overlap.npz")
    assert known.basis[6].cutoff == 2.65
    assert known.bonds[6, 6].cutoff == pytest.approx(5.3)


def test_shards_with_two_bases_for_one_element_are_refused_by_calculation(shard, tmp_path):
    other = with_radius(shard, tmp_path / "other.zarr", "mine/007", 3.0, False)
    with pytest.raises(InputError, match=r"other.zarr: mine/007: C has the basis .* 3.0000 Å.*as in the shards before it"):
        stages.overlap_table([shard, other], tmp_path / "overlap.npz")
    assert not (tmp_path / "overlap.npz").exists()


def test_densities_of_states_are_written_with_a_figure_of_each_projection(example, tmp_path):
    stages.read(example / "references/AB", tmp_path / "AB")
    settings = DosSection(mesh=(6, 6, 1), projections=("layer", "shell"), formats=("svg",), width=0.2)
    stages.dos(tmp_path / "AB", tmp_path / "dos.h5", settings)
    found = read_dos(tmp_path / "dos.h5")
    assert found.projected["layer"].groups == ("layer 1", "layer 2") and found.record["k_points"] == 20
    assert np.allclose(
        found.projected["layer"].values[..., 0], found.projected["layer"].values[..., 1], atol=1e-6
    )  # AB: by symmetry
    assert {path.name for path in tmp_path.iterdir()} == {"AB", "dos.h5", "dos.svg", "dos_layer.svg", "dos_shell.svg"}


def test_bands_keep_weights_and_velocities_if_told_so(example, tmp_path):
    stages.read(example / "references/AB", tmp_path / "AB")
    settings = BandsSection(path="GK", density=5, projections=("layer",), velocities=True)
    stages.bands(tmp_path / "AB", tmp_path / "bands.h5", settings)
    found = read_spectrum(tmp_path / "bands.h5")
    assert np.allclose(found.weights["layer"].values.sum(axis=-1), 1.0, rtol=0, atol=1e-10)
    assert found.velocities.shape == (*found.energies.shape, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"AB", "bands.h5", "bands.png", "bands_layer.png"}


def test_bands_of_a_twist_are_unfolded_onto_its_layers(example, tmp_path):
    stages.read(example / "references/twisted_1_2", tmp_path / "twist")
    stages.unfold(tmp_path / "twist", tmp_path / "unfold.png", UnfoldSection(layer=2, path="KG", density=2, n_bands=30))
    found = read_spectrum(tmp_path / "unfold.h5")
    assert found.record["layer"] == "layer 2" and found.record["primitive_cells"] == 7
    assert found.energies.shape[2] == 30 and found.weights["unfolded"].values.max() > 0.9
    assert {path.name for path in tmp_path.iterdir()} == {"twist", "unfold.h5", "unfold.png"}
