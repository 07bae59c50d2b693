"""Unfolding: a supercell's states are those of its cell, and a twisted layer's weights add up to the layer's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tight_binding import graphene, honeycomb, slater_koster

from orbitrace import readers
from orbitrace.bands.bloch import Pencil
from orbitrace.bands.levels import Ask, levels_at
from orbitrace.bands.primitive import primitive_of
from orbitrace.bands.projections import projection
from orbitrace.bands.spectrum import Settings, band_structure
from orbitrace.bands.supercell import repeated
from orbitrace.bands.unfolding import UNFOLDED, layer_primitive, spectral_weight, unfold
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene as graphene_layer
from orbitrace.physics.twist import twisted_bilayer

K_POINT = np.array([0.17, 0.31, 0.0])
RIPPLE = np.array([[0.0, 0.1, 0.2], [0.05, 0.0, -0.1]])  # Å


@pytest.fixture(scope="module")
def crystal() -> Calculation:
    flat = honeycomb()
    return slater_koster(Structure(flat.positions + RIPPLE, flat.lattice, flat.numbers))


def weights(c: Calculation, primitive, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels at the k onto which a primitive k folds, and their weights."""
    levels = levels_at(Pencil.channels(c)[0], primitive.folded(k), Ask("dense", observers=(spectral_weight(c, primitive, k),)))
    return levels.energies, levels.observed["spectral weight"][:, 0]


@pytest.mark.parametrize("repeats", [(2, 3, 1), (1, 1, 1), (4, 1, 1)])
@pytest.mark.parametrize("k", [K_POINT, np.array([0.5, 0.0, 0.0]), np.zeros(3)], ids=["general", "M", "Γ"])
def test_a_perfect_supercell_has_weights_of_0_and_1_on_the_levels_of_its_cell(crystal, repeats, k):
    large = repeated(crystal, repeats)
    primitive = layer_primitive(large, None)
    assert primitive.n_cells == np.prod(repeats) and primitive.displacement < 1e-9
    energies, found = weights(large, primitive, k)
    assert abs(found * (1 - found)).max() < 1e-9
    own = band_structure(crystal, [k @ inverse(crystal, primitive)]).energies[0, 0]
    assert np.allclose(energies[found > 0.5], own, rtol=0, atol=1e-9)


def inverse(c: Calculation, primitive) -> np.ndarray:
    """Takes k of the primitive lattice that was found to k of the cell that was repeated."""
    return np.round(np.linalg.inv(primitive.lattice @ np.linalg.inv(c.structure.lattice)).T, 9)


def test_k_that_fold_onto_one_share_each_state_between_them(crystal):
    large = repeated(crystal, (2, 3, 1))
    primitive = layer_primitive(large, None)
    k = primitive.unfolded(K_POINT)
    assert len(k) == 6 and len(np.unique(np.round(k, 6), axis=0)) == 6
    turns = primitive.folded(k) - K_POINT
    assert np.allclose(turns, np.round(turns), rtol=0, atol=1e-9)
    shares = np.array([weights(large, primitive, one)[1] for one in k])
    assert np.allclose(shares.sum(axis=0), 1.0, rtol=0, atol=1e-10)
    assert np.allclose(shares.sum(axis=1), crystal.basis[6].n_orbitals * 2, rtol=0, atol=1e-9)


@pytest.mark.parametrize("layer", [1, 2])
def test_weights_of_a_twisted_layer_sum_to_its_share_of_each_state(example: Path, layer):
    c = readers.read(example / "references" / "twisted_1_2")
    primitive = layer_primitive(c, layer)
    assert primitive.n_cells == 7
    assert np.allclose(np.linalg.norm(primitive.lattice[:2], axis=1), 2.46, rtol=0, atol=1e-6)
    pencil = Pencil.channels(c)[0]
    observers = [spectral_weight(c, primitive, k) for k in primitive.unfolded(K_POINT)]
    groups = projection(c, "layer")
    share = levels_at(pencil, K_POINT, Ask("dense", observers=(groups,))).observed[groups.name][:, layer - 1]
    each = [levels_at(pencil, K_POINT, Ask("dense", observers=(one,))).observed[one.name][:, 0] for one in observers]
    assert np.allclose(sum(each), share, rtol=0, atol=1e-12)
    assert share.min() < 0.05 and share.max() > 0.95


def test_the_dirac_cone_of_each_layer_is_at_its_own_corner(example: Path):
    c = readers.read(example / "references" / "twisted_1_2")
    spectrum = unfold(c, 2, "GK", 12.0, settings=Settings("dense", n_bands=20))
    assert spectrum.labels[-1][1] == "K"
    weight, energies = spectrum.weights[UNFOLDED].values[0, :, :, 0], spectrum.energies[0] - c.fermi_level
    at_corner = abs(energies[-1]) < 0.05
    assert weight[-1, at_corner].sum() == pytest.approx(2.0, abs=0.1)  # both branches, of this layer alone
    near = abs(energies[-3]) < 2.0
    main = np.sort(weight[-3, near])[-2:]
    assert main.min() > 0.8


