"""Seconds per k point of the eigensolvers on twisted bilayers of growing size, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/bands.py [--twists 1,2 2,3 ...] [--bands 40] [--dense-limit 2500] [--scipy-limit 7000]

The cells are twisted graphene bilayers; S is the overlap of the embedded example's basis (two-centre, exact), H the two-centre
part of its Hamiltonians, which has the sparsity and the spectrum of the real one. Times are processor seconds of one k
(first Gamma, where matrices are real, then a general k), so that what else the machine does counts little. ``scipy`` is
``scipy.sparse.linalg.eigsh(H, k, S, sigma)`` with its defaults. The last columns compare levels and give residuals.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse
from scipy.sparse.linalg import eigsh

from orbitrace import readers
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.eigensolvers import Levels, solve
from orbitrace.bands.inertia import count_below
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.physics.two_centre import TwoCentreTable, fit_two_centre

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "bilayer_graphene" / "data"
POINTS = {"Γ": (0.0, 0.0, 0.0), "general": (0.17, 0.31, 0.0)}
COLUMNS = ("m, n", "atoms", "orbitals", "nnz/row", "k", "sum, s", "dense, s", "scipy, s", "shift_invert, s")
RATIOS = ("dense/s.i.", "scipy/s.i.", "max |dE|, eV", "residual")

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds, and what `work` returns."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


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


def neutral(pencil: Pencil, n_electrons: int, guess: float) -> float:
    """An energy, eV, with about half as many levels below it as there are electrons, at Gamma."""
    H, S = pencil.at(POINTS["Γ"])
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


def row(pencil: Pencil, k: str, sigma: float, args: argparse.Namespace) -> list[str]:
    """One line of the table, from the third column on."""
    assembly, (H, S) = timed(lambda: pencil.at(POINTS[k]))
    sparse_s, levels = timed(lambda: solve("shift_invert", H, S, args.bands, sigma))
    others: list[tuple[float, np.ndarray] | None] = [None, None]
    if pencil.size <= args.dense_limit:
        seconds, dense = timed(lambda: solve("dense", H, S, args.bands, sigma))
        others[0] = seconds, dense.energies
    if pencil.size <= args.scipy_limit:
        others[1] = timed(lambda: by_scipy(H, S, args.bands, sigma))
    seconds_of = [f"{other[0]:.2f}" if other else "-" for other in others]
    ratios = [f"{other[0] / sparse_s:.1f}" if other else "-" for other in others]
    worst = max((distance(other[1], levels) for other in others if other), default=float("nan"))
    mark = "" if levels.solver == "shift_invert" else " (dense)"
    residual = levels.residuals.max() if levels.residuals is not None else float("nan")
    return [k, f"{assembly:.3f}", *seconds_of, f"{sparse_s:.2f}{mark}", *ratios, f"{worst:.1e}", f"{residual:.1e}"]


def distance(energies: np.ndarray, levels: Levels) -> float:
    """Largest difference of two runs of levels that may be off by one or two bands at their ends."""
    inner = levels.energies[2:-2]
    return float(np.abs(energies[:, None] - inner[None, :]).min(axis=0).max())


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twists", nargs="+", default=["1,2", "2,3", "4,5", "5,6", "7,8"], metavar="m,n")
    parser.add_argument("--bands", type=int, default=40)
    parser.add_argument("--dense-limit", type=int, default=2500, help="orbitals")
    parser.add_argument("--scipy-limit", type=int, default=7000, help="orbitals")
    args = parser.parse_args()
    console = Console(file=sys.stdout, width=150)
    console.print(
        f"threads: OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}; {args.bands} levels; processor seconds"
    )
    h, s = tables()
    table = Table()
    for column in (*COLUMNS, *RATIOS):
        table.add_column(column, justify="right")
    for twist in args.twists:
        m, n = map(int, twist.split(","))
        pencil = twisted(m, n, h, s)
        atoms = pencil.structure.n_atoms
        sigma = neutral(pencil, 4 * atoms, -5.07)
        density = len(pencil.pattern.indices) / pencil.size
        for k in POINTS:
            table.add_row(twist, str(atoms), str(pencil.size), f"{density:.0f}", *row(pencil, k, sigma, args))
    console.print(table)


if __name__ == "__main__":
    main()
