"""The table of an ablation: its definitions on made-up errors, its forms, and what cannot be compared."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orbitrace import ablation, stages
from orbitrace.ablation import Run, tabulate, to_csv, to_markdown
from orbitrace.config import check
from orbitrace.errors import InputError
from orbitrace.learning import LearnSection, TrainSection
from orbitrace.report.results import Errors, Row
from orbitrace.setups import SETUPS, AblateSection, section_of
from orbitrace.training.metrics import BlockErrors, summarise

SMALLEST = {"datasets": {"graphene": {}, "twists": {}}, "models": {"small": {"datasets": ["graphene"]}}}


def errors(samples: dict[str, tuple[float, float]]) -> Errors:
    """Errors of samples with two blocks of one and of three elements: (error of the first, error of the second)."""
    made = [
        (name, BlockErrors({"s - s": first, "s - p": 3 * second}, {"s - s": 1, "s - p": 3}, 0.0, 0.0))
        for name, (first, second) in samples.items()
    ]
    return Errors(**summarise(made))


def run(setup: str, seed: int, of: Errors, seconds: float = 0.1, steps: int = 30) -> Run:
    log = tuple(Row(step, seconds * step, 3.0, 2.0) for step in range(10, steps + 1, 10))
    return Run(Path(f"{setup}/{seed}"), setup, seed, "deep", {"split": {}}, log, {"validation": of})


BASE = errors({"a": (4.0, 1.0), "b": (1.0, 2.5)})
GRAD = errors({"a": (1.0, 1.0), "b": (5.0, 2.0)})


def test_the_challenging_sample_and_block_are_those_of_the_base_in_every_row():
    # Base: a has (4 + 3) / 4, b has (1 + 7.5) / 4, so b; its blocks (4 + 1) / 2 and (3 + 7.5) / 6, so s - s.
    table = tabulate([run("grad", 0, GRAD, 0.2), run("none", 0, BASE)])
    assert table["sets"]["validation"] == {"samples": ["a", "b"], "challenging_sample": "b", "challenging_block": "s - s"}
    base, grad = (row["errors"]["validation"] for row in table["rows"])
    assert [base[key]["mean"] for key in ablation.MEASURES] == pytest.approx([15.5 / 8, 8.5 / 4, 2.5])
    # The worst block of this one alone would be s - s too, its worst sample b; the values are its own.
    assert [grad[key]["mean"] for key in ablation.MEASURES] == pytest.approx([15 / 8, 11 / 4, 3.0])
    assert grad["mae_all"]["gain"] == pytest.approx(100 * (1 - 15 / 15.5))
    assert grad["mae_cha_sample"]["gain"] == pytest.approx(100 * (1 - 11 / 8.5))


def test_what_is_worst_for_another_set_up_does_not_count():
    other = errors({"a": (9.0, 0.0), "b": (0.0, 0.0)})
    table = tabulate([run("none", 0, errors({"a": (0.0, 0.0), "b": (0.0, 1.0)})), run("trace", 0, other)])
    trace = table["rows"][1]["errors"]["validation"]
    assert (trace["mae_cha_sample"]["mean"], trace["mae_cha_block"]["mean"]) == (0.0, 0.0)
    assert trace["mae_all"]["mean"] == pytest.approx(9 / 8)


def test_several_seeds_give_mean_and_standard_deviation_and_the_base_is_worst_on_their_mean():
    base = [errors({"a": (0.0, first), "b": (0.0, second)}) for first, second in ((2.0, 1.0), (1.0, 4.0), (2.0, 2.5))]
    table = tabulate([run("none", seed, e) for seed, e in enumerate(base)])
    assert table["seeds"] == [0, 1, 2]
    assert table["sets"]["validation"]["challenging_sample"] == "b"  # although two seeds of three are worse on a
    sample = table["rows"][0]["errors"]["validation"]["mae_cha_sample"]
    values = np.array([1.0, 4.0, 2.5]) * 3 / 4
    assert sample["values"] == pytest.approx(values)
    assert (sample["mean"], sample["spread"]) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert "± 1.125" in to_markdown(table)


def test_cost_is_the_least_time_of_a_step_beside_that_of_the_base():
    disturbed = replace(run("gate", 0, GRAD), log=tuple(Row(s, t, 3.0, 2.0) for s, t in ((10, 9.0), (20, 11.0), (30, 96.0))))
    base, gate = tabulate([run("none", 0, BASE), disturbed])["rows"]
    assert (base["cost"], base["steps"], base["seconds"]) == pytest.approx((1.0, 30, 3.0))
    assert (gate["cost"], gate["seconds_per_step"], gate["seconds"]) == pytest.approx((2.0, 0.2, 96.0))
    assert gate["curves"] == [{"seed": 0, "step": [10, 20, 30], "seconds": [9.0, 11.0, 96.0], "validation_mae": [2.0] * 3}]


def test_rows_stand_in_the_order_of_the_paper_and_are_called_as_there():
    table = tabulate([run(setup, 0, BASE) for setup in reversed(SETUPS)])
    assert [row["name"] for row in table["rows"]] == [
        *("deep (baseline)", "deep+Trace", "deep+Gate", "deep+Grad", "deep+TraceGate", "deep+TraceGrad"),
    ]


def test_csv_and_markdown_hold_the_numbers_of_the_table(tmp_path):
    table = ablation.write(tmp_path / "ablation.json", tabulate([run("none", 0, BASE), run("grad", 0, GRAD, 0.2)]))
    assert json.loads((tmp_path / "ablation.json").read_text()) == table
    rows = list(csv.DictReader(io.StringIO((tmp_path / "ablation.csv").read_text())))
    assert [row["setup"] for row in rows] == ["none", "grad"]
    assert float(rows[1]["validation:mae_cha_block_mev"]) == table["rows"][1]["errors"]["validation"]["mae_cha_block"]["mean"]
    assert (rows[1]["validation:mae_all_spread_mev"], float(rows[1]["cost"])) == ("", pytest.approx(2.0))
    text = (tmp_path / "ablation.md").read_text()
    assert "|  | validation: MAE_all | validation: MAE^cha_sample | validation: MAE^cha_block | steps |" in text
    assert "| deep+Grad | 1.875 (+3) | 2.750 (-29) | 3.000 (-20) | 30 | 6 | 0.2 | 2.00 |" in text
    assert "validation: 2 structures; the base is worst on b and on the block s - s." in text
    assert to_csv(table) == (tmp_path / "ablation.csv").read_text()


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([run("grad", 0, GRAD)], "no training of the set-up none"),
        ([run("none", 0, BASE), run("none", 0, BASE)], "two trainings of one set-up and seed"),
        ([run("none", 0, BASE), run("grad", 0, GRAD, steps=20)], r"grad/0: 20 steps. Expected 30 steps, as in none/0"),
        ([run("none", 0, BASE), replace(run("grad", 0, GRAD), common={})], "trained with other settings or data"),
        ([run("none", 0, BASE), run("grad", 0, errors({"c": (1.0, 1.0)}))], "judged by other structures of validation"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(runs, words):
    with pytest.raises(InputError, match=words):
        tabulate(runs)


def test_folders_without_a_training_or_without_errors_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"training\.json: is missing or damaged"):
        stages.ablate([tmp_path], tmp_path / "ablation.json", AblateSection())
    (tmp_path / "run").mkdir()
    for network in ({}, {"tracegrad": "gate"}):
        note = {"section": LearnSection(network=network).model_dump(mode="json"), "split": {}}
        (tmp_path / "run" / "training.json").write_text(json.dumps(note))
        if not network:
            with pytest.raises(InputError, match=r"training\.json: network\.tracegrad is not set"):
                ablation.read_run(tmp_path, ["validation"])
    with pytest.raises(InputError, match=r"log\.csv: holds no validation"):
        ablation.read_run(tmp_path, ["validation"])
    (tmp_path / "run" / "log.csv").write_text("step,seconds,train_mae,validation_mae\n10,1,3,2\n")
    with pytest.raises(InputError, match=r"errors/validation\.json: does not exist"):
        ablation.read_run(tmp_path, ["validation"])
    assert not (tmp_path / "ablation.json").exists()


# --- the settings of the trainings -------------------------------------------------------------------------------------------


def test_trainings_differ_in_set_up_and_seed_alone_and_all_take_the_same_steps_and_split():
    model = LearnSection(network={"blocks": 2}, train=TrainSection(max_steps=500, max_minutes=5, patience=3, seed=7))
    sections = {
        (setup, seed): section_of(model, AblateSection(seeds=(0, 1)), setup, seed)
        for setup, seed in AblateSection(seeds=(0, 1)).runs
    }
    assert len(sections) == 12
    for (setup, seed), section in sections.items():
        assert section.network == {"blocks": 2, "tracegrad": setup}
        expected = {"seed": seed, "split_seed": 7, "max_minutes": None, "patience": None}
        assert section.train == model.train.model_copy(update=expected)
    assert section_of(model.model_copy(update={"init_from": "c.pt"}), AblateSection(), "gate", 0).init_from is None
    assert section_of(model, AblateSection(max_steps=40), "gate", 0).train.max_steps == 40


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            {"setups": ["none", "tracegard"]},
            "config.yaml: ablate.setups.1: unknown set-up 'tracegard'. .*mean tracegrad",
        ),
        ({"setups": ["trace", "grad"]}, "config.yaml: ablate: the set-ups trace, grad lack none"),
        ({"setups": ["none", "none"]}, "ablate: setups none, none. Expected each of them once"),
        ({"model": "smal"}, "config.yaml: ablate.model: unknown model 'smal'. .*Did you mean small"),
        ({"split": "test"}, "config.yaml: ablate.split: test, for which models.small.train.test = 0 keeps no calculation"),
        ({"sets": {"twisted": []}}, "config.yaml: ablate.sets.twisted: it is empty"),
        ({"sets": {"twisted": ["twist"]}}, "unknown name 'twist'. Expected .*: twists. Did you mean twists"),
        ({"sets": {"own": ["graphene"]}}, "ablate.sets.own: unknown name 'graphene'. .*data set that it does not learn from"),
        ({"sets": {"validation": ["twists"]}}, "ablate: a set is called validation"),
        ({"seeds": []}, "ablate.seeds"),
    ],
)
def test_sections_that_cannot_be_used_are_refused_in_one_sentence(section, words):
    with pytest.raises(InputError, match=words) as refused:
        check({**SMALLEST, "ablate": section}, discover=None)
    assert "\n" not in str(refused.value)


def test_the_first_model_and_all_its_references_are_taken_if_nothing_is_said():
    targets = {"known": {"reference": "r"}, "other": {"reference": "s", "models": ["big"]}, "new": {"structure": "a.cif"}}
    models = {**SMALLEST["models"], "big": {"datasets": ["graphene"]}}
    chosen = check({**SMALLEST, "models": models, "targets": targets}, discover=None).ablation()
    assert (chosen.model, chosen.sets, chosen.judges) == ("small", {"targets": ("known",)}, ("validation", "targets"))
    assert check(SMALLEST, discover=None).ablation().sets == {}


def test_a_model_that_is_not_trained_is_passed_over_and_refused_if_named():
    models = {"given": {"datasets": ["graphene"], "checkpoint": "c.pt"}, **SMALLEST["models"]}
    assert check({**SMALLEST, "models": models}, discover=None).ablation().model == "small"
    with pytest.raises(
        InputError, match=r"ablate\.model: given is used as it is, from c\.pt\. Expected a model that is trained"
    ):
        check({**SMALLEST, "models": models, "ablate": {"model": "given"}}, discover=None)
