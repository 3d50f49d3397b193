"""Recipes: a model, training settings, and an ordered list of strategies, read from YAML files.

A file may set `extends: PARENT`, a shipped recipe or another file. Its mappings are then merged into those of the
parent key by key, its strategies are appended to those of the parent, and `without: [NAME]` removes inherited
strategies, so two recipes differ only in what the child sets. `name` and `description` are not inherited.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, Strict, ValidationError, field_validator
from pydantic_core import ErrorDetails

from fer_augment.data.pixels import LARGEST_SIDE, Channels, Fit, PixelSettings
from fer_augment.errors import RecipeError, did_you_mean, excerpt, windows_refuses
from fer_augment.recipe.files import FILE_KEYS, find_recipe, read_recipe, step_label, with_full_paths
from fer_augment.recipe.files import shipped_recipes as shipped_recipes
from fer_augment.recipe.model_choice import ModelChoice
from fer_augment.recipe.overrides import Override, overridden, parse_override
from fer_augment.recipe.training_settings import Parameters, Settings, Text
from fer_augment.recipe.training_settings import ScoutSettings as ScoutSettings
from fer_augment.recipe.training_settings import TrainingSettings as TrainingSettings
from fer_augment.recipe.yaml_source import Fault, Keys, Node, Place, as_node, dump_yaml, value_in_words

_LONGEST_NAME = 200
"""Bytes of the name of a recipe; file systems allow 255, and files of results add up to 54, as for a seed."""

Side: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=LARGEST_SIDE)]


class DataSettings(Settings):
    """Changes to the data before any strategy."""

    size: Side | tuple[Side, Side] | None = Field(
        default=None,
        description="Height and width of all images: one number for square images, or [H, W]; null: as they are.",
    )
    fit: Fit | None = Field(
        default=None,
        description="How images of another aspect ratio are fitted to `size`: crop the longer side (the default), pad "
        "the shorter one with black, or stretch.",
    )
    channels: Channels | None = Field(
        default=None, description="Convert all images to gray or color; auto, the default: color if any image is."
    )
    held_out_duplicates: Literal["keep", "drop"] = Field(
        default="keep",
        description="Keep or drop training rows that are exact duplicates of a held-out row.",
    )
    labels: Literal["soft", "majority"] = Field(
        default="soft",
        description="Train on the shares of votes of sources that have votes, or on the class with the most votes.",
    )

    @property
    def pixels(self) -> PixelSettings:
        """Size and color of the images."""
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        return PixelSettings(size, self.fit, self.channels)


class StrategyStep(Settings):
    """One step of a recipe: a strategy and its parameters."""

    name: Text = Field(
        description="Name of an installed strategy, or FILE.py:CLASS for one in a file next to the recipe."
    )
    parameters: Parameters = Field(default={}, description="Parameters of the strategy.")

    @property
    def label(self) -> str:
        """The name of the step in `without` and `--set strategies.NAME.…`; for a file, the class name."""
        return step_label(self.name)


class Recipe(Settings):
    """A model, its training settings and an ordered list of strategies: one arm of a comparison."""

    name: str = Field(description="Name of the arm; default: the file name without .yaml.")
    description: Text = Field(default="", description="One sentence about the recipe.")
    model: ModelChoice = Field(description="Name of an installed network, or NAME: {PARAMETER: VALUE}.")
    training: TrainingSettings = Field(default=TrainingSettings(), description="Training settings.")
    data: DataSettings = Field(default=DataSettings(), description="Data settings.")
    strategies: tuple[StrategyStep, ...] = Field(
        default=(), description="Steps in the order in which they act; appended to those of the parent."
    )
    trackers: tuple[Text, ...] = Field(
        default=(),
        description="Names of trackers, which follow all runs; FILE.py:NAME for one in a file next to the recipe.",
    )

    def __init__(self, **settings: Any) -> None:
        """Build a recipe in Python; steps and the network may be written as in a file.

        For example `"dedup"`, or `{"dedup": {"mirrored": True}}`.

        Raises:
            RecipeError: in one line, with the key of the first setting that is invalid.
        """
        try:
            super().__init__(**settings)
        except ValidationError as error:
            node = as_node(settings, Place(f"recipe {settings.get('name', '')!r}"))
            raise RecipeError(str(_fault(node, error.errors()[0]))) from error

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined] # validation of files reports every error itself

    @field_validator("strategies", mode="before")
    @classmethod
    def _steps_as_in_files(cls, steps: object) -> object:
        if not isinstance(steps, list | tuple):
            return steps
        return [_step_as_in_a_file(step) for step in steps]

    @field_validator("name")
    @classmethod
    def _fits_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"should consist of letters, digits, '_', '-' and '.', as it names a folder, got {name!r}")
        if windows_refuses(name):
            raise ValueError(f"names a folder, which on Windows cannot be called {name!r}; choose another")
        if (length := len(name.encode())) > _LONGEST_NAME:
            raise ValueError(
                f"should have at most {_LONGEST_NAME} bytes in UTF-8, as it names folders and files, got {length}; "
                "choose a shorter name"
            )
        return name


def _step_as_in_a_file(step: object) -> object:
    """Return the fields of a step that is written as a name, or as a name with parameters."""
    if isinstance(step, str):
        return {"name": step}
    if isinstance(step, dict) and len(step) == 1 and "name" not in step:
        ((name, parameters),) = step.items()
        return {"name": name, "parameters": parameters or {}}
    return step


def load_recipes(recipes: Sequence[str | Path | Recipe], overrides: Sequence[str] = ()) -> list[Recipe]:
    """Load the arms of a comparison.

    Args:
        recipes: shipped recipes by name, files by a path (it has a separator or ends in .yaml or .yml), or recipes
            built in Python.
        overrides: `key=value` settings for every arm: `training.epochs=5`, `model=convnet2`, or
            `strategies.NAME.parameter=value` and `model.NAME.parameter=value` for all steps and networks with this
            name.

    Returns:
        The recipes, in order, with inheritance resolved and overrides applied.

    Raises:
        RecipeError: with the first error in a recipe or an override; also if two arms have the same name, or if no arm
            has a step that an override names.
    """
    changes = [parse_override(text) for text in overrides]
    sources = [recipe if isinstance(recipe, Recipe) else find_recipe(str(recipe), Path()) for recipe in recipes]
    loaded = [_loaded(source, changes) for source in sources]
    refuse_unused(changes, loaded)
    _refuse_equal_names(loaded, [str(source) if isinstance(source, Path) else "a Recipe object" for source in sources])
    return loaded


def overridden_recipe(recipe: Recipe, changes: Iterable[Override]) -> Recipe:
    """Return a recipe with overrides applied; those of steps and networks that it has not change nothing.

    Raises:
        RecipeError: if an override is invalid.
    """
    return _loaded(recipe, changes)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load one recipe, with overrides as in `load_recipes`.

    Raises:
        RecipeError: with the first error, by file, line and key, and the number of errors.
    """
    return load_recipes([name_or_path], overrides)[0]


