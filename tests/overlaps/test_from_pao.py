from pathlib import Path

import numpy as np
import pytest

import gaussians as gaussians_of
from gaussians import EXPONENTS, NAMES, closed_form, gaussian, paos
from orbitrace import overlaps, readers
from orbitrace.errors import InputError
from orbitrace.overlaps import _radial_integrals, from_data, from_pao
from orbitrace.overlaps._pao_file import find_pao
from orbitrace.overlaps._radial_integrals import TABLE_ERROR, Transforms, bond_table, slater_koster
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.slater_koster import TwoCentreTable, channels
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.units import OPENMX_BOHR


@pytest.fixture(scope="module")
def gaussians(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paos(tmp_path_factory.mktemp("pao"))


@pytest.fixture(scope="module")
def basis(gaussians: Path) -> Basis:
    return from_pao.named_basis(NAMES.values(), gaussians)


@pytest.fixture(scope="module")
def table(basis: Basis, gaussians: Path) -> TwoCentreTable:
    return from_pao.build(basis, gaussians)


@pytest.fixture(scope="module")
def molecule() -> Structure:
    return gaussians_of.molecule()


def test_finer_points_approach_the_closed_form() -> None:
    shells = Basis.from_json({"N": {"ls": [0, 1, 1], "cutoff": 8 * OPENMX_BOHR}})[7]
    mesh = np.exp(np.linspace(-14, 2.4, 20000))
    functions = [gaussian(l, a, mesh) for l, some in EXPONENTS[7].items() for a in some]
    pair = Structure(np.array([[0.0, 0, 0], [0, 0, 1.4]]), np.zeros((3, 3)), np.array([7, 7]), (False, False, False))
    exact = closed_form(pair, 0, 1, OPENMX_BOHR, kinetic=False)
    errors = []
    for points in (from_pao.Quadrature(), from_pao.Quadrature(n_r=1800, n_k=7200)):
        own = from_pao.transform(shells, 8.0, mesh, functions, points)
        values = slater_koster(own, own, np.array([1.4]), "overlap", points.points)[0]
        places = [
            (shells.slices[a].start + shells.ls[a] + m, shells.slices[b].start + shells.ls[b] + m)
            for a, b, m in channels(shells, shells)
        ]
        errors.append(max(abs(value - exact[place]) for value, place in zip(values, places, strict=True)))
    assert errors[1] < 1e-10 < errors[0] < 1e-8


@pytest.fixture(scope="session")
def pao(shared_data: Path) -> Path:
    return shared_data / "openmx" / "DFT_DATA13" / "PAO"


@pytest.mark.parametrize("quantity", ["overlap", "kinetic"])
def test_splines_err_by_what_they_state_and_the_statement_can_be_made_as_small_as_one_likes(
    quantity: from_pao.Quantity, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = from_pao.Quadrature().points
    k = points.k
    shells = Basis.from_json({"C": {"ls": [0, 1, 2, 3], "cutoff": 3.0}})[6]
    own = Transforms(shells, np.stack([k**l * np.exp(-(k**2) / 60) for l in shells.ls]))  # reaches far in k: hard to fit
    distances = np.random.default_rng(0).uniform(0, 6.0, 200)
    exact = slater_koster(own, own, distances, quantity, points)
    largest = np.abs(slater_koster(own, own, np.zeros(1), quantity, points)).max()
    sizes = []
    for stated in (1e-6, 1e-8, TABLE_ERROR):
        monkeypatch.setattr(_radial_integrals, "TABLE_ERROR", stated)
        bond = bond_table(own, own, quantity, points)
        assert bond.residual <= stated * largest
        assert np.abs(bond.at(distances) - exact).max() <= 2 * stated * largest
        sizes.append(len(bond.coefficients))
    assert sizes == sorted(set(sizes))  # the knots grow denser until the error is that small


@pytest.mark.parametrize("names", [["O6.0-s2p2d2f1"], ["Mo7.0-s3p2d1", "S7.0-s2p2d1"], ["Bi8.0-s2p2d1"]])
def test_splines_of_real_orbitals_err_by_less_than_1e_9(pao: Path, names: list[str]) -> None:
    basis, points = from_pao.named_basis(names, pao), from_pao.Quadrature().points
    table = from_pao.build(basis, pao)
    _, known = from_pao.transforms(
        from_pao.Quadrature(), basis, {z: find_pao(pao, z, basis[z].cutoff) for z in basis.elements}
    )
    for (zi, zj), bond in table.bonds.items():
        distances = np.random.default_rng(1).uniform(0, bond.cutoff, 100)
        exact = slater_koster(known[zi], known[zj], distances, "overlap", points)
        assert np.abs(bond.at(distances) - exact).max() < 1e-10
        assert bond.residual < 1e-10


SAMPLES = [
    "openmx/bilayer_graphene/000",
    "openmx/bilayer_graphene_primitive/AB",
    "openmx/twisted_bilayer_graphene/1-2-thermal",
    "openmx/graphene_hbn/000",
    "openmx/mos2/001",
    "openmx/bismuthene_soc/001",
    "formats/openmx/h2o",
    "formats/openmx/h2of",
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_overlap_is_that_of_openmx(shared_data: Path, pao: Path, sample: str) -> None:
    calculation = readers.read(shared_data / sample)
    mine = overlaps.overlap("from_pao", calculation.structure, calculation.basis, pao=pao)
    np.testing.assert_array_equal(mine.pairs, calculation.overlap.pairs)
    assert np.abs(mine.values - calculation.overlap.values).max() < 1e-11  # 3e-12 measured; 1e-9 is the promise


def test_tables_from_files_and_from_data_agree(example: Path, pao: Path) -> None:
    data = [readers.read(folder) for folder in sorted((example / "data" / "bilayers").iterdir())]
    samples = [(c.structure, c.basis, c.overlap) for c in data]
    structure, own = twisted_bilayer(graphene(), 2, 3, 3.35), data[0].basis
    mine = overlaps.overlap("from_pao", structure, own, table=from_pao.fit(samples, pao=pao))
    theirs = overlaps.overlap("from_data", structure, own, table=from_data.fit(samples))
    assert np.abs(mine.values - theirs.values).max() < 1e-9


def test_named_basis_is_that_of_a_calculation(shared_data: Path, pao: Path) -> None:
    calculation = readers.read(shared_data / "openmx" / "mos2" / "prim")
    assert from_pao.named_basis(["Mo7.0-s3p2d1", "S7.0-s2p2d1"], pao) == calculation.basis


def test_a_table_is_written_and_read(molecule: Structure, basis: Basis, table: TwoCentreTable, tmp_path: Path) -> None:
    file = tmp_path / "overlap.npz"
    from_pao.write_table(file, table)
    once, again = (from_pao.overlap(molecule, basis, where="molecule", table=known) for known in (table, file))
    np.testing.assert_array_equal(once.values, again.values)


def test_a_table_is_fitted_to_the_basis_of_a_data_set(molecule: Structure, basis: Basis, gaussians: Path) -> None:
    carbon = Structure(molecule.positions[:1], molecule.lattice, molecule.numbers[:1], molecule.pbc)
    sample = (carbon, basis.restricted([6]), Blocks.over(np.zeros((0, 5), dtype=int), carbon, basis, np.zeros(0)))
    assert from_pao.fit([sample], pao=gaussians).basis == basis.restricted([6])
    with pytest.raises(InputError, match="no calculations"):
        from_pao.fit([], pao=gaussians)
    with pytest.raises(InputError, match=r"mine: no folder of \.pao files"):
        from_pao.fit([sample], "mine")


@pytest.mark.parametrize(
    ("ls", "cutoff", "message"),
    [
        ([0, 1], 5.0, r"no file C5\.0\.pao nor C5\.0H\.pao.*of C there is: C8\.0\.pao"),
        ([0, 1], 8.02, r"C8\.0\.pao: its orbitals end at 8\.000 Bohr\. Expected 8\.020 Bohr"),
        ([0, 0, 0, 1], 8.0, r"C8\.0\.pao: holds 2 radial functions s\. Expected at least 3"),
        ([0, 4], 8.0, r"C8\.0\.pao: holds 0 radial functions g"),
    ],
)
def test_a_basis_that_the_files_do_not_hold_is_refused(gaussians: Path, ls: list[int], cutoff: float, message: str) -> None:
    wanted = Basis.from_json({"C": {"ls": ls, "cutoff": cutoff * OPENMX_BOHR}})
    with pytest.raises(InputError, match=message):
        from_pao.build(wanted, gaussians)


def test_hard_and_soft_functions_must_be_told_apart(gaussians: Path, tmp_path: Path, basis: Basis) -> None:
    text = (gaussians / "N8.0.pao").read_text()
    (tmp_path / "N8.0H.pao").write_text(text)
    nitrogen = basis.restricted([7])
    assert from_pao.build(nitrogen, tmp_path).basis == nitrogen
    (tmp_path / "N8.0S.pao").write_text(text)
    with pytest.raises(InputError, match=r"holds N8\.0H\.pao, N8\.0S\.pao"):
        from_pao.build(nitrogen, tmp_path)
    assert from_pao.build(nitrogen, {7: tmp_path / "N8.0S.pao"}).basis == nitrogen
    with pytest.raises(InputError, match=r"no \.pao file is given for C"):
        from_pao.build(basis, {7: tmp_path / "N8.0S.pao"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("radial.cutoff.pao  8.0", "", r"has no radial\.cutoff\.pao"),
        ("PAO.Mul  2", "PAO.Mul  two", r"PAO\.Mul is 'two'"),
        ("PAO.Mul  2", "PAO.Mul  4", r"rows of 4 numbers\. Expected 3000 rows of 6"),
        ("radial.cutoff.pao  8.0", "radial.cutoff.pao  80.0", r"within its mesh"),
        ("AtomSpecies  7", "AtomSpecies  8", r"is of the atomic number 8"),
        ("\npseudo.atomic.orbitals.L=1>", "", r"<pseudo\.atomic\.orbitals\.L=1> is missing or has no end"),
        ("L=0\n-1.0", "L=0\n-1,0", r"something else than numbers"),
        ("L=0\n-1.0", "L=0\n-2.0", r"radii of <pseudo\.atomic\.orbitals\.L=0>"),
    ],
)
def test_a_damaged_file_is_refused(gaussians: Path, basis: Basis, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (gaussians / "N8.0.pao").read_text()
    assert text.count(old) == 1
    (tmp_path / "N8.0.pao").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        from_pao.build(basis.restricted([7]), tmp_path)
    assert "N8.0.pao" in str(caught.value)


def test_a_truncated_file_is_refused(gaussians: Path, basis: Basis, tmp_path: Path) -> None:
    text = (gaussians / "N8.0.pao").read_text()
    for share in (0.0, 0.0001, 0.3, 0.8):
        (tmp_path / "N8.0.pao").write_text(text[: int(share * len(text))])
        with pytest.raises(InputError, match=r"N8\.0\.pao"):
            from_pao.build(basis.restricted([7]), tmp_path)


def test_missing_inputs_are_named(molecule: Structure, basis: Basis, table: TwoCentreTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine: neither a table nor a folder of \.pao files"):
        from_pao.overlap(molecule, basis, where="mine")
    with pytest.raises(InputError, match="no such folder"):
        from_pao.overlap(molecule, basis, where="mine", pao=tmp_path / "absent")
    part = TwoCentreTable(basis.restricted([6]), table.bonds, table.onsite)
    with pytest.raises(InputError, match="mine: N is not in the table"):
        from_pao.overlap(molecule, basis, where="mine", table=part)
    other = Basis.from_json({"C": {"ls": [0, 1], "cutoff": 8 * OPENMX_BOHR}, "N": {"ls": [0], "cutoff": 8 * OPENMX_BOHR}})
    with pytest.raises(InputError, match=r"mine: C has the basis s1p1 .* as in the table"):
        from_pao.overlap(molecule, other, where="mine", table=table)


@pytest.mark.parametrize("name", ["C6.0", "Q6.0-s1", "C6.0-s2>1", "C6.0-x1", "6.0-s1"])
def test_names_that_are_no_basis_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"C6\.0-s2p2d1"):
        from_pao.named_basis([name], tmp_path)


def test_an_element_has_one_basis(gaussians: Path) -> None:
    with pytest.raises(InputError, match="C comes twice"):
        from_pao.named_basis(["C8.0-s1", "C8.0-s2"], gaussians)
    with pytest.raises(InputError, match=r"O8\.0\.pao: cannot be read"):
        from_pao.named_basis(["O8.0-s1"], gaussians)
