"""Layers that are built in: their lattice constants and heights, with sources.

Plain data, without numpy: the configuration knows their names from here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """A hexagonal layer with atoms on threefold axes.

    Parameters
    ----------
    a
        Å, lattice constant.
    atoms
        Atomic number, thirds of the long diagonal of the cell (0, 1 or 2), and height in Å, of each atom. With vectors at 60
        degrees, k thirds stand at k/3 (a1 + a2).
    source
        Where the numbers come from.
    """

    a: float
    atoms: tuple[tuple[int, int, float], ...]
    source: str


def _dichalcogenide(metal: int, chalcogen: int, a: float, thickness: float, source: str) -> Material:
    """Trigonal prisms, as in the 2H and 3R polytypes: both chalcogen atoms on one axis."""
    return Material(a, ((metal, 0, thickness / 2), (chalcogen, 1, 0.0), (chalcogen, 1, thickness)), source)


MATERIALS = {
    "graphene": Material(2.46, ((6, 0, 0.0), (6, 1, 0.0)), "graphite at room temperature"),
    "hbn": Material(2.504, ((5, 0, 0.0), (7, 1, 0.0)), "R. S. Pease, Acta Cryst. 5, 356 (1952)"),
    "mos2_2h": _dichalcogenide(42, 16, 3.160, 3.172, "K. D. Bronsema et al., Z. anorg. allg. Chem. 540, 15 (1986)"),
    "mose2_2h": _dichalcogenide(42, 34, 3.288, 3.328, "P. B. James and M. T. Lavik, Acta Cryst. 16, 1183 (1963)"),
    "ws2_2h": _dichalcogenide(74, 16, 3.153, 3.142, "W. J. Schutte et al., J. Solid State Chem. 70, 207 (1987)"),
    "wse2_2h": _dichalcogenide(74, 34, 3.282, 3.341, "W. J. Schutte et al., J. Solid State Chem. 70, 207 (1987)"),
    # One bilayer as it stands in the crystal; relaxed alone it is narrower, by an amount that hangs on the functional.
    "bismuthene": Material(
        4.546, ((83, 0, 0.0), (83, 1, 1.595)), "bulk: D. Schiferl and C. S. Barrett, J. Appl. Cryst. 2, 30 (1969)"
    ),
    "silicene": Material(3.83, ((14, 0, 0.0), (14, 1, 0.44)), "S. Cahangirov et al., Phys. Rev. Lett. 102, 236804 (2009)"),
}
