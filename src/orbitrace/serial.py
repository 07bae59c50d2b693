"""An ablation without the workflow: from raw outputs to its table in one process, in the same tree of results.

What is done stays done: a shard or reference that is newer than its raw files, a set-up whose training ended, errors that are
newer than their checkpoint. The workflow does the same with retries, in parallel, and on a cluster.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from orbitrace import layout, plugins, stages
from orbitrace.config import Config
from orbitrace.errors import InputError
from orbitrace.learning import WHERE_IT_RUNS, LearnSection, TrainSection
from orbitrace.manifest import read_manifest
from orbitrace.setups import SETTING, AblateSection

Say = Callable[[str], None]


def ablate(config: Config, say: Say = lambda _: None) -> dict[str, Any]:
    """Train and judge all set-ups of section `ablate`, and write their table.

    Parameters
    ----------
    config
        A checked configuration; its paths, and the tree of results, are relative to the current folder.
    say
        Called with a line for every step.

    Returns
    -------
    dict
        The table, as `ablation.tabulate` makes it; it lies in ``ablation.json``, with CSV and Markdown beside.

    Raises
    ------
    InputError
        For anything that cannot be used, at once if it can be known before the first training.
    """
    wanted = config.ablation()
    model = config.models[config.ablated]
    _check_model(model, f"models.{config.ablated}")
    _check_devices(model.train, f"models.{config.ablated}.train")
    shards = {name: _shards(config, name, say) for name in _datasets(config, wanted)}
    references = {name: _reference(config, name, say) for name in _members(wanted) if name not in shards}
    learned = [shard for name in model.datasets for shard in shards[name]]
    runs = [Path(layout.SETUP.format(model=config.ablated, setup=setup, seed=seed)) for setup, seed in wanted.runs]
    for number, (run, (setup, seed)) in enumerate(zip(runs, wanted.runs, strict=True), start=1):
        names = {"model": config.ablated, "setup": setup, "seed": str(seed)}
        about = f"[{number}/{len(runs)}] {setup}, seed {seed}"
        _train(learned, run, _on_one_device(config.settings_of("train_setup", names)), about, say)
        for judge in wanted.judges:
            members = (wanted.sets or {}).get(judge, ())
            own = learned if judge == wanted.split else [shard for name in members for shard in shards.get(name, ())]
            others = [references[name] for name in members if name in references]
            _evaluate(config, names | {"set": judge}, own, others, f"{about}: errors on {judge}", say)
    out = Path(layout.ABLATION.format(model=config.ablated))
    say(f"table: {out}")
    return stages.ablate(runs, out, wanted)


def has_setups(model: str) -> bool:
    """Whether a network has set-ups to compare."""
    return SETTING in plugins.load("models", model).Settings.model_fields


def _check_model(model: LearnSection, where: str) -> None:
    if not has_setups(model.model):
        able = ", ".join(filter(has_setups, plugins.names("models")))
        raise InputError(where, f"the network {model.model} has no setting {SETTING}", f"one that has: {able}")


def _check_devices(train: TrainSection, where: str) -> None:
    if (train.devices or 1) * train.nodes > 1:
        found = f"{train.nodes} nodes with {train.devices or 'all'} devices each"
        raise InputError(where, found, "one device, for one process trains here", "Use `snakemake ablate`, or devices: 1")


def _on_one_device(section: Any) -> LearnSection:
    """All devices of a machine, the default, would start further processes of the whole ablation."""
    train = section.train.model_copy(update={"devices": 1})
    trained: LearnSection = section.model_copy(update={"train": train})
    return trained


def _members(wanted: AblateSection) -> list[str]:
    return list(dict.fromkeys(name for members in (wanted.sets or {}).values() for name in members))


def _datasets(config: Config, wanted: AblateSection) -> list[str]:
    judging = [name for name in _members(wanted) if name in config.datasets]
    return list(dict.fromkeys([*config.models[config.ablated].datasets, *judging]))


def _shards(config: Config, dataset: str, say: Say) -> list[Path]:
    """The shards of a data set, brought up to date."""
    folder, file = config.dataset_folder(dataset), Path(layout.MANIFEST.format(dataset=dataset))
    code = config.datasets[dataset].code
    before = read_manifest(file).digests if file.exists() else {}
    found = stages.scan(folder, file, config.scan, code)
    due = []
    for number, members in found.shards.items():
        newest = _newest(file.mtime_ns for calculation in members for file in calculation.files)
        if before.get(number) != found.digests[number] or _changed(_shard(dataset, number)) < newest:
            due.append(number)
            shutil.rmtree(_shard(dataset, number), ignore_errors=True)  # or it would count as new after a kill
    for number in due:
        say(f"shard {number} of {dataset}: {len(found.shards[number])} calculations")
        table = Path(layout.QUARANTINE.format(dataset=dataset, shard=layout.shard_name(number)))
        stages.shard(folder, _shard(dataset, number), config.shard, part=(file, number), quarantine=table)
    return [_shard(dataset, number) for number in found.shards]


def _shard(dataset: str, number: int) -> Path:
    return Path(layout.SHARD.format(dataset=dataset, shard=layout.shard_name(number)))


def _reference(config: Config, target: str, say: Say) -> Path:
    """What the DFT code computed of a target, as a DeepH folder."""
    raw, out = Path(config.targets[target].reference or ""), Path(layout.REFERENCE.format(target=target))
    if not raw.is_dir():
        raise InputError(f"targets.{target}.reference", f"{raw} does not exist", "the folder of a raw calculation")
    if _changed(out) < _newest(file.stat().st_mtime_ns for file in raw.rglob("*") if file.is_file()):
        say(f"reference of {target}: {raw}")
        stages.read(raw, out, config.read)
    return out


def _train(shards: list[Path], run: Path, section: LearnSection, about: str, say: Say) -> None:
    """Train one set-up, go on with it, or leave it if it ended with these data and settings."""
    checkpoint = run / "checkpoint.pt"
    if _ended(run, section) and _changed(checkpoint) >= max(map(_changed, shards)):
        say(f"{about}: trained before")
        return
    say(f"{about}: {section.train.steps} steps")
    stages.train(shards, checkpoint, section)
    shutil.rmtree(run / "errors", ignore_errors=True)  # of the network before


def _ended(run: Path, section: LearnSection) -> bool:
    note, checkpoint = run / "run" / "training.json", run / "checkpoint.pt"
    if not note.exists() or _changed(checkpoint) < _changed(note):
        return False
    where = {"train": WHERE_IT_RUNS}
    before = LearnSection.model_validate(json.loads(note.read_text(encoding="utf-8"))["section"])
    return bool(before.model_dump(exclude=where) == section.model_dump(exclude=where))


def _evaluate(config: Config, names: dict[str, str], shards: list[Path], references: list[Path], about: str, say: Say) -> None:
    """Errors of one set-up on one set."""
    checkpoint, out = Path(layout.SETUP_CHECKPOINT.format(**names)), Path(layout.SETUP_ERRORS.format(**names))
    judges = [*shards, *references]
    if _changed(out) >= max(map(_changed, [checkpoint, *judges])) and _judged_by(out) == list(map(str, judges)):
        return
    say(about)
    settings: Any = config.settings_of("evaluate_setup", names)
    stages.evaluate(checkpoint, shards, out, settings, references)


def _judged_by(table: Path) -> list[str]:
    """Shards and references whose errors a table holds."""
    judges: list[str] = json.loads(table.read_text(encoding="utf-8")).get("judged_by", [])
    return judges


def _changed(path: Path) -> int:
    """When a file, or what a folder holds, was last changed; 0 if it is not there."""
    if path.is_dir():
        return _newest(file.stat().st_mtime_ns for file in path.iterdir())
    return path.stat().st_mtime_ns if path.exists() else 0


def _newest(times: Iterable[int]) -> int:
    return max(times, default=0)
