"""The learner: averaged weights, schedule, and validation, by hand."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from learner_cases import BASIS, STRUCTURES, calculation, labeller, network, numbers_of
from orbitrace.graphs.batches import collate
from orbitrace.learning import TrainSection
from orbitrace.training.module import HamiltonianLearner, learning_rate_factor


def learner(**settings: object) -> HamiltonianLearner:
    with numbers_of(torch.float64):
        return HamiltonianLearner(network(blocks=1), BASIS, TrainSection(**settings), 0.5)


def first(net: nn.Module) -> tuple[str, nn.Parameter]:
    return next(iter(net.named_parameters()))


def test_the_learning_rate_rises_then_falls_as_half_a_cosine() -> None:
    rates = [learning_rate_factor(k / 1000, 0.1) for k in range(1001)]
    assert max(rates) == rates[100] == pytest.approx(1.0)
    assert all(a < b for a, b in pairwise(rates[:101]))
    assert all(a > b for a, b in pairwise(rates[100:]))
    assert 0 < rates[0] < 0.02
    assert rates[-1] == pytest.approx(1e-3)
    assert rates[550] == pytest.approx(0.5, abs=1e-3)
    assert learning_rate_factor(0.0, 0.0) == pytest.approx(1.0)  # no warm-up at all


def test_the_average_has_a_short_memory_at_first() -> None:
    """Decay (1 + n) / (10 + n), until that exceeds the one asked for."""
    module = learner(ema=0.99)
    name, parameter = first(module.network)
    start = parameter.detach().clone()
    with torch.no_grad():
        parameter += 1.0
    module.on_train_batch_end()  # step 0: decay 1 / 10
    torch.testing.assert_close(module.average[name], start + 0.9)
    torch.testing.assert_close(module.kept_weights()[name], start + 0.9)


def test_without_an_average_the_weights_themselves_are_kept() -> None:
    module = learner(ema=0.0)
    name, parameter = first(module.network)
    with torch.no_grad():
        parameter += 1.0
    module.on_train_batch_end()
    assert torch.equal(module.kept_weights()[name], parameter)


def test_validation_judges_the_average_and_gives_the_weights_back() -> None:
    module = learner(ema=0.99)
    module.log = lambda *args, **_: logged.append(args)  # type: ignore[method-assign]
    logged: list[tuple[str, torch.Tensor]] = []
    c = calculation(STRUCTURES["molecule"])
    batch = collate([labeller().sample(c.structure, c.overlap, c.hamiltonian)], torch.float64)
    with torch.no_grad():
        good = float((module(batch)[0] - batch.residual).abs().mean()) * 1000
        for parameter in module.network.parameters():
            parameter += 0.5
        before = {name: p.clone() for name, p in module.network.named_parameters()}
        module.on_validation_epoch_start()
        module.validation_step(batch, 0)
        module.on_validation_epoch_end()
    assert logged[0][0] == "validation_mae"
    assert float(logged[0][1]) == pytest.approx(good, rel=1e-6)
    for name, p in module.network.named_parameters():
        assert torch.equal(p, before[name])
        assert not p.numel() or not torch.equal(p, module.average[name])


def test_the_validation_error_is_a_mean_over_all_elements_of_all_structures() -> None:
    """Not a mean of means: structures of different sizes weigh by their elements."""
    module = learner()
    module.log = lambda name, value, **_: logged.__setitem__(name, float(value))  # type: ignore[method-assign]
    logged: dict[str, float] = {}
    total, count = 0.0, 0
    module.on_validation_epoch_start()
    for atoms in STRUCTURES.values():
        c = calculation(atoms)
        batch = collate([labeller().sample(c.structure, c.overlap, c.hamiltonian)], torch.float64)
        with torch.no_grad():
            module.validation_step(batch, 0)
            error = module(batch)[0] - batch.residual
        total, count = total + float(error.abs().sum()), count + error.numel()
    module.on_validation_epoch_end()
    assert logged["validation_mae"] == pytest.approx(1000 * total / count, rel=1e-6)


def test_a_step_lowers_the_loss_of_its_batch() -> None:
    module = learner(learning_rate=1e-3, warmup=0.0)
    module.log = lambda *args, **_: None  # type: ignore[method-assign]
    several = [calculation(one) for one in STRUCTURES.values()]
    batch = collate([labeller().sample(c.structure, c.overlap, c.hamiltonian) for c in several], torch.float64)
    optimizer = module.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(math.isfinite(x) for x in losses)


def test_what_is_saved_is_what_a_resumed_training_needs() -> None:
    one, other = learner(), learner()
    one.seconds = 12.5
    name, parameter = first(one.network)
    with torch.no_grad():
        parameter += 1.0
    one.on_train_batch_end()
    state: dict[str, object] = {}
    one.on_save_checkpoint(state)
    other.on_load_checkpoint(state)
    assert other.seconds == one.seconds >= 12.5
    assert torch.equal(other.average[name], one.average[name])
