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
ablate: {setups: [none, tracegrad]}
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

    done = project.snakemake("ablate")
    assert done.returncode == 0, done.stderr + done.stdout
    table = json.loads((results / "ablations/tiny/ablation.json").read_text())
    assert [row["setup"] for row in table["rows"]] == ["none", "tracegrad"]
    assert [len(judge["samples"]) for judge in table["sets"].values()] == [1, 1]
    assert "deep" in (results / "ablations/tiny/ablation.md").read_text()
    done = project.snakemake()
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Learning curves of all set-ups" in (results / "report.html").read_text()
    assert project.plan() == project.plan("ablate") == {}


@pytest.mark.slow
def test_a_new_twist_is_predicted_without_training(fresh, copy_of, example):
    project = copy_of(fresh)
    (project.folder / "examples").symlink_to(example.parent)
    (project.folder / "bin/orbitrace").unlink()
    done = project.snakemake("--configfile", "examples/bilayer_graphene/pretrained/config.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Training" not in done.stderr
    predictions = project.folder / "results/predictions/pretrained"
    assert (predictions / "twisted_3_4/bands.h5").exists()
    table = json.loads((predictions / "twisted_1_2/evaluation.json").read_text())
    assert table["hamiltonian"]["mae"] < 0.25
    assert 1e3 * table["bands"]["rmse"] < 10


SEVERAL = """
datasets: {bilayers: {path: raw}, nitride: {}, sulphide: {}}
models:
  tiny:
    datasets: [bilayers, sulphide]
    network: {irreps: 8x0e+4x1o+2x2e+1x3o+1x4e, blocks: 1}
    train: {max_steps: 2, validate_every: 1, validation: 0.3}
  tuned:
    datasets: [bilayers, nitride]
    init_from: tiny
    train: {max_steps: 2, validate_every: 1, validation: 0.3}
"""


@pytest.mark.slow
def test_data_sets_of_different_elements_are_learned_and_a_model_starts_from_another(fresh, copy_of, example, shared_data):
    project = copy_of(fresh)
    for number in ("000", "001"):
        shutil.copytree(example / "data/bilayers" / number, project.folder / "raw" / number)
        shutil.copytree(shared_data / "openmx/mos2" / number, project.folder / "data/sulphide" / number)
    shutil.rmtree(project.folder / "data/nitride")
    for number in ("000", "001"):
        shutil.copytree(shared_data / "openmx/graphene_hbn" / number, project.folder / "data/nitride" / number)
    (project.folder / "config.yaml").write_text(SEVERAL)
    (project.folder / "bin/orbitrace").unlink()

    done = project.snakemake()
    assert done.returncode == 0, done.stderr + done.stdout
    for model, names in (("tiny", {"bilayers", "sulphide"}), ("tuned", {"bilayers", "nitride"})):
        table = json.loads((project.folder / f"results/models/{model}/evaluation.json").read_text())
        assert set(table["hamiltonian"]["per_dataset"]) == names
    page = (project.folder / "results/report.html").read_text()
    assert "… sulphide" in page
    assert "started from" in page
    assert project.plan() == {}
