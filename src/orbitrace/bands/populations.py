"""Mulliken populations: the electrons of each group of orbitals, from all levels on a mesh.

q_g = sum_nk w_k f(E_nk) Re sum_{a in g} c_a^* (S c)_a, with the Fermi-Dirac occupation f: a projected density of states
filled up to the Fermi level.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from orbitrace.bands.bloch import Pencil
from orbitrace.bands.fermi import SPACING, TEMPERATURE, find_fermi_level
from orbitrace.bands.levels import Ask, Progress, observed_of, scatter
from orbitrace.bands.mesh import Divisions, divisions_for, uniform_mesh
from orbitrace.bands.projections import Projected, projection
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.units import BOLTZMANN


def populations(
    calculation: Calculation,
    kind: str = "element",
    mesh: Divisions | None = None,
    temperature: float = TEMPERATURE,
    n_workers: int = 1,
    progress: Progress | None = None,
) -> Projected:
    """Electrons of each group: [n_spin, n_groups]; without spin both electrons of a level are counted.

    Parameters
    ----------
    kind
        What the groups are: one of `projections.KINDS`.
    mesh, temperature
        Divisions (None: by the size of the zone), and K.

    Raises
    ------
    InputError
        If the kind is unknown, or the Fermi level neither known nor computable.
    """
    pencils = Pencil.channels(calculation)
    divisions = mesh or divisions_for(calculation.structure, SPACING, calculation.hamiltonian.pairs)
    points = uniform_mesh(divisions, time_reversal=all(p.is_real for p in pencils))
    fermi = calculation.fermi_level
    if fermi is None:
        fermi = find_fermi_level(calculation, pencils, divisions, temperature, n_workers=n_workers).energy
    groups = projection(calculation, kind)
    ask = Ask("dense", observers=(groups,))
    table = scatter(pencils, points.kpoints, [ask] * len(points.kpoints), n_workers, progress)
    energies = np.array([[levels.energies for levels in row] for row in table])
    occupation = points.weights[:, None] * expit((fermi - energies) / max(BOLTZMANN * temperature, 1e-5))
    electrons = np.einsum("skn,skng->sg", occupation, observed_of(table, groups.name))
    return Projected(groups.groups, electrons * (2 if calculation.spin is Spin.NONE else 1))
