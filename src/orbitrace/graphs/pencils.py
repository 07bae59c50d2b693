"""H and S of a structure in real space on tensors, from which those of any k are made beside a batch's blocks.

Only losses of eigenvalues and eigenvectors need them; a batch for any other loss has none. All is in float64: eigenvalues of
all-electron codes reach 1e4 eV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from orbitrace.errors import InputError
from orbitrace.graphs.graph import Graph, Kind, group_values
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.structure import Floats, Ints


@dataclass(frozen=True, eq=False)
class Pencil:
    """H and S of one structure, element by element of its blocks, in the order of the groups of its graph, sorted by kind.

    Parameters
    ----------
    name
        What it comes from, for messages.
    size
        Number of orbitals.
    pbc
        Whether each direction is periodic.
    fermi_level
        eV.
    sizes
        Kind of each group and its number of elements.
    elements
        [m] place of each element among all of the batch; of the structure alone, if it is in none yet.
    places
        [m] row * size + column.
    cells, cell
        [c, 3] the lattice vectors R that occur, and [m] the number of the one of each element.
    hamiltonian, overlap
        [m] eV and dimensionless.
    """

    name: str
    size: int
    pbc: tuple[bool, bool, bool]
    fermi_level: float
    sizes: tuple[tuple[Kind, int], ...]
    elements: Tensor
    places: Tensor
    cells: Tensor
    cell: Tensor
    hamiltonian: Tensor
    overlap: Tensor

    def at(self, values: Tensor, k: Floats) -> Tensor:
        """sum_R exp(2 pi i k.R) X(R), k fractional, from the elements of X [m]: [size, size], real at Gamma."""
        if k.any():
            angle = 2 * torch.pi * self.cells @ torch.as_tensor(k, device=self.cells.device)
            values = values * torch.polar(torch.ones_like(angle), angle)[self.cell]
        flat = torch.zeros(self.size**2, dtype=values.dtype, device=values.device)
        return flat.index_add(0, self.places, values).reshape(self.size, self.size)

    @torch.no_grad()
    def levels(self, k: Floats) -> tuple[Tensor, Tensor]:
        """Energies [size], eV, and eigenvectors C [size, size] of H(k) C = S(k) C diag(e), with C^dagger S C = 1.

        Raises
        ------
        InputError
            If the overlap is not positive definite.
        """
        h, s = self.at(self.hamiltonian, k), self.at(self.overlap, k)
        factor, failed = torch.linalg.cholesky_ex(s)
        if failed:
            raise InputError(
                self.name, "its overlap is not positive definite, so it has no levels", "a basis without linear dependence",
                "Take the calculation out, or set the losses wavefunction and bands to 0",
            )  # fmt: skip
        half = torch.linalg.solve_triangular(factor, h, upper=False)
        whole = torch.linalg.solve_triangular(factor, half.mH, upper=False)
        energies, vectors = torch.linalg.eigh((whole + whole.mH) / 2)
        return energies, torch.linalg.solve_triangular(factor.mH, vectors, upper=True)


def check_levels(calculation: Calculation, where: str) -> float:
    """The Fermi level of a calculation whose levels are wanted, eV.

    Raises
    ------
    InputError
        If it is not known, or there is spin.
    """
    if calculation.spin is not Spin.NONE:
        raise InputError(
            where, f"a calculation with spin ({calculation.spin.value})", "none, for the losses wavefunction and bands"
        )
    if calculation.fermi_level is None:
        raise InputError(
            where,
            "its Fermi level is not known, from which the window of the losses wavefunction and bands is counted",
            "a calculation with its Fermi level",
            "Set both losses to 0 to train without it",
        )
    return calculation.fermi_level


def make_pencil(calculation: Calculation, graph: Graph, name: str) -> Pencil:
    """The pencil of a calculation whose H and S are over the pairs of a graph. Raises InputError as `check_levels`."""
    c, h = calculation, calculation.hamiltonian
    groups = sorted(graph.groups, key=lambda g: (len(g.kind), g.kind))
    orbitals = c.basis.n_orbitals(c.structure.numbers)
    cells, cell = np.unique(h.pairs[:, :3], axis=0, return_inverse=True)
    elements = [h.shapes[g.blocks].prod(axis=1) for g in groups]
    order = np.concatenate([g.blocks for g in groups])

    def values(blocks: Blocks) -> Tensor:
        return torch.as_tensor(np.concatenate([group_values(blocks, g).reshape(-1) for g in groups]))

    return Pencil(
        name=name,
        size=int(orbitals.sum()),
        pbc=c.structure.pbc,
        fermi_level=check_levels(c, name),
        sizes=tuple((g.kind, int(n.sum())) for g, n in zip(groups, elements, strict=True)),
        elements=torch.arange(len(h.values)),
        places=torch.as_tensor(_places(h, order, np.cumsum(orbitals) - orbitals, int(orbitals.sum()))),
        cells=torch.as_tensor(cells, dtype=torch.float64),
        cell=torch.as_tensor(np.repeat(cell.reshape(-1)[order], np.concatenate(elements))),
        hamiltonian=values(h),
        overlap=values(c.overlap),
    )


def _places(blocks: Blocks, order: Ints, first: Ints, size: int) -> Ints:
    """Place (row * size + column) of every element of some blocks; `first` is the first orbital of each atom."""
    places = []
    for (i, j), (rows, columns) in zip(blocks.pairs[order, 3:], blocks.shapes[order], strict=True):
        places.append(((first[i] + np.arange(rows))[:, None] * size + first[j] + np.arange(columns)).reshape(-1))
    return np.concatenate(places)


def batched(pencils: Sequence[Pencil]) -> list[Pencil]:
    """The pencils of a batch, whose elements stand group by group, and in each group structure by structure."""
    at, parts = 0, [dict[Kind, Tensor]() for _ in pencils]
    for kind in sorted({kind for p in pencils for kind, _ in p.sizes}, key=lambda kind: (len(kind), kind)):
        for pencil, part in zip(pencils, parts, strict=True):
            count = dict(pencil.sizes).get(kind, 0)
            part[kind] = torch.arange(at, at + count)
            at += count
    return [
        replace(p, elements=torch.cat([part[kind] for kind, _ in p.sizes])) for p, part in zip(pencils, parts, strict=True)
    ]
