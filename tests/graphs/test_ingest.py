"""Many raw calculations become one shard, in order; what is bad is named with its cause, and stops nothing else."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import zarr
from synthetic_calculations import assert_equal, calculation

from orbitrace.errors import InputError
from orbitrace.graphs.ingest import Entry, IngestReport, ingest, quarantine_table
from orbitrace.graphs.shards import open_shard
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis, Shells


def read(path: Path, code: str) -> Calculation:
    """A stand-in for a reader: the name of the folder says what happens."""
    kind, _, seed = path.name.partition("-")
    if kind == "nan":
        raise InputError(path / "run.scfout", "3 elements of H are NaN", "finite values", "Run the calculation again")
    if kind == "defect":
        return [][1]  # type: ignore[no-any-return]
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "slow":
        time.sleep(0.3)
    if kind == "basis":
        return calculation(seed=int(seed), elements=(6,), basis=Basis({6: Shells((0, 1), 2.0, 4.0)}))
    return calculation(seed=int(seed), elements=(6,))


def entries(*names: str) -> list[Entry]:
    return [Entry(name.replace("-", "/"), Path("/raw") / name, "synthetic") for name in names]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "0000.zarr"


def rows(report: IngestReport) -> list[list[str]]:
    return [line.split("\t") for line in report.table.read_text().splitlines()]


def test_good_calculations_are_in_the_shard_in_order(out: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    report = ingest(entries("ok-3", "ok-1", "ok-2"), read, out, progress=lambda *args: seen.append(args))
    shard = open_shard(out)
    assert report.shard == out
    assert report.ids == shard.ids == ("ok/3", "ok/1", "ok/2")
    assert report.quarantined == ()
    assert seen == [(1, 3, "ok/3"), (2, 3, "ok/1"), (3, 3, "ok/2")]
    assert_equal(shard.calculation(0), calculation(seed=3, elements=(6,)))
    assert rows(report) == [["id", "path", "cause"]]


def test_several_workers_write_the_same_shard_as_one(out: Path, tmp_path: Path) -> None:
    names = ("slow-1", "ok-2", "nan-0", "ok-3", "slow-4", "ok-5")
    one = ingest(entries(*names), read, out)
    two = ingest(entries(*names), read, tmp_path / "two.zarr", workers=2)
    assert one.ids == two.ids == ("slow/1", "ok/2", "ok/3", "slow/4", "ok/5")
    assert [q.cause for q in one.quarantined] == [q.cause for q in two.quarantined]
    assert open_shard(out).digest == open_shard(tmp_path / "two.zarr").digest


def test_bad_calculations_are_quarantined_by_name_and_cause(out: Path) -> None:
    report = ingest(entries("ok-1", "nan-0", "ok-2", "defect-0", "basis-7"), read, out)
    assert report.ids == ("ok/1", "ok/2")
    assert [q.id for q in report.quarantined] == ["nan/0", "defect/0", "basis/7"]
    table = rows(report)
    assert report.table == quarantine_table(out) == out.with_name("0000.quarantine.tsv")
    assert [row[:2] for row in table[1:]] == [[q.id, str(q.path)] for q in report.quarantined]
    assert "3 elements of H are NaN" in table[1][2]
    assert "reading it failed with IndexError" in table[2][2]
    assert "test_ingest.py" in table[2][2]
    assert "C has the basis s1p1" in table[3][2]


def test_stop_ends_with_the_error_of_the_calculation(out: Path) -> None:
    with pytest.raises(InputError, match=r"calculation nan/0 \(/raw/nan-0/run.scfout\): 3 elements of H are NaN"):
        ingest(entries("ok-1", "nan-0", "ok-2"), read, out, on_bad="stop")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["defect-0", "basis-1"])
def test_stop_ends_with_any_kind_of_bad_calculation(out: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"calculation {name.replace('-', '/')}"):
        ingest(entries("ok-1", name), read, out, on_bad="stop")


def test_all_bad_is_an_error_and_lists_them(out: Path) -> None:
    with pytest.raises(InputError, match=r"all 2 calculations are bad; the first: calculation nan/0"):
        ingest(entries("nan-0", "defect-1"), read, out)
    assert [item.name for item in out.parent.iterdir()] == ["0000.quarantine.tsv"]


def test_all_bad_can_be_an_empty_shard(out: Path) -> None:
    report = ingest(entries("nan-0"), read, out, allow_empty=True)
    assert (report.ids, len(report.quarantined), len(open_shard(out))) == ((), 1, 0)


def test_a_worker_that_is_killed_costs_only_its_own_calculation(out: Path) -> None:
    report = ingest(entries("ok-1", "killed-0", "ok-2", "ok-3"), read, out, workers=2)
    assert report.ids == ("ok/1", "ok/2", "ok/3")
    assert [q.id for q in report.quarantined] == ["killed/0"]
    assert "the process that read it was killed" in report.quarantined[0].cause


def test_no_more_calculations_are_under_way_than_workers(out: Path) -> None:
    """What was handed to the pool, counted at each result, never exceeds one per worker and the one being written."""
    from orbitrace.graphs import reading as module

    class Counting(module.ProcessPoolExecutor):
        submitted = 0

        def submit(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            type(self).submitted += 1
            return super().submit(*args, **kwargs)  # type: ignore[arg-type]

    margins: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ProcessPoolExecutor", Counting)
        names = [f"ok-{k}" for k in range(8)]
        ingest(entries(*names), read, out, workers=2, progress=lambda done, *_: margins.append(Counting.submitted - done))
    assert max(margins) <= 2


def test_a_full_disk_is_no_fault_of_a_calculation(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zarr.storage.LocalStore, "set", refuse)
    with pytest.raises(InputError, match="the disk that holds it is full"):
        ingest(entries("ok-1", "ok-2"), read, out)
    assert list(out.parent.iterdir()) == []


def test_a_full_disk_while_the_quarantine_table_is_written_leaves_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(InputError, match=r"0000\.quarantine\.tsv: the disk that holds it is full"):
        ingest(entries("ok-1", "nan-0"), read, out)
    assert list(out.parent.iterdir()) == []


def test_white_space_in_names_does_not_break_the_table(out: Path) -> None:
    report = ingest([*entries("ok-1"), Entry("a\tb\nc", Path("/raw/nan-0"), "synthetic")], read, out)
    assert rows(report)[1][0] == "a b c"
    assert len(rows(report)) == 2


def test_options_that_make_no_sense_are_refused(out: Path) -> None:
    with pytest.raises(InputError, match="no calculation to put into this shard"):
        ingest([], read, out)
    with pytest.raises(InputError, match="0 workers"):
        ingest(entries("ok-1"), read, out, workers=0)
    with pytest.raises(InputError, match="'skip'"):
        ingest(entries("ok-1"), read, out, on_bad="skip")  # type: ignore[arg-type]
