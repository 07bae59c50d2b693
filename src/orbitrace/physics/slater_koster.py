"""Two-centre matrices: blocks that depend on the bond alone, kept as functions of its length.

Between two atoms with nothing else in sight, space is symmetric about the bond. In a frame with z along it, a block is
diagonal in m and the same for m and -m (J. C. Slater and G. F. Koster, Phys. Rev. 94, 1498 (1954)):

    B_ij = D_i(Q) t(r) D_j(Q)^T,     t_{am, bm'}(r) = delta_mm' t_{ab|m|}(r),

a, b the shells of i and j, Q the turn of the z axis into the bond. Overlaps are exactly of this form; of a Hamiltonian it is
the part that does not know the neighbourhood. Turning the bond round gives ``t_ba(r) = (-1)^(l_a + l_b) t_ab(r)``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from orbitrace.errors import InputError
from orbitrace.physics.blocks import Blocks, Pairs
from orbitrace.physics.harmonics import rotations
from orbitrace.physics.orbitals import SYMBOLS, Basis, Shells
from orbitrace.physics.structure import Floats, Structure

DEGREE = 5  # of the splines
# Å. Across a gap this long between data, splines of overlaps err by 1e-8 if the data beside it are dense, and by less than
# 1e-5 if they are a few points (measured on carbon and on three MoS2 cells); twice as long it was 5e-2.
BRIDGE = 0.15
MARGIN = 0.01  # Å; how far beyond its data a spline is trusted, so that digits lost in a file do not matter
_CHUNK = 8192  # pairs at a time, which keeps temporaries in the processor's cache


@dataclass(frozen=True, eq=False)
class BondTable:
    """The functions t_{ab|m|}(r) of one pair of elements.

    Parameters
    ----------
    knots
        [n_coefficients + 6] knots of quintic B-splines from 0 to the cutoff rc_i + rc_j, Å.
    coefficients
        [n_coefficients, n_channels], the channels in the order of `channels`.
    covered
        [n_intervals, 2] distances, Å, between which the data have no gap longer than `BRIDGE`; ascending.
    spread
        [n_bins, n_channels] root mean square of the data about the function, for equal bins from 0 to the cutoff; zero where
        there are no data.
    residual
        Largest deviation of the data from the two-centre form (known to 1e-8); in 'smooth' mode the largest `spread`.
    shortest
        Distance below which the functions are constant, Å; by default that of the shortest of `covered`. They were fitted to
        data from there on, whatever other distances have been declared covered since.
    """

    knots: Floats
    coefficients: Floats
    covered: Floats
    spread: Floats
    residual: float
    shortest: float = -1.0

    @property
    def fitted_from(self) -> float:
        """Distance below which the functions are constant, Å."""
        return float(self.covered[0, 0]) - MARGIN if self.shortest < 0 else self.shortest

    @property
    def cutoff(self) -> float:
        """Distance beyond which the functions are zero, Å."""
        return float(self.knots[-1])

    def at(self, distances: Floats) -> Floats:
        """The functions at some distances: [n, n_channels]; constant below the shortest distance of the data."""
        known = np.clip(distances, self.fitted_from, self.cutoff)
        values: Floats = BSpline(self.knots, self.coefficients, DEGREE)(known)
        values[distances > self.cutoff + 1e-6] = 0.0
        return values

    def spread_at(self, distances: Floats) -> Floats:
        """Root mean square of the data about the functions near some distances: [n, n_channels]."""
        bins = (distances / self.cutoff * len(self.spread)).astype(np.int64)
        return self.spread[np.minimum(bins, len(self.spread) - 1)]

    def uncovered(self, distances: Floats) -> NDArray[np.bool_]:
        """[n] True where no data were near enough."""
        inside = np.zeros(len(distances), dtype=np.bool_)
        for low, high in self.covered:
            inside |= (distances >= low - MARGIN) & (distances <= high + MARGIN)
        return ~inside & (distances <= self.cutoff)


@dataclass(frozen=True, eq=False)
class TwoCentreTable:
    """A two-centre matrix for any structure of some elements.

    Parameters
    ----------
    basis
        The shells of the elements.
    bonds
        (Zi, Zj) with Zi <= Zj -> the functions of the distance. A pair that the data never had within reach is missing.
    onsite
        Z -> [n_orbitals, n_orbitals] block of an atom with itself, its mean over all directions: a multiple of the unit
        matrix between shells of the same l, zero between others.
    quantity
        Which matrix it is, where that is not clear from the place: "overlap", or "kinetic" (eV).
    """

    basis: Basis
    bonds: Mapping[tuple[int, int], BondTable]
    onsite: Mapping[int, Floats]
    quantity: str = "overlap"

    def blocks(self, structure: Structure, basis: Basis, pairs: Pairs) -> Blocks:
        """The matrix of a structure, exactly Hermitian.

        Parameters
        ----------
        structure, basis
            The atoms; `basis` must be the one of the data for their elements.
        pairs
            [n_pairs, 5] the blocks to compute, in any order, e.g. from `find_pairs`. Those beyond the cutoff are zero.

        Raises
        ------
        InputError
            If an element, its basis, or a pair of elements was not in the data. Distances are not checked here: see
            `check_coverage`.
        """
        self._check_basis(basis, structure)
        sizes = basis.n_orbitals(structure.numbers)
        result = Blocks.over(pairs, structure, basis, np.zeros(int((sizes[pairs[:, 3]] * sizes[pairs[:, 4]]).sum())))
        values = result.values
        for z in structure.elements:
            own = np.flatnonzero(result.onsite & (structure.numbers[result.pairs[:, 3]] == z))
            result.with_group(values, own, np.broadcast_to(self.onsite[z], (len(own), *self.onsite[z].shape)))
        vectors = structure.pair_vectors(result.pairs)
        for zs, members, turned in by_elements(structure, result):
            table, shells = self._bond(zs), (self.basis[zs[0]], self.basis[zs[1]])
            for start in range(0, len(members), _CHUNK):
                some = members[start : start + _CHUNK]
                bonds = -vectors[some] if turned else vectors[some]
                blocks = from_channels(table.at(np.linalg.norm(bonds, axis=1)), bonds, *shells)
                back = blocks.transpose(0, 2, 1)
                result.with_group(values, some, back if turned else blocks)
                partners = result.reverse[some]
                known = partners >= 0
                result.with_group(values, partners[known], (blocks if turned else back)[known])
        return result

    def check_coverage(self, structure: Structure, pairs: Pairs, where: str = "structure") -> None:
        """Refuse distances that the data never covered.

        Raises
        ------
        InputError
            With the numbers, if an element or a pair of elements was never seen, or a distance is shorter than any in the
            data, or lies in a gap of them that is too long for the splines.
        """
        self._check_basis(self.basis, structure, where)
        shown = Blocks(pairs, np.zeros((len(pairs), 2), dtype=np.int64), np.zeros(0))
        lengths = shown.lengths(structure)
        complaints: dict[tuple[int, int], list[Floats]] = {}
        for zs, members, _ in by_elements(structure, shown):
            bad = lengths[members][self._bond(zs, where).uncovered(lengths[members])]
            if len(bad):
                complaints.setdefault(zs, []).append(bad)
        if complaints:
            found = "; ".join(self._complaint(zs, np.concatenate(bad)) for zs, bad in complaints.items())
            remedy = "Relax the structure, or add calculations with such distances to the training data"
            raise InputError(where, found, "distances that occur in the training data", remedy)

    def _complaint(self, zs: tuple[int, int], lengths: Floats) -> str:
        covered = " and ".join(f"{low:.3f}-{high:.3f}" for low, high in self.bonds[zs].covered)
        count = f"{len(lengths)} pair{'s' if len(lengths) > 1 else ''} {_name(zs)}"
        span = f"at {lengths.min():.3f}" + (f" to {lengths.max():.3f}" if len(lengths) > 1 else "")
        return f"{count} {span} Å, but the training data cover {covered} Å"

    def _bond(self, zs: tuple[int, int], where: str = "structure") -> BondTable:
        if zs not in self.bonds:
            known = ", ".join(_name(pair) for pair in self.bonds)
            raise InputError(where, f"{_name(zs)} are neighbours, which the training data never had", f"pairs among {known}")
        return self.bonds[zs]

    def _check_basis(self, basis: Basis, structure: Structure, where: str = "structure") -> None:
        unknown = [SYMBOLS[z] for z in structure.elements if z not in self.onsite]
        if unknown:
            known = ", ".join(SYMBOLS[z] for z in self.onsite)
            raise InputError(where, f"{', '.join(unknown)} never occurs in the training data", f"elements among {known}")
        self.basis.merged(basis.restricted(structure.elements), where, "the training data")

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The table as plain arrays, for any container (npz, zarr, a checkpoint)."""
        arrays: dict[str, NDArray[np.generic]] = {
            "basis": np.frombuffer(json.dumps(self.basis.to_json()).encode(), dtype=np.uint8).copy()
        }
        if self.quantity != "overlap":  # so that tables of overlaps, and all before, are kept as ever
            arrays["quantity"] = np.frombuffer(self.quantity.encode(), dtype=np.uint8).copy()
        for z, block in self.onsite.items():
            arrays[f"onsite_{z}"] = block
        for (zi, zj), table in self.bonds.items():
            for name in BondTable.__dataclass_fields__:
                arrays[f"bond_{zi}_{zj}_{name}"] = np.asarray(getattr(table, name))
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> TwoCentreTable:
        """The inverse of `to_arrays`. Raises KeyError or ValueError if the arrays are something else."""
        basis = Basis.from_json(json.loads(np.asarray(arrays["basis"], dtype=np.uint8).tobytes()))
        onsite = {z: np.asarray(arrays[f"onsite_{z}"], dtype=np.float64) for z in basis.elements if f"onsite_{z}" in arrays}
        bonds = {}
        for zi in basis.elements:
            for zj in basis.elements:
                if f"bond_{zi}_{zj}_knots" in arrays:
                    parts = {
                        name: np.asarray(arrays[f"bond_{zi}_{zj}_{name}"], dtype=np.float64)
                        for name in BondTable.__dataclass_fields__
                        if f"bond_{zi}_{zj}_{name}" in arrays  # `shortest` came later
                    }
                    residual, shortest = float(parts.pop("residual")), float(parts.pop("shortest", -1.0))
                    bonds[zi, zj] = BondTable(**parts, residual=residual, shortest=shortest)
        quantity = np.asarray(arrays["quantity"], dtype=np.uint8).tobytes().decode() if "quantity" in arrays else "overlap"
        return TwoCentreTable(basis, bonds, onsite, quantity)


