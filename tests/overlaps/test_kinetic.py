"""Kinetic energies from radial functions: closed forms, hydrogen, and contracted Gaussians of quantum chemistry."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gaussians import NAMES, closed_form, ions, molecule, orbs, paos, write_ion, write_pao
from orbitrace import overlaps
from orbitrace.errors import InputError
from orbitrace.overlaps import from_ion, from_orb, from_pao
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.definite import at_gamma, lowest_eigenvalue
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Structure
from orbitrace.units import ABACUS_BOHR, ABACUS_RYDBERG, OPENMX_BOHR, OPENMX_HARTREE, SIESTA_BOHR, SIESTA_RYDBERG

# way: (writes its files, reads the basis from them, Bohr, Hartree)
WAYS = {
    "pao": (paos, lambda folder: from_pao.named_basis(NAMES.values(), folder), OPENMX_BOHR, OPENMX_HARTREE),
    "ion": (ions, lambda folder: from_ion.read_basis([6, 7], folder), SIESTA_BOHR, 2 * SIESTA_RYDBERG),
    "orb": (orbs, lambda folder: from_orb.read_basis([6, 7], folder), ABACUS_BOHR, 2 * ABACUS_RYDBERG),
}


@pytest.mark.parametrize("way", WAYS)
def test_overlaps_and_kinetic_energies_of_gaussians_are_the_closed_forms(tmp_path: Path, way: str) -> None:
    write, read, bohr, hartree = WAYS[way]
    inputs, structure = {way: write(tmp_path)}, molecule()
    basis: Basis = read(tmp_path)
    makers: list[tuple[Callable[..., Blocks], float, float]] = [
        (overlaps.overlap, 1.0, 1e-8),
        (overlaps.kinetic, hartree, 1e-6),
    ]
    for make, unit, error in makers:
        blocks = make(f"from_{way}", structure, basis, **inputs)
        for i, j in zip(*np.triu_indices(4), strict=True):
            exact = unit * closed_form(structure, i, j, bohr, kinetic=make is overlaps.kinetic)
            np.testing.assert_allclose(blocks.block(blocks.find(i, j)), exact, atol=error)
        assert lowest_eigenvalue(at_gamma(blocks, structure, basis)) > 0


@pytest.fixture(scope="module")
def hydrogen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 1s function of the hydrogen atom, up to 16 Bohr."""
    folder = tmp_path_factory.mktemp("hydrogen")
    r = np.exp(np.linspace(-12.0, np.log(17.0), 6000))
    write_pao(folder, 1, r, {0: [2 * np.exp(-r)]}, 16.0)
    return folder


def test_hydrogen_obeys_the_virial_theorem(hydrogen: Path) -> None:
    basis = from_pao.named_basis(["H16.0-s1"], hydrogen)
    tables = {name: from_pao.build(basis, hydrogen, name) for name in ("overlap", "kinetic")}
    for bonds in (0.7, 1.4, 2.8):  # Bohr
        pair = Structure(
            np.array([[0.0, 0, 0], [0, 0, bonds * OPENMX_BOHR]]), np.zeros((3, 3)), np.array([1, 1]), (False,) * 3
        )
        s = overlaps.overlap("from_pao", pair, basis, table=tables["overlap"])
        t = overlaps.kinetic("from_pao", pair, basis, table=tables["kinetic"])
        assert s.block(s.find(0, 0))[0, 0] == pytest.approx(1.0, abs=1e-6)
        # <T> = -E = half a Hartree. The cusp makes k^4 F^2 fall as 1 / k^4, and the integral ends at 60 / Bohr.
        assert t.block(t.find(0, 0))[0, 0] == pytest.approx(OPENMX_HARTREE / 2, rel=2e-5)
        assert s.block(s.find(0, 1))[0, 0] == pytest.approx(np.exp(-bonds) * (1 + bonds + bonds**2 / 3), abs=1e-6)
        exact = OPENMX_HARTREE / 2 * np.exp(-bonds) * (1 + bonds - bonds**2 / 3)
        assert t.block(t.find(0, 1))[0, 0] == pytest.approx(exact, abs=1e-4)


