"""OpenMX: the matrices that are read have OpenMX's own eigenvalues, for every version and treatment of spin."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orbitrace import readers
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Spin
from orbitrace.physics.neighbours import find_pairs
from orbitrace.readers import openmx

Levels = Callable[[Calculation, np.ndarray], np.ndarray]

BANDS = [
    *(f"formats/openmx/{name}" for name in ("fe", "gaas", "gaas_38", "si2", "si2_38", "si2_40")),
    *(f"openmx/bilayer_graphene_primitive/{name}" for name in ("AA", "AB")),
    *(f"openmx/twisted_bilayer_graphene/{name}" for name in ("1-2", "1-2-thermal", "2-3")),
    "openmx/mos2/prim",
    "openmx/bismuthene_soc/prim",
]
MESHES = [  # no .Band, but levels of the self-consistent mesh in .out
    *(f"formats/openmx/{name}" for name in ("h2o", "h2of", "mote2")),
    *(f"openmx/bilayer_graphene/{number:03d}" for number in (0, 17, 47)),
    *(f"openmx/mos2/{number:03d}" for number in range(4)),
    *(f"openmx/bismuthene_soc/{number:03d}" for number in range(3)),
    *(f"openmx/graphene_hbn/{number:03d}" for number in range(5)),
]
OTHER_BILAYERS = [f"openmx/bilayer_graphene/{number:03d}" for number in range(48) if number not in (0, 17, 47)]


def check_bands(folder: Path, levels: Levels, n_points: int) -> None:
    calculation = readers.read(folder)
    reference = readers.reference_spectrum(folder)
    assert reference is not None and calculation.fermi_level is not None
    assert reference.fermi_level == pytest.approx(calculation.fermi_level, abs=1e-10)
    np.testing.assert_allclose(reference.lattice, calculation.structure.lattice, atol=1e-12)
    for k in np.linspace(0, len(reference.kpoints) - 1, n_points).astype(int):
        found = levels(calculation, reference.kpoints[k])
        np.testing.assert_allclose(found, reference.energies[:, k], rtol=0, atol=3e-8)


def check_mesh(folder: Path, levels: Levels, tolerance: float = 5e-7) -> None:
    """Levels up to 30 eV above E_F at points that .out prints exactly: k = -k, where rounding k has no effect."""
    calculation = readers.read(folder)
    reference = openmx.scf_levels(folder)
    assert reference is not None and calculation.fermi_level is not None
    exact = np.flatnonzero((reference.kpoints * 2 == np.round(reference.kpoints * 2)).all(axis=1))
    assert len(exact) >= 1
    for k in exact[:2]:
        expected = reference.energies[:, k]
        found = levels(calculation, reference.kpoints[k])[:, : expected.shape[1]]
        low = expected < calculation.fermi_level + 30
        np.testing.assert_allclose(found[low], expected[low], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["AB", "twisted_1_2"])
def test_bands_of_the_embedded_example_are_those_of_openmx(example: Path, levels: Levels, name: str) -> None:
    check_bands(example / "references" / name, levels, 5)


@pytest.mark.parametrize("name", BANDS)
def test_bands_are_those_of_openmx(shared_data: Path, levels: Levels, name: str) -> None:
    check_bands(shared_data / name, levels, 2 if name.endswith("2-3") else 6)


@pytest.mark.parametrize("name", MESHES)
def test_levels_are_those_of_openmx_where_it_computed_no_bands(shared_data: Path, levels: Levels, name: str) -> None:
    check_mesh(shared_data / name, levels)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_BILAYERS)
def test_levels_of_all_bilayers(shared_data: Path, levels: Levels, name: str) -> None:
    check_mesh(shared_data / name, levels)


def test_all_levels_of_water_are_those_of_openmx(shared_data: Path, levels: Levels) -> None:
    calculation = readers.read(shared_data / "formats/openmx/h2o")
    reference = readers.reference_spectrum(shared_data / "formats/openmx/h2o")
    assert reference is not None and reference.kpoints.tolist() == [[0, 0, 0]]
    assert reference.fermi_level == pytest.approx(calculation.fermi_level)
    np.testing.assert_allclose(levels(calculation, np.zeros(3)), reference.energies[:, 0], rtol=0, atol=1e-6)
    assert calculation.structure.pbc == (False, False, False)


@pytest.mark.parametrize(
    ("name", "version", "spin", "valence"),
    [
        ("fe", "3.9.23; scfout layout 3 with Vxc; converged", Spin.COLLINEAR, {26: 16}),
        ("gaas", "3.9.23; scfout layout 3 with Vxc; converged", Spin.NONCOLLINEAR, {31: 13, 33: 15}),
        ("gaas_38", "3.8.5; scfout layout 0; converged", Spin.NONCOLLINEAR, {31: 13, 33: 15}),
        ("si2_40", "4.0; scfout layout 3; converged", Spin.NONE, {14: 4}),
        ("h2of", "3.9.23; scfout layout 3 with Vxc; converged", Spin.NONE, {1: 1, 8: 6}),
        ("mote2", "3.9.23; scfout layout 3 with Vxc; converged", Spin.NONE, {42: 14, 52: 16}),
    ],
)
def test_version_spin_and_electrons(shared_data: Path, name: str, version: str, spin: Spin, valence: dict[int, int]) -> None:
    found = readers.read(shared_data / "formats/openmx" / name)
    assert found.provenance.code == "openmx" and found.provenance.version == version
    assert list(found.provenance.hashes) == [f"{name}.scfout"]
    assert found.spin is spin
    assert {z: found.basis[z].valence for z in found.basis.elements} == valence
    assert found.n_electrons == sum(valence[int(z)] for z in found.structure.numbers)


def test_shells_and_radii_come_from_the_names_of_the_basis(shared_data: Path) -> None:
    basis = readers.read(shared_data / "formats/openmx/h2of").basis
    assert (str(basis[8]), str(basis[1])) == ("s2p2d2f1", "s2p1d1f1")
    assert basis[8].cutoff == pytest.approx(5.0 * 0.529177249)


def test_positions_are_the_binary_ones(shared_data: Path) -> None:
    # Given as (-0.10, 0.05, 0.02) Å; .out writes it folded into the cell.
    silicon = readers.read(shared_data / "formats/openmx/si2").structure
    np.testing.assert_allclose(silicon.positions, [[-0.10, 0.05, 0.02], [1.30, 1.41, 1.38]], atol=1e-12)
    # Given as fractions (1.25, -0.1, 0.3), which OpenMX folds before it runs.
    iron = readers.read(shared_data / "formats/openmx/fe").structure
    np.testing.assert_allclose(iron.positions[0] @ np.linalg.inv(iron.lattice), [0.25, 0.9, 0.3], atol=1e-12)


@pytest.mark.parametrize("name", ["si2", "gaas_38", "h2of", "mote2"])
def test_pairs_are_all_within_reach(shared_data: Path, name: str) -> None:
    found = readers.read(shared_data / "formats/openmx" / name)
    np.testing.assert_array_equal(found.hamiltonian.pairs, find_pairs(found.structure, found.basis))


def real_harmonics(l: int, x: float, y: float, z: float) -> np.ndarray:
    """Real harmonics of a unit vector for m = -l..l without Condon-Shortley phase, each l up to a factor."""
    table = {
        1: (y, z, x),
        2: (x * y, y * z, (3 * z * z - 1) / 12**0.5, x * z, (x * x - y * y) / 2),
        3: (
            (3 * x * x * y - y**3) / 24**0.5,
            x * y * z,
            y * (5 * z * z - 1) / 40**0.5,
            (5 * z**3 - 3 * z) / 60**0.5,
            x * (5 * z * z - 1) / 40**0.5,
            z * (x * x - y * y) / 2,
            (x**3 - 3 * x * y * y) / 24**0.5,
        ),
    }
    values = np.array(table[l])
    return values / np.linalg.norm(values)


@pytest.mark.parametrize(("name", "l_max"), [("h2of", 3), ("si2", 2), ("gaas_38", 2), ("mote2", 2)])
def test_orbitals_stand_in_the_order_of_the_house(shared_data: Path, name: str, l_max: int) -> None:
    """Bands cannot see the order of m. An s orbital overlaps with a shell in proportion to the harmonics of the direction."""
    found = readers.read(shared_data / "formats/openmx" / name)
    vectors = found.structure.pair_vectors(found.overlap.pairs)
    seen = set()
    for pair in np.flatnonzero(~found.overlap.onsite):
        shells = found.basis[found.structure.numbers[found.overlap.pairs[pair, 4]]]
        row = found.overlap.block(int(pair))[0]
        for l, place in zip(shells.ls, shells.slices, strict=True):
            overlap = row[place]
            if l > 0 and np.linalg.norm(overlap) > 1e-4:
                expected = real_harmonics(l, *(vectors[pair] / np.linalg.norm(vectors[pair])))
                np.testing.assert_allclose(overlap, (overlap @ expected) * expected, atol=1e-6)
                seen.add(l)
    assert seen == set(range(1, l_max + 1))


def test_matrices_are_hermitian_to_the_last_bit(shared_data: Path) -> None:
    found = readers.read(shared_data / "formats/openmx/gaas")
    for blocks in (found.hamiltonian, found.overlap):
        np.testing.assert_array_equal(blocks.values, blocks.dagger().values)


def test_spin_orbit_coupling_keeps_time_reversal(shared_data: Path) -> None:
    """Without magnetism H = sigma_y H* sigma_y; du from the same pair instead of the reverse would break that by 0.5 eV."""
    blocks = readers.read(shared_data / "formats/openmx/gaas").hamiltonian
    coupling = 0.0
    for pair in range(blocks.n_pairs):
        rows, columns = blocks.shapes[pair] // 2
        block = blocks.block(pair)
        uu, ud, du, dd = block[:rows, :columns], block[:rows, columns:], block[rows:, :columns], block[rows:, columns:]
        np.testing.assert_allclose(dd, uu.conj(), atol=1e-5)
        np.testing.assert_allclose(du, -ud.conj(), atol=1e-5)
        coupling = max(coupling, float(np.abs(ud).max()))
    assert coupling > 0.1


def test_up_and_down_of_iron_are_split_by_exchange(shared_data: Path) -> None:
    folder = shared_data / "formats/openmx/fe"
    reference = readers.reference_spectrum(folder)
    assert reference is not None and reference.energies.shape == (2, 6, 10)
    assert reference.labels == ((0, "Q"), (5, "G"))
    assert 1.0 < (reference.energies[1] - reference.energies[0]).mean() < 4.0
    assert readers.read(folder).hamiltonian.values.dtype == np.float64


def test_labels_of_a_path_of_several_pieces(example: Path) -> None:
    reference = readers.reference_spectrum(example / "references" / "AB")
    assert reference is not None
    assert reference.labels == ((0, "K"), (39, "G"), (40, "G"), (79, "M"), (80, "M"), (99, "K"))
    distances = reference.distances
    assert distances[39] == distances[40] and (np.diff(distances) >= 0).all()


def test_no_bands_is_none(example: Path) -> None:
    assert readers.reference_spectrum(example / "data" / "bilayers" / "000") is None


def rewritten(data: bytes, sections: dict[str, tuple[int, str, int]], order: str) -> bytes:
    """The same file as a machine of the other byte order would write it."""
    parts = [np.frombuffer(data, dtype, count, at).astype(dtype.replace("<", order)) for at, dtype, count in sections.values()]
    return b"".join(part.tobytes() for part in parts)


def assert_same_matrices(one: Calculation, other: Calculation) -> None:
    blocks: tuple[tuple[Blocks, Blocks], ...] = ((one.hamiltonian, other.hamiltonian), (one.overlap, other.overlap))
    for a, b in blocks:
        np.testing.assert_array_equal(a.pairs, b.pairs)
        np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(one.structure.positions, other.structure.positions)


def test_files_of_machines_with_the_other_byte_order(
    tmp_path: Path, example: Path, scfout: bytes, sections: Callable[[bytes], dict[str, tuple[int, str, int]]]
) -> None:
    parts = sections(scfout)
    at, _, count = parts["rest"]
    parts["rest"] = (at, "<f8", count // 8)
    (tmp_path / "swapped.scfout").write_bytes(rewritten(scfout, parts, ">"))
    swapped = readers.read(tmp_path)
    assert_same_matrices(swapped, readers.read(example / "references" / "AB"))
    assert swapped.provenance.version == "3.9 or 4.0; scfout layout 3 with Vxc; convergence unknown"


@pytest.mark.parametrize("with_vxc", [True, False])
def test_text_appended_to_the_file_is_its_report(
    tmp_path: Path, scfout: bytes, report: str, sections: Callable[[bytes], dict[str, tuple[int, str, int]]], with_vxc: bool
) -> None:
    end = len(scfout) if with_vxc else sections(scfout)["rest"][0]
    (tmp_path / "openmx.scfout").write_bytes(scfout[:end] + report.encode())
    found = readers.read(tmp_path)
    assert found.provenance.version == f"3.9.23; scfout layout 3{' with Vxc' if with_vxc else ''}; converged"


def test_a_report_beside_the_file_may_hold_several_runs(tmp_path: Path, scfout: bytes, report: str) -> None:
    (tmp_path / "openmx.scfout").write_bytes(scfout)
    failed = report.replace("-0.1", "0.1").replace("Uele= -", "Uele= nan")
    (tmp_path / "openmx.out").write_text(failed + report)
    assert readers.read(tmp_path).provenance.version.endswith("converged")


ONE_POINT = """
           Eigenvalues (Hartree) of SCF KS-eq.
   Eigenvalues
              Up-spin           Down-spin
{point}
    1   -0.93655484545503  -0.93655484545503
    2   -0.93211075099536  -0.93211075099536
    Mulliken populations
"""


@pytest.mark.parametrize("point", ["", "   kloop=0\n   k1=   0.00000 k2=   0.00000 k3=   0.00000\n"])
def test_levels_of_a_crystal_at_one_point_are_not_those_of_a_molecule(tmp_path: Path, scfout: bytes, point: str) -> None:
    (tmp_path / "openmx.scfout").write_bytes(scfout)
    (tmp_path / "openmx.out").write_text(ONE_POINT.format(point=point))
    listed = openmx.scf_levels(tmp_path)
    assert listed is not None and listed.energies.shape == (1, 1, 2)
    assert readers.reference_spectrum(tmp_path) is None
