"""What every reader does with files that are cut short, damaged, mixed up or of another code: a sentence, or a calculation.

All readers in readers/ are found and tested here; `raw_files` has a small calculation of each code that is in order. Damage
may hit a number that nobody can check: then there is a calculation, whole and finite. Never is there another error, a hang,
or memory taken on the word of a damaged count.
"""

import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orbitrace import plugins, readers
from orbitrace.errors import InputError

NAMES = plugins.names("readers")
SECONDS = 20  # the samples are read in less than one
ROOM = 1 << 30  # bytes beyond what the process has; the samples are a few MB
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a sample of each code."""
    folders = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in folders.items():
        import_module(f"raw_files.{name}").sample(folder)
    return folders


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@contextmanager
def little_room() -> Iterator[None]:
    """Memory is short, so that to take much of it fails at once."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def read_damaged(name: str, original: Path, scratch: Path, file: str, content: bytes) -> object:
    """The sample with one file replaced: the calculation, or the sentence."""
    folder = scratch / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    (folder / file).write_bytes(content)
    begin = time.perf_counter()
    try:
        with little_room():
            found = readers.read(folder, name)
    except InputError as error:
        assert str(folder) in str(error)
        return error
    finally:
        assert time.perf_counter() - begin < SECONDS
    assert np.isfinite(found.hamiltonian.values).all() and np.isfinite(found.overlap.values).all()
    assert np.isfinite(found.structure.positions).all() and found.structure.n_atoms == 4
    np.testing.assert_array_equal(found.hamiltonian.values, found.hamiltonian.dagger().values)
    return found


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_text(data: bytes) -> bool:
    return not data.translate(None, bytes([*b"\t\n\r", *range(32, 127)]))


def flipped(data: bytes, draw: Callable) -> bytes:
    """With some bits turned round, one to eight of them."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 8))):
        damaged[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(damaged)


def cut(data: bytes, draw: Callable) -> bytes:
    return data[: draw(st.integers(0, len(data) - 1))]


def permuted(data: bytes, draw: Callable) -> bytes:
    """With two pieces exchanged: lines of a text, or as many bytes."""
    if is_text(data):
        lines = data.splitlines(keepends=True)
        a, b = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        lines[a], lines[b] = lines[b], lines[a]
        return b"".join(lines)
    size = draw(st.integers(1, max(1, len(data) // 3)))
    a = draw(st.integers(0, len(data) - 2 * size))
    b = draw(st.integers(a + size, len(data) - size))
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def huge(data: bytes, draw: Callable) -> bytes:
    """With a count that is far too large, or negative."""
    value = draw(st.sampled_from([2**31 - 1, -1, 10**6, 2**24]))
    if is_text(data):
        words = data.split(b" ")
        at = draw(st.integers(0, min(len(words), 400) - 1))
        words[at] = str(value).encode() + (b"\n" if words[at].endswith(b"\n") else b"")
        return b" ".join(words)
    at = 4 * draw(st.integers(0, min(len(data) // 4 - 1, 800)))
    return data[:at] + np.array([value], "<i4").tobytes() + data[at + 4 :]


def inserted(data: bytes, draw: Callable) -> bytes:
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(min_size=1, max_size=40)) + data[at:]


DAMAGES = (flipped, cut, permuted, huge, inserted)


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_has_a_sample_that_is_in_order(originals: dict[str, Path], name: str) -> None:
    assert readers.detect(originals[name]) == name
    assert readers.read(originals[name]).structure.n_atoms == 4


def check_damage(name: str, originals: dict[str, Path], scratch: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(files_of(originals[name])))
    damage = data.draw(st.sampled_from(DAMAGES))
    content = (originals[name] / file).read_bytes()
    read_damaged(name, originals[name], scratch, file, damage(content, data.draw))


@few
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_damage_ends_in_a_sentence_or_in_a_calculation(
    originals: dict[str, Path], scratch: Path, name: str, data: st.DataObject
) -> None:
    check_damage(name, originals, scratch, data)


@pytest.mark.slow
@many
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_much_damage_ends_in_a_sentence_or_in_a_calculation(
    originals: dict[str, Path], scratch: Path, name: str, data: st.DataObject
) -> None:
    check_damage(name, originals, scratch, data)


@pytest.mark.parametrize("name", NAMES)
def test_empty_files_are_refused_or_not_needed(originals: dict[str, Path], scratch: Path, name: str) -> None:
    marked = {path.name for pattern in readers.markers()[name] for path in originals[name].glob(pattern)}
    for file in files_of(originals[name]):
        found = read_damaged(name, originals[name], scratch, file, b"")
        assert isinstance(found, InputError) or file not in marked


@pytest.mark.parametrize("name", NAMES)
def test_lines_that_end_as_on_windows_change_nothing(originals: dict[str, Path], scratch: Path, name: str) -> None:
    whole = readers.read(originals[name])
    for file in files_of(originals[name]):
        content = (originals[name] / file).read_bytes()
        if is_text(content):
            found = read_damaged(name, originals[name], scratch, file, content.replace(b"\n", b"\r\n"))
            assert not isinstance(found, InputError), found
            np.testing.assert_array_equal(found.hamiltonian.values, whole.hamiltonian.values)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_another_code_are_refused(originals: dict[str, Path], scratch: Path, name: str) -> None:
    marked = next(path.name for pattern in readers.markers()[name] for path in originals[name].glob(pattern))
    for other in NAMES:
        for path in originals[other].iterdir() if other != name else ():
            if path.name != marked and path.read_bytes() != (originals[name] / marked).read_bytes():
                found = read_damaged(name, originals[name], scratch, marked, path.read_bytes())
                assert isinstance(found, InputError), path.name


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_refused_or_not_needed(originals: dict[str, Path], scratch: Path, name: str) -> None:
    for file in files_of(originals[name]):
        folder = scratch / f"{name} without"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(originals[name], folder)
        (folder / file).unlink()
        try:
            assert readers.read(folder, name).structure.n_atoms == 4
        except InputError as error:
            assert str(folder) in str(error)
