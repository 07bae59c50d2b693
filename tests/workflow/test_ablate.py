"""`snakemake ablate`: six ordinary trainings, their errors, one table; nothing of it without being asked."""

import shutil

import pytest

SETUPS = 6
PLAN = {"shard": 2, "read": 1, "train_setup": SETUPS, "evaluate_setup": 2 * SETUPS, "ablate": 1}


@pytest.fixture
def ablated(finished_ablation, copy_of):
    """A project after an ablation, to be changed."""
    return copy_of(finished_ablation)


def test_six_trainings_and_one_table_are_planned(fresh):
    assert fresh.plan("ablate") == PLAN
    assert "results/ablations/carbon/tracegate/0/checkpoint.pt" in fresh.said


def test_the_section_says_what_is_trained_and_what_judges_and_judges_are_not_learned_from(fresh):
    sets = "{others: [nitride, known], known: [known]}"
    section = f"ablate={{model: carbon, setups: [none, grad], seeds: [0, 1, 2], sets: {sets}}}"
    assert fresh.plan("-p", "ablate", "--config", section) == {
        "shard": 3,
        "read": 1,
        "train_setup": 6,
        "evaluate_setup": 18,
        "ablate": 1,
    }
    lines = fresh.said.splitlines()
    assert not [line for line in lines if "orbitrace train" in line and "nitride" in line]
    own, others = (
        [line for line in lines if "orbitrace evaluate" in line and f"errors/{name}.json" in line]
        for name in ("validation", "others")
    )
    assert len(own) == len(others) == 6
    assert not [line for line in own if "nitride" in line or "--reference" in line or '"split": "validation"' not in line]
    for line in others:
        assert "nitride/shards/0000.zarr --checkpoint" in line
        assert "--reference=results/targets/known/reference" in line
        assert '"split": "all"' in line


def test_what_ended_is_kept_and_what_was_killed_is_done(ablated):
    shutil.rmtree(ablated.folder / "results/ablations/carbon/grad")
    (ablated.folder / "results/ablations/carbon/ablation.json").unlink()
    assert ablated.plan("ablate") == {"train_setup": 1, "evaluate_setup": 2, "ablate": 1}


def test_a_second_run_has_nothing_to_do_and_the_report_is_due_without_any_training(ablated):
    assert ablated.plan("ablate") == {}
    assert ablated.plan() == {"report": 1}
    ablated.calculate("data/nitride/1")
    assert ablated.plan() == {"shard": 1, "train": 1, "evaluate": 1, "report": 1}


def test_other_steps_train_all_set_ups_anew(ablated):
    assert ablated.plan("ablate", "--config", "ablate={max_steps: 7}")["train_setup"] == SETUPS


def test_a_section_that_cannot_be_used_ends_in_one_sentence(fresh):
    done = fresh.snakemake("-n", "ablate", "--config", "ablate={sets: {twisted: [twisted]}}")
    assert done.returncode == 1
    assert "config.yaml: ablate.sets.twisted: unknown name 'twisted'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
