"""What every calculation must pass before anybody learns from it: geometry, overlap and electron count."""

from __future__ import annotations

import numpy as np

from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.definite import at_gamma, lowest_eigenvalue

LENGTH = 1e-4  # Å: positions in text files are rounded
OVERLAPPING = 1e-6  # an overlap above this proves that two atoms are within reach of each other
ELECTRONS = 1e-3  # per atom: solvers of order N are not exact


def check(calculation: Calculation, counted_electrons: float | None = None) -> None:
    """Refuse a calculation whose parts contradict each other.

    Parameters
    ----------
    calculation
        In the conventions of the house.
    counted_electrons
        tr(rho S), where the files hold the density matrix.

    Raises
    ------
    InputError
        If orbitals overlap across a longer distance than they reach, the overlap is not positive definite, or the electrons
        counted from the density matrix are not those that the code says.
    """
    _check_lengths(calculation)
    _check_overlap(calculation)
    _check_electrons(calculation, counted_electrons)


def _check_lengths(calculation: Calculation) -> None:
    """Prove by geometry that positions, R, i and j belong together: orbitals that overlap are within rc_i + rc_j.

    Bands cannot see a wrong R, nor atoms that were folded into the cell after the matrices were written.
    """
    overlap, structure = calculation.overlap, calculation.structure
    lengths = overlap.lengths(structure)
    cutoffs = calculation.basis.cutoffs(structure.numbers)
    reach = cutoffs[overlap.pairs[:, 3]] + cutoffs[overlap.pairs[:, 4]]
    far = np.flatnonzero(lengths > reach + LENGTH)
    if not any(np.max(np.abs(overlap.block(int(pair)))) > OVERLAPPING for pair in far):
        return  # codes whose H reaches farther than S have far pairs too, but without overlap
    worst = far[np.argmax(lengths[far])]
    raise InputError(
        calculation.provenance.source,
        f"{len(far)} of {overlap.n_pairs} pairs are longer than rc_i + rc_j ({reach[worst]:.2f} Å), largest "
        f"{lengths[worst]:.2f} Å: positions were probably wrapped into the cell",
        "the positions that the lattice vectors R of the blocks refer to",
        "Take positions and matrices from the same file",
    )


def _check_overlap(calculation: Calculation) -> None:
    """S is a Gram matrix: its diagonal is positive, and at k = 0 all its eigenvalues are."""
    overlap = calculation.overlap
    counts = calculation.basis.n_orbitals(calculation.structure.numbers)
    norms = [np.diagonal(overlap.block(int(pair))) for pair in np.flatnonzero(overlap.onsite)]
    smallest = float(np.concatenate(norms).min()) if norms else 0.0
    if len(norms) < len(counts) or smallest <= 0:
        found = f"the overlap of an orbital with itself is {smallest:.3g}" if norms else "the overlap has no on-site blocks"
        raise InputError(calculation.provenance.source, found, "a positive number for each orbital", "The file is damaged")
    lowest = lowest_eigenvalue(at_gamma(overlap, calculation.structure, calculation.basis))
    if lowest <= 0:
        raise InputError(
            calculation.provenance.source,
            f"the overlap is not positive definite at Gamma (lowest eigenvalue {lowest:.3e})",
            "linearly independent orbitals",
            "The file is damaged, or its basis is overcomplete: use a smaller one",
        )


def _check_electrons(calculation: Calculation, counted: float | None) -> None:
    expected = calculation.n_electrons
    if counted is None or expected is None:
        return
    if not abs(counted - expected) <= ELECTRONS * calculation.structure.n_atoms:
        raise InputError(
            calculation.provenance.source,
            f"the density matrix holds tr(rho S) = {counted:.6f} electrons",
            f"{expected:.6f}, the number of electrons in the same file",
            "The file is damaged, or the run did not converge: run it again",
        )
