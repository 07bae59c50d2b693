"""A structure: atoms in a cell. Positions are never wrapped: the lattice vectors R of the blocks refer to them as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in a cell.

    Parameters
    ----------
    positions
        [n_atoms, 3] Cartesian, Å, not wrapped into the cell.
    lattice
        [3, 3] rows are the lattice vectors, Å. Directions that are not periodic may hold any vector, or zeros.
    numbers
        [n_atoms] atomic numbers.
    pbc
        Whether each lattice direction is periodic. A molecule has none.
    """

    positions: Floats
    lattice: Floats
    numbers: Ints
    pbc: tuple[bool, bool, bool] = (True, True, True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", np.ascontiguousarray(self.positions, dtype=np.float64).reshape(-1, 3))
        object.__setattr__(self, "lattice", np.ascontiguousarray(self.lattice, dtype=np.float64).reshape(3, 3))
        object.__setattr__(self, "numbers", np.ascontiguousarray(self.numbers, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "pbc", tuple(bool(p) for p in self.pbc))
        if len(self.positions) != len(self.numbers):
            raise ValueError(f"{len(self.positions)} positions for {len(self.numbers)} atomic numbers")

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.numbers)

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers that occur, ascending."""
        return tuple(int(z) for z in np.unique(self.numbers))

    def pair_vectors(self, pairs: NDArray[np.integer]) -> Floats:
        """Vector from atom i in cell 0 to atom j in cell R for each row (Rx, Ry, Rz, i, j) of `pairs`: [n_pairs, 3], Å."""
        shifts = pairs[:, :3].astype(np.float64) @ self.lattice
        vectors: Floats = self.positions[pairs[:, 4]] + shifts - self.positions[pairs[:, 3]]
        return vectors

    def rotated(self, rotation: Floats) -> Structure:
        """The structure turned (or mirrored) as a whole by the orthogonal matrix `rotation` [3, 3]: x -> rotation x."""
        return Structure(self.positions @ rotation.T, self.lattice @ rotation.T, self.numbers, self.pbc)
