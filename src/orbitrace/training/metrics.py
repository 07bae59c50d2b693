"""How far a predicted Hamiltonian is from the DFT code's: the metrics of DeepH-E3 and TraceGrad, in meV.

All means run over matrix elements that exist; there is no padding. A *basic block* is the sub-block of two shells, with spin
that of two shells of given spins, e.g. "Bi s1 up - Bi p1 down". Of complex elements the error is |predicted - H|, as in the
papers; collinear spin has no elements between up and down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orbitrace.physics.blocks import Blocks, Values
from orbitrace.physics.calculation import Spin
from orbitrace.physics.orbitals import SPECTROSCOPIC, SYMBOLS, Basis, Shells
from orbitrace.physics.structure import Floats, Structure

MEV = 1000.0


@dataclass(frozen=True)
class BlockErrors:
    """Sums of absolute errors of one structure, by basic block.

    Parameters
    ----------
    sums, counts
        Basic block, e.g. "C s1 - C p1" or "C s1 - C s2 on-site", -> sum of |error| in meV, and number of elements.
    gauge
        eV; mu of the shift mu S that brings the prediction closest to the reference (least squares).
    aligned
        meV; mean absolute error of all elements after that shift.
    """

    sums: Mapping[str, float]
    counts: Mapping[str, int]
    gauge: float
    aligned: float

    @property
    def mean(self) -> float:
        """Mean absolute error of all elements, meV."""
        return sum(self.sums.values()) / sum(self.counts.values())


def block_errors(
    structure: Structure, basis: Basis, predicted: Blocks, reference: Blocks, overlap: Blocks, spin: Spin = Spin.NONE
) -> BlockErrors:
    """Errors of a predicted Hamiltonian by basic block; all blocks in eV over the same pairs."""
    difference = predicted.with_values(predicted.values - reference.values)
    parts = _spin_parts(difference, overlap, spin)
    alike = [part for (first, second), part in parts.items() if first == second]
    norm = float(np.vdot(overlap.values, overlap.values).real) * len(alike)
    gauge = sum(float(np.vdot(overlap.values, part).real) for part in alike) / norm
    shift = gauge * overlap.values
    aligned = [np.abs(part - shift if first == second else part).mean() for (first, second), part in parts.items()]
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    zi, zj = structure.numbers[overlap.pairs[:, 3]], structure.numbers[overlap.pairs[:, 4]]
    for first, second, onsite in sorted({(int(a), int(b), bool(o)) for a, b, o in zip(zi, zj, overlap.onsite, strict=True)}):
        chosen = np.flatnonzero((zi == first) & (zj == second) & (overlap.onsite == onsite))
        rows, columns = overlap.shapes[chosen[0]]
        places = overlap.offsets[chosen][:, None] + np.arange(int(rows * columns))
        for spins, part in parts.items():
            errors = np.abs(part[places]).reshape(len(chosen), rows, columns) * MEV
            for name, block in _basic_blocks(errors, (first, second), spins, basis, onsite):
                sums[name] = sums.get(name, 0.0) + float(block.sum())
                counts[name] = counts.get(name, 0) + block.size
    return BlockErrors(sums, counts, gauge, float(np.mean(aligned)) * MEV)


def _spin_parts(blocks: Blocks, overlap: Blocks, spin: Spin) -> dict[tuple[str, str], Values]:
    """Values of the blocks between two spins, laid out like those of the overlap; without spin those of the blocks."""
    if spin is Spin.NONE:
        return {("", ""): blocks.values}
    names = (" up", " down")
    both = [(s, t) for s in (0, 1) for t in (0, 1) if s == t or spin is Spin.NONCOLLINEAR]
    n = len(overlap.values)
    parts: dict[tuple[str, str], Values] = {
        (names[s], names[t]): np.zeros(n, np.complex128) if np.iscomplexobj(blocks.values) else np.zeros(n) for s, t in both
    }
    for members, dense in blocks.groups():
        g, rows, columns = dense.shape
        quarters = dense.reshape(g, 2, rows // 2, 2, columns // 2)
        for s, t in both:
            overlap.with_group(parts[names[s], names[t]], members, quarters[:, s, :, t])
    return parts


def _basic_blocks(
    errors: Floats, elements: tuple[int, int], spins: tuple[str, str], basis: Basis, onsite: bool
) -> list[tuple[str, Floats]]:
    """(name, errors [n, rows, columns]) of every pair of shells."""
    first, second = elements
    rows, columns = _shell_names(basis[first]), _shell_names(basis[second])
    end = " on-site" if onsite else ""
    return [
        (f"{SYMBOLS[first]} {a}{spins[0]} - {SYMBOLS[second]} {b}{spins[1]}{end}", errors[:, at_a, at_b])
        for a, at_a in zip(rows, basis[first].slices, strict=True)
        for b, at_b in zip(columns, basis[second].slices, strict=True)
    ]


def _shell_names(shells: Shells) -> list[str]:
    """s1, s2, p1, ... in the order of the shells."""
    return [f"{SPECTROSCOPIC[l]}{shells.ls[: k + 1].count(l)}" for k, l in enumerate(shells.ls)]


def summarise(errors: Sequence[tuple[str, BlockErrors]]) -> dict[str, object]:
    """Metrics of several structures, each given with its name.

    Returns
    -------
    dict
        In meV: ``mae`` over all elements of all structures, ``mae_aligned`` after the gauge shift of each structure,
        ``mae_worst_sample`` with its name, ``mae_worst_block`` with its name, ``mae_per_block``, ``mae_per_sample``; and
        ``gauge_shift_mev`` per structure.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for _, e in errors:
        for name in e.sums:
            sums[name] = sums.get(name, 0.0) + e.sums[name]
            counts[name] = counts.get(name, 0) + e.counts[name]
    per_block = {name: sums[name] / counts[name] for name in sums}
    per_sample = {name: e.mean for name, e in errors}
    total = sum(counts.values())
    worst_sample = max(per_sample, key=lambda name: per_sample[name])
    worst_block = max(per_block, key=lambda name: per_block[name])
    return {
        "mae": sum(sums.values()) / total,
        "mae_aligned": sum(e.aligned * sum(e.counts.values()) for _, e in errors) / total,
        "mae_worst_sample": per_sample[worst_sample],
        "worst_sample": worst_sample,
        "mae_worst_block": per_block[worst_block],
        "worst_block": worst_block,
        "mae_per_block": per_block,
        "mae_per_sample": per_sample,
        "gauge_shift_mev": {name: e.gauge * MEV for name, e in errors},
    }
