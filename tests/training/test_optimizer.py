"""The optimiser takes orthogonal steps for matrices, and AdamW's own for the rest."""

import copy

import pytest
import torch
from torch import nn

from orbitrace.training.optimizer import MuonAdamW, polar_factors

torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (2, 40)])
def test_the_polar_factor_has_singular_values_near_one_and_the_directions_of_the_matrix(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    found = polar_factors(matrices)
    inner = u.transpose(1, 2) @ found @ v.transpose(1, 2)  # diagonal, if the singular directions are kept
    values = torch.diagonal(inner, dim1=1, dim2=2)
    torch.testing.assert_close(inner, torch.diag_embed(values), rtol=0, atol=1e-10)
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3


def test_a_turn_of_rows_and_columns_turns_the_step() -> None:
    m = torch.randn(1, 5, 8, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    r, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
    torch.testing.assert_close(polar_factors(q @ m @ r), q @ polar_factors(m) @ r, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(4, 10), (10, 4)])
def test_a_step_is_the_same_however_a_matrix_is_stored_and_larger_for_more_outputs(shape: tuple[int, int]) -> None:
    ours = nn.Parameter(torch.randn(*shape, dtype=torch.float64))  # [inputs, outputs]
    theirs = nn.Parameter(ours.detach().T.clone())
    before, gradient = ours.detach().clone(), torch.randn(*shape, dtype=torch.float64)
    for p, g, outputs_first in ((ours, gradient, False), (theirs, gradient.T.clone(), True)):
        p.grad = g
        MuonAdamW([("p", p)], 0.01, 0.0, outputs_first=lambda _, answer=outputs_first: answer).step()
    torch.testing.assert_close(ours, theirs.T, rtol=0, atol=1e-12)
    size = float(torch.linalg.matrix_norm(ours.detach() - before, 2))
    assert size == pytest.approx(0.01 * max(1.0, shape[1] / shape[0]) ** 0.5, rel=0.3)


def test_vectors_take_the_steps_of_adamw() -> None:
    """Compared with torch's over several steps, biases, embeddings and all."""
    torch.manual_seed(1)
    ours = nn.ModuleDict({"norm": nn.LayerNorm(6), "embedding": nn.Embedding(3, 6)}).double()
    theirs = copy.deepcopy(ours)
    one = MuonAdamW(ours.named_parameters(), 0.01, 0.1, lambda name: "embedding" in name)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    for _ in range(7):
        x = torch.randint(3, (10,))
        y = torch.randn(10, 6, dtype=torch.float64)
        for net, optimizer in ((ours, one), (theirs, other)):
            optimizer.zero_grad()
            ((net["norm"](net["embedding"](x)) - y) ** 2).mean().backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


def test_it_finds_the_least_squares_solution() -> None:
    torch.manual_seed(2)
    net = nn.Linear(6, 4).double()
    goal = nn.Linear(6, 4).double()
    x = torch.randn(64, 6, dtype=torch.float64)
    optimizer = MuonAdamW(net.named_parameters(), 0.05, 0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / 300)
    for _ in range(300):
        optimizer.zero_grad()
        ((net(x) - goal(x)) ** 2).mean().backward()
        optimizer.step()
        schedule.step()
    assert float((net(x) - goal(x)).abs().max().detach()) < 1e-2


def test_its_state_resumes_exactly() -> None:
    def run(net: nn.Module, optimizer: MuonAdamW, steps: range) -> None:
        for k in steps:
            optimizer.zero_grad()
            x = torch.full((2, 3), 0.1 * k, dtype=torch.float64)
            (net(x) ** 2).sum().backward()
            optimizer.step()

    torch.manual_seed(3)
    whole = nn.Linear(3, 2).double()
    parts = copy.deepcopy(whole)
    run(whole, MuonAdamW(whole.named_parameters(), 0.01, 0.1), range(8))
    first = MuonAdamW(parts.named_parameters(), 0.01, 0.1)
    run(parts, first, range(4))
    second = MuonAdamW(parts.named_parameters(), 0.01, 0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(parts, second, range(4, 8))
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), parts.parameters(), strict=True))


def test_weights_without_a_gradient_stay() -> None:
    net = nn.Linear(3, 2)
    before = copy.deepcopy(net.state_dict())
    MuonAdamW(net.named_parameters(), 0.01, 0.1).step()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
