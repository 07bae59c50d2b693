"""How fast raw calculations are read, from the cache of the machine on one core, all codes side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/reading.py [--twist 4,5]

One calculation (a twisted bilayer, H and S two-centre, fitted to the embedded example) is written as each code writes it, by
the writers of the tests, and read. OpenMX' own file is that of the embedded example. ``reader`` is the reader alone, ``whole``
with the door: house order, Hermitian part, all checks. Processor seconds, the best of three; MB of the files that are read.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orbitrace import interchange, plugins, readers
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.physics.two_centre import fit_two_centre

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "bilayer_graphene"
sys.path.insert(0, str(ROOT / "tests"))


def calculation(m: int, n: int) -> Calculation:
    """A twisted bilayer with the two-centre parts of H and S."""
    known = [readers.read(folder) for folder in sorted((EXAMPLE / "data").glob("*/*")) if folder.is_dir()]
    h = fit_two_centre(((c.structure, c.basis, c.hamiltonian) for c in known), "smooth")
    s = fit_two_centre(((c.structure, c.basis, c.overlap) for c in known), "interpolate")
    flat = twisted_bilayer(graphene(), m, n, 3.35)
    structure = Structure(flat.positions, flat.lattice, flat.numbers, (True, True, True))
    pairs = find_pairs(structure, known[0].basis)
    of_h, of_s = (table.blocks(structure, known[0].basis, pairs) for table in (h, s))
    return Calculation(structure, known[0].basis, of_h, of_s, -4.0, 4.0 * len(flat.numbers), Spin.NONE, Provenance("x", "x"))


def best(work: Callable[[], object]) -> float:
    """Least processor seconds of three runs."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--twist", default="4,5")
    m, n = (int(x) for x in parser.parse_args().twist.split(","))
    house = calculation(m, n)
    writers: dict[str, tuple[str, Callable[[Path], object]]] = {
        f"abacus, {kind}": ("abacus", lambda f, k=kind: importlib.import_module("raw_files.abacus").write(f, house, k))
        for kind in ("old", "new", "binary")
    }
    for name in ("aims", "siesta", "deeph_legacy"):
        writers[name] = (name, lambda f, n=name: importlib.import_module(f"raw_files.{n}").write(f, house))
    writers["deeph"] = ("deeph", lambda folder: interchange.write_folder(folder, house))
    table = Table("code", "MB", "reader, s", "MB/s", "whole, s", "MB/s", title=f"{house.structure.n_atoms} atoms")

    def row(label: str, code: str, folder: Path) -> None:
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        alone = best(lambda: plugins.load("readers", code).read(folder))
        whole = best(lambda: readers.read(folder, code))
        numbers = (megabytes, alone, megabytes / alone, whole, megabytes / whole)
        table.add_row(label, *(f"{x:.3g}" for x in numbers))

    for label, (code, write) in writers.items():
        with tempfile.TemporaryDirectory() as name:
            write(Path(name))
            row(label, code, Path(name))
    row("openmx, .xz of the example", "openmx", EXAMPLE / "references" / "twisted_1_2")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
