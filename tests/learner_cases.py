"""What tests of the learner share: small structures of several elements and shells, and networks in which nothing is zero."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from orbitrace import models, plugins
from orbitrace.graphs.assembly import Assembly
from orbitrace.graphs.batches import Sample, collate
from orbitrace.graphs.labels import Labeller, fit_labeller
from orbitrace.graphs.spin import SpinKind, to_dense
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.harmonics import wigner
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.training.checkpoint import default_dtype as numbers_of

M = TypeVar("M", bound=nn.Module)

# Hydrogen s1, boron s2p2d1, carbon s2p1: blocks that are not square, L up to 4, natural and unnatural; three cutoffs.
BASIS = Basis({1: Shells((0,), 1.4, 1.0), 5: Shells((0, 0, 1, 1, 2), 2.2, 3.0), 6: Shells((0, 0, 1), 1.8, 4.0)})
ELEMENTS = (1, 5, 6)

SMALL = {"irreps": "6x0e+3x1o+2x2e", "blocks": 2, "radial_width": 8, "gaussians": 6, "invariants": 4, "neighbours": 8.0}
VARIANTS = {
    "natural": {},
    "both kinds": {"irreps": "5x0e+2x0o+2x1o+2x1e+2x2e+1x2o+1x3o"},
    "without TraceGrad": {"tracegrad": "none"},
    "trace": {"tracegrad": "trace"},
    "gate": {"tracegrad": "gate"},
    "gate under traces": {"tracegrad": "tracegate"},
    "one update": {"blocks": 1, "tracegrad": "grad"},
}


def orthogonal(seed: int, determinant: int = 1) -> np.ndarray:
    """A random rotation, or a rotation times the inversion: [3, 3]."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.linalg.det(q).round() * determinant


def structure(
    seed: int = 0,
    n_atoms: int = 6,
    pbc: tuple[bool, bool, bool] = (True, True, False),
    elements: Sequence[int] = ELEMENTS,
    shortest: float = 1.0,
) -> Structure:
    """Atoms at random places, some outside the cell, none closer than `shortest`; every element occurs if there is room."""
    rng = np.random.default_rng(seed)
    lattice = np.diag([4.6, 4.9, 6.0]) + rng.uniform(-0.4, 0.4, (3, 3))
    numbers = rng.permutation(np.resize(elements, n_atoms))
    images = np.array([(a, b, c) for a in range(-1, 2) for b in range(-1, 2) for c in range(-1, 2)]) @ lattice
    placed: list[np.ndarray] = []
    while len(placed) < n_atoms:
        position = rng.uniform(0, 1, 3) @ lattice
        if all(np.linalg.norm(position + images - other, axis=1).min() > shortest for other in placed):
            placed.append(position)
    shifts = rng.integers(-1, 2, (n_atoms, 3)) * np.array(pbc)
    return Structure(np.array(placed) + shifts @ lattice, lattice, numbers, pbc)


STRUCTURES = {
    "sheet": structure(1, 6),
    "crystal": structure(2, 5, (True, True, True)),
    "molecule": structure(3, 8, (False, False, False)),
}


def random_blocks(pairs: np.ndarray, of: Structure, basis: Basis, seed: int) -> Blocks:
    """Hermitian blocks of normal random numbers."""
    counts = basis.n_orbitals(of.numbers)
    size = int((counts[pairs[:, 3]] * counts[pairs[:, 4]]).sum())
    return Blocks.over(pairs, of, basis, np.random.default_rng(seed).normal(size=size)).hermitian()


def overlap(of: Structure, basis: Basis = BASIS) -> Blocks:
    """Blocks over all pairs within the cutoffs; only the pairs mean anything."""
    return random_blocks(find_pairs(of, basis), of, basis, 0)


