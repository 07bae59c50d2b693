"""Orbitals of Gaussians, r^l exp(-a r^2) times a real harmonic: closed forms of their integrals, and files with them."""

from pathlib import Path

import numpy as np
from scipy.io import netcdf_file
from scipy.special import gamma

from orbitrace.physics.orbitals import SYMBOLS
from orbitrace.physics.structure import Structure

# Atomic number -> l -> exponents, Bohr^-2.
EXPONENTS = {6: {0: (0.9, 0.4), 1: (0.7,), 2: (1.0,), 3: (1.1,)}, 7: {0: (1.2,), 1: (0.8, 0.5)}}
NAMES = {6: "C8.0-s2p1d1f1", 7: "N8.0-s1p2"}
CUTOFF = 8.0  # Bohr

Polynomial = dict[tuple[int, int, int], float]
_HERMITE = np.polynomial.hermite.hermgauss(6)


def norm(l: int, a: float) -> float:
    return float(np.sqrt(2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5)))


def gaussian(l: int, a: float, r: np.ndarray) -> np.ndarray:
    """The normalised radial function."""
    return norm(l, a) * r**l * np.exp(-a * r**2)


def molecule() -> Structure:
    """Four atoms with all kinds of bonds."""
    positions = np.array([[0.0, 0.0, 0.0], [0.4, -0.9, 0.7], [1.3, 0.8, -0.6], [0.0, 0.0, 2.9]])
    return Structure(positions, np.zeros((3, 3)), np.array([6, 7, 6, 7]), (False, False, False))


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


def closed_form(structure: Structure, i: int, j: int, bohr: float, *, kinetic: bool) -> np.ndarray:
    """The block of two atoms with Gaussians: products of integrals over x, y, z. Atomic units."""
    vector = (structure.positions[j] - structure.positions[i]) / bohr
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
    nodes, weights = _HERMITE
    x = nodes / np.sqrt(a + b) + b * distance / (a + b)
    overlap = np.exp(-a * b / (a + b) * distance**2) / np.sqrt(a + b)
    return float(overlap * (weights * x**p * (x - distance) ** q).sum())


def write_pao(folder: Path, z: int, r: np.ndarray, functions: dict[int, list[np.ndarray]], cutoff: float = CUTOFF) -> None:
    """A ``.pao`` file of functions on the mesh r, filled up with zeros to equal numbers for each l."""
    most = max(map(len, functions.values()))
    lines = [f"AtomSpecies  {z}", f"valence.electron  {max(z - 2, 1)}.0", f"grid.num.output  {len(r)}  # default=2000"]
    lines += [f"radial.cutoff.pao  {cutoff}  # (Bohr)", f"PAO.Lmax  {max(functions)}", f"PAO.Mul  {most}"]
    for l, columns in functions.items():
        padded = [*columns, *[np.zeros_like(r)] * (most - len(columns))]
        rows = np.stack([np.log(r), r, *padded], axis=1)
        body = [" ".join(f"{x:.15e}" for x in row) for row in rows]
        lines += [f"<pseudo.atomic.orbitals.L={l}", *body, f"pseudo.atomic.orbitals.L={l}>"]
    (folder / f"{SYMBOLS[z]}{cutoff:.1f}.pao").write_text("\n".join(lines) + "\n")


def paos(folder: Path) -> Path:
    """``.pao`` files of the Gaussians."""
    r = np.exp(np.linspace(-10.0, 2.4, 3000))
    for z, exponents in EXPONENTS.items():
        write_pao(folder, z, r, {l: [gaussian(l, a, r) for a in some] for l, some in exponents.items()})
    return folder


def write_ion(folder: Path, z: int, functions: list[tuple[int, np.ndarray]], cutoff: float = CUTOFF) -> None:
    """An ``.ion.nc`` file of functions (l, R / r^l), all on one linear mesh up to the cutoff."""
    n = len(functions[0][1])
    with netcdf_file(folder / f"{SYMBOLS[z]}.ion.nc", "w") as store:
        store.Atomic_number, store.Valence_charge = z, float(max(z - 2, 1))
        store.createDimension("norbs", len(functions))
        store.createDimension("ntb", n)
        store.createVariable("orbnl_l", "i4", ("norbs",))[:] = [l for l, _ in functions]
        store.createVariable("cutoff", "f8", ("norbs",))[:] = cutoff
        store.createVariable("delta", "f8", ("norbs",))[:] = cutoff / (n - 1)
        store.createVariable("orb", "f8", ("norbs", "ntb"))[:] = [values for _, values in functions]


def ions(folder: Path) -> Path:
    """``.ion.nc`` files of the Gaussians."""
    r = np.linspace(0.0, CUTOFF, 1000)
    for z, exponents in EXPONENTS.items():
        write_ion(folder, z, [(l, norm(l, a) * np.exp(-a * r**2)) for l, some in exponents.items() for a in some])
    return folder


def orbs(folder: Path) -> Path:
    """``.orb`` files of the Gaussians."""
    r = 0.01 * np.arange(round(CUTOFF / 0.01) + 1)
    for z, exponents in EXPONENTS.items():
        lines = [
            f"Element  {SYMBOLS[z]}",
            "Energy Cutoff(Ry)  100",
            f"Radius Cutoff(a.u.)  {CUTOFF:g}",
            f"Lmax  {max(exponents)}",
        ]
        lines += [f"Number of {'SPDF'[l]}orbital-->  {len(some)}" for l, some in exponents.items()]
        lines += ["SUMMARY  END", "", f"Mesh  {len(r)}", "dr  0.01"]
        for l, some in exponents.items():
            for zeta, a in enumerate(some):
                lines += ["  Type   L   N", f"  0   {l}   {zeta}", " ".join(f"{x:.15e}" for x in gaussian(l, a, r))]
        (folder / f"{SYMBOLS[z]}_gga_8au_100Ry.orb").write_text("\n".join(lines) + "\n")
    return folder
