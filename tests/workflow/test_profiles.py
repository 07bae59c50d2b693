"""How Snakemake is started: alone, with the cluster's profile, with a configuration of one's own; and how it refuses."""

import pytest


def test_the_cluster_profile_is_found_by_its_name(fresh):
    done = fresh.snakemake("--profile", "slurm", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "profiles slurm" in done.stderr


def test_the_cluster_profile_runs_on_one_machine_too(fresh):
    assert fresh.plan("--profile", "slurm", "--executor", "local", "--cores", "1")["train"] == 2


def test_a_configuration_of_ones_own_stands_in_for_the_shipped_one(fresh):
    (fresh.folder / "own.yaml").write_text("datasets: {nitride: {}}\nmodels: {small: {datasets: [nitride]}}\n")
    assert fresh.plan("--configfile", "own.yaml") == {"shard": 1, "train": 1, "evaluate": 1, "report": 1}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("bands={densty: 3}", "config.yaml: bands.densty: unknown key. Did you mean density?"),
        ("datasets={none: {}}", "data/none: there is no such folder"),
        ("targets={known: {reference: nowhere}}", "config.yaml: targets.known.reference: nowhere does not exist."),
        ("targets={known: {reference: envs}}", "envs: no calculation was found in this folder"),
        ("targets={more: {structure: no.cif}}", "config.yaml: targets.more.structure: no.cif does not exist."),
        ("evaluate={split: test}", "config.yaml: evaluate.split: test, for which models.carbon.train.test = 0"),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_in_one_sentence(fresh, option, sentence):
    done = fresh.snakemake("--dry-run", "--config", option)
    assert done.returncode == 1
    assert sentence in done.stdout  # where a dry run speaks
    assert "Traceback" not in done.stdout + done.stderr
