"""The table of an ablation: errors of all set-ups in the form of TraceGrad's tables 5 and 6, gains over the base, and costs.

Light: it reads the tables and logs that trainings and evaluations left. Of each set that judges them there are three errors,
in meV (section 6 of the paper): over all elements, of the *challenging sample*, and of the *challenging block*: those on which
the base is worst. With several seeds that is judged by the mean of the base's errors over the seeds.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from orbitrace import layout
from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.learning import WHERE_IT_RUNS, LearnSection
from orbitrace.report.results import Errors, Row, read_evaluation, read_log
from orbitrace.setups import BASE, SETTING, SETUPS

MEASURES: Final = {"mae_all": "MAE_all", "mae_cha_sample": "MAE^cha_sample", "mae_cha_block": "MAE^cha_block"}


@dataclass(frozen=True)
class Run:
    """One training that ended, and its errors.

    Parameters
    ----------
    folder
        Where it lies, for messages.
    setup, seed
        What sets it apart.
    model
        Name of the network.
    common
        Everything else that decided it, which all runs share: settings and split.
    log
        Its validations.
    errors
        Its errors by set.
    """

    folder: Path
    setup: str
    seed: int
    model: str
    common: Mapping[str, Any]
    log: tuple[Row, ...]
    errors: Mapping[str, Errors]


def read_run(folder: Path, sets: Sequence[str]) -> Run:
    """What a training left in its folder: ``run/training.json``, ``run/log.csv``, and ``errors/<set>.json`` of each set.

    Raises
    ------
    InputError
        If something is missing or damaged.
    """
    note = folder / "run" / "training.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        section = LearnSection.model_validate(known["section"]).model_dump(mode="json")
        split = known["split"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(note, "is missing or damaged", "the settings of a training", "Train this set-up again") from error
    if SETTING not in section["network"]:
        raise InputError(note, f"network.{SETTING} is not set", f"one of {', '.join(SETUPS)}", "Train with it set")
    setup = str(section["network"].pop(SETTING))
    seed = int(section["train"]["seed"])
    for key in WHERE_IT_RUNS | {"seed"}:
        section["train"].pop(key)
    log = read_log(folder / "run" / "log.csv")
    if not log:
        raise InputError(folder / "run" / "log.csv", "holds no validation", "the log of a training", "Train this set-up again")
    errors = {name: _errors(folder / "errors" / f"{name}.json") for name in sets}
    return Run(folder, setup, seed, section["model"], {"section": section, "split": split}, log, errors)


def tabulate(runs: Sequence[Run]) -> dict[str, Any]:
    """The table of an ablation as plain data.

    Returns
    -------
    dict
        ``model``; ``sets``: of each its ``samples``, ``challenging_sample`` and ``challenging_block``; ``rows``: of each
        set-up its ``errors`` by set and measure, each with ``mean``, ``spread`` (standard deviation of the seeds; None for
        one), ``gain`` over the base in % and the ``values`` of the seeds; ``steps``, ``seconds``, ``seconds_per_step`` (the
        fastest between two validations), ``cost`` (seconds per step, relative to the base), and ``curves``.

    Raises
    ------
    InputError
        If the base is missing, or two runs differ in more than set-up and seed.
    """
    by_setup = {setup: [run for run in runs if run.setup == setup] for setup in SETUPS}
    base = by_setup[BASE]
    if not base:
        raise InputError("the ablation", f"no training of the set-up {BASE}", "the base that the others are compared with")
    _check_alike(runs)
    sets = {name: _challenging([run.errors[name] for run in base]) for name in base[0].errors}
    rows = [_row(setup, of_setup, base, sets) for setup, of_setup in by_setup.items() if of_setup]
    return {"model": base[0].model, "seeds": sorted(run.seed for run in base), "sets": sets, "rows": rows}


def write(out: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Write a table as JSON, and beside it as CSV and Markdown."""
    texts = {
        ".csv": to_csv(table),
        ".md": to_markdown(table),
        ".json": json.dumps(table, indent=2, sort_keys=True) + "\n",
    }
    for suffix, text in texts.items():
        with replacing(out.with_suffix(suffix)) as part:
            part.write_text(text, encoding="utf-8")
    return dict(table)


def to_csv(table: Mapping[str, Any]) -> str:
    """One line for each set-up, numbers in full; errors in meV, gains in %."""
    stream = io.StringIO()
    keys = [(name, key) for name in table["sets"] for key in MEASURES]
    errors = [f"{name}:{key}{tail}" for name, key in keys for tail in ("_mev", "_spread_mev", "_gain_percent")]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["setup", *errors, "steps", "seconds", "seconds_per_step", "cost"])
    for row in table["rows"]:
        cells = [row["errors"][name][key][part] for name, key in keys for part in ("mean", "spread", "gain")]
        costs = [row["steps"], row["seconds"], row["seconds_per_step"], row["cost"]]
        writer.writerow([row["setup"], *("" if cell is None else cell for cell in [*cells, *costs])])
    return stream.getvalue()


