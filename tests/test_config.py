"""The configuration: what is refused, in which words, and that config.yaml says what the schema says."""

import json
import re
from pathlib import Path

import pytest
import yaml

from orbitrace.config import BandsSection, Config, LearnSection, check, check_files, load
from orbitrace.errors import InputError
from orbitrace.schema import Section, _section_in, from_json, to_json

REPOSITORY = Path(__file__).resolve().parent.parent
SMALLEST = {"datasets": {"graphene": {}}, "models": {"small": {"datasets": ["graphene"]}}}


def with_value(path: str, value: object) -> dict[str, object]:
    """The smallest configuration with one value put in at a path in dots."""
    data = json.loads(json.dumps(SMALLEST))
    place = data
    *steps, last = path.split(".")
    for step in steps:
        place = place.setdefault(step, {})
    place[last] = value
    return data


def test_the_smallest_configuration_names_a_data_set_and_a_model():
    config = check(SMALLEST, discover=None)
    assert config.dataset_folder("graphene") == Path("data/graphene")
    assert config.models["small"].train.learning_rate > 0


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "models.small.train.learning_rat",
            1,
            ["models.small.train.learning_rat: unknown key", "Did you mean learning_rate?"],
        ),
        ("band", {}, ["config.yaml: band: unknown key", "Did you mean bands?"]),
        ("scan.zzz", 1, ["scan.zzz: unknown key", "one of fingerprint, shard_size"]),
        ("bands.density", -1, ["bands.density: found -1", "greater than 0", "k points per 1/Å"]),
        ("bands.window", [2, -2], ["bands.window: the window [2.0, -2.0] is empty", "lower < upper"]),
        ("overlap", {"way": "from_ion", "pao": "PAO"}, ["overlap: pao given for the way from_ion", "way: from_pao"]),
        ("bands.solver", "densee", ["bands.solver: unknown name 'densee'", "Did you mean dense?"]),
        ("models.small.model", "deeph", ["models.small.model: unknown name 'deeph'", "deeph_e3"]),
        ("models.small.retrain", "nevr", ["models.small.retrain: found 'nevr'", "'auto' or 'never'"]),
        (
            "models.small.init_from",
            "small",
            ["models.small.init_from: a circle: small starts from small", "trained before"],
        ),
        (
            "models",
            {"a": {"datasets": ["graphene"], "init_from": "b"}, "b": {"datasets": ["graphene"], "init_from": "a"}},
            ["models.a.init_from: a circle: a starts from b starts from a"],
        ),
        (
            "models",
            {
                "a": {"datasets": ["graphene"], "network": {"blocks": 2}},
                "b": {"datasets": ["graphene"], "init_from": "a", "network": {"blocks": 3}},
            },
            ["models.b.init_from: network.blocks is 2 in a, and 3 here", "Leave blocks out here"],
        ),
        ("models.small.datasets", ["grafene"], ["unknown data set 'grafene'", "Did you mean graphene?"]),
        ("models.small.train.loss.band", 1, ["models.small.train.loss.band: unknown key", "Did you mean bands?"]),
        ("models.small.train.loss.mse", -1, ["models.small.train.loss.mse: found -1", "greater than or equal to 0"]),
        ("models.small.train.loss", {"mae": 0}, ["train.loss: no weight but that of the trace loss", "a positive weight"]),
        ("models.small.train.loss.window", [1, -1], ["train.loss.window: the window [1.0, -1.0] is empty", "lower < upper"]),
        ("models.small.train.target", "h0", ["train.target: found 'h0'", "'absolute', 'gauge' or 'residual'"]),
        ("models.small.train.validation", 1.5, ["models.small.train.validation: found 1.5", "less than 1"]),
        ("targets.a.models", ["big"], ["targets.a", "exactly one of twist, structure, reference"]),
        ("targets.a", {"structure": "a.cif", "models": ["big"]}, ["targets.a.models: unknown model 'big'", "one of small"]),
        ("targets.a.twist", {"m": 1}, ["targets.a.twist: m given", "exactly one of m and n"]),
        ("targets.a.twist", {"m": 1, "n": 2, "distance": -3.35}, ["targets.a.twist.distance: found -3.35"]),
        ("targets.a.twist", {"m": 2, "n": 2}, ["targets.a.twist: (m, n) = (2, 2) is no twist", "two different integers"]),
        ("targets.a.twist", {"m": 2, "n": 4}, ["(2, 4) has the common divisor 2", "(1, 2) is the same twist"]),
        ("evaluate.split", "test", ["evaluate.split: test, for which models.small.train.test = 0", "choose another split"]),
        (
            "models.small.train.validation",
            0,
            ["evaluate.split: validation", "models.small.train.validation = 0", "another split"],
        ),
        (
            "bands",
            {"solver": "shift_invert", "options": {"blok": 8}},
            ["bands: unknown option 'blok' of shift_invert", "block?"],
        ),
        (
            "bands",
            {"solver": "shift_invert", "options": {"block": "wide"}},
            ["option block of shift_invert is 'wide'", "integer"],
        ),
        (
            "bands",
            {"solver": "dense", "options": {"block": 8}},
            ["unknown option 'block' of dense", "Expected one of ill_threshold"],
        ),
        ("bands.options", {"block": 8}, ["bands: options without a solver", "name it in bands.solver"]),
        ("bands.path", "G-M;K", ["bands.path: the path 'G-M;K' cannot be read", "GMKG"]),
        ("bands.path", "gmkg", ["bands.path: the path 'gmkg' cannot be read"]),
        ("bands.path", "GM,K", ["bands.path: the path 'GM,K' cannot be read", "two points"]),
        ("bands.path", [["G", [0, 0, 0]], None, ["M", [0.5, 0, 0]]], ["a part of the path has less than two points"]),
        ("datasets.a b", {}, ["a b"]),
        ("models", {}, ["models: found {}"]),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence_that_names_the_key(path, value, words):
    with pytest.raises(InputError) as refused:
        check(with_value(path, value), discover=None)
    sentence = str(refused.value)
    assert sentence.startswith("config.yaml: ")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_a_part_that_judges_a_model_has_a_fraction_and_the_rest_never_needs_one():
    assert check(with_value("evaluate.split", "train") | {"scan": {}}, discover=None).evaluate.split == "train"
    both = with_value("models.small.train", {"validation": 0, "test": 0.1})
    assert check({**both, "evaluate": {"split": "test"}}, discover=None).evaluate.split == "test"


