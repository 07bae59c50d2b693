"""Labels: what of H a network has to learn, and on which scale.

H = known + scale * x. What is known beforehand is the two-centre part of H, averaged over the training data as a function of
distance (`physics.two_centre`), and what the target adds to it (`graphs.targets`). The scale is the root mean square of what
is left, per pair of elements, irrep and distance. They depend on lengths and elements alone (an H0 turns as H does), so x
transforms as H does, and is of order one for near and far pairs alike.

With spin the two-centre part is that of the mean over spin, (uu + dd) / 2. Of the rest of H what is known is the mean of the
invariants of on-site blocks, such as the spin-orbit constant or the exchange splitting of an atom's shells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.graphs.batches import Labels, Sample
from orbitrace.graphs.graph import BlockGroup, Graph, Kind, group_values, irreps_of_kind, make_graph, shell_pairs_of_kind
from orbitrace.graphs.irreps import BlockIrreps
from orbitrace.graphs.spin import (
    SpinKind,
    TimeReversal,
    check_time_reversal,
    doubled,
    kind_of,
    mean_over_spin,
    projected,
    time_reversal_violation,
    to_dense,
)
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
    """Size of H - reference per component of the irreps.

    Parameters
    ----------
    tables
        Root mean square of each kind of blocks: [KNOTS, components] eV ([1, components] on-site).
    means
        What the reference holds beside its two-centre part, of on-site blocks: [components] eV. Without spin there is none.
    """

    tables: dict[Kind, Floats]
    means: dict[Kind, Floats] = field(default_factory=dict)

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


def fit_scales(samples: Iterable[tuple[Graph, Blocks]], basis: Basis, spin: SpinKind = SpinKind.NONE) -> Scales:
    """Scales from (graph, what the two-centre part leaves) of the training structures, which are read once and not kept."""
    sums: dict[Kind, Floats] = {}
    weights: dict[Kind, Floats] = {}
    totals: dict[Kind, Floats] = {}  # of on-site blocks
    for graph, residual in samples:
        for group in graph.groups:
            irreps = irreps_of_kind(basis, group.kind, spin)
            x = group_values(residual, group, spin) @ irreps.matrix
            squares = _mean_over_m(x**2, irreps)
            if len(group.kind) == 1:
                hats = np.ones((len(x), 1))
                totals[group.kind] = totals.get(group.kind, 0.0) + x.sum(0)
            else:
                left, weight = _hat(graph.ratio[group.members])
                hats = np.zeros((len(x), KNOTS))
                np.put_along_axis(hats, left[:, None], (1 - weight)[:, None], axis=1)
                np.put_along_axis(hats, left[:, None] + 1, weight[:, None], axis=1)
            sums[group.kind] = sums.get(group.kind, 0.0) + hats.T @ squares
            weights[group.kind] = weights.get(group.kind, 0.0) + hats.sum(0)
    means = {}
    for kind, total in totals.items() if spin is not SpinKind.NONE else ():
        means[kind] = np.where(_left_out(irreps_of_kind(basis, kind, spin)), total / weights[kind][0], 0.0)
        sums[kind] = np.maximum(sums[kind] - weights[kind][0] * means[kind] ** 2, 0.0)
    return Scales({kind: _root_mean_square(sums[kind], weights[kind]) for kind in sums}, means)


def _left_out(irreps: BlockIrreps) -> NDArray[np.bool_]:
    """[components] which of them are invariants (0e) of matrices other than the mean over spin."""
    invariant = [c.L == 0 and c.natural and c.multiplet > 0 for c in irreps.channels]
    return np.repeat(invariant, [2 * c.L + 1 for c in irreps.channels])


def _root_mean_square(sums: Floats, weights: Floats) -> Floats:
    """Filled from the nearest knot with data where a knot has none."""
    filled = np.flatnonzero(weights > 1e-9)
    nearest = filled[np.abs(np.arange(len(weights))[:, None] - filled).argmin(1)]
    spread: Floats = np.sqrt(sums[nearest] / weights[nearest, None]) + FLOOR
    return spread


def _mean_over_m(squares: Floats, irreps: BlockIrreps) -> Floats:
    """Every component replaced by the mean over its irrep, so that scaling keeps equivariance."""
    result, at = np.empty_like(squares), 0
    for channel in irreps.channels:
        place = slice(at, at + 2 * channel.L + 1)
        result[:, place] = squares[:, place].mean(1, keepdims=True)
        at = place.stop
    return result


def make_labels(graph: Graph, basis: Basis, scales: Scales, residual: Blocks | None, spin: SpinKind = SpinKind.NONE) -> Labels:
    """Labels of one structure; `residual`, what the reference leaves of H, is None for a structure to be predicted."""
    scale = [scales.at(group, graph) for group in graph.groups]
    values = [] if residual is None else [group_values(residual, g, spin) for g in graph.groups]
    traces = []
    for group, part, s in zip(graph.groups, values, scale, strict=False):
        x = part @ irreps_of_kind(basis, group.kind, spin).matrix / s
        basic, count = shell_pairs_of_kind(basis, group.kind, spin)
        traces.append(x**2 @ (basic[:, None] == np.arange(count)))
    return Labels(scale, values, traces)


def check_learnable(calculation: Calculation, where: str) -> None:
    """Refuse a calculation with H and overlap over other pairs, or with elements of H that are not finite.

    Raises
    ------
    InputError
        With `where` and what the calculation was read from.
    """
    place = _place(calculation, where)
    _check_pairs(calculation.hamiltonian, calculation.overlap, place)
    bad = np.count_nonzero(~np.isfinite(calculation.hamiltonian.values))
    if bad:
        raise InputError(place, f"{bad} elements of H are not finite", "numbers", "Take this calculation out")


def check_spin(calculation: Calculation, spin: Spin, where: str) -> None:
    """Refuse a calculation whose spin is not treated as in the training data, with an InputError."""
    if calculation.spin is not spin:
        raise InputError(
            _place(calculation, where),
            f"its spin is treated as {calculation.spin.value!r}, but {spin.value!r} in other calculations of the training",
            "one treatment of spin in all calculations that a network learns",
            "Train one model on each kind",
        )


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
        Two-centre average of H (with spin of its mean over spin) over the training data, eV.
    scales
        Size of what is left.
    l_max
        Largest l of the rotations that the network wants.
    split
        Which part of H is learned.
    spin
        How spin is learned.
    violation
        eV; half the largest change of the training data's H under time reversal, where spinors were asked for it.
    """

    basis: Basis
    reference: TwoCentreTable
    scales: Scales
    l_max: int
    split: Split = ABSOLUTE
    spin: SpinKind = SpinKind.NONE
    violation: float = 0.0

    def sample(
        self,
        structure: Structure,
        overlap: Blocks,
        hamiltonian: Blocks | None = None,
        name: str = "",
        initial: Blocks | None = None,
        whole: bool = True,
    ) -> Sample:
        """One structure, or a part of one, with labels if its H (and, where the target needs it, H0) is given.

        Raises
        ------
        InputError
            If H and overlap are not over the same pairs, or H0 is needed and missing.
        """
        graph = make_graph(structure, self.basis, overlap, self.l_max, whole)
        residual = None
        if hamiltonian is not None:
            _check_pairs(hamiltonian, overlap, name or "structure")
            reference = self._reference(structure, overlap)
            learned = self.split.learned(hamiltonian, doubled(overlap, self.spin), initial, reference, name or "structure")
            residual = learned.with_values(learned.values - reference.values)
        return Sample(name, graph, make_labels(graph, self.basis, self.scales, residual, self.spin), spin=self.spin)

    def known(self, structure: Structure, overlap: Blocks, initial: Blocks | None = None, where: str = "structure") -> Blocks:
        """What is added to the network's part of H, eV. Raises InputError if the target needs H0 and it is missing."""
        reference = self._reference(structure, overlap)
        return projected(self.split.known(reference, doubled(overlap, self.spin), initial, where), self.spin)

    def check_initial(self, overlap: Blocks, initial: Blocks | None, where: str) -> None:
        """Raise what `known` would."""
        if self.split.target == "residual":
            self.split.check_initial(initial, doubled(overlap, self.spin), where)

    def _reference(self, structure: Structure, overlap: Blocks) -> Blocks:
        """The part of H that lengths and elements alone tell, eV: two-centre part, and what is invariant of each atom."""
        blocks = doubled(self.reference.blocks(structure, self.basis, overlap.pairs), self.spin)
        atoms = structure.numbers[overlap.pairs[:, 3]]
        for kind, mean in self.scales.means.items():
            z = self.basis.elements[kind[0]]
            elements, n = irreps_of_kind(self.basis, kind, self.spin).matrix @ mean, self.basis[z].n_orbitals
            members = np.flatnonzero(overlap.onsite & (atoms == z))
            places = blocks.offsets[members][:, None] + np.arange(4 * n**2)
            blocks.values[places] += to_dense(elements[None], n, n, self.spin).reshape(-1)
        return blocks

    def check_known(self, calculation: Calculation, where: str) -> None:
        """Refuse a calculation that cannot be learned beside the training data: its H, target or spin. Raises InputError."""
        check_learnable(calculation, where)
        check_target(calculation, self.split.target, where)
        check_spin(calculation, self.spin.spin, where)
        if self.spin is SpinKind.SPIN_ORBIT:
            check_time_reversal(time_reversal_violation(calculation.hamiltonian), _place(calculation, where))

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
        parts = {"scale": self.scales.tables, "mean": self.scales.means}
        scales = {"_".join(map(str, (part, *kind))): x for part, tables in parts.items() for kind, x in tables.items()}
        reference = {f"reference_{key}": value for key, value in self.reference.to_arrays().items()}
        split = {"target": np.array(TARGETS.index(self.split.target)), "zero": np.array(self.split.zero)}
        return {**reference, **scales, **split, "time_reversal_violation": np.array(self.violation)}

    @staticmethod
    def from_arrays(
        arrays: Mapping[str, NDArray[np.generic]], basis: Basis, l_max: int, spin: SpinKind = SpinKind.NONE
    ) -> Labeller:
        """The inverse of `to_arrays`."""
        reference = {key.removeprefix("reference_"): x for key, x in arrays.items() if key.startswith("reference_")}
        scales = Scales(_by_kind(arrays, "scale_"), _by_kind(arrays, "mean_"))
        numbers = {key: float(np.asarray(arrays.get(key, 0.0))) for key in ("target", "zero", "time_reversal_violation")}
        split = Split(TARGETS[int(numbers["target"])], numbers["zero"])
        table = TwoCentreTable.from_arrays(reference)
        return Labeller(basis, table, scales, l_max, split, spin, numbers["time_reversal_violation"])


