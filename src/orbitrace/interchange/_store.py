"""The HDF5 files of a DeepH 2026 folder: flat arrays of blocks."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from orbitrace.errors import InputError
from orbitrace.interchange._header import REMEDY, Header
from orbitrace.physics.blocks import Blocks, Pairs
from orbitrace.physics.calculation import Spin
from orbitrace.physics.structure import Ints, Structure

OVERLAP, HAMILTONIAN, INITIAL = "overlap.h5", "hamiltonian.h5", "initial_hamiltonian.h5"
_LEAST = 0.01  # Å; radius of an element whose atoms have no neighbours at all, of which the pairs say nothing


def write_blocks(file: Path, blocks: Blocks, spinful: bool = False) -> None:
    """Write blocks as four flat datasets; spinful ones are complex, as other tools expect."""
    with h5py.File(file, "w") as store:
        store["atom_pairs"] = blocks.pairs.astype(np.int64)
        store["chunk_shapes"] = blocks.shapes
        store["chunk_boundaries"] = blocks.offsets
        store["entries"] = blocks.values.astype(np.complex128, copy=False) if spinful else blocks.values


def read_overlap(header: Header) -> Blocks:
    """The overlap, real and never spin-doubled; other tools may keep the same block twice, for up and down.

    Raises
    ------
    InputError
        If the file is missing or damaged, or its shapes are not those of the basis.
    """
    file = header.folder / OVERLAP
    blocks = _read(file)
    _check_atoms(file, blocks, header)
    if header.spin is not Spin.NONE and blocks.n_pairs and np.array_equal(blocks.shapes, 2 * _shapes(blocks.pairs, header)):
        ups = [blocks.block(pair)[:rows, :columns] for pair, (rows, columns) in enumerate(blocks.shapes // 2)]
        blocks = Blocks(blocks.pairs, blocks.shapes // 2, np.concatenate([up.reshape(-1) for up in ups]))
    _check_shapes(file, blocks, header, 1)
    return _real(file, blocks)


def read_hamiltonian(header: Header, name: str = HAMILTONIAN) -> Blocks:
    """The Hamiltonian, or another of its kind, eV: complex if the spin is non-collinear, else real.

    Raises
    ------
    InputError
        As `read_overlap`.
    """
    file = header.folder / name
    blocks = _read(file)
    _check_atoms(file, blocks, header)
    _check_shapes(file, blocks, header, header.spin.components)
    if header.spin is Spin.NONCOLLINEAR:
        return blocks.with_values(blocks.values.astype(np.complex128))
    return _real(file, blocks)


def read_initial(header: Header) -> Blocks | None:
    """The reference Hamiltonian H0, eV, where there is one. Raises InputError as `read_overlap`."""
    return read_hamiltonian(header, INITIAL) if (header.folder / INITIAL).is_file() else None


def over_same_pairs(header: Header, overlap: Blocks, *hamiltonians: Blocks) -> tuple[Blocks, ...]:
    """All matrices over the pairs of any; what is added is zero."""
    matrices = (overlap, *hamiltonians)
    if all(np.array_equal(h.pairs, overlap.pairs) for h in hamiltonians):
        return matrices
    pairs, places = np.unique(np.concatenate([x.pairs for x in matrices]), axis=0, return_inverse=True)
    parts = np.split(places.reshape(-1), np.cumsum([x.n_pairs for x in matrices])[:-1])
    shapes, spin = _shapes(pairs, header), header.spin.components
    return tuple(
        _spread(x, pairs, shapes * (1 if x is overlap else spin), part) for x, part in zip(matrices, parts, strict=True)
    )


def smallest_radii(structure: Structure, pairs: Pairs) -> dict[int, float]:
    """Of each element the smallest radius of orbitals, Å, that explains these pairs, for files that do not tell it.

    Each element's radius is half of its longest pair with itself; where that does not explain the longest pair of two
    elements, both radii grow by the same length.
    """
    lengths = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    first, second = structure.numbers[pairs[:, 3]], structure.numbers[pairs[:, 4]]

    def longest(a: int, b: int) -> float:
        return float(lengths[(first == a) & (second == b)].max(initial=0.0))

    radii = {z: longest(z, z) / 2 for z in structure.elements}
    for a in structure.elements:
        for b in structure.elements:
            lacking = longest(a, b) - radii[a] - radii[b]
            if lacking > 0:
                radii[a] += lacking / 2
                radii[b] += lacking / 2
    return {z: max(radius, _LEAST) for z, radius in radii.items()}


def _read(file: Path) -> Blocks:
    """The four datasets as blocks, whatever they mean."""
    if not file.is_file():
        raise InputError(file.parent, f"no {file.name} in it", "a DeepH 2026 folder", REMEDY)
    try:
        with h5py.File(file, "r") as store:
            pairs, shapes, bounds, values = (
                store[name][:] for name in ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries")
            )
        if pairs.shape[1:] != (5,) or shapes.shape != (len(pairs), 2) or (shapes < 0).any() or values.ndim != 1:
            raise ValueError("datasets of wrong shapes")
        if not np.array_equal(bounds, np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])) or bounds[-1] != len(values):
            raise ValueError("shapes and boundaries that contradict each other")
        if not np.isfinite(values).all():
            raise ValueError("values that are not finite numbers")
        number = np.complex128 if np.iscomplexobj(values) else np.float64
        return Blocks.sorted(pairs, shapes, values.astype(number, copy=False))
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(file, f"damaged, or not blocks of the DeepH 2026 format ({error})", remedy=REMEDY) from error


def _check_atoms(file: Path, blocks: Blocks, header: Header) -> None:
    n = header.structure.n_atoms
    if ((blocks.pairs[:, 3:] < 0) | (blocks.pairs[:, 3:] >= n)).any():
        raise InputError(file, "a pair names an atom that does not exist", f"atoms 0 to {n - 1}, as in POSCAR", REMEDY)
    if (blocks.pairs[1:] == blocks.pairs[:-1]).all(axis=1).any():
        raise InputError(file, "a pair occurs twice", "each pair once", REMEDY)


def _check_shapes(file: Path, blocks: Blocks, header: Header, spin: int) -> None:
    expected = spin * _shapes(blocks.pairs, header)
    wrong = np.flatnonzero((blocks.shapes != expected).any(axis=1))
    if len(wrong):
        found = f"{len(wrong)} blocks have other shapes than the basis says, among them {blocks.shapes[wrong[0]].tolist()}"
        raise InputError(file, found, f"{expected[wrong[0]].tolist()} there", REMEDY)


def _shapes(pairs: Pairs, header: Header) -> Ints:
    shapes: Ints = header.counts[pairs[:, 3:]]
    return shapes


def _real(file: Path, blocks: Blocks) -> Blocks:
    if not np.iscomplexobj(blocks.values):
        return blocks
    if np.any(blocks.values.imag):
        raise InputError(file, "complex values", "real ones, because there is no non-collinear spin", REMEDY)
    return blocks.with_values(np.ascontiguousarray(blocks.values.real))


def _spread(blocks: Blocks, pairs: Pairs, shapes: Ints, places: Ints) -> Blocks:
    """The same blocks among more pairs, zero elsewhere; block k goes to the pair ``places[k]``."""
    ends = np.cumsum(shapes.prod(axis=1))
    values = np.zeros(ends[-1], dtype=blocks.values.dtype)
    for pair, end in enumerate(ends[places]):
        block = blocks.block(pair).reshape(-1)
        values[end - len(block) : end] = block
    return Blocks.sorted(pairs, shapes, values)
