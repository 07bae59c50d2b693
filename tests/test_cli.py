"""The command line: help for people, one sentence for wrong input, and the same settings whichever way they come."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from orbitrace import __version__, stages
from orbitrace.cli import app, main
from orbitrace.commands.options import over, settings_of
from orbitrace.config import BandsSection
from orbitrace.learning import LearnSection
from orbitrace.schema import to_json

STAGES = [
    *("scan", "read", "shard", "train", "evaluate", "ablate", "twist"),
    *("overlap", "predict", "bands", "dos", "unfold", "report", "convert", "status"),
]


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a call."""
    monkeypatch.setattr(sys, "argv", ["orbitrace", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_every_stage_is_a_sub_command_and_a_function():
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert names == STAGES
    assert [name for name in STAGES if not callable(getattr(stages, name, None))] == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help(monkeypatch, capsys, stage):
    code, out, _ = run(monkeypatch, capsys, stage, "--help")
    assert code == 0
    assert f"orbitrace {stage}" in out


def test_the_version_is_printed(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version") == (0, f"orbitrace {__version__}\n", "")


def test_help_comes_at_once():
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from orbitrace.cli import main; main()", "--help"], check=True, capture_output=True
        )
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.8  # 0.3 s on an idle machine


def test_wrong_input_ends_in_one_sentence_and_no_traceback(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "read", str(tmp_path / "nothing"), "--out", str(tmp_path / "out"))
    assert code == 2
    assert err.startswith("orbitrace: ")
    assert err.count("\n") == 1
    assert "nothing" in err
    assert not (tmp_path / "out").exists()


def test_what_is_no_calculation_is_answered_with_what_is_known(monkeypatch, capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    code, _, err = run(monkeypatch, capsys, "read", str(tmp_path), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "openmx" in err


def test_a_full_disk_ends_in_one_sentence(monkeypatch, capsys, tmp_path):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "results/here")

    monkeypatch.setattr(stages, "convert", full)
    code, _, err = run(monkeypatch, capsys, "convert", str(tmp_path), "--out", "x")
    assert (code, err) == (2, "orbitrace: results/here: No space left on device.\n")


def test_a_defect_shows_where_it_is_and_says_that_it_is_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(stages, "convert", lambda *_: 1 / 0)
    code, _, err = run(monkeypatch, capsys, "convert", str(tmp_path), "--out", "x")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert err.rstrip().endswith("please report it with the lines above.")


def test_an_unknown_setting_is_refused_with_the_closest_one(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "bands", str(tmp_path), "--out", "b.h5", "--settings", '{"densty": 3}')
    assert code == 2
    assert "--settings: densty: unknown key. Did you mean density?" in err


def test_a_negative_distance_is_refused(monkeypatch, capsys, tmp_path):
    code, _, err = run(
        monkeypatch, capsys, "twist", "--m", "1", "--n", "2", "--distance", "-3", "--out", str(tmp_path / "t.cif")
    )
    assert code == 2
    assert "orbitrace twist: distance: found -3.0. Expected greater than 0" in err


def test_plain_options_win_over_a_file_and_a_file_over_defaults(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("datasets: {a: {}}\nmodels: {m: {datasets: [a]}}\nbands: {density: 7, path: GM}\n")
    settings = settings_of(BandsSection, "bands", file, None, path="GK", density=None)
    assert settings == BandsSection(density=7, path="GK")


def test_rules_pass_the_same_settings_as_a_configuration(tmp_path):
    settings = LearnSection.model_validate({"network": {"layers": 2}, "train": {"seed": 4}})
    assert settings_of(LearnSection, "train", None, to_json(settings)) == settings


def test_options_reach_into_nested_settings():
    assert over({"train": {"seed": 1, "ema": 0.5}}, {"train": {"seed": 2, "ema": None}}) == {"train": {"seed": 2, "ema": 0.5}}


def test_scan_says_what_it_found(monkeypatch, capsys, tmp_path, example):
    manifest = tmp_path / "manifest.json"
    code, out, _ = run(monkeypatch, capsys, "scan", str(example / "data"), "--out", str(manifest), "--shard-size", "10")
    assert code == 0
    assert "16 calculations, 2 shards" in out
    assert manifest.is_file()


def test_status_of_an_empty_project_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("datasets: {a: {}}\nmodels: {m: {datasets: [a]}}\n")
    code, out, _ = run(monkeypatch, capsys, "status")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["data", "model", "report"]
    assert "not scanned" in out
    assert out.count("missing") == 2
