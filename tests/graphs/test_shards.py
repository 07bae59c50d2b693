"""A shard gives back, to the last bit, what was written; and it is whole, or it is not there."""

import asyncio
import errno
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from synthetic_calculations import BASIS, assert_equal, calculation

from orbitrace.errors import InputError
from orbitrace.graphs import store
from orbitrace.graphs.records import COLUMNS
from orbitrace.graphs.shards import open_shard, shard_writer, write_shard
from orbitrace.graphs.traces import trace_labels
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import Basis, Shells

# All kinds that may meet in one shard: without spin, collinear, complex; H and S over other pairs; a molecule; unknown level.
MIXED = {
    "a": calculation(seed=1),
    "b/1": calculation(seed=2, spin=Spin.NONCOLLINEAR),
    "b/2": calculation(seed=3, spin=Spin.COLLINEAR, n_atoms=2),
    "c": calculation(seed=4, own_overlap_pairs=True),
    "molecule": calculation(seed=5, pbc=(False, False, False), n_atoms=6, elements=(1, 6)),
    "prediction": replace(calculation(seed=6, n_atoms=1, fermi_level=None), n_electrons=None),
    "h0": replace(calculation(seed=7), initial=calculation(seed=7).hamiltonian),
    "h0 with spin": replace(
        calculation(seed=8, spin=Spin.NONCOLLINEAR), initial=calculation(seed=8, spin=Spin.NONCOLLINEAR).hamiltonian
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shards" / "0000.zarr"


@pytest.fixture
def shard_path(path: Path) -> Path:
    write_shard(path, MIXED.items())
    return path


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("chunk_bytes", [4000, store.CHUNK_BYTES])
def test_calculations_come_back_to_the_last_bit(path: Path, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", chunk_bytes)
    write_shard(path, MIXED.items())
    shard = open_shard(path)
    shard.verify()
    assert shard.ids == tuple(MIXED)
    assert len(shard) == len(MIXED)
    for k, original in enumerate(MIXED.values()):
        assert_equal(shard.calculation(k), original)
        np.testing.assert_array_equal(shard.structure(k).positions, original.structure.positions)


def test_trace_labels_stand_beside_the_blocks(shard_path: Path) -> None:
    shard = open_shard(shard_path)
    for k, c in enumerate(MIXED.values()):
        np.testing.assert_array_equal(
            shard.trace_labels(k), trace_labels(c.hamiltonian, c.structure, c.basis, c.spin.components)
        )


def test_the_basis_of_a_shard_holds_all_its_elements(shard_path: Path) -> None:
    assert open_shard(shard_path).basis == BASIS.restricted({z for c in MIXED.values() for z in c.structure.elements})


def test_arrays_are_flat_and_not_compressed(shard_path: Path) -> None:
    group = zarr.open_group(shard_path, mode="r")
    assert sorted(name for name, _ in group.arrays()) == sorted([*COLUMNS, "offsets"])
    for _, array in group.arrays():
        assert array.metadata.zarr_format == 3
        assert array.compressors == ()
        assert array.attrs["about"]


def test_the_digest_follows_the_contents_and_not_their_place(path: Path) -> None:
    def digest(items: dict[str, Calculation]) -> str:
        write_shard(path, items.items())
        return open_shard(path).digest

    first = digest(MIXED)
    elsewhere = replace(MIXED["a"], provenance=Provenance("synthetic", "1", "another/and/longer/folder"))
    values = MIXED["a"].hamiltonian.values.copy()
    values[0] = np.nextafter(values[0], np.inf)
    changed = replace(MIXED["a"], hamiltonian=MIXED["a"].hamiltonian.with_values(values))
    assert digest({**MIXED, "a": elsewhere}) == first
    assert digest({**MIXED, "a": changed}) != first
    assert digest({("x" if i == "a" else i): c for i, c in MIXED.items()}) != first


def test_an_opened_shard_travels_to_other_processes(shard_path: Path) -> None:
    shard = open_shard(shard_path)
    shard.calculation(0)
    travelled = pickle.loads(pickle.dumps(shard))
    assert travelled.digest == shard.digest
    assert_equal(travelled.calculation(1), MIXED["b/1"])


def test_odd_ids_survive(path: Path) -> None:
    ids = ("tab\there", 'quote"', "ångström", os.fsdecode(b"latin1-\xe9"))
    write_shard(path, [(i, MIXED["prediction"]) for i in ids])
    shard = open_shard(path)
    shard.verify()
    assert shard.ids == ids


def test_numbers_beyond_the_shard_are_refused(shard_path: Path) -> None:
    shard = open_shard(shard_path)
    for k in (-1, len(shard)):
        with pytest.raises(IndexError):
            shard.calculation(k)


def test_an_empty_shard_can_be_read(path: Path) -> None:
    write_shard(path, [])
    shard = open_shard(path)
    shard.verify()
    assert (len(shard), shard.ids, shard.basis.elements) == (0, (), ())


def test_only_what_does_not_fill_a_chunk_is_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of 24 calculations takes no more memory than a few of them."""
    import tracemalloc

    monkeypatch.setattr(store, "CHUNK_BYTES", 2**18)
    size = calculation(n_atoms=12).hamiltonian.values.nbytes * 2
    tracemalloc.start()
    write_shard(path, ((str(k), calculation(seed=k, n_atoms=12)) for k in range(24)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * size / 2


# --- wrong input -----------------------------------------------------------------------------------------------------------


def test_another_basis_of_an_element_is_refused_by_name(path: Path) -> None:
    other = Basis({**BASIS.shells, 6: Shells((0, 1), 2.0, 4.0)})
    items = [("first", calculation(elements=(6,))), ("second", calculation(elements=(6,), basis=other))]
    with pytest.raises(InputError, match=r"calculation second: C has the basis s1p1 .* Expected s2p1") as caught:
        write_shard(path, items)
    assert caught.value.remedy
    assert names(path.parent) == []


def test_an_id_that_occurs_twice_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="calculation x: this id occurs twice"):
        write_shard(path, [("x", MIXED["a"]), ("x", MIXED["a"])])
    assert names(path.parent) == []


def test_blocks_that_do_not_fit_the_basis_are_refused(path: Path) -> None:
    c = MIXED["a"]
    with pytest.raises(InputError, match=r"calculation x: .* blocks of the Hamiltonian do not fit the basis"):
        write_shard(path, [("x", replace(c, spin=Spin.COLLINEAR))])


def test_h0_over_other_pairs_is_refused(path: Path) -> None:
    c = MIXED["a"]
    with pytest.raises(InputError, match=r"calculation x: its reference Hamiltonian H0 has \d+ blocks over other pairs"):
        write_shard(path, [("x", replace(c, initial=calculation(seed=9).hamiltonian))])


def test_a_shard_of_before_h0_was_kept_is_read(path: Path) -> None:
    """Its digest is what it was, so that nothing is trained again for it."""
    write_shard(path, [("a", MIXED["a"]), ("b", MIXED["b/1"])])
    offsets = np.asarray(open_shard(path)._store["offsets"])[:, :6]
    shutil.rmtree(path / "initial")
    shutil.rmtree(path / "offsets")
    group = zarr.open_group(path)
    attributes = dict(group.attrs)
    group.create_array("offsets", data=offsets, compressors=None, filters=None)
    edit_attributes(path, offsets=attributes["offsets"][:6])
    shard = open_shard(path)
    assert_equal(shard.calculation(0), MIXED["a"])
    assert_equal(shard.calculation(1), MIXED["b/1"])


def test_a_complex_overlap_is_refused(path: Path) -> None:
    c = MIXED["a"]
    with pytest.raises(InputError, match="the overlap is complex"):
        write_shard(path, [("x", replace(c, overlap=c.overlap.with_values(c.overlap.values * 1j)))])


def test_a_missing_shard_says_what_to_run(path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no shard.*orbitrace shard"):
        open_shard(path)


def edit_attributes(path: Path, **changes: object) -> None:
    data = json.loads((path / "zarr.json").read_text())
    data["attributes"] = {k: v for k, v in {**data["attributes"], **changes}.items() if v is not None}
    (path / "zarr.json").write_text(json.dumps(data))


def test_a_store_that_is_no_shard_is_refused(path: Path) -> None:
    zarr.create_group(path)
    with pytest.raises(InputError, match="not a complete shard"):
        open_shard(path)


def test_a_shard_of_another_layout_is_refused_with_both_versions(shard_path: Path) -> None:
    edit_attributes(shard_path, schema=99, version="7.0")
    with pytest.raises(InputError, match=r"layout 99, written by OrbiTrace 7\.0\. Expected layout 1"):
        open_shard(shard_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attributes": 3}'])
def test_a_damaged_description_is_one_sentence(shard_path: Path, text: str) -> None:
    (shard_path / "zarr.json").write_text(text)
    with pytest.raises(InputError, match=r"0000\.zarr"):
        open_shard(shard_path)


def test_a_description_with_a_part_missing_is_one_sentence(shard_path: Path) -> None:
    edit_attributes(shard_path, ids=None)
    with pytest.raises(InputError, match="attributes of this shard are damaged"):
        open_shard(shard_path)


def test_a_lost_chunk_is_an_error_and_not_zeros(shard_path: Path) -> None:
    (shard_path / "hamiltonian" / "c" / "0").unlink()
    with pytest.raises(InputError, match=r"hamiltonian cannot be read \(1 of its 1 chunks are missing\)"):
        open_shard(shard_path).calculation(0)


def test_a_truncated_chunk_is_an_error(shard_path: Path) -> None:
    os.truncate(shard_path / "overlap" / "c" / "0", 100)
    with pytest.raises(InputError, match="overlap cannot be read"):
        open_shard(shard_path).calculation(0)


def test_verify_finds_one_flipped_bit_and_names_the_array(shard_path: Path) -> None:
    chunk = shard_path / "positions" / "c" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[17] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(InputError, match=r"not what was written: positions\."):
        open_shard(shard_path).verify()


def test_verify_finds_an_edited_attribute(shard_path: Path) -> None:
    edit_attributes(shard_path, ids=["z", *list(MIXED)[1:]])
    with pytest.raises(InputError, match="not what was written: the attributes"):
        open_shard(shard_path).verify()


# --- whole or not at all ---------------------------------------------------------------------------------------------------


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int, code: int = errno.ENOSPC) -> None:
    """Let the store refuse every write after some."""
    original, count = zarr.storage.LocalStore.set, iter(range(10**9))

    async def refuse(self: zarr.storage.LocalStore, key: str, value: object) -> None:
        if next(count) >= after:
            raise OSError(code, os.strerror(code))
        await original(self, key, value)  # type: ignore[arg-type]

    monkeypatch.setattr(zarr.storage.LocalStore, "set", refuse)


@pytest.mark.parametrize("after", [0, 1, 5, 30])
def test_a_full_disk_leaves_nothing(path: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", 1000)
    full_disk(monkeypatch, after)
    with pytest.raises(InputError, match=r"0000\.zarr: the disk that holds it is full .* Free some space"):
        write_shard(path, MIXED.items())
    assert names(path.parent) == []


def test_no_other_write_is_under_way_when_one_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would put its chunk into the folder while that is being removed."""
    original, under_way, most = zarr.storage.LocalStore.set, 0, 0

    async def slow(self: zarr.storage.LocalStore, key: str, value: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        await original(self, key, value)  # type: ignore[arg-type]
        under_way -= 1

    monkeypatch.setattr(store, "CHUNK_BYTES", 4000)
    monkeypatch.setattr(zarr.storage.LocalStore, "set", slow)
    write_shard(path, [("a", MIXED["a"])])
    assert open_shard(path).offsets[-1].max() * 8 > 2 * store.CHUNK_BYTES
    assert most == 1


def test_a_full_disk_leaves_the_old_shard(shard_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch, 20)
    with pytest.raises(InputError, match="full"):
        write_shard(shard_path, [("new", MIXED["a"])])
    monkeypatch.undo()
    open_shard(shard_path).verify()
    assert open_shard(shard_path).ids == tuple(MIXED)
    assert names(shard_path.parent) == ["0000.zarr"]


def test_another_refusal_of_the_disk_is_told_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch, 3, errno.EROFS)
    with pytest.raises(InputError, match="cannot be written \\(Read-only file system\\)"):
        write_shard(path, MIXED.items())


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_shard(tmp_path / "results" / "0.zarr", MIXED.items())


def test_an_error_while_reading_leaves_the_old_shard(shard_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), shard_writer(shard_path):
        1 / 0  # noqa: B018
    assert open_shard(shard_path).ids == tuple(MIXED)
    assert names(shard_path.parent) == ["0000.zarr"]


def test_a_shard_replaces_the_old_one(shard_path: Path) -> None:
    write_shard(shard_path, [("new", MIXED["a"])])
    assert open_shard(shard_path).ids == ("new",)
    assert names(shard_path.parent) == ["0000.zarr"]


KILLED = """
import os, signal, sys
from pathlib import Path
from orbitrace.graphs.shards import shard_writer
with shard_writer(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_job_leaves_no_shard_and_the_next_one_cleans_up(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path], check=False, timeout=60)
    assert not path.exists()
    assert len(names(path.parent)) == 1
    assert names(path.parent)[0].startswith(".")
    write_shard(path, MIXED.items())
    assert names(path.parent) == ["0000.zarr"]


def test_what_a_live_process_writes_is_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    alive = path.with_name(f".{path.name}.{platform.node()}.{os.getppid()}.partial")
    fresh = path.with_name(f".{path.name}.another.node.12.partial")
    stale = path.with_name(f".{path.name}.another.node.13.partial")
    for folder in (alive, fresh, stale):
        folder.mkdir()
    long_ago = time.time() - 2 * store.ABANDONED_AFTER
    os.utime(stale, (long_ago, long_ago))
    write_shard(path, MIXED.items())
    assert names(path.parent) == sorted([alive.name, fresh.name, path.name])
