"""The command line: one sub-command for each stage, and no logic.

Each takes its settings from plain options, and below them from `--settings` (JSON; what the rules pass) or `--config` (a file
like config.yaml). Input that cannot be used ends in one sentence and exit code 2. Heavy imports wait inside the functions, so
that help is instant.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from orbitrace import __version__
from orbitrace.commands import spectra
from orbitrace.commands.options import Code, Config, Folder, Name, Out, Settings, Shards, SomeShards, over, settings_of
from orbitrace.errors import InputError

app = typer.Typer(
    help="From raw DFT outputs to the bands of structures that DFT cannot reach.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; the entry point of the executable `orbitrace`."""
    try:
        app()
    except InputError as error:
        _give_up(f"orbitrace: {error}", 2)
    except OSError as error:
        _give_up(f"orbitrace: {error.filename or 'a file'}: {error.strerror or error}.", 2)
    except Exception:
        traceback.print_exc()
        _give_up("orbitrace: this is a defect of OrbiTrace, not of your input; please report it with the lines above.", 1)


def _give_up(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"orbitrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def scan(
    folder: Folder,
    out: Out,
    code: Code = None,
    shard_size: Annotated[int | None, typer.Option(help="Calculations per shard.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="How a changed file is noticed: mtime or hash.")] = None,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """List the raw calculations below a folder in a manifest, and say which shard each belongs to."""
    from orbitrace import stages
    from orbitrace.config import ScanSection

    chosen = settings_of(ScanSection, "scan", config, settings, shard_size=shard_size, fingerprint=fingerprint)
    found = stages.scan(folder, out, chosen, code or "auto")
    print(f"{len(found.calculations)} calculations, {len(found.shards)} shards: {out}")


@app.command()
def read(folder: Folder, out: Out, code: Code = None, config: Config = None, settings: Settings = None) -> None:
    """Read one raw calculation and write its Hamiltonian and overlap as a DeepH folder."""
    from orbitrace import stages
    from orbitrace.config import ReadSection

    stages.read(folder, out, settings_of(ReadSection, "read", config, settings, code=code))


@app.command()
def shard(
    folder: Folder,
    out: Out,
    manifest: Annotated[Path | None, typer.Option(help="Take only the calculations of one shard of this manifest.")] = None,
    number: Annotated[int | None, typer.Option("--shard", help="Number of that shard.")] = None,
    quarantine: Annotated[Path | None, typer.Option(help="Table of the calculations that were refused, and why.")] = None,
    on_bad: Annotated[str | None, typer.Option(help="At a bad calculation: quarantine it and go on, or stop.")] = None,
    code: Code = None,
    workers: Annotated[int, typer.Option(help="Processes that read.")] = 1,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Turn raw calculations into one shard: the numbers that a model learns from."""
    from orbitrace import stages
    from orbitrace.config import ShardSection

    if (manifest is None) != (number is None):
        raise InputError("orbitrace shard", "--manifest without --shard, or the other way", "both or none of them")
    part = None if manifest is None or number is None else (manifest, number)
    chosen = settings_of(ShardSection, "shard", config, settings, on_bad=on_bad)
    done = stages.shard(folder, out, chosen, part=part, code=code or "auto", quarantine=quarantine, workers=workers)
    for bad in done.quarantined:
        print(f"quarantined: {bad.cause}", file=sys.stderr)
    print(f"{len(done.ids)} calculations: {out}; {len(done.quarantined)} in quarantine: {done.table}")


@app.command()
def train(
    shards: Shards,
    out: Out,
    workdir: Annotated[Path | None, typer.Option(help="Where a stopped training goes on from; `run` beside --out.")] = None,
    model: Annotated[str | None, typer.Option(help="Network to train.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="End after this many steps.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="End after this many minutes.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and batches.")] = None,
    init_from: Annotated[str | None, typer.Option(help="Checkpoint to start from; the data may hold new elements.")] = None,
    name: Name = None,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Train a model on shards and write its checkpoint; a stopped training goes on where it was."""
    from orbitrace import stages
    from orbitrace.learning import LearnSection

    options = {"max_steps": max_steps, "max_minutes": max_minutes, "learning_rate": learning_rate, "seed": seed}
    given: dict[str, Any] = {"model": model, "init_from": init_from, "train": options}
    stages.train(shards, out, settings_of(LearnSection, "train", config, settings, name, **given), workdir)


@app.command()
def evaluate(
    out: Out,
    shards: SomeShards = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Model to judge, on shards or references.")] = None,
    predicted: Annotated[Path | None, typer.Option(help="DeepH folder with a predicted Hamiltonian.")] = None,
    reference: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="DeepH folder with that of the DFT code; several of them may judge a checkpoint."),
    ] = None,
    bands: Annotated[Path | None, typer.Option(help="Predicted bands, to be compared too.")] = None,
    split: Annotated[str | None, typer.Option(help="Calculations that judge: train, validation, test or all.")] = None,
    window: Annotated[tuple[float, float] | None, typer.Option(help="Bands that count, eV from the Fermi level.")] = None,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Write a table of errors: of a checkpoint on shards or references, or of one prediction against its reference."""
    from orbitrace import stages
    from orbitrace.config import EvaluateSection

    chosen = settings_of(EvaluateSection, "evaluate", config, settings, split=split, window=window)
    if checkpoint is not None and (shards or reference) and predicted is None:
        table = stages.evaluate(checkpoint, shards or [], out, chosen, reference or [])
        if "note" in table:
            print(table["note"], file=sys.stderr)
    elif predicted is not None and len(reference or []) == 1 and checkpoint is None:
        stages.evaluate_target(predicted, (reference or [])[0], out, chosen, bands)
    else:
        expected = "--checkpoint with SHARDS or --reference, or --predicted and one --reference"
        raise InputError("orbitrace evaluate", "nothing to compare", expected)


@app.command()
def ablate(
    runs: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="Folders of trainings that ended, with their errors; without any, all of it is computed."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Table of the trainings given: JSON, CSV and Markdown.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Model of the configuration whose set-ups are compared.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Steps of each training.")] = None,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Train the set-ups of TraceGrad's ablation, judge them, and write the table of their errors.

    `orbitrace ablate --config config.yaml` does all of it, one after another; what ended before is kept.
    `orbitrace ablate RUNS --out TABLE` makes the table of trainings that were done elsewhere.
    """
    from orbitrace import ablation, schema, serial, stages
    from orbitrace.config import load
    from orbitrace.setups import AblateSection

    if runs and out is not None:
        options: dict[str, Any] = {"model": name, "max_steps": max_steps}
        table = stages.ablate(runs, out, settings_of(AblateSection, "ablate", config, settings, **options))
    elif not runs and out is None and settings is None:
        whole = load(config or Path("config.yaml"))
        changed = over(whole.ablate.model_dump(), {"model": name, "max_steps": max_steps})
        section = schema.section_from(AblateSection, changed, "orbitrace ablate")
        whole = whole.model_copy(update={"ablate": section})
        table = serial.ablate(whole, lambda line: print(line, file=sys.stderr, flush=True))
    else:
        raise InputError("orbitrace ablate", "unclear what to do", "--config alone, or RUNS and --out")
    print(ablation.to_markdown(table))


@app.command()
def twist(
    out: Annotated[Path | None, typer.Option("--out", help="Structure to write; with --search a table.")] = None,
    search: Annotated[bool, typer.Option("--search", help="List the cells near --angle instead.")] = False,
    layer: Annotated[str | None, typer.Option(help="Layer below: file, or graphene, hbn, mos2_2h, ...")] = None,
    top: Annotated[str | None, typer.Option(help="Layer above, if another one.")] = None,
    m: Annotated[int | None, typer.Option(help="First index of the twist.")] = None,
    n: Annotated[int | None, typer.Option(help="Second index of the twist.")] = None,
    angle: Annotated[float | None, typer.Option(help="Twist, degrees, instead of m and n.")] = None,
    angle_tolerance: Annotated[float | None, typer.Option(help="How far from it a cell may be, degrees.")] = None,
    max_strain: Annotated[float | None, typer.Option(help="Largest strain of a layer; 0.01 is 1 %.")] = None,
    strained: Annotated[str | None, typer.Option(help="Layer that is strained: top, bottom or both.")] = None,
    max_atoms: Annotated[int | None, typer.Option(help="Largest cell.")] = None,
    stacking: Annotated[str | None, typer.Option(help="Registry before the twist: AA, AB, BA, AA', AB' or A'B.")] = None,
    centre: Annotated[str | None, typer.Option(help="Site below on the axis of the twist: A, B or hollow.")] = None,
    distance: Annotated[float | None, typer.Option(help="Distance of the layers, Å.")] = None,
    vacuum: Annotated[float | None, typer.Option(help="Empty space above the layers, Å.")] = None,
    relaxed: Annotated[str | None, typer.Option(help="File with relaxed positions of this cell.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --search: end after so many cells.")] = 20,
    name: Name = None,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Make a twisted bilayer of any two layers, or list the cells that they share.

    `orbitrace twist --m 1 --n 2 --out FILE`, or `orbitrace twist --top hbn --angle 0 --search`.
    """
    from orbitrace import stages
    from orbitrace.twisting import TwistSection

    given: dict[str, Any] = {"layer": layer, "top": top, "m": m, "n": n, "angle": angle, "angle_tolerance": angle_tolerance}
    given |= {"max_strain": max_strain, "strained": strained, "max_atoms": max_atoms, "stacking": stacking, "centre": centre}
    given |= {"distance": distance, "vacuum": vacuum, "relaxed": relaxed}
    chosen = settings_of(TwistSection, "twist", config, settings, name, **given)
    if search:
        rows = stages.twist_cells(chosen, limit, out)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        print("\n".join("  ".join(map(str.rjust, row, widths)) for row in rows))
    elif out is None:
        raise InputError("orbitrace twist", "no --out", "the structure to write", "Give --out FILE, or --search")
    else:
        print(f"{stages.twist(out, chosen)}: {out}")


@app.command()
def overlap(
    out: Out,
    shards: SomeShards = None,
    table: Annotated[Path | None, typer.Option(help="Table that an earlier call made from shards.")] = None,
    structure: Annotated[Path | None, typer.Option(help="Structure file, or a DeepH folder.")] = None,
    way: Annotated[str | None, typer.Option(help="How it is made.")] = None,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Make the overlap matrix of a structure without a DFT run.

    First `orbitrace overlap SHARDS --out TABLE`, then `orbitrace overlap --table TABLE --structure FILE --out DIR`.
    """
    from orbitrace import stages
    from orbitrace.config import OverlapSection

    chosen = settings_of(OverlapSection, "overlap", config, settings, way=way)
    if shards and table is None and structure is None:
        stages.overlap_table(shards, out, chosen)
    elif table is not None and structure is not None and not shards:
        stages.overlap(structure, table, out, chosen)
    else:
        raise InputError("orbitrace overlap", "neither a table nor an overlap to make", "SHARDS, or --table and --structure")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Option(help="Trained model.")],
    structure: Annotated[Path, typer.Option(help="Structure file, or a DeepH folder.")],
    overlap: Annotated[Path, typer.Option(help="Folder with its overlap matrix.")],
    out: Out,
    pairs: Annotated[int | None, typer.Option(help="Atom pairs that a process has in memory at a time.")] = None,
    accelerator: Annotated[str | None, typer.Option(help="auto, cpu or gpu.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share a large structure.")] = 1,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Predict the Hamiltonian of a structure and write it, with the overlap, as a DeepH folder.

    A large structure is predicted in tiles; if it is killed, the same command goes on from the last finished tile.
    """
    from orbitrace import stages
    from orbitrace.config import PredictSection

    chosen = settings_of(PredictSection, "predict", config, settings, pairs=pairs, accelerator=accelerator)
    stages.predict(checkpoint, structure, overlap, out, chosen, workers)


for _command in (spectra.bands, spectra.dos, spectra.unfold):
    app.command()(_command)


@app.command()
def report(out: Out = Path("results/report.html"), config: Config = Path("config.yaml"), settings: Settings = None) -> None:
    """Put everything that was computed on one page."""
    from orbitrace import stages
    from orbitrace.config import Contents

    stages.report(out, settings_of(Contents, "report", config, settings))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="DeepH folder, raw calculation, or structure file.")],
    out: Out,
    to: Annotated[str, typer.Option(help="What to make of it: deeph, deeph-legacy, or structure.")] = "deeph",
) -> None:
    """Write a calculation, or only its structure, in another format."""
    from orbitrace import stages

    stages.convert(source, out, to)


@app.command()
def status(config: Annotated[Path, typer.Option("--config", help="Configuration file.")] = Path("config.yaml")) -> None:
    """Say what is done and what is missing, with the headline numbers."""
    from orbitrace import stages
    from orbitrace.config import load

    print("\n".join(stages.status(load(config))))
