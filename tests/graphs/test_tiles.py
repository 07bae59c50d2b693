"""Cutting a structure into tiles: every pair in exactly one of them, none larger than asked for."""

import numpy as np
import pytest
import torch

from learner_cases import BASIS, STRUCTURES, labeller, overlap, structure
from orbitrace.graphs.tiles import borders, cut, to_batch
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.structure import Structure


@pytest.mark.parametrize("name", list(STRUCTURES))
@pytest.mark.parametrize("most", [1, 40, 100, 10**6])
def test_every_pair_belongs_to_one_tile_of_bounded_size(name: str, most: int) -> None:
    atoms = STRUCTURES[name]
    over = overlap(atoms)
    ends = borders(over, atoms.n_atoms, most)
    tiles = [cut(atoms, over, *pair) for pair in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    assert [tile.pairs.start for tile in tiles] == [0, *(tile.pairs.stop for tile in tiles[:-1])]
    assert tiles[-1].pairs.stop == over.n_pairs
    for tile in tiles:
        assert tile.overlap.n_pairs <= most or tile.last - tile.first == 1
        back = tile.overlap.pairs.copy()
        back[:, 3:] = tile.atoms[back[:, 3:]]
        np.testing.assert_array_equal(back, over.pairs[tile.pairs])
        np.testing.assert_allclose(
            tile.structure.pair_vectors(tile.overlap.pairs), atoms.pair_vectors(over.pairs[tile.pairs]), atol=1e-12
        )
        assert np.shares_memory(tile.overlap.values, over.values)  # no copy


def test_tiles_have_about_as_many_pairs_each() -> None:
    """So that processes which share them end together."""
    atoms = Structure(np.arange(1000)[:, None] * np.array([0.9, 0, 0]), np.diag([900.0, 9, 9]), np.full(1000, 6))
    over = overlap(atoms)
    ends = borders(over, atoms.n_atoms, 1000)
    sizes = np.diff(np.searchsorted(over.pairs[:, 3], ends))
    assert len(sizes) == -(-over.n_pairs // 992)
    assert sizes.max() <= 1000
    assert sizes.min() > 0.95 * sizes.max()


def test_a_structure_without_atoms_has_no_tiles() -> None:
    nothing = Blocks(np.zeros((0, 5)), np.zeros((0, 2)), np.zeros(0))
    assert borders(nothing, 0, 10).tolist() == [0]


def test_own_atoms_come_first_in_a_batch_and_all_else_follows() -> None:
    atoms = structure(1, 9)
    tile = cut(atoms, overlap(atoms), 3, 6)
    _, batch = to_batch(tile, labeller(), torch.float64)
    numbers = torch.as_tensor([BASIS.elements.index(int(z)) for z in atoms.numbers[tile.atoms[tile.order]]])
    assert batch.n_atoms == 3
    assert tile.atoms[tile.order][:3].tolist() == [3, 4, 5]
    assert batch.source.max() == 2
    assert torch.equal(batch.element, numbers)
    pairs = tile.overlap.pairs[~tile.overlap.onsite]
    np.testing.assert_array_equal(tile.atoms[tile.order][batch.target], tile.atoms[pairs[:, 4]])
