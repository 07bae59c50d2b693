"""The manifest: what is discovered, in which shard it is for ever, and what changes a shard's digest."""

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from orbitrace import manifest as manifests
from orbitrace.errors import InputError
from orbitrace.manifest import Manifest, read_digests, read_manifest, scan, split_of, write_manifest

MARKERS = {"openmx": ("*.scfout", "*.scfout.xz"), "siesta": ("*.HSX",)}
BESIDE = {"openmx": ("*.out",)}


def drop(folder: Path, *ids: str, name: str = "run.scfout", content: str = "H") -> None:
    """Make raw calculations."""
    for i in ids:
        (folder / i).mkdir(parents=True, exist_ok=True)
        (folder / i / name).write_text(content)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "bilayers"
    drop(folder, "000", "001", "a/b/c/002", "a/003", "a/003/nested")
    return folder


def look(folder: Path, previous: Manifest | None = None, shard_size: int = 3, **options: object) -> Manifest:
    return scan(folder, MARKERS, previous, shard_size, beside=BESIDE, **options)  # type: ignore[arg-type]


def shards(manifest: Manifest) -> dict[int, list[str]]:
    return {number: [c.id for c in members] for number, members in manifest.shards.items()}


def differing(before: Manifest, after: Manifest) -> set[int]:
    """Shards that must be built after a change: those with a new digest."""
    return {shard for shard, digest in after.digests.items() if before.digests.get(shard) != digest}


# --- discovery -------------------------------------------------------------------------------------------------------------


def test_calculations_are_found_at_any_depth_and_within_each_other(data: Path) -> None:
    manifest = look(data)
    assert list(manifest.calculations) == ["000", "001", "a/003", "a/003/nested", "a/b/c/002"]
    assert (manifest.dataset, manifest.shard_size) == ("bilayers", 3)
    assert {c.code for c in manifest.calculations.values()} == {"openmx"}


def test_codes_are_told_apart_by_their_files(data: Path) -> None:
    drop(data, "s", name="label.HSX")
    drop(data, "x", name="run.scfout.xz")
    found = look(data).calculations
    assert (found["s"].code, found["x"].code) == ("siesta", "openmx")


def test_only_files_that_a_reader_reads_are_recorded(data: Path) -> None:
    for name in ("run.out", "run.cube", "notes.txt", ".run.scfout"):
        (data / "000" / name).write_text("12345")
    files = look(data).calculations["000"].files
    assert [(f.name, f.size, f.sha256) for f in files] == [("run.out", 5, ""), ("run.scfout", 1, "")]
    assert files[1].mtime_ns == (data / "000" / "run.scfout").stat().st_mtime_ns


def test_hidden_folders_are_passed_over(data: Path) -> None:
    drop(data, ".trash/000", "a/.old")
    assert len(look(data).calculations) == 5


def test_a_folder_that_is_itself_a_calculation_is_one(data: Path) -> None:
    assert list(look(data / "000").calculations) == ["."]


def test_links_to_folders_are_followed_but_never_in_circles(data: Path, tmp_path: Path) -> None:
    drop(tmp_path / "elsewhere", "deep/100")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "a" / "up").symlink_to(data)
    (data / "a" / "here").symlink_to(data / "a")
    (tmp_path / "elsewhere" / "back").symlink_to(data / "a")
    (data / "broken").symlink_to(tmp_path / "nowhere")
    link = tmp_path / "data" / "link"
    link.symlink_to(data)
    manifest = look(link)
    assert manifest.dataset == "link"
    assert {"000", "linked/deep/100"} <= set(manifest.calculations)
    assert not any("up" in i or "here" in i for i in manifest.calculations)


def test_a_marker_that_links_to_nothing_marks_nothing(data: Path, tmp_path: Path) -> None:
    (data / "gone").mkdir()
    (data / "gone" / "run.scfout").symlink_to(tmp_path / "nowhere")
    (data / "gone" / "run.out").write_text("")
    assert "gone" not in look(data).calculations


def test_odd_names_survive(data: Path, tmp_path: Path) -> None:
    odd = ["tab\there", "new\nline", 'quote"', "ångström", os.fsdecode(b"latin1-\xe9")]
    drop(data, *odd)
    first = look(data)
    file = tmp_path / "manifest.json"
    write_manifest(file, first)
    assert read_manifest(file) == first
    assert set(odd) < set(first.calculations)


# --- shards are stable -----------------------------------------------------------------------------------------------------


def test_the_first_scan_fills_shards_in_order(data: Path) -> None:
    assert shards(look(data)) == {0: ["000", "001", "a/003"], 1: ["a/003/nested", "a/b/c/002"]}


def test_nothing_new_changes_nothing(data: Path) -> None:
    first = look(data)
    assert look(data, first) == first
    assert look(data, first).digests == first.digests
    assert look(data, first).changes_since(first) == ((), (), ())


