"""Networks with parameters: how recipes write, inherit, override and validate them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from fer_augment import ConfigurableModel, Model, hookimpl
from fer_augment.errors import PluginError, RecipeError
from fer_augment.hooks.networks import ModelInput
from fer_augment.hooks.plugin_manager import collect, installed_plugins
from fer_augment.hooks.strategy_files import model_in_file
from fer_augment.recipe.binding import bind, binding_faults
from fer_augment.recipe.json_schema import recipe_json_schema
from fer_augment.recipe.recipe import Recipe, check_recipe_file, load_recipe, load_recipes, recipe_yaml
from fer_augment.recipe.warnings import comparison_warnings
from fer_augment.training.keys import model_identity, training_key
from tests.networks import model_named, network_named
from tests.tiny_training import tiny_splits

PLUGINS = installed_plugins()

LOCAL = """
from pydantic import Field
from torch import nn

from fer_augment import ConfigurableModel, Model


def build(image_shape, classes, width=4):
    layers = nn.Conv2d(image_shape[2], width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*layers))
    network.add_module("head", nn.Linear(width, classes))
    return network


fixed = Model("fixed", "one convolution", build)


class OneLayer(ConfigurableModel):
    width: int = Field(default=8, ge=1)

    def build(self, image_shape, classes):
        return build(image_shape, classes, self.width)


class Unfinished(ConfigurableModel):
    pass


number = 3
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "r.yaml") -> str:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def bound_model(text: str, *overrides: str) -> Any:
    return bind(load_recipe(write(text), overrides), PLUGINS).model


def check(text: str) -> list[str]:
    return check_recipe_file(write(text), lambda node: binding_faults(node, PLUGINS))


class TestNotation:
    def test_a_bare_name_has_the_defaults(self) -> None:
        assert bound_model("model: vgg_mini\n").model_dump(mode="json") == {
            "weights": None,
            "width": 32,
            "dropout": 0.2,
        }

    def test_parameters_are_written_below_the_name(self) -> None:
        assert bound_model("model: {vgg_mini: {width: 8}}\n").width == 8
        assert bound_model("model:\n  vgg_mini:\n").width == 32

    def test_a_recipe_is_built_in_python_as_in_a_file(self) -> None:
        recipe = Recipe(name="r", model={"vgg_mini": {"width": 8}})
        assert recipe == load_recipe(write("model: {vgg_mini: {width: 8}}\n"))
        assert bind(recipe, PLUGINS).model == model_named("vgg_mini", width=8)

    def test_records_and_files_hold_the_notation_of_recipes(self) -> None:
        recipe = load_recipe(write("model: {vgg_mini: {width: 8}}\n"))
        assert recipe.model_dump(mode="json")["model"] == {"vgg_mini": {"width": 8}}
        assert load_recipe(write("model: vgg_mini\n")).model_dump()["model"] == "vgg_mini"
        assert load_recipe(write(recipe_yaml(recipe))) == recipe
        assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe

    def test_a_network_without_parameters_refuses_them(self) -> None:
        with pytest.raises(RecipeError, match="^recipe 'r', model: width: unknown parameter; convnet5 has none$"):
            bound_model("model: {convnet5: {width: 3}}\n")


class TestInheritance:
    def child(self, parent: str, child: str) -> Any:
        write(f"model: {parent}\n", "parent.yaml")
        return load_recipe(write(f"extends: parent.yaml\n{child}")).model_dump()["model"]

    def test_parameters_of_the_same_network_are_inherited(self) -> None:
        inherited = self.child("{vgg_mini: {width: 8, dropout: 0.1}}", "model: {vgg_mini: {dropout: 0.5}}\n")
        assert inherited == {"vgg_mini": {"width": 8, "dropout": 0.5}}
        assert self.child("{vgg_mini: {width: 8}}", "") == {"vgg_mini": {"width": 8}}
        assert self.child("vgg_mini", "model: {vgg_mini: {width: 9}}\n") == {"vgg_mini": {"width": 9}}

    def test_those_of_another_network_are_not(self) -> None:
        assert self.child("{vgg_mini: {dropout: 0.1}}", "model: {vgg_tiny: {width: 4}}\n") == {"vgg_tiny": {"width": 4}}
        assert self.child("{vgg_mini: {dropout: 0.1}}", "model: vgg_mini\n") == "vgg_mini"


