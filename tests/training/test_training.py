"""Training: exact resume, checkpoints that are always usable, and what is refused."""

import csv
import multiprocessing
import os
import signal
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

from learner_cases import calculation, small_settings, structure
from orbitrace import plugins, readers, training
from orbitrace.errors import InputError
from orbitrace.evaluation import evaluate_checkpoint
from orbitrace.graphs.shards import write_shard
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.training import callbacks, checkpoint, data, fit

SMALL = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}


@pytest.fixture(scope="session")
def shard(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The AB cell and three bilayers."""
    folders = [example / "references" / "AB", *(example / "data" / "bilayers" / f"00{k}" for k in range(3))]
    path = tmp_path_factory.mktemp("shards") / "0000.zarr"
    write_shard(path, ((folder.name, readers.read(folder)) for folder in folders))
    return path


def section(model: str = "deeph_e3_local", **train: object) -> LearnSection:
    settings = {"max_steps": 8, "validate_every": 2, "batch_pairs": 1000, "validation": 0.3, "precision": "float64", **train}
    return LearnSection(model=model, network=small_settings(model, **SMALL), train=TrainSection(**settings))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("model", plugins.names("models"))
def test_training_killed_halfway_and_resumed_equals_training_in_one_go(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, precision: str
) -> None:
    wanted = section(model, precision=precision)
    training.train([shard], tmp_path / "whole" / "model.pt", tmp_path / "whole" / "run", wanted)

    keep = callbacks.Keep.on_train_epoch_end

    def killed(self: callbacks.Keep, trainer: object, module: object) -> None:
        keep(self, trainer, module)
        if trainer.global_step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.Keep, "on_train_epoch_end", killed)
    with pytest.raises(BaseException):  # noqa: B017 - Lightning turns the interrupt into SystemExit
        training.train([shard], tmp_path / "halves" / "model.pt", tmp_path / "halves" / "run", wanted)
    assert checkpoint.load(tmp_path / "halves" / "run" / "best.pt").metrics["step"] <= 4
    assert not (tmp_path / "halves" / "model.pt").exists()
    monkeypatch.undo()
    training.train([shard], tmp_path / "halves" / "model.pt", tmp_path / "halves" / "run", wanted)

    logs = [list(csv.DictReader((tmp_path / way / "run" / "log.csv").read_text().splitlines())) for way in ("whole", "halves")]
    for one, other in zip(*logs, strict=True):
        assert {k: v for k, v in one.items() if k not in ("seconds", "wait")} == {
            k: v for k, v in other.items() if k not in ("seconds", "wait")
        }
    one, other = (checkpoint.load(tmp_path / way / "model.pt") for way in ("whole", "halves"))
    assert one.metrics["step"] == other.metrics["step"]
    for name, weight in one.weights.items():
        assert torch.equal(weight, other.weights[name]), name


# --- small synthetic data ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "0000.zarr"
    write_shard(path, ((f"run/{k}", calculation(structure(k, 3, elements=(6,)), k)) for k in range(6)))
    return path


def trained(shard: Path, folder: Path, **settings: object) -> checkpoint.Checkpoint:
    training.train([shard], folder / "model.pt", folder / "run", section(batch_pairs=200, **settings))
    return checkpoint.load(folder / "model.pt")


def log_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "run" / "log.csv").read_text().splitlines()))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_same_seed_gives_the_same_network_and_another_one_another(
    small_shard: Path, tmp_path: Path, precision: str
) -> None:
    one, same = (trained(small_shard, tmp_path / name, precision=precision) for name in ("one", "same"))
    other = trained(small_shard, tmp_path / "other", precision=precision, seed=1)
    assert all(torch.equal(one.weights[key], same.weights[key]) for key in one.weights)
    assert not all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights if key in other.weights)
    assert {x.dtype for x in one.weights.values()} == {getattr(torch, precision)}


def test_the_best_network_by_validation_is_kept(small_shard: Path, tmp_path: Path) -> None:
    kept = trained(small_shard, tmp_path, learning_rate=0.1, max_steps=24, ema=0.0, warmup=0.5)
    rows = log_of(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(2, 25, 2))
    best = min(rows, key=lambda row: float(row["validation_mae"]))
    assert kept.metrics["validation_mae"] == pytest.approx(float(best["validation_mae"]), rel=1e-5)
    assert kept.metrics["step"] == int(best["step"])
    metrics = evaluate_checkpoint(tmp_path / "model.pt", [small_shard], "validation")
    assert metrics["mae"] == pytest.approx(kept.metrics["validation_mae"], rel=1e-5)  # judged by the weights that are kept


def test_batches_go_on_where_the_last_validation_was(
    small_shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps see one endless sequence of batches, not the same few after every validation."""
    seen: list[list[int]] = []
    dealt = data.shares
    monkeypatch.setattr(data, "shares", lambda batch, *rest: (seen.append(batch), dealt(batch, *rest))[1])
    trained(small_shard, tmp_path, max_steps=6)
    pairs = [item.pairs for item in data.Corpus([small_shard]).split({"validation": 0.3, "test": 0.0}, 0)["train"]]
    steps = seen.copy()
    assert steps == list(islice(data.PairBatches(pairs, 200, 6, 0), 6))
    assert steps[:2] != steps[2:4]


def test_training_learns(small_shard: Path, tmp_path: Path) -> None:
    """A few steps on one calculation lower its error well below that of the reference alone."""
    trained(small_shard, tmp_path, learning_rate=0.1, max_steps=120, validate_every=40, ema=0.0)
    rows = log_of(tmp_path)
    assert float(rows[-1]["train_mae"]) < 0.9 * float(rows[0]["train_mae"])


def test_parts_are_kept_apart_and_recorded(small_shard: Path, tmp_path: Path) -> None:
    kept = trained(small_shard, tmp_path, validation=0.3, test=0.3)
    parts = [set(kept.split[part]) for part in ("train", "validation", "test")]
    assert set.union(*parts) == {f"run/{k}" for k in range(6)}
    assert sum(len(part) for part in parts) == 6
    assert all(parts)


def test_no_progress_ends_it(small_shard: Path, tmp_path: Path) -> None:
    """Weights that do not move give no better validation: two more of them, and it ends."""
    trained(small_shard, tmp_path, learning_rate=1e-30, patience=2, max_steps=100)
    assert [int(row["step"]) for row in log_of(tmp_path)] == [2, 4, 6]


def test_time_ends_it(small_shard: Path, tmp_path: Path) -> None:
    kept = trained(small_shard, tmp_path, max_minutes=1e-4, max_steps=1000)
    assert kept.metrics["step"] <= 4
    assert len(log_of(tmp_path)) <= 2


@pytest.mark.parametrize(
    "end",
    [{}, {"learning_rate": 1e-30, "patience": 1, "max_steps": 100}, {"max_minutes": 1e-4, "max_steps": 1000}],
    ids=["by steps", "by patience", "by time"],
)
def test_a_finished_training_run_again_does_nothing(small_shard: Path, tmp_path: Path, end: dict[str, float]) -> None:
    one = trained(small_shard, tmp_path, **end)
    log = (tmp_path / "run" / "log.csv").read_text()
    again = trained(small_shard, tmp_path, **end)
    assert (tmp_path / "run" / "log.csv").read_text() == log
    assert all(torch.equal(one.weights[key], again.weights[key]) for key in one.weights)


def test_other_settings_start_anew_and_put_the_old_training_aside(small_shard: Path, tmp_path: Path) -> None:
    trained(small_shard, tmp_path)
    old = (tmp_path / "run" / "log.csv").read_text()
    trained(small_shard, tmp_path, learning_rate=1e-4, max_steps=4)
    assert [int(row["step"]) for row in log_of(tmp_path)] == [2, 4]
    assert (tmp_path / "run.old" / "log.csv").read_text() == old


def test_another_number_of_processes_goes_on_only_with_steps_as_large(
    small_shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trained(small_shard, tmp_path)
    monkeypatch.setattr(fit.together, "ranks", lambda: 2)
    claim = partial(fit._claim, tmp_path / "run", corpus=data.Corpus([small_shard]))
    with pytest.raises(InputError, match=r"steps of 200 pairs so far; with 2 processes they would have 400.*= 200"):
        claim(section(batch_pairs=200))
    claim(section(batch_pairs=100))
    assert not (tmp_path / "run.old").exists()
    monkeypatch.undo()
    again = trained(small_shard, tmp_path)
    assert all(torch.equal(one.weights[key], again.weights[key]) for key in one.weights)


def test_lines_of_the_log_that_a_killed_training_wrote_too_much_do_not_occur_twice(small_shard: Path, tmp_path: Path) -> None:
    """It was killed between the line of step 6 and the state of step 6, while it wrote the next line."""
    trained(small_shard, tmp_path, max_steps=4)
    log = tmp_path / "run" / "log.csv"
    whole = log.read_text()
    with log.open("a") as stream:
        stream.write(whole.splitlines()[-1].replace("4,", "6,", 1) + "\n8,")
    callbacks._cut_log(log, 4)
    assert log.read_text() == whole


def test_other_data_start_anew(small_shard: Path, tmp_path: Path) -> None:
    trained(small_shard, tmp_path, max_steps=4)
    more = tmp_path / "more.zarr"
    write_shard(more, ((f"run/{k}", calculation(structure(k, 3, elements=(6,)), k)) for k in range(1, 6)))
    kept = trained(more, tmp_path, max_steps=2)
    assert [int(row["step"]) for row in log_of(tmp_path)] == [2]
    assert "run/0" not in {name for ids in kept.split.values() for name in ids}


def test_nothing_half_written_is_left(small_shard: Path, tmp_path: Path) -> None:
    trained(small_shard, tmp_path)
    names = [item.name for item in tmp_path.rglob("*")]
    assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
    assert {"model.pt", "best.pt", "last.ckpt", "log.csv"} <= set(names)


def test_a_damaged_state_is_refused_with_what_to_do(small_shard: Path, tmp_path: Path) -> None:
    trained(small_shard, tmp_path)
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"last\.ckpt: is damaged.*Delete it"):
        trained(small_shard, tmp_path)


def test_one_calculation_can_be_learned(tmp_path: Path) -> None:
    """Whatever its hash says: with a single calculation there is nothing to validate on but itself."""
    write_shard(tmp_path / "one.zarr", [("only", calculation(structure(1, 4)))])
    for seed in range(3):
        kept = trained(tmp_path / "one.zarr", tmp_path / str(seed), seed=seed, max_steps=2, validation=0.5)
        assert kept.split["train"] == ["only"]


def test_several_elements_are_learned_together(tmp_path: Path) -> None:
    """Batches that lack an element or a pair of elements leave the weights of these alone."""
    several = [calculation(structure(k, 4, elements=elements), k) for k, elements in enumerate([(1, 5, 6), (6,), (1, 5, 6)])]
    write_shard(tmp_path / "0.zarr", ((f"run/{k}", c) for k, c in enumerate(several)))
    kept = trained(tmp_path / "0.zarr", tmp_path, validation=0.0, max_steps=6)
    assert kept.basis.elements == (1, 5, 6)
    assert all(torch.isfinite(x).all() for x in kept.weights.values())


def killed_at_step_4(shard: Path, folder: Path) -> None:
    """What a job does that SIGKILL ends right after its second validation."""
    keep = callbacks.Keep.on_train_epoch_end

    def then_die(self: callbacks.Keep, trainer: object, module: object) -> None:
        keep(self, trainer, module)
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks.Keep.on_train_epoch_end = then_die
    training.train([shard], folder / "model.pt", folder / "run", section())


def test_a_sigkilled_training_leaves_a_usable_checkpoint_nothing_half_written_and_goes_on(shard: Path, tmp_path: Path) -> None:
    job = multiprocessing.get_context("spawn").Process(target=killed_at_step_4, args=(shard, tmp_path))
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    checkpoint.load(tmp_path / "run" / "best.pt").build()
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "best.pt", "identity", "last.ckpt", "log.csv", "training.json",
    ]  # fmt: skip
    assert not (tmp_path / "model.pt").exists()
    training.train([shard], tmp_path / "model.pt", tmp_path / "run", section())
    rows = csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines())
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8]
