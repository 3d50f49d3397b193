"""`fer-augment plugins list`, `show` and `check`: text, JSON, and invalid input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, Field

from fer_augment import ClassName, RecipeFile, Strategy, hookimpl
from fer_augment.cli._named_plugins import plugins_named
from fer_augment.hooks.plugin_manager import Offer, installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.parameter_types import limits_in_words, type_in_words
from fer_augment.recipe.recipe import load_recipe
from fer_augment.recipe.strategy_description import described, summary_of
from fer_augment.testing import CheckResult
from fer_augment.testing.checks import CHECKS, CHECKS_OF_REPEATED_RUNS, FIRST_CHECKS, FIRST_MODEL_CHECKS, MODEL_CHECKS
from tests.command_line import assert_readable, assert_refused, fer_augment

BROKEN_PARTS = '''
from fer_augment import Loss, Strategy, hookimpl

class Squint(Strategy):
    """Squint [bold]hard[/bold]."""

    @hookimpl
    def predict_views(self, views):
        return views

class Misspelled(Strategy):
    """Misspell a hook."""

    @hookimpl
    def predict_view(self, views):
        return views

@hookimpl
def register_strategies():
    return [Squint, Misspelled]

@hookimpl
def register_losses():
    return [Loss("squint", "a loss of the same name", lambda logits, targets: targets)]
'''


MIRRORS = '''
from fer_augment import ClassName, Strategy, hookimpl

class Mirrors(Strategy):
    """Add mirrored views."""

    k: int = 3

    @hookimpl
    def predict_views(self, views):
        return views

'''

OF_ONE_NAME = '''
from fer_augment import Loss, Strategy, Tracker, hookimpl

def make(factor):
    class Inner(Strategy):
        """Multiply weights."""

        @hookimpl
        def sampling_weights(self, weights):
            return weights * factor

    return Inner

One = make(1)
Two = make(2)

@hookimpl
def register_losses():
    return [Loss("same", "a loss", make)]

@hookimpl
def register_trackers():
    return [Tracker("same", "a tracker", make)]
'''


@pytest.fixture
def _broken_plugins_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a valid strategy, one with a misspelled hook, and a module that cannot be imported."""
    (tmp_path / "extras.py").write_text(BROKEN_PARTS, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import no_such_module\n", encoding="utf-8")
    info = tmp_path / "extras-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extras\nVersion: 2.1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[fer_augment]\na = broken\nb = extras\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    installed_plugins.cache_clear()
    yield
    installed_plugins.cache_clear()
    sys.modules.pop("extras", None)


class TestList:
    def test_every_plugin_is_listed_with_kind_summary_and_provider(self) -> None:
        ran = fer_augment("plugins", "list")
        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        text = " ".join(ran.out.split())
        for offer in installed_plugins().offers:
            assert f"{offer.name} {summary_of(offer)}" in text
        for kind in ("Strategies", "Models", "Losses", "Dataset readers", "Trackers"):
            assert f"{kind} from fer_augment" in text

    def test_json_has_the_same_content(self) -> None:
        listed = json.loads(fer_augment("plugins", "list", "--json").out)
        assert listed["problems"] == []
        assert {(plugin["kind"], plugin["name"]) for plugin in listed["plugins"]} == {
            (offer.kind, offer.name) for offer in installed_plugins().offers
        }
        smote = next(plugin for plugin in listed["plugins"] if plugin["name"] == "imblearn")
        assert smote["provider"].startswith("fer_augment ")
        assert smote["module"] == "fer_augment_plugins.imblearn"

    @pytest.mark.usefixtures("_broken_plugins_are_installed")
    def test_broken_plugins_give_a_warning_and_others_are_listed(self) -> None:
        ran = fer_augment("plugins", "list")
        assert ran.code == 0
        assert re.search(r"Strategies from extras 2.1\n  squint +Squint \[bold]hard\[/bold]\. *\n", ran.out)
        assert "imblearn" in ran.out
        assert ran.err.splitlines() == [
            "warning: extras 2.1: broken cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
            "warning: extras 2.1: strategy misspelled: there is no hook 'predict_view'; did you mean 'predict_views'?",
        ]
        problems = json.loads(fer_augment("plugins", "list", "--json").out)["problems"]
        assert [f"warning: {problem}" for problem in problems] == ran.err.splitlines()
        assert_refused(fer_augment("compare", "./gone.yaml", "--data", "demo", "--quiet"), "gone.yaml")


class TestShow:
    def test_a_strategy_is_shown_with_everything_needed_to_use_it(self) -> None:
        ran = fer_augment("plugins", "show", "confusion_mirror")
        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        text = " ".join(ran.out.split())
        for part in (
            "Append mirrored copies of the training rows of one class",
            "provider fer_augment 0.1.0, module fer_augment_plugins.confusion_mirror",
            "acts at rewrite_training_set",
            "effects shifts class prior, mirrored copies, out of fold mining, random",
            "helps when one class is often predicted as another",
            "costs `out_of_fold` trains `training.scout.folds` additional networks per seed;",
            "try `out_of_fold` with the pairs",
            "recipes confusion_mirror, confusion_mirror_oof",
            "source the originating report (2021)",
            "pairs: [[class name, class name], …], length at least 1; required [true class, predicted class]:",
            "copies: whole number, at least 1; default 1 number of identical copies",
            "axis: left_right | up_down; default left_right",
        ):
            assert part in text

    @pytest.mark.parametrize("name", [offer.name for offer in installed_plugins().of_kind("strategy")])
    def test_the_example_can_be_pasted_into_a_recipe(self, name: str, tmp_path: Path) -> None:
        ran = fer_augment("plugins", "show", name)
        assert_readable(ran)
        recipe = tmp_path / "pasted.yaml"
        recipe.write_text("  model: convnet5\n" + ran.out.partition("In a recipe\n")[2], encoding="utf-8")
        bound = bind(load_recipe(str(recipe)), installed_plugins())
        assert [step.name for step in bound.steps] == [name]

    def test_json_of_a_strategy_is_its_description(self) -> None:
        shown = json.loads(fer_augment("plugins", "show", "power_sampler", "--json").out)
        assert (shown["kind"], shown["name"], shown["stages"]) == ("strategy", "power_sampler", ["sampling_weights"])
        assert shown["parameters"][0] == {
            "name": "exponent",
            "type": "number",
            "limits": "at least 0, at most 1",
            "required": False,
            "default": 0.5,
            "description": "0: weights unchanged; 0.5: square root; 1: all classes equally often.",
        }

    @pytest.mark.parametrize(
        ("name", "use"),
        [
            ("convnet5", "  model: convnet5\n"),
            ("mse", "  training: {loss: mse}\n"),
            ("demo", "by the value of `--data`"),
        ],
    )
    def test_other_kinds_are_shown_with_their_use_in_a_recipe(self, name: str, use: str) -> None:
        ran = fer_augment("plugins", "show", name)
        assert_readable(ran)
        assert use in ran.out
        assert json.loads(fer_augment("plugins", "show", name, "--json").out)["name"] == name

    @pytest.mark.usefixtures("_broken_plugins_are_installed")
    def test_a_name_of_two_kinds_is_shown_twice(self) -> None:
        ran = fer_augment("plugins", "show", "squint")
        assert [line.split()[1] for line in ran.out.splitlines() if line.startswith("kind")] == ["strategy", "loss"]

    def test_an_unknown_name_is_refused_with_the_closest_one(self) -> None:
        assert_refused(
            fer_augment("plugins", "show", "imblaern"),
            "no plugin named 'imblaern' is installed; did you mean 'imblearn'?",
        )

    def test_one_in_a_file_is_shown_with_the_name_that_a_recipe_gives(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ideas").mkdir()
        file = tmp_path / "ideas" / "mine.py"
        reader = "dots = DatasetReader('dots', 'Read dots.', lambda source: False, lambda source: None)\n"
        file.write_text(f"from fer_augment import DatasetReader\n{FAULTY}{reader}", encoding="utf-8")
        ran = fer_augment("plugins", "show", "ideas/mine.py:Valid")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("mine.py:Valid\nAdd mirrored views.\n")
        assert "provider  file mine.py\n" in ran.out
        pasted = file.with_suffix(".yaml")
        pasted.write_text("  model: convnet5\n" + ran.out.partition("In a recipe\n")[2], encoding="utf-8")
        bound = bind(load_recipe(str(pasted)), installed_plugins())
        assert [step.name for step in bound.steps] == ["valid"]
        assert "`--reader mine.py:dots` selects the reader." in fer_augment("plugins", "show", "ideas/mine.py:dots").out
        of_file = json.loads(fer_augment("plugins", "show", "ideas/mine.py", "--json").out)
        assert [one["name"] for one in of_file][-3:] == ["mine.py:Misspells", "mine.py:Valid", "mine.py:dots"]
        assert_refused(fer_augment("plugins", "show", "ideas/mine.py:Vaild"), "did you mean 'Valid'?")

    @pytest.mark.parametrize(
        ("part", "fault"),
        [
            ("    def __init__(self): pass\n", "a strategy has no `__init__`; declare parameters as annotated"),
            ("    def strategy_name(self): return 'x'\n", "strategy_name must be a classmethod that returns a text"),
            ("    del predict_views\n", "implements no hook; mark at least one method with @hookimpl"),
        ],
    )
    def test_one_that_cannot_be_used_is_shown_with_the_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, fault: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text(f"{MIRRORS}{part}", encoding="utf-8")
        ran = fer_augment("plugins", "show", "mine.py")
        assert (ran.code, ran.err) == (0, "")
        assert f"Cannot be used {fault}" in " ".join(ran.out.split()) and "In a recipe" not in ran.out
        shown = json.loads(fer_augment("plugins", "show", "mine.py", "--json").out)
        assert len(shown["faults"]) == 1 and shown["faults"][0].startswith(fault)
        assert fer_augment("plugins", "check", "mine.py").code == 1

    @pytest.mark.parametrize(
        "part",
        [
            "    example = None\n",
            "    example = 3\n",
            "    @property\n    def effects(self): raise SystemExit(3)\n",
            "    @property\n    def effects(self): return 3\n",
        ],
    )
    def test_invalid_declarations_are_shown_as_unknown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text(f"{MIRRORS}{part}", encoding="utf-8")
        ran = fer_augment("plugins", "show", "mine.py")
        assert (ran.code, ran.err) == (0, "")
        assert "effects   unknown, see `plugins check`\n" in ran.out and "- mine.py:Mirrors: {k: 3}\n" in ran.out
        assert json.loads(fer_augment("plugins", "show", "mine.py", "--json").out)["effects"] is None

    def test_required_parameters_without_an_example_are_placeholders(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        fields = "    classes: list[ClassName]\n    width: Annotated[float, Field(gt=0)] | None\n"
        Path("mine.py").write_text(f"from typing import *\nfrom pydantic import Field\n{MIRRORS}{fields}")
        assert (
            "  - mine.py:Mirrors:\n      classes: [CLASS NAME]\n      width: NUMBER"
            in fer_augment("plugins", "show", "mine.py").out
        )
        network = "class Net(fa.ConfigurableModel):\n    width: int\n    def build(self, image_shape, classes): ...\n"
        Path("net.py").write_text(f"import fer_augment as fa\n{network}")
        assert "model: {net.py:Net: {width: WHOLE NUMBER}}" in fer_augment("plugins", "show", "net.py").out

    @pytest.mark.parametrize(
        ("argument", "names"),
        [
            ("mine.py", ["One", "Two", "same", "same"]),
            ("mine.py:Two", ["Two"]),
            ("mine.py:inner", ["One", "Two"]),
            ("mine.py:same", ["same", "same"]),
        ],
    )
    def test_plugins_of_one_name_are_all_shown_and_checked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, names: list[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text(OF_ONE_NAME, encoding="utf-8")
        shown = fer_augment("plugins", "show", argument).out.splitlines()
        assert [line for line in shown if line.startswith("mine.py:")] == [f"mine.py:{name}" for name in names]
        assert [offer.name for _, offer in plugins_named(argument)] == [
            "same" if name == "same" else "inner" for name in names
        ]

    @pytest.mark.usefixtures("_broken_plugins_are_installed")
    def test_plugins_that_could_not_be_loaded_are_named(self) -> None:
        ran = fer_augment("plugins", "show", "misspelled")
        assert (ran.code, ran.out) == (2, "")
        *warnings, refusal = ran.err.splitlines()
        assert len(warnings) == 2 and refusal.startswith("fer-augment: no plugin named 'misspelled'")
        assert "not loaded" in refusal and "there is no hook 'predict_view'" in refusal

    @pytest.mark.usefixtures("_broken_plugins_are_installed")
    @pytest.mark.parametrize(
        "arguments",
        [
            ["compare", "demo", "--data", "demo", "--seeds", "1", "--dry-run", "--json"],
            ["rewrite", "demo", "--data", "demo", "--dry-run"],
            ["data", "show", "demo"],
            ["recipes", "list"],
            ["recipes", "check", "demo"],
            ["plugins", "show", "imblearn"],
        ],
        ids=lambda arguments: "-".join(arguments[:2]),
    )
    def test_every_command_warns_of_them_once(self, arguments: list[str]) -> None:
        ran = fer_augment(*arguments)
        assert ran.code == 0
        assert [line for line in ran.err.splitlines() if line.startswith("warning: extras 2.1: ")] == [
            "warning: extras 2.1: broken cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
            "warning: extras 2.1: strategy misspelled: there is no hook 'predict_view'; did you mean 'predict_views'?",
        ]

    @pytest.mark.parametrize("arguments", [["list"], ["show", "flip_crop_affine"], ["show", "vgg_mini"]])
    def test_no_slow_module_is_imported(self, arguments: list[str]) -> None:
        program = (
            f"from fer_augment.cli import main; main({['plugins', *arguments]}); "
            "import sys; sys.exit(sorted({'torch', 'albumentations', 'imblearn', 'scipy', 'cv2'} & {*sys.modules}))"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert ran.stderr.strip() == "[]"


class Limit(BaseModel):
    of: ClassName
    rows: int = 1


class Plain(Strategy):
    """Say it
    in a sentence.

    And then
    more:

    - one thing - in a
      sentence
    - another

    Its margin is n
    - 1 rows.

    When: it is
    plain.

    Cost: 2: more or
    less.

    Try: this.

    Sources: one; two.

    Source: three.
    """

    example: ClassVar[dict[str, Any]] = {"needed": 1, "table": "not a table"}

    needed: int
    word: str = "a"
    empty: str = ""
    on: bool = True
    table: dict[ClassName, float] = Field(default_factory=dict)

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return views


class TestDescription:
    plain = described(Offer("strategy", "plain", Plain, "p 1", "m"))

    def test_a_docstring_is_split_by_labels(self) -> None:
        assert self.plain.summary == "Say it in a sentence."
        assert self.plain.details == (
            "And then more:",
            "- one thing - in a sentence\n- another",
            "Its margin is n - 1 rows.",
        )
        assert (self.plain.when, self.plain.cost, self.plain.values) == ("it is plain.", "2: more or less.", "this.")
        assert (self.plain.elsewhere, self.plain.measured) == ("", "")
        assert self.plain.sources == ("one; two.", "three.")

    def test_stages_are_listed_and_an_invalid_example_is_no_crash(self) -> None:
        assert (self.plain.stages, self.plain.effects) == (("predict_views",), None)

    def test_defaults_are_written_as_in_a_recipe(self) -> None:
        defaults = {parameter.name: parameter.default_in_words for parameter in self.plain.parameters}
        assert defaults == {"needed": "null", "word": "a", "empty": '""', "on": "true", "table": "{}"}
        assert [parameter.name for parameter in self.plain.parameters if parameter.required] == ["needed"]

    @pytest.mark.parametrize(
        ("annotation", "text"),
        [
            (list[tuple[ClassName, ClassName]], "[[class name, class name], …]"),
            (tuple[int, ...], "[whole number, …]"),
            (dict[ClassName, int] | list[ClassName] | None, "{class name: whole number, …} | [class name, …] | null"),
            (Literal["a", True, 3], "a | true | 3"),
            (list[Annotated[float, Field(gt=0, lt=1)]], "[number (above 0, below 1), …]"),
            (list[Limit], "[{of: …, rows: …}, …]"),
            (int | Literal["all"], "whole number | all"),
            (bool, "true | false"),
            (Any, "any value"),
            (Path, "Path"),
        ],
    )
    def test_types_are_described_in_the_notation_of_a_recipe(self, annotation: Any, text: str) -> None:
        assert type_in_words(annotation) == text

    def test_limits_are_described_in_words(self) -> None:
        field = Field(ge=0, lt=1, multiple_of=0.25)
        assert limits_in_words(field.metadata) == "at least 0, below 1, a multiple of 0.25"


FAULTY = '''
import numpy as np
from fer_augment import Strategy, hookimpl

class Fades(Strategy):
    """Darken pixels in place."""

    @hookimpl
    def augment_batch(self, images, targets):
        images *= 0.5
        return images, targets

class Shuffles(Strategy):
    """Shuffle by global random numbers."""

    @hookimpl
    def rewrite_training_set(self, training_set):
        return training_set.take(np.random.permutation(len(training_set)))

class Floats(Strategy):
    """Return float images."""

    @hookimpl
    def augment_rows(self, images):
        return images / 255

class Centers(Strategy):
    """Subtract the mean of the batch from each view."""

    @hookimpl
    def predict_views(self, views):
        return [view - view.mean() for view in views]

class Misspells(Strategy):
    """Misspell a hook."""

    @hookimpl
    def predict_view(self, views):
        return views

class _Base(Strategy):
    """Have no hook."""

class Valid(_Base):
    """Add mirrored views."""

    @hookimpl
    def predict_views(self, views):
        return [*views, *(view.flip(3) for view in views)]
'''


class TestCheck:
    @pytest.fixture(autouse=True)
    def _a_file_of_strategies(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text(FAULTY, encoding="utf-8")

    def test_an_installed_strategy_is_checked_by_name(self) -> None:
        ran = fer_augment("plugins", "check", "power_sampler")
        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        first, *lines, last = ran.out.splitlines()
        assert first.startswith("power_sampler (fer_augment ")
        names = [check.__name__.replace("_", " ") for check in (*FIRST_CHECKS, *CHECKS)]
        assert [line.strip() for line in lines] == [f"ok  {name}" for name in names]
        assert last == f"{len(names)} passed, 0 failed"

    @pytest.mark.parametrize(
        ("class_name", "check", "advice"),
        [
            ("Fades", "leaves its inputs alone", "augment_batch: an argument was changed in place; work on a copy"),
            (
                "Shuffles",
                "leaves global random numbers alone",
                "draws from or seeds numpy's global random; use context",
            ),
            ("Floats", "keeps the contract of its stages", "augment_rows must return uint8 images of shape"),
            ("Misspells", "is declared as a strategy", "no hook 'predict_view'; did you mean 'predict_views'?"),
            ("_Base", "is declared as a strategy", "implements no hook"),
            ("Centers", "predicts each row alone", "the result of a row depends on the rest of its batch"),
        ],
    )
    def test_a_planted_fault_is_reported_with_advice(self, class_name: str, check: str, advice: str) -> None:
        ran = fer_augment("plugins", "check", f"mine.py:{class_name}")
        assert (ran.code, ran.err) == (1, "")
        assert_readable(ran)
        failed = " ".join(ran.out.split()).split(" FAIL ")[1:]
        assert any(part.startswith(check) and advice in part for part in failed)
        assert f" {len(failed)} failed" in ran.out

    def test_the_requirement_of_a_failed_check_is_one_paragraph(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        requirements = {check.__name__: " ".join((check.__doc__ or "").split()) for check in (*FIRST_CHECKS, *CHECKS)}
        multi_line = next(check.__name__ for check in CHECKS if "\n" in (check.__doc__ or ""))
        failed = [CheckResult(multi_line, False, "do something")]
        monkeypatch.setattr("fer_augment.testing.check_strategy", lambda strategy_class: failed)
        shown = fer_augment("plugins", "check", "mine.py:Valid").out
        assert requirements[multi_line] in " ".join(shown.split())
        assert all(line.startswith(" " * 8) for line in shown.splitlines()[2:-1])
        assert not any(line.startswith(" " * 9) for line in shown.splitlines())

    def test_a_check_that_cannot_be_made_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checks = [CheckResult("keeps_provenance", True), CheckResult("emits_no_warnings", True, "too large")]
        monkeypatch.setattr("fer_augment.testing.check_strategy", lambda strategy_class: checks)
        ran = fer_augment("plugins", "check", "mine.py:Valid")
        assert ran.code == 0
        assert "skip  emits no warnings\n        too large\n" in ran.out
        assert "1 passed, 0 failed, 1 skipped; " in ran.out

    def test_checks_that_were_not_run_are_counted(self) -> None:
        last = fer_augment("plugins", "check", "mine.py:Floats").out.splitlines()[-1]
        assert last == f"2 passed, 1 failed; {len(CHECKS)} not run until this one passes"

    def test_checks_that_wait_for_another_are_counted(self) -> None:
        last = fer_augment("plugins", "check", "mine.py:Shuffles").out.splitlines()[-1]
        assert last.endswith(f" 1 failed; {len(CHECKS_OF_REPEATED_RUNS)} not run until this one passes")

    def test_all_strategies_in_a_file_are_checked_without_a_class(self) -> None:
        Path("more.py").write_text("from fer_augment_plugins.imblearn import Imblearn\n" + FAULTY, encoding="utf-8")
        ran = fer_augment("plugins", "check", "more.py")
        titles = [line for line in ran.out.splitlines() if line.endswith("(file more.py)")]
        names = ("fades", "shuffles", "floats", "centers", "misspells", "valid")
        assert titles == [f"{name} (file more.py)" for name in names]
        assert ran.code == 1

    def test_json_has_every_check(self) -> None:
        checked = json.loads(fer_augment("plugins", "check", "mine.py:Valid", "--json").out)
        assert (checked["strategy"], checked["provider"]) == ("valid", "file mine.py")
        assert len(checked["checks"]) == len(FIRST_CHECKS) + len(CHECKS)
        assert all(check["passed"] for check in checked["checks"])
        failing = fer_augment("plugins", "check", "mine.py:Floats", "--json")
        assert failing.code == 1
        assert json.loads(failing.out)["checks"][-1]["passed"] is False

    def test_json_of_several_plugins_is_a_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fer_augment.testing.check_strategy", lambda strategy_class: [CheckResult("a", True)])
        checked = json.loads(fer_augment("plugins", "check", "mine.py", "--json").out)
        assert [one["strategy"] for one in checked][-2:] == ["misspells", "valid"]
        catalog = installed_plugins()
        csv = replace(catalog.tracker("csv"), name="demo")
        both = replace(catalog, offers=(*catalog.offers, csv))
        monkeypatch.setattr("fer_augment.reading.installed_plugins", lambda: both)
        kinds = [one["kind"] for one in json.loads(fer_augment("plugins", "show", "demo", "--json").out)]
        assert kinds == ["dataset reader", "tracker"]

    @pytest.mark.parametrize(
        ("strategy", "message"),
        [
            ("imblaern", "did you mean 'imblearn'?"),
            ("x" * 500, "no plugin named 'xxx"),
            ("gone.py", "gone.py: cannot be read: No such file or directory"),
            ("mine.py:Vaild", "mine.py has no plugin 'Vaild'; did you mean 'Valid'?"),
            ("none.py", "none.py defines no strategy, network, loss, reader or tracker"),
            ("crash.py", "crash.py: cannot be imported: ZeroDivisionError"),
            ("silent.py", "silent.py: cannot be imported: Silent"),
        ],
    )
    def test_invalid_input_gives_one_line(self, strategy: str, message: str) -> None:
        Path("none.py").write_text("from fer_augment import Strategy\n", encoding="utf-8")
        Path("crash.py").write_text("1 / 0\n", encoding="utf-8")
        silent = "class Silent(Exception):\n    def __str__(self): raise ValueError\nraise Silent\n"
        Path("silent.py").write_text(silent, encoding="utf-8")
        assert_refused(fer_augment("plugins", "check", strategy), message)

    def test_a_recipe_is_referred_to_the_command_that_checks_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        catalog = installed_plugins()
        recipe = Offer("recipe", "theirs", RecipeFile(Path("theirs.yaml")), "them 1", "them")
        with_recipe = replace(catalog, offers=(*catalog.offers, recipe))
        monkeypatch.setattr("fer_augment.reading.installed_plugins", lambda: with_recipe)
        assert_refused(fer_augment("plugins", "check", "theirs"), "`fer-augment recipes check theirs` checks it")


NETWORKS = """
from torch import nn

from fer_augment import ConfigurableModel, Model


def ten_classes(image_shape, classes):
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    network.add_module("head", nn.Linear(image_shape[2], 10))
    return network


wrong = Model("wrong", "always ten classes", ten_classes)
"""


class TestNetworks:
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("nets.py").write_text(NETWORKS, encoding="utf-8")

    def test_a_network_is_checked_like_a_strategy(self) -> None:
        ran = fer_augment("plugins", "check", "vgg_tiny")
        assert ran.code == 0
        assert ran.out.startswith("vgg_tiny (fer_augment ")
        assert ran.out.splitlines()[-1] == f"{len(FIRST_MODEL_CHECKS) + len(MODEL_CHECKS)} passed, 0 failed"

    def test_one_in_a_file_is_named_by_its_variable(self) -> None:
        for argument in ("nets.py", "nets.py:wrong"):
            ran = fer_augment("plugins", "check", argument)
            assert ran.code == 1
            assert ran.out.startswith("wrong (file nets.py)")
            assert "the output must have shape (4, 3) float32, is (4, 10) float32" in " ".join(ran.out.split())
        assert json.loads(fer_augment("plugins", "check", "nets.py", "--json").out)["model"] == "wrong"

    def test_parameters_are_shown(self) -> None:
        shown = fer_augment("plugins", "show", "vgg_mini").out
        assert "width: whole number, at least 1; default 32" in shown
        assert "model: vgg_mini" in shown
        described_parameters = json.loads(fer_augment("plugins", "show", "vgg_mini", "--json").out)["parameters"]
        assert [parameter["name"] for parameter in described_parameters] == ["weights", "width", "dropout"]
