"""Levels in a reduced basis: those of exact solvers, level by level; and the doubts that it must have in itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tight_binding import model, neighbours

from orbitrace import readers
from orbitrace.bands import reduced
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.files import read_spectrum, write_spectrum
from orbitrace.bands.kpath import band_path
from orbitrace.bands.levels import Ask, levels_at
from orbitrace.bands.mesh import uniform_mesh
from orbitrace.bands.reduced import ReducedSettings, reduced_levels, verification
from orbitrace.bands.spectrum import BandStructure, Settings, band_structure
from orbitrace.bands.subspace import Interpolant, ReducedBasis, patches
from orbitrace.bands.tracking import shift_between
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.twist import graphene, twisted_bilayer

CUTOFF = 5.0
LEGS = np.array([[0.0, 0, 0], [0.5, 0, 0], [1 / 3, 1 / 3, 0], [0, 0, 0]])
PATH = np.concatenate([np.linspace(a, b, 14, endpoint=False) for a, b in pairwise(LEGS)])


def one_orbital_twist(m: int, n: int) -> Calculation:
    """A twisted bilayer with one orbital per atom, hopping and overlap falling with the distance."""
    structure = twisted_bilayer(graphene(), m, n, 3.35)
    basis = Basis({6: Shells((0,), CUTOFF / 2, valence=1.0)})
    pairs = neighbours(structure, CUTOFF)
    r = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    decay = np.exp(-(r - 1.42) / 0.45) * (1 - np.clip(r / CUTOFF, 0, 1) ** 2) ** 2
    between = (np.abs(structure.pair_vectors(pairs)[:, 2]) > 1) * 12 * decay  # pz orbitals head on: 0.2 eV
    onsite = r < 1e-9
    h = np.where(onsite, -5.0, -2.7 * decay + between)
    return model(structure, basis, pairs, h, np.where(onsite, 1.0, 0.1 * decay), n_electrons=structure.n_atoms)


@pytest.fixture(scope="module")
def twist() -> Pencil:
    c = one_orbital_twist(4, 5)
    return Pencil(c.structure, c.basis, c.hamiltonian, c.overlap)


def asked(pencil: Pencil, n: int = 14) -> Ask:
    half = pencil.size // 2
    middle = levels_at(pencil, LEGS[2], Ask("dense")).energies[half - 1 : half + 1].mean()
    return Ask("dense", bands=(half - n // 2, half + n - n // 2), sigma=float(middle))


def exactly(pencil: Pencil, ask: Ask, kpoints: np.ndarray) -> np.ndarray:
    return np.array([levels_at(pencil, k, ask).energies for k in kpoints])


def energies(levels: list) -> np.ndarray:
    return np.array([level.energies for level in levels])


def test_levels_of_a_twisted_cell_are_those_of_exact_diagonalisation(twist):
    ask = asked(twist)
    found, record = reduced_levels(twist, PATH, ask)
    assert np.abs(energies(found) - exactly(twist, ask, PATH)).max() < 1e-5
    assert all(levels.first_band == ask.bands[0] for levels in found)
    assert {levels.solver for levels in found} == {"dense", "reduced basis"}
    assert record["reduced_exact_k_points"] < len(PATH) / 2 and record["reduced_basis"] < twist.size
    assert record["reduced_checks"] >= 3 and record["reduced_check_error"] <= 1e-5


def test_levels_on_a_mesh_are_those_of_exact_diagonalisation(twist):
    ask, kpoints = asked(twist, 8), uniform_mesh((6, 6, 1), time_reversal=True).kpoints
    found, _ = reduced_levels(twist, kpoints, ask)
    assert np.abs(energies(found) - exactly(twist, ask, kpoints)).max() < 1e-5


@pytest.mark.parametrize("name", ["AB", "twisted_1_2"])
def test_bands_of_small_cells_are_those_of_all_k(name: str, example: Path, tmp_path: Path):
    c = readers.read(example / "references" / name)
    path = band_path(c.structure, "GMKG", 12.0, c.hamiltonian.pairs)
    exact = Settings("dense", n_bands=10)
    one, other = (band_structure(c, path, settings=s) for s in (exact, replace(exact, reduced=ReducedSettings())))
    assert np.abs(one.energies - other.energies).max() < 1e-5 and one.first_band == other.first_band
    assert other.record["reduced_check_error"] <= other.record["reduced_tolerance"]
    write_spectrum(tmp_path / "bands.h5", other)
    read = read_spectrum(tmp_path / "bands.h5")
    assert isinstance(read, BandStructure) and read.record["reduced_checks"] == other.record["reduced_checks"]


def test_spurious_levels_stand_out_by_their_residuals(twist):
    ask = asked(twist)
    basis = ReducedBasis(twist, ask.sigma)
    for k in PATH[[0, 7, 14, 20, 27, 34]]:
        basis.add(k, levels_at(twist, k, replace(ask, keep_states=True)).states)
    k = PATH[17]
    exact = levels_at(twist, k, ask).energies
    ritz = basis.project(k).ritz(ask.sigma, exact[0] - 1e-3, exact[-1] + 1e-3)
    assert len(ritz.energies) > len(exact)  # Rayleigh-Ritz alone is wrong
    true = np.argsort(ritz.residuals) < 0
    true[np.argsort(ritz.residuals)[: len(exact)]] = True
    assert np.abs(ritz.energies[true] - exact).max() < 1e-2
    assert ritz.residuals[~true].min() > 2 * ritz.residuals[true].max()


def test_interpolated_matrices_are_the_projected_ones(twist):
    basis = ReducedBasis(twist, -5.0)
    basis.add(PATH[0], levels_at(twist, PATH[0], replace(asked(twist), keep_states=True)).states)
    for kpoints in (PATH, uniform_mesh((12, 12, 1), time_reversal=False).kpoints):
        found = patches(twist, kpoints)
        assert sorted(np.concatenate([p.members for p in found]).tolist()) == list(range(len(kpoints)))
        interpolant = Interpolant(basis, kpoints)
        assert not any(interpolant.direct)
        for number in (0, 5, len(kpoints) - 1):
            direct = basis.project(kpoints[number]).forms
            error = np.abs(interpolant.at(number, kpoints[number]).forms - direct)
            assert error.max() < 1e-8 * np.abs(direct).max()


def test_verification_finds_that_a_basis_is_too_small(twist, monkeypatch):
    ask = asked(twist)
    monkeypatch.setattr(reduced.ReducedRun, "suspects", lambda *_: False)
    run = reduced.ReducedRun(twist, PATH, ask)
    run.compute([0, 14, 28])  # without a test
    run.solve_all()
    run.verify()
    assert run.record()["reduced_failed_checks"] > 0 and run.report.history[0] > 1e-4
    assert run.report.history[-1] <= 1e-5
    with pytest.raises(InputError, match=r"more than 4 exact k points are needed for 1e-05 eV"):
        reduced_levels(twist, PATH, ask, ReducedSettings(max_nodes=4))


def test_numbers_of_bands_follow_from_a_shared_space(twist):
    ask = asked(twist, 20)
    basis = ReducedBasis(twist, ask.sigma)
    for k in PATH[14:17]:
        basis.add(k, levels_at(twist, k, replace(ask, keep_states=True)).states)
    one, other = (basis.project(k).ritz(ask.sigma, -9, 0) for k in PATH[14:16])
    one, other = (levels.only(levels.residuals < 0.1) for levels in (one, other))
    n = len(other.energies)
    assert shift_between(one, other) is not None
    assert shift_between(one, other.only(np.arange(3, n))) == shift_between(one, other) + 3
    assert shift_between(one, other.only(np.array([], dtype=int))) is None


def test_few_k_points_are_all_exact(twist):
    found, record = reduced_levels(twist, PATH[:2], asked(twist))
    assert record["reduced_exact_k_points"] == 2 and record["reduced_checks"] == 0
    assert energies(found).shape == (2, 14)


def test_a_window_needs_all_k(example: Path):
    c = readers.read(example / "references" / "AB")
    settings = Settings("dense", window=(-1.0, 1.0), reduced=ReducedSettings())
    with pytest.raises(InputError, match="reduced: a window"):
        band_structure(c, PATH[:4], settings=settings)


def test_the_verification_is_told_in_one_line(twist):
    _, record = reduced_levels(twist, PATH[:3], asked(twist))
    assert verification({}) == ""
    assert "basis of" in verification({**record, "k_points": 3}) and "from 3 of 3 k" in verification({**record, "k_points": 3})