def test_the_sparse_solver_unfolds_as_the_dense_one(crystal):
    large = repeated(crystal, (6, 6, 1))
    primitive = layer_primitive(large, 1)
    look = Ask("dense", n_bands=12, sigma=-2.8, observers=(spectral_weight(large, primitive, K_POINT),))
    pencil, k = Pencil.channels(large)[0], primitive.folded(K_POINT)
    dense, sparse = (levels_at(pencil, k, replace(look, solver=solver)) for solver in ("dense", "shift_invert"))
    assert sparse.solver == "shift_invert"
    assert np.allclose(dense.energies, sparse.energies, rtol=0, atol=1e-9)
    assert np.allclose(dense.observed["spectral weight"], sparse.observed["spectral weight"], rtol=0, atol=1e-7)


def test_displaced_atoms_still_belong_to_their_sites(shared_data: Path):
    for folder in ("twisted_bilayer_graphene/1-2-thermal", "bilayer_graphene/003"):
        c = readers.read(shared_data / "openmx" / folder)
        primitive = layer_primitive(c, 1)
        assert primitive.n_cells in (4, 7) and 0.02 < primitive.displacement < 0.2
        assert primitive.structure(c.structure).n_atoms == 2


@pytest.mark.parametrize("vibration", [0.0, 0.04])
def test_the_cells_of_the_magic_angle_are_found_in_vibrating_layers_too(vibration):
    s = twisted_bilayer(graphene_layer(), 31, 32, 3.35)
    heights = s.positions[:, 2]
    noise = np.random.default_rng(0).normal(scale=vibration, size=s.positions.shape)
    moved = Structure(s.positions + noise, s.lattice, s.numbers, s.pbc)
    for atoms in (heights < heights.mean(), heights > heights.mean()):
        primitive = primitive_of(moved, np.flatnonzero(atoms))
        assert primitive.n_cells == 2977
        assert np.allclose(np.linalg.norm(primitive.lattice[:2], axis=1), 2.46, rtol=0, atol=1e-4)


def test_atoms_outside_the_cell_and_another_origin_change_nothing(crystal):
    large = repeated(crystal, (3, 2, 1))
    s = large.structure
    steps = np.zeros((s.n_atoms, 3))
    steps[::5] = 2 * s.lattice[0] - s.lattice[1]
    moved = slater_koster(Structure(s.positions + steps + [0.3, -7.0, 1.0], s.lattice, s.numbers))
    spectra = [unfold(c, None, "GM", 2.0, settings=Settings("dense")) for c in (large, moved)]
    for name in ("energies", "kpoints"):
        assert np.allclose(*(getattr(spectrum, name) for spectrum in spectra), rtol=0, atol=1e-9)
    assert np.allclose(*(spectrum.weights[UNFOLDED].values for spectrum in spectra), rtol=0, atol=1e-8)


def test_a_given_lattice_is_used():
    large = repeated(graphene(), (2, 2, 1))
    doubled = honeycomb().lattice[:2] * [[2.0], [1.0]]
    assert layer_primitive(large, 1, doubled).n_cells == 2
    assert layer_primitive(large, 1).n_cells == 4


@pytest.mark.parametrize(
    ("layer", "lattice", "message"),
    [
        (3, None, r"unfold.layer: layer 3. Expected 1 to 1, the layers that bonds make, from below"),
        (1, [[2.0, 0, 0], [0, 2.0, 0]], r"unfold, layer 1: the cell is no multiple of the primitive lattice"),
        (1, [[1.23, 0, 0], [0, 0, 20.0]], r"no multiple|sites with"),
        (1, [[1.0, 0, 0]], r"a lattice of shape \(1, 3\). Expected two or three vectors"),
    ],
)
def test_what_cannot_be_unfolded_is_refused(layer, lattice, message):
    with pytest.raises(InputError, match=message):
        layer_primitive(repeated(graphene(), (2, 2, 1)), layer, None if lattice is None else np.array(lattice))


def test_a_layer_with_a_vacancy_has_no_smaller_cell(crystal):
    s = repeated(crystal, (2, 2, 1)).structure
    c = slater_koster(Structure(s.positions[1:], s.lattice, s.numbers[1:]))
    assert layer_primitive(c, None).n_cells == 1
    with pytest.raises(InputError, match="sites with 3, 4 atoms in 4 primitive cells"):
        layer_primitive(c, None, crystal.structure.lattice)
