"""Files are there whole or not at all."""

from pathlib import Path

import pytest

from orbitrace.files import replacing


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "table.json"
    with replacing(file) as part:
        part.write_text("new")
        assert not file.exists()
        assert part.suffix == ".json" and part.parent == file.parent
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text("old")
    with pytest.raises(OSError, match="No space left"), replacing(file) as part:
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
