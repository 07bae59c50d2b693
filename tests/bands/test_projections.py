"""Weights of states on elements, atoms, shells, orbitals and layers, and populations as the DFT code prints them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tight_binding import honeycomb, polarised, slater_koster

from orbitrace import readers
from orbitrace.bands.populations import populations
from orbitrace.bands.projections import KINDS, layers, projection
from orbitrace.bands.spectrum import Settings, band_structure
from orbitrace.bands.supercell import repeated
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.orbitals import SYMBOLS

K_POINTS = np.array([[0.0, 0.0, 0.0], [0.17, 0.31, 0.0]])
ORBITALS = {"s", "px", "py", "pz", "d3z^2-r^2", "dx^2-y^2", "dxy", "dxz", "dyz"}  # as OpenMX calls them


def weights(calculation: Calculation, **settings: object):
    return band_structure(calculation, K_POINTS, settings=Settings(projections=KINDS, fermi="auto", **settings)).weights


@pytest.mark.parametrize("spin", list(Spin))
def test_all_weights_of_a_state_sum_to_one(spin):
    c = slater_koster(honeycomb())
    if spin is not Spin.NONE:
        c = polarised(c, 0.3)
    if spin is Spin.NONCOLLINEAR:
        c = replace(c, hamiltonian=c.hamiltonian.with_values(c.hamiltonian.values.astype(complex)), spin=spin)
    found = weights(replace(c, fermi_level=0.0))
    assert set(found) == set(KINDS)
    for part in found.values():
        assert part.values.shape[-1] == len(part.groups)
        assert np.allclose(part.values.sum(axis=-1), 1.0, rtol=0, atol=1e-12)
    assert found["shell"].groups == ("C s", "C p") and found["atom"].groups == ("C1", "C2")


def test_the_parts_of_a_shell_are_its_orbitals():
    found = weights(slater_koster(honeycomb()))
    orbitals, shells = found["orbital"], found["shell"]
    assert orbitals.groups == ("C s", "C py", "C pz", "C px")
    assert np.allclose(orbitals.values[..., 1:].sum(axis=-1), shells.values[..., 1], rtol=0, atol=1e-12)
    pz = orbitals.values[0, 1, :, 2]  # a flat layer: pz mixes with nothing
    assert np.allclose(np.sort(pz)[-2:], 1.0, rtol=0, atol=1e-9) and np.allclose(np.sort(pz)[:-2], 0.0, rtol=0, atol=1e-9)


def test_a_sparse_solver_gives_the_same_weights():
    rippled = honeycomb()
    positions = rippled.positions + np.array([[0.0, 0.1, 0.2], [0.05, 0.0, -0.1]])
    c = replace(repeated(slater_koster(replace(rippled, positions=positions)), (6, 6, 1)), fermi_level=-2.8)
    k = [[0.17, 0.31, 0.0]]
    dense, sparse = (
        band_structure(c, k, settings=Settings(solver, n_bands=12, projections=("atom",)))
        for solver in ("dense", "shift_invert")
    )
    assert sparse.record["solver"] == "shift_invert"
    assert np.allclose(sparse.weights["atom"].values, dense.weights["atom"].values, rtol=0, atol=1e-7)


def test_a_window_of_bands_carries_its_weights():
    c = replace(slater_koster(honeycomb()), fermi_level=-2.8)
    some = band_structure(c, K_POINTS, settings=Settings(window=(-3.0, 3.0), projections=("shell",)))
    every = band_structure(c, K_POINTS, settings=Settings(projections=("shell",)))
    chosen = slice(some.first_band, some.first_band + some.energies.shape[2])
    assert np.allclose(some.weights["shell"].values, every.weights["shell"].values[:, :, chosen], rtol=0, atol=1e-9)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"unknown kind 'spin'. Expected one of element, atom, shell, orbital, layer"):
        projection(slater_koster(honeycomb()), "spin")


@pytest.mark.parametrize(
    ("folder", "sizes"),
    [("bilayer_graphene_primitive/AB", [2, 2]), ("graphene_hbn/000", [8, 8]), ("mos2/000", [3]), ("bismuthene_soc/000", None)],
)
def test_atoms_that_bonds_connect_are_a_layer(shared_data: Path, folder, sizes):
    c = readers.read(shared_data / "openmx" / folder)
    found = layers(c.structure, c.overlap.pairs)
    heights = [c.structure.positions[found == n, 2].mean() for n in range(found.max() + 1)]
    assert heights == sorted(heights)
    if sizes:
        assert np.bincount(found).tolist() == sizes


def test_layers_are_the_same_wherever_the_cell_begins(example: Path):
    c = readers.read(example / "references" / "twisted_1_2")
    found = layers(c.structure, c.overlap.pairs)
    assert np.bincount(found).tolist() == [14, 14]
    heights = c.structure.positions[:, 2]
    assert heights[found == 0].max() < heights[found == 1].min()


def printed(file: Path) -> list[dict[tuple[str, int], tuple[float, float]]]:
    """Decomposed Mulliken populations of each atom: (orbital, multiplicity) -> (up, down)."""
    atoms: list[dict[tuple[str, int], tuple[float, float]]] = []
    for line in file.read_text().partition("Decomposed Mulliken populations")[2].splitlines():
        if re.match(r"\s*\d+\s+[A-Z][a-z]?\s+Up spin", line):
            atoms.append({})
        elif "*****" in line and atoms:
            break
        elif (found := re.match(r"\s*(\S+)\s+(\d+)\s+(-?[\d.]+)\s+(-?[\d.]+)", line)) and found[1] in ORBITALS:
            atoms[-1][found[1], int(found[2])] = float(found[3]), float(found[4])
    return atoms


def expected(calculation: Calculation, atoms: list[dict[tuple[str, int], tuple[float, float]]]) -> np.ndarray:
    """[2, n_atoms] printed electrons of each atom, up and down."""
    return np.array([np.sum(list(atom.values()), axis=0) for atom in atoms[: calculation.structure.n_atoms]]).T


CASES = [
    ("openmx/bilayer_graphene_primitive/AB", (12, 12, 1)),
    ("openmx/mos2/prim", (8, 8, 1)),
    ("openmx/bismuthene_soc/prim", (6, 6, 1)),
    ("formats/openmx/si2", (4, 4, 4)),
    ("formats/openmx/fe", (5, 5, 5)),
]


@pytest.mark.parametrize(("folder", "mesh"), CASES)
def test_populations_are_those_that_openmx_prints(shared_data: Path, folder, mesh):
    """On its own mesh, with its own Fermi level and temperature; it prints nine decimals."""
    c = readers.read(shared_data / folder)
    atoms = printed(next((shared_data / folder).glob("*.out")))
    per_atom = expected(c, atoms)
    ours = populations(c, "atom", mesh).values
    if c.spin is Spin.COLLINEAR:
        assert abs(ours - per_atom).max() < 1e-7
    else:
        assert abs(ours[0] - per_atom.sum(axis=0)).max() < 2e-8
    shells = populations(c, "orbital", mesh)
    for name, electrons in zip(shells.groups, shells.values.sum(axis=0), strict=True):
        assert electrons == pytest.approx(of_orbital(c, atoms, name), abs=2e-7)


def of_orbital(c: Calculation, atoms: list[dict[tuple[str, int], tuple[float, float]]], group: str) -> float:
    """Printed electrons of all orbitals of a group such as "Mo dxy"."""
    symbol, orbital = group.split(" ", 1)
    theirs = {"dz²": "d3z^2-r^2", "dx²−y²": "dx^2-y^2"}.get(orbital, orbital)
    return sum(
        sum(spins)
        for z, atom in zip(c.structure.numbers, atoms, strict=False)
        if SYMBOLS[z] == symbol
        for (name, _), spins in atom.items()
        if name == theirs
    )
