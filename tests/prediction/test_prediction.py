"""Prediction: what the trained network says, over the pairs of the overlap, and nothing that it cannot know."""

from pathlib import Path

import numpy as np
import pytest
import torch

from learner_cases import (
    BASIS,
    STRUCTURES,
    assert_close,
    hamiltonian,
    labeller,
    network,
    orthogonal,
    overlap,
    small_settings,
    training_set,
    turned,
)
from orbitrace import plugins
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure
from orbitrace.prediction import Predictor, check_target, predict
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint

SHEET = training_set()[1].structure  # its distances are covered


def trained(model: str = "deeph_e3_local", precision: str = "float64") -> Checkpoint:
    net = network(model).to(getattr(torch, precision))
    return Checkpoint(model, small_settings(model), net.state_dict(), labeller(int(net.l_max)), precision)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    checkpoints.save(path, trained())
    return path


@pytest.mark.parametrize("model", plugins.names("models"))
@pytest.mark.parametrize("name", list(STRUCTURES))
def test_a_prediction_is_what_the_network_says(model: str, name: str) -> None:
    atoms = STRUCTURES[name]
    over = overlap(atoms)
    assert_close(Predictor(trained(model))(atoms, over), hamiltonian(network(model), atoms, over), 1e-13)


def test_a_prediction_turns_with_its_structure(file: Path) -> None:
    """From the file to the blocks: nothing between them is less exact than the network in float64."""
    q, over = orthogonal(20, -1), overlap(SHEET)
    h = predict(file, SHEET, BASIS, over)
    assert_close(predict(file, SHEET.rotated(q), BASIS, over), turned(h, SHEET, q))


def test_a_prediction_is_real_float64_hermitian_and_over_the_pairs_of_the_overlap(file: Path) -> None:
    over = overlap(SHEET)
    h = predict(file, SHEET, BASIS, over)
    np.testing.assert_array_equal(h.pairs, over.pairs)
    np.testing.assert_array_equal(h.shapes, over.shapes)
    assert h.values.dtype == np.float64
    np.testing.assert_array_equal(h.values, h.dagger().values)


def test_in_float32_it_is_hermitian_to_the_last_bit_too() -> None:
    h = Predictor(trained(precision="float32"))(SHEET, overlap(SHEET))
    np.testing.assert_array_equal(h.values, h.dagger().values)
    assert_close(h, Predictor(trained())(SHEET, overlap(SHEET)), 2e-4)


def test_one_predictor_serves_many_structures_in_any_order() -> None:
    predictor = Predictor(trained())
    first = predictor(SHEET, overlap(SHEET))
    for atoms in STRUCTURES.values():
        predictor(atoms, overlap(atoms))
    np.testing.assert_array_equal(predictor(SHEET, overlap(SHEET)).values, first.values)


def test_values_of_the_overlap_do_not_matter(file: Path) -> None:
    over = overlap(SHEET)
    other = over.with_values(np.zeros_like(over.values))
    np.testing.assert_array_equal(predict(file, SHEET, BASIS, other).values, predict(file, SHEET, BASIS, over).values)


def test_a_target_may_have_fewer_elements_than_the_training_data(file: Path) -> None:
    """Elements are known by their atomic number, not by their place in the basis of the target."""
    mine = SHEET.numbers == 6
    carbon = Structure(SHEET.positions[mine], SHEET.lattice, SHEET.numbers[mine], SHEET.pbc)
    over = overlap(carbon)
    alone, among = (predict(file, carbon, basis, over) for basis in (BASIS.restricted((6,)), BASIS))
    np.testing.assert_array_equal(alone.values, among.values)
    assert_close(alone, hamiltonian(network(), carbon, over), 1e-13)


def test_the_default_type_of_new_tensors_is_left_alone(file: Path) -> None:
    before = torch.get_default_dtype()
    predict(file, SHEET, BASIS, overlap(SHEET))
    assert torch.get_default_dtype() is before


def test_a_good_target_passes_the_check() -> None:
    check_target(trained(), SHEET, BASIS, overlap(SHEET), Path("model.pt"), "targets/sheet")


def test_a_target_that_does_not_declare_its_radii_passes_the_check() -> None:
    foreign = Basis({z: Shells(s.ls, s.cutoff - 0.01, inferred=True) for z, s in BASIS.shells.items()})
    check_target(trained(), SHEET, foreign, overlap(SHEET), Path("model.pt"), "targets/sheet")


def test_a_high_symmetry_crystal_keeps_its_symmetry_in_float32() -> None:
    """In diamond, features of l = 1 and 2 vanish at each atom: rounding errors must not grow into something."""
    a = 2.7
    lattice = a / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    diamond = Structure(np.array([[0, 0, 0], [a / 4, a / 4, a / 4]]), lattice, np.array([6, 6]))
    for atoms in (diamond, diamond.rotated(orthogonal(21))):
        assert_close(
            Predictor(trained(precision="float32"))(atoms, overlap(atoms)), Predictor(trained())(atoms, overlap(atoms)), 2e-4
        )
