"""Batches: several structures as one, each with its own blocks and their Hermitian partners."""

import numpy as np
import pytest
import torch

from learner_cases import BASIS, STRUCTURES, calculation, labeller, overlap, random_blocks, sample, structure
from orbitrace.graphs.batches import Sample, collate
from orbitrace.graphs.graph import group_values
from orbitrace.nets.radial import envelope
from orbitrace.physics.structure import Structure

MANY = [
    STRUCTURES["sheet"],
    structure(21, 3, (False,) * 3, (6,)),
    STRUCTURES["molecule"],
    Structure(np.zeros((1, 3)), np.zeros((3, 3)), np.array([1]), (False,) * 3),
    structure(22, 4, (True,) * 3, (1, 5)),
]
ORDERS = [[0], [3], [0, 1, 2, 3, 4], [4, 3, 1, 2, 0], [1, 1, 2]]


def labelled(which: list[int]) -> list[Sample]:
    return [
        labeller().sample(c.structure, c.overlap, c.hamiltonian, str(k))
        for k, c in ((k, calculation(MANY[k], k)) for k in which)
    ]


@pytest.mark.parametrize("which", ORDERS)
def test_every_element_knows_its_hermitian_partner(which: list[int]) -> None:
    """A matrix that is not Hermitian, put in the order of the batch, is turned into its adjoint by `transposed`."""
    samples = [sample(MANY[k]) for k in which]
    batch = collate(samples, torch.float64)
    matrices = []
    for n, k in enumerate(which):
        blocks = overlap(MANY[k])
        matrices.append(blocks.with_values(np.random.default_rng(n).normal(size=blocks.values.shape)))
    plain, adjoint = [], []
    for group in batch.groups:
        for s, matrix in zip(samples, matrices, strict=True):
            for mine in (g for g in s.graph.groups if g.kind == group.kind):
                plain.append(group_values(matrix, mine).reshape(-1))
                adjoint.append(group_values(matrix.dagger(), mine).reshape(-1))
    transposed = batch.transposed.numpy()
    np.testing.assert_array_equal(np.concatenate(plain)[transposed], np.concatenate(adjoint))
    np.testing.assert_array_equal(transposed[transposed], np.arange(len(transposed)))


@pytest.mark.parametrize("which", ORDERS)
def test_graphs_stand_beside_each_other_and_never_touch(which: list[int]) -> None:
    samples = labelled(which)
    batch = collate(samples, torch.float64)
    graphs = [s.graph for s in samples]
    assert batch.n_atoms == sum(MANY[k].n_atoms for k in which)
    owner = np.repeat(np.arange(len(which)), [len(g.element) for g in graphs])
    np.testing.assert_array_equal(owner[batch.source], owner[batch.target])
    np.testing.assert_array_equal(batch.element, np.concatenate([g.element for g in graphs]))
    np.testing.assert_array_equal(batch.ratio, np.concatenate([g.ratio for g in graphs]))
    at_atom = at_edge = 0
    for k, g in zip(which, graphs, strict=True):
        edges = slice(at_edge, at_edge + len(g.source))
        np.testing.assert_array_equal(batch.source[edges] - at_atom, g.source)
        np.testing.assert_array_equal(batch.target[edges] - at_atom, g.target)
        for l, d in enumerate(batch.rotations):
            assert d[edges].shape == (len(g.source), 2 * l + 1, 2 * l + 1)
        at_atom, at_edge = at_atom + MANY[k].n_atoms, edges.stop


@pytest.mark.parametrize("which", ORDERS)
def test_labels_stand_in_the_order_of_the_members(which: list[int]) -> None:
    """The atoms or edges of a group are those that its rows of H, reference, scale and traces belong to."""
    samples = labelled(which)
    batch = collate(samples, torch.float64)
    kinds = [g.kind for g in batch.groups]
    assert kinds == sorted(set(kinds), key=lambda kind: (len(kind), kind))
    for group in batch.groups:
        ends = batch.element[group.members] if group.onsite else batch.element[batch.source[group.members]]
        assert (ends == group.kind[0]).all()
        if not group.onsite:
            assert (batch.element[batch.target[group.members]] == group.kind[1]).all()
        for name in ("scale", "residual", "traces"):
            rows = [getattr(s.labels, name)[k] for s in samples for k, g in enumerate(s.graph.groups) if g.kind == group.kind]
            np.testing.assert_array_equal(getattr(group, name), np.concatenate(rows))
        assert group.traces is not None
        assert group.n_basic_blocks == group.traces.shape[1]
    whole = torch.cat([g.residual.reshape(-1) for g in batch.groups if g.residual is not None])
    assert torch.equal(batch.residual, whole)
    assert torch.equal(whole[batch.transposed], whole)  # DFT's H is Hermitian


def test_edges_fade_out_at_the_cutoff() -> None:
    batch = collate([sample(STRUCTURES["sheet"])], torch.float64)
    torch.testing.assert_close(batch.fade, envelope(batch.ratio))
    assert batch.fade.min() >= 0
    assert batch.fade.max() <= 1


def test_geometry_is_cast_after_it_was_subtracted() -> None:
    """A structure far from the origin loses no digits in float32."""
    atoms = STRUCTURES["molecule"]
    far = Structure(atoms.positions + 1e6, atoms.lattice, atoms.numbers, atoms.pbc)
    near, moved = (collate([sample(one, overlap(atoms))], torch.float32) for one in (atoms, far))
    torch.testing.assert_close(moved.ratio, near.ratio, rtol=1e-6, atol=0)
    assert near.ratio.dtype == near.rotations[2].dtype == near.groups[0].scale.dtype == torch.float32
    assert near.source.dtype == near.transposed.dtype == torch.int64


def test_a_batch_without_labels_says_so() -> None:
    batch = collate([sample(STRUCTURES["sheet"])], torch.float64)
    assert all(g.residual is None and g.traces is None for g in batch.groups)
    with pytest.raises(ValueError, match="no labels"):
        _ = batch.residual


def test_a_mixed_batch_is_one_without_labels() -> None:
    batch = collate([*labelled([0]), sample(MANY[2])], torch.float64)
    assert any(g.residual is None for g in batch.groups)


def test_a_batch_moves_to_a_device_whole() -> None:
    batch = collate(labelled([0, 1]), torch.float64)
    moved = batch.to("meta")
    assert {x.device.type for x in (moved.ratio, moved.rotations[1], moved.groups[0].scale, moved.transposed)} == {"meta"}
    assert moved.groups[0].kind == batch.groups[0].kind
    assert batch.ratio.device.type == "cpu"


def test_samples_of_other_networks_share_the_smaller_set_of_rotations() -> None:
    batch = collate([sample(MANY[0], l_max=4), sample(MANY[2], l_max=2)], torch.float64)
    assert len(batch.rotations) == 3


def test_hamiltonians_of_random_numbers_are_hermitian() -> None:
    """The ground that these tests stand on."""
    blocks = random_blocks(overlap(MANY[0]).pairs, MANY[0], BASIS, 3)
    np.testing.assert_array_equal(blocks.values, blocks.dagger().values)
