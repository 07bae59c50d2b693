"""What every reader must be and do, whoever wrote it: all files in readers/ are found and tested here."""

import os
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.linalg

from orbitrace import interchange, plugins, readers
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Spin

NAMES = plugins.names("readers")
NAME_OF = {"[": "x", "]": "x", "*": "sample", "?": "x"}


def file_names(name: str) -> list[str]:
    """A file name for each of a reader's patterns."""
    return ["".join(NAME_OF.get(c, c) for c in pattern) for pattern in readers.markers()[name]]


def test_there_are_readers() -> None:
    assert "openmx" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_markers_are_patterns_that_no_other_reader_has(name: str) -> None:
    assert file_names(name)
    others = [pattern for other in NAMES if other != name for pattern in readers.markers()[other]]
    assert not [file for file in file_names(name) if any(fnmatch(file, pattern) for pattern in others)]


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_orbitals_lists_each_m_once(name: str) -> None:
    order = plugins.load("readers", name).ORDER
    assert set(order) >= {0, 1, 2, 3}
    for l, entries in order.items():
        assert sorted(m for m, _ in entries) == list(range(-l, l + 1))
        assert {sign for _, sign in entries} <= {1, -1}


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_says_what_it_reads(name: str) -> None:
    module = plugins.load("readers", name)
    assert module.__doc__ and callable(module.read) and module.read.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as error:
        readers.read(tmp_path, code=name)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"text\n" * 1000, bytes(range(256)) * 64])
def test_files_with_the_right_name_and_any_content_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    for number, file in enumerate(file_names(name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / file).write_bytes(content)
        assert readers.detect(folder) == name
        with pytest.raises(InputError):
            readers.read(folder)


def samples(root: Path, name: str) -> list[Path]:
    """Up to three folders of a reader's files below a folder."""
    folders = {file.parent for pattern in readers.markers()[name] for file in root.rglob(pattern)}
    return sorted(folders)[:: max(1, len(folders) // 3)][:3]


@pytest.mark.parametrize("name", NAMES)
def test_real_calculations_keep_the_conventions_of_the_house(shared_data: Path, name: str) -> None:
    folders = samples(shared_data / "formats", name)
    if not folders:
        pytest.skip(f"no samples of {name} in ../shared/data/formats")
    for folder in folders:
        found = readers.read(folder)
        h, s, structure = found.hamiltonian, found.overlap, found.structure
        np.testing.assert_array_equal(h.pairs, s.pairs)
        np.testing.assert_array_equal(h.shapes, s.shapes * found.spin.components)
        assert np.iscomplexobj(h.values) == (found.spin is Spin.NONCOLLINEAR)
        for blocks in (h, s):
            np.testing.assert_array_equal(blocks.values, blocks.dagger().values)
        assert s.onsite.sum() == structure.n_atoms
        for pair in np.flatnonzero(s.onsite):
            scipy.linalg.cholesky(s.block(int(pair)))
        cutoffs = found.basis.cutoffs(structure.numbers)
        reach = cutoffs[s.pairs[:, 3]] + cutoffs[s.pairs[:, 4]]
        near = s.lengths(structure) <= reach + 1e-4
        assert all(near[pair] or np.abs(s.block(pair)).max() < 1e-6 for pair in range(s.n_pairs))
        assert found.provenance.code and found.provenance.version and found.provenance.hashes
        assert found.provenance.source.startswith(str(folder))


def opened_below(folder: Path, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the files of a folder that a call opens, by Python or by HDF5."""
    names: set[str] = set()

    class Watched(h5py.File):
        def __init__(self, name: str | Path, *args: object, **keywords: object) -> None:
            note("open", (name,))
            super().__init__(name, *args, **keywords)

    def note(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes | Path) and WATCHING[-1] is note:
            path = Path(os.fsdecode(args[0]))
            if path.parent == folder:
                names.add(path.name)

    monkeypatch.setattr(h5py, "File", Watched)
    sys.addaudithook(note)  # cannot be taken away again, only told to be quiet
    WATCHING.append(note)
    call()
    WATCHING.pop()
    return names


WATCHING: list[object] = [None]


@pytest.mark.parametrize("name", NAMES)
def test_a_change_in_any_file_that_a_reader_opens_is_noticed(
    tmp_path: Path, example: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, name: str
) -> None:
    interchange.write_folder(tmp_path / "folder", readers.read(example / "references" / "AB"))
    folders = [*samples(tmp_path, name), *samples(example / "references", name)]
    folders = folders or samples(request.getfixturevalue("shared_data") / "formats", name)
    assert folders or pytest.skip(f"no samples of {name}")
    patterns = (*readers.markers()[name], *readers.beside()[name])
    for folder in folders:
        opened = opened_below(folder, lambda at=folder: (readers.read(at), readers.reference_spectrum(at)), monkeypatch)
        assert opened
        assert {file for file in opened if not any(fnmatch(file, pattern) for pattern in patterns)} == set()