def pixel_settings(overrides: Sequence[str]) -> PixelSettings:
    """Return size and color of images from overrides alone, without a recipe.

    Args:
        overrides: `data.size=…`, `data.fit=…` and `data.channels=…`.

    Raises:
        RecipeError: if a value is invalid, or an override sets something else.
    """
    changes = [parse_override(text) for text in overrides]
    names = [f"data.{field.name}" for field in dataclasses.fields(PixelSettings)]
    for change in changes:
        if ".".join(change.keys) not in names:
            hint = did_you_mean(".".join(change.keys), names)
            raise RecipeError(f"{change.source}: only {', '.join(names)} change how a data source is read{hint}")
    return _loaded(Recipe(name="data", model=""), changes).data.pixels


def check_recipe_file(
    name_or_path: str | Path, further_faults: Callable[[Node], Iterable[Fault]] = lambda recipe: ()
) -> list[str]:
    """Return all errors in a recipe file and its parents, each as `file:line: key: message`, in order.

    Args:
        name_or_path: a shipped recipe by name, or a file.
        further_faults: returns additional errors in a recipe as returned by `read_recipe`.
    """
    faults: list[Fault] = []
    try:
        node = read_recipe(find_recipe(str(name_or_path), Path()), faults)
    except RecipeError as error:
        return [str(error)]
    if node:
        _validated(node, faults)
        faults += further_faults(node)
    return [str(fault) for fault in _in_order(faults)]


def recipe_yaml(recipe: Recipe) -> str:
    """Return a recipe as YAML without `extends`; `load_recipe` reads the same recipe from it."""
    steps = [{step.name: step.parameters} if step.parameters else step.name for step in recipe.strategies]
    return dump_yaml({**recipe.model_dump(), "strategies": steps, "trackers": list(recipe.trackers)})


def validation_message(errors: Sequence[ErrorDetails]) -> str:
    """Convert pydantic's errors about one value to a message in the terms of a recipe.

    Args:
        errors: one error, or one for each type that the value may have.
    """
    messages = list(dict.fromkeys(map(_expected, errors)))
    alternatives = " or ".join([messages[0], *(other.removeprefix("should be ") for other in messages[1:])])
    first = errors[0]
    if first["type"] in ("missing", "value_error", "assertion_error"):
        return alternatives
    if first["type"].startswith("path_"):
        return f"{alternatives}, got '{excerpt(str(first['input']), _PATH_SHOWN)}'"  # its end says which file it is
    is_unquoted = first["type"] == "string_type" and isinstance(first["input"], int | float)
    return f"{alternatives}, got {value_in_words(first['input'])}" + ("; put it in quotes" if is_unquoted else "")


