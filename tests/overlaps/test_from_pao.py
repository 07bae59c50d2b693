from pathlib import Path

import numpy as np
import pytest
from scipy.special import gamma

from orbitrace import overlaps, readers
from orbitrace.errors import InputError
from orbitrace.overlaps import from_data, from_pao
from orbitrace.overlaps._radial_integrals import TABLE_ERROR, Transforms, bond_table, slater_koster
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.definite import at_gamma, lowest_eigenvalue
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.slater_koster import TwoCentreTable, channels
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.units import OPENMX_BOHR, OPENMX_HARTREE

# Gaussians r^l exp(-a r^2), normalised, on a mesh like those of the files: closed forms of all integrals are known.
EXPONENTS = {6: {0: (0.9, 0.4), 1: (0.7,), 2: (1.0,), 3: (1.1,)}, 7: {0: (1.2,), 1: (0.8, 0.5)}}  # Bohr^-2
NAMES = {6: "C8.0-s2p1d1f1", 7: "N8.0-s1p2"}
RADII = np.exp(np.linspace(-10.0, 2.4, 3000))

HERMITE = np.polynomial.hermite.hermgauss(6)

Polynomial = dict[tuple[int, int, int], float]


def write_pao(file: Path, number: int, functions: dict[int, list[np.ndarray]], cutoff: float = 8.0) -> None:
    """A file with these functions, filled up with zeros to equal numbers for each l."""
    most = max(map(len, functions.values()))
    lines = [f"AtomSpecies  {number}", f"valence.electron  {number - 2}.0", f"grid.num.output  {len(RADII)}  # default=2000"]
    lines += [f"radial.cutoff.pao  {cutoff}  # (Bohr)", f"PAO.Lmax  {max(functions)}", f"PAO.Mul  {most}"]
    for l, columns in functions.items():
        padded = [*columns, *[np.zeros_like(RADII)] * (most - len(columns))]
        rows = np.stack([np.log(RADII), RADII, *padded], axis=1)
        body = [" ".join(f"{x:.15e}" for x in row) for row in rows]
        lines += [f"<pseudo.atomic.orbitals.L={l}", *body, f"pseudo.atomic.orbitals.L={l}>"]
    file.write_text("\n".join(lines) + "\n")


def gaussian(l: int, a: float) -> np.ndarray:
    return norm(l, a) * RADII**l * np.exp(-a * RADII**2)


def norm(l: int, a: float) -> float:
    return float(np.sqrt(2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5)))


