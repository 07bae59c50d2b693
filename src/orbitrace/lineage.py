"""Which model starts from which: models of a configuration that are fine-tuned from others, or from checkpoint files.

Light: settings and names of files alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orbitrace.errors import InputError
from orbitrace.layout import CHECKPOINT
from orbitrace.learning import LearnSection
from orbitrace.schema import did_you_mean

Models = Mapping[str, LearnSection]


def start_of(models: Models, name: str) -> str | None:
    """The checkpoint that the training of a model starts from, if there is one."""
    start = models[name].init_from
    return CHECKPOINT.format(model=start) if start in models else start


def check_starts(models: Models, where: str) -> None:
    """Refuse what can be seen without opening a checkpoint.

    Raises
    ------
    InputError
        If a model starts from itself, by whatever way, or from a model of another kind or with another network.
    """
    for name, model in models.items():
        key, chain = f"{where}: models.{name}.init_from", [name]
        if model.init_from is not None and getattr(model, "checkpoint", None) is not None:
            expected = "checkpoint, to use a trained network as it is, or init_from, to train it further"
            raise InputError(f"{where}: models.{name}", "both checkpoint and init_from", expected)
        while (start := models[chain[-1]].init_from) in models:
            chain.append(str(start))
            if start in chain[:-1]:
                found = f"a circle: {' starts from '.join(chain)}"
                raise InputError(key, found, "a model that is trained before", "Train one of them without init_from")
        if model.init_from in models:
            _check_same(model, models[str(model.init_from)], str(model.init_from), key)


def check_files(models: Models, where: str) -> None:
    """Look for the checkpoint files that models start from, or are. Raises InputError at the first that does not exist."""
    for name, model in models.items():
        trained, start = getattr(model, "checkpoint", None), model.init_from
        if trained is not None and not Path(trained).is_file():
            expected = "a checkpoint file that `orbitrace train` wrote"
            raise InputError(f"{where}: models.{name}.checkpoint", f"{trained} does not exist", expected, "Correct the path")
        if start is not None and start not in models and not Path(start).is_file():
            others = ", ".join(other for other in models if other != name)
            expected = f"a checkpoint file, or another model: {others}" if others else "a checkpoint file"
            found = f"{start} does not exist"
            raise InputError(f"{where}: models.{name}.init_from", found, expected, did_you_mean(start, models))


def _check_same(model: LearnSection, start: LearnSection, name: str, key: str) -> None:
    """As far as it shows without the defaults of the model's file; training checks the rest."""
    if model.model != start.model:
        found = f"{name} is of the model {start.model}, this one of {model.model}"
        raise InputError(key, found, "the same model", f"Set model: {start.model}")
    for setting, value in model.network.items():
        if setting in start.network and start.network[setting] != value:
            found = f"network.{setting} is {start.network[setting]} in {name}, and {value} here"
            raise InputError(key, found, "the same network", f"Leave {setting} out here: it is taken from {name}")
