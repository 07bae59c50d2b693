"""Checkpoints: whole, plain, and the same predictions bit for bit."""

import errno
import os
import pickle
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from learner_cases import BASIS, STRUCTURES, labeller, network, overlap, small_settings
from orbitrace import plugins
from orbitrace.errors import InputError
from orbitrace.prediction import Predictor
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint


def made(model: str = "deeph_e3_local", precision: str = "float64", **changes: object) -> Checkpoint:
    net = network(model, **changes).to(getattr(torch, precision))
    ids = {"train": ["a/1", "a/2"], "validation": ["b"], "test": []}
    kept = labeller(int(net.l_max))
    return Checkpoint(model, small_settings(model, **changes), net.state_dict(), kept, precision, ids, {"step": 7})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    checkpoints.save(tmp_path / "deep" / "model.pt", made())
    return tmp_path / "deep" / "model.pt"


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("model", plugins.names("models"))
def test_a_loaded_checkpoint_predicts_the_same_to_the_last_bit(model: str, precision: str, tmp_path: Path) -> None:
    kept = made(model, precision)
    checkpoints.save(tmp_path / "model.pt", kept)
    before, after = Predictor(kept), Predictor(checkpoints.load(tmp_path / "model.pt"))
    for atoms in STRUCTURES.values():
        over = overlap(atoms)
        np.testing.assert_array_equal(after(atoms, over).values, before(atoms, over).values)


@pytest.mark.parametrize("model", plugins.names("models"))
def test_the_built_network_is_the_trained_one_to_the_last_bit(model: str) -> None:
    """In float64 too, whatever the default type of new tensors was at either time."""
    trained = network(model, 3)
    kept = Checkpoint(model, small_settings(model), trained.state_dict(), labeller(), "float64")
    built = kept.build()
    assert not built.training
    for (name, one), (_, two) in zip(trained.named_buffers(), built.named_buffers(), strict=True):
        assert one.dtype == two.dtype, name
        assert torch.equal(one, two), name
    for (name, one), (_, two) in zip(trained.named_parameters(), built.named_parameters(), strict=True):
        assert torch.equal(one, two), name


def test_everything_comes_back(file: Path) -> None:
    one, two = made(), checkpoints.load(file)
    for name in ("model", "network", "precision", "split", "metrics"):
        assert getattr(one, name) == getattr(two, name)
    assert two.basis == BASIS
    assert set(one.weights) == set(two.weights)
    for key, value in one.labeller.to_arrays().items():
        np.testing.assert_array_equal(two.labeller.to_arrays()[key], value)


def test_nothing_else_lies_beside_it(file: Path) -> None:
    assert [item.name for item in file.parent.iterdir()] == ["model.pt"]


def test_it_can_be_read_without_running_code(file: Path) -> None:
    """Nothing in it is a class of ours: torch's reader of plain data is enough."""
    data = torch.load(file, weights_only=True)
    assert data["format"] == checkpoints.FORMAT
    assert data["schema"] == checkpoints.SCHEMA


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_half_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def half(data: object, target: BinaryIO) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises((InputError, OSError), match=r"full|No space"):
        checkpoints.save(file, made())
    assert file.read_bytes() == before
    assert [item.name for item in file.parent.iterdir()] == ["model.pt"]


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99, 0.999])
def test_a_truncated_checkpoint_is_refused(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match=r"model\.pt: cannot be read as a checkpoint.*written by `orbitrace train`"):
        checkpoints.load(file)


def test_a_flipped_bit_in_the_weights_is_noticed(file: Path) -> None:
    """A damaged weight would give wrong bands without a word."""
    with zipfile.ZipFile(file) as archive:
        largest = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
    content = bytearray(file.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt: cannot be read as a checkpoint"):
        checkpoints.load(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint\n", b"PK\x03\x04 nor a zip", bytes(range(256)) * 40, pickle.dumps({"format": 1})],
    ids=["empty", "text", "zip", "bytes", "pickle"],
)
def test_foreign_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt: (cannot be read as a checkpoint|is not a checkpoint)"):
        checkpoints.load(file)


@pytest.mark.parametrize("data", [{"state_dict": {}}, [1, 2], torch.zeros(3), {"format": "other", "schema": 1}])
def test_checkpoints_of_other_programs_are_refused(tmp_path: Path, data: object) -> None:
    torch.save(data, tmp_path / "model.pt")
    with pytest.raises(InputError, match="is not a checkpoint of OrbiTrace"):
        checkpoints.load(tmp_path / "model.pt")


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "harm",)

    torch.save({"format": checkpoints.FORMAT, "schema": checkpoints.SCHEMA, "model": Harmful()}, tmp_path / "model.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Harmful()))
    for name in ("model.pt", "bare.pt"):
        with pytest.raises(InputError, match="cannot be read as a checkpoint"):
            checkpoints.load(tmp_path / name)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("schema", [checkpoints.SCHEMA + 1, 0])
def test_a_checkpoint_of_another_version_is_refused_with_both_numbers(file: Path, schema: int) -> None:
    data = torch.load(file, weights_only=True)
    torch.save({**data, "schema": schema, "orbitrace": "9.9"}, file)
    with pytest.raises(
        InputError, match=rf"checkpoint version {schema}, written by OrbiTrace 9\.9.*version {checkpoints.SCHEMA}"
    ):
        checkpoints.load(file)


@pytest.mark.parametrize("key", ["weights", "labeller", "basis", "schema", "split"])
def test_a_checkpoint_that_lacks_something_is_refused(file: Path, key: str) -> None:
    data = torch.load(file, weights_only=True)
    torch.save({k: v for k, v in data.items() if k != key}, file)
    with pytest.raises(InputError, match=r"model\.pt"):
        checkpoints.load(file)


def test_a_zip_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        checkpoints.load(tmp_path / "model.pt")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pt: does not exist"):
        checkpoints.load(tmp_path / "gone.pt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist|cannot be read|is not a"):
        checkpoints.load(tmp_path)


def test_a_checkpoint_of_an_unknown_model_is_refused(file: Path) -> None:
    data = torch.load(file, weights_only=True)
    torch.save({**data, "model": "deeph_e4"}, file)
    with pytest.raises(InputError, match=r"unknown name 'deeph_e4'"):
        checkpoints.load(file).build()


def test_weights_of_another_shape_are_refused(file: Path) -> None:
    """A checkpoint made by an older layout of the same network."""
    data = torch.load(file, weights_only=True)
    name = max(data["weights"], key=lambda key: data["weights"][key].numel())
    torch.save({**data, "weights": {**data["weights"], name: torch.zeros(2, 2)}}, file)
    with pytest.raises(InputError, match=r"weights"):
        checkpoints.load(file).build()
