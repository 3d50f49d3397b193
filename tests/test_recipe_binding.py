"""Names in a recipe are bound to plugins, invalid ones are refused, and misleading recipes give warnings."""

from __future__ import annotations

import functools
import operator
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fer_augment import ClassName, Effect, ImageDataset, Loss, Model, Strategy, Tracker, hookimpl, prepare
from fer_augment.errors import RecipeError
from fer_augment.hooks.plugin_manager import Catalog, collect, installed_plugins
from fer_augment.recipe.binding import BoundRecipe, bind, binding_faults, check_classes
from fer_augment.recipe.json_schema import recipe_json_schema
from fer_augment.recipe.recipe import Recipe, check_recipe_file, load_recipe, shipped_recipes
from fer_augment.recipe.warnings import comparison_warnings, recipe_warnings
from fer_augment.recipe.yaml_source import Fault, parse_yaml
from tests.comparison_place import write_place


class Limit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    of: ClassName
    rows: int = 1


class Choosy(Strategy):
    """Have parameters of every kind."""

    pairs: list[tuple[ClassName, ClassName]] = []
    amount: int | Literal["all"] = 1
    table: dict[ClassName, int] | list[ClassName] | None = None
    limits: list[Limit] = []
    word: str = Field(default="a", description="Any word but bad ones.")

    @field_validator("word")
    @classmethod
    def _good(cls, word: str) -> str:
        if word == "bad":
            raise ValueError("a bad word")
        if word == "worse":
            raise KeyError("worse")
        return word

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        return training_set


class Declares(Strategy):
    """Declare given effects."""

    what: list[str]
    late: int = 0
    idle: list[str] = []

    @property
    def idle_at(self) -> list[str]:
        return self.idle

    @property
    def effects(self) -> Effect:
        return functools.reduce(operator.or_, [Effect[name] for name in self.what], Effect(0))

    @property
    def acts_from(self) -> int:
        return self.late

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class SecondStage(Strategy):
    """Act after training."""

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        return model


class Mixes(Strategy):
    """Mix images in batches."""

    @property
    def effects(self) -> Effect:
        return Effect.SOFT_TARGETS

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images, targets


class ToyPlugin:
    @hookimpl
    def register_strategies(self) -> list[type[Strategy]]:
        return [Choosy, Declares, Mixes, SecondStage]

    @hookimpl
    def register_models(self) -> list[Model]:
        return [Model("tiny", "A tiny network.", lambda shape, classes: None)]

    @hookimpl
    def register_losses(self) -> list[Loss]:
        return [
            Loss("cross_entropy", "Over logits.", lambda logits, targets: logits),
            Loss("mse", "Over the softmax output.", lambda logits, targets: logits, over_logits=False),
        ]

    @hookimpl
    def register_trackers(self) -> list[Tracker]:
        return [Tracker("csv", "Write a table.", lambda out: object())]


TOYS = collect([("toys", "toys 1.0", ToyPlugin())])


def recipe(*steps: dict[str, Any], **others: Any) -> Recipe:
    strategies = [{"name": name, "parameters": given} for step in steps for name, given in step.items()]
    return Recipe.model_validate({"name": "r", "model": "tiny", "strategies": strategies, **others})


def bound(*steps: dict[str, Any], **others: Any) -> BoundRecipe:
    return bind(recipe(*steps, **others), TOYS)


def declaring(*effects: str) -> dict[str, Any]:
    return {"declares": {"what": list(effects)}}