def _expected(error: ErrorDetails) -> str:
    if error["type"] in ("value_error", "assertion_error"):
        return " ".join(str(error["ctx"]["error"]).split())
    return _EXPECTED.get(error["type"]) or error["msg"].removeprefix("Input ").replace("String ", "text ")


_PATH_SHOWN = 300
"""Characters of a path in a message."""
_EXPECTED = {
    "dict_type": "should be a mapping",
    "list_type": "should be a list",
    "missing": "is missing",
    "model_type": "should be a mapping",
    "string_type": "should be text",
    "tuple_type": "should be a list",
}


def _loaded(source: Path | Recipe, changes: Iterable[Override]) -> Recipe:
    faults: list[Fault] = []
    if isinstance(source, Recipe):
        node: Node | None = as_node(source.model_dump(), Place(f"recipe {source.name!r}"))
    else:
        node = read_recipe(source, faults)
    recipe = _validated(_overridden(node, changes, faults), faults) if node else None
    if recipe is None or faults:
        more = f" (first of {len(faults)} errors; `fer-augment recipes check` lists all)"
        raise RecipeError(str(_in_order(faults)[0]) + (more if len(faults) > 1 else ""))
    return recipe


def _overridden(node: Node, changes: Iterable[Override], faults: list[Fault]) -> Node:
    """Apply overrides; relative paths in these and in recipes built in Python start at the working directory."""
    return with_full_paths(functools.reduce(overridden, changes, node), Path(), faults)


def _validated(node: Node, faults: list[Fault]) -> Recipe | None:
    try:
        return Recipe.model_validate(node.plain())
    except ValidationError as error:
        faults += dict.fromkeys(_fault(node, detail) for detail in error.errors())  # a size has one for each form
        return None


def _fault(node: Node, error: ErrorDetails) -> Fault:
    keys = error["loc"]
    if keys[:2] == ("data", "size"):
        keys = keys[:2]
        return Fault(node.place_of(keys), keys, f"should be one whole number from 1 to {LARGEST_SIDE}, or two: [H, W]")
    place = node.place_of(keys)
    if error["type"] == "missing":
        return Fault(Place(place.source), keys, validation_message([error]))
    message = _unknown_key(keys) if error["type"] == "extra_forbidden" else validation_message([error])
    return Fault(place, keys, message)


def _dotted_fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the keys of all settings below a model, as in `--set`."""
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            names += _dotted_fields(field.annotation, f"{prefix}{name}.")
    return names


_KEYS = (*_dotted_fields(Recipe), *FILE_KEYS)
_RENAMED_KEYS = {"held_out_copies": "data.held_out_duplicates"}
"""Keys of earlier versions (the last part), and their present names."""


def _unknown_key(keys: Keys) -> str:
    *above, key = map(str, keys)
    if key in _RENAMED_KEYS:
        return f"renamed to {_RENAMED_KEYS[key]!r}"
    places = [known_key.rpartition(".") for known_key in _KEYS]
    elsewhere = [".".join(filter(None, (prefix, name))) for prefix, _, name in places if name == key]
    siblings = [name for prefix, _, name in places if prefix == ".".join(above)]
    return "unknown key" + (f"; did you mean {elsewhere[0]!r}?" if elsewhere else did_you_mean(key, siblings))


def _in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Sort by file and line; missing keys have no line and come last."""
    return sorted(faults, key=lambda fault: (fault.place.source, fault.place.line or math.inf))


def has_key(recipe: Recipe, change: Override) -> bool:
    """Return whether a recipe has the step or the network that an override names; it has all other settings."""
    match change.keys:
        case ("strategies", label, *_):
            return label in [step.label for step in recipe.strategies]
        case ("model", label, *_):
            return label == recipe.model.label
        case _:
            return True


def refuse_unused(changes: Iterable[Override], recipes: Sequence[Recipe]) -> None:
    """Refuse overrides of a step or a network that no recipe has.

    Raises:
        RecipeError: for the first one.
    """
    for change in changes:
        if len(change.keys) < 2 or change.keys[0] not in ("strategies", "model"):
            continue
        if any(has_key(recipe, change) for recipe in recipes):
            continue
        labels = [step.label for recipe in recipes for step in recipe.strategies]
        models = [recipe.model.label for recipe in recipes]
        kind, names = ("a step", labels) if change.keys[0] == "strategies" else ("the model", models)
        hint = did_you_mean(change.keys[1], set(names))
        raise RecipeError(f"{change.source}: no recipe has {kind} {change.keys[1]!r}{hint}")


def _refuse_equal_names(recipes: Sequence[Recipe], sources: Sequence[str]) -> None:
    name, count = Counter(recipe.name for recipe in recipes).most_common(1)[0] if recipes else ("", 0)
    if count > 1:
        files = sorted({source for source, recipe in zip(sources, recipes, strict=True) if recipe.name == name})
        if len(files) == 1:
            raise RecipeError(f"recipe {name!r} is given twice; remove one of them")
        raise RecipeError(f"{' and '.join(files)} are all named {name!r}; set a different `name:` in each")
