"""Observers: what is derived from states at one k, before these are dropped.

States of all k are too much to keep (40 of 60 000 orbitals at 100 k: 4 GB). So whoever computes levels hands the states to
observers, in the process that found them, and only what they return travels on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from scipy import sparse

from orbitrace.bands.bloch import Pencil
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.structure import Floats


@dataclass(frozen=True, eq=False)
class Found:
    """States at one k.

    Parameters
    ----------
    pencil, k, overlap
        The pencil, k [3] and S(k).
    energies, states
        [n] eV, ascending, and [size, n], orthonormal in the S inner product.
    """

    pencil: Pencil
    k: Floats
    overlap: sparse.csr_matrix
    energies: Floats
    states: Values

    @cached_property
    def dual(self) -> Values:
        """[size, n] S times the states."""
        dual: Values = self.overlap @ self.states
        return dual


class Observer(Protocol):
    """Something that looks at states; it is sent to worker processes, so it is small."""

    @property
    def name(self) -> str:
        """Under which its values are kept."""
        ...

    def __call__(self, found: Found) -> Values:
        """[n, ...] values, one row for each level."""
        ...


def observed(
    observers: Sequence[Observer],
    pencil: Pencil,
    k: Floats,
    overlap: sparse.csr_matrix,
    energies: Floats,
    states: Values | None,
) -> dict[str, Values]:
    """What each observer sees, by name."""
    if not observers:
        return {}
    if states is None:
        raise InputError("bands", "weights or velocities without states", "states", "Let the solver compute states")
    found = Found(pencil, k, overlap, energies, states)
    return {observer.name: observer(found) for observer in observers}