def refusal(*steps: dict[str, Any], **others: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        bound(*steps, **others)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestBinding:
    def test_names_are_bound_to_plugins(self) -> None:
        recipe_bound = bound({"choosy": {"amount": 3}}, {"choosy": {}}, trackers=["csv"])
        first, second = recipe_bound.steps
        assert isinstance(first.strategy, Choosy) and first.strategy.amount == 3
        assert (first.name, first.number, first.occurrence, first.provider) == ("choosy", 1, 0, "toys 1.0")
        assert (second.number, second.occurrence) == (2, 1)
        assert (recipe_bound.model.name, recipe_bound.loss.name) == ("tiny", "cross_entropy")
        assert [tracker.name for tracker in recipe_bound.trackers] == ["csv"]

    def test_unknown_names_are_refused_with_the_closest_one(self) -> None:
        assert refusal(model="tny") == "recipe 'r', model: there is no model 'tny'; did you mean 'tiny'?"
        assert refusal({"chosy": {}}) == (
            "recipe 'r', step 1 (chosy): there is no strategy 'chosy'; did you mean 'choosy'?"
        )
        assert refusal(training={"loss": "mes"}) == (
            "recipe 'r', training.loss: there is no loss 'mes'; did you mean 'mse'?"
        )
        assert refusal(trackers=["cvs"]) == ("recipe 'r', trackers: there is no tracker 'cvs'; did you mean 'csv'?")

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"amuont": 3}, "amuont: unknown parameter; did you mean 'amount'?"),
            ({"amount": [3]}, "amount: should be a valid integer or 'all', got a list"),
            ({"table": 3}, "table: should be a mapping or a list, got 3"),
            (
                {"table": {"ant": "x"}},
                "table.ant: should be a valid integer, unable to parse string as an integer, got 'x'",
            ),
            ({"pairs": [["ant"]]}, "pairs.0.1: is missing"),
            ({"pairs": [["ant", "bee"], "ab"]}, "pairs.1: should be a list, got 'ab'"),
            ({"limits": [{"of": "ant", "row": 3}]}, "limits.0.row: unknown parameter"),
            ({"limits": [{}]}, "limits.0.of: is missing"),
            ({"word": 3}, "word: should be text, got 3; put it in quotes"),
            ({"word": "bad"}, "word: a bad word"),
            ({"word": "worse"}, "KeyError: 'worse'"),
            ({"word": [], "a": 1}, "word: should be text, got a list | a: unknown parameter"),
            ({"z" * 5000: 1}, f"{'z' * 60}…: unknown parameter"),
        ],
    )
    def test_an_invalid_parameter_is_reported_by_recipe_step_and_key(
        self, parameters: dict[str, Any], message: str
    ) -> None:
        refused = refusal(declaring("RANDOM"), {"choosy": parameters})
        assert refused.removesuffix("; known: amount, limits, pairs, table, word") == (
            f"recipe 'r', step 2 (choosy): {message}"
        )

    def test_an_error_about_several_parameters_is_reported(self) -> None:
        unfit = recipe({"imblearn": {"sampler": "SMOTE", "parameters": {"neighbors": 3}}}, model="convnet5")
        with pytest.raises(RecipeError, match=r"step 1 \(imblearn\): SMOTE has no parameter 'neighbors'; did"):
            bind(unfit, _with_toy_model(installed_plugins()))


def _with_toy_model(catalog: Catalog) -> Catalog:
    """Return the strategies of a catalog, with toy models and losses under the names of real ones."""
    offers = [offer for offer in catalog.offers if offer.kind == "strategy"]
    toys = [offer for offer in TOYS.offers if offer.kind != "strategy"]
    models = [type(toy)("model", "convnet5", toy.value, "toys 1.0", "toys") for toy in toys if toy.kind == "model"]
    return Catalog((*offers, *toys, *models), ())


LOCAL = """
from __future__ import annotations

from fer_augment import ClassName, Strategy, hookimpl

class MirrorClasses(Strategy):
    classes: list[ClassName]

    @hookimpl
    def rewrite_training_set(self, training_set):
        return training_set

class Idle(Strategy):
    pass

NUMBER = 3
"""


_DECLARING = """
from fer_augment import Strategy, hookimpl

class Declaring(Strategy):
    @property
    def NAME(self):
        BODY

    @hookimpl
    def sampling_weights(self, weights):
        return weights
"""