class TestOverrides:
    def test_a_parameter_is_set_in_the_arms_with_the_network(self) -> None:
        for name, model in (("a", "vgg_mini"), ("b", "{vgg_mini: {dropout: 0.1}}"), ("c", "convnet5")):
            write(f"model: {model}\n", f"{name}.yaml")
        arms = load_recipes(["a.yaml", "b.yaml", "c.yaml"], ["model.vgg_mini.width=64"])
        assert [arm.model_dump()["model"] for arm in arms] == [
            {"vgg_mini": {"width": 64}},
            {"vgg_mini": {"dropout": 0.1, "width": 64}},
            "convnet5",
        ]

    def test_the_network_and_then_its_parameter_are_set(self) -> None:
        assert bound_model("model: convnet5\n", "model=vgg_mini", "model.vgg_mini.width=64").width == 64
        assert bound_model("model: convnet5\n", "model={vgg_mini: {width: 64}}").width == 64

    def test_a_network_that_no_arm_has_is_refused(self) -> None:
        with pytest.raises(
            RecipeError, match="--set model.vgg_min.width=3: no recipe has the model 'vgg_min'; did you"
        ):
            load_recipe(write("model: vgg_mini\n"), ["model.vgg_min.width=3"])

    def test_a_network_in_a_file_is_named_by_its_class(self) -> None:
        write(LOCAL, "mine.py")
        assert bound_model("model: ./mine.py:OneLayer\n", "model.OneLayer.width=3").width == 3


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("model: {vgg_mini: {width: 0}}\n", ["model.vgg_mini.width: should be greater than or equal to 1, got 0"]),
        ("model: {vgg_mini: {widht: 9}}\n", ["model.vgg_mini.widht: unknown parameter; did you mean 'width'?"]),
        ("model: {vgg_min: {width: 9}}\n", ["model: there is no model 'vgg_min'; did you mean 'vgg_mini'?"]),
        ("model: {vgg_mini: [3]}\n", ["model: the parameters of vgg_mini should be a mapping, got a list"]),
        (
            "model: {vgg_mini: {}, vgg_tiny: {}}\n",
            ["model: a recipe has one network; write NAME, or NAME: {PARAMETER: VALUE}"],
        ),
        ("model: [vgg_mini]\n", ["model: should be text, got a list"]),
        ("model:\n", ["model: should be text, got nothing"]),
        (
            "model: {convnet5: {width: 3, depth: 1}}\n",
            [f"model.convnet5.{key}: unknown parameter; convnet5 has none" for key in ("width", "depth")],
        ),
    ],
)
def test_errors_name_file_line_and_key(text: str, faults: list[str]) -> None:
    assert check("# a comment\n" + text) == [f"r.yaml:2: {fault}" for fault in faults]


def test_an_error_deep_in_the_parameters_has_its_own_line() -> None:
    text = "model:\n  vgg_mini:\n    width: 8\n    dropout: 2\n"
    assert check(text) == ["r.yaml:4: model.vgg_mini.dropout: should be less than 1, got 2"]