@pytest.mark.parametrize("path", ["auto", "G", "GMKG", "Γ-M, K-GAMMA", "Z_0 Σ0|X1A2", [["a", [0, 0, 0]], ["b", [0.5, 0, 0]]]])
def test_paths_that_can_be_read_are_taken(path):
    assert check(with_value("bands.path", path), discover=None).bands.path


def test_options_of_the_solver_are_taken():
    bands = {"solver": "shift_invert", "options": {"block": 8, "tolerance": 1e-9}}
    assert check(with_value("bands", bands), discover=None).bands.options["block"] == 8


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("reference", {"reference": "nowhere"}),
        ("structure", {"structure": "nowhere/a.cif"}),
        ("twist.layer", {"twist": {"m": 1, "n": 2, "layer": "nowhere"}}),
        ("twist.top", {"twist": {"m": 1, "n": 2, "top": "grafene"}}),
    ],
)
def test_files_of_targets_that_do_not_exist_are_refused_by_their_key(key, target):
    config = check(with_value("targets.a", target), discover=None)
    with pytest.raises(InputError, match=rf"^config\.yaml: targets\.a\.{key}: .* does not exist\. Expected"):
        check_files(config)


def test_a_model_starts_from_the_checkpoint_of_another_one_or_from_a_file(tmp_path):
    data = {**SMALLEST, "models": {"a": {"datasets": ["graphene"]}, "b": {"datasets": ["graphene"], "init_from": "a"}}}
    config = check(data, discover=None)
    check_files(config)
    assert config.settings_of("train", {"model": "b"}).init_from == "results/models/a/checkpoint.pt"
    assert config.settings_of("train", {"model": "a"}).init_from is None
    (tmp_path / "mine.pt").write_text("")
    config = check(with_value("models.small.init_from", str(tmp_path / "mine.pt")), discover=None)
    check_files(config)
    assert config.settings_of("train").init_from == str(tmp_path / "mine.pt")


def test_a_checkpoint_that_does_not_exist_is_refused_by_its_key():
    data = {**SMALLEST, "models": {"a": {"datasets": ["graphene"]}, "b": {"datasets": ["graphene"], "init_from": "aa"}}}
    words = r"^config\.yaml: models\.b\.init_from: aa does not exist\. Expected .* another model: a\. Did you mean a\?"
    with pytest.raises(InputError, match=words):
        check_files(check(data, discover=None))


def test_files_of_targets_that_exist_and_layers_that_are_built_in_are_taken(tmp_path):
    (tmp_path / "a.cif").write_text("")
    targets = {
        "a": {"structure": str(tmp_path / "a.cif")},
        "b": {"twist": {"m": 1, "n": 2}},
        "c": {"reference": str(tmp_path)},
    }
    check_files(check(with_value("targets", targets), discover=None))


def test_validation_and_test_must_leave_something_to_train_on():
    with pytest.raises(InputError, match="leave nothing to train on"):
        check(with_value("models.small.train", {"validation": 0.6, "test": 0.4}), discover=None)