def channels(first: Shells, second: Shells) -> list[tuple[int, int, int]]:
    """The functions of a pair of elements, (shell of i, shell of j, |m|), in the order in which they are kept."""
    return [
        (a, b, m)
        for las, lbs in _angular(first, second)
        for a in las[1]
        for b in lbs[1]
        for m in range(min(las[0], lbs[0]) + 1)
    ]


def to_channels(blocks: Floats, vectors: Floats, first: Shells, second: Shells) -> Floats:
    """The two-centre part of some blocks between the same two elements.

    Parameters
    ----------
    blocks
        [n, n_orbitals of i, n_orbitals of j]
    vectors
        [n, 3] from atom i to atom j.
    first, second
        Shells of i and j.

    Returns
    -------
    Floats
        [n, n_channels] in the order of `channels`: the mean over m and -m of the diagonal in the frame of the bond.
    """
    turns = rotations(vectors, max(*first.ls, *second.ls))
    parts = []
    for (la, shells_a), (lb, shells_b) in _angular(first, second):
        sub = blocks[:, _span(first, shells_a), _span(second, shells_b)]
        sub = sub.reshape(len(sub), len(shells_a), 2 * la + 1, len(shells_b), 2 * lb + 1)
        parts.append(np.einsum("nxym,naxby->nabm", _bond_tensor(turns[la], turns[lb]), sub, optimize=True))
        parts[-1][..., 1:] /= 2  # m and -m both count there
    return np.concatenate([part.reshape(len(blocks), -1) for part in parts], axis=1)


