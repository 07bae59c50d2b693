"""What is trained on: a stable split, and batches that depend on seed and number alone."""

import pickle
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch

from learner_cases import STRUCTURES, calculation, labeller, structure
from orbitrace import readers
from orbitrace.errors import InputError
from orbitrace.graphs.labels import fit_labeller
from orbitrace.graphs.shards import write_shard
from orbitrace.manifest import split_of
from orbitrace.training import data
from orbitrace.training.data import Corpus, PairBatches, Samples
from orbitrace.training.loading import Batches, Shares

PAIRS = np.random.default_rng(0).integers(20, 200, 23).tolist()


def epochs(sampler: PairBatches, first: int, last: int) -> list[list[int]]:
    result = []
    for epoch in range(first, last):
        sampler.first = epoch * sampler.length
        result += list(sampler)
    return result


def test_batches_depend_on_the_seed_and_their_number_alone() -> None:
    one, same, other = (PairBatches(PAIRS, 400, 5, seed) for seed in (1, 1, 2))
    assert epochs(one, 0, 6) == epochs(same, 0, 6)
    assert epochs(one, 0, 6) != epochs(other, 0, 6)


def test_a_resumed_training_sees_the_batches_of_an_uninterrupted_one() -> None:
    whole = epochs(PairBatches(PAIRS, 400, 5, 3), 0, 8)
    assert epochs(PairBatches(PAIRS, 400, 5, 3), 3, 8) == whole[15:]
    assert len(whole) == 40


def test_the_number_of_steps_between_validations_does_not_change_their_order() -> None:
    assert epochs(PairBatches(PAIRS, 400, 10, 3), 0, 2) == epochs(PairBatches(PAIRS, 400, 4, 3), 0, 5)


@pytest.mark.parametrize("batch_pairs", [1, 150, 400])
def test_no_batch_is_larger_than_asked_for_unless_one_calculation_is(batch_pairs: int) -> None:
    for batch in epochs(PairBatches(PAIRS, batch_pairs, 50, 4), 0, 2):
        assert batch
        assert len(batch) == 1 or sum(PAIRS[k] for k in batch) <= batch_pairs


def test_every_calculation_is_seen_equally_often() -> None:
    seen = Counter(islice(chain(*epochs(PairBatches(PAIRS, 400, 50, 5), 0, 4)), 20 * len(PAIRS)))
    assert set(seen.values()) == {20}
    assert len(seen) == len(PAIRS)


def test_passes_differ() -> None:
    flat = list(chain(*epochs(PairBatches(PAIRS, 400, 50, 5), 0, 2)))
    assert flat[: len(PAIRS)] != flat[len(PAIRS) : 2 * len(PAIRS)]


def test_a_batch_never_holds_a_calculation_twice() -> None:
    """Where batches are larger than the data set, the same gradient twice costs twice the time and teaches nothing."""
    for batch in epochs(PairBatches([10, 20, 30], 4000, 20, 6), 0, 1):
        assert len(set(batch)) == len(batch)