class TestNetworksInFiles:
    @pytest.mark.parametrize(("name", "width"), [("fixed", 4), ("OneLayer", 8), ("OneLayer: {width: 3}", 3)])
    def test_a_network_in_a_file_next_to_the_recipe(self, name: str, width: int) -> None:
        write(LOCAL, "lab/mine.py")
        model = f"{{./mine.py:{name}}}" if ":" in name else f"./mine.py:{name}"
        bound = bind(load_recipe(write(f"model: {model}\n", "lab/r.yaml")), PLUGINS)
        assert bound.model.build((8, 8, 1), 3).head.in_features == width  # type: ignore[union-attr]
        assert bound.providers[0] == "file mine.py"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("OneLayr", "mine.py has no model 'OneLayr'; did you mean 'OneLayer'?"),
            ("number", "mine.py: number: must be a Model or a subclass of ConfigurableModel, is a int"),
            ("Unfinished", "mine.py: Unfinished: implements no build(self, image_shape, classes), which returns the "),
        ],
    )
    def test_an_invalid_name_is_refused(self, name: str, message: str) -> None:
        write(LOCAL, "mine.py")
        with pytest.raises(PluginError) as caught:
            model_in_file(Path("mine.py"), name)
        assert str(caught.value).startswith(message)


class TestKeys:
    def key(self, text: str) -> str:
        return training_key(bind(load_recipe(write(text)), PLUGINS), 0, tiny_splits())

    def test_parameters_are_part_of_the_training_key(self) -> None:
        keys = [self.key(f"model: {model}\n") for model in ("vgg_tiny", "{vgg_tiny: {width: 8}}", "vgg_mini")]
        assert len(set(keys)) == 3
        assert self.key("model: {vgg_tiny: {width: 12}}\n") == keys[0]  # the default, written out

    def test_the_input_is_part_of_the_identity(self) -> None:
        def build(image_shape: Any, classes: int) -> Any: ...

        identities = [model_identity(Model("a", "", build, given)) for given in (ModelInput(), ModelInput(channels=3))]
        assert identities[0] != identities[1]


def test_arms_with_other_parameters_are_reported() -> None:
    recipes = [Recipe(name=name, model=model) for name, model in (("a", "vgg_mini"), ("b", {"vgg_mini": {"width": 8}}))]
    arms = [bind(recipe, PLUGINS) for recipe in recipes]
    assert comparison_warnings(arms, {"b": {"model.vgg_mini.width": 8}}) == ()
    (warning,) = comparison_warnings(arms)
    assert warning.startswith("b differs from a not only in its strategies, but also in model.width: ")


def test_the_json_schema_describes_the_parameters() -> None:
    schema = recipe_json_schema(PLUGINS)
    definition = schema["$defs"]["model.vgg_mini"]
    assert definition["properties"]["width"] == {
        "default": 32,
        "description": "Channels of the first convolution; the last has 8 times as many.",
        "minimum": 1,
        "title": "Width",
        "type": "integer",
    }
    assert definition["additionalProperties"] is False
    names, _, mapping = schema["properties"]["model"]["anyOf"]
    assert set(names["enum"]) == set(mapping["properties"]) == {offer.name for offer in PLUGINS.of_kind("model")}


class TestDeclaration:
    def test_the_name_is_that_of_the_class(self) -> None:
        class ResNet18(ConfigurableModel):
            """A network."""

            depth: int = Field(default=1, description="Blocks.")

            def build(self, image_shape: Any, classes: int) -> Any: ...

        class Plugin:
            @hookimpl
            def register_models(self) -> list[Any]:
                return [ResNet18]

        assert collect([("m", "d 1", Plugin())]).model("res_net18").value is ResNet18

    def test_the_input_has_as_many_means_as_channels(self) -> None:
        with pytest.raises(PluginError, match="mean has 3 values for the channels of the data; set channels"):
            ModelInput(mean=(0.5, 0.5, 0.5))
        with pytest.raises(PluginError, match=r"std must be above 0, got 0\.0"):
            ModelInput(std=(0.0,))


@pytest.mark.parametrize("width", [4, 32])
def test_the_width_scales_all_layers(width: int) -> None:
    for name in ("vgg_mini", "vgg_tiny"):
        network = network_named(name, (48, 48, 1), 7, width=width)
        assert network.features[0].out_channels == width
        assert network.head.in_features == 8 * width