def from_channels(values: Floats, vectors: Floats, first: Shells, second: Shells) -> Floats:
    """Blocks from the functions of the distance: [n, n_channels], [n, 3] -> [n, n_orbitals of i, n_orbitals of j]."""
    turns = rotations(vectors, max(*first.ls, *second.ls))
    blocks = np.empty((len(vectors), first.n_orbitals, second.n_orbitals))
    start = 0
    for (la, shells_a), (lb, shells_b) in _angular(first, second):
        shape = (len(shells_a), len(shells_b), min(la, lb) + 1)
        part = values[:, start : start + int(np.prod(shape))].reshape(-1, *shape)
        start += int(np.prod(shape))
        sub = np.einsum("nxym,nabm->naxby", _bond_tensor(turns[la], turns[lb]), part)
        rows, columns = _span(first, shells_a), _span(second, shells_b)
        blocks[:, rows, columns] = sub.reshape(len(sub), rows.stop - rows.start, columns.stop - columns.start)
    return blocks


def _bond_tensor(first: Floats, second: Floats) -> Floats:
    """Sum of D_i[:, m] D_j[:, m] over +-m, for each |m|: [n, 2la+1, 2lb+1, min(la, lb) + 1]."""
    la, lb = first.shape[1] // 2, second.shape[1] // 2
    most = min(la, lb)
    products = first[:, :, None, la - most : la + most + 1] * second[:, None, :, lb - most : lb + most + 1]
    tensor = products[..., most:].copy()
    tensor[..., 1:] += products[..., :most][..., ::-1]
    return tensor


