"""Bands of models with known levels, of the same crystal described in other ways, and of what a DFT code wrote."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tight_binding import chain, graphene, graphene_levels, honeycomb, polarised, slater_koster

from orbitrace import readers
from orbitrace.bands.kpath import band_path
from orbitrace.bands.spectrum import BandStructure, Settings, band_structure
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.structure import Structure

RIPPLE = np.array([[0.0, 0.1, 0.2], [0.05, 0.0, -0.1]])  # Å
SOME_K = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [1 / 3, 1 / 3, 0.0], [0.17, 0.31, 0.0]])


def levels(calculation: Calculation, k: np.ndarray = SOME_K) -> np.ndarray:
    return band_structure(calculation, k).energies[0]


@pytest.fixture(scope="module")
def crystal() -> Calculation:
    """Rippled graphene with s and p orbitals: no symmetry but time reversal."""
    flat = honeycomb()
    return slater_koster(Structure(flat.positions + RIPPLE, flat.lattice, flat.numbers))


@pytest.mark.parametrize("angle", [60, 120])
def test_graphene_with_overlap_has_the_bands_of_its_closed_form(angle):
    c = graphene(angle=angle)
    assert np.allclose(levels(c), [graphene_levels(c, k) for k in SOME_K], rtol=0, atol=1e-12)


def test_dirac_point_of_graphene_is_at_k():
    path = band_path(honeycomb(), "GK")
    assert np.allclose(band_structure(graphene(), path).energies[0, -1], 0.0, atol=1e-12)


def test_moving_an_atom_by_a_lattice_vector_leaves_the_bands(crystal):
    s = crystal.structure
    moved = Structure(s.positions + np.outer([0, 1], 2 * s.lattice[0] - s.lattice[1]), s.lattice, s.numbers)
    assert not np.array_equal(slater_koster(moved).hamiltonian.pairs, crystal.hamiltonian.pairs)
    assert np.allclose(levels(slater_koster(moved)), levels(crystal), rtol=0, atol=1e-10)


def test_turning_and_mirroring_the_crystal_leaves_the_bands(crystal):
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    for rotation in (turn, -turn):
        assert np.allclose(levels(slater_koster(crystal.structure.rotated(rotation))), levels(crystal), rtol=0, atol=1e-10)


def test_another_cell_of_the_same_lattice_has_the_same_bands(crystal):
    s, change = crystal.structure, np.array([[1, 0, 0], [-1, 1, 0], [0, 0, 1]])
    other = Structure(s.positions, change @ s.lattice, s.numbers)
    assert np.allclose(levels(slater_koster(other), SOME_K @ change.T), levels(crystal), rtol=0, atol=1e-10)


def test_bands_of_a_supercell_are_those_of_the_cell_folded(crystal):
    folded = repeated(crystal, (2, 3, 1))
    k = np.array([0.17, 0.31, 0.0])
    inner = [(k + np.array([a, b, 0])) / [2, 3, 1] for a in range(2) for b in range(3)]
    assert np.allclose(levels(folded, k), np.sort(levels(crystal, np.array(inner)).reshape(-1)), rtol=0, atol=1e-9)
    built = slater_koster(folded.structure)  # from the atoms of the large cell
    assert np.array_equal(built.hamiltonian.pairs, folded.hamiltonian.pairs)
    assert np.allclose(built.hamiltonian.values, folded.hamiltonian.values, rtol=0, atol=1e-12)


def test_k_and_minus_k_have_the_same_levels(crystal):
    assert np.allclose(levels(crystal, -SOME_K), levels(crystal), rtol=0, atol=1e-10)


def test_collinear_spin_has_two_channels(crystal):
    both = band_structure(polarised(crystal, 0.7), SOME_K).energies
    assert both.shape == (2, 4, 10)
    assert np.allclose(both[1], both[0] + 0.7, rtol=0, atol=1e-10)


def test_spinors_without_coupling_have_the_levels_of_both_spins(crystal):
    c = polarised(crystal, 0.7)
    spinors = replace(c, hamiltonian=c.hamiltonian.with_values(c.hamiltonian.values.astype(complex)), spin=Spin.NONCOLLINEAR)
    both = band_structure(c, SOME_K).energies
    assert np.allclose(levels(spinors), np.sort(np.concatenate(both, axis=1), axis=1), rtol=0, atol=1e-10)


def test_path_hands_its_labels_to_the_spectrum_and_residuals_are_small(crystal):
    path = band_path(crystal.structure, density=5)
    bands = band_structure(crystal, path)
    assert bands.labels == path.labels and bands.labels[0] == (0, "Γ")
    assert bands.residuals is not None and bands.residuals.max() < 1e-12
    assert bands.record["solver"] == "dense" and bands.record["fermi_source"] == "count"


def test_progress_is_told_after_each_k():
    told: list[tuple[int, int]] = []
    band_structure(replace(chain(), fermi_level=0.0), SOME_K, progress=lambda done, n: told.append((done, n)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_processes_share_the_k_points(crystal):
    settings = Settings(n_workers=2, fermi="file")
    shared = band_structure(replace(crystal, fermi_level=0.0), SOME_K, settings=settings)
    assert np.array_equal(shared.energies[0], levels(crystal))


@pytest.fixture(scope="module")
def large(crystal) -> tuple[Calculation, BandStructure]:
    """A supercell with every atom's on-site energies disturbed, 360 orbitals, and its bands by LAPACK."""
    c = repeated(crystal, (6, 6, 1))
    here = np.flatnonzero(c.hamiltonian.onsite)
    shift = np.random.default_rng(5).normal(scale=0.3, size=(len(here), 1, 1))
    blocks = np.stack([c.hamiltonian.block(p) for p in here])
    c.hamiltonian.with_group(c.hamiltonian.values, here, blocks + shift * np.eye(5))
    bands = band_structure(c, SOME_K, settings=Settings("dense"))
    return replace(c, fermi_level=bands.fermi_level), bands


