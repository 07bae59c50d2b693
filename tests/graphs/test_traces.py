"""Trace labels are tr(Q Q^dagger) of every basic block, and no rotation changes them."""

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation
from synthetic_calculations import calculation

from orbitrace.graphs.traces import CHANNELS, trace_labels, trace_offsets
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin

PAULI = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


def labels_of(c: Calculation) -> np.ndarray:
    return trace_labels(c.hamiltonian, c.structure, c.basis, c.spin.components)


def explicit(c: Calculation, pair: int) -> np.ndarray:
    """Labels of one pair from the definition, shell pair by shell pair, with np.trace."""
    i, j = c.hamiltonian.pairs[pair, 3:]
    first, second = c.basis[c.structure.numbers[i]], c.basis[c.structure.numbers[j]]
    block = c.hamiltonian.block(pair)
    labels = []
    for p in first.slices:
        for q in second.slices:
            if c.spin is Spin.NONE:
                labels.append(np.trace(block[p, q] @ block[p, q].conj().T))
                continue
            spins = block.reshape(2, first.n_orbitals, 2, second.n_orbitals)[:, p, :, q]
            parts = np.einsum("mba,apbq->mpq", PAULI, spins) / np.sqrt(2)  # Q_mu = tr_spin(sigma_mu Q) / sqrt(2)
            norms = [np.trace(part @ part.conj().T).real for part in parts]
            labels += [norms[0], sum(norms[1:])]
    return np.array(labels)


@pytest.mark.parametrize("spin", Spin)
def test_labels_equal_the_explicit_trace_of_every_basic_block(spin: Spin) -> None:
    c = calculation(seed=1, spin=spin)
    offsets = trace_offsets(c.hamiltonian, c.structure, c.basis, spin.components)
    labels = labels_of(c)
    assert labels.shape == (offsets[-1],)
    for pair in range(c.hamiltonian.n_pairs):
        np.testing.assert_allclose(labels[offsets[pair] : offsets[pair + 1]], explicit(c, pair), rtol=1e-12)


@pytest.mark.parametrize("spin", Spin)
def test_labels_of_a_pair_add_up_to_the_squared_norm_of_its_block(spin: Spin) -> None:
    c = calculation(seed=2, spin=spin)
    offsets = trace_offsets(c.hamiltonian, c.structure, c.basis, spin.components)
    norms = [np.linalg.norm(c.hamiltonian.block(pair)) ** 2 for pair in range(c.hamiltonian.n_pairs)]
    np.testing.assert_allclose(np.add.reduceat(labels_of(c), offsets[:-1]), norms, rtol=1e-12)


@pytest.mark.parametrize("spin", Spin)
def test_rotating_orbitals_and_spins_leaves_the_labels(spin: Spin) -> None:
    """Q -> (U x D_p) Q (U x D_q)^dagger, with U the rotation of a spin 1/2; D needs to be no more than orthogonal."""
    rng = np.random.default_rng(3)
    c = calculation(seed=3, spin=spin)
    of_l = {l: np.linalg.qr(rng.normal(size=(2 * l + 1, 2 * l + 1)))[0] for l in range(3)}
    # A collinear Hamiltonian stays collinear only if spins turn by nothing.
    turn = Rotation.random(random_state=4).as_rotvec() if spin is Spin.NONCOLLINEAR else np.zeros(3)
    angle = np.linalg.norm(turn)
    axis = np.einsum("a,abc->bc", turn / angle if angle else turn, PAULI[1:])
    of_spin = np.cos(angle / 2) * PAULI[0] - 1j * np.sin(angle / 2) * axis
    of_spin = of_spin if spin is Spin.NONCOLLINEAR else of_spin.real
    of_element = {z: block_diag(*[of_l[l] for l in c.basis[z].ls]) for z in c.basis.elements}
    if spin is not Spin.NONE:
        of_element = {z: np.kron(of_spin, d) for z, d in of_element.items()}

    values = c.hamiltonian.values.copy()
    for pair, (i, j) in enumerate(c.hamiltonian.pairs[:, 3:]):
        left, right = of_element[c.structure.numbers[i]], of_element[c.structure.numbers[j]]
        turned = left @ c.hamiltonian.block(pair) @ right.conj().T
        values[c.hamiltonian.offsets[pair] : c.hamiltonian.offsets[pair + 1]] = turned.reshape(-1)
    rotated = trace_labels(c.hamiltonian.with_values(values), c.structure, c.basis, spin.components)
    assert not np.allclose(values, c.hamiltonian.values)
    np.testing.assert_allclose(rotated, labels_of(c), rtol=1e-10)


def test_the_reverse_pair_has_the_transposed_labels() -> None:
    c = calculation(seed=5)
    offsets = trace_offsets(c.hamiltonian, c.structure, c.basis)
    counts = [len(c.basis[z].ls) for z in c.structure.numbers]
    labels = labels_of(c)
    for pair, reverse in enumerate(c.hamiltonian.reverse):
        i, j = c.hamiltonian.pairs[pair, 3:]
        mine = labels[offsets[pair] : offsets[pair + 1]].reshape(counts[i], counts[j])
        theirs = labels[offsets[reverse] : offsets[reverse + 1]].reshape(counts[j], counts[i])
        np.testing.assert_allclose(mine, theirs.T, rtol=1e-12)


def test_no_pairs_have_no_labels() -> None:
    c = calculation()
    none = Blocks(np.zeros((0, 5), np.int32), np.zeros((0, 2), np.int64), np.zeros(0))
    assert trace_labels(none, c.structure, c.basis).shape == (0,)
    assert CHANNELS[c.spin.components] == 1
