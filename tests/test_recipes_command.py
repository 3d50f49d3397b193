"""`fer-augment recipes`: list, show, check and schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fer_augment as fer_augment_package
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.json_schema import recipe_json_schema
from fer_augment.recipe.recipe import load_recipe, shipped_recipes
from tests.command_line import assert_readable, assert_refused, fer_augment


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


class TestList:
    def test_every_shipped_recipe_is_listed_below_its_parent(self) -> None:
        ran = fer_augment("recipes", "list")
        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        for name in shipped_recipes():
            assert f" {name} " in ran.out
        family = ["  modern ", "    modern_power_sampler ", "  paper ", "    confusion_mirror ", "    smote "]
        assert sorted(family, key=ran.out.index) == family
        assert load_recipe("paper").description in " ".join(ran.out.split())

    def test_json_has_the_same_content(self) -> None:
        listed = json.loads(fer_augment("recipes", "list", "--json").out)["recipes"]
        assert [recipe["name"] for recipe in listed] == list(shipped_recipes())
        by_name = {recipe["name"]: recipe for recipe in listed}
        assert by_name["smote"] == {
            "name": "smote",
            "extends": "paper",
            "description": load_recipe("smote").description,
            "provider": f"fer_augment {fer_augment_package.__version__}",
        }
        assert by_name["paper"]["extends"] is None


class TestShow:
    @pytest.mark.parametrize("name", shipped_recipes())
    def test_the_output_is_an_equivalent_recipe_file(self, name: str) -> None:
        ran = fer_augment("recipes", "show", name)
        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        assert load_recipe(write("shown.yaml", ran.out)) == load_recipe(name)

    def test_the_output_names_the_parents(self) -> None:
        write("child.yaml", "extends: smote\n")
        write("grandchild.yaml", "extends: child.yaml\n")
        shown = fer_augment("recipes", "show", "grandchild.yaml").out
        assert shown.replace("\n# ", " ").startswith(
            "# grandchild.yaml, with everything inherited from child.yaml, which extends smote, which extends paper\n"
        )
        assert fer_augment("recipes", "show", "paper").out.startswith("# paper, with all defaults\n")

    def test_a_file_with_the_name_of_a_shipped_recipe_is_not_confused_with_it(self) -> None:
        write("smote.yaml", "extends: paper\n")
        assert fer_augment("recipes", "show", "smote.yaml").out.startswith(
            "# smote.yaml, with everything inherited from paper\n"
        )

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            ("smtoe", "did you mean 'smote'?"),
            ("./gone.yaml", "gone.yaml: no such file"),
            ("bad.yaml", "bad.yaml:1: modle: unknown key; did you mean 'model'?"),
        ],
    )
    def test_invalid_input_gives_one_line(self, recipe: str, message: str) -> None:
        write("bad.yaml", "modle: convnet5\n")
        assert_refused(fer_augment("recipes", "show", recipe), message)


INVALID = """\
extends: parent.yaml
model: convnet55
training: {loss: mes, epohcs: 3}
trackers: [no_such_tracker]
strategies:
  - power_sampler:
      exponent: 2
      expnent: 3
  - powersampler
  - imblearn: {}
  - ./mine.py:Mine
  - confusion_mirror:
      pairs:
        - [sad, neutral]
        - [sad]
  - 3
