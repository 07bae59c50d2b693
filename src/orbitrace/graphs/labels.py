"""Labels: what of H a network has to learn, and on which scale.

H = known + scale * x. What is known beforehand is the two-centre part of H, averaged over the training data as a function of
distance (`physics.two_centre`), and what the target adds to it (`graphs.targets`). The scale is the root mean square of what
is left, per pair of elements, irrep and distance. They depend on lengths and elements alone (an H0 turns as H does), so x
transforms as H does, and is of order one for near and far pairs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.graphs.batches import Labels, Sample
from orbitrace.graphs.graph import BlockGroup, Graph, Kind, group_values, irreps_of_kind, make_graph, shell_pairs_of_kind
from orbitrace.graphs.targets import ABSOLUTE, TARGETS, Split, Target, check_target, fit_reference
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.structure import Floats, Ints, Structure
from orbitrace.physics.two_centre import TwoCentreTable

KNOTS = 25  # of the scale, on [0, cutoff of the pair]
FLOOR = 1e-6  # eV; channels that vanish by symmetry have no spread


@dataclass(frozen=True, eq=False)
class Scales:
    """Root mean square of H - reference per component of the irreps: {kind: [KNOTS, components] eV} ([1, components]
    on-site).
    """

    tables: dict[Kind, Floats]

    def at(self, group: BlockGroup, graph: Graph) -> Floats:
        """[g, components] scale of the blocks of a group, linear between knots."""
        table = self.tables[group.kind]
        if len(group.kind) == 1:
            return np.repeat(table, len(group.members), axis=0)
        left, weight = _hat(graph.ratio[group.members])
        return table[left] * (1 - weight)[:, None] + table[left + 1] * weight[:, None]


def _hat(ratio: Floats) -> tuple[Ints, Floats]:
    """Knot to the left of each length / cutoff, and how far it is towards the next one, 0..1."""
    x = np.clip(ratio, 0.0, 1.0) * (KNOTS - 1)
    left = np.minimum(x.astype(np.int64), KNOTS - 2)
    return left, x - left


def fit_scales(samples: Iterable[tuple[Graph, Blocks]], basis: Basis) -> Scales:
    """Scales from (graph, residual) of the training structures, which are read once and not kept."""
    sums: dict[Kind, Floats] = {}
    weights: dict[Kind, Floats] = {}
    for graph, residual in samples:
        for group in graph.groups:
            x = group_values(residual, group) @ irreps_of_kind(basis, group.kind).matrix
            squares = _mean_over_m(x**2, basis, group.kind)
            if len(group.kind) == 1:
                hats = np.ones((len(x), 1))
            else:
                left, weight = _hat(graph.ratio[group.members])
                hats = np.zeros((len(x), KNOTS))
                np.put_along_axis(hats, left[:, None], (1 - weight)[:, None], axis=1)
                np.put_along_axis(hats, left[:, None] + 1, weight[:, None], axis=1)
            sums[group.kind] = sums.get(group.kind, 0.0) + hats.T @ squares
            weights[group.kind] = weights.get(group.kind, 0.0) + hats.sum(0)
    return Scales({kind: _root_mean_square(sums[kind], weights[kind]) for kind in sums})


def _root_mean_square(sums: Floats, weights: Floats) -> Floats:
    """Filled from the nearest knot with data where a knot has none."""
    filled = np.flatnonzero(weights > 1e-9)
    nearest = filled[np.abs(np.arange(len(weights))[:, None] - filled).argmin(1)]
    spread: Floats = np.sqrt(sums[nearest] / weights[nearest, None]) + FLOOR
    return spread


def _mean_over_m(squares: Floats, basis: Basis, kind: Kind) -> Floats:
    """Every component replaced by the mean over its irrep, so that scaling keeps equivariance."""
    result, at = np.empty_like(squares), 0
    for channel in irreps_of_kind(basis, kind).channels:
        place = slice(at, at + 2 * channel.L + 1)
        result[:, place] = squares[:, place].mean(1, keepdims=True)
        at = place.stop
    return result


def make_labels(graph: Graph, basis: Basis, scales: Scales, residual: Blocks | None) -> Labels:
    """Labels of one structure; `residual`, what the reference leaves of H, is None for a structure to be predicted."""
    scale = [scales.at(group, graph) for group in graph.groups]
    values = [] if residual is None else [group_values(residual, g) for g in graph.groups]
    traces = []
    for group, part, s in zip(graph.groups, values, scale, strict=False):
        x = part @ irreps_of_kind(basis, group.kind).matrix / s
        basic, count = shell_pairs_of_kind(basis, group.kind)
        traces.append(x**2 @ (basic[:, None] == np.arange(count)))
    return Labels(scale, values, traces)


def check_learnable(calculation: Calculation, where: str) -> None:
    """Refuse a calculation with spin, with H and overlap over other pairs, or with elements of H that are not finite.

    Raises
    ------
    InputError
        With `where` and what the calculation was read from.
    """
    source, place = calculation.provenance.source, _place(calculation, where)
    if calculation.spin is not Spin.NONE:
        raise InputError(
            where,
            f"a calculation with spin ({calculation.spin.value}): {source}",
            "calculations without spin",
            "Spin-resolved Hamiltonians are read, converted and diagonalised, but not yet learned",
        )
    _check_pairs(calculation.hamiltonian, calculation.overlap, place)
    bad = np.count_nonzero(~np.isfinite(calculation.hamiltonian.values))
    if bad:
        raise InputError(place, f"{bad} elements of H are not finite", "numbers", "Take this calculation out")


def _place(calculation: Calculation, where: str) -> str:
    """What to name in a message about one calculation of many: all of them, and what this one was read from."""
    source = calculation.provenance.source
    return f"{where}: {source}" if source else where


def _check_pairs(hamiltonian: Blocks, overlap: Blocks, where: str) -> None:
    if not np.array_equal(hamiltonian.pairs, overlap.pairs):
        raise InputError(
            where,
            f"the Hamiltonian has {hamiltonian.n_pairs} blocks and the overlap {overlap.n_pairs}, over other pairs",
            "both over the same pairs, which are the edges of the graph",
        )


@dataclass(frozen=True, eq=False)
class Labeller:
    """Turns structures into samples of a batch: graph, reference, scale, and what is to be learned.

    Parameters
    ----------
    basis
        Elements and shells of the training data; their order numbers the elements of every graph.
    reference
        Two-centre average of H over the training data, eV.
    scales
        Size of what is left.
    l_max
        Largest l of the rotations that the network wants.
    split
        Which part of H is learned.
    """

    basis: Basis
    reference: TwoCentreTable
    scales: Scales
    l_max: int
    split: Split = ABSOLUTE

    def sample(
        self,
        structure: Structure,
        overlap: Blocks,
        hamiltonian: Blocks | None = None,
        name: str = "",
        initial: Blocks | None = None,
    ) -> Sample:
        """One structure, with labels if its H (and, where the target needs it, H0) is given.

        Raises
        ------
        InputError
            If H and overlap are not over the same pairs, or H0 is needed and missing.
        """
        graph = make_graph(structure, self.basis, overlap, self.l_max)
        residual = None
        if hamiltonian is not None:
            _check_pairs(hamiltonian, overlap, name or "structure")
            reference = self.reference.blocks(structure, self.basis, overlap.pairs)
            learned = self.split.learned(hamiltonian, overlap, initial, reference, name or "structure")
            residual = learned.with_values(learned.values - reference.values)
        return Sample(name, graph, make_labels(graph, self.basis, self.scales, residual))

    def known(self, structure: Structure, overlap: Blocks, initial: Blocks | None = None, where: str = "structure") -> Blocks:
        """What is added to the network's part of H, eV. Raises InputError if the target needs H0 and it is missing."""
        reference = self.reference.blocks(structure, self.basis, overlap.pairs)
        return self.split.known(reference, overlap, initial, where)

    def check_neighbours(self, structure: Structure, overlap: Blocks, where: str) -> None:
        """Refuse pairs of elements that never were neighbours in the training data, with an InputError."""
        ends = np.sort(structure.numbers[overlap.pairs[~overlap.onsite, 3:]], axis=1)
        strange = {(a, b) for a, b in np.unique(ends, axis=0).tolist()} - set(self.reference.bonds)
        if strange:
            names = ", ".join(f"{SYMBOLS[a]}-{SYMBOLS[b]}" for a, b in sorted(strange))
            known = ", ".join(f"{SYMBOLS[a]}-{SYMBOLS[b]}" for a, b in self.reference.bonds)
            raise InputError(where, f"{names} are neighbours, which the training data never had", f"pairs among {known}")

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything but the basis as plain arrays, for a checkpoint."""
        scales = {"scale_" + "_".join(map(str, kind)): table for kind, table in self.scales.tables.items()}
        split = {"target": np.array(TARGETS.index(self.split.target)), "zero": np.array(self.split.zero)}
        return {**{f"reference_{key}": value for key, value in self.reference.to_arrays().items()}, **scales, **split}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[np.generic]], basis: Basis, l_max: int) -> Labeller:
        """The inverse of `to_arrays`."""
        reference = {key.removeprefix("reference_"): x for key, x in arrays.items() if key.startswith("reference_")}
        tables = {
            tuple(int(k) for k in key.removeprefix("scale_").split("_")): np.asarray(x, dtype=np.float64)
            for key, x in arrays.items()
            if key.startswith("scale_")
        }
        split = Split(TARGETS[int(arrays.get("target", 0))], float(arrays.get("zero", 0.0)))  # both are new
        return Labeller(basis, TwoCentreTable.from_arrays(reference), Scales(tables), l_max, split)


def fit_labeller(
    calculations: Callable[[], Iterator[Calculation]], l_max: int, where: str, target: Target = "absolute"
) -> Labeller:
    """Reference and scales from training calculations, which are passed over some times and never kept together.

    Raises
    ------
    InputError
        If the calculations have two bases for one element, are not learnable, or lack what the target needs.
    """
    basis: Basis | None = None
    for calculation in calculations():
        check_learnable(calculation, where)
        check_target(calculation, target, where)
        basis = calculation.basis if basis is None else basis.merged(calculation.basis, _place(calculation, where))
    if basis is None:
        raise InputError(where, "no calculations", "at least one to train on")
    whole = basis  # of all, whose inferred radii explain every pair
    table, split = fit_reference(calculations, whole, target, where)

    def samples() -> Iterator[tuple[Graph, Blocks]]:
        for c in calculations():
            reference = table.blocks(c.structure, whole, c.hamiltonian.pairs)
            learned = split.learned(c.hamiltonian, c.overlap, c.initial, reference)
            yield make_graph(c.structure, whole, c.overlap, 0), learned.with_values(learned.values - reference.values)

    return Labeller(whole, table, fit_scales(samples(), whole), l_max, split)