def _by_kind(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> dict[Kind, Floats]:
    """Tables of kinds of blocks, from the arrays whose names are `prefix` and the kind."""
    return {
        tuple(int(k) for k in key.removeprefix(prefix).split("_")): np.asarray(x, dtype=np.float64)
        for key, x in arrays.items()
        if key.startswith(prefix)
    }


def fit_labeller(
    calculations: Callable[[], Iterator[Calculation]],
    l_max: int,
    where: str,
    target: Target = "absolute",
    time_reversal: TimeReversal = "auto",
) -> Labeller:
    """Reference and scales from training calculations, which are passed over some times and never kept together.

    Parameters
    ----------
    calculations
        Starts another pass.
    l_max
        See `Labeller`.
    where
        What they come from, for messages.
    target
        Which part of H is learned.
    time_reversal
        Whether spinor blocks are learned as symmetric under time reversal: "on", "off", or "auto" for what the data say.

    Raises
    ------
    InputError
        If the calculations have two bases for one element, treat spin differently, are not learnable, or lack what the target
        needs.
    """
    whole, spin, violation = _survey(calculations(), where, target, time_reversal)
    table, split = fit_reference(lambda: (_without_spin(c, spin) for c in calculations()), whole, target, where)
    bare = Labeller(whole, table, Scales({}), l_max, split, spin, violation)

    def samples() -> Iterator[tuple[Graph, Blocks]]:
        for c in calculations():
            reference = bare._reference(c.structure, c.overlap)
            learned = split.learned(c.hamiltonian, doubled(c.overlap, spin), c.initial, reference)
            yield make_graph(c.structure, whole, c.overlap, 0), learned.with_values(learned.values - reference.values)

    return replace(bare, scales=fit_scales(samples(), whole, spin))


def _without_spin(c: Calculation, spin: SpinKind) -> Calculation:
    """The calculation with the mean over spin of its Hamiltonians."""
    initial = None if c.initial is None else mean_over_spin(c.initial, spin)
    return replace(c, hamiltonian=mean_over_spin(c.hamiltonian, spin), initial=initial, spin=Spin.NONE)


def _survey(
    calculations: Iterator[Calculation], where: str, target: Target, time_reversal: TimeReversal
) -> tuple[Basis, SpinKind, float]:
    """Basis of all, which explains every pair, how spin is learned, and how far time reversal is violated; refuses what cannot
    be learned.
    """
    basis: Basis | None = None
    spin, violation = Spin.NONE, 0.0
    for calculation in calculations:
        place = _place(calculation, where)
        check_learnable(calculation, where)
        check_target(calculation, target, where)
        spin = calculation.spin if basis is None else spin
        check_spin(calculation, spin, where)
        if spin is Spin.NONCOLLINEAR:
            violation = max(violation, time_reversal_violation(calculation.hamiltonian))
            if time_reversal == "on":
                check_time_reversal(violation, place)
        basis = calculation.basis if basis is None else basis.merged(calculation.basis, place)
    if basis is None:
        raise InputError(where, "no calculations", "at least one to train on")
    return basis, kind_of(spin, violation, time_reversal), violation
