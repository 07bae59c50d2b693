"""An ablation from raw outputs to its table in one process: three bilayers of the example, the smallest networks."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from orbitrace import interchange, plugins, serial
from orbitrace.cli import main
from orbitrace.config import Config, check
from orbitrace.errors import InputError
from orbitrace.graphs.shards import open_shard
from orbitrace.models import deeph_e3_local, settings_of
from orbitrace.physics.calculation import Calculation
from orbitrace.prediction import Predictor
from orbitrace.report.results import gather
from orbitrace.setups import SETUPS
from orbitrace.training import checkpoint as checkpoints

RUNS = Path("results/ablations/tiny")
SIZES = {"irreps": "4x0e+2x1o+2x2e", "blocks": 1, "gaussians": 8, "radial_width": 4, "invariants": 2}


def configuration(**ablate: object) -> Config:
    train = {"max_steps": 4, "max_minutes": 9, "validate_every": 2, "validation": 0.3}
    data = {
        "datasets": {"bilayers": {"path": "raw"}},
        "models": {"tiny": {"network": SIZES, "datasets": ["bilayers"], "train": train}},
        "targets": {"twisted": {"reference": "references/twisted_1_2"}},
        "ablate": {"sets": {"twisted": ["twisted"]}, **ablate},
    }
    return check(data, discover=None)


@pytest.fixture(scope="module")
def project(example, tmp_path_factory):
    """A folder in which the whole was run once, with what was said."""
    folder = tmp_path_factory.mktemp("project")
    for number in ("000", "001", "002"):
        shutil.copytree(example / "data/bilayers" / number, folder / "raw" / number)
    shutil.copytree(example / "references/twisted_1_2", folder / "references/twisted_1_2")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = []
        table = serial.ablate(configuration(), said.append)
        yield table, said


def errors_of(file: Path, calculation: Calculation) -> np.ndarray:
    predicted = Predictor(checkpoints.load(file))(calculation.structure, calculation.overlap)
    return 1000 * np.abs(predicted.values - calculation.hamiltonian.values)


def test_every_number_of_the_table_comes_from_the_predictions(project):
    table, _ = project
    assert json.loads((RUNS / "ablation.json").read_text()) == table
    assert [row["setup"] for row in table["rows"]] == list(SETUPS)
    shard = open_shard(Path("results/datasets/bilayers/shards/0000.zarr"))
    twisted = interchange.read_folder(Path("results/targets/twisted/reference"))
    ids = table["sets"]["validation"]["samples"]
    assert 1 <= len(ids) < 3
    judges = {"validation": [shard.calculation(shard.ids.index(name)) for name in ids], "twisted": [twisted]}
    assert table["sets"]["twisted"]["samples"] == ["twisted"]
    for name, calculations in judges.items():
        of = {setup: [errors_of(RUNS / setup / "0/checkpoint.pt", c) for c in calculations] for setup in ("none", "tracegrad")}
        worst = int(np.argmax([e.mean() for e in of["none"]]))
        for row in (table["rows"][0], table["rows"][5]):
            mine, errors = of[row["setup"]], row["errors"][name]
            assert errors["mae_all"]["mean"] == pytest.approx(np.concatenate(mine).mean(), rel=1e-5)
            assert errors["mae_cha_sample"]["mean"] == pytest.approx(mine[worst].mean(), rel=1e-5)
            gain = 100 * (1 - np.concatenate(mine).mean() / np.concatenate(of["none"]).mean())
            assert errors["mae_all"]["gain"] == pytest.approx(gain, rel=1e-3, abs=1e-3)
        block = table["sets"][name]["challenging_block"]
        assert table["rows"][5]["errors"][name]["mae_cha_block"]["mean"] == pytest.approx(
            block_error(block, calculations, of["tracegrad"]), rel=1e-5
        )
        assert table["rows"][0]["errors"][name]["mae_cha_block"]["mean"] == pytest.approx(
            max(block_error(other, calculations, of["none"]) for other in blocks(calculations[0])), rel=1e-5
        )


def blocks(calculation: Calculation) -> list[str]:
    """Names of the basic blocks of carbon."""
    names = shells(calculation)
    return [f"C {a} - C {b}{tail}" for a in names for b in names for tail in ("", " on-site")]


def shells(calculation: Calculation) -> list[str]:
    ls = calculation.basis[6].ls
    return [f"{'spdf'[l]}{ls[: k + 1].count(l)}" for k, l in enumerate(ls)]


def block_error(block: str, calculations: list[Calculation], errors: list[np.ndarray]) -> float:
    """Mean error of a basic block like "C s1 - C p2" over some calculations, element by element."""
    first, second = block.removesuffix(" on-site").replace("C ", "").split(" - ")
    found = []
    for c, e in zip(calculations, errors, strict=True):
        rows, columns = (c.basis[6].slices[shells(c).index(name)] for name in (first, second))
        h = c.hamiltonian
        for k in np.flatnonzero(h.onsite == block.endswith("on-site")):
            matrix = e[h.offsets[k] : h.offsets[k + 1]].reshape(h.shapes[k])
            found.append(matrix[rows, columns].ravel())
    return float(np.concatenate(found).mean())


def test_all_set_ups_share_data_split_seed_and_steps(project):
    notes = [json.loads((RUNS / setup / "0/run/training.json").read_text()) for setup in SETUPS]
    assert [note["section"]["network"].pop("tracegrad") for note in notes] == list(SETUPS)
    assert all(note == notes[0] for note in notes)
    assert notes[0]["section"]["train"]["max_minutes"] is None  # or a slow set-up would take fewer steps
    assert {row["steps"] for row in project[0]["rows"]} == {4}


def test_progress_is_said_step_by_step(project):
    said = project[1]
    assert said[:3] == ["shard 0 of bilayers: 3 calculations", "reference of twisted: references/twisted_1_2",
                        "[1/6] none, seed 0: 4 steps"]  # fmt: skip
    assert said[-1] == "table: results/ablations/tiny/ablation.json"
    assert "[6/6] tracegrad, seed 0: errors on twisted" in said


def test_what_ended_is_not_redone_and_what_was_killed_is(project):
    before = (RUNS / "none/0/checkpoint.pt").stat().st_mtime_ns
    weights = (RUNS / "gate/0/checkpoint.pt").read_bytes()
    (RUNS / "gate/0/checkpoint.pt").unlink()
    said = []
    serial.ablate(configuration(), said.append)
    assert (RUNS / "none/0/checkpoint.pt").stat().st_mtime_ns == before
    assert [line for line in said if "steps" in line] == ["[3/6] gate, seed 0: 4 steps"]
    assert [line for line in said if "errors" in line] == [
        *("[3/6] gate, seed 0: errors on validation", "[3/6] gate, seed 0: errors on twisted"),
    ]
    assert len((RUNS / "gate/0/checkpoint.pt").read_bytes()) == len(weights)


def test_other_steps_train_anew_and_a_set_with_other_members_is_judged_anew(project, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(Path(), tmp_path / "copy", copy_function=shutil.copy2))
    some = {"setups": ["none", "grad"], "sets": {}}
    said = []
    serial.ablate(configuration(**some, max_steps=2), said.append)
    assert [line for line in said if "steps" in line] == ["[1/2] none, seed 0: 2 steps", "[2/2] grad, seed 0: 2 steps"]
    table = json.loads((RUNS / "ablation.json").read_text())
    assert ([row["setup"] for row in table["rows"]], list(table["sets"])) == (["none", "grad"], ["validation"])


def test_the_report_shows_the_table(project):
    (found,) = gather(configuration().contents()).ablations
    assert (found.model, found.table) == ("tiny", json.loads((RUNS / "ablation.json").read_text()))


@pytest.mark.parametrize("model", [name for name in plugins.names("models") if serial.has_setups(name)])
def test_every_network_with_the_setting_knows_all_set_ups(model):
    found = [settings_of(model, {"tracegrad": setup}).model_dump()["tracegrad"] for setup in SETUPS]
    assert found == list(SETUPS)


def test_a_network_without_the_setting_is_refused_before_anything_is_trained(project, monkeypatch):
    class Plain(BaseModel):
        """Of a network that has nothing like it."""

    monkeypatch.setattr(deeph_e3_local, "Settings", Plain)
    words = r"^models\.tiny: the network deeph_e3_local has no setting tracegrad\. Expected one that has: deeph_e3\.$"
    with pytest.raises(InputError, match=words):
        serial.ablate(configuration())


def test_several_devices_are_left_to_the_workflow(project):
    config = configuration()
    model = config.models["tiny"]
    several = model.model_copy(update={"train": model.train.model_copy(update={"devices": 2})})
    with pytest.raises(InputError, match=r"models\.tiny\.train: 1 nodes with 2 devices each\. .*snakemake ablate"):
        serial.ablate(config.model_copy(update={"models": {"tiny": several}}))


def test_the_command_line_makes_the_table_of_folders(project, tmp_path, monkeypatch, capsys):
    runs = [str(RUNS / setup / "0") for setup in ("grad", "none")]
    monkeypatch.setattr(sys, "argv", ["orbitrace", "ablate", *runs, "--out", str(tmp_path / "two.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("Errors of H in meV")
    assert [row["setup"] for row in json.loads((tmp_path / "two.json").read_text())["rows"]] == ["none", "grad"]