_DECLARING_NETWORK = """
from fer_augment import ConfigurableModel

class Declaring(ConfigurableModel):
    @property
    def distributions(self):
        return VALUE

    def build(self, image_shape, classes):
        raise NotImplementedError
"""


class TestDeclarations:
    @pytest.mark.parametrize(
        ("name", "body", "message"),
        [
            ("effects", "raise SystemExit(0)", "effects raised SystemExit: 0"),
            ("effects", "return None", "effects must be an Effect, is None"),
            ("idle_at", "raise GeneratorExit", "idle_at raised GeneratorExit"),
            ("idle_at", "return 'refine_model'", "idle_at must be a list of names of stages, is 'refine_model'"),
            ("idle_at", "return ['refine']", "idle_at contains 'refine', which is not a stage; did you mean"),
            ("acts_from", "return -1", "acts_from must be a number of epochs, at least 0, is -1"),
            ("watched_pairs", "return [('a',)]", "watched_pairs must be a list of pairs of class names, is [('a',)]"),
            ("files", "return [1]", "files must be a list of paths, is [1]"),
            ("distributions", "return 'numpy'", "distributions must be a list of names of distributions, is 'numpy'"),
        ],
    )
    def test_one_that_raises_or_is_of_another_type_is_found_with_its_place(
        self, tmp_path: Path, name: str, body: str, message: str
    ) -> None:
        (tmp_path / "own.py").write_text(_DECLARING.replace("NAME", name).replace("BODY", body))
        (tmp_path / "r.yaml").write_text("extends: demo\nstrategies:\n  - own.py:Declaring\n")
        (fault,) = check_recipe_file(
            tmp_path / "r.yaml", functools.partial(binding_faults, catalog=installed_plugins())
        )
        assert fault.startswith(f"{tmp_path / 'r.yaml'}:3: strategies.Declaring: {message}")

    def test_parameters_that_end_the_process_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "own.py").write_text(
            _DECLARING.replace("NAME(self)", "x(self)").replace("BODY", "return 1")
            + "\n    def model_post_init(self, context):\n        raise SystemExit(0)\n"
        )
        (tmp_path / "r.yaml").write_text("extends: demo\nstrategies:\n  - own.py:Declaring\n")
        with pytest.raises(RecipeError, match="SystemExit: 0"):
            bind(load_recipe(tmp_path / "r.yaml"), installed_plugins())

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("'numpy'", ": distributions must be a list of names of distributions, is 'numpy'"),
            ("['not_there']", " needs not_there, which is not installed: pip install not_there"),
        ],
    )
    def test_those_of_a_network_are_found_and_refused_before_a_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, message: str
    ) -> None:
        monkeypatch.chdir(write_place(tmp_path))
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
        (tmp_path / "own.py").write_text(_DECLARING_NETWORK.replace("VALUE", value))
        (tmp_path / "r.yaml").write_text("extends: demo\nmodel: own.py:Declaring\n")
        (fault,) = check_recipe_file(
            tmp_path / "r.yaml", functools.partial(binding_faults, catalog=installed_plugins())
        )
        assert fault == f"{tmp_path / 'r.yaml'}:2: model.Declaring: {message.lstrip(': ')}"
        with pytest.raises(RecipeError, match=re.escape(f"recipe 'r': model declaring{message}")):
            prepare("r.yaml", "faces", progress=False)


