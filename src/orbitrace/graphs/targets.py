"""Targets: which part of H a network learns; the rest is known beforehand and added to what it says.

* ``absolute``: H as the DFT code gives it.
* ``gauge``: H - mu S with one number mu per structure. H and H + c S are one physical system, and the zero of energies may
  differ from one calculation to the next; mu = <H - reference, S> / <S, S> takes it out, with <A, B> the sum over all elements
  and the two-centre reference for what the structures have in common. Predictions get the mean mu of the training data back.
* ``residual``: H - H0 with a reference Hamiltonian H0 that comes with the data, and must come with what is predicted.

All differences are taken in float64, where on-site elements of 1e4 eV cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.two_centre import TwoCentreTable, fit_two_centre

Target = Literal["absolute", "gauge", "residual"]
TARGETS: tuple[Target, ...] = ("absolute", "gauge", "residual")
ROUNDS = 2  # of fitting reference and gauges in turn, after a first guess of the gauges


@dataclass(frozen=True)
class Split:
    """How a data set's Hamiltonians are split into what is known beforehand and what is learned.

    Parameters
    ----------
    target
        Which part is learned.
    zero
        eV; mean mu of the training data, which predictions get back. 0 unless the target is ``gauge``.
    """

    target: Target = "absolute"
    zero: float = 0.0

    def learned(
        self, hamiltonian: Blocks, overlap: Blocks, initial: Blocks | None, reference: Blocks | None = None, where: str = ""
    ) -> Blocks:
        """The part of H that is learned, eV; `reference` is its two-centre part, which fixes the gauge.

        Raises
        ------
        InputError
            As `known`.
        """
        if self.target == "gauge":
            return shifted(hamiltonian, overlap, gauge(hamiltonian, overlap, reference))
        if self.target == "residual":
            return hamiltonian.with_values(hamiltonian.values - _initial(initial, hamiltonian, where).values)
        return hamiltonian

    def known(self, reference: Blocks, overlap: Blocks, initial: Blocks | None, where: str) -> Blocks:
        """What is added to the network's part of a structure, eV.

        Raises
        ------
        InputError
            If H0 is needed and not there, or over other pairs than the overlap.
        """
        if self.target == "residual":
            return reference.with_values(reference.values + _initial(initial, overlap, where).values)
        return shifted(reference, overlap, -self.zero) if self.zero else reference

    def check_initial(self, initial: Blocks | None, overlap: Blocks, where: str) -> None:
        """Raise what `known` would."""
        if self.target == "residual":
            _initial(initial, overlap, where)


ABSOLUTE = Split()


def gauge(hamiltonian: Blocks, overlap: Blocks, reference: Blocks | None = None) -> float:
    """The mu that brings H - mu S closest to a reference (to zero by default), eV: least squares over all elements."""
    values = hamiltonian.values if reference is None else hamiltonian.values - reference.values
    return float(np.vdot(overlap.values, values).real / np.vdot(overlap.values, overlap.values).real)


def shifted(hamiltonian: Blocks, overlap: Blocks, mu: float) -> Blocks:
    """H - mu S."""
    return hamiltonian.with_values(hamiltonian.values - mu * overlap.values)


def fit_reference(
    calculations: Callable[[], Iterator[Calculation]], basis: Basis, target: Target, where: str
) -> tuple[TwoCentreTable, Split]:
    """Two-centre reference of the learned part of H over training calculations, which are passed over and not kept.

    For the gauge, mu of each structure and the reference are fitted in turn. The first guess, mu = <H, S> / <S, S>, already
    takes out any difference in the zeros; but it depends on the composition, which the fit against the reference mends.
    """
    if target != "gauge":
        return _fitted(calculations, Split(target), None, basis, where), Split(target)
    gauges = [gauge(c.hamiltonian, c.overlap) for c in calculations()]
    for _ in range(ROUNDS):
        table = _fitted(calculations, Split(target), gauges, basis, where)
        gauges = [_gauge_from(table, c, basis) for c in calculations()]
    return table, Split(target, float(np.mean(gauges)))


def _gauge_from(table: TwoCentreTable, c: Calculation, basis: Basis) -> float:
    return gauge(c.hamiltonian, c.overlap, table.blocks(c.structure, basis, c.hamiltonian.pairs))


def _fitted(
    calculations: Callable[[], Iterator[Calculation]], split: Split, gauges: Sequence[float] | None, basis: Basis, where: str
) -> TwoCentreTable:
    """Two-centre table of the learned parts of H, for given gauges if there are any."""

    def part(k: int, c: Calculation) -> Blocks:
        if gauges is not None:
            return shifted(c.hamiltonian, c.overlap, gauges[k])
        return split.learned(c.hamiltonian, c.overlap, c.initial)

    samples = ((c.structure, basis.restricted(c.structure.elements), part(k, c)) for k, c in enumerate(calculations()))
    return fit_two_centre(samples, "smooth", where)


def check_target(calculation: Calculation, target: Target, where: str) -> None:
    """Refuse a calculation that lacks what the target needs. Raises InputError with `where` and what it was read from."""
    if target != "residual":
        return
    source = calculation.provenance.source
    place = f"{where}: {source}" if source else where
    bad = np.count_nonzero(~np.isfinite(_initial(calculation.initial, calculation.hamiltonian, place).values))
    if bad:
        found = f"{bad} elements of its reference Hamiltonian H0 are not finite"
        raise InputError(place, found, "numbers", "Take this calculation out")


def _initial(initial: Blocks | None, like: Blocks, where: str) -> Blocks:
    if initial is None:
        raise InputError(
            where,
            "has no reference Hamiltonian H0, to which `target: residual` adds what it learns",
            "H0 beside H and overlap (initial_hamiltonian.h5 in a DeepH folder)",
            "Add it, or train with target: absolute",
        )
    if not np.array_equal(initial.pairs, like.pairs) or not np.array_equal(initial.shapes, like.shapes):
        found = f"its reference Hamiltonian H0 has {initial.n_pairs} blocks over other pairs or shells"
        raise InputError(where, found, f"the {like.n_pairs} blocks of its H and overlap")
    return initial
