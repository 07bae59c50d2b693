"""Losses of levels: closed forms, gradients that stay exact where levels are degenerate, and what must not change them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from learner_cases import (
    BASIS,
    STRUCTURES,
    calculation,
    labeller,
    network,
    numbers_of,
    orthogonal,
    random_blocks,
    structure,
    turned,
    turned_calculation,
)
from orbitrace.bands import bloch
from orbitrace.errors import InputError
from orbitrace.graphs.batches import Batch, collate
from orbitrace.graphs.graph import group_values, make_graph
from orbitrace.graphs.labels import fit_labeller
from orbitrace.graphs.pencils import Pencil, make_pencil
from orbitrace.learning import LossSection, TrainSection
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.training import levels
from orbitrace.training.levels import Eigenvalues, band_error, check_window, kpoints, level_errors, wavefunction_error
from orbitrace.training.module import HamiltonianLearner

K = np.array([1 / 3, 2 / 3, 0.0])
WIDE = (-1e3, 1e3)
BOTH = LossSection(wavefunction=1.0, bands=1.0, window=WIDE, kpoints=2)


def gram(of: Structure, seed: int = 0) -> Calculation:
    """A random Hamiltonian with an overlap near the unit matrix, which is positive definite."""
    c = calculation(of, seed)
    return replace(c, overlap=c.overlap.with_values(unit(c.overlap).values + 0.01 * c.overlap.values), fermi_level=0.3)


def unit(like: Blocks) -> Blocks:
    values = np.zeros_like(like.values)
    for k in np.flatnonzero(like.onsite):
        values[like.offsets[k] : like.offsets[k + 1]] = np.eye(like.shapes[k, 0]).reshape(-1)
    return like.with_values(values)


def graphene(hopping: float = -2.7, overlap: float = 0.1) -> Calculation:
    """One orbital per atom: E(k) = +-|t f(k)| / (1 +- s f(k)), and both are 0 at K."""
    a = 2.46
    lattice = np.array([[a, 0, 0], [a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 20.0]])
    atoms = Structure(np.array([[0, 0, 0], [0, a / np.sqrt(3), 0]]), lattice, np.array([6, 6]), (True, True, False))
    basis = Basis({6: Shells((0,), 0.8, 1.0)})
    pairs = find_pairs(atoms, basis)
    s = Blocks.over(pairs, atoms, basis, np.full(len(pairs), overlap))
    s = s.with_values(np.where(s.onsite, 1.0, s.values))
    h = s.with_values(np.where(s.onsite, 0.0, hopping))
    return Calculation(atoms, basis, h, s, 0.0, 2.0, Spin.NONE, Provenance("model", "1"))


def pencil_of(c: Calculation, basis: Basis = BASIS) -> Pencil:
    return make_pencil(c, make_graph(c.structure, basis, c.overlap, 0), "structure")


def batch_of(*several: Calculation) -> Batch:
    samples = []
    for k, c in enumerate(several):
        sample = labeller().sample(c.structure, c.overlap, c.hamiltonian, f"structure {k}")
        samples.append(replace(sample, pencil=make_pencil(c, sample.graph, sample.name)))
    return collate(samples, torch.float64)


def flat(batch: Batch, several: list[Calculation], errors: list[Blocks]) -> torch.Tensor:
    """Errors of H of some structures in the order of their batch."""
    result = torch.full((int(sum(len(e.values) for e in errors)),), torch.nan, dtype=torch.float64)
    for pencil, c, error in zip(batch.pencils, several, errors, strict=True):
        graph = make_graph(c.structure, BASIS, c.overlap, 0)
        groups = sorted(graph.groups, key=lambda g: (len(g.kind), g.kind))
        result[pencil.elements] = torch.as_tensor(np.concatenate([group_values(error, g).reshape(-1) for g in groups]))
    assert not result.isnan().any()
    return result


def noise(c: Calculation, size: float, seed: int = 7) -> Blocks:
    error = random_blocks(c.hamiltonian.pairs, c.structure, c.basis, seed)
    return error.with_values(size * error.values)


def errors_of(c: Calculation, error: Blocks, loss: LossSection = BOTH, seed: int = 0) -> tuple[float, float]:
    batch = batch_of(c)
    found = level_errors(batch, flat(batch, [c], [error]), loss, (seed, 0))
    assert found.wavefunction is not None
    assert found.bands is not None
    return float(found.wavefunction), float(found.bands)


# --- levels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_levels_are_those_of_the_band_solvers(name: str) -> None:
    c = gram(STRUCTURES[name])
    pencil = pencil_of(c)
    for k in (np.zeros(3), np.array([0.13, -0.4, 0.0]) * c.structure.pbc):
        h, s = (x.toarray() for x in bloch.Pencil(c.structure, c.basis, c.hamiltonian, c.overlap).at(k))
        energies, vectors = pencil.levels(k)
        np.testing.assert_allclose(energies, eigh(h, s, eigvals_only=True), atol=1e-10)
        np.testing.assert_allclose(vectors.mH @ torch.as_tensor(s).to(vectors.dtype) @ vectors, np.eye(len(h)), atol=1e-12)
        assert vectors.is_complex() == bool(k.any())


def test_levels_of_graphene_are_the_closed_form() -> None:
    pencil = pencil_of(graphene(), graphene().basis)
    np.testing.assert_allclose(pencil.levels(np.zeros(3))[0], [-3 * 2.7 / 1.3, 3 * 2.7 / 0.7], rtol=1e-12)
    np.testing.assert_allclose(pencil.levels(K)[0], 0.0, atol=1e-12)


def test_a_batch_without_such_a_loss_has_no_pencils() -> None:
    c = gram(STRUCTURES["sheet"])
    assert collate([labeller().sample(c.structure, c.overlap, c.hamiltonian)]).pencils == []


# --- closed forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_the_true_h_has_no_error_and_no_slope_that_is_not_a_number(name: str) -> None:
    batch = batch_of(gram(STRUCTURES[name]))
    error = torch.zeros(len(batch.residual), dtype=torch.float64, requires_grad=True)
    found = level_errors(batch, error, BOTH, (0, 0))
    assert found.wavefunction.item() == 0.0
    assert found.bands.item() < 1e-12
    (found.wavefunction + found.bands).backward()
    assert torch.isfinite(error.grad).all()


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_an_error_of_the_zero_of_energies_counts_as_it_is(name: str) -> None:
    """An error c S moves every level by c and mixes none."""
    c = gram(STRUCTURES[name])
    for shift in (0.02, -1.5):
        found = errors_of(c, c.overlap.with_values(shift * c.overlap.values))
        assert found == pytest.approx((abs(shift), abs(shift)), rel=1e-9)


def test_the_band_error_is_that_of_the_generalised_problem() -> None:
    c = gram(STRUCTURES["molecule"])
    error = noise(c, 0.3)
    h, s, e = (x.toarray() for x in (*dense(c, c.hamiltonian), dense(c, error)[0]))
    before, after = eigh(h, s, eigvals_only=True), eigh(h + e, s, eigvals_only=True)
    for window in (WIDE, (-0.5, 1.0)):
        inside = (before >= 0.3 + window[0]) & (before <= 0.3 + window[1])
        _, found = errors_of(c, error, replace_loss(window=window))
        assert found == pytest.approx(np.abs(after - before)[inside].mean(), rel=1e-9)


def dense(c: Calculation, blocks: Blocks) -> tuple[object, object]:
    return bloch.Pencil(c.structure, c.basis, blocks, c.overlap).at(np.zeros(3))


def replace_loss(**changes: object) -> LossSection:
    return LossSection(**{**BOTH.model_dump(), **changes})


def test_the_wavefunction_error_is_that_of_the_levels_in_first_order() -> None:
    c = gram(STRUCTURES["molecule"])
    small = noise(c, 1e-5)
    h, s, e = (x.toarray() for x in (*dense(c, c.hamiltonian), dense(c, small)[0]))
    moved = eigh(h + e, s, eigvals_only=True) - eigh(h, s, eigvals_only=True)
    found, _ = errors_of(c, small, replace_loss(off_diagonal=0.0))
    assert found == pytest.approx(np.sqrt((moved**2).mean()), rel=1e-2)


def test_weights_of_the_wavefunction_error_by_hand() -> None:
    energies, loss = torch.tensor([-1.0, 0.5, 9.0]), LossSection(window=(-1, 1), off_diagonal=2.0, high_levels=0.5)
    change = torch.tensor([[0.3, 0.1, 0.2], [0.1, -0.4, 0.7], [0.2, 0.7, 0.6]])
    own = np.sqrt((0.09 + 0.16 + 0.25 * 0.36) / (1 + 1 + 0.25))
    mixed = np.sqrt((2 * 0.01 + 0.5 * 2 * (0.04 + 0.49)) / (2 + 0.5 * 4))
    assert float(wavefunction_error(energies, change, loss)) == pytest.approx(own + 2 * mixed, rel=1e-6)


def test_no_level_in_the_window_is_no_error() -> None:
    assert band_error(torch.tensor([-3.0, 3.0]), torch.zeros(2, 2), (-1, 1)) is None


# --- gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [np.zeros(3), np.array([0.21, 0.37, 0.0]), K], ids=["Gamma", "general", "K"])
@pytest.mark.parametrize("term", ["wavefunction", "bands"])
def test_gradients_are_exact_where_levels_are_degenerate_too(
    k: np.ndarray, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At K of graphene both levels are equal, before and after a shift of all energies."""
    monkeypatch.setattr(levels, "kpoints", lambda *_: [k])
    c = graphene()
    sample = fit_labeller(lambda: iter([c]), 0, "graphene").sample(c.structure, c.overlap)
    batch = collate([replace(sample, pencil=make_pencil(c, sample.graph, "graphene"))], torch.float64)
    start = 0.4 * batch.pencils[0].overlap
    if term == "wavefunction":  # a norm has no gradient at zero: let the levels mix
        start = start + 0.1 * torch.rand(len(start), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def error(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = getattr(level_errors(batch, start + x, BOTH, (0, 0)), term)
        return found

    x = torch.zeros(len(start), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(error, x, eps=1e-6, atol=1e-7)


def test_gradients_of_a_crystal_with_several_shells() -> None:
    batch = batch_of(gram(structure(4, 2, elements=(6, 1))))
    generator = torch.Generator().manual_seed(0)
    start = 0.1 * torch.randn(len(batch.residual), generator=generator, dtype=torch.float64)
    some = torch.randperm(len(start), generator=generator)[:12]

    def error(x: torch.Tensor) -> torch.Tensor:
        found = level_errors(batch, start.index_add(0, some, x), BOTH, (0, 0))
        return found.wavefunction + found.bands

    assert torch.autograd.gradcheck(error, torch.zeros(12, dtype=torch.float64, requires_grad=True), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_sums_over_degenerate_eigenvalues_have_their_exact_gradient(dtype: torch.dtype) -> None:
    q = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=dtype))[0]
    matrix = (q * torch.tensor([-1.0, 2.0, 2.0, 2.0, 5.0], dtype=dtype)) @ q.mH
    chosen = torch.tensor([False, True, True, True, False])

    def sums(x: torch.Tensor) -> torch.Tensor:
        values = Eigenvalues.apply((x + x.mH) / 2, chosen)
        return torch.stack([values.sum(), (values**3).sum()])

    assert torch.autograd.gradcheck(sums, matrix.clone().requires_grad_())


# --- what must not change them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("name", list(STRUCTURES))
def test_both_are_the_same_for_a_turned_structure(name: str, determinant: int) -> None:
    c, q = gram(STRUCTURES[name]), orthogonal(8, determinant)
    error = noise(c, 0.2)
    other = replace(turned_calculation(c, q), fermi_level=c.fermi_level)
    assert errors_of(other, turned(error, c.structure, q)) == pytest.approx(errors_of(c, error), rel=1e-8)


def test_both_are_the_same_whatever_vectors_span_a_degenerate_level() -> None:
    """A free atom: three p levels, whose vectors are any in their space, turned with an error that tells them apart."""
    atoms = Structure(np.zeros((1, 3)), np.eye(3), np.array([6]), (False,) * 3)
    blank = gram(atoms)
    s, h = unit(blank.overlap), unit(blank.overlap)
    h = h.with_values(np.diag([-5.0, 3.0, 1.0, 1.0, 1.0]).reshape(-1))
    c = replace(blank, hamiltonian=h, overlap=s)
    error, q = noise(c, 0.2), orthogonal(9)
    assert errors_of(c, turned(error, atoms, q)) == pytest.approx(errors_of(c, error), rel=1e-9)


def test_both_are_the_same_on_another_zero_of_energies() -> None:
    c = gram(STRUCTURES["sheet"])
    error = noise(c, 0.2)
    h = c.hamiltonian.with_values(c.hamiltonian.values + 1e3 * c.overlap.values)
    other = replace(c, hamiltonian=h, fermi_level=c.fermi_level + 1e3)
    loss = replace_loss(window=(-1.0, 1.0))
    assert errors_of(other, error, loss) == pytest.approx(errors_of(c, error, loss), rel=1e-7)


def test_structures_of_a_batch_count_alike_and_keep_their_k_points() -> None:
    several = [
        gram(one, k) for k, one in enumerate((STRUCTURES["sheet"], STRUCTURES["molecule"], structure(9, 2, elements=(5,))))
    ]
    errors = [noise(c, 0.1 * (k + 1)) for k, c in enumerate(several)]
    batch = batch_of(*several)
    found = level_errors(batch, flat(batch, several, errors), BOTH, (3, 5))
    alone = []
    for pencil, c, error in zip(batch.pencils, several, errors, strict=True):
        own = batch_of(c)
        own = replace(own, pencils=[replace(own.pencils[0], name=pencil.name)])
        alone.append(level_errors(own, flat(own, [c], [error]), BOTH, (3, 5)))
    assert float(found.bands) == pytest.approx(np.mean([float(x.bands) for x in alone]), rel=1e-9)
    assert float(found.wavefunction) == pytest.approx(np.mean([float(x.wavefunction) for x in alone]), rel=1e-9)


# --- k points -------------------------------------------------------------------------------------------------------------


def test_k_points_are_random_along_periodic_directions_only() -> None:
    sheet, molecule = pencil_of(gram(STRUCTURES["sheet"])), pencil_of(gram(STRUCTURES["molecule"]))
    points = list(kpoints(sheet, 5, np.random.default_rng(0)))
    assert len({tuple(k) for k in points}) == 5
    assert all(k[2] == 0 and 0 < k[0] < 1 and 0 < k[1] < 1 for k in points)
    assert [k.tolist() for k in kpoints(molecule, 5, np.random.default_rng(0))] == [[0.0, 0.0, 0.0]]
    assert [k.tolist() for k in kpoints(sheet, 0, np.random.default_rng(0))] == [[0.0, 0.0, 0.0]]


def test_every_step_has_its_own_k_points_and_a_resumed_training_the_same() -> None:
    c = gram(STRUCTURES["sheet"])
    error = noise(c, 0.2)
    assert errors_of(c, error, seed=1) == errors_of(c, error, seed=1) != errors_of(c, error, seed=2)


# --- what is refused ------------------------------------------------------------------------------------------------------


def test_a_window_without_levels_is_refused_with_the_nearest() -> None:
    pencil = pencil_of(graphene(), graphene().basis)
    check_window(pencil, LossSection(bands=1.0, window=(-1.0, 1.0), kpoints=1))
    with pytest.raises(InputError, match=r"loss\.window: no level of structure lies in \[20, 30\] eV.*nearest is \d\.\d\d eV"):
        check_window(pencil, LossSection(bands=1.0, window=(20.0, 30.0)))


def test_an_unknown_fermi_level_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"structure: its Fermi level is not known"):
        pencil_of(replace(graphene(), fermi_level=None), graphene().basis)


def test_an_indefinite_overlap_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"structure: its overlap is not positive definite"):
        pencil_of(graphene(overlap=0.5), graphene().basis).levels(np.zeros(3))


# --- training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [{"mae": 1}, {"mse": 1}, {"wavefunction": 1}, {"bands": 1}, {"mae": 1, "bands": 0.5}], ids=str
)
def test_some_steps_lower_each_loss(weights: dict[str, float]) -> None:
    loss = LossSection(**{"mae": 0.0, "trace": 0.0, "window": WIDE, "kpoints": 0, "levels_from": 0.0, **weights})
    settings = TrainSection(learning_rate=1e-3, warmup=0.0, loss=loss)
    with numbers_of(torch.float64):
        module = HamiltonianLearner(network(blocks=1), BASIS, settings, 0.5)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = batch_of(gram(STRUCTURES["molecule"]), gram(structure(4, 3)))
    optimizer = module.configure_optimizers()["optimizer"]
    found = []
    for _ in range(8):
        optimizer.zero_grad()
        value = module.training_step(batch, 0)
        value.backward()
        optimizer.step()
        found.append(value.item())
    assert all(b < a for a, b in pairwise([found[0], found[3], found[-1]]))
