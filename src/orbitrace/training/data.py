"""What a network is trained on: calculations in shards, split by their ids, in batches of a given number of pairs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset, Sampler

from orbitrace.errors import InputError
from orbitrace.graphs.batches import Sample
from orbitrace.graphs.labels import Labeller
from orbitrace.graphs.pencils import make_pencil
from orbitrace.graphs.records import OFFSETS
from orbitrace.graphs.shards import Shard, open_shard
from orbitrace.layout import dataset_of
from orbitrace.manifest import split_of
from orbitrace.physics.calculation import Calculation
from orbitrace.training import together

PAIRS, VALUES = OFFSETS.index("pairs"), OFFSETS.index("hamiltonian")
CACHED = 4 * 2**30  # bytes of samples that stay in memory
# Measured: Wigner blocks up to l = 4 of a pair; labels of a number in H, of which time reversal may spare half.
PAIR_BYTES, VALUE_BYTES = 1400, 20


@dataclass(frozen=True)
class Item:
    """One calculation: its id and data set, its shard and its place there, its number of pairs, and of numbers in its H."""

    id: str
    dataset: str
    shard: Path
    place: int
    pairs: int
    values: int

    @property
    def long_name(self) -> str:
        """Id with the data set."""
        return f"{self.dataset}/{self.id}"


class Corpus:
    """The calculations of some shards. Shards are opened where they are used, so that worker processes each have their own."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self.paths = tuple(shards)
        if not self.paths:
            raise InputError("shards", "none were given", "at least one shard written by `orbitrace shard`")

    @cached_property
    def items(self) -> list[Item]:
        """All calculations, sorted by id."""
        items = []
        for path in self.paths:
            shard = self._shard(path)
            counts = np.diff(shard.offsets, axis=0)[:, [PAIRS, VALUES]].tolist()
            dataset = dataset_of(path)
            items += [Item(name, dataset, path, k, *counts[k]) for k, name in enumerate(shard.ids)]
        return sorted(items, key=lambda item: (item.id, str(item.shard)))

    @cached_property
    def digests(self) -> list[str]:
        """Content digest of every shard."""
        return [self._shard(path).digest for path in self.paths]

    def name(self, item: Item) -> str:
        """Id of a calculation, with its data set before it where several use the same id."""
        return item.id if self._ids[item.id] == 1 else item.long_name

    @cached_property
    def _ids(self) -> Counter[str]:
        return Counter(item.id for item in self.items)

    def calculation(self, item: Item) -> Calculation:
        """Read one calculation."""
        return self._shard(item.shard).calculation(item.place)

    def calculations(self, items: Sequence[Item]) -> Iterator[Calculation]:
        """Read some calculations, one at a time."""
        for item in items:
            yield self.calculation(item)

    def _shard(self, path: Path) -> Shard:
        open_shards: dict[Path, Shard] = self.__dict__.setdefault("_open", {})
        if path not in open_shards:
            open_shards[path] = open_shard(path)
        return open_shards[path]

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_open"}

    def split(self, wanted: Mapping[str, float | Sequence[str]], seed: int) -> dict[str, list[Item]]:
        """Calculations for "train", "validation" and "test".

        A part is given by patterns of ids (``04[0-7]``, ``thermal/*``; with the data set before it, if need be), or as a
        fraction of what no pattern takes, by a stable hash of the ids. Each data set is split by itself, so that each has its
        say in every part. A small one may leave a part empty by chance; then the calculation whose hash lies nearest to that
        part moves there, as long as training keeps one. Training takes one from the largest part if it has none.

        Raises
        ------
        InputError
            If a pattern fits no calculation, or nothing is left to train on.
        """
        named = {part: patterns for part, patterns in wanted.items() if not isinstance(patterns, float | int)}
        fractions = {part: share for part, share in wanted.items() if isinstance(share, float | int)}
        parts: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        for part, patterns in named.items():
            parts[part] += self._matching(patterns, part)
        rest = [item for item in self.items if not any(item in items for items in parts.values())]
        for dataset in sorted({item.dataset for item in rest}):
            own = _split([item for item in rest if item.dataset == dataset], fractions, seed)
            for part, items in own.items():
                parts[part] += items
        if not parts["train"]:
            raise InputError("shards", "no calculation left to train on", "some that are in no other part")
        return parts

    def _matching(self, patterns: Sequence[str], part: str) -> list[Item]:
        """The calculations whose ids fit some pattern."""
        found: dict[Item, None] = {}
        for pattern in patterns:
            fitting = [item for item in self.items if fnmatchcase(item.id, pattern) or fnmatchcase(item.long_name, pattern)]
            if not fitting:
                ids = ", ".join(item.id for item in self.items[:3])
                raise InputError(f"train.{part}", f"no calculation is called {pattern!r}", f"patterns of ids such as {ids}")
            found.update(dict.fromkeys(fitting))
        return list(found)