@pytest.mark.slow
def test_contracted_gaussians_have_the_matrices_of_pyscf(tmp_path: Path) -> None:
    gto = pytest.importorskip("pyscf.gto")
    positions = {"C": [0.0, 0.1, -0.2], "H": [0.9, -0.3, 0.5], "O": [-0.6, 0.7, 1.0]}  # Å
    atoms = gto.M(
        atom=[(name, np.array(x) / SIESTA_BOHR) for name, x in positions.items()], basis="sto-3g", unit="Bohr", spin=1
    )
    numbers, r = np.array([6, 1, 8]), np.linspace(0.0, 10.0, 4000)
    for atom, number in enumerate(numbers):
        functions = []
        for shell in range(atoms.nbas):
            if atoms.bas_atom(shell) == atom:
                exponents, weights = atoms.bas_exp(shell), atoms._libcint_ctr_coeff(shell)[:, 0]  # those of r^l exp(-a r^2)
                functions.append((atoms.bas_angular(shell), np.exp(-np.outer(r**2, exponents)) @ weights))
        write_ion(tmp_path, int(number), functions, 10.0)
    structure = Structure(np.array(list(positions.values())), np.zeros((3, 3)), numbers, (False, False, False))
    basis = from_ion.read_basis(structure.elements, tmp_path)
    order = {0: [0], 1: [1, 2, 0]}  # x, y, z -> y, z, x
    places = np.concatenate([atoms.ao_loc_nr()[b] + np.array(order[atoms.bas_angular(b)]) for b in range(atoms.nbas)])
    for make, name, unit, error in (
        (overlaps.overlap, "int1e_ovlp", 1.0, 1e-7),
        (overlaps.kinetic, "int1e_kin", 2 * SIESTA_RYDBERG, 1e-4),
    ):
        mine = np.asarray(at_gamma(make("from_ion", structure, basis, ion=tmp_path), structure, basis))
        theirs = unit * atoms.intor(name)[np.ix_(places, places)]
        assert np.abs(mine - theirs).max() < error, (name, np.abs(mine - theirs).max())


def test_a_table_of_another_matrix_is_refused(hydrogen: Path, tmp_path: Path) -> None:
    basis = from_pao.named_basis(["H16.0-s1"], hydrogen)
    structure = Structure(np.array([[0.0, 0, 0], [0, 0, 0.7]]), np.zeros((3, 3)), np.array([1, 1]), (False, False, False))
    tables = {name: from_pao.build(basis, hydrogen, name) for name in ("overlap", "kinetic")}
    file = tmp_path / "kinetic.npz"
    from_pao.write_table(file, tables["kinetic"])
    with pytest.raises(InputError, match=r"mine: the table is one of the kinetic energy\. Expected one of the overlap"):
        overlaps.overlap("from_pao", structure, basis, where="mine", table=file)
    with pytest.raises(InputError, match="the table is one of the overlap"):
        overlaps.kinetic("from_pao", structure, basis, where="mine", table=tables["overlap"])
    with pytest.raises(InputError, match="the table is one of the kinetic energy"):
        overlaps.overlap("from_data", structure, basis, table=tables["kinetic"])
    again = overlaps.kinetic("from_pao", structure, basis, table=file)
    np.testing.assert_array_equal(again.values, tables["kinetic"].blocks(structure, basis, again.pairs).values)


def test_a_way_without_kinetic_energies_is_refused_with_those_that_have_them() -> None:
    with pytest.raises(InputError, match=r"mine: the way from_data knows overlaps.*from_ion, from_orb, from_pao"):
        overlaps.kinetic("from_data", molecule(), Basis({}), where="mine")
