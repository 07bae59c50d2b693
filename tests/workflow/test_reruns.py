"""What a change causes: the jobs that depend on it, and no other. Snakemake plans for real; the stages are stand-ins."""

# After new numbers in the data set `graphene`, both models and all that they predict are due.
AFTER_GRAPHENE = {"train": 2, "evaluate": 2, "overlap_table": 1, "overlap": 2, "predict": 2, "bands": 2, "evaluate_target": 1}
REPORT = {"report": 1}


def test_everything_is_planned_once_at_first(fresh):
    assert fresh.plan() == {"shard": 3, "read": 1, "twist": 1, **AFTER_GRAPHENE, **REPORT}


def test_a_run_leaves_everything_in_its_place(finished):
    for path in (
        "results/datasets/graphene/shards/0001.zarr/zarr.json",
        "results/datasets/graphene/shards/0001.quarantine.tsv",
        "results/models/carbon/checkpoint.pt",
        "results/predictions/carbon/known/evaluation.json",
        "results/predictions/carbon/twisted/bands.png",
        "results/report.html",
        "logs/shard/graphene/0000.log",
    ):
        assert (finished.folder / path).is_file(), path


def test_nothing_new_causes_nothing(project):
    assert project.plan() == {}


def test_one_new_calculation_causes_one_shard_and_what_follows(project):
    project.calculate("data/graphene/elsewhere/9")
    assert project.plan() == {"shard": 1, **AFTER_GRAPHENE, **REPORT}


def test_a_changed_calculation_causes_its_own_shard_and_what_follows(project):
    project.calculate("data/graphene/deep/2", "changed")
    assert project.plan() == {"shard": 1, **AFTER_GRAPHENE, **REPORT}
    assert "Shard 0001 of graphene" in project.said
    assert "Shard 0000 of graphene" not in project.said


def test_a_removed_calculation_causes_its_own_shard_and_what_follows(project):
    (project.folder / "data/graphene/deep/0/openmx.scfout").unlink()
    assert project.plan() == {"shard": 1, **AFTER_GRAPHENE, **REPORT}


def test_a_shard_that_lost_all_its_calculations_is_no_longer_learned_from(project):
    for number in (0, 1):
        (project.folder / f"data/graphene/deep/{number}/openmx.scfout").unlink()
    assert project.plan() == {**AFTER_GRAPHENE, **REPORT}


def test_new_data_leave_models_of_other_data_alone(project):
    project.calculate("data/nitride/1")
    assert project.plan() == {"shard": 1, "train": 1, "evaluate": 1, **REPORT}


def test_a_model_that_is_never_trained_anew_keeps_its_checkpoint(project):
    project.edit("carbon: {datasets", "carbon: {retrain: never, datasets")
    assert project.plan() == {}
    project.calculate("data/graphene/elsewhere/9")
    assert project.plan() == {"shard": 1, **AFTER_GRAPHENE, "train": 1, **REPORT}


def test_a_model_that_is_never_trained_anew_is_trained_once(fresh):
    assert fresh.plan("--config", "models={carbon: {retrain: never}, both: {retrain: never}}")["train"] == 2


def test_a_model_that_starts_from_another_one_is_trained_after_it_and_again_when_that_changes(project):
    project.edit("models:\n", "models:\n  tuned: {datasets: [nitride], init_from: carbon}\n")
    assert project.plan() == {"train": 1, "evaluate": 1, **REPORT}  # no other model is touched
    done = project.snakemake()
    assert done.returncode == 0, done.stderr
    assert project.plan() == {}
    project.edit("carbon: {datasets", "carbon: {train: {seed: 1}, datasets")
    retrained = {"train": 2, "evaluate": 2, "predict": 2, "bands": 2, "evaluate_target": 1, **REPORT}
    assert project.plan() == retrained


def test_a_model_that_starts_from_a_file_is_trained_again_when_the_file_changes(project):
    (project.folder / "mine.pt").write_text("1")
    project.edit("models:\n", "models:\n  tuned: {datasets: [nitride], init_from: mine.pt}\n")
    assert project.snakemake().returncode == 0
    assert project.plan() == {}
    (project.folder / "mine.pt").write_text("2")
    assert project.plan() == {"train": 1, "evaluate": 1, **REPORT}


def test_models_that_start_from_each_other_or_from_nothing_are_refused_before_the_first_job(fresh, copy_of):
    project = copy_of(fresh)
    project.edit("carbon: {datasets", "carbon: {init_from: nowhere.pt, datasets")
    done = project.snakemake("-n")
    assert done.returncode != 0
    assert "models.carbon.init_from: nowhere.pt does not exist" in done.stdout
    project.edit("init_from: nowhere.pt", "init_from: both")
    project.edit("both: {datasets", "both: {init_from: carbon, datasets")
    assert "a circle: carbon starts from both starts from carbon" in project.snakemake("-n").stdout


def test_other_settings_rerun_their_own_stage_and_what_follows(project):
    project.edit("scan:", "bands: {density: 5}\nscan:")
    assert project.plan() == {"bands": 2, "evaluate_target": 1, **REPORT}


def test_a_changed_reference_is_read_again(project):
    project.calculate("references/known", "changed")
    assert project.plan() == {"read": 1, "overlap": 1, "predict": 1, "bands": 1, "evaluate_target": 1, **REPORT}


def test_a_structure_dropped_in_is_predicted_by_every_model(project):
    (project.folder / "targets").mkdir()
    (project.folder / "targets/flake.cif").write_text("")
    assert project.plan() == {"overlap": 2, "overlap_table": 1, "predict": 2, "bands": 2, **REPORT}


def test_what_is_no_structure_in_that_folder_causes_nothing(project):
    (project.folder / "targets/old").mkdir(parents=True)
    (project.folder / "targets/notes.txt").write_text("words")
    assert project.plan() == {}


def test_a_new_twist_is_one_entry_in_the_configuration(project):
    project.edit("targets:", "targets:\n  more: {twist: {m: 2, n: 3}, models: [both]}")
    assert project.plan() == {"twist": 1, "overlap": 1, "overlap_table": 1, "predict": 1, "bands": 1, **REPORT}


def test_jobs_of_a_cluster_read_the_manifest_and_never_the_raw_folders(project):
    manifest = project.folder / "results/datasets/graphene/manifest.json"
    before = manifest.read_text()
    project.calculate("data/graphene/elsewhere/9")
    job = "shard:dataset=graphene,shard=0001"
    options = ["--mode", "remote", "--force", "--nolock", "--cores", "1", "--allowed-rules", "shard"]
    done = project.snakemake("--target-jobs", job, *options)
    assert done.returncode == 0, done.stderr
    assert "--shard 0001" in (project.folder / "calls.txt").read_text().splitlines()[-1]
    assert manifest.read_text() == before


def test_a_model_that_is_given_as_a_file_is_taken_not_trained(project):
    (project.folder / "given.pt").write_text("a network")
    project.edit("carbon: {datasets", "carbon: {checkpoint: given.pt, datasets")
    plan = project.plan()
    assert plan["take"] == 1
    assert "train" not in plan
