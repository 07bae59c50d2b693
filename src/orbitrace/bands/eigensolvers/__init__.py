"""Eigensolvers for H c = E S c at one k: the door through which every one of them is called.

A solver is one file in this room. It supplies

* ``Settings``: a frozen dataclass of its options, each with a default;
* ``solve(H, S, n_bands, sigma, settings, states) -> Levels``: the `n_bands` levels nearest to `sigma` (eV), or the lowest if
  `sigma` is None, or all if `n_bands` is None; states may be None if they are not wanted. H and S are CSR, Hermitian, real
  or complex. `first_band` is set if the solver knows it (by inertia, or because it finds all levels). What it cannot do, it
  says by raising `UnsuitedError`.

The door does the rest for all of them: it refuses an overlap that is not positive definite, hands to ``dense`` what a sparse
solver declines, sorts, and checks residuals and orthonormality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from scipy import sparse

from orbitrace import plugins
from orbitrace.bands import settings as options
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Values
from orbitrace.physics.definite import lowest_eigenvalue
from orbitrace.physics.structure import Floats

ROOM = "bands.eigensolvers"
DENSE_LIMIT = 5000  # orbitals up to which LAPACK takes over what a sparse solver declines (complex: 1.2 GB, minutes)
TOLERANCE = 1e-8  # largest ||H c - E S c|| / (||H c|| + |E| ||S c||), and deviation of C^H S C from 1
AT_ZERO = 1e-6  # of the largest element of H: a state with a smaller H c (a level at 0 eV) counts as if it had this one
VALUES_TOLERANCE = 0.1  # largest residual where only energies are accurate: their errors are of second order in it


class UnsuitedError(Exception):
    """A solver cannot do what is asked of it; the message says why."""


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels at one k.

    Parameters
    ----------
    energies
        [n] eV, ascending.
    states
        [size, n] coefficients, orthonormal in the S inner product, or None.
    residuals
        [n] ||H c - E S c|| / (||H c|| + |E| ||S c||); None without states.
    first_band
        Number (from 0) of the lowest of these levels among all; None where it is not known.
    verified
        True if inertia counts prove that no level between the found ones is missing.
    solver
        Name of the solver that found them.
    factor
        Name of the factorisation that it used, if any, and its precision if that is single.
    accuracy
        ``states``: all is accurate; ``values``: the energies are, to about 1e-5 eV, and states only to their residuals.
    observed
        By name: what was derived from the states before they were dropped, [n, ...] each.
    """

    energies: Floats
    states: Values | None = None
    residuals: Floats | None = None
    first_band: int | None = None
    verified: bool = False
    solver: str = ""
    factor: str = ""
    accuracy: Literal["states", "values"] = "states"
    observed: Mapping[str, Values] = field(default_factory=dict)


def solve(
    name: str,
    H: sparse.csr_matrix,
    S: sparse.csr_matrix,
    n_bands: int | None = None,
    sigma: float | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    states: bool = True,
    where: str = "H(k), S(k)",
    tolerance: float = TOLERANCE,
) -> Levels:
    """Levels of one pencil by the solver called `name`.

    Parameters
    ----------
    H, S
        Hermitian CSR matrices, eV and dimensionless.
    n_bands, sigma
        How many levels (None: all), and near which energy in eV (None: the lowest).
    settings
        Options of the solver, by name.
    states
        Whether states are wanted; without them residuals are not checked.
    where
        The k point, for messages.

    Raises
    ------
    InputError
        If S is not positive definite, more levels are asked for than there are, the solver does not converge, a residual is
        larger than `tolerance`, or an option is unknown.
    """
    if n_bands is not None and not 1 <= n_bands <= H.shape[0]:
        raise InputError(where, f"{n_bands} bands are asked for", f"1 to {H.shape[0]}, the number of orbitals")
    if not (settings or {}).get("ill_threshold"):
        check_overlap(S, where)
    levels = _found(name, H, S, n_bands, sigma, settings, states, where)
    order = np.argsort(levels.energies, kind="stable")
    vectors = None if levels.states is None else levels.states[:, order]
    levels = replace(levels, energies=levels.energies[order], states=vectors)
    return _checked(levels, H, S, where, tolerance)


def check_overlap(S: sparse.csr_matrix, where: str) -> None:
    """Refuse an overlap that is not positive definite."""
    floor = lowest_eigenvalue(S)
    if floor <= 0:
        raise InputError(
            where,
            f"the overlap is not positive definite: its lowest eigenvalue is {floor:.3e}",
            "a positive one",
            "Overlap and structure do not belong together, atoms are too close, or the basis is linearly dependent; the "
            "option `ill_threshold` of the solver 'dense' leaves out the combinations of orbitals whose overlap is below it",
        )


def _found(
    name: str,
    H: sparse.csr_matrix,
    S: sparse.csr_matrix,
    n_bands: int | None,
    sigma: float | None,
    settings: Mapping[str, Any] | None,
    states: bool,
    where: str,
) -> Levels:
    """Levels by the solver, or by ``dense`` if the solver declines and the matrix is small."""
    solver = plugins.load(ROOM, name)
    chosen = options.build(solver.Settings, settings or {}, f"{ROOM}.{name}")
    levels: Levels
    try:
        levels = solver.solve(H, S, n_bands, sigma, chosen, states)
        return replace(levels, solver=name)
    except UnsuitedError as reason:
        if name == "dense" or H.shape[0] > DENSE_LIMIT:
            other = f"Move sigma, ask for fewer bands, or use the solver 'dense' ({H.shape[0]} orbitals)"
            remedy = "Change its options" if name == "dense" else other
            raise InputError(where, f"{name} gives up: {reason}", "levels that it can find", remedy) from reason
        dense = plugins.load(ROOM, "dense")
        levels = dense.solve(H, S, n_bands, sigma, dense.Settings(), states)
        return replace(levels, solver="dense")


def _checked(levels: Levels, H: sparse.csr_matrix, S: sparse.csr_matrix, where: str, tolerance: float) -> Levels:
    """The levels with their residuals, refused if these or the states' overlaps are too large."""
    if not np.isfinite(levels.energies).all():
        raise InputError(where, f"{levels.solver} returns levels that are not finite", "finite energies")
    if levels.states is None:
        return levels
    hc, sc = H @ levels.states, S @ levels.states
    scale = np.linalg.norm(hc, axis=0) + np.abs(levels.energies) * np.linalg.norm(sc, axis=0)
    least = max(AT_ZERO * float(np.abs(H.data).max(initial=0.0)), float(np.finfo(float).tiny))
    residuals = np.linalg.norm(hc - sc * levels.energies, axis=0) / np.maximum(scale, least)
    skew = np.abs(levels.states.conj().T @ sc - np.eye(len(levels.energies))).max()
    limit = tolerance if levels.accuracy == "states" else max(tolerance, VALUES_TOLERANCE)
    for what, value, most in (("a residual", residuals.max(), limit), ("an overlap of states wrong by", skew, tolerance)):
        if not value <= most:
            raise InputError(
                where,
                f"{levels.solver} leaves {what} {value:.1e}",
                f"at most {most:.1e}",
                "Use another solver or move sigma; a badly conditioned overlap is a frequent cause",
            )
    return replace(levels, residuals=residuals)