"""
ERRORS = """\
invalid.yaml:2: model: there is no model 'convnet55'; did you mean 'convnet5'?
invalid.yaml:3: training.epohcs: unknown key; did you mean 'epochs'?
invalid.yaml:3: training.loss: there is no loss 'mes'; did you mean 'mse'?
invalid.yaml:4: trackers.0: there is no tracker 'no_such_tracker'; known: csv, jsonl, mlflow, tensorboard
invalid.yaml:7: strategies.power_sampler.exponent: should be less than or equal to 1, got 2
invalid.yaml:8: strategies.power_sampler.expnent: unknown parameter; did you mean 'exponent'?
invalid.yaml:9: strategies.powersampler: there is no strategy 'powersampler'; did you mean 'power_sampler'?
invalid.yaml:10: strategies.imblearn.sampler: is missing
invalid.yaml:11: strategies.Mine: FOLDER/mine.py: cannot be read: No such file or directory
invalid.yaml:15: strategies.confusion_mirror.pairs.1.1: is missing
invalid.yaml:16: strategies.5: a step is the name of a strategy, or NAME: {PARAMETER: VALUE}
parent.yaml:2: strategies.imblearn: imbalanced-learn has no sampler 'SMOTEE'; did you mean 'SMOTE'?
"""


class TestCheck:
    def test_all_errors_in_a_file_and_its_parents_are_reported_by_line_and_key(self) -> None:
        write("invalid.yaml", INVALID)
        write("parent.yaml", "model: convnet5\nstrategies: [imblearn: {sampler: SMOTEE}]\n")
        ran = fer_augment("recipes", "check", "invalid.yaml")
        assert ran.code == 2
        assert ran.out.replace(str(Path.cwd().resolve()), "FOLDER") == ERRORS

    def test_every_file_is_checked(self) -> None:
        write("one.yaml", "model: convnet5\nmodle: x\n")
        write("two.yaml", "model: vggmini\n")
        ran = fer_augment("recipes", "check", "one.yaml", "gone.yaml", "oversample", "two.yaml")
        assert (ran.code, ran.err) == (2, "")
        assert ran.out.splitlines() == [
            "one.yaml:2: modle: unknown key; did you mean 'model'?",
            "gone.yaml: no such file",
            "oversample: OK",
            "two.yaml:1: model: there is no model 'vggmini'; did you mean 'vgg_mini'?",
        ]

    def test_names_in_messages_are_escaped(self) -> None:
        write("a.yaml", 'model: convnet5\nstrategies: [{"\\e[31mred": 5}]\n')
        ran = fer_augment("recipes", "check", "a.yaml")
        assert ran.code == 2 and "[31mred should be a mapping" in ran.out
        assert_readable(ran)

    def test_files_that_cannot_be_read_do_not_end_the_check(self) -> None:
        ran = fer_augment("recipes", "check", f"{'a' * 300}.yaml", "/dev/zero", "a" * 5000, "oversample")
        assert (ran.code, ran.err) == (2, "")
        long, device, name, sound = ran.out.splitlines()
        assert long.endswith("…: cannot be read: File name too long")
        assert device == "/dev/zero: not a regular file"
        assert name.startswith("there is no shipped recipe 'aaa") and len(name) < 600
        assert sound == "oversample: OK"

    def test_a_missing_parent_gives_one_error(self) -> None:
        ran = fer_augment("recipes", "check", write("r.yaml", "extends: papr\n"))
        assert (ran.code, ran.out.count("\n")) == (2, 1)

    def test_values_of_the_wrong_type_are_no_crash(self) -> None:
        for text in ("model: 3\ntraining: 3\ntrackers: 3\nstrategies: 3\n", "model: [a]\ntrackers: [3]\n"):
            assert fer_augment("recipes", "check", write("r.yaml", text)).code == 2

    def test_steps_and_networks_that_a_head_cannot_be_trained_with_are_errors(self) -> None:
        text = "extends: modern\nmodel: vgg_tiny\ntraining: {train: head}\nstrategies: [mixup]\n"
        ran = fer_augment("recipes", "check", write("r.yaml", text))
        assert (ran.code, ran.err) == (2, "")
        assert [line.partition(", ")[0].partition(" (augment")[0] for line in ran.out.splitlines()] == [
            "r.yaml: training.train: head trains the last layer on the features of a given backbone",
            "r.yaml: step 1 (flip_crop_affine): draws new pixels in each batch",
            "r.yaml: step 2 (mixup): draws new pixels in each batch",
        ]

    @pytest.mark.parametrize("name", shipped_recipes())
    def test_shipped_recipes_are_valid(self, name: str) -> None:
        ran = fer_augment("recipes", "check", name)
        assert (ran.code, ran.out) == (0, f"{name}: OK\n")

    def test_weights_that_do_not_exist_are_an_error(self) -> None:
        ran = fer_augment(
            "recipes", "check", write("w.yaml", "model:\n  vgg_tiny:\n    weights: missing.safetensors\n")
        )
        assert ran.code == 2 and ran.out.startswith("w.yaml:3: model.vgg_tiny: weights: ")
        assert "missing.safetensors: no such file" in ran.out

    def test_a_misleading_recipe_gives_a_warning(self) -> None:
        ran = fer_augment(
            "recipes", "check", write("r.yaml", "extends: modern\nstrategies: [imblearn: {sampler: SMOTE}]")
        )
        assert (ran.code, ran.err) == (0, "")
        ran = fer_augment("recipes", "check", "confusion_mirror")
        assert ran.err.startswith("warning: confusion_mirror: In-sample predictions under-report confusion, and step 1")
        assert ran.err.count("\n") == 1


def test_the_schema_includes_installed_plugins() -> None:
    ran = fer_augment("recipes", "schema")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == recipe_json_schema(installed_plugins())
