"""One training, from shards to the best network by validation.

`train` fits the labeller (reference and scales) on the training calculations, trains the network with Lightning, keeps the
best network by validation, and can be killed at any time: run again with the same data and settings, it goes on from its last
validation and ends where an uninterrupted run would have ended (with `max_minutes` the schedule hangs on the clock, too).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import Sampler

from orbitrace import __version__, models, origins
from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.graphs.labels import Labeller, fit_labeller
from orbitrace.graphs.pencils import check_levels
from orbitrace.graphs.store import writing
from orbitrace.learning import WHERE_IT_RUNS, LearnSection, LossSection, TrainSection
from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.schema import SCHEMA
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training import numerics, processes, together, transfer
from orbitrace.training.callbacks import Bar, Digits, Keep
from orbitrace.training.checkpoint import Checkpoint
from orbitrace.training.data import Corpus, Item, PairBatches, Samples, fit_in_memory
from orbitrace.training.levels import check_window
from orbitrace.training.loading import Loader, Shares
from orbitrace.training.module import HamiltonianLearner
from orbitrace.training.stopping import Stop

# Processes that read ahead where samples do not fit in memory. A sample of 900 pairs takes 14 ms of reading and making: less
# than a tenth of a step on a CPU, but about as long as one on a GPU.
WORKERS = {"cpu": 1, "gpu": 2}
Split = dict[str, list[Item]]
SaveBest = Callable[[HamiltonianLearner, dict[str, float]], None]


def train(shards: Sequence[Path], checkpoint: Path, workdir: Path, section: LearnSection) -> None:
    """Train a network on the calculations of some shards.

    Parameters
    ----------
    shards
        Stores written by `orbitrace shard`.
    checkpoint
        The best network by validation; written when training ends.
    workdir
        Where training keeps ``last.ckpt`` (to resume), ``best.pt`` (usable at any time) and ``log.csv``. It survives a killed
        job.
    section
        Model, its settings, and section `train` of the config.

    Raises
    ------
    InputError
        For settings, shards or calculations that cannot be used.
    """
    start, section = transfer.start_of(section)
    settings = section.train
    # Two threads that wait for each other on a busy machine took ten times as long as one (measured, 900 pairs).
    torch.set_num_threads(settings.threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))  # or Lightning sets another number
    with processes.joined(settings, workdir):
        _train(Corpus(shards), checkpoint, workdir, section, start)


def _train(corpus: Corpus, checkpoint: Path, workdir: Path, section: LearnSection, start: Checkpoint | None) -> None:
    """What each of the processes does."""
    settings = section.train
    _claim(workdir, section, corpus)
    split_seed = settings.seed if settings.split_seed is None else settings.split_seed
    split = corpus.split({"validation": settings.validation, "test": settings.test}, split_seed)
    _note(workdir, section, corpus, split)
    together.wait_for_all()  # the working folder is that of this training now
    lightning.seed_everything(settings.seed, verbose=False)
    with checkpoints.default_dtype(getattr(torch, settings.precision)):
        learner, labeller = _learner(section, corpus, split, start)
        numerics.prepare(learner.network, settings)
        _note(workdir, section, corpus, split, labeller)
        loaders = [
            _train_loader(corpus, split["train"], labeller, settings),
            _validation_loader(corpus, split, labeller, settings),
        ]

        def save_best(learner: HamiltonianLearner, metrics: dict[str, float]) -> None:
            ids = {part: [corpus.name(item) for item in items] for part, items in split.items()}
            kept = checkpoints.Checkpoint(
                section.model, section.network, learner.kept_weights(), labeller, settings.precision, ids, metrics
            )
            checkpoints.save(workdir / "best.pt", kept)

        _fit(learner, loaders, workdir, settings, save_best)
    if together.first():
        with writing(checkpoint), replacing(checkpoint) as part:
            shutil.copyfile(workdir / "best.pt", part)


def _fit(
    learner: HamiltonianLearner, loaders: list[Loader], workdir: Path, settings: TrainSection, save_best: SaveBest
) -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Lightning advises more loader workers than there is work for: samples are kept in memory.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*")
        warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # processes are ours to start
        # A resumed training goes on with the batch that follows, wherever it was stopped: `PairBatches` sees to that.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        trainer = lightning.Trainer(
            **_place(settings),
            max_epochs=-1,  # a resumed run repeats an epoch's end, which would count twice
            max_steps=settings.steps,
            gradient_clip_val=settings.gradient_clip,
            callbacks=[Keep(workdir, save_best), Digits(settings), *([Bar(settings.steps)] if together.first() else [])],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        last = _last(workdir)
        learner.stop = Stop(workdir)
        with numerics.explained(), learner.stop.listening():
            trainer.fit(learner, loaders[0], loaders[1], ckpt_path=last, weights_only=False)
    if trainer.interrupted:
        raise KeyboardInterrupt


def _place(settings: TrainSection) -> dict[str, Any]:
    """Where the training runs, in Lightning's words. The processes are there already (`processes.run`)."""
    devices = processes.devices_per_node(settings)
    # A batch without some pair of elements leaves its read-out without a gradient; buffers are constants.
    ddp = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    return {
        "accelerator": "gpu" if processes.on_gpu(settings) else "cpu",
        "devices": devices,
        "num_nodes": settings.nodes,
        "strategy": ddp if devices * settings.nodes > 1 else "auto",
        "plugins": [LightningEnvironment()],  # or Lightning would look for SLURM's
    }


