"""Losses of the levels: what an error of H does to energies and wave functions, at Gamma or at random k.

With C and e of the true pencil, H C = S C diag(e) and C^dagger S C = 1, everything follows from the error of H alone,

    D = C^dagger (H_predicted - H) C,

in which nothing is lost by cancellation. Its elements are the errors of energies and the mixing of wave functions in first
order (wavefunction alignment, WALoss, arXiv 2502.19227), and the eigenvalues of diag(e) + D are exactly those of the predicted
pencil.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from orbitrace.errors import InputError
from orbitrace.graphs.batches import Batch
from orbitrace.graphs.pencils import Pencil
from orbitrace.learning import LossSection
from orbitrace.physics.structure import Floats
from orbitrace.training import together

SAME = 1e-4  # eV; levels closer than this count as one, whose eigenvectors are any in their space
TRIES = 8  # k points at which a window is looked for levels


class Eigenvalues(torch.autograd.Function):
    """Some eigenvalues of a Hermitian matrix, ascending, with the gradient v v^dagger of each.

    The gradient of eigenvectors, which has differences of eigenvalues in its denominator, is never formed. Any function that
    treats the members of a degenerate set alike has its exact gradient, whatever vectors the solver chose in their space.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, chosen: Tensor) -> Tensor:
        """Eigenvalues where `chosen` [n] is true."""
        values: Tensor
        values, vectors = torch.linalg.eigh(matrix)
        ctx.save_for_backward(vectors[:, chosen])
        return values[chosen]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        """sum_n g_n v_n v_n^dagger."""
        (vectors,) = ctx.saved_tensors
        return (vectors * slopes[0]) @ vectors.mH, None


@dataclass(frozen=True)
class LevelErrors:
    """Means over structures and k points, eV: see `wavefunction_error` and `band_error`.

    None where the weight is 0, or no level is in the window.
    """

    wavefunction: Tensor | None
    bands: Tensor | None


def level_errors(batch: Batch, error: Tensor, loss: LossSection, seed: tuple[int, ...]) -> LevelErrors:
    """Errors of the levels of a batch from the errors of the elements of H [elements of all blocks], eV.

    The k points of a structure depend on `seed` and its name alone, not on what else is in the batch.
    """
    each = []
    for pencil in batch.pencils:
        own = error[pencil.elements].double()
        rng = np.random.default_rng((*seed, crc32(pencil.name.encode())))
        wavefunction: list[Tensor | None] = []
        bands: list[Tensor | None] = []
        for k in kpoints(pencil, loss.kpoints, rng):
            energies, vectors = pencil.levels(k)
            change = vectors.mH @ pencil.at(own, k).to(vectors.dtype) @ vectors
            change = (change + change.mH) / 2  # as predicted; two directions of a pair may be trained independently
            relative = energies - pencil.fermi_level
            if loss.wavefunction > 0:
                wavefunction.append(wavefunction_error(relative, change, loss))
            if loss.bands > 0:
                bands.append(band_error(relative, change, loss.window))
        each.append(LevelErrors(_mean(wavefunction), _mean(bands)))
    return LevelErrors(
        _mean_of_all([x.wavefunction for x in each], error) if loss.wavefunction > 0 else None,
        _mean_of_all([x.bands for x in each], error) if loss.bands > 0 else None,
    )


def _mean_of_all(errors: list[Tensor | None], error: Tensor) -> Tensor | None:
    """Mean over the structures of all processes that train together, as far as they have one; None if no process has any."""
    found = [x for x in errors if x is not None]
    # Where this process has none, its zero gradient still has to be averaged with that of the others.
    return together.mean_of_some(torch.stack(found) if found else error[:0].abs().double())


def _mean(errors: list[Tensor | None]) -> Tensor | None:
    found = [x for x in errors if x is not None]
    return torch.stack(found).mean() if found else None


def kpoints(pencil: Pencil, count: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Random k points of a crystal, fractional; Gamma alone of a molecule, or if `count` is 0."""
    if count == 0 or not any(pencil.pbc):
        yield np.zeros(3)
        return
    for _ in range(count):
        yield rng.random(3) * np.array(pencil.pbc)


def wavefunction_error(energies: Tensor, change: Tensor, loss: LossSection) -> Tensor:
    """Root mean square of the elements of D of each level with itself, plus that of different levels, eV.

    Parameters
    ----------
    energies
        [n] eV from the Fermi level. Each above the window weighs `high_levels`, each other one 1; an element of D, the product
        of the weights of its two levels.
    change
        [n, n] D, eV. Elements within a degenerate set count as of one level with itself: which of them are diagonal is chance.
    loss
        The weights; different levels together weigh `off_diagonal`.
    """
    weights = torch.ones_like(energies).masked_fill(energies > loss.window[1], loss.high_levels)
    pairs = weights[:, None] * weights
    same = (energies[:, None] - energies).abs() < SAME
    total = _root_mean_square(change, torch.where(same, pairs, 0.0), (weights**2).sum())
    if loss.off_diagonal > 0 and not bool(same.all()):
        others = torch.where(same, 0.0, pairs)
        total = total + loss.off_diagonal * _root_mean_square(change, others, others.sum())
    return total


def _root_mean_square(values: Tensor, weights: Tensor, count: Tensor) -> Tensor:
    """The gradient of the norm is zero where all values are."""
    norm: Tensor = torch.linalg.vector_norm(values * weights.sqrt())
    return norm / count.clamp_min(1e-12).sqrt()


def band_error(energies: Tensor, change: Tensor, window: tuple[float, float]) -> Tensor | None:
    """Mean absolute error of the energies in the window, level by level in ascending order, eV; None if there are none.

    Parameters
    ----------
    energies
        [n] true ones, eV from the Fermi level.
    change
        [n, n] D, eV.
    window
        Lower and upper end.
    """
    inside = (energies >= window[0]) & (energies <= window[1])
    if not bool(inside.any()):
        return None
    matrix = torch.diag(energies).to(change.dtype) + change
    predicted: Tensor = Eigenvalues.apply(matrix, inside)  # type: ignore[no-untyped-call]
    return (predicted - energies[inside]).abs().mean()


def check_window(pencil: Pencil, loss: LossSection) -> None:
    """Refuse a window that has no level of a calculation at any of several k points, with an InputError."""
    low, high = loss.window
    nearest = np.inf
    for k in kpoints(pencil, loss.kpoints and TRIES, np.random.default_rng(0)):
        energies = pencil.levels(k)[0] - pencil.fermi_level
        if bool(((energies >= low) & (energies <= high)).any()):
            return
        nearest = min(nearest, float(energies.abs().min()))
    raise InputError(
        "train.loss.window",
        f"no level of {pencil.name} lies in [{low:g}, {high:g}] eV about its Fermi level at the k points that were tried",
        f"a window with levels: the nearest is {nearest:.2f} eV from the Fermi level",
    )