@pytest.mark.parametrize(
    "settings",
    [
        Settings("shift_invert", n_bands=20, verify="every"),
        Settings("shift_invert", n_bands=20, verify="never"),
        Settings("dense", n_bands=20),
        Settings("shift_invert", window=(-0.6, 0.4)),
        Settings("dense", window=(-0.6, 0.4)),
    ],
    ids=["sparse bands", "sparse unverified", "dense bands", "sparse window", "dense window"],
)
def test_some_bands_are_the_same_as_among_all_bands(large, settings):
    c, everything = large
    some = band_structure(c, SOME_K, settings=settings)
    assert some.record["solver"] == settings.solver
    assert some.first_band is not None
    n = some.energies.shape[2]
    assert np.allclose(some.energies, everything.energies[:, :, some.first_band : some.first_band + n], rtol=0, atol=1e-9)
    if settings.n_bands:
        assert (n, some.first_band) == (20, 144 - 10)  # centred at the highest of 288 electrons
    elif settings.window:
        inside = abs(everything.energies - everything.fermi_level + 0.1) <= 0.5
        first, *_, last = np.flatnonzero(inside.any(axis=(0, 1)))
        assert (some.first_band, n) == (first, last - first + 1)


def test_bands_are_centred_by_counting_where_the_electrons_are_not_known(large):
    c, everything = large
    unknown = Basis({6: Shells(c.basis[6].ls, c.basis[6].cutoff)})
    for solver in ("dense", "shift_invert"):
        some = band_structure(replace(c, basis=unknown, n_electrons=None), SOME_K, settings=Settings(solver, n_bands=6))
        full = int((everything.energies[0, 0] < c.fermi_level).sum())
        assert some.first_band == full - 3
        assert np.allclose(some.energies, everything.energies[:, :, full - 3 : full + 3], rtol=0, atol=1e-9)


def test_verification_is_recorded(large):
    c, _ = large
    counts = {
        verify: band_structure(c, SOME_K[2:], settings=Settings("shift_invert", n_bands=12, verify=verify)).record
        for verify in ("never", "first", "every")
    }
    assert {verify: record["k_points_verified"] for verify, record in counts.items()} == {"never": 0, "first": 1, "every": 2}


def test_an_overlap_that_is_not_positive_definite_is_refused_by_its_k():
    with pytest.raises(InputError, match=r"k = \(0.5000, 0.0000, 0.0000\).*not positive definite.* -2.000e-01"):
        band_structure(replace(chain(overlap=0.6), fermi_level=0.0), [[0.0, 0, 0], [0.5, 0, 0]])


def test_a_window_without_bands_is_refused():
    with pytest.raises(InputError, match=r"no band between 50.000 and 51.000 eV"):
        band_structure(replace(chain(), fermi_level=0.0), SOME_K, settings=Settings(window=(50.0, 51.0)))


def test_more_bands_than_there_are_are_refused():
    with pytest.raises(InputError, match=r"n_bands: 3. Expected 1 to 1"):
        band_structure(replace(chain(), fermi_level=0.0), SOME_K, settings=Settings(n_bands=3))


def test_a_fermi_level_that_the_file_lacks_is_refused():
    with pytest.raises(InputError, match="brings no Fermi level"):
        band_structure(chain(), SOME_K, settings=Settings(fermi="file"))


@pytest.mark.parametrize("name", ["AB", "twisted_1_2"])
def test_bands_of_the_read_hamiltonian_are_those_that_openmx_wrote(example: Path, name):
    folder = example / "references" / name
    own = readers.reference_spectrum(folder)
    assert own is not None
    some = slice(None, None, 3)
    ours = band_structure(readers.read(folder), own.kpoints[some]).energies
    assert abs(ours[:, :, : own.energies.shape[2]] - own.energies[:, some]).max() < 1e-6


def test_sparse_and_dense_bands_of_a_twisted_bilayer_are_the_same(example: Path):
    c = readers.read(example / "references" / "twisted_1_2")
    k = SOME_K[2:]
    sparse, dense = (
        band_structure(c, k, settings=Settings(solver, n_bands=14, verify="every")) for solver in ("shift_invert", "dense")
    )
    assert sparse.record["solver"] == "shift_invert" and sparse.record["k_points_verified"] == 2
    assert sparse.first_band == dense.first_band == 56 - 7
    assert np.allclose(sparse.energies, dense.energies, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["mos2/prim", "bismuthene_soc/prim", "twisted_bilayer_graphene/1-2-thermal"])
def test_bands_of_other_materials_are_those_that_openmx_wrote(shared_data: Path, name):
    folder = shared_data / "openmx" / name
    own = readers.reference_spectrum(folder)
    assert own is not None
    some = slice(None, None, 7)
    ours = band_structure(readers.read(folder), own.kpoints[some]).energies
    assert abs(ours[:, :, : own.energies.shape[2]] - own.energies[:, some]).max() < 1e-6
