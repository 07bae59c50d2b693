"""Status: what is done, what is missing, and the headline numbers, without opening a single matrix."""

import json
import subprocess
import sys

import results_tree as tree
from orbitrace import layout
from orbitrace.status import status_lines


def lines(root) -> list[str]:
    return [" ".join(line.split()) for line in status_lines(tree.configuration().contents(), root)]


def test_everything_done_ends_with_headline_numbers_and_the_report(tmp_path):
    tree.write_all(tmp_path)
    (tmp_path / layout.REPORT).write_text("a page")
    mean = sum(tree.block_errors(2.0).sums.values()) / 36
    assert lines(tmp_path) == [
        "data set bilayers 2 calculations, 1 of 1 shard",
        "model small trained: 1,200 steps in 6.00 min",
        "target known by small results/predictions/small/known",
        "target unknown by small results/predictions/small/unknown",
        f"Hamiltonian MAE of known {mean:.1f} meV (1.80 meV after the gauge shift)",
        "band RMSE of known 12.0 meV (±3 eV about the Fermi level)",
        "training time of small 6.00 min (1,200 steps)",
        f"validation MAE of small {0.75 * mean:.1f} meV (2 calculations never trained on)",
        "report: results/report.html",
    ]


def test_texts_stand_in_one_column(tmp_path):
    tree.write_all(tmp_path)
    found = status_lines(tree.configuration().contents(), tmp_path)[:4]
    assert len({line.index(text) for line, text in zip(found, ("2 calc", "trained", "results", "results"), strict=True)}) == 1


def test_nothing_done_says_what_is_missing(tmp_path):
    assert lines(tmp_path) == [
        "data set bilayers not scanned",
        "model small missing",
        "target known by small missing",
        "target unknown by small missing",
        "report is missing: `snakemake` makes it",
    ]


def test_a_training_under_way_shows_how_far_it_is(tmp_path):
    tree.write_log(tmp_path)
    assert "model small in training: 1,200 steps in 6.00 min, validation MAE 4.50 meV" in lines(tmp_path)


def test_quarantined_calculations_are_counted(tmp_path):
    tree.write_dataset(tmp_path, bad="not converged")
    assert lines(tmp_path)[0] == "data set bilayers 2 calculations, 1 of 1 shard, 1 in quarantine"


def test_steps_of_a_prediction_that_are_missing_are_named(tmp_path):
    tree.write_all(tmp_path)
    (tmp_path / layout.TARGET_EVALUATION.format(model="small", target="known")).unlink()
    (tmp_path / layout.BANDS.format(model="small", target="unknown")).unlink()
    found = lines(tmp_path)
    assert "target known by small results/predictions/small/known; not compared with its reference yet" in found
    assert "target unknown by small predicted; its bands are missing" in found


def test_a_damaged_table_is_named(tmp_path):
    tree.write_all(tmp_path)
    (tmp_path / layout.MODEL_EVALUATION.format(model="small")).write_text("{")
    assert any("evaluation.json: is damaged" in line for line in lines(tmp_path))


def test_a_model_that_nothing_can_judge_says_why(tmp_path):
    tree.write_all(tmp_path)
    table = {"split": "test", "hamiltonian": None, "note": "There is no test calculation."}
    tree.write_json(tmp_path / layout.MODEL_EVALUATION.format(model="small"), table)
    found = lines(tmp_path)
    assert "model small trained: 1,200 steps in 6.00 min. There is no test calculation." in found
    assert not any("MAE of small" in line for line in found)


def test_bands_that_were_not_computed_are_counted_beside_the_error_that_lacks_them(tmp_path):
    tree.write_all(tmp_path)
    file = tmp_path / layout.TARGET_EVALUATION.format(model="small", target="known")
    table = json.loads(file.read_text())
    table["bands"]["details"] = {"n_missing_bands": 4}
    tree.write_json(file, table)
    words = "(±3 eV about the Fermi level, but for 4 bands of the reference that were not computed)"
    assert f"band RMSE of known 12.0 meV {words}" in lines(tmp_path)


def test_status_is_light(tmp_path):
    tree.write_all(tmp_path)
    program = (
        "import sys; from orbitrace.config import Contents; from orbitrace.status import status_lines;"
        "contents = Contents(datasets=('bilayers',), predictions={'small': ('known',)}, references=('known',));"
        "assert len(status_lines(contents)) == 8; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "h5py", "matplotlib", "jinja2"} & set(run.stdout.split()) == set()


def test_trainings_of_an_ablation_and_a_failed_job_are_named(tmp_path):
    tree.write_all(tmp_path)
    for setup in ("none", "grad"):
        (tmp_path / layout.SETUP.format(model="small", setup=setup, seed=0) / "run").mkdir(parents=True)
    (tmp_path / layout.SETUP_CHECKPOINT.format(model="small", setup="none", seed=0)).touch()
    log = tmp_path / "logs/train_setup/small/grad/0.log"
    log.parent.mkdir(parents=True)
    log.write_text("orbitrace: the training diverged.\n")
    found = lines(tmp_path)
    assert "ablation of small 1 of 2 trainings ended, no table yet" in found
    assert "failed: train_setup small/grad/0: the training diverged." in found