class TestStrategiesInFiles:
    def bind_local(self, folder: Path, step: str, source: str = LOCAL) -> BoundRecipe:
        (folder / "mine.py").write_text(source, encoding="utf-8")
        (folder / "r.yaml").write_text(f"model: tiny\nstrategies: [{step}]\n", encoding="utf-8")
        return bind(load_recipe(str(folder / "r.yaml")), TOYS)

    def test_a_class_in_a_file_next_to_the_recipe_is_a_strategy(self, tmp_path: Path) -> None:
        step = self.bind_local(tmp_path, "./mine.py:MirrorClasses: {classes: [no]}").steps[0]
        assert step.strategy.model_dump() == {"classes": ["no"]}
        assert (step.name, step.provider) == ("mirror_classes", "file mine.py")

    def test_a_file_is_executed_again_only_if_it_changed(self, tmp_path: Path) -> None:
        given = "mine.py:MirrorClasses: {classes: [a]}"
        first, same = self.bind_local(tmp_path, given), self.bind_local(tmp_path, given)
        changed = self.bind_local(tmp_path, given, LOCAL + "\n")
        classes = [type(bound_recipe.steps[0].strategy) for bound_recipe in (first, same, changed)]
        assert classes[0] is classes[1] and classes[0] is not classes[2]

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            ("gone.py:Mine", "gone.py: cannot be read: No such file or directory"),
            ("mine.py:MirorClasses", "mine.py has no class 'MirorClasses'; did you mean 'MirrorClasses'?"),
            ("mine.py:NUMBER", "mine.py: NUMBER: must be a subclass of Strategy"),
            (
                "mine.py:Idle",
                "mine.py: Idle: implements no hook; mark at least one method with @hookimpl",
            ),
            ("mine.py:MirrorClasses", "classes: is missing"),
        ],
    )
    def test_an_invalid_file_or_class_is_refused(self, tmp_path: Path, step: str, message: str) -> None:
        with pytest.raises(RecipeError) as caught:
            self.bind_local(tmp_path, step)
        label = step.rpartition(":")[2]
        assert str(caught.value).replace(f"{tmp_path.resolve()}/", "") == (f"recipe 'r', step 1 ({label}): {message}")

    def test_an_error_when_executing_a_file_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="cannot be imported: SyntaxError: invalid syntax"):
            self.bind_local(tmp_path, "mine.py:Mine", "class Mine(:\n")


class TestClasses:
    @pytest.mark.parametrize(
        ("parameters", "parameter"),
        [
            ({"pairs": [["ant", "bee"], ["bee", "antt"]]}, "pairs"),
            ({"table": {"antt": 3}}, "table"),
            ({"table": ["bee", "antt"]}, "table"),
            ({"limits": [{"of": "bee"}, {"of": "antt"}]}, "limits"),
        ],
    )
    def test_an_unknown_class_is_found_at_every_depth(self, parameters: dict[str, Any], parameter: str) -> None:
        with pytest.raises(RecipeError) as caught:
            check_classes(bound({"choosy": parameters}), ["ant", "bee"])
        assert str(caught.value) == (
            f"recipe 'r', step 1 (choosy): {parameter}: the data set has no class 'antt'; did you mean 'ant'?"
        )

    def test_a_long_name_is_cut(self) -> None:
        with pytest.raises(RecipeError, match=r"pairs: the data set has no class 'z{60}…'"):
            check_classes(bound({"choosy": {"pairs": [["ant", "z" * 5000]]}}), ["ant", "bee"])

    def test_known_classes_pass_also_if_yaml_reads_them_as_another_type(self) -> None:
        check_classes(bound({"choosy": {"table": [3, True, "no"], "word": "ant"}}), ["3", "true", "no"])


SHIFTS, CORRECTS = declaring("SHIFTS_CLASS_PRIOR"), declaring("CORRECTS_CLASS_PRIOR")
FAVORS = declaring("FAVORS_SMALL_CLASSES")
MIRRORS, FLIPS = declaring("MIRRORED_COPIES"), declaring("RANDOM_FLIP")


