"""The primitive lattice of a layer within a larger cell: of one sheet of a twisted bilayer, or of a crystal in a supercell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from orbitrace.bands.kpath import completed_lattice
from orbitrace.errors import InputError
from orbitrace.physics.structure import Floats, Ints, Structure

SAME = 0.5  # Å: an atom moved by a translation of the layer is this near to another one, also in relaxed layers
NOT_WHOLE = 0.1  # of a lattice vector: farther from whole numbers is no supercell
ASIDE = 1e-6


@dataclass(frozen=True, eq=False)
class Primitive:
    """How the atoms of a layer stand on its primitive lattice.

    Parameters
    ----------
    lattice
        [3, 3] Å; rows are the primitive vectors. Directions in which the layer does not repeat have those of the large cell.
    multiples
        [3, 3] whole numbers M: the large cell is M times the primitive one.
    atoms
        [n] numbers of the layer's atoms in the large cell.
    sites
        [n] place of each of them in the primitive cell.
    cells
        [n, 3] primitive cell, in whole lattice vectors, in which each stands.
    displacement
        Å, the farthest that an atom is from its ideal site.
    """

    lattice: Floats
    multiples: Ints
    atoms: Ints
    sites: Ints
    cells: Ints
    displacement: float

    @property
    def n_cells(self) -> int:
        """Primitive cells in the large one."""
        return round(abs(float(np.linalg.det(self.multiples))))

    def folded(self, k: Floats) -> Floats:
        """The k of the large cell, fractional, onto which a k of the primitive one [..., 3] folds: not reduced to the zone."""
        image: Floats = np.asarray(k) @ self.multiples.T
        return image

    def unfolded(self, k: Floats) -> Floats:
        """[n_cells, 3] the k of the primitive zone that fold onto a k of the large cell."""
        inverse = np.linalg.inv(self.multiples)
        reach = np.abs(self.multiples).sum(axis=1) + 1
        grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
        turns = grid @ inverse.T
        first = np.round(turns - np.floor(turns + ASIDE), 6)
        _, which = np.unique(first, axis=0, return_index=True)
        found: Floats = (np.asarray(k) + grid[np.sort(which)]) @ inverse.T
        return np.asarray(found - np.floor(found + ASIDE))

    def structure(self, large: Structure) -> Structure:
        """One primitive cell with its atoms at the mean of their places."""
        sites = np.unique(self.sites)
        places = large.positions[self.atoms] - self.cells @ self.lattice
        means = np.array([places[self.sites == site].mean(axis=0) for site in sites])
        numbers = np.array([large.numbers[self.atoms[self.sites == site][0]] for site in sites])
        return Structure(means, self.lattice, numbers, large.pbc)


def primitive_of(structure: Structure, atoms: Ints, lattice: Floats | None = None, where: str = "unfold") -> Primitive:
    """The primitive lattice on which some atoms of a cell stand.

    Parameters
    ----------
    atoms
        Numbers of the layer's atoms.
    lattice
        [2 or 3, 3] primitive vectors, Å, if they are known; else the shortest translations that take the layer onto itself.

    Raises
    ------
    InputError
        If the cell is no multiple of the lattice, or the atoms are not the same in each primitive cell.
    """
    large = completed_lattice(structure)
    layer = Structure(structure.positions[atoms], large, structure.numbers[atoms], structure.pbc)
    found = _shortest(layer) if lattice is None else _completed(np.asarray(lattice, dtype=np.float64), layer, where)
    ratio = large @ np.linalg.inv(found)
    multiples = np.round(ratio).astype(np.int64)
    if np.abs(ratio - multiples).max() > NOT_WHOLE or round(abs(np.linalg.det(multiples))) == 0:
        worst = float(np.abs(ratio - multiples).max())
        raise InputError(
            where, f"the cell is no multiple of the primitive lattice (by {worst:.2f} of a vector)", "a supercell"
        )
    exact = np.linalg.inv(multiples) @ large
    sites, cells, apart = _sites(layer, exact)
    primitive = Primitive(exact, multiples, np.asarray(atoms), sites, cells, apart)
    _check(primitive, where)
    return primitive


def _shortest(layer: Structure) -> Floats:
    """[3, 3] the shortest independent translations that take a layer onto itself, of its own cell's at most."""
    rarest = min(layer.elements, key=lambda z: int((layer.numbers == z).sum()))
    same = np.flatnonzero(layer.numbers == rarest)
    around = np.stack(np.meshgrid(*([-1, 0, 1] if p else [0] for p in layer.pbc), indexing="ij"), axis=-1).reshape(-1, 3)
    turns = (layer.positions[same] - layer.positions[same[0]]) @ np.linalg.inv(layer.lattice)
    steps = (turns - np.round(turns))[None] + around[:, None]
    candidates = np.concatenate([steps.reshape(-1, 3) @ layer.lattice, layer.lattice])
    forward = np.round((candidates @ np.linalg.inv(layer.lattice)).sum(axis=1), 4)  # of equal ones, along the cell's own
    candidates = candidates[np.lexsort((-forward, np.round(np.linalg.norm(candidates, axis=1), 3)))]
    trees = _trees(layer)
    chosen: list[Floats] = []
    for step in candidates:
        if np.linalg.norm(step) < 2 * SAME or not _independent([*chosen, step]):
            continue
        found = step if _own(step, layer) else _repeated(layer, trees, step)
        if found is not None:
            chosen.append(found)
        if len(chosen) == 3:
            break
    if np.linalg.det(np.array(chosen)) < 0:
        chosen[:2] = chosen[1::-1]
    return np.array(chosen)


def _own(step: Floats, layer: Structure) -> bool:
    """Whether a translation is one of the cell's own."""
    turns = step @ np.linalg.inv(layer.lattice)
    return bool(np.abs(turns - np.round(turns)).max() < ASIDE)


