"""Targets: what is learned and what is known add up to H, whatever the zero of energies and however large its elements."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from learner_cases import (
    calculation,
    network,
    overlap,
    small_settings,
    structure,
)
from orbitrace.errors import InputError
from orbitrace.graphs.batches import collate
from orbitrace.graphs.graph import group_values
from orbitrace.graphs.labels import Labeller, fit_labeller
from orbitrace.graphs.targets import TARGETS, Target, gauge
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.two_centre import fit_two_centre
from orbitrace.prediction import Predictor
from orbitrace.training.checkpoint import Checkpoint

SMALL = Basis({5: Shells((0, 1), 2.0, 3.0), 6: Shells((0, 0, 1), 1.8, 4.0)})


def with_initial(c: Calculation) -> Calculation:
    """H0 as a Hamiltonian that is not self-consistent would be: a function of distances alone."""
    table = fit_two_centre([(c.structure, c.basis, c.hamiltonian)], "smooth")
    return replace(c, initial=table.blocks(c.structure, c.basis, c.hamiltonian.pairs))


def shifted(c: Calculation, mu: float) -> Calculation:
    return replace(c, hamiltonian=c.hamiltonian.with_values(c.hamiltonian.values + mu * c.overlap.values))


def few() -> list[Calculation]:
    """Two elements without d shells: quickly fitted."""
    return [calculation(structure(seed, 4, (True, False, False), (5, 6)), seed, SMALL) for seed in (11, 12, 13)]


def fitted(several: list[Calculation], target: Target, l_max: int = 0) -> Labeller:
    return fit_labeller(lambda: iter(several), l_max, "tests", target)


def data(change: Callable[[int, Calculation], Calculation] = lambda _, c: c) -> list[Calculation]:
    return [with_initial(change(k, c)) for k, c in enumerate(few())]


def whole(labeller: Labeller, c: Calculation) -> np.ndarray:
    """Known part plus label, eV."""
    known = labeller.known(c.structure, c.overlap, c.initial)
    sample = labeller.sample(c.structure, c.overlap, c.hamiltonian, initial=c.initial)
    result = known.values.copy()
    for group, part in zip(sample.graph.groups, sample.labels.residual, strict=True):
        known.with_group(result, group.blocks, group_values(known, group) + part)
    return result


def residuals(labeller: Labeller, c: Calculation) -> np.ndarray:
    labels = labeller.sample(c.structure, c.overlap, c.hamiltonian, initial=c.initial).labels
    return np.concatenate([part.reshape(-1) for part in labels.residual])


@pytest.mark.parametrize("target", ["absolute", "residual"])
def test_what_is_known_and_what_is_learned_add_up_to_h(target: Target) -> None:
    several = data()
    labeller = fitted(several, target)
    for c in (*several, with_initial(calculation(structure(2, 3, (True,) * 3, (5, 6)), 5, SMALL))):
        np.testing.assert_allclose(whole(labeller, c), c.hamiltonian.values, atol=1e-12)


def test_they_add_up_to_h_but_for_its_gauge() -> None:
    several = data(lambda k, c: shifted(c, 3.0 * k))
    labeller = fitted(several, "gauge")
    gauges = []
    for c in several:
        rest = c.hamiltonian.values - whole(labeller, c)
        mu = float(rest @ c.overlap.values / (c.overlap.values @ c.overlap.values))
        np.testing.assert_allclose(rest, mu * c.overlap.values, atol=1e-11)
        gauges.append(mu)
    assert np.mean(gauges) == pytest.approx(0.0, abs=1e-9)  # predictions stand on the mean zero of the training data
    assert np.ptp(gauges) > 5


def test_the_zero_of_energies_of_each_calculation_does_not_change_what_is_learned() -> None:
    rng = np.random.default_rng(3)
    one, other = fitted(data(), "gauge"), fitted(data(lambda _, c: shifted(c, rng.uniform(-50, 50))), "gauge")
    plain = fitted(data(), "absolute")
    for c in few():
        np.testing.assert_allclose(residuals(other, shifted(c, 17.0)), residuals(one, c), atol=1e-9)
        assert np.abs(residuals(plain, shifted(c, 17.0)) - residuals(plain, c)).max() > 1
    for kind, table in one.scales.tables.items():
        np.testing.assert_allclose(other.scales.tables[kind], table, rtol=1e-8)


def test_a_shift_of_all_data_comes_back_in_predictions() -> None:
    one, other = fitted(data(), "gauge"), fitted(data(lambda _, c: shifted(c, 4.5)), "gauge")
    c = few()[2]
    mine, theirs = (of.known(c.structure, c.overlap) for of in (one, other))
    np.testing.assert_allclose(theirs.values, mine.values + 4.5 * c.overlap.values, atol=1e-9)
    assert other.split.zero == pytest.approx(one.split.zero + 4.5)


def test_the_gauge_is_the_closest_one() -> None:
    c = few()[0]
    mu = gauge(c.hamiltonian, c.overlap)
    left = [np.linalg.norm(c.hamiltonian.values - m * c.overlap.values) for m in (mu - 1e-3, mu, mu + 1e-3)]
    assert left[1] == min(left)
    assert gauge(shifted(c, 2.0).hamiltonian, c.overlap, c.hamiltonian) == pytest.approx(2.0)


def test_a_good_h0_leaves_less_to_learn() -> None:
    several = [replace(c, initial=c.hamiltonian.with_values(c.hamiltonian.values * 0.99)) for c in few()]
    one, other = fitted(several, "absolute"), fitted(several, "residual")
    assert max(x.max() for x in other.scales.tables.values()) < 0.02 * max(x.max() for x in one.scales.tables.values())


@pytest.mark.parametrize("target", TARGETS)
def test_elements_of_10_000_ev_cost_no_digits_in_float32(target: Target) -> None:
    """Labels and predictions are those without a large constant: 1e4 eV of a core level of each atom, or of a gauge, 1e4 S."""
    several = [with_initial(c) for c in few()]
    large = [Blocks.with_values(c.overlap, 1e4 * c.overlap.values if target == "gauge" else core(c.overlap)) for c in several]
    others = [added(c, x) for c, x in zip(several, large, strict=True)]
    made = []
    net = network(basis=SMALL, blocks=1).to(torch.float32)
    for data in (several, others):
        labeller = fitted(data, target, net.l_max)
        batch = collate([labeller.sample(c.structure, c.overlap, c.hamiltonian, "", c.initial) for c in data])
        checkpoint = Checkpoint("deeph_e3_local", small_settings("deeph_e3_local", blocks=1), net.state_dict(), labeller)
        made.append((batch.residual, Predictor(checkpoint)(data[0].structure, data[0].overlap, data[0].initial).values))
    (labels, h), (other_labels, other_h) = made
    assert labels.dtype == torch.float32
    torch.testing.assert_close(other_labels, labels, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other_h - h, large[0].values, rtol=0, atol=1e-5)
    assert np.abs(other_h).max() > 9e3


def core(like: Blocks) -> np.ndarray:
    """-1e4 eV for the first s orbital of each atom."""
    values = np.zeros_like(like.values)
    values[like.offsets[np.flatnonzero(like.onsite)]] = -1e4
    return values


def added(c: Calculation, x: Blocks) -> Calculation:
    """H + x, and H0 + x."""
    h, initial = (b.with_values(b.values + x.values) for b in (c.hamiltonian, c.initial))
    return replace(c, hamiltonian=h, initial=initial)


@pytest.mark.parametrize("target", TARGETS)
def test_arrays_of_a_labeller_keep_the_target(target: Target) -> None:
    mine = fitted(data(lambda k, c: shifted(c, k)), target)
    twin = Labeller.from_arrays(mine.to_arrays(), SMALL, mine.l_max)
    assert twin.split == mine.split
    older = {key: x for key, x in mine.to_arrays().items() if key not in ("target", "zero")}
    assert Labeller.from_arrays(older, SMALL, mine.l_max).split.target == "absolute"


# --- what is refused ------------------------------------------------------------------------------------------------------


def test_a_calculation_without_h0_is_refused_by_name() -> None:
    several = [*data(), calculation(structure(3, 4, elements=(5, 6)), 0, SMALL, source="runs/without")]
    with pytest.raises(InputError, match=r"tests: runs/without: has no reference Hamiltonian H0.*target: absolute"):
        fitted(several, "residual")


def test_h0_over_other_pairs_or_with_nan_is_refused_by_name() -> None:
    c = with_initial(calculation(structure(3, 4, elements=(5, 6)), 0, SMALL, source="runs/odd"))
    fewer = Blocks(c.initial.pairs[:1], c.initial.shapes[:1], c.initial.block(0).reshape(-1))
    with pytest.raises(InputError, match=r"runs/odd: its reference Hamiltonian H0 has 1 blocks"):
        fitted([replace(c, initial=fewer)], "residual")
    values = c.initial.values.copy()
    values[3] = np.nan
    with pytest.raises(InputError, match=r"runs/odd: 1 elements of its reference Hamiltonian H0 are not finite"):
        fitted([replace(c, initial=c.initial.with_values(values))], "residual")


def test_a_prediction_without_h0_is_refused() -> None:
    labeller = fitted(data(), "residual")
    made = Predictor(
        Checkpoint("deeph_e3_local", small_settings("deeph_e3_local"), network(basis=SMALL).state_dict(), labeller, "float64")
    )
    atoms = few()[0].structure
    with pytest.raises(InputError, match=r"targets/x: has no reference Hamiltonian H0, to which `target: residual`"):
        made(atoms, overlap(atoms, SMALL), where="targets/x")


def test_calculations_are_passed_over_and_never_kept() -> None:
    passes = 0

    def counted() -> Iterator[Calculation]:
        nonlocal passes
        passes += 1
        yield from data()

    fit_labeller(counted, 0, "tests", "gauge")
    assert passes <= 8