class TestWarnings:
    @pytest.mark.parametrize(
        ("steps", "loss", "warning"),
        [
            (
                [SHIFTS, FAVORS],
                "cross_entropy",
                "Class frequencies are changed by step 1 (declares), and small classes are favored by step 2 "
                "(declares): they may be favored twice.",
            ),
            (
                [CORRECTS, CORRECTS],
                "cross_entropy",
                "Class frequencies are corrected more than once, by step 1 (declares) and step 2 (declares)"
                ": small classes may be favored too much.",
            ),
            (
                [CORRECTS, FAVORS],
                "cross_entropy",
                "Class frequencies are corrected more than once, by step 1 (declares) and step 2 (declares)"
                ": small classes may be favored too much.",
            ),
            (
                [FLIPS, MIRRORS],
                "cross_entropy",
                "With the random flip of step 1 (declares), the mirrored copies of step 2 (declares) equal plain "
                "copies: they add weight, but no new images.",
            ),
            (
                [declaring("NEEDS_RAW_LOGITS")],
                "mse",
                "The loss 'mse' uses the softmax output, but step 1 (declares) requires a loss over logits.",
            ),
            (
                [declaring("IN_SAMPLE_MINING")],
                "cross_entropy",
                "In-sample predictions under-report confusion, and step 1 (declares) selects rows by them; "
                "out-of-fold predictions avoid this.",
            ),
            (
                [{"mixes": {}}, declaring("USES_HISTORY")],
                "cross_entropy",
                "step 2 (declares) uses the last outputs for each training row, and these are for images that step 1 "
                "(mixes) has mixed: they say little of the row itself.",
            ),
            (
                [declaring(), {"declares": {"what": [], "late": 30}}],
                "cross_entropy",
                "Training has only 30 epochs, but step 2 (declares) starts at epoch 30, counted from 0: it never acts.",
            ),
        ],
    )
    def test_a_misleading_recipe_gives_a_warning(self, steps: list[dict[str, Any]], loss: str, warning: str) -> None:
        assert recipe_warnings(bound(*steps, training={"loss": loss})) == (warning,)

    def test_a_step_that_acts_nowhere_gives_a_warning(self) -> None:
        (warning,) = recipe_warnings(bound({"declares": {"what": [], "idle": ["sampling_weights"]}}))
        assert (
            warning
            == "With these parameters, step 1 (declares) acts at no stage (see its `idle_at`): it has no effect."
        )

    def test_a_step_later_than_the_beginning_of_the_second_stage_gives_a_warning(self) -> None:
        (warning,) = recipe_warnings(bound({"declares": {"what": [], "late": 31}}, {"second_stage": {}}))
        assert "step 1 (declares) starts at epoch 31, counted from 0: it acts late in the second stage, or" in warning

    def test_one_epoch_is_singular_in_the_warning_of_a_late_step(self) -> None:
        late = {"declares": {"what": [], "late": 1}}
        (warning,) = recipe_warnings(bound(late, training={"epochs": 1}))
        assert warning.startswith("Training has only 1 epoch, but step 1 (declares) starts at epoch 1,")

    @pytest.mark.parametrize(
        "steps",
        [
            [],
            [SHIFTS, SHIFTS],
            [CORRECTS],
            [FAVORS],
            [SHIFTS, CORRECTS],
            [MIRRORS],
            [FLIPS],
            [declaring("SHIFTS_CLASS_PRIOR", "FAVORS_SMALL_CLASSES")],
            [declaring("NEEDS_RAW_LOGITS")],
            [declaring("SOFT_TARGETS"), declaring("USES_HISTORY")],
            [{"mixes": {}}],
            [{"declares": {"what": [], "late": 29}}],
            [{"declares": {"what": [], "late": 30}}, {"second_stage": {}}],
        ],
    )
    def test_a_good_recipe_gives_no_warning(self, steps: list[dict[str, Any]]) -> None:
        assert recipe_warnings(bound(*steps)) == ()


