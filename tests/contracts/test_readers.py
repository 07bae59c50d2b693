"""What every reader must be and do, whoever wrote it: all files in readers/ are found and tested here."""

import os
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.linalg

from orbitrace import interchange, overlaps, plugins, readers
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin

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


INCOMPLETE = {"ancient": "2 files of the same kind", "Bi2Se3_SOC": "no hamiltonians.h5"}  # folders of ../shared, and why


def samples(root: Path, name: str) -> list[Path]:
    """The folders of a reader's files below a folder, but for those that are no whole calculation."""
    folders = {file.parent for pattern in readers.markers()[name] for file in root.rglob(pattern)}
    return sorted(folder for folder in folders if folder.name not in INCOMPLETE)


@pytest.mark.parametrize("folder", INCOMPLETE)
def test_folders_that_are_no_whole_calculation_are_refused(shared_data: Path, folder: str) -> None:
    with pytest.raises(InputError, match=INCOMPLETE[folder]):
        readers.read(next((shared_data / "formats").rglob(folder)))


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


def recomputed(way: str, found: Calculation, **files: Path) -> float:
    """Largest difference between the overlap of a file and the one computed from radial functions."""
    if way not in plugins.names("overlaps"):
        pytest.skip(f"no way {way!r} to compute overlaps yet")
    mine = overlaps.overlap(way, found.structure, found.basis, **files)
    theirs = {tuple(pair): found.overlap.block(k) for k, pair in enumerate(found.overlap.pairs.tolist())}
    apart = [np.abs(mine.block(k) - theirs.pop(tuple(pair), 0.0)).max() for k, pair in enumerate(mine.pairs.tolist())]
    return float(max([*apart, *(np.abs(block).max() for block in theirs.values())]))


@pytest.mark.parametrize(
    ("folder", "way", "files"),
    [
        ("siesta/Si_pdos_k", "from_ion", "ion"),
        ("siesta/Si_v2_intel", "from_ion", "ion"),
        ("siesta/Pt2_soc", "from_ion", "ion"),
        ("siesta/Bi_hexagonal_soc", "from_ion", "ion"),
        pytest.param("siesta/MoS2_HPRO", "from_ion", "ion", marks=pytest.mark.slow),
        pytest.param("siesta/SrTiO3_polarized", "from_ion", "ion", marks=pytest.mark.slow),
        ("abacus/Si2_ref", "from_orb", "orb"),
    ],
)
def test_overlaps_are_those_of_the_radial_functions(
    tmp_path: Path, shared_data: Path, folder: str, way: str, files: str
) -> None:
    """Fixes order, signs, units, R and positions all at once; for OpenMX see tests/overlaps."""
    for file in (shared_data / "formats" / folder).iterdir():
        shutil.copy(file, tmp_path / file.name.removesuffix(".ref"))
    assert recomputed(way, readers.read(tmp_path), **{files: tmp_path}) < 2e-8


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