def _split(items: Sequence[Item], fractions: Mapping[str, float], seed: int) -> dict[str, list[Item]]:
    """The parts of one data set, by chance."""
    parts: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    for item in items:
        parts[split_of(item.id, fractions, seed)].append(item)
    if not parts["train"] and items:
        parts["train"].append(max(parts.values(), key=len).pop())
    for part, fraction in fractions.items():
        if fraction > 0 and not parts[part] and len(parts["train"]) > 1:
            parts[part].append(parts["train"].pop(_nearest(parts["train"], seed)))
    return parts


def _nearest(items: Sequence[Item], seed: int) -> int:
    """Which of some items a growing fraction would take first."""
    for thousandth in range(1, 1000):
        for k, item in enumerate(items):
            if split_of(item.id, {"validation": thousandth / 1000}, seed) == "validation":
                return k
    return 0


def fit_in_memory(items: Sequence[Item], copies: int = 1) -> bool:
    """Whether the samples of some calculations can be kept, once in each of `copies` processes."""
    return copies * sum(PAIR_BYTES * item.pairs + VALUE_BYTES * item.values for item in items) <= CACHED


class Samples(Dataset[Sample]):
    """Samples of some calculations, made when asked for, and kept if all of them fit in memory, `copies` times; with
    pencils, if `levels` are wanted.
    """

    def __init__(
        self, corpus: Corpus, items: Sequence[Item], labeller: Labeller, levels: bool = False, copies: int = 1
    ) -> None:
        self.corpus, self.items, self.labeller, self.levels = corpus, list(items), labeller, levels
        self.keep = fit_in_memory(self.items, copies)
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> Sample:
        if k in self._kept:
            return self._kept[k]
        c = self.corpus.calculation(self.items[k])
        sample = self.labeller.sample(c.structure, c.overlap, c.hamiltonian, self.items[k].id, c.initial)
        if self.levels:
            sample = replace(sample, pencil=make_pencil(c, sample.graph, sample.name))
        if self.keep:
            self._kept[k] = sample
        return sample


class PairBatches(Sampler[list[int]]):
    """Batches of a given number of pairs, in an order that depends on the seed and the number of the batch alone.

    An epoch of Lightning holds the next `length` batches, from the step that training has reached, of one endless sequence of
    shuffled passes over the data, so that a resumed training sees exactly what an uninterrupted one would. (Lightning's own
    number of the epoch counts the end of one twice when it resumes there.) No batch holds a calculation twice.

    Of several processes, each takes a share of every batch, which then holds as many times `batch_pairs`: a step is that of
    one process with so much larger batches. Every process has at least one calculation.
    """

    def __init__(self, pairs: Sequence[int], batch_pairs: int, length: int, seed: int) -> None:
        self.pairs, self.batch_pairs, self.length, self.seed = list(pairs), batch_pairs, length, seed
        self.first = 0  # number of the epoch's first batch
        self._next = 0  # number of the batch that `_batches` gives next
        self._batches: Iterator[list[int]] = iter(())

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        ranks, rank = together.ranks(), together.rank()
        if len(self.pairs) < ranks:
            found = f"{len(self.pairs)} calculations for {ranks} processes"
            raise InputError("the training data", found, "at least one for each", "Lower devices or nodes in section train")
        if self.first == 0 or self.first != self._next:
            self._batches, self._next = islice(self._sequence(ranks), self.first, None), self.first
        for batch in islice(self._batches, self.length):
            self._next += 1  # here, for nobody asks for more than the last one
            yield shares(batch, self.pairs, ranks)[rank]

    def _sequence(self, ranks: int) -> Iterator[list[int]]:
        """The endless sequence of batches."""
        largest = self.batch_pairs * ranks
        waiting: deque[int] = deque()
        passes = 0
        while True:
            batch: list[int] = []
            again: list[int] = []  # come too early: this batch has them already
            filled = 0
            while True:
                if not waiting:
                    waiting.extend(np.random.default_rng((self.seed, passes)).permutation(len(self.pairs)).tolist())
                    passes += 1
                k, twice = waiting[0], waiting[0] in batch
                if len(batch) >= ranks and (twice or filled + self.pairs[k] > largest):
                    break
                (again if twice else batch).append(waiting.popleft())
                filled += 0 if twice else self.pairs[k]
            waiting.extendleft(reversed(again))
            yield batch


def shares(batch: Sequence[int], pairs: Sequence[int], ranks: int) -> list[list[int]]:
    """A batch dealt out so that no process waits long for another: from the largest calculation on, each to the least busy."""
    owner: dict[int, int] = {}
    filled = [0] * ranks
    for k in sorted(batch, key=lambda k: -pairs[k]):
        owner[k] = filled.index(min(filled))
        filled[owner[k]] += pairs[k]
    return [[k for k in batch if owner[k] == rank] for rank in range(ranks)]
