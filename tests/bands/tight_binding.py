"""Model systems with known levels, as calculations: a chain, graphene with overlap, and Slater-Koster s and p orbitals."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Floats, Structure

MODEL = Provenance("model", "1")
GRAPHENE = 2.46  # lattice constant, Å


def neighbours(structure: Structure, cutoff: float) -> np.ndarray:
    """All pairs (Rx, Ry, Rz, i, j) no farther apart than `cutoff`, by trying every R that could matter."""
    reach = 1 + np.ceil((cutoff + np.ptp(structure.positions, axis=0).max()) / np.linalg.norm(structure.lattice, axis=1))
    spans = [range(-int(r), int(r) + 1) if p else (0,) for r, p in zip(reach, structure.pbc, strict=True)]
    shifts = np.array(list(itertools.product(*spans)))
    vectors = (
        structure.positions[None, None] + (shifts @ structure.lattice)[:, None, None] - structure.positions[None, :, None]
    )
    shift, i, j = np.nonzero(np.linalg.norm(vectors, axis=-1) <= cutoff + 1e-9)
    return np.concatenate([shifts[shift], i[:, None], j[:, None]], axis=1).astype(np.int32)


def model(structure: Structure, basis: Basis, pairs: np.ndarray, h: np.ndarray, s: np.ndarray, **rest: object) -> Calculation:
    """A calculation from block values in the order of `pairs`."""
    blocks = [Blocks.over(pairs, structure, basis, np.ascontiguousarray(values).reshape(-1)) for values in (h, s)]
    settings = {"fermi_level": None, "n_electrons": None, "spin": Spin.NONE, "provenance": MODEL} | rest
    return Calculation(structure, basis, *blocks, **settings)  # type: ignore[arg-type]


def s_model(structure: Structure, cutoff: float, hopping: float, overlap: float, **rest: object) -> Calculation:
    """One orbital per atom; every pair within `cutoff` has the same hopping (eV) and overlap; on-site energy 0."""
    basis = Basis({int(z): Shells((0,), cutoff / 2, valence=1.0) for z in structure.elements})
    pairs = neighbours(structure, cutoff)
    onsite = (pairs[:, 3] == pairs[:, 4]) & (pairs[:, :3] == 0).all(axis=1)
    return model(structure, basis, pairs, np.where(onsite, 0.0, hopping), np.where(onsite, 1.0, overlap), **rest)


def chain(hopping: float = -1.0, overlap: float = 0.0) -> Calculation:
    """Atoms 1 Å apart along x: E(k) = 2 t cos(2 pi k) / (1 + 2 s cos(2 pi k))."""
    structure = Structure(np.zeros((1, 3)), np.diag([1.0, 20.0, 20.0]), np.array([1]), (True, False, False))
    return s_model(structure, 1.1, hopping, overlap)


def honeycomb(angle: int = 60) -> Structure:
    """One layer of graphene in a cell with 60 or 120 degrees between its lattice vectors, 20 Å of vacuum."""
    turn = np.radians(angle)
    lattice = np.array([[GRAPHENE, 0, 0], [GRAPHENE * np.cos(turn), GRAPHENE * np.sin(turn), 0], [0, 0, 20.0]])
    second = np.array([0.0, GRAPHENE / np.sqrt(3), 0.0])
    return Structure(np.array([np.zeros(3), second]), lattice, np.array([6, 6]))


def graphene(hopping: float = -2.7, overlap: float = 0.1, angle: int = 60) -> Calculation:
    """The pz bands of graphene: E = -+ t |f(k)| / (1 -+ s |f(k)|) with t = hopping and s = overlap."""
    return s_model(honeycomb(angle), 1.5, hopping, overlap)


def graphene_levels(calculation: Calculation, k: Floats, hopping: float = -2.7, overlap: float = 0.1) -> Floats:
    """The closed form of `graphene` at the fractional k: [2], eV."""
    pairs = calculation.hamiltonian.pairs
    bonds = pairs[(pairs[:, 3] == 0) & (pairs[:, 4] == 1)]
    f = abs(np.exp(2j * np.pi * (bonds[:, :3] @ k)).sum())
    return np.sort([hopping * f / (1 + overlap * f), -hopping * f / (1 - overlap * f)])


def slater_koster(structure: Structure, cutoff: float = 4.0) -> Calculation:
    """Two s shells and one p shell per atom, two-centre H and S that decay smoothly to zero at `cutoff`.

    Everything depends on the vector between two atoms only, so the levels must not change if the structure is turned, or
    described with another cell.
    """
    basis = Basis({z: Shells((0, 0, 1), cutoff / 2, valence=4.0) for z in structure.elements})
    pairs = neighbours(structure, cutoff)
    vectors = structure.pair_vectors(pairs)
    onsite = np.linalg.norm(vectors, axis=1) < 1e-9
    h = _two_centre(vectors, cutoff, strength=-3.0)
    s = _two_centre(vectors, cutoff, strength=0.12)
    h[onsite] = np.diag([-8.0, 6.0, -2.0, -2.0, -2.0])
    h[onsite, 0, 1] = h[onsite, 1, 0] = 0.4
    s[onsite] = np.eye(5)
    return model(structure, basis, pairs, h, s)


def _two_centre(vectors: Floats, cutoff: float, strength: float) -> Floats:
    """Blocks [n, 5, 5] of orbitals s, s', y, z, x for pairs at some distance."""
    r = np.linalg.norm(vectors, axis=1)
    u = vectors[:, [1, 2, 0]] / np.where(r < 1e-9, 1.0, r)[:, None]
    decay = strength * np.exp(-r / 1.2) * (1 - np.clip(r / cutoff, 0, 1) ** 2) ** 3 * np.e
    result = np.zeros((len(r), 5, 5))
    result[:, :2, :2] = decay[:, None, None] * np.array([[1.0, 0.7], [0.7, 1.1]])
    towards = decay[:, None, None] * np.array([0.8, 0.5])[:, None] * u[:, None, :]
    result[:, :2, 2:] = towards
    result[:, 2:, :2] = -towards.transpose(0, 2, 1)
    along = u[:, :, None] * u[:, None, :]
    result[:, 2:, 2:] = decay[:, None, None] * (-0.9 * along + 0.4 * (np.eye(3) - along))
    return result


def polarised(c: Calculation, split: float) -> Calculation:
    """Both spins of a calculation in one collinear one, the spin down `split` eV higher."""
    n = int(c.hamiltonian.shapes[0, 0])
    blocks = np.zeros((c.hamiltonian.n_pairs, 2 * n, 2 * n))
    blocks[:, :n, :n] = c.hamiltonian.values.reshape(-1, n, n)
    blocks[:, n:, n:] = (c.hamiltonian.values + split * c.overlap.values).reshape(-1, n, n)
    h = Blocks.over(c.hamiltonian.pairs, c.structure, c.basis, blocks.reshape(-1), spin=2)
    return replace(c, hamiltonian=h, spin=Spin.COLLINEAR)
