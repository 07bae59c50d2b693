"""What the tests of the readers share: an independent eigensolver, and raw files that can be taken apart."""

import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin

Sections = list[tuple[str, int, str, int]]  # name, offset, dtype, count


def bloch_sum(blocks: Blocks, counts: np.ndarray, k: np.ndarray) -> np.ndarray:
    begins = np.cumsum(counts) - counts
    matrix = np.zeros((counts.sum(), counts.sum()), dtype=complex)
    phases = np.exp(2j * np.pi * (blocks.pairs[:, :3] @ k))
    for pair, (i, j) in enumerate(blocks.pairs[:, 3:]):
        matrix[begins[i] : begins[i] + counts[i], begins[j] : begins[j] + counts[j]] += phases[pair] * blocks.block(pair)
    return matrix


def dense_levels(calculation: Calculation, k: np.ndarray) -> np.ndarray:
    """Eigenvalues at one k point, [n_spin, n_bands] eV, by textbook: dense matrices, one atom pair after the other."""
    counts = calculation.basis.n_orbitals(calculation.structure.numbers)
    spins = calculation.spin.components
    h = bloch_sum(calculation.hamiltonian, counts * spins, k)
    s = bloch_sum(calculation.overlap, counts, k)
    if calculation.spin is Spin.NONE:
        return scipy.linalg.eigh(h, s, eigvals_only=True)[None]
    begins = 2 * (np.cumsum(counts) - counts)
    up, down = (
        np.concatenate([np.arange(b + t * n, b + (t + 1) * n) for b, n in zip(begins, counts, strict=True)]) for t in (0, 1)
    )
    if calculation.spin is Spin.COLLINEAR:
        assert not h[np.ix_(up, down)].any()
        return np.array([scipy.linalg.eigh(h[np.ix_(spin, spin)], s, eigvals_only=True) for spin in (up, down)])
    doubled = np.zeros_like(h)
    doubled[np.ix_(up, up)] = doubled[np.ix_(down, down)] = s
    return scipy.linalg.eigh(h, doubled, eigvals_only=True)[None]


def walk(data: bytes) -> Sections:
    """Sections of a little-endian .scfout, found by counting on; independent of the reader."""
    sections: Sections = []
    at = 0

    def take(name: str, dtype: str, count: int) -> np.ndarray:
        nonlocal at
        sections.append((name, at, dtype, count))
        values = np.frombuffer(data, dtype, count, at)
        at += values.nbytes
        return values

    n, code, *_, last = take("counts", "<i4", 6)
    layout, spin, cells = code // 4, code % 4, last + 1
    order = take("order", "<i4", 1)[0] if layout else 1
    take("translations", "<f8", 4 * cells)
    take("cells", "<i4", 4 * cells)
    orbitals = take("orbitals", "<i4", n)
    neighbours = take("neighbours", "<i4", n) + 1
    second = take("second", "<i4", neighbours.sum()) - 1
    take("cell of pair", "<i4", neighbours.sum())
    take("lattice", "<f8", 12)
    take("reciprocal", "<f8", 12)
    take("positions", "<f8", 4 * n)
    size = int((np.repeat(orbitals, neighbours) * orbitals[second]).sum())
    take("H", "<f8", size * (spin + 1))
    take("iH", "<f8", size * (3 if spin == 3 else 0))
    take("S", "<f8", size)
    take("moments", "<f8", size * (3 * order + (3 if layout else 0)))
    take("DM", "<f8", size * (spin + 1))
    take("iDM", "<f8", size * (2 if layout else 0))
    take("solver", "<i4", 1)
    take("energies", "<f8", 10)
    lines = take("lines", "<i4", 1)[0]
    take("input", "u1", 256 * lines)
    take("rest", "u1", len(data) - at)
    return sections


@pytest.fixture(scope="session")
def levels() -> Callable[[Calculation, np.ndarray], np.ndarray]:
    return dense_levels


@pytest.fixture(scope="session")
def sections() -> Callable[[bytes], dict[str, tuple[int, str, int]]]:
    return lambda data: {name: (offset, dtype, count) for name, offset, dtype, count in walk(data)}


@pytest.fixture(scope="session")
def scfout(example: Path) -> bytes:
    """The plain .scfout of the AB bilayer: four atoms, OpenMX 3.9.23 with the exchange-correlation potential at its end."""
    return lzma.decompress((example / "references" / "AB" / "openmx.scfout.xz").read_bytes())


@pytest.fixture(scope="session")
def report(example: Path) -> str:
    """The .out of the same run."""
    return (example / "references" / "AB" / "openmx.out").read_text()
