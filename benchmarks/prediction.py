"""Prediction of twisted graphene bilayers of growing size: time and memory, in tiles and as one graph.

    OMP_NUM_THREADS=1 python benchmarks/prediction.py [--cells M ...] [--workers N] [--pairs N] [--whole-limit N]

Each cell (m, m + 1) goes the way of a target of the workflow, with the network of the embedded example: its pairs are found,
its overlap (made from the two-centre functions of the example's data) is written as a folder, and `orbitrace predict` reads
it, predicts, and writes. Seconds of `predict` are those of the clock; the time of processors, of all processes together, hangs
less on what else the machine does. Memory is the largest sum at one time over all processes (`Pss` of Linux, in which what
they share counts once). Cells up to --whole-limit atoms are also predicted as one graph, and the largest difference is given.
Exponents are those of time without what it takes to start the processes, which is that of a cell of 28 atoms each.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from orbitrace import interchange, readers
from orbitrace.overlaps import from_data
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.twist import graphene, twist_angle, twisted_bilayer
from orbitrace.prediction import TILES_EACH

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "bilayer_graphene"
CHECKPOINT = EXAMPLE / "pretrained" / "bilayer_graphene.pt"
COLUMNS = ("cell", "angle", "atoms", "pairs", "pairs s", "overlap s", "write s")
WAYS = ("as", "s", "CPU s", "ms CPU/pair", "peak GB", "max |dH|, eV")


@dataclass
class Cell:
    """One cell, and what was measured of it."""

    m: int
    structure: Path
    overlap: Path
    n_atoms: int = 0
    n_pairs: int = 0
    steps: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a prediction took."""

    seconds: float
    processor: float
    peak: float  # GB


def prepared(m: int, folder: Path) -> Cell:
    """The cell (m, m + 1) with its overlap, as the stages before a prediction leave them."""
    calculations = [readers.read(path) for path in sorted((EXAMPLE / "data").glob("*/*")) if path.is_dir()]
    table = from_data.fit((c.structure, c.basis, c.overlap) for c in calculations)
    atoms = twisted_bilayer(graphene(), m, m + 1, 3.35)
    cell = Cell(m, folder / f"{m}.extxyz", folder / f"overlap_{m}", atoms.n_atoms)
    interchange.write_structure(cell.structure, atoms)
    with timed(cell.steps, "pairs"):
        pairs = find_pairs(atoms, table.basis)
    cell.n_pairs = len(pairs)
    with timed(cell.steps, "overlap"):
        blocks = table.blocks(atoms, table.basis, pairs)
    with timed(cell.steps, "write"):
        interchange.write_overlap_folder(cell.overlap, atoms, table.basis, blocks, 4.0 * atoms.n_atoms)
    return cell


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Seconds of the processor."""
    begin = time.process_time()
    yield
    into[name] = time.process_time() - begin


def predicted(cell: Cell, out: Path, workers: int, pairs: int) -> Run:
    """`orbitrace predict` on one cell, in processes of its own."""
    options = {"--checkpoint": CHECKPOINT, "--structure": cell.structure, "--overlap": cell.overlap, "--out": out}
    options |= {"--workers": workers, "--pairs": pairs, "--accelerator": "cpu"}
    words = [sys.executable, "-c", "from orbitrace.cli import main; main()", "predict"]
    words += [str(word) for option in options.items() for word in option]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    peak = [0.0]
    watcher = threading.Thread(target=watch, args=(child, peak))
    watcher.start()
    said = child.communicate()[1]
    watcher.join()
    if child.returncode:
        sys.exit(f"orbitrace predict failed: {said}")
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, used, peak[0])


def watch(child: subprocess.Popen[str], peak: list[float]) -> None:
    """Look twice a second how much memory a process and its children have together."""
    while child.poll() is None:
        peak[0] = max(peak[0], sum(memory_of(pid) for pid in family(child.pid)))
        time.sleep(0.5)


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        children.setdefault(int(text.rsplit(")", 1)[1].split()[1]), []).append(int(status.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory_of(pid: int) -> float:
    """GB of a process; what it shares with others is divided among them."""
    try:
        shown = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(shown[1]) / 1e6 if shown else 0.0


def compared(one: Path, other: Path) -> float:
    """Largest difference of two predicted Hamiltonians, eV."""
    left, right = (interchange.read_folder(folder).hamiltonian for folder in (one, other))
    return float(np.abs(left.values - right.values).max())


def exponent(atoms: list[int], times: list[float]) -> float:
    """The x in: time grows as atoms^x."""
    return float(np.polyfit(np.log(atoms), np.log(times), 1)[0])


def report(options: argparse.Namespace, folder: Path, console: Console) -> None:
    """One table over all cells, and the exponents of their growth."""
    table = Table(title=f"Prediction with {options.workers} process(es), tiles of {options.pairs} pairs")
    for column in (*COLUMNS, *WAYS):
        table.add_column(column, justify="right")
    start = predicted(prepared(1, folder), folder / "start", 1, options.pairs)
    atoms: list[int] = []
    times: list[float] = []
    for m in options.cells:
        cell = prepared(m, folder)
        tiled = predicted(cell, folder / f"tiles_{m}", options.workers, options.pairs)
        processes = min(options.workers, cell.n_pairs // options.pairs // TILES_EACH)  # beside the first one
        atoms.append(cell.n_atoms)
        times.append(tiled.processor - (1 + processes * (processes > 1)) * start.processor)
        rows = [("tiles", tiled, "")]
        if cell.n_atoms <= options.whole_limit:
            whole = predicted(cell, folder / f"whole_{m}", 1, 10**9)
            rows.append(("one graph", whole, f"{compared(folder / f'tiles_{m}', folder / f'whole_{m}'):.1e}"))
        steps = (f"{cell.steps[name]:.1f}" for name in ("pairs", "overlap", "write"))
        first = f"({m}, {m + 1})", f"{twist_angle(m, m + 1):.2f}°", str(cell.n_atoms), str(cell.n_pairs), *steps
        for name, run, difference in rows:
            ms = 1e3 * run.processor / cell.n_pairs
            numbers = f"{run.seconds:.1f}", f"{run.processor:.1f}", f"{ms:.3f}", f"{run.peak:.2f}"
            table.add_row(*(first if name == "tiles" else [""] * len(first)), name, *numbers, difference)
    console.print(table, f"A process takes {start.processor:.1f} s of its processor and {start.peak:.2f} GB to start.")
    if len(times) > 1 and min(times) > 0:
        console.print(f"Without that, predict's processor time grows as atoms^{exponent(atoms, times):.2f}.")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[5, 9, 15, 31], metavar="M")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=20_000, help="of a tile")
    parser.add_argument("--whole-limit", type=int, default=1000, help="atoms, up to which it is also done as one graph")
    parser.add_argument("--folder", type=Path, help="where structures and results are kept; a temporary folder by default")
    options = parser.parse_args()
    console = Console(file=sys.stdout, width=160)
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        report(options, options.folder, console)
        return
    with tempfile.TemporaryDirectory(prefix="orbitrace-") as name:
        report(options, Path(name), console)


if __name__ == "__main__":
    main()