def _last(workdir: Path) -> Path | None:
    """The state to resume from, if there is one."""
    last = workdir / "last.ckpt"
    if last.exists() and not zipfile.is_zipfile(last):  # what torch writes is a zip file, whose table of contents comes last
        raise InputError(last, "is damaged, perhaps by a full disk", "the state of a training", "Delete it to train anew")
    return last if last.exists() else None


def _claim(workdir: Path, section: LearnSection, corpus: Corpus) -> None:
    """Make the working folder belong to these data and settings; what another training left there is put aside.

    A training goes on with another number of processes if a step takes as many pairs as before.

    Raises
    ------
    InputError
        If it would go on with larger or smaller steps for the number of processes alone.
    """
    pairs = section.train.batch_pairs * together.ranks()
    marks = [_mark(section, corpus, taken) for taken in (pairs, None)]
    file = workdir / "identity"
    found = file.read_text().split() if file.exists() else []
    if not together.first() or found == [*marks, str(pairs)]:
        return
    if found and found[:1] != marks[:1] and found[1:2] == marks[1:]:
        raise InputError(
            workdir,
            f"this training has steps of {found[2]} pairs so far; with {together.ranks()} processes they would have {pairs}",
            f"train.batch_pairs times the number of processes = {found[2]}",
            "Change devices back, or batch_pairs with them; or remove the folder to train anew",
        )
    if found and found[:1] != marks[:1]:
        old = workdir.with_name(f"{workdir.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        workdir.rename(old)
    with writing(file), replacing(file) as part:
        part.write_text("\n".join([*marks, str(pairs)]) + "\n")


def _mark(section: LearnSection, corpus: Corpus, pairs: int | None) -> str:
    """Hash of all that decides a training: data, settings, versions, and the pairs of a step instead of those of a process."""
    settings = section.model_dump(mode="json", exclude={"train": WHERE_IT_RUNS, "init_from": True})
    if pairs is not None:
        settings["train"]["batch_pairs"] = pairs
    parts = {"section": settings, "shards": sorted(corpus.digests), "versions": [__version__, SCHEMA]}
    if section.init_from is not None:
        parts["start"] = hashlib.sha256(Path(section.init_from).read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _note(workdir: Path, section: LearnSection, corpus: Corpus, split: Split, labeller: Labeller | None = None) -> None:
    """Settings, split, spin and origin of this training, for the report: ``training.json`` in the working folder."""
    ids = {part: [corpus.name(item) for item in items] for part, items in split.items()}
    note: dict[str, Any] = {"section": section.model_dump(mode="json"), "split": ids}
    note["shards"] = dict(zip(map(str, corpus.paths), corpus.digests, strict=True))
    note["made_with"] = {"commit": origins.commit(), "versions": origins.versions()}
    if labeller is not None:
        note["spin"] = {"kind": labeller.spin.value, "time_reversal_violation": labeller.violation}  # eV
    if together.first():
        file = workdir / "training.json"
        with writing(file), replacing(file) as part:
            part.write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _learner(
    section: LearnSection, corpus: Corpus, split: Split, start: Checkpoint | None
) -> tuple[HamiltonianLearner, Labeller]:
    """The network and the labeller: fresh, and fitted to the training calculations, as far as `start` does not know them."""
    where = ", ".join(str(path) for path in corpus.paths)
    models.settings_of(section.model, section.network)  # a typing error is found before the fit
    train = section.train
    labeller = fit_labeller(lambda: corpus.calculations(split["train"]), 0, where, train.target, train.time_reversal)
    if start is not None:
        labeller = transfer.extended(start.labeller, labeller, where)
    network = models.build(section.model, section.network, labeller.basis, labeller.spin)
    if start is not None:
        transfer.adopt(network, start, labeller.basis)
    labeller = replace(labeller, l_max=network.l_max)
    for item in split["validation"]:
        _check_known(labeller, corpus, item)
    if train.loss.needs_levels:
        _check_levels(corpus, split["train"], labeller, train.loss)
    unit = _unit(corpus, split["train"], labeller)
    return HamiltonianLearner(network, labeller.basis, train, unit, labeller.spin), labeller


def _check_known(labeller: Labeller, corpus: Corpus, item: Item) -> None:
    """Refuse a calculation to validate on of whose elements training knows nothing."""
    calculation = corpus.calculation(item)
    labeller.check_known(calculation, item.id)
    labeller.basis.merged(calculation.basis, item.id, "the training data")
    missing = [SYMBOLS[z] for z in calculation.structure.elements if z not in labeller.basis]
    if missing:
        found = f"{', '.join(missing)} occurs in validation, but not in training"
        raise InputError(item.id, found, "elements that training holds too", "Add calculations, or choose another seed")
    labeller.check_neighbours(calculation.structure, calculation.overlap, item.id)


def _check_levels(corpus: Corpus, items: Sequence[Item], labeller: Labeller, loss: LossSection) -> None:
    """Refuse calculations whose levels cannot be trained on, and a window without levels in the first of them."""
    for item in items:
        check_levels(corpus.calculation(item), item.id)
    first = Samples(corpus, items[:1], labeller, levels=True)[0]
    if loss.bands > 0 and first.pencil is not None:
        check_window(first.pencil, loss)


def _unit(corpus: Corpus, items: Sequence[Item], labeller: Labeller) -> float:
    """Mean absolute residual of the reference over some training calculations, eV: the unit of the loss."""
    total, count = 0.0, 0
    for c in corpus.calculations(items[:16]):
        labels = labeller.sample(c.structure, c.overlap, c.hamiltonian, initial=c.initial).labels
        total += sum(float(np.abs(part).sum()) for part in labels.residual)
        count += sum(part.size for part in labels.residual)
    return max(total / count, 1e-6)


def _train_loader(corpus: Corpus, items: Sequence[Item], labeller: Labeller, s: TrainSection) -> Loader:
    order = PairBatches([item.pairs for item in items], s.batch_pairs, s.validate_every, s.seed)
    return _loader(corpus, items, labeller, order, s, s.loss.needs_levels)


def _validation_loader(corpus: Corpus, split: Split, labeller: Labeller, s: TrainSection) -> Loader:
    items = split["validation"] or split["train"]
    return _loader(corpus, items, labeller, Shares(len(items)), s)


def _loader(
    corpus: Corpus, items: Sequence[Item], labeller: Labeller, order: Sampler[list[int]], s: TrainSection, levels: bool = False
) -> Loader:
    gpu = processes.on_gpu(s)
    workers = (0 if fit_in_memory(items) else WORKERS["gpu" if gpu else "cpu"]) if s.workers is None else s.workers
    samples = Samples(corpus, items, labeller, levels, copies=max(workers, 1))
    return Loader(samples, order, getattr(torch, s.precision), workers, pinned=gpu)