def as_one_of(ranks: int, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.together, "ranks", lambda: ranks)
    monkeypatch.setattr(data.together, "rank", lambda: rank)


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_processes_share_the_batches_of_one(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process with as many times larger batches takes the same calculations in every step."""
    whole = epochs(PairBatches(PAIRS, ranks * 400, 4, 3), 0, 2)
    parts = []
    for rank in range(ranks):
        as_one_of(ranks, rank, monkeypatch)
        parts.append(epochs(PairBatches(PAIRS, 400, 4, 3), 0, 2))
    for step, batch in zip(zip(*parts, strict=True), whole, strict=True):
        assert all(step)
        assert sorted(chain(*step)) == sorted(batch)
        loads = [sum(PAIRS[k] for k in part) for part in step]
        assert max(loads) - min(loads) <= max(PAIRS)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_every_process_always_has_a_calculation_and_none_is_in_two(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each is larger than a batch, and where there are hardly more calculations than processes."""
    parts = []
    for rank in range(ranks):
        as_one_of(ranks, rank, monkeypatch)
        parts.append(epochs(PairBatches([500, 600, 700, 800, 900], 100, 10, 3), 0, 3))
    for step in zip(*parts, strict=True):
        assert all(step)
        assert len(set(chain(*step))) == sum(map(len, step)) == ranks
    seen = Counter(k for part in parts for k in chain(*part))
    assert max(seen.values()) - min(seen.values()) <= 1


def test_more_processes_than_calculations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_one_of(3, 0, monkeypatch)
    with pytest.raises(InputError, match="2 calculations for 3 processes"):
        epochs(PairBatches([10, 20], 100, 10, 3), 0, 1)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_processes_validate_on_every_calculation_once(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for rank in range(3):
        as_one_of(3, rank, monkeypatch)
        parts.append(list(Shares(n)))
    assert len({len(part) for part in parts}) == 1  # as many batches, some of them empty
    assert sorted(chain(*chain(*parts))) == list(range(n))


# --- shards ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    paths = [folder / "0000.zarr", folder / "0001.zarr"]
    for path, seeds in zip(paths, (range(6), range(6, 9)), strict=True):
        write_shard(path, ((f"run/{k:02d}", calculation(structure(k, 3, elements=(6,)), k)) for k in seeds))
    return paths


def test_all_calculations_of_all_shards_are_found_with_their_sizes(shards: list[Path]) -> None:
    corpus = Corpus(shards)
    assert [item.id for item in corpus.items] == [f"run/{k:02d}" for k in range(9)]
    for item in corpus.items:
        assert corpus.calculation(item).hamiltonian.n_pairs == item.pairs


def test_the_order_of_shards_does_not_matter(shards: list[Path]) -> None:
    assert Corpus(shards).items == Corpus(shards[::-1]).items


def test_parts_never_share_a_calculation_and_adding_data_moves_none(shards: list[Path]) -> None:
    fractions = {"validation": 0.3, "test": 0.2}
    seed = next(s for s in range(99) if len({split_of(f"run/{k:02d}", fractions, s) for k in range(6)}) == 3)
    few, many = (Corpus(paths).split(fractions, seed) for paths in (shards[:1], shards))
    ids = [item.id for part in many.values() for item in part]
    assert sorted(ids) == [f"run/{k:02d}" for k in range(9)]
    for part, items in few.items():
        assert {item.id for item in items} <= {item.id for item in many[part]}


@pytest.mark.parametrize("seed", range(5))
def test_a_small_data_set_still_has_every_part(shards: list[Path], seed: int) -> None:
    parts = Corpus(shards[1:]).split({"validation": 0.1, "test": 0.1}, seed)
    assert {part: len(items) for part, items in parts.items()} == {"train": 1, "validation": 1, "test": 1}


def test_one_calculation_is_trained_on(tmp_path: Path) -> None:
    write_shard(tmp_path / "one.zarr", [("only", calculation(STRUCTURES["sheet"]))])
    for seed in range(5):
        parts = Corpus([tmp_path / "one.zarr"]).split({"validation": 0.2}, seed)
        assert [item.id for item in parts["train"]] == ["only"]


def test_no_shards_are_refused() -> None:
    with pytest.raises(InputError, match="shards: none were given"):
        Corpus([])


def test_samples_are_labelled_and_the_same_each_time(shards: list[Path]) -> None:
    corpus = Corpus(shards)
    samples = Samples(corpus, corpus.items, labeller())
    assert len(samples) == 9
    first, again = samples[3], samples[3]
    assert first.name == "run/03"
    np.testing.assert_array_equal(first.labels.residual[0], again.labels.residual[0])
    batch = Batches(samples, torch.float64)[[0, 3]]
    assert batch.residual.dtype == torch.float64


def test_samples_travel_to_worker_processes(shards: list[Path]) -> None:
    corpus = Corpus(shards)
    samples = Samples(corpus, corpus.items, labeller())
    _ = samples[0]
    twin = pickle.loads(pickle.dumps(samples))
    np.testing.assert_array_equal(twin[4].labels.residual[0], samples[4].labels.residual[0])


def test_every_data_set_has_its_say_in_every_part(tmp_path: Path) -> None:
    """Each is split as it would be alone; equal ids of two of them are told apart."""
    paths = [tmp_path / dataset / "shards" / "0000.zarr" for dataset in ("large", "small")]
    for path, count in zip(paths, (12, 3), strict=True):
        write_shard(path, ((f"{k}", calculation(structure(k, 3, elements=(6,)), k)) for k in range(count)))
    fractions = {"validation": 0.1, "test": 0.1}
    corpus = Corpus(paths)
    both = corpus.split(fractions, 0)
    for path, dataset in zip(paths, ("large", "small"), strict=True):
        alone = Corpus([path]).split(fractions, 0)
        for part, items in alone.items():
            assert items
            assert [item for item in both[part] if item.dataset == dataset] == items
    names = [corpus.name(item) for item in corpus.items]
    assert len(set(names)) == 15
    assert {"large/0", "small/0", "11"} <= set(names)


def test_parts_named_by_patterns_hold_these_calculations_and_no_others(shards: list[Path]) -> None:
    corpus = Corpus(shards)
    first, second, *others = [item.id for item in corpus.items]
    parts = corpus.split({"validation": (first,), "test": (second,)}, 0)
    assert [item.id for item in parts["validation"]] == [first]
    assert [item.id for item in parts["test"]] == [second]
    assert [item.id for item in parts["train"]] == others
    by_dataset = corpus.split({"validation": (f"{corpus.items[0].dataset}/{first}",)}, 0)
    assert [item.id for item in by_dataset["validation"]] == [first]


def test_the_rest_of_named_parts_is_split_by_chance_as_ever(shards: list[Path]) -> None:
    corpus = Corpus(shards)
    first = corpus.items[0]
    parts = corpus.split({"validation": (first.id,), "test": 0.4}, 0)
    assert first not in parts["train"] + parts["test"]
    assert parts["test"]
    assert len(parts["train"]) + len(parts["test"]) == len(corpus.items) - 1


def test_patterns_that_fit_nothing_or_everything_are_refused(shards: list[Path]) -> None:
    with pytest.raises(InputError, match=r"train\.validation: no calculation is called 'nothing\*'"):
        Corpus(shards).split({"validation": ("nothing*",)}, 0)
    with pytest.raises(InputError, match="no calculation left to train on"):
        Corpus(shards).split({"validation": ("*",)}, 0)


@pytest.mark.parametrize("raw", ["bilayer_graphene/000", "mos2", "bismuthene_soc"])
def test_the_memory_that_samples_take_is_foreseen(shared_data: Path, tmp_path: Path, raw: str) -> None:
    """With few and many orbitals of each atom; with spin-orbit coupling, time reversal spares half the labels."""
    folder = next(file.parent for file in sorted((shared_data / "openmx" / raw).rglob("*.scfout*")))
    c = readers.read(folder)
    write_shard(tmp_path / "0000.zarr", [("one", c)])
    (item,) = Corpus([tmp_path / "0000.zarr"]).items
    sample = fit_labeller(lambda: iter([c]), 4, "tests").sample(c.structure, c.overlap, c.hamiltonian)
    foreseen = data.PAIR_BYTES * item.pairs + data.VALUE_BYTES * item.values
    assert 0.95 < foreseen / len(pickle.dumps(sample)) < (2.5 if raw == "bismuthene_soc" else 1.2)
