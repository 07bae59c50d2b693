"""The whole way for real, on three calculations of the embedded example, with a network too small to be any good."""

import json
import shutil

import pytest

CONFIG = """
datasets: {bilayers: {path: raw}}
models:
  tiny:
    datasets: [bilayers]
    network: {irreps: 8x0e+4x1o+2x2e, blocks: 1}
    train: {max_steps: 4, validate_every: 2, validation: 0.3}
targets:
  known: {reference: references/twisted_1_2}
bands: {solver: dense, formats: [png, pdf]}
"""


@pytest.mark.slow
def test_raw_outputs_become_bands_and_a_report(fresh, copy_of, example):
    project = copy_of(fresh)
    for number in ("000", "001", "002"):
        shutil.copytree(example / "data/bilayers" / number, project.folder / "raw" / number)
    shutil.copytree(example / "references/twisted_1_2", project.folder / "references/twisted_1_2")
    (project.folder / "config.yaml").write_text(CONFIG)
    (project.folder / "bin/orbitrace").unlink()

    done = project.snakemake()
    assert done.returncode == 0, done.stderr + done.stdout
    results = project.folder / "results"
    table = json.loads((results / "predictions/tiny/known/evaluation.json").read_text())
    assert 0 < table["hamiltonian"]["mae"] < 1000
    assert 0 < table["bands"]["rmse"] < 10
    assert table["hamiltonian"]["overlap_max_error"] < 1e-6
    for name in ("bands.png", "bands.pdf", "bands.h5"):
        assert (results / "predictions/tiny/known" / name).stat().st_size > 1000
    assert "<svg" in (results / "report.html").read_text()
    assert project.plan() == {}
