"""Shares of states: how much of each belongs to an element, an atom, a shell, an orbital or a layer (Mulliken weights).

The weight of orbital a in the state c is Re c_a^* (S c)_a; all weights of a state sum to 1, since c^H S c = 1. As Mulliken's
they share an overlap between two orbitals equally, so that single ones may be slightly negative.

Source: R. S. Mulliken, J. Chem. Phys. 23, 1833 (1955).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from scipy import sparse
from scipy.sparse import csgraph

from orbitrace.bands.observing import Found
from orbitrace.errors import InputError
from orbitrace.physics.blocks import Pairs
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import SPECTROSCOPIC, SYMBOLS
from orbitrace.physics.structure import Floats, Ints, Structure

KINDS = ("element", "atom", "shell", "orbital", "layer")
BOND = 1.15  # of the sum of covalent radii: farther apart are atoms of two layers
_ORBITALS = {  # m = -l..l of real harmonics
    1: ("y", "z", "x"),
    2: ("xy", "yz", "z²", "xz", "x²−y²"),
    3: ("y(3x²−y²)", "xyz", "yz²", "z³", "xz²", "z(x²−y²)", "x(x²−3y²)"),
}


@dataclass(frozen=True, eq=False)
class Projection:
    """Orbitals in groups, and observer of the weights of these: [n, n_groups].

    Parameters
    ----------
    kind
        What the groups are: one of `KINDS`.
    groups
        Names of the groups.
    members
        [size] number of the group of each orbital (of each spin).
    """

    kind: str
    groups: tuple[str, ...]
    members: Ints

    @property
    def name(self) -> str:
        """Of the observer."""
        return f"weights of {self.kind}"

    def __call__(self, found: Found) -> Floats:
        """[n, n_groups] Mulliken weights."""
        return self.sums((found.states.conj() * found.dual).real)

    def sums(self, of_orbitals: Floats) -> Floats:
        """[n, n_groups] sums over the orbitals of each group, from [size, n]."""
        n = len(self.groups)
        take = sparse.csr_matrix(
            (np.ones(len(self.members)), (self.members, np.arange(len(self.members)))), shape=(n, len(self.members))
        )
        sums: Floats = np.ascontiguousarray((take @ of_orbitals).T)
        return sums


@dataclass(frozen=True, eq=False)
class Projected:
    """Values of groups of orbitals: weights of states, densities, or populations.

    Parameters
    ----------
    groups
        Names of the groups.
    values
        [..., n_groups].
    """

    groups: tuple[str, ...]
    values: Floats


def projections(calculation: Calculation, kinds: Sequence[str]) -> tuple[Projection, ...]:
    """The groups of each kind that is wanted.

    Raises
    ------
    InputError
        If a kind is unknown.
    """
    return tuple(projection(calculation, kind) for kind in dict.fromkeys(kinds))


def projection(calculation: Calculation, kind: str) -> Projection:
    """The orbitals of a calculation (of one spin channel if it is collinear) in groups of one kind."""
    s, basis = calculation.structure, calculation.basis
    symbols = [SYMBOLS[z] for z in s.numbers]
    if kind == "element":
        names = [[symbol] * basis[z].n_orbitals for symbol, z in zip(symbols, s.numbers, strict=True)]
    elif kind == "atom":
        names = [[f"{symbols[i]}{i + 1}"] * basis[z].n_orbitals for i, z in enumerate(s.numbers)]
    elif kind == "layer":
        layer = layers(s, calculation.overlap.pairs)
        names = [[f"layer {layer[i] + 1}"] * basis[z].n_orbitals for i, z in enumerate(s.numbers)]
    elif kind in ("shell", "orbital"):
        parts = {z: _parts(basis[z].ls, kind) for z in s.elements}
        names = [[f"{symbol} {part}" for part in parts[int(z)]] for symbol, z in zip(symbols, s.numbers, strict=True)]
    else:
        raise InputError("projections", f"unknown kind {kind!r}", f"one of {', '.join(KINDS)}")
    copies = 2 if calculation.spin is Spin.NONCOLLINEAR else 1  # spin slow, orbital fast within an atom
    flat = np.array([name for atom in names for name in atom * copies])
    groups = _ordered(kind, flat)
    places = {name: place for place, name in enumerate(groups)}
    return Projection(kind, groups, np.array([places[name] for name in flat], dtype=np.int64))


def layers(structure: Structure, pairs: Pairs) -> Ints:
    """[n_atoms] number of the layer of each atom, from 0 at the bottom: atoms that bonds connect are one layer.

    Parameters
    ----------
    pairs
        [n, 5] pairs of atoms that hold all bonds, such as those of the overlap.
    """
    radii = np.asarray(covalent_radii)[structure.numbers]
    lengths = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    bonds = pairs[lengths < BOND * (radii[pairs[:, 3]] + radii[pairs[:, 4]])]
    graph = sparse.coo_matrix((np.ones(len(bonds)), (bonds[:, 3], bonds[:, 4])), shape=(structure.n_atoms,) * 2)
    n, part = csgraph.connected_components(graph, directed=False)
    heights = _heights(structure)
    means = np.bincount(part, weights=heights, minlength=n) / np.bincount(part, minlength=n)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(means, kind="stable")] = np.arange(n)
    result: Ints = rank[part]
    return result


def _heights(structure: Structure) -> Floats:
    """[n_atoms] height of each atom along the third lattice vector, from the end of the largest gap between them."""
    lattice = structure.lattice
    if not structure.pbc[2] or not lattice[2].any():
        normal = np.cross(lattice[0], lattice[1])
        up = normal / np.linalg.norm(normal) if normal.any() else np.array([0.0, 0.0, 1.0])
        outward: Floats = structure.positions @ up
        return outward
    inside = structure.positions @ np.linalg.inv(lattice)[:, 2] % 1.0
    ordered = np.sort(inside)
    gaps = np.diff(np.append(ordered, ordered[0] + 1.0))
    bottom = ordered[(int(np.argmax(gaps)) + 1) % len(ordered)]
    return np.asarray((inside - bottom + 1e-9) % 1.0)


def _parts(ls: Sequence[int], kind: str) -> list[str]:
    """Name of the shell, or of the orbital, of each orbital of an atom."""
    if kind == "shell":
        return [SPECTROSCOPIC[l] for l in ls for _ in range(2 * l + 1)]
    named = {l: _ORBITALS.get(l, tuple(f"{m:+d}" for m in range(-l, l + 1)) if l else ("",)) for l in ls}
    return [f"{SPECTROSCOPIC[l]}{name}" for l in ls for name in named[l]]


def _ordered(kind: str, names: np.ndarray) -> tuple[str, ...]:
    """Names of groups: as they first occur, layers from below."""
    found = list(dict.fromkeys(names.tolist()))
    return tuple(sorted(found, key=lambda name: int(name.split()[1])) if kind == "layer" else found)
