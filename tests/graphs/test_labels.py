"""Labels: reference and scales depend on lengths and elements alone, and give H back exactly."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from learner_cases import (
    BASIS,
    STRUCTURES,
    calculation,
    labeller,
    orthogonal,
    overlap,
    structure,
    training_set,
    turned,
    turned_calculation,
)
from orbitrace.errors import InputError
from orbitrace.graphs.batches import Sample
from orbitrace.graphs.graph import group_values, irreps_of_kind, shell_pairs_of_kind
from orbitrace.graphs.labels import FLOOR, Labeller, fit_labeller
from orbitrace.graphs.traces import trace_labels
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure


def by_name(name: str) -> tuple[Calculation, Sample]:
    c = calculation(STRUCTURES[name], 5)
    return c, labeller().sample(c.structure, c.overlap, c.hamiltonian, name)


def normalised(sample: Sample) -> list[np.ndarray]:
    """Irreps of the residual / scale, of every group."""
    labels = sample.labels
    matrices = [irreps_of_kind(BASIS, g.kind).matrix for g in sample.graph.groups]
    return [(x @ m) / s for x, s, m in zip(labels.residual, labels.scale, matrices, strict=True)]


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_reference_and_scaled_irreps_give_h_back(name: str) -> None:
    c, sample = by_name(name)
    known = labeller().known(c.structure, c.overlap)
    for group, x, scale in zip(sample.graph.groups, normalised(sample), sample.labels.scale, strict=True):
        h = group_values(known, group) + (x * scale) @ irreps_of_kind(BASIS, group.kind).matrix.T
        for k, block in zip(group.blocks, h, strict=True):
            np.testing.assert_allclose(block, c.hamiltonian.block(int(k)).reshape(-1), atol=1e-12)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("name", list(STRUCTURES))
def test_scales_and_trace_labels_are_invariant(name: str, determinant: int) -> None:
    c, plain = by_name(name)
    other = turned_calculation(c, orthogonal(4, determinant))
    sample = labeller().sample(other.structure, other.overlap, other.hamiltonian)
    for kind in ("scale", "traces"):
        for one, two in zip(getattr(plain.labels, kind), getattr(sample.labels, kind), strict=True):
            assert (one > 0).all()
            np.testing.assert_allclose(two, one, rtol=1e-10)


@pytest.mark.parametrize("determinant", [1, -1])
def test_the_reference_turns_with_the_structure(determinant: int) -> None:
    q, table = orthogonal(5, determinant), labeller().reference
    for atoms in STRUCTURES.values():
        pairs = overlap(atoms).pairs
        before, after = (table.blocks(one, BASIS, pairs) for one in (atoms, atoms.rotated(q)))
        np.testing.assert_allclose(after.values, turned(before, atoms, q).values, atol=1e-10)
        np.testing.assert_array_equal(before.values, before.dagger().values)


def test_turned_training_data_give_the_same_reference_and_scales() -> None:
    def other() -> Iterator[Calculation]:
        return (turned_calculation(c, orthogonal(k, (-1) ** k)) for k, c in enumerate(training_set()))

    mine, theirs = labeller(), fit_labeller(other, 4, "tests")
    for kind, table in mine.scales.tables.items():
        np.testing.assert_allclose(theirs.scales.tables[kind], table, rtol=1e-8)
    for zs, bond in mine.reference.bonds.items():
        np.testing.assert_allclose(theirs.reference.bonds[zs].coefficients, bond.coefficients, atol=1e-9)


def test_scaled_labels_of_the_training_data_are_of_order_one() -> None:
    """For near and far pairs, natural and unnatural irreps alike: the mean square over the training set is about one."""
    squares: dict[tuple[int, ...], list[np.ndarray]] = {}
    for c in training_set():
        sample = labeller().sample(c.structure, c.overlap, c.hamiltonian)
        for group, x in zip(sample.graph.groups, normalised(sample), strict=True):
            squares.setdefault(group.kind, []).append(x**2)
    assert len(squares) == 3 + 9
    for kind, parts in squares.items():
        channels = irreps_of_kind(BASIS, kind).channels
        means = np.concatenate(parts).mean(0)
        at = 0
        for channel in channels:
            place = slice(at, at + 2 * channel.L + 1)
            vanishes = len(kind) == 1 and channel.a == channel.b and not channel.natural  # symmetric blocks have none
            assert means[place].mean() < 1e-6 if vanishes else 0.4 < means[place].mean() < 1.6
            at = place.stop


def test_scales_of_pairs_both_ways_agree() -> None:
    """The block of (j, i) is the transpose of that of (i, j), so that its irreps have the same size."""
    tables = labeller().scales.tables
    for (e, f), table in ((kind, t) for kind, t in tables.items() if len(kind) == 2):
        mine = {(c.a, c.b, c.L): k for k, c in component_channels((e, f))}
        theirs = {(c.b, c.a, c.L): k for k, c in component_channels((f, e))}
        for key, k in mine.items():
            np.testing.assert_allclose(tables[f, e][:, theirs[key]], table[:, k], rtol=1e-9)


def component_channels(kind: tuple[int, ...]) -> Iterator[tuple[int, object]]:
    """(first component, channel) of the irreps of a kind."""
    at = 0
    for channel in irreps_of_kind(BASIS, kind).channels:
        yield at, channel
        at += 2 * channel.L + 1


def test_the_scale_is_one_number_per_irrep_and_continuous_in_the_distance() -> None:
    scales = labeller().scales
    lengths = np.linspace(1.0, 4.0 - 1e-9, 2001)
    atoms = Structure(np.array([[0, 0, 0], [0, 0, 1.0]]), np.zeros((3, 3)), np.array([5, 6]), (False,) * 3)
    sample = labeller().sample(atoms, overlap(atoms))
    position = next(k for k, g in enumerate(sample.graph.groups) if g.kind == (1, 2))
    group = sample.graph.groups[position]
    rows = np.concatenate([scales.at(group, replace(sample.graph, ratio=np.full(2, x / 4.0))) for x in lengths])
    for start, channel in component_channels((1, 2)):
        one = rows[:, start : start + 2 * channel.L + 1]
        np.testing.assert_array_equal(one, one[:, :1].repeat(one.shape[1], axis=1))
        assert np.abs(np.diff(one[:, 0])).max() < 0.05 * one.max()
    assert rows.min() >= FLOOR


def test_trace_labels_are_the_squared_norms_of_the_normalised_basic_blocks() -> None:
    """Where nothing is subtracted and all scales are 1 eV, they are tr(Q Q^dagger) of the shards."""
    c, sample = by_name("sheet")
    for group, x, traces in zip(sample.graph.groups, normalised(sample), sample.labels.traces, strict=True):
        basic, count = shell_pairs_of_kind(BASIS, group.kind)
        expected = np.stack([(x[:, basic == b] ** 2).sum(1) for b in range(count)], axis=1)
        np.testing.assert_allclose(traces, expected, rtol=1e-12)
        bare = c.hamiltonian.values[c.hamiltonian.offsets[group.blocks][:, None] + np.arange(x.shape[1])]
        own = (bare @ irreps_of_kind(BASIS, group.kind).matrix) ** 2 @ (basic[:, None] == np.arange(count))
        first = int(group.blocks[0])
        starts = np.concatenate(
            [
                [0],
                np.cumsum(
                    [
                        len(BASIS[c.structure.numbers[i]].ls) * len(BASIS[c.structure.numbers[j]].ls)
                        for i, j in c.hamiltonian.pairs[:, 3:]
                    ]
                ),
            ]
        )
        shard = trace_labels(c.hamiltonian, c.structure, BASIS)[starts[first] : starts[first + 1]]
        np.testing.assert_allclose(own[0], shard, rtol=1e-12)


def test_a_structure_to_be_predicted_has_no_labels_but_a_scale() -> None:
    c, labelled = by_name("crystal")
    bare = labeller().sample(c.structure, c.overlap)
    assert bare.labels.residual == bare.labels.traces == []
    for one, two in zip(bare.labels.scale, labelled.labels.scale, strict=True):
        np.testing.assert_array_equal(one, two)


def test_arrays_of_a_labeller_give_the_same_labels_to_the_last_bit() -> None:
    mine = labeller()
    twin = Labeller.from_arrays(mine.to_arrays(), BASIS, mine.l_max)
    for c in (calculation(one) for one in STRUCTURES.values()):
        one, two = (of.sample(c.structure, c.overlap, c.hamiltonian).labels for of in (mine, twin))
        for kind in ("scale", "residual", "traces"):
            for left, right in zip(getattr(one, kind), getattr(two, kind), strict=True):
                np.testing.assert_array_equal(left, right)


def test_calculations_are_read_twice_and_never_kept() -> None:
    """Those alive at a time are the last one of each loop and the next one, however many there are."""
    alive, most, passes = 0, 0, 0

    class Counted(Calculation):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def counted() -> Iterator[Calculation]:
        nonlocal alive, most, passes
        passes += 1
        for seed in range(11, 19):
            plain = calculation(structure(seed, 4), seed)
            alive += 1
            most = max(most, alive)
            yield Counted(**{name: getattr(plain, name) for name in Calculation.__dataclass_fields__})

    fit_labeller(counted, 0, "tests")
    assert most <= 3
    assert passes <= 4


def test_two_bases_for_one_element_are_refused() -> None:
    other = Basis({**BASIS.shells, 6: Shells((0, 1), 1.8, 4.0)})
    several = [calculation(STRUCTURES["sheet"]), calculation(STRUCTURES["molecule"], basis=other, source="runs/7")]
    with pytest.raises(InputError, match=r"my data: runs/7: C has the basis s1p1 .*s2p1"):
        fit_labeller(lambda: iter(several), 0, "my data")


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(InputError, match="my data: no calculations"):
        fit_labeller(lambda: iter(()), 0, "my data")


def test_h_over_other_pairs_than_s_is_refused() -> None:
    """Its blocks would be taken for those of other pairs."""
    c = calculation(STRUCTURES["sheet"], source="runs/7")
    near = np.flatnonzero(c.overlap.lengths(c.structure) < 2.5)
    values = np.concatenate([c.overlap.block(int(k)).reshape(-1) for k in near])
    odd = replace(c, overlap=Blocks(c.overlap.pairs[near], c.overlap.shapes[near], values))
    with pytest.raises(InputError, match=r"same pairs"):
        labeller().sample(odd.structure, odd.overlap, odd.hamiltonian)
    with pytest.raises(InputError, match=r"runs/7.*same pairs"):
        fit_labeller(lambda: iter([odd]), 0, "my data")


def test_a_pair_of_elements_that_never_met_is_refused() -> None:
    apart = [calculation(structure(k, 4, elements=(z,))) for k, z in enumerate((5, 6))]
    alone = fit_labeller(lambda: iter(apart), 0, "my data")
    both = structure(9, 4, elements=(5, 6))
    with pytest.raises(InputError, match="B-C are neighbours, which the training data never had"):
        alone.known(both, overlap(both))


def test_one_calculation_of_one_atom_is_enough() -> None:
    """Knots without data take the scale of the nearest with data; nothing is NaN."""
    one = calculation(Structure(np.zeros((1, 3)), 2.5 * np.eye(3), np.array([6])))
    alone = fit_labeller(lambda: iter([one]), 2, "my data")
    near = Structure(np.zeros((1, 3)), 1.2 * np.eye(3), np.array([6]))
    labels = alone.sample(near, overlap(near)).labels
    assert all(np.isfinite(x).all() and (x >= FLOOR).all() for x in labels.scale)
    assert np.isfinite(alone.known(near, overlap(near)).values).all()
