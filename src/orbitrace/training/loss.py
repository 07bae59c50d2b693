"""The loss: errors of the Hamiltonian's elements, of what follows from it, and the trace term of TraceGrad.

``L = L_H + mu L_T`` with ``mu = lambda * stop_gradient(L_H / L_T)``: the trace term always weighs lambda L_H, whatever its
size (TraceGrad, arXiv 2405.05722). L_H is a mix of mean absolute and mean square error of the elements and of the errors of
levels (`training.levels`), all in units of the residual that the reference leaves. L_T is the mean absolute error of
log(1 + T), with T the traces of the normalised blocks, residual / scale: those of H itself span twenty orders of magnitude and
hardly vary between structures.

Means run over the elements of all processes that train together (`together.mean`): L_H and L_T, and with them mu, are those of
the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orbitrace.graphs.batches import Batch
from orbitrace.learning import LossSection
from orbitrace.training import together
from orbitrace.training.levels import LevelErrors


def hamiltonian_loss(error: Tensor, unit: float, loss: LossSection, levels: LevelErrors | None = None) -> Tensor:
    """L_H from the errors of the elements [n] and of the levels, eV; `unit` in eV makes it dimensionless."""
    terms = []
    if loss.mae > 0:
        terms.append(loss.mae * together.mean((error / unit).abs()))
    if loss.mse > 0:
        terms.append(loss.mse * together.mean((error / unit).abs() ** 2))
    if levels is not None and levels.wavefunction is not None:
        terms.append(loss.wavefunction * levels.wavefunction / unit)
    if levels is not None and levels.bands is not None:
        terms.append(loss.bands * levels.bands / unit)
    # With bands alone, and none in the window at this k, a step of zero gradient.
    return sum(terms[1:], terms[0]) if terms else (0 * error).abs().sum()


def trace_loss(batch: Batch, predicted: list[Tensor]) -> Tensor:
    """Mean absolute error of log(1 + trace), so that a few large traces do not rule."""
    errors = [
        (p - torch.log1p(g.traces)).abs().reshape(-1)
        for p, g in zip(predicted, batch.groups, strict=True)
        if g.traces is not None
    ]
    return together.mean(torch.cat(errors))


def total_loss(loss_h: Tensor, loss_t: Tensor | None, trace_weight: float) -> Tensor:
    """L_H + mu L_T; the ratio in mu is held fixed while differentiating."""
    if loss_t is None or trace_weight == 0:
        return loss_h
    ratio = (loss_h / loss_t.clamp_min(1e-12)).detach()
    return loss_h + trace_weight * ratio * loss_t
