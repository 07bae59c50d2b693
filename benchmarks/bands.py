"""Seconds per k point of the eigensolvers on twisted bilayers of growing size, beside SciPy's own, in one run.

    OMP_NUM_THREADS=1 python benchmarks/bands.py [--twists 2,3 5,6 ...] [--bands 40] [--dense-limit 2500]
        [--scipy-limit 7000] [--factors pardiso multifrontal] [--points G k] [--reduced 24] [--reduced-limit 7000]

The cells are twisted graphene bilayers; S is the overlap of the embedded example's basis (two-centre, exact), H the two-centre
part of its Hamiltonians, which has the sparsity of the real one, but no Dirac point: its levels are denser at the Fermi level.
With --folders, H and S are those of DeepH folders, such as `orbitrace predict` writes for large twists.

Times are processor seconds of one k (Gamma, where matrices are real, and a general k), so that what else the machine does
counts little. The first line of each is ``scipy.sparse.linalg.eigsh(H, k, S, sigma)`` with its defaults, with which the others
are compared: their speed over its own, and the largest difference of levels. ``memory`` compares the forecast of a
factorisation with what a process of its own then takes. ``reduced`` is a straight path: what its basis costs, and one further
k. From 16 thousand orbitals SciPy takes minutes and more: raise --scipy-limit for them.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse
from scipy.sparse.linalg import eigsh

from orbitrace import interchange, readers
from orbitrace.bands import factors
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import solve
from orbitrace.bands.inertia import count_below, shifted
from orbitrace.bands.levels import Ask
from orbitrace.bands.reduced import ReducedRun
from orbitrace.bands.subspace import Interpolant
from orbitrace.errors import InputError
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.physics.two_centre import TwoCentreTable, fit_two_centre

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "bilayer_graphene" / "data"
POINTS = {"G": (0.0, 0.0, 0.0), "k": (0.17, 0.31, 0.0)}
COLUMNS = (
    "m, n",
    "orbitals",
    "nnz/row",
    "k",
    "method",
    "CPU s",
    "scipy / it",
    "max |dE|, eV",
    "residual",
    "first band",
    "notes",
)
NEUTRAL = -8.21  # eV, of these cells: where the bisection for the Fermi level begins

Row = list[str]

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds, and what `work` returns."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


@cache
def tables() -> tuple[TwoCentreTable, TwoCentreTable]:
    """Two-centre tables of H and S from the embedded example."""
    calculations = [readers.read(folder) for folder in sorted(EXAMPLE.glob("*/*")) if folder.is_dir()]
    h = fit_two_centre(((c.structure, c.basis, c.hamiltonian) for c in calculations), "smooth")
    s = fit_two_centre(((c.structure, c.basis, c.overlap) for c in calculations), "interpolate")
    return h, s


def twisted(m: int, n: int, h: TwoCentreTable, s: TwoCentreTable) -> Pencil:
    """The pencil of a twisted bilayer."""
    structure = twisted_bilayer(graphene(), m, n, 3.35)
    pairs = find_pairs(structure, s.basis)
    return Pencil(structure, s.basis, h.blocks(structure, s.basis, pairs), s.blocks(structure, s.basis, pairs))


def pencil_of(name: str) -> Pencil:
    """The pencil of a DeepH folder, or of the twist "m,n"."""
    if not Path(name).is_dir():
        return twisted(*map(int, name.split(",")), *tables())
    return Pencil.channels(interchange.read_folder(Path(name)))[0]


def neutral(pencil: Pencil, n_electrons: int, guess: float) -> float:
    """An energy, eV, with about half as many levels below it as there are electrons, at Gamma."""
    H, S = pencil.at(POINTS["G"])
    low, high, energy = guess - 8.0, guess + 8.0, guess
    for _ in range(20):
        excess = count_below(H, S, energy) - n_electrons // 2
        if abs(excess) <= 2:
            break
        low, high = (low, energy) if excess > 0 else (energy, high)
        energy = (low + high) / 2
    return energy


def by_scipy(H: sparse.csr_matrix, S: sparse.csr_matrix, n: int, sigma: float) -> np.ndarray:
    """Levels by SciPy's own shift-invert."""
    return np.sort(eigsh(H.tocsc(), n, S.tocsc(), sigma, return_eigenvectors=True)[0])


