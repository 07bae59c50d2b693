"""What every local network of `orbitrace.models` must do in tiles: say of every block what it says in the whole graph."""

import numpy as np
import pytest
import torch
from torch import nn

from learner_cases import (
    STRUCTURES,
    VARIANTS,
    assert_close,
    labeller,
    network,
    overlap,
    small_settings,
    spin_labeller,
    structure,
)
from orbitrace import plugins
from orbitrace.graphs.spin import SpinKind
from orbitrace.physics.structure import Structure
from orbitrace.prediction import How, Predictor
from orbitrace.training.checkpoint import Checkpoint

LOCAL = [model for model in plugins.names("models") if plugins.load("models", model).Network.local]
CASES = [(model, name) for model in LOCAL for name in VARIANTS]

# Cells narrower than one step's reach, so that tiles meet their own images; isolated atoms; an element that is missing.
CELLS = STRUCTURES | {
    "one atom with its images": Structure(np.zeros((1, 3)), np.diag([1.6, 1.7, 1.8]), np.array([5])),
    "two atoms with their images": Structure(
        np.array([[0.0, 0, 0], [1.1, 0.3, 0.2]]), np.diag([1.9, 2.1, 9.0]), np.array([6, 5]), (True, True, False)
    ),
    "atoms alone": Structure(np.diag([0.0, 30.0, 60.0]), np.zeros((3, 3)), np.array([1, 6, 1]), (False,) * 3),
    "a pair and an atom alone": Structure(
        np.array([[0.0, 0, 0], [1.3, 0.2, 0.1], [40.0, 0, 0]]), np.zeros((3, 3)), np.array([6, 1, 5]), (False,) * 3
    ),
    "one element": structure(4, 7, elements=(6,)),
}


def kept(net: nn.Module, model: str, variant: str, spin: SpinKind, precision: str = "float64") -> Checkpoint:
    fitted = labeller(int(net.l_max)) if spin is SpinKind.NONE else spin_labeller(spin, int(net.l_max))
    weights = net.to(getattr(torch, precision)).state_dict()
    return Checkpoint(model, small_settings(model, **VARIANTS[variant]), weights, fitted, precision)


def assert_same_in_tiles(trained: Checkpoint, tolerance: float) -> None:
    """Cut into tiles of one atom each, and larger structures into about three."""
    predictor = Predictor(trained)
    for atoms in CELLS.values():
        over = overlap(atoms)
        predictor.how = How()
        expected = predictor(atoms, over)
        predictor.how = How(1 if atoms.n_atoms < 6 else over.n_pairs // 3 + 1)
        h = predictor(atoms, over)
        np.testing.assert_array_equal(h.shapes, expected.shapes)
        assert h.values.dtype == expected.values.dtype
        assert_close(h, expected, tolerance)
        np.testing.assert_array_equal(h.values, h.dagger().values)


@pytest.mark.parametrize(("model", "variant"), CASES, ids="-".join)
def test_tiles_say_what_the_whole_graph_says(model: str, variant: str) -> None:
    net = network(model, **VARIANTS[variant])
    assert_same_in_tiles(kept(net, model, variant, SpinKind.NONE), 1e-13)


@pytest.mark.parametrize("model", LOCAL)
@pytest.mark.parametrize("spin", [kind for kind in SpinKind if kind is not SpinKind.NONE], ids=str)
def test_with_every_kind_of_spin(model: str, spin: SpinKind) -> None:
    assert_same_in_tiles(kept(network(model, spin=spin), model, "natural", spin), 1e-13)


@pytest.mark.parametrize("model", LOCAL)
def test_in_float32_to_its_digits(model: str) -> None:
    assert_same_in_tiles(kept(network(model), model, "natural", SpinKind.NONE, "float32"), 1e-5)


@pytest.mark.parametrize("model", plugins.names("models"))
def test_a_network_says_how_much_memory_a_pair_takes(model: str) -> None:
    assert 0 < network(model).bytes_per_pair < 10**7
