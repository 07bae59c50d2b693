"""How Snakemake is started: alone, with the cluster's profile, with a configuration of one's own; and how it refuses."""

from pathlib import Path

import pytest
import yte

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_cluster_profile_is_found_by_its_name(fresh):
    done = fresh.snakemake("--profile", "slurm", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "profiles slurm" in done.stderr


def test_the_cluster_profile_runs_on_one_machine_too(fresh):
    assert fresh.plan("--profile", "slurm", "--executor", "local", "--cores", "1")["train"] == 2


def test_a_training_on_several_nodes_is_started_by_srun(fresh):
    fresh.plan("--profile", "slurm", "--config", "models={carbon: {train: {nodes: 2, devices: 4}}}")
    assert "Shell command: exec srun --nodes=2 --ntasks=2" in fresh.said
    assert "Shell command: exec orbitrace train" in fresh.said  # the other model


def test_jobs_ask_for_what_their_inputs_need_twice_as_much_if_that_failed_and_no_more_than_there_is(monkeypatch, tmp_path):
    """The expressions of the profile, as Snakemake evaluates them."""
    for name, value in {"GPU_PARTITION": "fast", "ACCOUNT": "me", "MEMORY": "20000", "MINUTES": "2000"}.items():
        monkeypatch.setenv(f"ORBITRACE_{name}", value)
    with (REPOSITORY / "profiles/slurm/config.yaml").open() as file:
        profile = yte.process_yaml(file)
    (tmp_path / "shard").write_bytes(bytes(100_000_000))
    train = profile["set-resources"]["train"]
    asked = [
        [eval(train[name], {"input": [str(tmp_path / "shard")], "attempt": attempt}) for name in ("mem_mb", "runtime")]
        for attempt in (1, 2, 3)
    ]
    assert asked == [[8400, 1440], [16800, 2000], [20000, 2000]]
    assert (train["slurm_partition"], profile["default-resources"]["slurm_account"]) == ("'fast'", "'me'")
    assert train["slurm_extra"] == "'--signal=USR1@120'"
    assert profile["set-resources"]["train_setup"] == train


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
