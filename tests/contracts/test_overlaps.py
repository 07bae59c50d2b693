"""Every way to an overlap that is found in the room keeps the room's promises. A new way adds its inputs here."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import pytest

from orbitrace import overlaps, plugins, readers
from orbitrace.errors import InputError
from orbitrace.overlaps import from_data
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.structure import Structure
from overlap_samples import Sample, abacus, siesta

WAYS = plugins.names("overlaps")


@dataclass(frozen=True)
class Case:
    """What a way is tried on: its inputs, and structures with the overlaps that the DFT code computed."""

    way: str
    inputs: dict[str, object]
    samples: list[Sample]  # the last is small


def from_training_data(request: pytest.FixtureRequest) -> Case:
    """Fitted to the untwisted bilayers of the example."""
    example: Path = request.getfixturevalue("example")
    data = (readers.read(folder) for folder in sorted((example / "data" / "bilayers").iterdir()))
    return Case("from_data", {"table": from_data.fit((c.structure, c.basis, c.overlap) for c in data)}, targets(example))


def from_pao_files(request: pytest.FixtureRequest) -> Case:
    """The basis files of the example, which are not free to lie in the repository."""
    files = request.getfixturevalue("shared_data") / "openmx" / "DFT_DATA13" / "PAO"
    return Case("from_pao", {"pao": files}, targets(request.getfixturevalue("example")))


def from_ion_files(request: pytest.FixtureRequest) -> Case:
    folder = request.getfixturevalue("shared_data") / "formats" / "siesta" / "Si_pdos_k"
    return Case("from_ion", {"ion": folder}, [siesta(folder)])


def from_orb_files(request: pytest.FixtureRequest) -> Case:
    folder = request.getfixturevalue("shared_data") / "formats" / "abacus" / "Si2_ref"
    return Case("from_orb", {"orb": folder}, [abacus(folder)])


def targets(example: Path) -> list[Sample]:
    found = [readers.read(example / "references" / name) for name in ("twisted_1_2", "AB")]
    return [(c.structure, c.basis, c.overlap) for c in found]


CASES: dict[str, Callable[[pytest.FixtureRequest], Case]] = {
    "from_data": from_training_data,
    "from_pao": from_pao_files,
    "from_ion": from_ion_files,
    "from_orb": from_orb_files,
}


@pytest.fixture(scope="module", params=WAYS)
def case(request: pytest.FixtureRequest) -> Case:
    assert request.param in CASES, f"add the inputs of {request.param} to this test"
    return CASES[request.param](request)


def test_a_way_takes_structure_and_basis_and_names_its_inputs(case: Case) -> None:
    made = plugins.load("overlaps", case.way)
    for name in ("overlap", "kinetic"):
        if hasattr(made, name):
            parameters = signature(getattr(made, name)).parameters
            assert list(parameters)[:3] == ["structure", "basis", "where"]
            assert all(parameter.kind is Parameter.KEYWORD_ONLY for parameter in list(parameters.values())[2:])
    assert (made.__doc__ or "").strip()
    assert {"fit", "read_table", "write_table"} <= set(dir(made))


def test_it_gives_the_overlap_of_the_dft_code(case: Case) -> None:
    for structure, basis, theirs in case.samples:
        mine = overlaps.overlap(case.way, structure, basis, **case.inputs)
        np.testing.assert_array_equal(mine.pairs, find_pairs(structure, basis))
        np.testing.assert_allclose(mine.values, theirs.values, atol=1e-5)


def test_it_does_not_depend_on_where_the_atoms_stand(case: Case) -> None:
    structure, basis, _ = case.samples[-1]
    plain = overlaps.overlap(case.way, structure, basis, **case.inputs)
    moved = Structure(structure.positions + np.array([0.3, -4.0, 1.1]), structure.lattice, structure.numbers, structure.pbc)
    np.testing.assert_allclose(overlaps.overlap(case.way, moved, basis, **case.inputs).values, plain.values, atol=1e-9)
    order = np.random.default_rng(0).permutation(structure.n_atoms)
    renumbered = Structure(structure.positions[order], structure.lattice, structure.numbers[order], structure.pbc)
    again = overlaps.overlap(case.way, renumbered, basis, **case.inputs)
    np.testing.assert_allclose(again.values, plain.reordered(order).values, atol=1e-9)


def test_it_refuses_an_element_without_basis_by_name(case: Case) -> None:
    with pytest.raises(InputError, match="Ge"):
        germanium = Structure(np.zeros((1, 3)), 9 * np.eye(3), np.array([32]))
        overlaps.overlap(case.way, germanium, case.samples[-1][1], **case.inputs)


def test_atoms_that_stand_twice_are_refused_with_their_distance(case: Case) -> None:
    structure, basis, _ = case.samples[-1]
    positions = structure.positions.copy()
    positions[1] = positions[0] + np.array([0.0, 0.05, 0.0])
    twice = Structure(positions, structure.lattice, structure.numbers, structure.pbc)
    with pytest.raises(InputError, match=r"mine\.cif: .*(atoms 0 and 1 are 0\.050 Å apart|at 0\.050)"):
        overlaps.overlap(case.way, twice, basis, where="mine.cif", **case.inputs)
