"""A calculation: what one DFT run says of one structure, in the conventions of the house."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure


class Spin(StrEnum):
    """Treatment of spin. Only `NONE` has blocks that are not spin-doubled."""

    NONE = "none"
    COLLINEAR = "collinear"  # [[uu, 0], [0, dd]], real
    NONCOLLINEAR = "noncollinear"  # [[uu, ud], [du, dd]], complex, with or without spin-orbit coupling

    @property
    def components(self) -> int:
        """1, or 2 where blocks are spin-doubled."""
        return 1 if self is Spin.NONE else 2


@dataclass(frozen=True)
class Provenance:
    """Where a calculation comes from."""

    code: str  # e.g. "openmx", or "orbitrace" for a prediction
    version: str  # version of the code and of the layout of its files
    source: str = ""  # folder or file that was read
    hashes: Mapping[str, str] = field(default_factory=dict)  # file name -> sha256


@dataclass(frozen=True, eq=False)
class Calculation:
    """One structure with its Hamiltonian and overlap.

    Parameters
    ----------
    structure, basis
        The atoms and the shells of their elements.
    hamiltonian
        Blocks in eV, spin-doubled unless `spin` is NONE; raw energy zero of the code.
    overlap
        Blocks, dimensionless, never spin-doubled.
    fermi_level
        eV, on the same zero; None where it is not known (a prediction before its bands).
    n_electrons
        Electrons per cell that the orbitals hold; None where it is not known.
    spin, provenance
        Treatment of spin; where this comes from.
    initial
        Blocks in eV of a reference Hamiltonian H0, e.g. that of the starting density, over the pairs of `hamiltonian` and with
        its spin; None where there is none.
    """

    structure: Structure
    basis: Basis
    hamiltonian: Blocks
    overlap: Blocks
    fermi_level: float | None
    n_electrons: float | None
    spin: Spin
    provenance: Provenance
    initial: Blocks | None = None
