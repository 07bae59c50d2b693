"""From the settings of a twist to its file: layers from names and files, searches, and what is answered to a bad wish."""

import sys
from pathlib import Path

import numpy as np
import pytest

from orbitrace import interchange, stages
from orbitrace.bilayers import build, candidates, table
from orbitrace.cli import main
from orbitrace.errors import InputError
from orbitrace.physics.layers import built_in
from orbitrace.physics.structure import Structure
from orbitrace.physics.twist import graphene, twisted_bilayer
from orbitrace.schema import from_json, section_from, to_json
from orbitrace.twisting import TwistSection


def settings(**keys: object) -> TwistSection:
    return section_from(TwistSection, keys, "twist")


def test_settings_of_old_build_what_they_built() -> None:
    built = build(settings(m=2, n=3, shift=(0.2, 0.1)))
    old = twisted_bilayer(graphene(), 2, 3, 3.35, shift=(0.2, 0.1))
    np.testing.assert_allclose(built.structure.positions, old.positions, atol=1e-12)
    np.testing.assert_array_equal(built.structure.numbers, old.numbers)
    assert str(built).startswith("76 atoms, 13.1736 degrees, strain 0.0000 %")


def test_layers_come_from_names_and_files(tmp_path: Path) -> None:
    file = tmp_path / "layer.vasp"
    interchange.write_structure(file, built_in("hbn"))
    named, read = (build(settings(top=top, angle=8, angle_tolerance=1, max_strain=0.01)) for top in ("hbn", str(file)))
    np.testing.assert_allclose(named.structure.positions, read.structure.positions, atol=1e-6)


def test_a_cell_of_the_search_can_be_built_as_it_is_listed() -> None:
    wish = {"top": "mos2_2h", "angle": 10, "angle_tolerance": 0.5, "max_strain": 0.01, "max_atoms": 1000}
    for cell in candidates(settings(**wish), 4):
        rows = cell.bottom.tolist(), cell.top.tolist()
        built = build(settings(top="mos2_2h", cells=rows, max_strain=0.01))
        assert str(built.cell) == str(cell)
        np.testing.assert_allclose(built.cell.lattice, cell.lattice, atol=1e-9)
        assert built.structure.n_atoms == cell.n_atoms


def test_relaxed_positions_are_taken_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "relaxed.vasp"
    plain = build(settings(m=1, n=2))
    changed = plain.structure.positions + np.random.default_rng(0).uniform(-0.1, 0.1, (28, 3))
    changed[:, 2] -= (changed - plain.structure.positions)[:, 2].mean()
    made = Structure(changed, plain.structure.lattice, plain.structure.numbers)
    interchange.write_structure(file, made)
    built = build(settings(m=1, n=2, relaxed=str(file)))
    np.testing.assert_allclose(built.structure.positions, changed, atol=1e-6)
    assert settings(m=1, n=2, relaxed=str(file)).files == {"relaxed": str(file)}


def test_rows_of_the_table_are_as_wide_as_its_headings() -> None:
    rows = list(table(candidates(settings(angle=21.8), 3)))
    assert {len(row) for row in rows} == {8}
    assert rows[1][:2] == ("28", "21.7868")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ("nothing given", "exactly one of")),
        ({"n": 2}, ("n given", "exactly one of")),
        ({"m": 1, "n": 2, "angle": 3}, ("m and n and angle given",)),
        ({"m": 1, "n": 2, "centre": "hollow"}, ("centre hollow without a stacking",)),
        ({"m": 1, "n": 2, "stacking": "AC"}, ("stacking", "'AA'")),
        ({"m": 1, "n": 2, "corrugation": {"AA": -1}}, ("corrugation", "greater than 0")),
        ({"m": 1, "n": 2, "layer": "grafene"}, ("grafene", "Did you mean graphene?")),
        ({"m": 1, "n": 2, "top": "hbn"}, ("2.5040", "strain of 1.76 %", "Twist by an angle")),
        ({"angle": 1.05, "max_strain": 0, "max_atoms": 2000}, ("no cell of at most 2000", "closest has", "11908 atoms")),
        ({"angle": 5, "max_atoms": 3}, ("no cell of at most 3 atoms",)),
        ({"cells": [[[1, 0], [0, 1]], [[2, 0], [0, 1]]]}, ("cells", "a strain of", "max_strain")),
        ({"cells": [[[1, 0], [0, 1]], [[0, 1], [1, 0]]]}, ("layer above", "positive determinant")),
    ],
)
def test_what_cannot_be_built_is_answered_in_one_sentence_or_two(keys: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        build(settings(**keys))
    for word in words:
        assert word in str(caught.value)


def test_search_needs_an_angle() -> None:
    with pytest.raises(InputError, match="a search without an angle"):
        candidates(settings(m=1, n=2), 3)


def test_settings_survive_the_way_through_a_rule() -> None:
    for keys in ({"m": 1, "n": 2}, {"angle": 3, "stacking": "A'B", "corrugation": {"AA": 3.6, "AB": 3.35}}):
        assert from_json(TwistSection, to_json(settings(**keys))) == settings(**keys)
    cells = settings(cells=[[[1, 0], [0, 1]], [[1, 0], [0, 1]]])
    assert from_json(TwistSection, to_json(cells)) == cells


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["orbitrace", "twist", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_command_lists_cells(monkeypatch, capsys, tmp_path) -> None:
    file = tmp_path / "cells.tsv"
    words = "--top", "hbn", "--angle", "0", "--max-strain", "3e-4", "--max-atoms", "13000", "--search", "--out", str(file)
    code, out, _ = run(monkeypatch, capsys, *words)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["atoms", "degrees"] and lines[1].split()[0] == "12322"
    assert [line.split("\t")[0] for line in file.read_text().splitlines()] == [line.split()[0] for line in lines]


def test_command_writes_a_structure_and_says_what_it_is(monkeypatch, capsys, tmp_path) -> None:
    file = tmp_path / "twist.vasp"
    code, out, _ = run(
        monkeypatch,
        capsys,
        "--layer",
        "mos2_2h",
        "--angle",
        "21.8",
        "--stacking",
        "AA'",
        "--distance",
        "3",
        "--out",
        str(file),
    )
    assert code == 0 and out.startswith("42 atoms, 21.7868 degrees, strain 0.0000 %")
    assert interchange.read_structure(file).n_atoms == 42


def test_command_without_a_file_to_write_is_refused(monkeypatch, capsys) -> None:
    code, _, err = run(monkeypatch, capsys, "--m", "1", "--n", "2")
    assert code == 2 and "--out" in err and err.count("\n") == 1


def test_stage_leaves_no_file_where_nothing_can_be_built(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        stages.twist(tmp_path / "out.vasp", settings(m=1, n=2, relaxed=str(tmp_path / "nothing.vasp")))
    assert list(tmp_path.iterdir()) == []
