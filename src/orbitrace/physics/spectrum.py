"""A spectrum: energies of bands at k points, whoever computed them (a DFT code, or OrbiTrace from blocks)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orbitrace.physics.structure import Floats


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Bands at k points.

    Parameters
    ----------
    kpoints
        [n_k, 3] fractional, in units of the reciprocal lattice vectors.
    energies
        [n_spin, n_k, n_bands] eV, ascending along the last axis; n_spin is 2 for collinear spin, else 1.
    fermi_level
        eV, on the zero of `energies`; None where it is not known.
    lattice
        [3, 3] rows are the lattice vectors, Å; gives the distances along a path.
    labels
        (number of the k point, name) of the named points of a path.
    first_band
        Number (from 0) of the lowest band in `energies` among all bands; None where it is not known.
    residuals
        [n_spin, n_k] largest ||H c - e S c|| / (||H c|| + |e| ||S c||) at each k; None where it was not computed.
    """

    kpoints: Floats
    energies: Floats
    fermi_level: float | None
    lattice: Floats
    labels: tuple[tuple[int, str], ...] = ()
    first_band: int | None = 0
    residuals: Floats | None = None

    @property
    def distances(self) -> Floats:
        """[n_k] length along the path from its first point, 1/Å; a jump between two named neighbours has no length."""
        reciprocal = 2 * np.pi * np.linalg.inv(self.lattice).T
        steps = np.linalg.norm(np.diff(self.kpoints @ reciprocal, axis=0), axis=1)
        named = {k for k, _ in self.labels}
        for k in range(len(steps)):
            if k in named and k + 1 in named:
                steps[k] = 0.0
        return np.concatenate([[0.0], np.cumsum(steps)])
