"""Where numbers come from: every data set, model and target of the report says so."""

import hashlib
import json
import subprocess
from pathlib import Path

import results_tree as tree
from orbitrace import layout, origins
from orbitrace.report.provenance import origins as origins_of
from orbitrace.report.results import gather

REPOSITORY = Path(__file__).resolve().parent.parent


def test_every_number_has_inputs_settings_seeds_versions_and_a_commit(tmp_path):
    tree.write_all(tmp_path)
    run = tmp_path / layout.RUN.format(model="small")
    note = {
        "section": {"model": "deeph_e3_local", "train": {"seed": 3, "split_seed": None}},
        "shards": {"0000.zarr": "ab" * 32},
        "made_with": {"commit": "c0ffee", "versions": {"torch": "2.13.0"}},
    }
    tree.write_json(run / "training.json", note)
    checkpoint = tmp_path / layout.CHECKPOINT.format(model="small")
    found = {
        origin.of: dict(origin.facts) for origin in origins_of(gather(tree.configuration().contents(), tmp_path), tmp_path)
    }
    assert len(found["data set bilayers"]["raw files, by shard"]) == 12
    model = found["model small"]
    assert model["checkpoint"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    assert (model["seed"], model["learned from"], model["commit"]) == ("3", "ab" * 6, "c0ffee")
    assert "torch 2.13.0" in model["versions"]
    assert model["judged on"] == "validation: 006, 011"
    assert found["target known by small"]["compared with"].startswith("openmx 3.9")
    assert "orbitrace" in found["target unknown by small"]["predicted by"]
    assert origins.versions()["OrbiTrace"] in found["this page"]["versions"]


def test_the_commit_is_that_of_this_code():
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if head.returncode == 0 and (REPOSITORY / ".git").exists():
        assert origins.commit().startswith(head.stdout.strip())
    json.dumps(origins.versions())