def _angular(first: Shells, second: Shells) -> Iterator[tuple[tuple[int, list[int]], tuple[int, list[int]]]]:
    """All pairs of l of two elements, each with the shells that have it: ((la, shells), (lb, shells))."""
    for la in sorted(set(first.ls)):
        for lb in sorted(set(second.ls)):
            yield (la, _with_l(first, la)), (lb, _with_l(second, lb))


def _with_l(shells: Shells, l: int) -> list[int]:
    return [shell for shell, other in enumerate(shells.ls) if other == l]


def _span(shells: Shells, some: list[int]) -> slice:
    """Orbitals of shells that stand one after the other."""
    return slice(shells.slices[some[0]].start, shells.slices[some[-1]].stop)


def by_elements(structure: Structure, blocks: Blocks) -> Iterator[tuple[tuple[int, int], NDArray[np.int64], bool]]:
    """Pairs of two atoms by their elements (Zi <= Zj), one of each (i, j, R) and (j, i, -R).

    Yields (elements, numbers of the pairs, whether they run from Zj to Zi).
    """
    numbers = np.arange(blocks.n_pairs)
    lead = ~blocks.onsite & ((blocks.reverse < 0) | (numbers < blocks.reverse))
    zi, zj = structure.numbers[blocks.pairs[:, 3]], structure.numbers[blocks.pairs[:, 4]]
    for z1, z2 in sorted({(min(a, b), max(a, b)) for a, b in np.unique(np.stack([zi, zj], axis=1)[lead], axis=0).tolist()}):
        for turned in (False, True)[: 1 if z1 == z2 else 2]:
            first, second = (z2, z1) if turned else (z1, z2)
            members = np.flatnonzero(lead & (zi == first) & (zj == second))
            if len(members):
                yield (z1, z2), members, turned


def _name(zs: tuple[int, int]) -> str:
    return f"{SYMBOLS[zs[0]]}-{SYMBOLS[zs[1]]}"
