"""Blocks as irreducible representations of O(3): the only place that knows Clebsch-Gordan coefficients.

The sub-block of shells a (of atom i) and b (of atom j) is l_a x l_b = sum of L = |l_a - l_b| .. l_a + l_b, with parity
(-1)^(l_a + l_b). With spin there are several real matrices (`graphs.spin`); those that turn as a spin vector, which is even
under inversion, are coupled once more: L x 1 = L - 1, L, L + 1, with the parity of L. The map between elements and irreps
is orthogonal, so it keeps squared norms, and with them the traces tr(Q Q^dagger).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from e3nn import o3

from orbitrace.graphs.spin import MULTIPLETS, SpinKind, elements_of
from orbitrace.physics.structure import Floats


@dataclass(frozen=True)
class Channel:
    """One irrep of a block: shells a and b (their places in the basis of the two atoms), and L.

    `multiplet` numbers the matrices of spin that it belongs to (`spin.MULTIPLETS`), and `l_orbital` is the L of the orbitals
    alone before the spin is coupled to it.
    """

    a: int
    b: int
    l_a: int
    l_b: int
    L: int
    multiplet: int
    l_orbital: int

    @property
    def natural(self) -> bool:
        """Whether its parity is (-1)^L."""
        return (self.L + self.l_a + self.l_b) % 2 == 0


@dataclass(frozen=True, eq=False)
class BlockIrreps:
    """The irreps of the blocks between two elements.

    Parameters
    ----------
    channels
        The irreps, sorted by (L, natural first), so that those of one kind stand together.
    matrix
        [elements, elements] orthogonal: ``elements = matrix @ irreps``, the irreps one after the other, m = -L..L. Without
        spin the elements are ``block.reshape(-1)``, with it those of `spin.to_elements`.
    spin
        Treatment of spin.
    """

    channels: tuple[Channel, ...]
    matrix: Floats
    spin: SpinKind = SpinKind.NONE

    @property
    def entries(self) -> tuple[tuple[int, int, bool], ...]:
        """(multiplicity, L, natural) of each kind, in order."""
        kinds = sorted({(c.L, not c.natural) for c in self.channels})
        return tuple((sum(c.L == L and c.natural != odd for c in self.channels), L, not odd) for L, odd in kinds)


@cache
def clebsch_gordan(l_a: int, l_b: int, L: int) -> Floats:
    """[2 l_a + 1, 2 l_b + 1, 2 L + 1] orthonormal coupling of real harmonics in house order.

    e3nn's 3j symbols serve as they are: its harmonics of (y, z, x) are those of the house, and both rotate alike.
    """
    coupling: Floats = math.sqrt(2 * L + 1) * o3.wigner_3j(l_a, l_b, L, dtype=torch.float64).numpy()
    return coupling


@cache
def block_irreps(ls_i: tuple[int, ...], ls_j: tuple[int, ...], spin: SpinKind = SpinKind.NONE) -> BlockIrreps:
    """The irreps of blocks between atoms with shells `ls_i` (rows) and `ls_j` (columns)."""
    multiplets = MULTIPLETS[spin]
    channels = sorted(
        (
            Channel(a, b, l_a, l_b, L, number, l_orbital)
            for number, multiplet in enumerate(multiplets)
            for a, l_a in enumerate(ls_i)
            for b, l_b in enumerate(ls_j)
            for l_orbital in range(abs(l_a - l_b), l_a + l_b + 1)
            for L in range(abs(l_orbital - multiplet.rank), l_orbital + multiplet.rank + 1)
        ),
        key=lambda c: (c.L, not c.natural, c.multiplet, c.a, c.b, c.l_orbital),
    )
    starts_i = np.concatenate([[0], np.cumsum([2 * l + 1 for l in ls_i])])
    starts_j = np.concatenate([[0], np.cumsum([2 * l + 1 for l in ls_j])])
    first = np.concatenate([[0], np.cumsum([2 * m.rank + 1 for m in multiplets])])  # matrix of each multiplet
    matrices = np.zeros((spin.matrices, starts_i[-1], starts_j[-1], sum(2 * c.L + 1 for c in channels)))
    at = 0
    for c in channels:
        rows, columns = slice(starts_i[c.a], starts_i[c.a + 1]), slice(starts_j[c.b], starts_j[c.b + 1])
        own = slice(first[c.multiplet], first[c.multiplet + 1])
        matrices[own, rows, columns, at : at + 2 * c.L + 1] = _with_spin(c, multiplets[c.multiplet].rank)
        at += 2 * c.L + 1
    return BlockIrreps(tuple(channels), elements_of(matrices, spin), spin)


def _with_spin(c: Channel, rank: int) -> Floats:
    """[2 rank + 1, 2 l_a + 1, 2 l_b + 1, 2 L + 1] orthonormal coupling of two orbitals and a spin tensor."""
    orbitals = clebsch_gordan(c.l_a, c.l_b, c.l_orbital)
    if rank == 0:
        return orbitals[None]
    coupling: Floats = np.einsum("abm,msM->sabM", orbitals, clebsch_gordan(c.l_orbital, rank, c.L))
    return coupling


def shell_pair_of_irreps(irreps: BlockIrreps, n_shells_j: int) -> Floats:
    """[components] number of the basic block that each component of the irreps belongs to: a * n_shells_j + b without spin.

    With spin every pair of shells has two numbers, for the scalar and the vector part, as in the labels of `graphs.traces`.
    """
    parts, n = MULTIPLETS[irreps.spin], irreps.spin.traces
    return np.concatenate(
        [np.full(2 * c.L + 1, (c.a * n_shells_j + c.b) * n + parts[c.multiplet].label) for c in irreps.channels]
    )