class TestComparing:
    def test_arms_that_differ_only_in_strategies_give_no_warning(self) -> None:
        arms = [bound(), bound({"choosy": {}}, name="b", description="Other.", trackers=["csv"])]
        assert comparison_warnings(arms) == ()

    def test_a_setting_without_effect_on_results_gives_no_warning(self) -> None:
        assert comparison_warnings([bound(), bound(name="b", training={"workers": 2})]) == ()

    def test_other_differences_give_a_warning(self) -> None:
        other = {"epochs": 3, "scout": {"folds": 3}}
        arm = bound(name="b", training=other, data={"held_out_duplicates": "drop"})
        assert comparison_warnings([bound(), bound(name="a"), arm]) == (
            "b differs from r not only in its strategies, but also in training.epochs, training.scout.folds, "
            "data.held_out_duplicates: differences are not due to the strategies alone.",
        )

    def test_settings_of_a_grid_are_meant_to_differ(self) -> None:
        arms = [bound(), bound(name="b", training={"epochs": 3, "scout": {"folds": 3}})]
        grid: dict[str, dict[str, Any]] = {name: {"training.epochs": 3} for name in ("r", "b")}
        (warning,) = comparison_warnings(arms, grid)
        assert "also in training.scout.folds: " in warning
        assert comparison_warnings(arms, {"b": {"training.epochs": 3, "training.scout": {"folds": 3}}}) == ()

    def test_arms_that_may_be_trained_for_longer_give_a_warning(self) -> None:
        by_epochs = {"budget": "epochs"}
        arms = [bound(training=by_epochs), bound({"choosy": {}}, name="b", training=by_epochs)]
        assert comparison_warnings(arms) == (
            "With `training.budget: epochs`, a larger rewritten training set is trained for more optimizer steps "
            "(b): differences may be due to the length of training alone.",
        )
        assert comparison_warnings(arms[1:]) == ()
        assert comparison_warnings([arms[0], bound(SHIFTS, name="b", training=by_epochs)]) == ()


