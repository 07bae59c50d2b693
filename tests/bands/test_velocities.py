"""Group velocities: the slopes of the bands, also where bands touch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tight_binding import GRAPHENE, graphene, honeycomb, polarised, slater_koster

from orbitrace import readers
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.kpath import band_path
from orbitrace.bands.levels import Ask, levels_at
from orbitrace.bands.spectrum import Settings, band_structure
from orbitrace.bands.supercell import repeated
from orbitrace.bands.velocities import METRES_PER_SECOND, Velocities
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.structure import Structure

K_POINT = np.array([0.17, 0.31, 0.0])
RIPPLE = np.array([[0.0, 0.1, 0.2], [0.05, 0.0, -0.1]])  # Å


@pytest.fixture(scope="module")
def crystal() -> Calculation:
    flat = honeycomb()
    return slater_koster(Structure(flat.positions + RIPPLE, flat.lattice, flat.numbers))


def velocities(pencil: Pencil, k: np.ndarray, direction: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    return levels_at(pencil, k, Ask("dense", observers=(Velocities(direction),))).observed["velocities"]


def slopes(pencil: Pencil, k: np.ndarray, direction: np.ndarray, step: float = 2e-3) -> np.ndarray:
    """dE/dk along a Cartesian direction by central differences of fourth order; k in 1/Å."""
    to_fractional = pencil.structure.lattice / (2 * np.pi)
    energies = [levels_at(pencil, k + s * step * (to_fractional @ direction), Ask("dense")).energies for s in (-2, -1, 1, 2)]
    return (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)


def test_velocities_are_the_slopes_of_the_bands(crystal):
    pencil = Pencil.channels(crystal)[0]
    v = velocities(pencil, K_POINT)
    scale = abs(v).max()
    for axis in range(2):
        assert abs(slopes(pencil, K_POINT, np.eye(3)[axis]) - v[:, axis]).max() < 1e-6 * scale
    assert abs(v[:, 2]).max() == 0.0  # nothing disperses across the layer


def test_at_the_dirac_point_each_direction_has_a_branch_of_each_sign():
    pencil = Pencil.channels(graphene())[0]
    k = band_path(honeycomb(), "GK").kpoints[-1]
    speed = np.sqrt(3) / 2 * GRAPHENE * 2.7  # eV Å, whatever the overlap
    for angle in (0.0, 0.4, 1.9):
        direction = (np.cos(angle), np.sin(angle), 0.0)
        along = velocities(pencil, k, direction) @ direction
        assert np.allclose(along, [-speed, speed], rtol=0, atol=1e-9)
    assert speed * METRES_PER_SECOND == pytest.approx(8.74e5, rel=1e-3)  # m/s


def test_bands_on_a_path_carry_the_slopes_along_it(crystal):
    path = band_path(crystal.structure, "GKM", density=40)
    bands = band_structure(crystal, path, settings=Settings(velocities=True))
    assert bands.velocities is not None and bands.velocities.shape == (*bands.energies.shape, 3)
    x, inside = bands.distances, slice(2, path.labels[1][0] - 1)
    tangent = (path.kpoints[1] - path.kpoints[0]) @ np.linalg.inv(crystal.structure.lattice).T
    along = bands.velocities[0] @ (tangent / np.linalg.norm(tangent))
    differences = np.gradient(bands.energies[0], x, axis=0)
    assert np.median(abs(differences - along)[inside]) < 2e-3 * abs(along).max()


def test_folded_bands_that_touch_have_the_velocities_of_the_cell_they_come_from(crystal):
    """On a zone edge of a supercell folded levels of opposite slope meet."""
    pencil = Pencil.channels(crystal)[0]
    k = np.array([0.25, 0.0, 0.0])  # and -k, which a doubled cell folds onto it
    wanted = np.concatenate([velocities(pencil, k), velocities(pencil, -k)])
    folded = velocities(Pencil.channels(repeated(crystal, (2, 1, 1)))[0], np.array([0.5, 0, 0]), (1.0, 0.0, 0.0))
    assert np.allclose(np.sort(folded[:, 0]), np.sort(wanted[:, 0]), rtol=0, atol=1e-8)
    assert np.allclose(np.sort(folded[:, 1]), np.sort(wanted[:, 1]), rtol=0, atol=1e-8)


def test_a_sparse_solver_gives_the_same_velocities(crystal):
    c = replace(repeated(crystal, (6, 6, 1)), fermi_level=-2.8)
    dense, sparse = (
        band_structure(c, [K_POINT], settings=Settings(solver, n_bands=12, velocities=True))
        for solver in ("dense", "shift_invert")
    )
    assert sparse.record["solver"] == "shift_invert"
    gap = np.diff(dense.energies[0, 0]).min()
    assert gap > 1e-4 and np.allclose(sparse.velocities, dense.velocities, rtol=0, atol=1e-6)


def test_each_spin_has_its_own(crystal):
    both = band_structure(polarised(crystal, 0.7), [K_POINT], settings=Settings(velocities=True)).velocities
    assert both.shape == (2, 1, 10, 3) and np.allclose(both[0], both[1], rtol=0, atol=1e-9)


def test_spin_orbit_bands_of_a_dft_code_have_their_slopes(shared_data: Path):
    c = readers.read(shared_data / "openmx" / "bismuthene_soc" / "000")
    pencil = Pencil.channels(c)[0]
    v = velocities(pencil, K_POINT, (1.0, 0.0, 0.0))
    assert abs(slopes(pencil, K_POINT, np.eye(3)[0], 1e-3) - v[:, 0]).max() < 1e-6 * abs(v).max()