def calculation(
    of: Structure, seed: int = 0, basis: Basis = BASIS, spin: Spin = Spin.NONE, source: str = "synthetic"
) -> Calculation:
    """A Hamiltonian of random numbers, eV."""
    own, pairs = basis.restricted(of.elements), find_pairs(of, basis)
    hamiltonian = random_blocks(pairs, of, own, seed + 1)
    if spin is not Spin.NONE:
        doubled = [np.kron(np.eye(2), hamiltonian.block(k)).reshape(-1) for k in range(hamiltonian.n_pairs)]
        hamiltonian = Blocks(hamiltonian.pairs, hamiltonian.shapes * 2, np.concatenate(doubled))
    provenance = Provenance("synthetic", "1", source)
    return Calculation(of, own, hamiltonian, overlap(of, own), -1.0, 4.0, spin, provenance)


def spin_blocks(pairs: np.ndarray, of: Structure, basis: Basis, kind: SpinKind, seed: int) -> Blocks:
    """Hermitian blocks of normal random numbers that have the symmetry of a kind of spin."""
    rng, counts = np.random.default_rng(seed), basis.n_orbitals(of.numbers)
    values = []
    for i, j in pairs[:, 3:]:
        n_i, n_j = int(counts[i]), int(counts[j])
        values.append(to_dense(rng.normal(size=(1, n_i * n_j * kind.matrices)), n_i, n_j, kind).reshape(-1))
    return Blocks.over(pairs, of, basis, np.concatenate(values), kind.spin.components).hermitian()


def spin_calculation(of: Structure, kind: SpinKind, seed: int = 0, basis: Basis = BASIS, source: str = "") -> Calculation:
    """A Hamiltonian of random numbers with spin, eV."""
    own, pairs = basis.restricted(of.elements), find_pairs(of, basis)
    hamiltonian = spin_blocks(pairs, of, own, kind, seed + 1)
    made = Provenance("synthetic", "1", source)
    return Calculation(of, own, hamiltonian, overlap(of, own), -1.0, 4.0, kind.spin, made)


def spin_turn(q: np.ndarray, kind: SpinKind) -> np.ndarray:
    """How an orthogonal matrix turns spins 1/2, which no inversion changes; collinear spins are turned by nothing."""
    if kind in (SpinKind.NONE, SpinKind.COLLINEAR):
        return np.eye(kind.spin.components)
    x, y, z = Rotation.from_matrix(q * np.linalg.det(q).round()).as_rotvec()
    angle = np.sqrt(x**2 + y**2 + z**2)
    half = np.array([[z, x - 1j * y], [x + 1j * y, -z]]) / max(angle, 1e-300)
    return np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * half


def turned(blocks: Blocks, of: Structure, q: np.ndarray, basis: Basis = BASIS, spin: SpinKind = SpinKind.NONE) -> Blocks:
    """D H D^dagger of every block, with D made of the Wigner matrices of `q` for the shells of each atom (and its spins)."""
    of_spin, ds = spin_turn(q, spin), wigner(q, 4)
    whole = {}
    for z in of.elements:
        whole[z] = np.zeros((basis[z].n_orbitals, basis[z].n_orbitals))
        for l, place in zip(basis[z].ls, basis[z].slices, strict=True):
            whole[z][place, place] = ds[l]
        whole[z] = np.kron(of_spin, whole[z])
    values = [
        (whole[int(of.numbers[i])] @ blocks.block(k) @ whole[int(of.numbers[j])].conj().T).reshape(-1)
        for k, (i, j) in enumerate(blocks.pairs[:, 3:])
    ]
    return blocks.with_values(np.concatenate(values))


def turned_calculation(c: Calculation, q: np.ndarray) -> Calculation:
    """The same calculation of the structure turned as a whole."""
    parts = (turned(b, c.structure, q, c.basis) for b in (c.hamiltonian, c.overlap))
    return Calculation(c.structure.rotated(q), c.basis, *parts, c.fermi_level, c.n_electrons, c.spin, c.provenance)


