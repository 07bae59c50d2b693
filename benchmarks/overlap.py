"""Overlap of twisted graphene bilayers from basis files: seconds and peak memory against the number of atoms.

    OMP_NUM_THREADS=1 python benchmarks/overlap.py [--pao FOLDER] [--basis NAME] [--cells M ...] [--door]

Each cell (m, m + 1) is computed in a process of its own, whose peak memory is that of the interpreter and its libraries
(0.1 GB) and of everything the overlap needs. Steps: the tables of the radial integrals, the pairs of atoms, and the blocks.
With --door, once more as the stage `overlap` does it: through `overlaps.overlap`, which checks the blocks besides, and written
as a DeepH folder. "cpu" is what all that took of the processor, where others use the machine too. The last line fits
time ~ atoms^x, of the processor.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from orbitrace import interchange, overlaps
from orbitrace.overlaps import from_pao
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.twist import graphene, twist_angle, twisted_bilayer

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "openmx" / "DFT_DATA13" / "PAO"


@dataclass(frozen=True)
class Result:
    """What one process measured."""

    n_atoms: int
    n_blocks: int
    values: float  # GB
    tables: float  # s
    pairs: float
    blocks: float
    write: float
    cpu: float
    peak: float  # GB


def measure(m: int, name: str, pao: Path, door: bool) -> Result:
    """The overlap of the cell (m, m + 1)."""
    basis = from_pao.named_basis([name], pao)
    structure = twisted_bilayer(graphene(), m, m + 1, 3.35)
    begin = time.perf_counter()
    table = from_pao.build(basis, pao)
    built = time.perf_counter()
    n_pairs = len(find_pairs(structure, basis))
    found, used = time.perf_counter(), time.process_time()
    if door:
        blocks = overlaps.overlap("from_pao", structure, basis, table=table)
    else:
        blocks = table.blocks(structure, basis, find_pairs(structure, basis))
    done = written = time.perf_counter()
    if door:
        with TemporaryDirectory() as folder:
            interchange.write_overlap_folder(Path(folder) / "overlap", structure, basis, blocks)
            written = time.perf_counter()
    pairs = found - built
    seconds = built - begin, pairs, done - found - pairs, written - done, time.process_time() - used  # pairs were found twice
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return Result(structure.n_atoms, n_pairs, blocks.values.nbytes / 1e9, *seconds, peak)


def alone(m: int, name: str, pao: Path, door: bool) -> Result:
    """`measure` in a fresh process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, m, name, pao, door).result()


def report(cells: list[int], name: str, pao: Path, door: bool, console: Console) -> None:
    """One table over all cells, and the exponent of its growth."""
    title = f"Overlap of twisted bilayers, {name}" + (", through the door with its checks, and written" if door else "")
    table = Table(title=title)
    columns = (
        "cell",
        "angle",
        "atoms",
        "blocks",
        "GB",
        "tables s",
        "pairs s",
        "blocks s",
        "write s",
        "all s",
        "cpu s",
        "peak GB",
    )
    for column in columns:
        table.add_column(column, justify="right")
    results = []
    for m in cells:
        r = alone(m, name, pao, door)
        results.append((r.n_atoms, r.cpu))
        every = r.tables + r.pairs + r.blocks + r.write
        seconds = (f"{x:.2f}" for x in (r.tables, r.pairs, r.blocks, r.write, every, r.cpu))
        cell = f"({m}, {m + 1})", f"{twist_angle(m, m + 1):.2f}°", str(r.n_atoms), str(r.n_blocks), f"{r.values:.2f}"
        table.add_row(*cell, *seconds, f"{r.peak:.2f}")
    console.print(table)
    if len(results) > 1:
        atoms, times = np.log(np.array(results)).T
        console.print(f"all but the tables: time ~ atoms^{np.polyfit(atoms, times, 1)[0]:.2f}")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pao", type=Path, default=SHARED, help="folder with the .pao file of the basis")
    parser.add_argument("--basis", default="C6.0-s2p2d1")
    parser.add_argument("--cells", type=int, nargs="+", default=[5, 10, 20, 31], metavar="M")
    parser.add_argument("--door", action="store_true", help="also through the door, with its checks, and written")
    args = parser.parse_args()
    console = Console(file=sys.stdout, width=127)
    for door in (False, True)[: 1 + args.door]:
        report(args.cells, args.basis, args.pao, door, console)


if __name__ == "__main__":
    main()
