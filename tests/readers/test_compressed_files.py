"""Raw files as people keep them: plain, .gz, .xz, .zst; damaged ones are refused."""

import gzip
import hashlib
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from orbitrace import readers
from orbitrace.errors import InputError
from orbitrace.readers import _files

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_calculations_are_the_plain_ones(tmp_path: Path, scfout: bytes, report: str, suffix: str) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    (plain / "openmx.scfout").write_bytes(scfout)
    (plain / "openmx.out").write_text(report)
    stored = COMPRESS[suffix](scfout)
    (packed / f"openmx.scfout{suffix}").write_bytes(stored)
    (packed / f"openmx.out{suffix}").write_bytes(COMPRESS[suffix](report.encode()))
    a, b = readers.read(plain), readers.read(packed)
    np.testing.assert_array_equal(a.hamiltonian.values, b.hamiltonian.values)
    assert a.provenance.version == b.provenance.version
    assert b.provenance.hashes == {f"openmx.scfout{suffix}": hashlib.sha256(stored).hexdigest()}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_compressed_files_cut_short(tmp_path: Path, scfout: bytes, suffix: str, share: float) -> None:
    stored = COMPRESS[suffix](scfout)
    file = tmp_path / f"openmx.scfout{suffix}"
    file.write_bytes(stored[: int(share * len(stored))])
    with pytest.raises(InputError, match=r"cut short|is empty"):
        readers.read(tmp_path)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_that_are_something_else(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"openmx.scfout{suffix}").write_bytes(b"no compressed data at all" * 10)
    with pytest.raises(InputError, match="compressed data damaged"):
        readers.read(tmp_path)


def test_files_of_several_frames(tmp_path: Path) -> None:
    for suffix, compress in COMPRESS.items():
        (tmp_path / f"x{suffix}").write_bytes(compress(b"one, ") + compress(b"two"))
        assert bytes(_files.contents(tmp_path / f"x{suffix}")) == b"one, two"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        _files.contents(tmp_path)


def test_the_report_belongs_to_the_file_of_the_same_name(tmp_path: Path) -> None:
    for name in ("run.out.xz", "other.out", "run.scfout.zst"):
        (tmp_path / name).touch()
    assert _files.beside(tmp_path / "run.scfout.zst", ".out") == tmp_path / "run.out.xz"
    assert _files.beside(tmp_path / "run.scfout.zst", ".Band") is None
