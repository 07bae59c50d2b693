"""Relaxed positions from elsewhere, given to the atoms of a structure as it was built."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from orbitrace.errors import InputError
from orbitrace.physics.layers import Layer, layer_of
from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.physics.structure import Floats, Ints, Structure

_CELL = 1e-3  # relative difference of lengths, and difference of the cosine of the angle, that is taken for rounding


def relaxed(structure: Structure, found: Structure, where: str, within: float = 1.0) -> Structure:
    """A bilayer with the positions of a relaxed one: each atom takes those of the nearest one of its kind.

    Parameters
    ----------
    structure
        As it was built: periodic in x and y.
    found
        The same cell relaxed, with its atoms in any order, wrapped or not. It may be turned as a whole, and its vacuum may be
        another one: heights are compared from the mean of all atoms.
    where
        Names `found` in errors.
    within
        Å, the farthest that an atom may have moved.

    Returns
    -------
    Structure
        The lattice and the order of atoms of `structure`, each atom beside its old place (not wrapped to the other side).

    Raises
    ------
    InputError
        If the atoms or the cell are others, or an atom has no partner within reach, or shares it with another.
    """
    _check_atoms(structure, found, where)
    flat = layer_of(found, where)
    planar = structure.lattice[:2, :2]
    inside = flat.planar @ _to_same_cell(flat, planar, where)
    heights = flat.heights - flat.heights.mean() + structure.positions[:, 2].mean()
    target = np.column_stack([(inside - np.floor(inside)) @ planar, heights])
    positions = np.empty_like(structure.positions)
    for z in structure.elements:
        mine = np.flatnonzero(structure.numbers == z)
        positions[mine] = _nearest(structure.positions[mine], target[found.numbers == z], planar, int(z), where, within)
    return Structure(positions, structure.lattice, structure.numbers, structure.pbc)


def _check_atoms(structure: Structure, found: Structure, where: str) -> None:
    """Refuse other numbers or kinds of atoms."""
    if not np.array_equal(np.sort(structure.numbers), np.sort(found.numbers)):
        kinds = [", ".join(f"{int((s.numbers == z).sum())} {SYMBOLS[z]}" for z in s.elements) for s in (found, structure)]
        raise InputError(where, f"{kinds[0]} atoms", f"those of the twist: {kinds[1]}", "Relax the structure that was built")


def _to_same_cell(flat: Layer, planar: Floats, where: str) -> Ints:
    """Integer matrix from fractional positions in the found cell to those in the asked one, which may have other vectors."""
    lengths = np.linalg.norm(planar, axis=1)
    cosine = planar[0] @ planar[1] / lengths.prod()
    for change in _CHANGES:
        cell = change @ flat.lattice
        mine = np.linalg.norm(cell, axis=1)
        if np.abs(mine / lengths - 1).max() < _CELL and abs(cell[0] @ cell[1] / mine.prod() - cosine) < _CELL:
            return np.rint(np.linalg.inv(change)).astype(np.int64)
    sides = [f"{a:.4f} and {b:.4f} Å at {np.degrees(np.arccos(c)):.2f} degrees" for a, b, c in _sides(flat.lattice, planar)]
    raise InputError(where, f"a cell of {sides[0]}", f"{sides[1]}, as the twist has", "Relax the positions in a fixed cell")


# The cell itself first; then 120 degrees for 60, which the frame of a layer may have chosen.
_CHANGES = tuple(np.array(rows) for rows in ([[1, 0], [0, 1]], [[1, 0], [1, 1]], [[1, 0], [-1, 1]]))


def _sides(*lattices: Floats) -> list[tuple[float, float, float]]:
    lengths = [np.linalg.norm(lattice, axis=1) for lattice in lattices]
    pairs = zip(lattices, lengths, strict=True)
    return [(float(l[0]), float(l[1]), float(cell[0] @ cell[1] / l.prod())) for cell, l in pairs]


def _nearest(mine: Floats, target: Floats, planar: Floats, z: int, where: str, within: float) -> Floats:
    """For each atom the nearest target or image of it in the plane, one to one."""
    reach = within * np.linalg.norm(np.linalg.inv(planar), axis=0) + 1e-9
    home = np.floor(mine[:, :2] @ np.linalg.inv(planar)) @ planar
    inside = target[:, :2] @ np.linalg.inv(planar)
    images, atoms = [], []
    for shift in np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2):
        near = np.flatnonzero(((inside + shift >= -reach) & (inside + shift <= 1 + reach)).all(axis=1))
        images.append(target[near] + np.append(shift @ planar, 0.0))
        atoms.append(near)
    there, owner = np.concatenate(images), np.concatenate(atoms)
    wrapped = mine - np.column_stack([home, np.zeros(len(mine))])
    distance, image = cKDTree(there).query(wrapped)
    worst = int(np.argmax(distance))
    if distance[worst] > within:
        place = np.round(mine[worst], 3).tolist()
        raise InputError(
            where,
            f"no {SYMBOLS[z]} within {within:g} Å of {place}, as the twist has; the nearest is {distance[worst]:.2f} Å off",
            "each atom near its place in the twist",
            "Relax the structure that these settings build, without shifting it, or allow more by relaxed_within",
        )
    taken, times = np.unique(owner[image], return_counts=True)
    if (times > 1).any():
        place = np.round(target[taken[np.argmax(times)]], 3).tolist()
        raise InputError(
            where,
            f"the {SYMBOLS[z]} at {place} is the nearest to {int(times.max())} atoms of the twist",
            "positions that can be told apart",
            "Use the positions as a structure of their own",
        )
    moved: Floats = there[image] + np.column_stack([home, np.zeros(len(mine))])
    return moved
