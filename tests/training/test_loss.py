"""The loss, by hand."""

import math

import numpy as np
import pytest
import torch

from learner_cases import STRUCTURES, calculation, labeller
from orbitrace.graphs.batches import collate
from orbitrace.learning import LossSection
from orbitrace.training.levels import LevelErrors
from orbitrace.training.loss import hamiltonian_loss, total_loss, trace_loss


def test_the_loss_of_h_is_the_mean_absolute_error_in_units_of_the_residual() -> None:
    error = torch.tensor([0.1, -0.3, 0.0, 0.2])
    assert float(hamiltonian_loss(error, 0.1, LossSection())) == pytest.approx(1.5)


def test_the_mean_square_can_be_mixed_in_or_taken_alone() -> None:
    error = torch.tensor([0.1, -0.3, 0.0, 0.2])
    assert float(hamiltonian_loss(error, 0.1, LossSection(mse=0.5))) == pytest.approx(1.5 + 0.5 * (1 + 9 + 0 + 4) / 4)
    assert float(hamiltonian_loss(error, 0.1, LossSection(mae=0, mse=2))) == pytest.approx(2 * (1 + 9 + 0 + 4) / 4)


def test_errors_of_levels_are_mixed_in_by_their_weights() -> None:
    error, levels = torch.tensor([0.1, -0.3]), LevelErrors(torch.tensor(0.5), torch.tensor(0.02))
    loss = LossSection(mae=1.0, wavefunction=0.2, bands=3.0)
    assert float(hamiltonian_loss(error, 0.1, loss, levels)) == pytest.approx(2.0 + 0.2 * 5.0 + 3.0 * 0.2)


def test_levels_count_in_the_later_part_of_a_run_or_where_they_are_alone() -> None:
    late, alone = LossSection(bands=0.1, levels_from=0.5), LossSection(mae=0.0, bands=0.1, levels_from=0.5)
    assert [late.counts_levels(x) for x in (0.0, 0.49, 0.5, 1.0)] == [False, False, True, True]
    assert alone.counts_levels(0.0)
    assert not LossSection().counts_levels(1.0)


def test_no_level_in_the_window_at_some_k_is_a_step_without_a_gradient() -> None:
    error = torch.tensor([0.1, -0.3], requires_grad=True)
    loss = hamiltonian_loss(error, 0.1, LossSection(mae=0.0, bands=1.0), LevelErrors(None, None))
    loss.backward()
    assert loss.item() == 0.0
    assert error.grad is not None
    assert not error.grad.any()


def test_the_trace_loss_is_zero_for_perfect_traces_and_grows_with_their_error() -> None:
    several = [calculation(one) for one in STRUCTURES.values()]
    batch = collate([labeller().sample(c.structure, c.overlap, c.hamiltonian) for c in several], torch.float64)
    perfect = [torch.log1p(g.traces) for g in batch.groups if g.traces is not None]
    assert float(trace_loss(batch, perfect)) == 0.0
    assert float(trace_loss(batch, [x + 0.25 for x in perfect])) == pytest.approx(0.25)
    one_off = [x.clone() for x in perfect]
    one_off[3][1, 0] += 7.0
    assert float(trace_loss(batch, one_off)) == pytest.approx(7.0 / sum(x.numel() for x in perfect))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_the_trace_term_weighs_lambda_times_the_loss_of_h_whatever_its_size(size: float) -> None:
    """L = L_H + mu L_T with mu = lambda stop_gradient(L_H / L_T)."""
    loss_h, loss_t = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.8, 0.5 * size))
    total = total_loss(loss_h, loss_t, 0.3)
    assert total.item() == pytest.approx(1.3 * 0.8)
    slope_h, slope_t = torch.autograd.grad(total, (loss_h, loss_t))
    assert slope_h.item() == pytest.approx(1.0)  # the ratio is held fixed
    assert slope_t.item() == pytest.approx(0.3 * 0.8 / (0.5 * size))


def test_without_traces_the_loss_is_that_of_h() -> None:
    loss_h = torch.tensor(0.8)
    assert float(total_loss(loss_h, None, 0.3)) == float(total_loss(loss_h, torch.tensor(2.0), 0.0)) == float(loss_h)


def test_perfect_traces_do_not_divide_by_zero() -> None:
    total = total_loss(torch.tensor(0.8), torch.tensor(0.0), 0.3)
    assert math.isfinite(float(total))
    assert np.isclose(float(total), 0.8)
