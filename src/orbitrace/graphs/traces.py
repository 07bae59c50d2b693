"""Trace labels: the invariants tr(Q Q^dagger) of the basic blocks Q of a Hamiltonian.

A basic block is the sub-block of one pair of atoms that belongs to a shell of the first and a shell of the second. A rotation
turns it into D_p Q D_q^dagger with orthogonal D, so that tr(Q Q^dagger), its squared Frobenius norm, stays (TraceGrad,
theorem 4.1).

With spin a rotation also mixes up and down, and the norms of the four sub-blocks uu, ud, du, dd are then *not* invariant one
by one. In Q = sum_mu sigma_mu (x) Q_mu / sqrt(2) it leaves Q_0 a spin scalar and turns (Q_x, Q_y, Q_z) as a spin vector.
Each basic block therefore has two labels, tr(Q_0 Q_0^dagger) and the sum of tr(Q_a Q_a^dagger) over a = x, y, z; together
they are the trace of the whole basic block. In this they differ from the four labels per shell pair that TraceGrad counts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from orbitrace.physics.blocks import Blocks, Values
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Floats, Structure

# Labels per basic block, by the number of spin components of the blocks
CHANNELS = {1: 1, 2: 2}


def shell_counts(numbers: Iterable[int], basis: Basis) -> NDArray[np.int64]:
    """Shells of each atom: [n_atoms]."""
    return np.array([len(basis[z].ls) for z in numbers], dtype=np.int64)


def trace_offsets(blocks: Blocks, structure: Structure, basis: Basis, spin_components: int = 1) -> NDArray[np.int64]:
    """[n_pairs + 1] where the labels of each pair start in the array of `trace_labels`."""
    counts = shell_counts(structure.numbers, basis)
    sizes = counts[blocks.pairs[:, 3]] * counts[blocks.pairs[:, 4]] * CHANNELS[spin_components]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def trace_labels(blocks: Blocks, structure: Structure, basis: Basis, spin_components: int = 1) -> Floats:
    """Invariants tr(Q Q^dagger) of every basic block Q of every pair.

    Parameters
    ----------
    blocks
        The Hamiltonian, eV; spin-doubled ``[[uu, ud], [du, dd]]`` if `spin_components` is 2.
    structure, basis
        The atoms and their shells.
    spin_components
        1 or 2.

    Returns
    -------
    [sum over pairs of n_shells_i * n_shells_j * channels] eV²: pair after pair as in `blocks`, of each pair in row-major order
    [shell of i, shell of j, channel]; one channel without spin, two with it (spin scalar, spin vector).
    """
    offsets = trace_offsets(blocks, structure, basis, spin_components)
    labels = np.zeros(int(offsets[-1]))
    elements = structure.numbers[blocks.pairs[:, 3:]]
    for members, dense in blocks.groups():
        # Blocks of one shape may belong to several pairs of elements, whose shells differ.
        kinds, which = np.unique(elements[members], axis=0, return_inverse=True)
        for kind, (z_i, z_j) in enumerate(kinds):
            picked = np.flatnonzero(which.reshape(-1) == kind)
            traces = _traces(dense[picked], basis[z_i], basis[z_j], spin_components).reshape(len(picked), -1)
            places = offsets[members[picked]][:, None] + np.arange(traces.shape[1])
            labels[places] = traces
    return labels


def _traces(dense: Values, first: Shells, second: Shells, spin_components: int) -> Floats:
    """Labels [g, n_shells_i, n_shells_j, channels] of blocks [g, rows, columns] of one pair of elements."""
    squares = _squares(dense) if spin_components == 1 else _spin_squares(dense)
    if not first.ls or not second.ls:  # an atom without orbitals
        return np.zeros((len(dense), len(first.ls), len(second.ls), CHANNELS[spin_components]))
    by_row = np.add.reduceat(squares, [s.start for s in first.slices], axis=1)
    result: Floats = np.add.reduceat(by_row, [s.start for s in second.slices], axis=2)
    return result


def _squares(dense: Values) -> Floats:
    """|Q|² of each element: [g, n_i, n_j, 1]."""
    result: Floats = _norm2(dense)[..., None]
    return result


def _spin_squares(dense: Values) -> Floats:
    """|Q_0|² and |Q_x|² + |Q_y|² + |Q_z|² of each element: [g, n_i, n_j, 2] from [g, 2 n_i, 2 n_j]."""
    g, rows, columns = dense.shape
    q = dense.reshape(g, 2, rows // 2, 2, columns // 2)
    uu, ud, du, dd = q[:, 0, :, 0], q[:, 0, :, 1], q[:, 1, :, 0], q[:, 1, :, 1]
    scalar = _norm2(uu + dd) / 2
    vector = _norm2(uu - dd) / 2 + _norm2(ud) + _norm2(du)
    return np.stack([scalar, vector], axis=-1)


def _norm2(values: Values) -> Floats:
    return np.asarray(values.real**2 + values.imag**2 if np.iscomplexobj(values) else values**2, dtype=np.float64)
