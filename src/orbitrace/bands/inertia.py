"""Counting levels below an energy, without computing any: the inertia of H - E S (Sylvester's law)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from orbitrace.bands.factors import AUTO, SingularError, factor
from orbitrace.errors import InputError

NUDGES = (0.0, 2.3e-4, -4.1e-4, 9.7e-4, -2.9e-3)  # eV: how far a shift may move off a level


def shifted(H: sparse.csr_matrix, S: sparse.csr_matrix, shift: float) -> sparse.csr_matrix:
    """H - shift S, on the common pattern if the two share it (SciPy's difference would drop elements that vanish)."""
    if H.indices is S.indices or (H.nnz == S.nnz and np.array_equal(H.indices, S.indices)):
        return sparse.csr_matrix((H.data - shift * S.data, H.indices, H.indptr), shape=H.shape)
    return (H - shift * S).tocsr()


def count_at(
    H: sparse.csr_matrix, S: sparse.csr_matrix, energy: float, name: str = AUTO, *, single: bool = False
) -> int | None:
    """Number of levels below exactly this energy, or None if the factorisation called `name` cannot tell.

    In `single` precision the count may be wrong if a level is within a millielectronvolt of the energy.
    """
    try:
        return factor(name, shifted(H, S, energy), single=single).negatives()
    except SingularError:
        return None


def count_below(H: sparse.csr_matrix, S: sparse.csr_matrix, energy: float, name: str = AUTO) -> int:
    """Number of levels below an energy, which may be moved by up to 3 meV if a level lies on it.

    Raises
    ------
    InputError
        If the factorisation can count at none of the energies tried.
    """
    for nudge in NUDGES:
        count = count_at(H, S, energy + nudge, name)
        if count is not None:
            return count
    raise InputError(
        f"factorisation {name}",
        f"it cannot count the levels below {energy:.4f} eV",
        "pivots that stay on the diagonal",
        "Use the solver 'dense'",
    )
