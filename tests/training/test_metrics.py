"""Metrics, by hand: means over elements that exist, blocks by name, and the gauge."""

import numpy as np
import pytest

from learner_cases import BASIS, STRUCTURES, calculation, orthogonal, structure, turned
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.training.metrics import BlockErrors, block_errors, summarise

TWO = Structure(np.array([[0.0, 0, 0], [0, 0, 1.2]]), np.zeros((3, 3)), np.array([1, 6]), (False,) * 3)
HC = Basis({1: Shells((0,), 1.0), 6: Shells((0, 1), 1.0)})
PAIRS = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]])


def blocks(*parts: list[float]) -> Blocks:
    """H: 1 orbital, C: 4; blocks HH, HC, CH, CC."""
    return Blocks.over(PAIRS, TWO, HC, np.concatenate([np.array(part, dtype=float) for part in parts]))


ZERO = blocks([0], [0] * 4, [0] * 4, [0] * 16)
OVERLAP = blocks([1], [0.5, 0, 0.2, 0], [0.5, 0, 0.2, 0], np.eye(4).ravel().tolist())


def test_errors_are_means_over_the_elements_of_each_basic_block() -> None:
    cc = np.zeros((4, 4))
    cc[0, 0], cc[1, 2], cc[0, 3] = 0.009, -0.018, 0.006  # eV
    errors = block_errors(TWO, HC, blocks([0.004], [0.001, -0.003, 0, 0.006], [0] * 4, cc.ravel().tolist()), ZERO, OVERLAP)
    means = {name: errors.sums[name] / errors.counts[name] for name in errors.sums}
    assert means == pytest.approx(
        {
            "H s1 - H s1 on-site": 4.0,
            "H s1 - C s1": 1.0,
            "H s1 - C p1": 3.0,
            "C s1 - H s1": 0.0,
            "C p1 - H s1": 0.0,
            "C s1 - C s1 on-site": 9.0,
            "C s1 - C p1 on-site": 2.0,
            "C p1 - C s1 on-site": 0.0,
            "C p1 - C p1 on-site": 2.0,
        }
    )
    assert errors.mean == pytest.approx((4 + 1 + 3 + 6 + 9 + 18 + 6) / 25)
    assert sum(errors.counts.values()) == 25


def test_every_element_counts_once() -> None:
    """Of structures with several elements and shells, in both directions of a pair."""
    for atoms in STRUCTURES.values():
        c = calculation(atoms)
        errors = block_errors(atoms, BASIS, c.hamiltonian.with_values(c.hamiltonian.values + 0.002), c.hamiltonian, c.overlap)
        assert sum(errors.counts.values()) == len(c.hamiltonian.values)
        assert errors.mean == pytest.approx(2.0)
        assert all(total == pytest.approx(2.0 * errors.counts[name]) for name, total in errors.sums.items())


def test_a_shift_by_mu_s_is_no_error_once_the_gauge_is_aligned() -> None:
    c = calculation(STRUCTURES["sheet"])
    shifted = c.hamiltonian.with_values(c.hamiltonian.values - 1.75 * c.overlap.values)
    errors = block_errors(c.structure, BASIS, shifted, c.hamiltonian, c.overlap)
    assert errors.gauge == pytest.approx(-1.75, rel=1e-12)
    assert errors.aligned == pytest.approx(0.0, abs=1e-9)
    assert errors.mean == pytest.approx(1750 * np.abs(c.overlap.values).mean())


def test_the_gauge_is_the_best_one_in_the_sense_of_least_squares() -> None:
    c, other = calculation(STRUCTURES["molecule"]), calculation(STRUCTURES["molecule"], 8)
    errors = block_errors(c.structure, BASIS, other.hamiltonian, c.hamiltonian, c.overlap)

    def square(mu: float) -> float:
        return float(((other.hamiltonian.values - c.hamiltonian.values - mu * c.overlap.values) ** 2).sum())

    assert square(errors.gauge) < min(square(errors.gauge + 1e-3), square(errors.gauge - 1e-3))
    rest = other.hamiltonian.values - c.hamiltonian.values - errors.gauge * c.overlap.values
    assert errors.aligned == pytest.approx(1000 * np.abs(rest).mean())


def test_the_gauge_is_invariant() -> None:
    c, other, q = calculation(STRUCTURES["crystal"]), calculation(STRUCTURES["crystal"], 9), orthogonal(10, -1)
    plain = block_errors(c.structure, BASIS, other.hamiltonian, c.hamiltonian, c.overlap)
    parts = [turned(b, c.structure, q) for b in (other.hamiltonian, c.hamiltonian, c.overlap)]
    assert block_errors(c.structure.rotated(q), BASIS, *parts).gauge == pytest.approx(plain.gauge, rel=1e-10)


def errors_of(sums: dict[str, float], counts: dict[str, int], gauge: float = 0.0, aligned: float = 0.0) -> BlockErrors:
    return BlockErrors(sums, counts, gauge, aligned)


def test_the_worst_block_and_sample_are_named() -> None:
    """Elements of all samples weigh alike: a large structure counts more than a small one."""
    small = errors_of({"C s1 - C s1": 8.0, "C s1 - C p1": 3.0}, {"C s1 - C s1": 2, "C s1 - C p1": 6}, 0.001, 1.0)
    large = errors_of({"C s1 - C s1": 4.0, "H s1 - C s1": 40.0}, {"C s1 - C s1": 22, "H s1 - C s1": 20}, -0.002, 0.5)
    metrics = summarise([("small", small), ("large", large)])
    assert metrics["mae"] == pytest.approx(55 / 50)
    assert metrics["mae_aligned"] == pytest.approx((1.0 * 8 + 0.5 * 42) / 50)
    assert metrics["mae_per_sample"] == pytest.approx({"small": 11 / 8, "large": 44 / 42})
    assert (metrics["worst_sample"], metrics["mae_worst_sample"]) == ("small", pytest.approx(11 / 8))
    assert metrics["mae_per_block"] == pytest.approx({"C s1 - C s1": 12 / 24, "C s1 - C p1": 0.5, "H s1 - C s1": 2.0})
    assert (metrics["worst_block"], metrics["mae_worst_block"]) == ("H s1 - C s1", pytest.approx(2.0))
    assert metrics["gauge_shift_mev"] == pytest.approx({"small": 1.0, "large": -2.0})


def test_a_perfect_prediction_has_no_error() -> None:
    c = calculation(structure(30, 5))
    metrics = summarise([("one", block_errors(c.structure, BASIS, c.hamiltonian, c.hamiltonian, c.overlap))])
    assert metrics["mae"] == metrics["mae_aligned"] == metrics["mae_worst_block"] == metrics["mae_worst_sample"] == 0