def rows_at(pencil: Pencil, k: str, sigma: float, args: argparse.Namespace) -> Iterator[Row]:
    """The lines of one k point: SciPy, dense, and each factorisation with both accuracies."""
    assembly, (H, S) = timed(lambda: pencil.at(POINTS[k]))
    scipy_seconds, reference = None, None
    if pencil.size <= args.scipy_limit:
        scipy_seconds, reference = timed(lambda: by_scipy(H, S, args.bands, sigma))
        yield [k, "scipy eigsh", f"{scipy_seconds:.2f}", "1", "", "", "", f"H(k) and S(k): {assembly:.2f} s"]
    ways = [("dense", {})] if pencil.size <= args.dense_limit else []
    ways += [("shift_invert", {"factor": f, "accuracy": a}) for f in args.factors for a in ("states", "values")]
    for solver, options in ways:
        if options:  # so that analyses are not charged to one k: they serve all
            factors.analyse(options["factor"], shifted(H, S, sigma), single=options["accuracy"] == "values")
        seconds, levels = timed(lambda solver=solver, options=options: solve(solver, H, S, args.bands, sigma, options))
        ratio = "" if scipy_seconds is None else f"{scipy_seconds / seconds:.1f}"
        error = "" if reference is None else f"{distance(reference, levels.energies):.1e}"
        name = " ".join([options.get("factor", solver), options.get("accuracy", "")]).strip()
        told = levels.factor if "(" in levels.factor or not options else "double precision"
        yield [k, name, f"{seconds:.2f}", ratio, error, f"{levels.residuals.max():.1e}", str(levels.first_band), told]


def distance(reference: np.ndarray, energies: np.ndarray) -> float:
    """Largest difference of two runs of levels that may be off by one or two bands at their ends."""
    return float(np.abs(reference[:, None] - energies[None, 2:-2]).min(axis=0).max())


def memory_rows(twist: str, k: str, args: argparse.Namespace) -> Iterator[Row]:
    """Forecast of each factorisation's memory, and what it took in a process of its own."""
    for name in args.factors:
        for single in (False, True):
            words = [sys.executable, __file__, "--measure", twist, k, name, str(int(single))]
            told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            ratio = told["forecast"] / told["measured"]
            megabytes = f"{told['forecast'] / 2**20:.0f} / {told['measured'] / 2**20:.0f} MiB = {ratio:.2f}"
            kind = "single" if single else "double"
            yield [k, f"{name} memory, {kind}", "", "", "", "", "", f"forecast / measured {megabytes}"]


def measure(twist: str, k: str, name: str, single: bool) -> None:
    """Print forecast and measured memory of one factorisation, in bytes (this process does nothing else)."""
    pencil = pencil_of(twist)
    H, S = pencil.at(POINTS[k])
    A = shifted(H, S, NEUTRAL)
    A = A.astype(factors.SINGLE[A.dtype]) if single else A
    del pencil, H, S
    factors.missing(name)  # loads its library
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status("VmRSS")
    analysis = factors.plugins.load(factors.ROOM, name).analyse(A, A.dtype)
    made = analysis.factor(A, False)
    made.solve(np.ones((A.shape[0], 8), dtype=A.dtype))
    print(json.dumps({"forecast": analysis.memory(), "measured": status("VmHWM") - before}))