def to_markdown(table: Mapping[str, Any]) -> str:
    """The table in the paper's form, gains in brackets, and what the sets are."""
    heads = [f"{name}: {label}" for name in table["sets"] for label in MEASURES.values()]
    columns = ["", *heads, "steps", "seconds", "s/step", "cost"]
    lines = [f"Errors of H in meV (gain over the base in %){_of_seeds(table)}.", ""]
    lines += [_line(columns), _line(["---", *["---:"] * (len(columns) - 1)])]
    for row in table["rows"]:
        errors = [_cell(row["errors"][name][key]) for name in table["sets"] for key in MEASURES]
        costs = [str(row["steps"]), f"{row['seconds']:.0f}", f"{row['seconds_per_step']:.3g}", f"{row['cost']:.2f}"]
        lines.append(_line([row["name"], *errors, *costs]))
    lines.append("")
    for name, judge in table["sets"].items():
        worst = f"the base is worst on {judge['challenging_sample']} and on the block {judge['challenging_block']}"
        n = len(judge["samples"])
        lines.append(f"- {name}: {n} structure{'' if n == 1 else 's'}; {worst}.")
    return "\n".join([*lines, ""])


def _errors(file: Path) -> Errors:
    evaluation = read_evaluation(file)
    if evaluation is None:
        found = "there are no errors in it" if file.exists() else "does not exist"
        raise InputError(file, found, "errors of a trained set-up", "Evaluate it on calculations that are there")
    # A reference in the tree of results is known by its target.
    prefix, suffix = layout.REFERENCE.split("{target}")
    samples = {k.removeprefix(prefix).removesuffix(suffix): e for k, e in evaluation.hamiltonian.mae_per_sample.items()}
    return Errors(**{**vars(evaluation.hamiltonian), "mae_per_sample": samples})


def _check_alike(runs: Sequence[Run]) -> None:
    """Refuse a comparison of what differs in more than set-up and seed."""
    first = runs[0]
    if len({(run.setup, run.seed) for run in runs}) < len(runs):
        raise InputError(first.folder.parent, "two trainings of one set-up and seed", "each of them once")
    for run in runs:
        where, like = run.folder, f"as in {first.folder}"
        if run.common != first.common or run.model != first.model:
            raise InputError(where, "trained with other settings or data", f"those {like}, but for set-up and seed")
        if run.log[-1].step != first.log[-1].step:
            raise InputError(where, f"{run.log[-1].step} steps", f"{first.log[-1].step} steps, {like}", "Let it end")
        for name, errors in first.errors.items():
            theirs = run.errors[name]
            if errors.mae_per_sample.keys() != theirs.mae_per_sample.keys() or errors.mae_per_block.keys() != (
                theirs.mae_per_block.keys()
            ):
                raise InputError(where, f"judged by other structures of {name}", f"the same ones {like}", "Evaluate it again")


def _challenging(base: Sequence[Errors]) -> dict[str, Any]:
    """The samples of a set, and the sample and the block on which the base is worst."""
    per_sample, per_block = _mean([e.mae_per_sample for e in base]), _mean([e.mae_per_block for e in base])
    return {
        "samples": sorted(per_sample),
        "challenging_sample": max(sorted(per_sample), key=lambda name: per_sample[name]),
        "challenging_block": max(sorted(per_block), key=lambda name: per_block[name]),
    }


def _mean(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(table[name] for table in tables) for name in tables[0]}


def _measured(runs: Sequence[Run], name: str, judge: Mapping[str, Any]) -> dict[str, list[float]]:
    """The three errors of each of some runs on one set."""
    errors = [run.errors[name] for run in runs]
    return {
        "mae_all": [e.mae for e in errors],
        "mae_cha_sample": [e.mae_per_sample[judge["challenging_sample"]] for e in errors],
        "mae_cha_block": [e.mae_per_block[judge["challenging_block"]] for e in errors],
    }


def _row(setup: str, runs: Sequence[Run], base: Sequence[Run], sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    errors: dict[str, Any] = {}
    for name, judge in sets.items():
        mine, theirs = _measured(runs, name, judge), _measured(base, name, judge)
        errors[name] = {key: _compared(mine[key], theirs[key]) for key in MEASURES}
    added = SETUPS[setup]
    per_step, per_step_of_base = (fmean(_seconds_per_step(run.log) for run in of) for of in (runs, base))
    return {
        "setup": setup,
        "name": f"{runs[0].model}+{added}" if added else f"{runs[0].model} (baseline)",
        "errors": errors,
        "steps": runs[0].log[-1].step,
        "seconds": fmean(run.log[-1].seconds for run in runs),
        "seconds_per_step": per_step,
        "cost": per_step / per_step_of_base,
        "curves": [_curve(run) for run in runs],
    }


def _compared(values: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    spread = stdev(values) if len(values) > 1 else None
    gain = 100 * (1 - fmean(values) / fmean(base)) if fmean(base) > 0 else 0.0
    return {"mean": fmean(values), "spread": spread, "gain": gain, "values": list(values)}


def _seconds_per_step(log: Sequence[Row]) -> float:
    """Of the fastest stretch between two validations: other work on the machine only slows a training down."""
    starts = [(0, 0.0), *((row.step, row.seconds) for row in log[:-1])]
    return min((row.seconds - s) / (row.step - n) for row, (n, s) in zip(log, starts, strict=True))


def _curve(run: Run) -> dict[str, Any]:
    known = [row for row in run.log if isfinite(row.validation_mae)]
    columns = {key: [getattr(row, key) for row in known] for key in ("step", "seconds", "validation_mae")}
    return {"seed": run.seed, **columns}


def _of_seeds(table: Mapping[str, Any]) -> str:
    n = len(table["seeds"])
    return f", mean ± standard deviation of {n} seeds" if n > 1 else ""


def _cell(error: Mapping[str, Any]) -> str:
    spread = "" if error["spread"] is None else f" ± {error['spread']:.3f}"
    gain = "" if error["gain"] == 0 else f" ({error['gain']:+.0f})"
    return f"{error['mean']:.3f}{spread}{gain}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