class TestShipped:
    @pytest.mark.parametrize("name", shipped_recipes())
    def test_they_bind_and_only_four_give_a_warning(self, name: str) -> None:
        warnings = recipe_warnings(bind(load_recipe(name), installed_plugins()))
        assert len(warnings) == (
            name in ("confusion_mirror", "demo_mirror", "modern_label_aware_smoothing", "modern_ldam_drw")
        )

    @pytest.mark.parametrize("name", shipped_recipes())
    def test_only_recipes_with_a_note_in_the_header_name_classes(self, name: str) -> None:
        recipe_bound = bind(load_recipe(name), installed_plugins())
        text = shipped_recipes()[name].read_text(encoding="utf-8")
        note = re.search(r"# The pair \((\w+), (\w+)\) is for FER2013", text)
        check_classes(recipe_bound, list(note.groups()) if note else [])


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Validate a value with the subset of JSON Schema that recipe schemas use."""
    if "$ref" in schema:
        referred = functools.reduce(operator.getitem, schema["$ref"].removeprefix("#/").split("/"), root)
        if not fits(value, referred, root):
            return False
    if "anyOf" in schema and not any(fits(value, option, root) for option in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema and not any(_is_a(value, kind) for kind in _listed(schema["type"])):
        return False
    if isinstance(value, dict):
        return _mapping_fits(value, schema, root)
    if isinstance(value, list):
        parts = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        return schema.get("minItems", 0) <= len(value) and all(map(functools.partial(fits, root=root), value, parts))
    if isinstance(value, str):
        return bool(re.search(schema.get("pattern", ""), value))
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    return (low is None or value >= low) and (above is None or value > above)


def _mapping_fits(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    for key, inner in value.items():
        patterns = [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
        others = schema.get("additionalProperties", {})
        part = known.get(key, patterns[0] if patterns else others)
        if part is False or not fits(inner, {} if part is True else part, root):
            return False
    size_fits = schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 10**6)
    return size_fits and set(schema.get("required", [])) <= set(value)


def _is_a(value: Any, kind: str) -> bool:
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "null": type(None),
        "boolean": bool,
    }
    if kind in kinds:
        return isinstance(value, kinds[kind])
    return not isinstance(value, bool) and isinstance(value, int if kind == "integer" else int | float)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def read(text: str) -> Any:
    faults: list[Fault] = []
    return parse_yaml(text, "r.yaml", faults).plain()


class TestJsonSchema:
    @pytest.mark.parametrize("name", shipped_recipes())
    def test_shipped_recipes_match_the_schema(self, name: str) -> None:
        schema = recipe_json_schema(installed_plugins())
        assert fits(read(shipped_recipes()[name].read_text(encoding="utf-8")), schema, schema)

    @pytest.mark.parametrize(
        "text",
        [
            "model: tiny\nstrategies: [choosy, ./mine.py:Mine, ./mine.py:Mine: {a: 1}, choosy: {}]\n",
            "extends: paper\nwithout: [imblearn]\n",
            "model: tiny\nstrategies: [choosy: {pairs: [[a, b]], limits: [{of: a}]}, choosy: ]\n",
            "model: tiny\ntraining: {loss: mse, scout: {epochs: null}}\n",
        ],
    )
    def test_valid_recipes_match(self, text: str) -> None:
        schema = recipe_json_schema(TOYS)
        assert fits(read(text), schema, schema)

    @pytest.mark.parametrize(
        "text",
        [
            "name: r\n",
            "modle: tiny\nextends: paper\n",
            "model: tny\n",
            "model: tiny\nwithout: imblearn\n",
            "model: tiny\ntraining: {epohcs: 3}\n",
            "model: tiny\ntraining: {epochs: 0}\n",
            "model: tiny\ntraining: {loss: mes}\n",
            "model: tiny\nstrategies: [chosy]\n",
            "model: tiny\nstrategies: [declares]\n",
            "model: tiny\nstrategies: [declares: ]\n",
            "model: tiny\nstrategies: [choosy: {amuont: 3}]\n",
            "model: tiny\nstrategies: [choosy: {limits: [{of: a, row: 3}]}]\n",
            "model: tiny\nstrategies: [choosy: {}, declares: {what: 3}]\n",
        ],
    )
    def test_invalid_recipes_do_not_match(self, text: str) -> None:
        schema = recipe_json_schema(TOYS)
        assert not fits(read(text), schema, schema)

    def test_every_key_and_parameter_has_a_description(self) -> None:
        schema = recipe_json_schema(installed_plugins())
        parts = [schema, *schema["$defs"].values()]
        properties = [item for part in parts for item in part.get("properties", {}).items()]
        assert [name for name, value in properties if not value.get("description")] == []

    def test_a_parameter_without_a_json_schema_does_not_affect_other_strategies(self) -> None:
        class Odd(Strategy):
            model_config = ConfigDict(arbitrary_types_allowed=True)

            thing: complex | object = 1

            @hookimpl
            def sampling_weights(self, weights: Any) -> Any:
                return weights

        class OddPlugin:
            @hookimpl
            def register_strategies(self) -> list[type[Strategy]]:
                return [Odd, Choosy]

        schema = recipe_json_schema(collect([("odd", "odd 1.0", OddPlugin())]))
        assert schema["$defs"]["choosy"]["properties"]["amount"]
        assert schema["$defs"]["odd"]


@pytest.mark.parametrize(("written", "shown"), [(".inf", "inf"), ("-.inf", "-inf"), (".nan", "nan")])
def test_a_parameter_that_is_not_finite_is_refused_with_its_place(tmp_path, written, shown):
    path = tmp_path / "infinite.yaml"
    path.write_text(f"extends: modern\nstrategies:\n  - logit_adjustment: {{tau: {written}}}\n")
    with pytest.raises(RecipeError, match=rf"infinite.yaml:3: .*: tau should be a finite number, got {shown}$"):
        load_recipe(path)
    with pytest.raises(RecipeError, match=f"tau should be a finite number, got {shown}"):
        load_recipe("modern_logit_adjustment", [f"strategies.logit_adjustment.tau={written}"])
    with pytest.raises(RecipeError, match="tau should be a finite number"):
        Recipe(name="x", model="vgg_tiny", strategies=[{"logit_adjustment": {"tau": float(shown)}}])