def status(what: str) -> int:
    """A memory figure of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def reduced_rows(pencil: Pencil, sigma: float, scipy_seconds: float | None, args: argparse.Namespace) -> Iterator[Row]:
    """A reduced basis for a straight path from Gamma: what it costs to make, and one further k."""
    kpoints = np.linspace([0, 0, 0], [0.5, 0, 0], args.reduced)
    half = count_below(*pencil.at(kpoints[0]), sigma)
    bands = (half - args.bands // 2, half - args.bands // 2 + args.bands)
    run = ReducedRun(pencil, kpoints, Ask("shift_invert", bands=bands, sigma=sigma))
    built, _ = timed(run.build)
    solved, _ = timed(run.solve_all)
    checked, _ = timed(run.verify)
    run.levels()
    record = run.record()
    made = (
        f"{record['reduced_exact_k_points']} exact k with {record['reduced_checks']} checks, {record['reduced_basis']} vectors"
    )
    yield ["path", "reduced: basis", f"{built:.1f}", "", "", "", "", made]
    yield ["path", f"reduced: {len(kpoints)} k", f"{solved:.1f}", "", "", "", "", "projections, and all dense problems"]
    error = f"{record['reduced_check_error']:.1e}"
    yield ["path", "reduced: checks", f"{checked:.1f}", "", error, "", "", "exact, with counts at both ends"]
    interpolant = Interpolant(run.basis, kpoints)
    place = (kpoints[1] + kpoints[2]) / 2
    one, _ = timed(lambda: [run.reduced(interpolant.at(1, place)) for _ in range(5)])
    ratio = "" if scipy_seconds is None else f"{5 * scipy_seconds / one:.0f}"
    residual = f"{record['reduced_largest_residual']:.1e} eV"
    yield ["path", "reduced: further k", f"{one / 5:.3f}", ratio, "", residual, "", "with residuals"]


def rows_of(twist: str, pencil: Pencil, args: argparse.Namespace) -> Iterator[Row]:
    """All lines of one cell."""
    sigma = neutral(pencil, 4 * pencil.structure.n_atoms, NEUTRAL)
    scipy_seconds = None
    for k in args.points:
        for row in rows_at(pencil, k, sigma, args):
            if row[1].startswith("scipy"):
                scipy_seconds = float(row[2])
            yield row
        if args.memory:
            yield from memory_rows(twist, k, args)
    if args.reduced and 1000 < pencil.size <= args.reduced_limit:
        yield from reduced_rows(pencil, sigma, scipy_seconds if args.points[-1] == "k" else None, args)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twists", nargs="*", default=["1,2", "2,3", "4,5", "5,6"], metavar="m,n")
    parser.add_argument("--folders", nargs="+", default=[], metavar="FOLDER", help="DeepH folders, instead of twists")
    parser.add_argument("--bands", type=int, default=40)
    parser.add_argument("--points", nargs="+", choices=list(POINTS), default=list(POINTS))
    parser.add_argument("--dense-limit", type=int, default=2500, help="orbitals")
    parser.add_argument("--scipy-limit", type=int, default=7000, help="orbitals")
    parser.add_argument("--factors", nargs="+", default=[f for f in ("pardiso", "multifrontal") if not factors.missing(f)])
    parser.add_argument("--memory", action="store_true", help="forecasts and measured peaks")
    parser.add_argument("--reduced", type=int, default=0, metavar="N", help="a path of N k points in a reduced basis")
    parser.add_argument("--reduced-limit", type=int, default=20000, help="orbitals")
    parser.add_argument("--measure", nargs=4, metavar=("m,n", "k", "factor", "single"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark and print its table."""
    args = arguments()
    if args.measure:
        measure(*args.measure[:3], args.measure[3] == "1")
        return
    console = Console(file=sys.stdout, width=170)
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    console.print(f"threads: OMP_NUM_THREADS={threads}; {args.bands} levels; processor seconds; load {os.getloadavg()[0]:.1f}")
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("method", "notes") else "right")
    for twist in args.folders or args.twists:
        pencil = pencil_of(twist)
        density = len(pencil.pattern.indices) / pencil.size
        try:
            for row in rows_of(twist, pencil, args):
                table.add_row(Path(twist).name, str(pencil.size), f"{density:.0f}", *row)
                console.print("  ".join([twist, *row]))  # at once: the table comes last
        except InputError as reason:
            table.add_row(Path(twist).name, str(pencil.size), f"{density:.0f}", "", "", "", "", "", "", "", str(reason))
    console.print(table)


if __name__ == "__main__":
    main()
