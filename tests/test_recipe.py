"""Recipes are read with YAML 1.2 semantics, and every error names the file, line, key and closest valid name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fer_augment.errors import RecipeError
from fer_augment.recipe.recipe import (
    Recipe,
    StrategyStep,
    check_recipe_file,
    load_recipe,
    load_recipes,
    recipe_yaml,
    shipped_recipes,
)
from fer_augment.recipe.yaml_source import Fault, dump_yaml, parse_yaml


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "r.yaml") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def loaded(text: str, *overrides: str) -> Recipe:
    return load_recipes([write(text)], overrides)[0]


def refusal(*names: str, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipes(names, overrides)
    return str(caught.value)


def names(recipe: Recipe) -> list[str]:
    return [step.name for step in recipe.strategies]


def yaml_value(text: str) -> object:
    faults: list[Fault] = []
    value = parse_yaml(text, "r.yaml", faults).plain()
    assert not faults
    return value


class TestReading:
    def test_only_the_model_is_required(self) -> None:
        recipe = loaded("model: tiny\n")
        assert recipe == Recipe(name="r", model="tiny")
        assert (recipe.training.epochs, recipe.training.scout.folds, recipe.strategies) == (30, 5, ())

    def test_steps_are_names_with_or_without_parameters(self) -> None:
        recipe = loaded("model: tiny\nstrategies:\n  - dedup\n  - mirror:\n  - mixup: {alpha: 0.2}\n")
        assert recipe.strategies == (
            StrategyStep(name="dedup"),
            StrategyStep(name="mirror"),
            StrategyStep(name="mixup", parameters={"alpha": 0.2}),
        )

    def test_the_path_of_a_step_is_relative_to_the_recipe_that_names_it(self, tmp_path: Path) -> None:
        write("model: tiny\nstrategies:\n  - ./mine.py:Mine: {a: 1}\n", "lab/parent.yaml")
        recipe = load_recipe(write("extends: ../lab/parent.yaml\n", "home/child.yaml"))
        assert names(recipe) == [f"{tmp_path}/lab/mine.py:Mine"]
        assert recipe.strategies[0].label == "Mine"

    def test_paths_in_parameters_are_relative_to_the_recipe_that_names_them(self, tmp_path: Path) -> None:
        step = "{s: {file: ./a.csv, both: {x: [../b.csv, c.csv]}, text: .../d, number: 1}}"
        write(f"model: {{convnet0: {{table: ./e.csv}}}}\nstrategies: [{step}]", "models/parent.yaml")
        recipe = load_recipe(write("extends: models/parent.yaml", "child.yaml"))
        models = tmp_path.resolve() / "models"
        expected = {"file": f"{models / 'a.csv'}", "both": {"x": [f"{models.parent / 'b.csv'}", "c.csv"]}}
        assert recipe.strategies[0].parameters == expected | {"text": ".../d", "number": 1}
        assert recipe.model.parameters == {"table": f"{models / 'e.csv'}"}

    def test_a_byte_order_mark_is_ignored(self) -> None:
        Path("r.yaml").write_bytes(b"\xef\xbb\xbfmodel: tiny\n")
        assert load_recipe("r.yaml").model.name == "tiny"

    def test_recipes_are_frozen(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            loaded("model: tiny\n").name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("[yes, Off, y]", ["yes", "Off", "y"]),
        ("[true, True, FALSE]", [True, True, False]),
        ("3", 3),
        ("[012, 00, 0, -07]", ["012", "00", 0, "-07"]),
        ("[0x1F, 0o17]", [31, 15]),
        ("1e-4", 1e-4),
        ("[1e5, .5, 5., -2.5E+3]", [1e5, 0.5, 5.0, -2500.0]),
        ("[.inf, -.INF]", [float("inf"), -float("inf")]),
        ("['3', '1e-4', 'true']", ["3", "1e-4", "true"]),
        ("[1:30, 2024-01-01, 1_000, =]", ["1:30", "2024-01-01", "1_000", "="]),
        ("[~, null, '']", [None, None, ""]),
        ("{3: a, no: b, 1e2: c}", {"3": "a", "no": "b", "1e2": "c"}),
        ("", None),
    ],
)
def test_yaml_is_read_with_the_core_schema_of_version_1_2(text: str, value: object) -> None:
    assert yaml_value(text) == value


def test_dumped_text_stays_text_and_shared_values_are_repeated() -> None:
    shared = [
        "no",
        "1e-4",
        "012",
        "0o17",
        "1_000",
        "null",
        "~",
        "",
        "2024-01-01",
        "a: b",
        "é\n\x07",
        " x",
        "\x85",
    ]
    content = {"a": shared, "b": shared, "3": 1e-5, "no": float("inf"), "c": [True, None, 12, {}]}
    dumped = dump_yaml(content)
    assert yaml_value(dumped) == content
    assert "&" not in dumped


FAULTY = {
    "": ["r.yaml: the file is empty"],
    "# a comment\n": ["r.yaml: the file is empty"],
    "- model\n": ["r.yaml:1: the file should contain `key: value` lines"],
    "model: [a\nname: b\n": ["r.yaml:2: while parsing a flow sequence, expected ',' or ']', but got ':'"],
    "model: a\x07\n": ["r.yaml: the character '\\x07' is not allowed in YAML"],
    "a: " + "[" * 3000: ["r.yaml: nested too deeply"],
    "model: a\n---\nmodel: b\n": ["r.yaml:2: expected a single document in the stream, but found another document"],
    "model: a\n\nmodel: b\n": ["r.yaml:3: model: duplicate key; first set at r.yaml:1"],
    "model: a\ntraining: {epochs: 1, epochs: 2}\n": ["r.yaml:2: training.epochs: duplicate key; first set at r.yaml:2"],
    "model: a\ntraining:\n  epochs: " + "9" * 5000: [
        "r.yaml:3: training.epochs: a number of 5000 digits is too long",
        "r.yaml:3: training.epochs: should be a valid integer, got nothing",
    ],
    "? [model]\n: a\n": [
        "r.yaml:1: a key should be a word, not a list or a mapping",
        "r.yaml: model: is missing",
    ],
    "model: !!python/object/apply:os.system [ls]\n": [
        "r.yaml:1: tags are not supported, got !!python/object/apply:os.system; "
        "write the plain value, or put the text in quotes"
    ],
    "model: &it a\nname: *it\n": [
        "r.yaml:1: anchors (&) and aliases (*) are not supported; repeat the value, or put the text in quotes"
    ],
    "modle: a\n": ["r.yaml:1: modle: unknown key; did you mean 'model'?", "r.yaml: model: is missing"],
    "model: 3\n": ["r.yaml:1: model: should be text, got 3; put it in quotes"],
    "model: a\nepochs: 3\n": ["r.yaml:2: epochs: unknown key; did you mean 'training.epochs'?"],
    "model: a\nbogus: 3\n": [
        "r.yaml:2: bogus: unknown key; known: data, description, extends, model, name, strategies, trackers, "
        "training, without"
    ],
    "model: a\nname: ../a\n": [
        "r.yaml:2: name: should consist of letters, digits, '_', '-' and '.', as it names a folder, got '../a'"
    ],
    "model: a\nname: aux.b\n": [
        "r.yaml:2: name: names a folder, which on Windows cannot be called 'aux.b'; choose another"
    ],
    f"model: a\nname: {'é' * 140}\n": [
        "r.yaml:2: name: should have at most 200 bytes in UTF-8, as it names folders and files, got 280; "
        "choose a shorter name"
    ],
    "model: a\nname: b.\n": ["r.yaml:2: name: names a folder, which on Windows cannot be called 'b.'; choose another"],
    "model: a\ntraining:\n": ["r.yaml:2: training: should be a mapping, got nothing"],
    "model: a\ntraining:\n  epochs: true\n": ["r.yaml:3: training.epochs: should be a valid integer, got true"],
    "model: a\ntraining:\n  scout: {fold: 3}\n": ["r.yaml:3: training.scout.fold: unknown key; did you mean 'folds'?"],
    "model: a\ntraining:\n  optimizer: adma\n\n  learning_rate: .nan\n  momentum: 1\n  epohcs: 3\n": [
        "r.yaml:3: training.optimizer: should be 'adam', 'adamw' or 'sgd', got 'adma'",
        "r.yaml:5: training.learning_rate: should be a finite number, got nan",
        "r.yaml:6: training.momentum: should be less than 1, got 1",
        "r.yaml:7: training.epohcs: unknown key; did you mean 'epochs'?",
    ],
    "model: a\ndata: {held_out_duplicates: no}\n": [
        "r.yaml:2: data.held_out_duplicates: should be 'keep' or 'drop', got 'no'"
    ],
    "model: a\ndata: {held_out_copies: drop}\n": [
        "r.yaml:2: data.held_out_copies: renamed to 'data.held_out_duplicates'"
    ],
    "model: a\nheld_out_copies: drop\n": ["r.yaml:2: held_out_copies: renamed to 'data.held_out_duplicates'"],
    "model: a\ntraining: {optimiser: sgd}\n": ["r.yaml:2: training.optimiser: unknown key; did you mean 'optimizer'?"],
    "model: a\ntrackers: csv\n": ["r.yaml:2: trackers: should be a list, got 'csv'"],
    "model: a\nstrategies: dedup\n": ["r.yaml:2: strategies: should be a list; put a dash before each step"],
    "model: a\nstrategies:\n  - 3\n  - mirror:\n    axis: x\n  - mirror: [x]\n": [
        "r.yaml:3: strategies.0: a step is the name of a strategy, or NAME: {PARAMETER: VALUE}",
        "r.yaml:4: strategies.1: a step has one name; indent its parameters below it, or write "
        "- NAME: {PARAMETER: VALUE}",
        "r.yaml:6: strategies.2: the parameters of mirror should be a mapping, got a list",
    ],
    "extends: [paper]\n": ["r.yaml:1: extends: should be the name of a shipped recipe or the path of a file"],
    "extends: papr\nmodle: b\n": [
        "r.yaml:1: extends: there is no shipped recipe 'papr' (to use a file, give its path: ./papr.yaml); "
        "did you mean 'paper'?",
        "r.yaml:2: modle: unknown key; did you mean 'model'?",
    ],
    "extends: gone.yaml\nwithout: [x]\n": ["r.yaml:1: extends: gone.yaml: no such file"],
    "extends: r.yaml\n": ["r.yaml:1: extends: a recipe cannot extend itself: r.yaml -> r.yaml"],
    "extends: smote\nwithout: [imblaern, 3]\n": [
        "r.yaml:2: without: no step 'imblaern' is inherited; did you mean 'imblearn'?",
        "r.yaml:2: without: no step 3 is inherited; known: imblearn",
    ],
    "extends: smote\nwithout: imblearn\n": ["r.yaml:2: without: should be a list of names of inherited strategies"],
    "model: a\nwithout: [x]\n": ["r.yaml:2: without: no step 'x' is inherited; none are available"],
    'model: a\ndescription: "\\ud83d"\n': [
        "r.yaml:2: description: has half of a character, \\ud83d; write the whole one, such as \\U0001F600"
    ],
    'model: {a: {"\\udc00b": 1}}\n': ["r.yaml:1: model.a: the key '\\udc00b' has half of a character"],
    'model: {vgg_mini: {weights: "a\\0b.pth"}}\n': [
        "r.yaml:1: model.vgg_mini.weights: has a NUL character, \\0; remove it"
    ],
    'model: a\nstrategies: [{"x\\0.py:X": {}}]\n': [
        "r.yaml:2: strategies.0: the key 'x\\x00.py:X' has a NUL character",
        "r.yaml:2: strategies.0: a step is the name of a strategy, or NAME: {PARAMETER: VALUE}",
    ],
}


@pytest.mark.parametrize("text", FAULTY)
def test_check_reports_all_errors_by_line_and_load_the_first(text: str) -> None:
    faults = FAULTY[text]
    assert check_recipe_file(write(text)) == faults
    more = f" (first of {len(faults)} errors; `fer-augment recipes check` lists all)"
    assert refusal("r.yaml") == faults[0] + (more if len(faults) > 1 else "")


@pytest.mark.parametrize("key", ["threads", "batch_size", "epochs", "scout.epochs", "evaluate_every", "patience"])
def test_numbers_are_bounded(key: str) -> None:
    with pytest.raises(RecipeError, match=rf"training.{key}: should be less than or equal to 10\d+, got 9{{20}}"):
        load_recipe("paper", ["training.keep=best", f"training.{key}={'9' * 20}"])


@pytest.mark.parametrize("setting", [{"description": "\ud83d"}, {"strategies": [{"dedup": {"a": ["\ud83d"]}}]}])
def test_half_of_a_character_is_refused_in_python_too(setting: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"has half of a character, \\ud83d; write the whole one"):
        Recipe(name="r", model="convnet4", **setting)


@pytest.mark.parametrize("setting", [{"model": {"a": {"weights": Path("a\0b")}}}, {"strategies": ["a\0.py:A"]}])
def test_a_path_with_a_nul_character_is_refused_in_python_too(setting: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="has a NUL character"):
        Recipe(**{"name": "r", "model": "convnet4"} | setting)


def test_a_file_that_is_not_utf_8_is_refused() -> None:
    Path("r.yaml").write_bytes("model: é\n".encode("latin-1"))
    assert check_recipe_file("r.yaml") == ["r.yaml: not UTF-8 text; save the file as UTF-8"]


def test_errors_in_a_parent_are_reported_in_the_file_of_the_parent() -> None:
    write("model: a\ntraining: {epochs: 0}\n", "base.yaml")
    write("extends: base.yaml\nmodle: b\n", "child.yaml")
    assert check_recipe_file("child.yaml") == [
        "base.yaml:2: training.epochs: should be greater than or equal to 1, got 0",
        "child.yaml:2: modle: unknown key; did you mean 'model'?",
    ]


def test_a_valid_recipe_has_no_errors() -> None:
    assert check_recipe_file(write("model: tiny\n")) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.yaml", "gone.yaml: no such file"),
        ("./gone", "gone: no such file"),
        (
            "smtoe",
            "there is no shipped recipe 'smtoe' (to use a file, give its path: ./smtoe.yaml); did you mean 'smote'?",
        ),
        (
            "zzzzzz",
            "there is no shipped recipe 'zzzzzz' (to use a file, give its path: ./zzzzzz.yaml); "
            "see `fer-augment recipes list`",
        ),
    ],
)
def test_a_missing_file_or_shipped_recipe_is_refused(name: str, message: str) -> None:
    assert refusal(name) == message
    assert check_recipe_file(name) == [message]


class TestExtending:
    def test_mappings_are_merged_into_those_of_the_parent_recursively(self) -> None:
        write("model: a\ntraining: {epochs: 7, batch_size: 32, scout: {folds: 3, epochs: 2}}\n", "base.yaml")
        training = loaded("extends: base.yaml\ntraining: {epochs: 9, scout: {folds: 4}}\n").training
        assert (training.epochs, training.batch_size) == (9, 32)
        assert (training.scout.folds, training.scout.epochs) == (4, 2)

    def test_strategies_are_appended_to_those_of_the_parent(self) -> None:
        write("model: a\nstrategies: [one, two]\n", "base.yaml")
        assert names(loaded("extends: base.yaml\nstrategies: [three, one]\n")) == [
            "one",
            "two",
            "three",
            "one",
        ]

    def test_without_removes_all_inherited_steps_of_a_name_but_not_own_ones(self) -> None:
        write("model: a\nstrategies: [one, two, one, ./x.py:Three]\n", "base.yaml")
        child = loaded("extends: base.yaml\nwithout: [one, Three]\nstrategies: [one: {a: 1}]\n")
        assert names(child) == ["two", "one"]

    def test_name_and_description_are_not_inherited(self) -> None:
        write("name: parent\ndescription: Mine.\nmodel: a\n", "base.yaml")
        child = loaded("extends: base.yaml\n")
        assert (child.name, child.description) == ("r", "")

    def test_a_parent_may_be_shipped_or_have_a_parent_itself(self) -> None:
        write("extends: paper\ntraining: {epochs: 2}\n", "middle.yaml")
        child = loaded("extends: middle.yaml\n")
        assert (child.model.name, child.training.epochs, child.training.loss) == ("convnet5", 2, "mse")

    def test_a_parent_need_not_be_complete(self) -> None:
        write("training: {epochs: 2}\n", "settings.yaml")
        assert loaded("extends: settings.yaml\nmodel: a\n").training.epochs == 2

    def test_circular_inheritance_is_refused(self) -> None:
        write("extends: b.yaml\n", "a.yaml")
        write("extends: ./a.yaml\n", "b.yaml")
        assert refusal("a.yaml") == ("b.yaml:1: extends: a recipe cannot extend itself: a.yaml -> b.yaml -> a.yaml")


class TestOverriding:
    def test_settings_are_overridden_in_every_arm(self) -> None:
        write("model: a\ntraining: {epochs: 9, batch_size: 4}\n", "a.yaml")
        write("model: b\n", "b.yaml")
        arms = load_recipes(["a.yaml", "b.yaml"], ["training.epochs=5", "training.learning_rate=1e-5", "model=c"])
        assert [(arm.model.name, arm.training.epochs, arm.training.learning_rate) for arm in arms] == [
            ("c", 5, 1e-5)
        ] * 2
        assert arms[0].training.batch_size == 4

    def test_a_parameter_is_set_in_all_steps_of_a_name_in_the_arms_that_have_it(self) -> None:
        write("model: a\nstrategies: [mixup: {alpha: 1, mode: x}, dedup, mixup]\n", "a.yaml")
        write("model: b\n", "b.yaml")
        overrides = ["strategies.mixup.alpha=0.5", "strategies.mixup.classes=[no, 3]"]
        first, second = load_recipes(["a.yaml", "b.yaml"], overrides)
        assert [step.parameters for step in first.strategies] == [
            {"alpha": 0.5, "mode": "x", "classes": ["no", 3]},
            {},
            {"alpha": 0.5, "classes": ["no", 3]},
        ]
        assert second.strategies == ()

    def test_a_nested_parameter_is_set_without_changing_others(self) -> None:
        recipe = load_recipes(["smote"], ["strategies.imblearn.parameters.k_neighbors=3"])[0]
        assert recipe.strategies[0].parameters["parameters"] == {"k_neighbors": 3}
        assert recipe.strategies[0].parameters["sampler"] == "SMOTE"

    @pytest.mark.parametrize(
        ("value", "expected"), [("{}", {}), ("{m: 5}", {"m": 5}), ("{k: {z: 1}}", {"k": {"z": 1}})]
    )
    def test_a_mapping_as_a_value_replaces_the_one_of_the_recipe(self, value: str, expected: dict[str, Any]) -> None:
        write("model: {net: {stages: {k: {y: 2}}}}\nstrategies: [s: {parameters: {k: {y: 2}}, a: 1}]\n", "r.yaml")
        recipe = load_recipe("r.yaml", [f"strategies.s.parameters={value}", f"model.net.stages={value}"])
        assert recipe.strategies[0].parameters == {"parameters": expected, "a": 1}
        assert recipe.model.parameters == {"stages": expected}

    def test_a_mapping_for_a_section_keeps_its_other_settings(self) -> None:
        write("model: a\ntraining: {epochs: 9, batch_size: 4, scout: {folds: 3, epochs: 2}}\n", "r.yaml")
        training = load_recipe("r.yaml", ["training={epochs: 5}", "training.scout={folds: 4}"]).training
        assert (training.epochs, training.batch_size) == (5, 4)
        assert (training.scout.folds, training.scout.epochs) == (4, None)

    def test_a_step_in_a_file_is_named_by_its_class(self) -> None:
        recipe = loaded("model: a\nstrategies: ['./mine.py:Mine']\n", "strategies.Mine.a=1")
        assert recipe.strategies[0].parameters == {"a": 1}

    def test_relative_paths_start_at_the_working_directory_and_become_absolute(self, tmp_path: Path) -> None:
        write("model: tiny\nstrategies: [s]\n", "lab/r.yaml")
        overrides = ["model.tiny.weights=out/run", "model.tiny.table=../t.csv", "strategies.s.both=[./a.csv, a.csv]"]
        recipe = load_recipe("lab/r.yaml", [*overrides, "training.loss=own.py:own", "trackers=[./own.py:log]"])
        here = tmp_path.resolve()
        assert recipe.model.parameters == {"weights": f"{here}/out/run", "table": f"{here.parent}/t.csv"}
        assert recipe.strategies[0].parameters == {"both": [f"{here}/a.csv", "a.csv"]}
        assert (recipe.training.loss, recipe.trackers) == (f"{here}/own.py:own", (f"{here}/own.py:log",))
        assert load_recipe(write(recipe_yaml(recipe), "elsewhere/copy.yaml")) == recipe
        assert load_recipe("lab/r.yaml", ["model=./nets.py:Net"]).model.name == f"{here}/nets.py:Net"

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("training.epoch=5", "training.epoch: unknown key; did you mean 'epochs'?"),
            ("epochs=5", "epochs: unknown key; did you mean 'training.epochs'?"),
            ("training.epochs=no", "training.epochs: should be a valid integer, got 'no'"),
            ("training=5", "training: should be a mapping, got 5"),
            ("data.held_out_copies=drop", "data.held_out_copies: renamed to 'data.held_out_duplicates'"),
            ("model.depth=3", "write model=NAME, or model.NAME.parameter=value"),
            ("training.epochs", "write it as key=value, for example training.epochs=5"),
            ("training..epochs=5", "write it as key=value, for example training.epochs=5"),
            ("=5", "write it as key=value, for example training.epochs=5"),
            ("extends=paper", "'extends' can only be set in a recipe file"),
            ("strategies=[]", "name a step and its parameter: strategies.NAME.parameter=value"),
            ("strategies.imblearn=3", "name a step and its parameter: strategies.NAME.parameter=value"),
            ("strategies.imblaern.a=3", "no recipe has a step 'imblaern'; did you mean 'imblearn'?"),
            (
                "model=&a b",
                "anchors (&) and aliases (*) are not supported; repeat the value, or put the text in quotes",
            ),
        ],
    )
    def test_an_invalid_override_is_refused(self, override: str, message: str) -> None:
        assert refusal("paper", "smote", overrides=(override,)) == f"--set {override}: {message}"


class TestArms:
    def test_arms_keep_their_order(self) -> None:
        assert [arm.name for arm in load_recipes(["smote", "paper"])] == ["smote", "paper"]

    def test_no_names_give_no_recipes(self) -> None:
        assert load_recipes([]) == []

    def test_the_same_recipe_twice_is_refused(self) -> None:
        assert refusal("paper", "smote", "paper") == ("recipe 'paper' is given twice; remove one of them")

    def test_two_recipes_with_the_same_name_are_refused(self) -> None:
        write("model: a\n", "one/same.yaml")
        write("model: b\n", "two/same.yaml")
        assert refusal("one/same.yaml", "two/same.yaml") == (
            "one/same.yaml and two/same.yaml are all named 'same'; set a different `name:` in each"
        )


class TestWriting:
    def test_a_written_recipe_is_read_back_unchanged(self) -> None:
        recipe = loaded(
            "name: other\ndescription: 'no: 3'\nmodel: 'no'\ntraining: {learning_rate: 1e-5}\n"
            "trackers: [csv]\nstrategies:\n  - dedup\n"
            "  - ./mine.py:Mine: {a: ['1e-4', 3, no, true, null], b: {3: x}, c: 1e-7}\n"
        )
        assert load_recipe(write(recipe_yaml(recipe), "elsewhere/copy.yaml")) == recipe

    def test_paths_of_a_recipe_built_in_python_start_at_the_working_directory(self, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"table": "./t.csv", "weights": Path("w.pth")}
        steps = ["./mine.py:Mine", {"s": {"file": Path("a.csv"), "text": "a.csv"}}]
        built = Recipe(name="r", model={"tiny": settings}, strategies=steps)
        (recipe,) = load_recipes([built])
        here = tmp_path.resolve()
        assert recipe.model.parameters == {"table": f"{here}/t.csv", "weights": f"{here}/w.pth"}
        assert names(recipe) == [f"{here}/mine.py:Mine", "s"]
        assert recipe.strategies[1].parameters == {"file": f"{here}/a.csv", "text": "a.csv"}
        assert load_recipe(write(recipe_yaml(recipe), "elsewhere/copy.yaml")) == recipe

    @pytest.mark.parametrize("name", shipped_recipes())
    def test_shipped_recipes_are_read_back_unchanged(self, name: str) -> None:
        recipe = load_recipe(name)
        assert load_recipe(write(recipe_yaml(recipe))) == recipe


class TestShipped:
    def test_names_are_those_of_the_files(self) -> None:
        assert {"paper", "confusion_mirror", "oversample", "smote", "modern"} <= set(shipped_recipes())
        assert all(load_recipe(name).name == name for name in shipped_recipes())

    @pytest.mark.parametrize("name", shipped_recipes())
    def test_headers_contain_a_command_and_a_source(self, name: str) -> None:
        lines = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()
        header = [line for line in lines if line.startswith("#")]
        assert lines[: len(header)] == header
        assert header[0].startswith("# fer-augment ") and f" {name} " in header[0]
        assert any(line.startswith("# Source: ") for line in header)

    @pytest.mark.parametrize("name", ["modern_remix", "modern_mixup_drw", "modern_confusion_mix"])
    def test_the_command_of_a_header_compares_with_mixup_at_the_same_alpha(self, name: str) -> None:
        command = shipped_recipes()[name].read_text(encoding="utf-8").partition("\n")[0].split()
        assert "modern_mixup" in command
        overrides = [word for option, word in pairwise(command) if option == "--set"]
        steps = [step for arm in load_recipes(["modern_mixup", name], overrides) for step in arm.strategies]
        assert len({step.parameters["alpha"] for step in steps if "alpha" in step.parameters}) == 1

    @pytest.mark.parametrize("name", shipped_recipes())
    def test_every_recipe_has_a_description(self, name: str) -> None:
        assert load_recipe(name).description


def test_recipes_built_in_python_are_refused_in_one_line():
    recipe = Recipe(name="r", model="a", strategies=["dedup", {"power_sampler": {"exponent": 1}}, {"mixup": None}])
    assert [(step.name, step.parameters) for step in recipe.strategies] == [
        ("dedup", {}),
        ("power_sampler", {"exponent": 1}),
        ("mixup", {}),
    ]
    for settings, message in (
        ({"training": {"epoch": 3}}, "recipe 'r': training.epoch: unknown key; did you mean 'epochs'?"),
        ({"strategies": "dedup"}, "recipe 'r': strategies: should be a list, got 'dedup'"),
        ({"model": 3}, "recipe 'r': model: should be text, got 3; put it in quotes"),
    ):
        with pytest.raises(RecipeError) as refused:
            Recipe(**{"name": "r", "model": "a", **settings})
        assert str(refused.value) == message
