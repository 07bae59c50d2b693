"""Unfolding: how much of a state of a large cell has the k of a layer's own, primitive lattice.

The translations of the layer turn its orbitals into each other, in the frame of the whole (they do not turn the orbitals). In
the space of coefficients P_k picks the layer's part with the Bloch phase of k,

    (P_k c)_ta = 1/N sum_t' exp(2 pi i k.(t - t')) c_t'a        for orbital a of the primitive cell t, of N

and the spectral weight of a state is w(k) = Re c^H S P_k c, Mulliken's share of it. Over the N k that fold onto the k of the
large cell these sum to the weight of the layer. In a perfect supercell P_k commutes with S, so that w is 0 or 1.

Sources: W. Ku, T. Berlijn, C.-C. Lee, Phys. Rev. Lett. 104, 216401 (2010); C.-C. Lee, Y. Yamada-Takamura, T. Ozaki, J. Phys.:
Condens. Matter 25, 345501 (2013), for orbitals that are not orthogonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from orbitrace.bands.bloch import ranges
from orbitrace.bands.kpath import NamedPoint, band_path
from orbitrace.bands.levels import Progress, energies_of, observed_of
from orbitrace.bands.observing import Found
from orbitrace.bands.primitive import Primitive, primitive_of
from orbitrace.bands.projections import Projected, layers
from orbitrace.bands.spectrum import BandStructure, Record, Settings, solved
from orbitrace.bands.velocities import degenerate_groups
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.structure import Floats, Ints

UNFOLDED = "unfolded"  # kind of the weights in the spectrum


@dataclass(frozen=True, eq=False)
class SpectralWeight:
    """Observer of the weights of one k of the primitive lattice: [n, 1].

    Within degenerate levels they are those of the states that have as much or as little of this k as there is: the
    eigenvalues of the projection, so that a supercell's folded levels keep weights of 0 and 1.

    Parameters
    ----------
    k
        [3] fractional, of the primitive lattice.
    orbitals, place, cells
        [m] numbers of the layer's orbitals in the large cell, [m] which one of the primitive cell each is, and [m, 3] in which
        primitive cell it stands.
    n_cells
        Primitive cells in the large one.
    """

    k: Floats
    orbitals: Ints
    place: Ints
    cells: Ints
    n_cells: int
    name: str = "spectral weight"

    def __call__(self, found: Found) -> Floats:
        """[n, 1] weights."""
        phases = np.exp(-2j * np.pi * (self.cells @ self.k)) / np.sqrt(self.n_cells)
        collect = sparse.csr_matrix((phases, (self.place, self.orbitals)), shape=(self.place.max() + 1, len(found.states)))
        ket, bra = collect @ found.states, collect @ found.dual
        weights: Floats = np.einsum("an,an->n", bra.conj(), ket).real
        for group in degenerate_groups(found.energies):
            inside = bra[:, group].conj().T @ ket[:, group]
            weights[group] = linalg.eigvalsh((inside + inside.conj().T) / 2)
        return weights[:, None]


def spectral_weight(calculation: Calculation, primitive: Primitive, k: Floats) -> SpectralWeight:
    """The observer of one k, for the orbitals of a calculation (of one spin channel if it is collinear)."""
    counts = calculation.basis.n_orbitals(calculation.structure.numbers)
    counts = counts * (2 if calculation.spin is Spin.NONCOLLINEAR else 1)
    first = np.cumsum(counts) - counts
    sizes = counts[primitive.atoms]
    of_site = np.zeros(int(primitive.sites.max()) + 1, dtype=np.int64)
    of_site[primitive.sites] = sizes
    return SpectralWeight(
        np.asarray(k, dtype=np.float64),
        ranges(first[primitive.atoms], sizes),
        ranges((np.cumsum(of_site) - of_site)[primitive.sites], sizes),
        np.repeat(primitive.cells, sizes, axis=0),
        primitive.n_cells,
    )


def layer_primitive(calculation: Calculation, layer: int | None, lattice: Floats | None = None) -> Primitive:
    """The primitive lattice of a layer, counted from 1 at the bottom; of all atoms if it is None.

    Raises
    ------
    InputError
        If there is no such layer, or it does not repeat within the cell.
    """
    s = calculation.structure
    if layer is None:
        return primitive_of(s, np.arange(s.n_atoms), lattice)
    number = layers(s, calculation.overlap.pairs)
    if not 1 <= layer <= number.max() + 1:
        raise InputError("unfold.layer", f"layer {layer}", f"1 to {number.max() + 1}, the layers that bonds make, from below")
    return primitive_of(s, np.flatnonzero(number == layer - 1), lattice, f"unfold, layer {layer}")


def unfold(
    calculation: Calculation,
    layer: int | None = 1,
    path: str | Sequence[NamedPoint | None] | None = None,
    density: float = 20.0,
    lattice: Floats | None = None,
    settings: Settings = Settings(),  # noqa: B008 frozen
    progress: Progress | None = None,
) -> BandStructure:
    """Bands along a path in the primitive zone of a layer, with the weight of each state there: the effective band structure.

    Parameters
    ----------
    layer
        Counted from 1 at the bottom; None takes all atoms, for supercells of a crystal.
    path, density
        As of `kpath.band_path`, in the zone of the layer.
    lattice
        [2 or 3, 3] primitive vectors, Å; found from the atoms if not given.
    settings
        As of `band_structure`.

    Returns
    -------
    A spectrum with the k points and the lattice of the layer, and ``weights["unfolded"]`` in [0, 1] but for what the overlap
    with the other layer adds.
    """
    primitive = layer_primitive(calculation, layer, lattice)
    points = band_path(primitive.structure(calculation.structure), path, density)
    observers = [(spectral_weight(calculation, primitive, k),) for k in points.kpoints]
    fermi, table, record = solved(calculation, primitive.folded(points.kpoints), settings, observers, progress)
    name = "all atoms" if layer is None else f"layer {layer}"
    told: Record = {"layer": name, "primitive_cells": primitive.n_cells, "displacement": primitive.displacement}
    return BandStructure(
        kpoints=points.kpoints,
        energies=energies_of(table),
        fermi_level=fermi,
        lattice=primitive.lattice,
        labels=points.labels,
        first_band=table[0][0].first_band,
        record={**record, **told},
        weights={UNFOLDED: Projected((name,), observed_of(table, SpectralWeight.name))},
    )