@pytest.mark.parametrize(("text", "word"), [("a: [", "not YAML"), ("", "datasets: is missing")])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, word):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=word) as refused:
        load(file, discover=None)
    assert str(file) in str(refused.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load(tmp_path / "none.yaml")


def test_yaml_writes_numbers_without_a_point_as_text_and_they_count_as_numbers():
    data = with_value("models.small.train.learning_rate", yaml.safe_load("1e-3"))
    assert check(data, discover=None).models["small"].train.learning_rate == 1e-3


def test_structures_dropped_into_the_folder_become_targets(tmp_path):
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "slab.cif").write_text("")
    (tmp_path / "flake.vasp").write_text("")
    config = check(with_value("targets.mine", {"structure": str(tmp_path / "flake.vasp")}), discover=tmp_path)
    assert sorted(config.targets) == ["mine", "slab"]
    assert config.targets_of("small") == ("mine", "slab")


def test_what_is_no_structure_is_passed_over_in_the_folder(tmp_path):
    for name in ("notes.txt", ".hidden.cif", "run.py", "POSCAR_edge", "wire.xyz", "CONTCAR"):
        (tmp_path / name).write_text("")
    for folder, names in {"old": ("slab.cif",), "run.1": ("POSCAR", "info.json"), "vasp": ("POSCAR", "INCAR")}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text("")
    config = check(SMALLEST, discover=tmp_path)
    assert sorted(config.targets) == ["CONTCAR", "POSCAR_edge", "run.1", "wire"]


def test_two_structures_of_one_name_are_refused(tmp_path):
    (tmp_path / "slab.cif").write_text("")
    (tmp_path / "slab.vasp").write_text("")
    with pytest.raises(InputError, match="a second target 'slab'"):
        check(SMALLEST, discover=tmp_path)


def test_a_structure_whose_name_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "my slab.cif").write_text("")
    with pytest.raises(InputError, match="my slab"):
        check(SMALLEST, discover=tmp_path)


def test_settings_survive_the_way_through_the_command_line():
    settings = BandsSection(density=7.0, window=(-1.0, 2.0))
    assert from_json(BandsSection, to_json(settings)) == settings


def test_settings_of_rules_are_sorted_and_name_the_versions():
    data = json.loads(to_json(check(SMALLEST, discover=None).settings_of("train", {"model": "small"})))
    assert list(data) == sorted(data)
    assert set(data["versions"]) == {"orbitrace", "schema"}


def test_settings_of_one_model_do_not_depend_on_another_one_nor_on_its_data():
    other = with_value("models.big", {"datasets": ["graphene"], "train": {"seed": 3}})
    other["datasets"]["more"] = {}
    other["models"]["small"]["datasets"] = ["graphene", "more"]
    mine, theirs = (check(data, discover=None).settings_of("train", {"model": "small"}) for data in (SMALLEST, other))
    assert mine == theirs == LearnSection()


def test_a_name_is_asked_for_where_there_are_two():
    config = check(with_value("models.big", {"datasets": ["graphene"]}), discover=None)
    with pytest.raises(InputError, match="the name of one of them"):
        config.settings_of("train")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_settings_that_are_no_json_object_are_refused(text):
    with pytest.raises(InputError, match="--settings"):
        from_json(BandsSection, text)


def test_the_shipped_configuration_is_the_example():
    config = load(REPOSITORY / "config.yaml", discover=None)
    for dataset in config.datasets:
        assert (REPOSITORY / config.dataset_folder(dataset)).is_dir()
    for target in config.targets.values():
        assert target.reference is None or (REPOSITORY / target.reference).is_dir()


def test_the_shipped_configuration_shows_every_key_with_its_default():
    text = (REPOSITORY / "config.yaml").read_text()
    uncommented = re.sub(r"^( +)# (?=[a-z_]+: )", r"\1", text, flags=re.MULTILINE)
    assert [key for key in keys_of(Config) if not re.search(rf"\b{key}:", uncommented)] == []
    shown = check(yaml.safe_load(uncommented), discover=None).model_dump()
    del shown["targets"]["more"]
    assert shown == load(REPOSITORY / "config.yaml", discover=None).model_dump()


def keys_of(section: type[Section]) -> list[str]:
    """All keys of a section and those inside it."""
    return [key for kind in sections(section) for key in kind.model_fields]


def test_every_key_says_what_it_means():
    silent = [
        f"{kind.__name__}.{key}"
        for kind in sections(Config)
        for key, field in kind.model_fields.items()
        if not field.description and _section_in(field.annotation) is None
    ]
    assert silent == []


def sections(kind: type[Section]) -> list[type[Section]]:
    """A section and all inside it."""
    return [
        kind,
        *(s for field in kind.model_fields.values() if (inner := _section_in(field.annotation)) for s in sections(inner)),
    ]


def test_a_model_may_be_a_checkpoint_that_exists_and_starts_from_no_other(tmp_path):
    file = tmp_path / "model.pt"
    data = {"datasets": {"a": None}, "models": {"m": {"datasets": ["a"], "checkpoint": str(file)}}}
    config = check(data, discover=None)
    with pytest.raises(InputError, match=r"models\.m\.checkpoint.*does not exist"):
        check_files(config)
    file.write_bytes(b"")
    check_files(config)
    data["models"]["m"]["init_from"] = str(file)
    with pytest.raises(InputError, match="both checkpoint and init_from"):
        check(data, discover=None)
