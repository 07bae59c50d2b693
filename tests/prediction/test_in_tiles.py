"""Prediction in tiles: what whole graphs give, in bounded memory, by several processes, and going on after a kill."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from learner_cases import BASIS, assert_close, labeller, network, overlap, small_settings, structure
from orbitrace import memory
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.prediction import How, Predictor, device_of, predict, team
from orbitrace.prediction import network as at_work
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint

ATOMS = structure(11, 8, (True, True, False))
PAIRS = 12  # an atom each


def trained(model: str = "deeph_e3_local", seed: int = 0) -> Checkpoint:
    net = network(model, seed)
    return Checkpoint(model, small_settings(model), net.state_dict(), labeller(int(net.l_max)), "float64")


def test_the_network_in_the_repository_says_the_same_to_a_microelectronvolt(example: Path) -> None:
    """In float32, of a twisted bilayer of 148 atoms, in 12 tiles; and of one of 28 atoms, in 28"""
    kept = checkpoints.load(example / "pretrained" / "bilayer_graphene.pt")
    assert kept.precision == "float32"
    for cell, most in ((twisted_bilayer(graphene(), 3, 4, 3.35), 731), (twisted_bilayer(graphene(), 1, 2, 3.35), 60)):
        pairs = find_pairs(cell, kept.basis)
        over = Blocks.over(pairs, cell, kept.basis, np.zeros(25 * len(pairs)))
        tiles = Predictor(kept, How(most))(cell, over)
        whole = Predictor(kept)(cell, over)
        assert np.abs(tiles.values - whole.values).max() < 1e-6  # eV
        assert np.abs(whole.values).max() > 10


def test_several_processes_say_what_one_says_and_leave_nothing_behind(tmp_path: Path) -> None:
    over = overlap(ATOMS)
    scratch = tmp_path / "out" / ".tiles"
    shared = Predictor(trained(), How(PAIRS, 2, scratch=scratch))(ATOMS, over)
    assert_close(shared, Predictor(trained())(ATOMS, over), 1e-13)
    assert not scratch.exists()


class Killed(BaseException):
    """Nothing that the code expects."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """(step, tile) of every task that is run; the seventh is killed."""
    done: list[tuple[int, int]] = []
    run = team.Task.run

    def counting(task: team.Task, net: at_work.TrainedNetwork) -> None:
        if len(done) == 6 and (-1, -1) not in done:
            done.append((-1, -1))
            raise Killed
        done.append((task.step, task.place))
        run(task, net)

    monkeypatch.setattr(team.Task, "run", counting)
    yield done


def test_a_killed_prediction_goes_on_from_its_last_tile(tmp_path: Path, counted: list[tuple[int, int]]) -> None:
    over, how = overlap(ATOMS), How(PAIRS, scratch=tmp_path / "scratch")
    with pytest.raises(Killed):
        Predictor(trained(), how)(ATOMS, over)
    assert how.scratch is not None
    assert (how.scratch / "key.json").exists()
    h = Predictor(trained(), how)(ATOMS, over)
    assert len(set(counted)) == len(counted)  # nothing twice
    assert max(tile for _, tile in counted) > 2
    assert not how.scratch.exists()
    assert_close(h, Predictor(trained())(ATOMS, over), 1e-13)


@pytest.mark.parametrize("change", ["network", "structure", "tiles"])
def test_what_another_prediction_left_is_of_no_use(tmp_path: Path, change: str, counted: list[tuple[int, int]]) -> None:
    over = overlap(ATOMS)
    with pytest.raises(Killed):
        Predictor(trained(), How(PAIRS, scratch=tmp_path / "scratch"))(ATOMS, over)
    before = len(counted)
    other = trained(seed=1) if change == "network" else trained()
    atoms = structure(13, 8) if change == "structure" else ATOMS
    predictor = Predictor(other, How(PAIRS - 10 * (change == "tiles"), scratch=tmp_path / "scratch"))
    h = predictor(atoms, overlap(atoms))
    assert counted[before] == (0, 0)
    assert_close(h, Predictor(other)(atoms, overlap(atoms)), 1e-13)


def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_work", _killed)
    with pytest.raises(
        InputError, match=r"one of the processes that predict was killed.*goes on from the last finished tile\."
    ):
        Predictor(trained(), How(PAIRS, 2, scratch=tmp_path / "scratch"))(ATOMS, overlap(ATOMS))


def _linger(task: team.Task) -> None:
    (task.scratch.folder.parent / f"{os.getpid()}.pid").touch()
    time.sleep(60)


def _lead(kept: Checkpoint, over: Blocks, folder: Path) -> None:
    team._work = _linger
    Predictor(kept, How(PAIRS, 2, scratch=folder / "scratch"))(ATOMS, over)


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    leader = multiprocessing.get_context("spawn").Process(target=_lead, args=(trained(), overlap(ATOMS), tmp_path))
    leader.start()
    assert _soon(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 60)
    leader.kill()
    leader.join()
    running = [Path("/proc") / file.stem for file in tmp_path.glob("*.pid")]
    assert _soon(lambda: not any(process.exists() for process in running), 20)


def _soon(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_full_disk_is_told_in_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(at_work, "write", full)
    with pytest.raises(InputError, match=r"scratch: cannot be written \(No space left on device\)"):
        Predictor(trained(), How(PAIRS, scratch=tmp_path / "scratch"))(ATOMS, overlap(ATOMS))
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_not_local_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    over = overlap(ATOMS)
    h = Predictor(trained("deeph_e3"), How(PAIRS))(ATOMS, over)
    np.testing.assert_array_equal(h.values, Predictor(trained("deeph_e3"))(ATOMS, over).values)
    monkeypatch.setattr(memory, "available", lambda: 1e6)
    with pytest.raises(
        InputError, match=r"big\.cif: its \d+ pairs need about .* GB at once.*of deeph_e3 .*0\.001 GB are free"
    ):
        Predictor(trained("deeph_e3"), How(PAIRS))(ATOMS, over, where="big.cif")


def test_an_overlap_that_lacks_half_its_pairs_is_refused_before_it_is_cut() -> None:
    over = overlap(ATOMS)
    kept = np.flatnonzero(over.onsite | (np.arange(over.n_pairs) < over.reverse))
    half = Blocks(over.pairs[kept], over.shapes[kept], np.concatenate([over.block(int(k)).reshape(-1) for k in kept]))
    with pytest.raises(InputError, match=r"no partner \(j, i, -R\)"):
        Predictor(trained(), How(30))(ATOMS, half)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == "cpu"
    with pytest.raises(InputError, match=r"predict\.accelerator: gpu: this process sees no GPU"):
        device_of("gpu")


def test_a_file_is_predicted_in_tiles_too(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "model.pt", trained())
    atoms = structure(11, 8)
    whole = predict(tmp_path / "model.pt", atoms, BASIS, overlap(atoms))
    assert_close(predict(tmp_path / "model.pt", atoms, BASIS, overlap(atoms), how=How(50)), whole, 1e-13)
