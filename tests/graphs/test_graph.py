"""Graphs: edges, groups of blocks and their partners, over the pairs of the overlap."""

import numpy as np
import pytest

from learner_cases import BASIS, STRUCTURES, overlap, structure
from orbitrace.graphs.assembly import to_blocks
from orbitrace.graphs.graph import group_values, make_graph, shell_pairs_of_kind
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.structure import Structure


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_every_block_is_in_exactly_one_group_of_its_kind(name: str) -> None:
    atoms = STRUCTURES[name]
    over = overlap(atoms)
    graph = make_graph(atoms, BASIS, over, 2)
    place = {z: k for k, z in enumerate(BASIS.elements)}
    seen = np.concatenate([g.blocks for g in graph.groups])
    assert sorted(seen.tolist()) == list(range(over.n_pairs))
    for group in graph.groups:
        for block in group.blocks:
            i, j = over.pairs[block, 3:]
            ends = (place[int(atoms.numbers[i])], place[int(atoms.numbers[j])])
            assert group.kind == (ends[:1] if over.onsite[block] else ends)


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_edges_are_the_pairs_but_the_atoms_themselves(name: str) -> None:
    atoms = STRUCTURES[name]
    over = overlap(atoms)
    graph = make_graph(atoms, BASIS, over, 3)
    edges = over.pairs[~over.onsite]
    vectors = atoms.pair_vectors(edges)
    np.testing.assert_array_equal(graph.source, edges[:, 3])
    np.testing.assert_array_equal(graph.target, edges[:, 4])
    np.testing.assert_allclose(graph.lengths, np.linalg.norm(vectors, axis=1), rtol=1e-14)
    sums = [BASIS[atoms.numbers[i]].cutoff + BASIS[atoms.numbers[j]].cutoff for i, j in edges[:, 3:]]
    np.testing.assert_allclose(graph.ratio, graph.lengths / sums, rtol=1e-14)
    assert graph.ratio.max() <= 1
    assert [d.shape[1:] for d in graph.rotations] == [(2 * l + 1, 2 * l + 1) for l in range(4)]
    along_z = graph.rotations[1][:, :, 1]  # house order y, z, x: the middle column is what becomes of z
    np.testing.assert_allclose(along_z, (vectors / graph.lengths[:, None])[:, [1, 2, 0]], atol=1e-13)


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_partners_are_the_blocks_of_the_way_back(name: str) -> None:
    atoms = STRUCTURES[name]
    over = overlap(atoms)
    graph = make_graph(atoms, BASIS, over, 0)
    groups = {g.kind: g for g in graph.groups}
    edges = np.flatnonzero(~over.onsite)
    for group in graph.groups:
        reverse = groups[group.kind[::-1]]
        for block, member, partner in zip(group.blocks, group.members, group.partners, strict=True):
            rx, ry, rz, i, j = over.pairs[block].tolist()
            assert over.pairs[reverse.blocks[partner]].tolist() == [-rx, -ry, -rz, j, i]
            assert reverse.partners[partner] == np.flatnonzero(group.blocks == block)[0]
            assert member == (i if len(group.kind) == 1 else np.flatnonzero(edges == block)[0])


def test_an_image_of_an_atom_is_a_neighbour_not_the_atom_itself() -> None:
    """One atom in a small cell has edges from itself to itself, with R other than 0."""
    one = Structure(np.zeros((1, 3)), 2.5 * np.eye(3), np.array([6]))
    over = overlap(one)
    graph = make_graph(one, BASIS, over, 1)
    assert over.onsite.sum() == 1
    assert len(graph.source) == over.n_pairs - 1 == 18  # 6 at 2.5 Å and 12 at 3.54 Å, within 3.6 Å
    assert {g.kind: len(g.blocks) for g in graph.groups} == {(2,): 1, (2, 2): 18}


def test_elements_are_numbered_by_the_basis_not_by_the_structure() -> None:
    carbon = structure(4, 3, elements=(6,))
    assert set(make_graph(carbon, BASIS, overlap(carbon), 0).element) == {2}
    assert set(make_graph(carbon, BASIS.restricted((6,)), overlap(carbon), 0).element) == {0}


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_values_by_group_and_back_are_the_same_matrix(name: str) -> None:
    atoms = STRUCTURES[name]
    over = overlap(atoms)
    graph = make_graph(atoms, BASIS, over, 0)
    in_order = sorted(graph.groups, key=lambda g: (len(g.kind), g.kind))
    values = np.concatenate([group_values(over, g).reshape(-1) for g in in_order])
    np.testing.assert_array_equal(to_blocks(graph, over, values).values, over.values)
    for group in graph.groups:
        np.testing.assert_array_equal(group_values(over, group)[-1], over.block(int(group.blocks[-1])).reshape(-1))


def test_basic_blocks_are_numbered_row_by_row() -> None:
    """Of boron (s s p p d) with carbon (s s p): 15 basic blocks, each as large as its shells say."""
    numbers, count = shell_pairs_of_kind(BASIS, (1, 2))
    assert count == 15
    sizes = [(2 * a + 1) * (2 * b + 1) for a in (0, 0, 1, 1, 2) for b in (0, 0, 1)]
    assert np.bincount(numbers).tolist() == sizes


@pytest.mark.parametrize("missing", ["a partner", "an on-site block"])
def test_an_overlap_with_blocks_missing_is_never_taken_for_whole(missing: str) -> None:
    """Without its partner (j, i, -R), a block would be made Hermitian with a wrong one."""
    atoms = STRUCTURES["sheet"]
    over = overlap(atoms)
    lost = int(np.flatnonzero(over.onsite if missing == "an on-site block" else ~over.onsite)[1])
    kept = np.delete(np.arange(over.n_pairs), lost)
    fewer = Blocks(over.pairs[kept], over.shapes[kept], np.concatenate([over.block(int(k)).reshape(-1) for k in kept]))
    with pytest.raises(Exception, match=r"partner|on-site"):
        make_graph(atoms, BASIS, fewer, 0)
