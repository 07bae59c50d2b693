"""What a reader hands to the door: a calculation with the orbitals still in the order and signs of its code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orbitrace.physics.blocks import Pairs, Values
from orbitrace.physics.calculation import Provenance, Spin
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats, Structure

# The spin components that a reader gives, by treatment of spin; "du" may be left out: it is the conjugate transpose of "ud".
COMPONENTS: Mapping[Spin, tuple[str, ...]] = {
    Spin.NONE: ("",),
    Spin.COLLINEAR: ("uu", "dd"),
    Spin.NONCOLLINEAR: ("uu", "ud", "dd"),
}


@dataclass(frozen=True, eq=False)
class RawCalculation:
    """One DFT run, in Å and eV, but in the code's own order of pairs, shells and orbitals.

    Parameters
    ----------
    structure
        Atoms with the positions that the lattice vectors R of the pairs refer to, never wrapped. Where the code knows no
        open directions, `pbc` is all True: the door finds out which directions no pair crosses.
    basis
        Shells by ascending l, as everywhere.
    pairs
        [n_pairs, 5] Rx, Ry, Rz, i, j, in any order, each pair with its reverse.
    hamiltonian
        Spin component -> flat array [sum of n_i * n_j], eV: the block of each pair in row-major order, one after the other in
        the order of `pairs`. The keys are those of `COMPONENTS`; with spin, "ud" is <up| H |down>.
    overlap
        Flat array over `overlap_pairs`, or over `pairs` if that is None.
    fermi_level, n_electrons, spin, provenance
        As in `Calculation`.
    counted_electrons
        tr(rho S), if the files hold the density matrix; the door compares it with `n_electrons`.
    overlap_pairs
        Pairs of the overlap, where a code keeps it over other pairs than the Hamiltonian.
    file_shells
        For elements whose shells stand in the file in another order than by ascending l: the l of each shell in that order.
    initial
        A reference Hamiltonian H0, laid out as `hamiltonian`, where the files hold one.
    """

    structure: Structure
    basis: Basis
    pairs: Pairs
    hamiltonian: Mapping[str, Values]
    overlap: Floats
    fermi_level: float | None
    n_electrons: float | None
    spin: Spin
    provenance: Provenance
    counted_electrons: float | None = None
    overlap_pairs: Pairs | None = None
    file_shells: Mapping[int, tuple[int, ...]] | None = None
    initial: Mapping[str, Values] | None = None