def _independent(steps: list[Floats]) -> bool:
    """Whether no translation is a combination of the others."""
    units = np.array([step / np.linalg.norm(step) for step in steps])
    return bool(np.linalg.svd(units, compute_uv=False)[-1] > 0.1)


def _trees(layer: Structure) -> dict[int, tuple[cKDTree, Ints]]:
    """For each element, the atoms in the unit torus of the cell."""
    return {z: _torus(layer, layer.positions[layer.numbers == z]) for z in layer.elements}


def _torus(layer: Structure, positions: Floats) -> tuple[cKDTree, Ints]:
    """Atoms with their images beside the cell as Cartesian points, and the number of the atom that each is."""
    inside = positions @ np.linalg.inv(layer.lattice)
    inside -= np.floor(inside)
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    images = (inside[None] + shifts[:, None]).reshape(-1, 3)
    margin = 4 * SAME * np.linalg.norm(np.linalg.inv(layer.lattice), axis=0)
    near = ((images > -margin) & (images < 1 + margin)).all(axis=1)
    return cKDTree(images[near] @ layer.lattice), np.tile(np.arange(len(positions)), len(shifts))[near]


def _repeated(layer: Structure, trees: dict[int, tuple[cKDTree, Ints]], step: Floats) -> Floats | None:
    """A translation as the mean over all atoms, if it takes every atom near to one of its kind.

    Two atoms that vibrate give a vector that is off by a tenth of an Å, and across fifty cells by several.
    """
    rests = []
    for z, (tree, _) in trees.items():
        moved = (layer.positions[layer.numbers == z] + step) @ np.linalg.inv(layer.lattice)
        places = (moved - np.floor(moved)) @ layer.lattice
        distances, nearest = tree.query(places, distance_upper_bound=SAME)
        if not np.isfinite(distances).all():
            return None
        rests.append(tree.data[nearest] - places)
    mean: Floats = step + np.concatenate(rests).mean(axis=0)
    return mean


def _completed(given: Floats, layer: Structure, where: str) -> Floats:
    """Three vectors: those given, and where only two are the cell's own that is most across them."""
    if given.shape not in ((2, 3), (3, 3)):
        raise InputError(where, f"a lattice of shape {given.shape}", "two or three vectors of three numbers, Å")
    if len(given) == 3:
        return given
    across = np.cross(given[0], given[1])
    last = layer.lattice[np.argmax(np.abs(layer.lattice @ across) / np.linalg.norm(layer.lattice, axis=1))]
    return np.vstack([given, last])


def _sites(layer: Structure, lattice: Floats) -> tuple[Ints, Ints, float]:
    """Site and cell of each atom, and the farthest that one is from the mean of its site, Å.

    Sites grow from atom to atom: what is left of a position modulo the lattice is that of a known site if it is the nearest
    one within half the smallest distance of two atoms of a kind.
    """
    inverse = np.linalg.inv(lattice)
    reach = _reach(layer)
    sites = np.full(layer.n_atoms, -1, dtype=np.int64)
    cells = np.zeros((layer.n_atoms, 3), dtype=np.int64)
    known: list[tuple[int, Floats]] = []
    waiting = np.arange(layer.n_atoms)
    while len(waiting):
        number, origin = int(layer.numbers[waiting[0]]), layer.positions[waiting[0]]
        origin = _centred(layer, number, origin, lattice, reach)
        turns = (layer.positions[waiting] - origin) @ inverse
        whole = np.round(turns)
        near = np.linalg.norm((turns - whole) @ lattice, axis=1) < reach
        near &= layer.numbers[waiting] == number
        near[0] = True
        sites[waiting[near]] = len(known)
        cells[waiting[near]] = whole[near].astype(np.int64)
        known.append((number, origin))
        waiting = waiting[~near]
    means = layer.positions - cells @ lattice
    apart = max(
        float(np.linalg.norm(means[sites == s] - means[sites == s].mean(axis=0), axis=1).max()) for s in range(len(known))
    )
    return sites, cells, apart


def _centred(layer: Structure, number: int, origin: Floats, lattice: Floats, reach: float) -> Floats:
    """The mean place of a site, from the atoms that stand nearest to one of them modulo the lattice."""
    offsets = (layer.positions[layer.numbers == number] - origin) @ np.linalg.inv(lattice)
    rest = (offsets - np.round(offsets)) @ lattice
    near = np.linalg.norm(rest, axis=1) < reach
    mean: Floats = origin + rest[near].mean(axis=0)
    return mean


def _reach(layer: Structure) -> float:
    """Half the smallest distance between two atoms of one kind, Å; 1 Å if each is alone."""
    least = 2.0
    for tree, which in _trees(layer).values():
        if tree.n > 1:
            distances, others = tree.query(tree.data, k=2)
            apart = which[others[:, 1]] != which[others[:, 0]]
            least = min(least, float(distances[apart, 1].min(initial=least)))
    return least / 2


def _check(primitive: Primitive, where: str) -> None:
    """Refuse a layer that is not the same in each primitive cell."""
    counts = np.bincount(primitive.sites)
    n = primitive.n_cells
    turns = primitive.cells @ np.linalg.inv(primitive.multiples)
    places = np.round(turns - np.floor(turns + ASIDE), 6)
    taken = len(np.unique(np.column_stack([primitive.sites, places]), axis=0))
    if (counts != n).any() or taken != len(primitive.sites):
        raise InputError(
            where,
            f"sites with {', '.join(map(str, sorted(set(counts.tolist()))))} atoms in {n} primitive cells",
            "one atom of each site in every cell",
            "The layer has vacancies or other atoms, or is distorted: give its lattice, or choose another layer",
        )
