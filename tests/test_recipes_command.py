"""`fer-augment recipes`: what ships, what a recipe amounts to, and every fault in one at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    def test_every_shipped_recipe_stands_below_the_one_that_it_extends(self) -> None:
        ran = fer_augment("recipes", "list")
        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        for name in shipped_recipes():
            assert f" {name} " in ran.out
        family = ["  modern ", "    modern_power_sampler ", "  paper ", "    confusion_mirror ", "    smote "]
        assert sorted(family, key=ran.out.index) == family
        assert load_recipe("paper").description in ran.out

    def test_json_holds_the_same(self) -> None:
        listed = json.loads(fer_augment("recipes", "list", "--json").out)["recipes"]
        assert [recipe["name"] for recipe in listed] == list(shipped_recipes())
        by_name = {recipe["name"]: recipe for recipe in listed}
        assert by_name["smote"] == {
            "name": "smote",
            "extends": "paper",
            "description": load_recipe("smote").description,
        }
        assert by_name["paper"]["extends"] is None


class TestShow:
    @pytest.mark.parametrize("name", shipped_recipes())
    def test_what_is_shown_is_a_recipe_file_that_says_the_same(self, name: str) -> None:
        ran = fer_augment("recipes", "show", name)
        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        assert load_recipe(write("shown.yaml", ran.out)) == load_recipe(name)

    def test_it_says_who_it_extends(self) -> None:
        write("child.yaml", "extends: smote\n")
        write("grandchild.yaml", "extends: child.yaml\n")
        assert fer_augment("recipes", "show", "grandchild.yaml").out.startswith(
            "# grandchild.yaml extends child.yaml, which extends smote, which extends paper; here it is in full.\n"
        )
        assert fer_augment("recipes", "show", "paper").out.startswith("# paper extends no other;")

    def test_a_file_named_like_a_shipped_recipe_is_not_taken_for_it(self) -> None:
        write("smote.yaml", "extends: paper\n")
        assert fer_augment("recipes", "show", "smote.yaml").out.startswith("# smote.yaml extends paper; here")

    @pytest.mark.parametrize(
        ("recipe", "told"),
        [
            ("smtoe", "did you mean 'smote'?"),
            ("./gone.yaml", "gone.yaml: there is no such file"),
            ("bad.yaml", "bad.yaml:1: modle: unknown key; did you mean 'model'?"),
        ],
    )
    def test_a_mistake_is_one_line(self, recipe: str, told: str) -> None:
        write("bad.yaml", "modle: convnet5\n")
        assert_refused(fer_augment("recipes", "show", recipe), told)


FAULTY = """\
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
FAULTS = """\
faulty.yaml:2: model: there is no model 'convnet55'; did you mean 'convnet5'?
faulty.yaml:3: training.epohcs: unknown key; did you mean 'epochs'?
faulty.yaml:3: training.loss: there is no loss 'mes'; did you mean 'mse'?
faulty.yaml:4: trackers.0: there is no tracker 'no_such_tracker'; none is known
faulty.yaml:7: strategies.power_sampler.exponent: should be less than or equal to 1, got 2
faulty.yaml:8: strategies.power_sampler.expnent: unknown parameter; did you mean 'exponent'?
faulty.yaml:9: strategies.powersampler: there is no strategy 'powersampler'; did you mean 'power_sampler'?
faulty.yaml:10: strategies.imblearn.sampler: is missing
faulty.yaml:11: strategies.Mine: FOLDER/mine.py: cannot be read: No such file or directory
faulty.yaml:15: strategies.confusion_mirror.pairs.1.1: is missing
faulty.yaml:16: strategies.5: a step is the name of a strategy, or NAME: {PARAMETER: VALUE}
parent.yaml:2: strategies.imblearn: imbalanced-learn has no sampler 'SMOTEE'; did you mean 'SMOTE'?
"""


class TestCheck:
    def test_all_faults_of_a_file_and_its_parents_are_told_by_line_and_key(self) -> None:
        write("faulty.yaml", FAULTY)
        write("parent.yaml", "model: convnet5\nstrategies: [imblearn: {sampler: SMOTEE}]\n")
        ran = fer_augment("recipes", "check", "faulty.yaml")
        assert ran.code == 2
        assert ran.out.replace(str(Path.cwd().resolve()), "FOLDER") == FAULTS

    def test_every_file_is_looked_at(self) -> None:
        write("one.yaml", "model: convnet5\nmodle: x\n")
        write("two.yaml", "model: vggmini\n")
        ran = fer_augment("recipes", "check", "one.yaml", "gone.yaml", "oversample", "two.yaml")
        assert (ran.code, ran.err) == (2, "")
        assert ran.out.splitlines() == [
            "one.yaml:2: modle: unknown key; did you mean 'model'?",
            "gone.yaml: there is no such file",
            "oversample: sound",
            "two.yaml:1: model: there is no model 'vggmini'; did you mean 'vgg_mini'?",
        ]

    def test_a_parent_that_is_not_there_gives_one_fault(self) -> None:
        ran = fer_augment("recipes", "check", write("r.yaml", "extends: papr\n"))
        assert (ran.code, ran.out.count("\n")) == (2, 1)

    def test_faults_of_form_hide_none_of_the_plugins(self) -> None:
        for text in ("model: 3\ntraining: 3\ntrackers: 3\nstrategies: 3\n", "model: [a]\ntrackers: [3]\n"):
            assert fer_augment("recipes", "check", write("r.yaml", text)).code == 2

    @pytest.mark.parametrize("name", shipped_recipes())
    def test_shipped_recipes_are_sound(self, name: str) -> None:
        ran = fer_augment("recipes", "check", name)
        assert (ran.code, ran.out) == (0, f"{name}: sound\n")

    def test_what_misleads_is_warned_of(self) -> None:
        ran = fer_augment(
            "recipes", "check", write("r.yaml", "extends: modern\nstrategies: [imblearn: {sampler: SMOTE}]")
        )
        assert (ran.code, ran.err) == (0, "")
        ran = fer_augment("recipes", "check", "confusion_mirror")
        assert ran.err.startswith(
            "warning: confusion_mirror: Predictions of a model about the rows that it was trained on"
        )
        assert ran.err.count("\n") == 1


def test_the_schema_is_that_of_what_is_installed() -> None:
    ran = fer_augment("recipes", "schema")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == recipe_json_schema(installed_plugins())
