"""The network that comes with the example: what its card says is so, on what lies in the repository."""

import numpy as np

from orbitrace import readers
from orbitrace.config import check_files, load
from orbitrace.prediction import Predictor
from orbitrace.training import checkpoint


def test_the_network_in_the_repository_is_as_good_as_its_card_says(example):
    trained = checkpoint.load(example / "pretrained" / "bilayer_graphene.pt")
    assert trained.metrics["validation_mae"] < 0.305
    dft = readers.read(example / "references" / "twisted_1_2")
    h = Predictor(trained)(dft.structure, dft.overlap)
    difference = h.values - dft.hamiltonian.values
    s = dft.overlap.values
    gauge = (s @ difference) / (s @ s)
    assert 1e3 * np.abs(difference).mean() < 0.22  # meV
    assert 1e3 * np.abs(difference - gauge * s).mean() < 0.11


def test_its_configuration_is_sound_and_its_file_small(example, monkeypatch):
    monkeypatch.chdir(example.parent.parent)
    check_files(load(example / "pretrained" / "config.yaml", discover=None))
    assert (example / "pretrained" / "bilayer_graphene.pt").stat().st_size < 10e6