@pytest.fixture(scope="module")
def gaussians(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pao")
    for z, exponents in EXPONENTS.items():
        stem = NAMES[z].partition("-")[0]
        write_pao(folder / f"{stem}.pao", z, {l: [gaussian(l, a) for a in some] for l, some in exponents.items()})
    return folder


@pytest.fixture(scope="module")
def basis(gaussians: Path) -> Basis:
    return from_pao.named_basis(NAMES.values(), gaussians)


@pytest.fixture(scope="module")
def table(basis: Basis, gaussians: Path) -> TwoCentreTable:
    return from_pao.build(basis, gaussians)


@pytest.fixture(scope="module")
def molecule() -> Structure:
    positions = np.array([[0.0, 0.0, 0.0], [0.4, -0.9, 0.7], [1.3, 0.8, -0.6], [0.0, 0.0, 2.9]])
    return Structure(positions, np.zeros((3, 3)), np.array([6, 7, 6, 7]), (False, False, False))


def test_overlaps_of_gaussians_are_the_closed_form(molecule: Structure, basis: Basis, table: TwoCentreTable) -> None:
    blocks = overlaps.overlap("from_pao", molecule, basis, table=table)
    for pair, (_, _, _, i, j) in enumerate(blocks.pairs):
        np.testing.assert_allclose(blocks.block(pair), closed_form(molecule, i, j, kinetic=False), atol=1e-8)


def test_kinetic_energies_of_gaussians_are_the_closed_form(molecule: Structure, basis: Basis, gaussians: Path) -> None:
    blocks = from_pao.kinetic(molecule, basis, where="molecule", pao=gaussians)
    for pair, (_, _, _, i, j) in enumerate(blocks.pairs):
        exact = OPENMX_HARTREE * closed_form(molecule, i, j, kinetic=True)
        np.testing.assert_allclose(blocks.block(pair), exact, atol=1e-6)
    assert lowest_eigenvalue(at_gamma(blocks, molecule, basis)) > 0


# Real harmonics of the house as polynomials, m = -l..l.
HARMONICS: dict[int, list[Polynomial]] = {
    0: [{(0, 0, 0): np.sqrt(1 / (4 * np.pi))}],
    1: [{key: np.sqrt(3 / (4 * np.pi))} for key in ((0, 1, 0), (0, 0, 1), (1, 0, 0))],
    2: [
        {(1, 1, 0): np.sqrt(15 / (4 * np.pi))},
        {(0, 1, 1): np.sqrt(15 / (4 * np.pi))},
        {key: c * np.sqrt(5 / (16 * np.pi)) for key, c in (((0, 0, 2), 2), ((2, 0, 0), -1), ((0, 2, 0), -1))},
        {(1, 0, 1): np.sqrt(15 / (4 * np.pi))},
        {key: c * np.sqrt(15 / (16 * np.pi)) for key, c in (((2, 0, 0), 1), ((0, 2, 0), -1))},
    ],
    3: [
        {key: c * np.sqrt(35 / (32 * np.pi)) for key, c in (((2, 1, 0), 3), ((0, 3, 0), -1))},
        {(1, 1, 1): np.sqrt(105 / (4 * np.pi))},
        {key: c * np.sqrt(21 / (32 * np.pi)) for key, c in (((0, 1, 2), 4), ((2, 1, 0), -1), ((0, 3, 0), -1))},
        {key: c * np.sqrt(7 / (16 * np.pi)) for key, c in (((0, 0, 3), 2), ((2, 0, 1), -3), ((0, 2, 1), -3))},
        {key: c * np.sqrt(21 / (32 * np.pi)) for key, c in (((1, 0, 2), 4), ((3, 0, 0), -1), ((1, 2, 0), -1))},
        {key: c * np.sqrt(105 / (16 * np.pi)) for key, c in (((2, 0, 1), 1), ((0, 2, 1), -1))},
        {key: c * np.sqrt(35 / (32 * np.pi)) for key, c in (((3, 0, 0), 1), ((1, 2, 0), -3))},
    ],
}


def closed_form(structure: Structure, i: int, j: int, *, kinetic: bool) -> np.ndarray:
    """The block of two atoms with Gaussians: products of integrals over x, y, z. Atomic units."""
    vector = (structure.positions[j] - structure.positions[i]) / OPENMX_BOHR
    rows, columns = orbitals(structure.numbers[i]), orbitals(structure.numbers[j])
    block = np.zeros((len(rows), len(columns)))
    for row, (_, a, bra) in enumerate(rows):
        for column, (l, b, ket) in enumerate(columns):
            image = minus_half_laplacian(ket, l, b) if kinetic else ket
            block[row, column] = sum(
                ca * cb * np.prod([line_integral(p, q, a, b, x) for p, q, x in zip(ka, kb, vector, strict=True)])
                for ka, ca in bra.items()
                for kb, cb in image.items()
            )
    return block


def orbitals(z: int) -> list[tuple[int, float, Polynomial]]:
    """(l, exponent, normalised polynomial) of each orbital of an atom."""
    shells = [(l, a) for l, some in EXPONENTS[int(z)].items() for a in some]
    return [(l, a, {key: norm(l, a) * c for key, c in part.items()}) for l, a in shells for part in HARMONICS[l]]


def minus_half_laplacian(polynomial: Polynomial, l: int, b: float) -> Polynomial:
    """-1/2 laplacian of a harmonic polynomial of degree l times exp(-b r^2): (b (2l + 3) - 2 b^2 r^2) times the same."""
    result = {key: b * (2 * l + 3) * c for key, c in polynomial.items()}
    for (p, q, r), c in polynomial.items():
        for key in ((p + 2, q, r), (p, q + 2, r), (p, q, r + 2)):
            result[key] = result.get(key, 0.0) - 2 * b**2 * c
    return result


def line_integral(p: int, q: int, a: float, b: float, distance: float) -> float:
    """Integral of x^p (x - d)^q exp(-a x^2 - b (x - d)^2): by Gauss-Hermite points, which is exact."""
    nodes, weights = HERMITE
    x = nodes / np.sqrt(a + b) + b * distance / (a + b)
    overlap = np.exp(-a * b / (a + b) * distance**2) / np.sqrt(a + b)
    return float(overlap * (weights * x**p * (x - distance) ** q).sum())


def test_finer_points_approach_the_closed_form() -> None:
    shells = Basis.from_json({"N": {"ls": [0, 1, 1], "cutoff": 8 * OPENMX_BOHR}})[7]
    mesh = np.exp(np.linspace(-14, 2.4, 20000))
    functions = [norm(l, a) * mesh**l * np.exp(-a * mesh**2) for l, some in EXPONENTS[7].items() for a in some]
    pair = Structure(np.array([[0.0, 0, 0], [0, 0, 1.4]]), np.zeros((3, 3)), np.array([7, 7]), (False, False, False))
    exact = closed_form(pair, 0, 1, kinetic=False)
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


@pytest.mark.parametrize("quantity", ["overlap", "kinetic"])
def test_splines_err_by_what_they_state(quantity: from_pao.Quantity) -> None:
    points = from_pao.Quadrature().points
    k = points.k
    shells = Basis.from_json({"C": {"ls": [0, 1, 2], "cutoff": 3.0}})[6]
    own = Transforms(shells, np.stack([k**l * np.exp(-(k**2) / 60) for l in shells.ls]))  # reaches far in k: hard to fit
    bond = bond_table(own, own, quantity, points)
    distances = np.random.default_rng(0).uniform(0, bond.cutoff, 200)
    exact = slater_koster(own, own, distances, quantity, points)
    largest = np.abs(slater_koster(own, own, np.zeros(1), quantity, points)).max()
    assert bond.residual <= TABLE_ERROR * largest
    assert np.abs(bond.at(distances) - exact).max() <= 2 * TABLE_ERROR * largest


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


@pytest.fixture(scope="session")
def pao(shared_data: Path) -> Path:
    return shared_data / "openmx" / "DFT_DATA13" / "PAO"


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