@pytest.mark.parametrize("new", ["0000", "zzz", "a/0"])
def test_one_new_calculation_changes_one_shard_and_moves_nothing(data: Path, new: str) -> None:
    before = look(data)
    for k in range(4):  # fills the last shard, then opens new ones
        drop(data, f"{new}{k}")
        after = look(data, before)
        assert len(differing(before, after)) == 1
        assert all(after.calculations[i].shard == c.shard for i, c in before.calculations.items())
        assert after.changes_since(before) == ((f"{new}{k}",), (), ())
        before = after
    assert [len(members) for members in shards(before).values()] == [3, 3, 3]


def test_a_removed_calculation_changes_its_own_shard_and_its_place_stays_empty(data: Path) -> None:
    before = look(data)
    shutil.rmtree(data / "001")
    after = look(data, before)
    assert differing(before, after) == {0}
    assert after.changes_since(before).removed == ("001",)
    drop(data, "new1", "new2")
    assert shards(look(data, after)) == {0: ["000", "a/003"], 1: ["a/003/nested", "a/b/c/002", "new1"], 2: ["new2"]}


def test_a_calculation_that_comes_back_finds_its_place(data: Path) -> None:
    first = look(data)
    (data / "001").rename(data.parent / "001")
    second = look(data, first)
    drop(data, "new")
    third = look(data, second)
    (data.parent / "001").rename(data / "001")
    fourth = look(data, third)
    assert fourth.digests[0] == first.digests[0]
    assert fourth.removed == {}
    assert fourth.calculations["001"].shard == 0


def test_a_shard_whose_calculations_are_all_gone_is_no_more(data: Path) -> None:
    before = look(data, shard_size=1)
    shutil.rmtree(data / "001")
    after = look(data, before, shard_size=1)
    assert set(after.digests) == {0, 2, 3, 4}
    assert differing(before, after) == set()


def test_another_shard_size_holds_for_new_calculations_only(data: Path) -> None:
    before = look(data, shard_size=3)
    drop(data, "x1", "x2", "x3")
    after = look(data, before, shard_size=2)
    assert shards(after) == {**shards(before), 2: ["x1", "x2"], 3: ["x3"]}


def test_the_order_in_which_the_disk_lists_folders_does_not_matter(tmp_path: Path) -> None:
    ids = [f"{k:02d}" for k in range(20)]
    for name, order in (("one", ids), ("two", ids[::-1])):
        drop(tmp_path / name / "set", *order)
        for i in ids:
            os.utime(tmp_path / name / "set" / i / "run.scfout", (1, 1))
    assert look(tmp_path / "one" / "set") == look(tmp_path / "two" / "set")


# --- what counts as a change -----------------------------------------------------------------------------------------------


def test_a_changed_file_changes_its_shard(data: Path) -> None:
    before = look(data)
    drop(data, "a/003", content="longer")
    after = look(data, before)
    assert differing(before, after) == {0}
    assert after.changes_since(before).changed == ("a/003",)


def test_a_file_beside_the_marker_counts(data: Path) -> None:
    before = look(data)
    (data / "a/b/c/002/run.out").write_text("")
    assert differing(before, look(data, before)) == {1}
    (data / "a/b/c/002/notes.txt").write_text("")
    assert differing(look(data, before), look(data, before)) == set()


def test_a_touched_file_is_a_change_by_time_but_not_by_content(data: Path) -> None:
    by_time, by_content = look(data), look(data, policy="hash")
    os.utime(data / "000" / "run.scfout", (1, 1))
    assert differing(by_time, look(data, by_time)) == {0}
    assert differing(by_content, look(data, by_content, policy="hash")) == set()


def test_a_change_that_keeps_the_size_is_seen_by_content(data: Path) -> None:
    before = look(data, policy="hash")
    time.sleep(0.01)
    drop(data, "000", content="S")
    after = look(data, before, policy="hash")
    assert differing(before, after) == {0}
    assert after.changes_since(before).changed == ("000",)


def test_a_copy_of_the_data_has_the_same_digests_by_content(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "copy" / "bilayers", copy_function=shutil.copyfile)
    assert look(data, policy="hash").digests == look(tmp_path / "copy" / "bilayers", policy="hash").digests


def test_files_that_did_not_change_are_not_hashed_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import orbitrace.discovery as discovery

    before = look(data, policy="hash")
    hashed: list[Path] = []
    original = discovery._sha256
    monkeypatch.setattr(discovery, "_sha256", lambda file: hashed.append(file) or original(file))
    look(data, before, policy="hash")
    assert hashed == []
    drop(data, "new")
    look(data, before, policy="hash")
    assert hashed == [data / "new" / "run.scfout"]


# --- the file --------------------------------------------------------------------------------------------------------------


