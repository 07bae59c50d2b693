"""S from the overlaps that DFT calculations wrote: no basis files, no DFT run.

An overlap of two orbitals depends on their bond alone. The functions of its length are fitted once to the overlaps of a data
set (`physics.two_centre`), and evaluated for any structure of its elements whose distances the data cover: to 3e-11 for
OpenMX's graphene.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.structure import Structure
from orbitrace.physics.two_centre import TwoCentreTable, fit_two_centre

# Interpolation tables inside some codes make kinks of 1e-4; another basis or a wrong order of orbitals makes far more.
_TWO_CENTRE = 1e-3


def overlap(structure: Structure, basis: Basis, *, where: str, table: Path | TwoCentreTable) -> Blocks:
    """S of a structure.

    Parameters
    ----------
    structure, basis
        The atoms, and the basis of the data for their elements.
    where
        Name of the structure for messages.
    table
        What `fit` made, or the file that `write_table` put it in.

    Raises
    ------
    InputError
        If the data lack an element or a distance of the structure, or `table` is no such file.
    """
    known = table if isinstance(table, TwoCentreTable) else read_table(table)
    check_quantity(known, "overlap", where)
    pairs = find_pairs(structure, basis)
    known.check_coverage(structure, pairs, where)
    return known.blocks(structure, basis, pairs)


def fit(samples: Iterable[tuple[Structure, Basis, Blocks]], where: str = "data") -> TwoCentreTable:
    """The table of a data set from the overlaps of its calculations, which pass by once.

    Parameters
    ----------
    samples
        Structure, basis, overlap of each.
    where
        Name of the data set for messages.

    Raises
    ------
    InputError
        If there are none, bases differ, or the overlaps are no function of the bond.
    """
    table = fit_two_centre(samples, "interpolate", where)
    for (zi, zj), bond in table.bonds.items():
        if bond.residual > _TWO_CENTRE:
            raise InputError(
                where,
                f"overlaps {SYMBOLS[zi]}-{SYMBOLS[zj]} deviate by {bond.residual:.1e} from a function of the bond",
                f"at most {_TWO_CENTRE:.0e}",
                "The calculations have different orbitals for one element, or their positions are not those of their overlaps",
            )
    return table


def check_quantity(table: TwoCentreTable, quantity: str, where: str) -> None:
    """Refuse the table of another matrix. Raises InputError."""
    if table.quantity != quantity:
        names = {"overlap": "the overlap", "kinetic": "the kinetic energy"}
        raise InputError(
            where, f"the table is one of {names.get(table.quantity, table.quantity)}", f"one of {names[quantity]}"
        )


def write_table(file: Path, table: TwoCentreTable) -> None:
    """Write a table as one .npz file; it appears whole or not at all."""
    with replacing(file) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **table.to_arrays())  # type: ignore[arg-type]


def read_table(file: Path) -> TwoCentreTable:
    """The inverse of `write_table`. Raises InputError if the file is missing or something else."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return TwoCentreTable.from_arrays(dict(arrays))
    except FileNotFoundError:
        raise InputError(file, "no such file", "a table of overlaps", "Run `orbitrace overlap` on the shards first") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(file, f"no table of overlaps ({type(error).__name__}: {error})", "a file of `write_table`") from error
