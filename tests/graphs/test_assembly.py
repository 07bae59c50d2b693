"""Assembly: from normalised irreps to a Hermitian matrix."""

import numpy as np
import pytest
import torch

from learner_cases import BASIS, STRUCTURES, calculation, labeller, numbers_of
from orbitrace.graphs.assembly import Assembly, to_blocks
from orbitrace.graphs.batches import Batch, collate
from orbitrace.graphs.graph import irreps_of_kind


def irreps_of(batch: Batch) -> list[torch.Tensor]:
    """The irreps that a perfect network would give."""
    return [
        (g.residual @ torch.as_tensor(irreps_of_kind(BASIS, g.kind).matrix)) / g.scale
        for g in batch.groups
        if g.residual is not None
    ]


def assembly() -> Assembly:
    with numbers_of(torch.float64):
        return Assembly(BASIS)


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_perfect_irreps_give_h(name: str) -> None:
    c = calculation(STRUCTURES[name], 3)
    sample = labeller().sample(c.structure, c.overlap, c.hamiltonian)
    batch = collate([sample], torch.float64)
    values = assembly()(batch, irreps_of(batch))
    torch.testing.assert_close(values, batch.residual, rtol=0, atol=1e-12)
    learned, known = to_blocks(sample.graph, c.overlap, values.numpy()), labeller().known(c.structure, c.overlap)
    np.testing.assert_array_equal(learned.pairs, c.hamiltonian.pairs)
    np.testing.assert_allclose(known.values + learned.values, c.hamiltonian.values, atol=1e-12)


def test_any_irreps_give_a_hermitian_matrix() -> None:
    several = [calculation(one) for one in STRUCTURES.values()]
    samples = [labeller().sample(c.structure, c.overlap) for c in several]
    batch = collate(samples, torch.float64)
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(g.scale.shape, generator=generator, dtype=torch.float64) for g in batch.groups]
    values = assembly()(batch, noise)
    assert torch.equal(values, values[batch.transposed])
    alone = collate(samples[:1], torch.float64)
    by_kind = {g.kind: x for g, x in zip(batch.groups, noise, strict=True)}
    rows = [by_kind[g.kind][: len(g.members)] for g in alone.groups]
    h = to_blocks(samples[0].graph, several[0].overlap, assembly()(alone, rows).numpy())
    np.testing.assert_array_equal(h.values, h.dagger().values)
    assert np.abs(h.values).max() > 0.1


def test_both_directions_of_a_pair_teach_alike() -> None:
    """The gradient of an element reaches the irreps of its block and of its partner's."""
    c = calculation(STRUCTURES["molecule"])
    batch = collate([labeller().sample(c.structure, c.overlap)], torch.float64)
    irreps = [torch.zeros_like(g.scale, requires_grad=True) for g in batch.groups]
    values = assembly()(batch, irreps)
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (values * weights).sum().backward()
    assert all(x.grad is not None and (x.grad != 0).any(1).all() for x in irreps)