def test_a_manifest_comes_back_from_its_file(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "results" / "manifest.json"
    first = look(data, policy="hash")
    shutil.rmtree(data / "001")
    second = look(data, first, policy="hash")
    assert write_manifest(file, second)
    assert read_manifest(file) == second
    assert read_digests(file) == second.digests
    assert [item.name for item in file.parent.iterdir()] == ["manifest.json"]


def test_an_unchanged_manifest_leaves_bytes_and_time_of_the_file(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    write_manifest(file, look(data))
    os.utime(file, (1, 1))
    before = file.read_bytes()
    assert not write_manifest(file, look(data, read_manifest(file)))
    assert (file.read_bytes(), file.stat().st_mtime) == (before, 1)


def test_the_file_has_one_line_per_calculation(data: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.json", look(data))
    assert len([line for line in (tmp_path / "m.json").read_text().splitlines() if '"openmx"' in line]) == 5


@pytest.mark.parametrize("cut", [0, 10, 200, -20])
def test_a_truncated_manifest_says_what_to_do(data: Path, tmp_path: Path, cut: int) -> None:
    file = tmp_path / "manifest.json"
    write_manifest(file, look(data))
    file.write_text(file.read_text()[:cut])
    with pytest.raises(InputError, match=r"manifest\.json: the manifest is damaged.*delete it and scan again"):
        read_manifest(file)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"schema": 1}',
        '{"schema": 1, "calculations": [], "removed": {}}',
        "\x00\x01",
        '{"schema": 1'.encode("utf-16"),
    ],
)
def test_a_damaged_manifest_says_what_to_do(tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "manifest.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (read_manifest, read_digests):
        with pytest.raises(InputError, match="the manifest is damaged"):
            read(file)


def test_a_manifest_of_another_version_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "SCHEMA", 7)
    write_manifest(tmp_path / "m.json", look(data))
    monkeypatch.undo()
    for read in (read_manifest, read_digests):
        with pytest.raises(InputError, match=r"schema version 7\. Expected version 1"):
            read(tmp_path / "m.json")


def test_a_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="orbitrace scan"):
        read_manifest(tmp_path / "manifest.json")


# --- wrong input -----------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bilayer: there is no such folder.*name of the data set"):
        look(tmp_path / "bilayer")


def test_an_empty_folder_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"no calculation was found.*\*\.scfout, \*\.scfout\.xz \(openmx\); \*\.HSX \(siesta\)"
    ):
        look(tmp_path / "empty")


def test_outputs_of_two_codes_in_one_folder_are_refused(data: Path) -> None:
    drop(data, "000", name="label.HSX")
    with pytest.raises(
        InputError, match=r"000: outputs of two codes in one folder: run\.scfout \(openmx\), label\.HSX \(siesta\)"
    ):
        look(data)


def test_a_folder_that_cannot_be_listed_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"it cannot be read \(Permission denied\)"):
        look(data)


def test_options_that_make_no_sense_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="0 calculations per shard"):
        look(data, shard_size=0)
    with pytest.raises(InputError, match="unknown policy 'size'"):
        look(data, policy="size")


# --- splits ----------------------------------------------------------------------------------------------------------------


def test_splits_have_the_shares_that_were_asked_for() -> None:
    parts = Counter(split_of(f"set/{k:05d}", {"test": 0.1, "validation": 0.2}) for k in range(20000))
    assert parts["test"] == pytest.approx(2000, rel=0.1)
    assert parts["validation"] == pytest.approx(4000, rel=0.1)


def test_a_split_is_a_function_of_id_and_seed_alone() -> None:
    ids = [f"{k:03d}" for k in range(500)]
    shares = {"test": 0.2, "validation": 0.2}
    assert [split_of(i, shares) for i in ids] == [split_of(i, shares) for i in ids]
    assert [split_of(i, shares) for i in ids] != [split_of(i, shares, seed=1) for i in ids]
    # Written down, so that no later version moves a calculation.
    parts = {part: [i for i in ids[:12] if split_of(i, shares) == part] for part in shares}
    assert parts == {"test": ["005", "011"], "validation": ["007", "008"]}


def test_a_larger_last_part_takes_from_training_only() -> None:
    ids = [f"{k:04d}" for k in range(2000)]
    for i in ids:
        before, after = split_of(i, {"test": 0.1, "validation": 0.1}), split_of(i, {"test": 0.1, "validation": 0.3})
        assert before == after or (before, after) == ("train", "validation")


@pytest.mark.parametrize("fractions", [{"test": -0.1}, {"test": 0.5, "validation": 0.5}, {"validation": 1.5}])
def test_shares_that_leave_nothing_to_train_on_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(InputError, match="sum below 1"):
        split_of("000", fractions)


# --- size ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_calculations_are_scanned_in_seconds(tmp_path: Path) -> None:
    for k in range(20_000):
        drop(tmp_path / "set", f"{k // 1000:03d}/{k:06d}")
    file = tmp_path / "manifest.json"
    write_manifest(file, look(tmp_path / "set", shard_size=500))
    begin = time.perf_counter()
    assert not write_manifest(file, look(tmp_path / "set", read_manifest(file), shard_size=500))
    assert time.perf_counter() - begin < 10  # about 1 s; the rest is for a busy machine
    assert len(read_digests(file)) == 40
