"""Means over several processes, with the gradient that becomes that of the whole when processes average theirs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orbitrace.training import together

PARTS = [torch.tensor([1.0, -2.0, 4.0]), torch.tensor([0.5]), torch.zeros(0)]


def as_each(monkeypatch: pytest.MonkeyPatch, parts: list[Tensor], function: object) -> tuple[list[Tensor | None], Tensor]:
    """What every process gets, and the average of their gradients by a weight that all share."""
    weight = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    sums = torch.tensor([float((weight.detach() * torch.cat(parts)).sum()), float(len(torch.cat(parts)))], dtype=torch.float64)
    monkeypatch.setattr(together, "ranks", lambda: len(parts))
    monkeypatch.setattr(together.distributed, "all_reduce", lambda x: x.copy_(sums))
    values = [function(weight * part.double()) for part in parts]  # type: ignore[operator]
    for value in values:
        if value is not None:
            (value / len(parts)).backward()
    return values, weight.grad if weight.grad is not None else torch.zeros(())


@pytest.mark.parametrize("function", [together.mean, together.mean_of_some])
def test_a_mean_and_its_gradient_are_those_of_all_elements(monkeypatch: pytest.MonkeyPatch, function: object) -> None:
    values, gradient = as_each(monkeypatch, PARTS, function)
    for value in values:
        assert value is not None
        assert float(value.detach()) == pytest.approx(3.0 * 3.5 / 4, rel=1e-14)
    assert float(gradient) == pytest.approx(3.5 / 4, rel=1e-14)


def test_nothing_has_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    assert together.mean_of_some(torch.zeros(0)) is None
    assert as_each(monkeypatch, [torch.zeros(0), torch.zeros(0)], together.mean_of_some)[0] == [None, None]


def test_alone_a_mean_is_a_mean() -> None:
    assert float(together.mean(torch.tensor([1.0, 2.0, 6.0]))) == 3.0
    assert together.summed([1.0, 2.0]) == [1.0, 2.0]
    assert together.largest(4.0) == 4.0
    assert together.first()
