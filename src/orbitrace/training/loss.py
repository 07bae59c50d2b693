"""The loss: error of the Hamiltonian's elements, plus the trace term of TraceGrad.

``L = L_H + mu L_T`` with ``mu = lambda * stop_gradient(L_H / L_T)``: the trace term always weighs lambda L_H, whatever its
size (TraceGrad, arXiv 2405.05722). L_H is a mix of mean absolute and mean square error in units of the residual that the
two-centre reference leaves. L_T is the mean absolute error of log(1 + T), with T the traces of the normalised
blocks, (H - reference) / scale: those of H itself span twenty orders of magnitude and hardly vary between structures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orbitrace.graphs.batches import Batch


def hamiltonian_loss(error: Tensor, unit: float, square_weight: float) -> Tensor:
    """Loss of the elements of H from their errors [n] in eV; `unit` in eV makes it dimensionless."""
    scaled = error / unit
    loss = scaled.abs().mean()
    return loss + square_weight * (scaled**2).mean() if square_weight > 0 else loss


def trace_loss(batch: Batch, predicted: list[Tensor]) -> Tensor:
    """Mean absolute error of log(1 + trace), so that a few large traces do not rule."""
    errors = [
        (p - torch.log1p(g.traces)).abs().reshape(-1)
        for p, g in zip(predicted, batch.groups, strict=True)
        if g.traces is not None
    ]
    return torch.cat(errors).mean()


def total_loss(loss_h: Tensor, loss_t: Tensor | None, trace_weight: float) -> Tensor:
    """L_H + mu L_T; the ratio in mu is held fixed while differentiating."""
    if loss_t is None or trace_weight == 0:
        return loss_h
    ratio = (loss_h / loss_t.clamp_min(1e-12)).detach()
    return loss_h + trace_weight * ratio * loss_t