def training_set() -> list[Calculation]:
    """Calculations in which every pair of elements occurs at many distances."""
    return [calculation(structure(seed, 8, (True, True, seed % 2 == 0)), seed) for seed in range(11, 17)]


@cache
def labeller(l_max: int = 4) -> Labeller:
    """Reference and scales of the training set."""
    return fit_labeller(lambda: iter(training_set()), l_max, "tests")


@cache
def spin_labeller(kind: SpinKind, l_max: int = 5) -> Labeller:
    """Reference and scales of the training set with spin; irreps of spinor blocks reach l = 5."""
    several = [spin_calculation(c.structure, kind, seed) for seed, c in enumerate(training_set())]
    return fit_labeller(lambda: iter(several), l_max, "tests")


def stirred(module: M, seed: int = 0, size: float = 0.3) -> M:
    """The module with random numbers added to every parameter, so that no bias is zero and no weight of a norm is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


def small_settings(model: str, **changes: object) -> dict[str, object]:
    """Settings of a small network, as far as the model knows them."""
    known = plugins.load("models", model).Settings.model_fields
    return {key: value for key, value in {**SMALL, **changes}.items() if key in known}


def network(
    model: str = "deeph_e3_local", seed: int = 0, basis: Basis = BASIS, spin: SpinKind = SpinKind.NONE, **changes: object
) -> nn.Module:
    """A small network in float64 with random weights."""
    with numbers_of(torch.float64), torch.random.fork_rng():
        torch.manual_seed(seed)
        return stirred(models.build(model, small_settings(model, **changes), basis, spin), seed).eval()


def sample(of: Structure, over: Blocks | None = None, l_max: int = 4) -> Sample:
    """A structure without labels, ready for a batch."""
    return labeller(l_max).sample(of, overlap(of) if over is None else over)


def predicted(
    net: nn.Module, samples: Sequence[Sample], overs: Sequence[Blocks], dtype: torch.dtype = torch.float64
) -> list[Blocks]:
    """The network's part of H of every structure of one batch, put together block by block in the batch's order."""
    spin = samples[0].spin
    with torch.no_grad(), numbers_of(torch.float64):
        batch = collate(samples, dtype)
        network = net if dtype is torch.float64 else deepcopy(net).to(dtype)
        values = Assembly(BASIS, spin).to(dtype)(batch, network(batch).irreps).double().numpy()
    results: list[list[np.ndarray]] = [[np.empty(0)] * over.n_pairs for over in overs]
    at = 0
    for kind in sorted({g.kind for s in samples for g in s.graph.groups}, key=lambda k: (len(k), k)):
        for s, over, result in zip(samples, overs, results, strict=True):
            for group in (g for g in s.graph.groups if g.kind == kind):
                for k in group.blocks:
                    n_i, n_j = (int(n) for n in over.shapes[k])
                    size = n_i * n_j * spin.matrices
                    result[k] = to_dense(values[None, at : at + size], n_i, n_j, spin).reshape(-1)
                    at += size
    assert at == len(values)
    n = spin.spin.components
    return [Blocks(over.pairs, over.shapes * n, np.concatenate(result)) for over, result in zip(overs, results, strict=True)]


def hamiltonian(net: nn.Module, of: Structure, over: Blocks | None = None, dtype: torch.dtype = torch.float64) -> Blocks:
    """The Hamiltonian of one structure."""
    over = overlap(of) if over is None else over
    learned = predicted(net, [sample(of, over)], [over], dtype)[0]
    return learned.with_values(labeller().known(of, over).values + learned.values)


def assert_close(left: Blocks, right: Blocks, tolerance: float = 1e-10) -> None:
    """Two sets of blocks over the same pairs are equal, relative to their largest element."""
    np.testing.assert_array_equal(left.pairs, right.pairs)
    size = max(1.0, float(np.abs(right.values).max()))
    assert np.isfinite(left.values).all()
    np.testing.assert_allclose(left.values, right.values, rtol=0, atol=tolerance * size)
