"""Every way to an overlap that is found in the room keeps the room's promises. A new way adds its inputs here."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import pytest

from orbitrace import overlaps, plugins, readers
from orbitrace.errors import InputError
from orbitrace.overlaps import from_data
from orbitrace.physics.neighbours import find_pairs
from orbitrace.physics.structure import Structure

WAYS = plugins.names("overlaps")


def table(request: pytest.FixtureRequest) -> dict[str, object]:
    """Fitted to the untwisted bilayers of the example."""
    bilayers: Path = request.getfixturevalue("example") / "data" / "bilayers"
    data = (readers.read(folder) for folder in sorted(bilayers.iterdir()))
    return {"table": from_data.fit((c.structure, c.basis, c.overlap) for c in data)}


def files(request: pytest.FixtureRequest) -> dict[str, object]:
    """The basis files of the example, which are not free to lie in the repository."""
    return {"pao": request.getfixturevalue("shared_data") / "openmx" / "DFT_DATA13" / "PAO"}


INPUTS: dict[str, Callable[[pytest.FixtureRequest], dict[str, object]]] = {"from_data": table, "from_pao": files}


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    assert request.param in INPUTS, f"add the inputs of {request.param} to this test"
    return request.param, INPUTS[request.param](request)


def test_a_way_takes_structure_and_basis_and_names_its_inputs(way: tuple[str, dict[str, object]]) -> None:
    parameters = signature(plugins.load("overlaps", way[0]).overlap).parameters
    assert list(parameters)[:3] == ["structure", "basis", "where"]
    assert all(parameter.kind is Parameter.KEYWORD_ONLY for parameter in list(parameters.values())[2:])
    assert (plugins.load("overlaps", way[0]).__doc__ or "").strip()


def test_it_gives_the_overlap_of_the_dft_code(way: tuple[str, dict[str, object]], example: Path) -> None:
    name, inputs = way
    target = readers.read(example / "references" / "twisted_1_2")
    mine = overlaps.overlap(name, target.structure, target.basis, **inputs)
    np.testing.assert_array_equal(mine.pairs, find_pairs(target.structure, target.basis))
    np.testing.assert_allclose(mine.values, target.overlap.values, atol=1e-5)


def test_it_does_not_depend_on_where_the_atoms_stand(way: tuple[str, dict[str, object]], example: Path) -> None:
    name, inputs = way
    target = readers.read(example / "references" / "AB")
    structure, basis = target.structure, target.basis
    plain = overlaps.overlap(name, structure, basis, **inputs)
    moved = Structure(structure.positions + np.array([0.3, -4.0, 1.1]), structure.lattice, structure.numbers, structure.pbc)
    np.testing.assert_allclose(overlaps.overlap(name, moved, basis, **inputs).values, plain.values, atol=1e-9)
    order = np.array([2, 0, 3, 1])
    renumbered = Structure(structure.positions[order], structure.lattice, structure.numbers[order], structure.pbc)
    again = overlaps.overlap(name, renumbered, basis, **inputs)
    np.testing.assert_allclose(again.values, plain.reordered(order).values, atol=1e-9)


def test_it_refuses_an_element_without_basis_by_name(way: tuple[str, dict[str, object]], example: Path) -> None:
    name, inputs = way
    basis = readers.read(example / "references" / "AB").basis
    with pytest.raises(InputError, match="Si"):
        overlaps.overlap(name, Structure(np.zeros((1, 3)), 9 * np.eye(3), np.array([14])), basis, **inputs)
