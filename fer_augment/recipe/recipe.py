"""Recipes: a model, how to train it, and an ordered list of strategies, read from YAML files.

A file may say `extends: PARENT`, a shipped recipe or another file. Then its mappings are laid over the
parent's key by key, its strategies are appended to the parent's, and `without: [NAME]` takes inherited ones
away, so that two recipes differ in what the second one says and in nothing else. `name` and `description` are
not inherited.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, Strict, ValidationError, field_validator
from pydantic_core import ErrorDetails

from fer_augment.errors import RecipeError, did_you_mean
from fer_augment.recipe.files import FILE_KEYS, find_recipe, read_recipe, step_label
from fer_augment.recipe.files import shipped_recipes as shipped_recipes
from fer_augment.recipe.overrides import Override, overridden, parse_override
from fer_augment.recipe.yaml_source import Fault, Keys, Node, Place, dump_yaml, shown

Whole: TypeAlias = Annotated[int, Strict()]
Number: TypeAlias = Annotated[float, Strict(), AllowInfNan(False)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoutSettings(_Settings):
    """How the model is trained that mining strategies ask about the training set."""

    folds: Whole = Field(default=5, ge=2, le=50, description="Parts of the training set for out-of-fold predictions.")
    epochs: Whole | None = Field(
        default=None, ge=1, description="Epochs of each scout; null: as many as the recipe's own."
    )


class TrainingSettings(_Settings):
    """How the network is trained."""

    epochs: Whole = Field(default=30, ge=1, description="Epochs; under the budget of steps, epochs of the source rows.")
    batch_size: Whole = Field(default=128, ge=2, description="Rows in each optimizer step.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="The optimizer; sgd uses Nesterov momentum."
    )
    learning_rate: Number = Field(
        default=1e-3, gt=0, description="Learning rate; the highest one where a schedule changes it."
    )
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum; of sgd only.")
    weight_decay: Number = Field(default=0.0, ge=0, description="Weight decay as the optimizer defines it.")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        default="constant", description="How the learning rate goes over the whole training."
    )
    loss: str = Field(default="cross_entropy", description="Name of an installed loss.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Arithmetic of the network; auto: bfloat16 where the hardware is fast at it.",
    )
    budget: Literal["steps", "epochs"] = Field(
        default="steps",
        description="steps: every arm takes the optimizer steps of the source training set; "
        "epochs: a larger rewritten training set is trained for longer.",
    )
    evaluate_every: Whole = Field(
        default=5, ge=1, description="Epochs between two evaluations on the validation split."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where to train; auto: on the accelerator if there is one."
    )
    threads: Whole = Field(default=1, ge=1, description="Processor threads of a run; another number gives other bits.")
    scout: ScoutSettings = Field(default=ScoutSettings(), description="The models that mining strategies ask.")


class DataSettings(_Settings):
    """What is done to the data before any strategy."""

    held_out_duplicates: Literal["keep", "drop"] = Field(
        default="keep",
        description="Training rows that are byte for byte the same as a held-out row: keep or drop them.",
    )


class StrategyStep(_Settings):
    """One step of a recipe: a strategy and its parameters."""

    name: str = Field(
        description="Name of an installed strategy, or FILE.py:CLASS for one in a file beside the recipe."
    )
    parameters: dict[str, Any] = Field(default={}, description="The strategy's parameters.")

    @property
    def label(self) -> str:
        """The name by which `without` and `--set strategies.NAME.…` call the step: for a file its class."""
        return step_label(self.name)


class Recipe(_Settings):
    """A model, how to train it, and what to do to the data on the way: one arm of a comparison."""

    name: str = Field(description="Names the arm; by default the file's name without .yaml.")
    description: str = Field(default="", description="What the recipe tries, in a sentence.")
    model: str = Field(description="Name of an installed network.")
    training: TrainingSettings = Field(default=TrainingSettings(), description="How and for how long it is trained.")
    data: DataSettings = Field(default=DataSettings(), description="What is done to the data before that.")
    strategies: tuple[StrategyStep, ...] = Field(
        default=(), description="Steps in the order in which they act; appended to those of the parent."
    )
    trackers: tuple[str, ...] = Field(default=(), description="Names of installed observers of the runs.")

    @field_validator("name")
    @classmethod
    def _fits_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"should be of letters, digits, '_', '-' and '.', as it names a folder, got {name!r}")
        return name


def load_recipes(names_or_paths: Sequence[str], overrides: Sequence[str] = ()) -> list[Recipe]:
    """Load the arms of a comparison.

    Args:
        names_or_paths: shipped recipes by name, files by a path: it has a separator or ends in .yaml or .yml.
        overrides: `key=value` lines, laid over every arm: `training.epochs=5`, `model=convnet2`, or
            `strategies.NAME.parameter=value` for all steps of that name.

    Returns:
        The recipes, in order, with everything inherited and overridden.

    Raises:
        RecipeError: with the first fault of a recipe or an override; also if two arms have one name, or if
            no arm has a step that an override names.
    """
    changes = [parse_override(text) for text in overrides]
    paths = [find_recipe(name, Path()) for name in names_or_paths]
    recipes = [_loaded(path, changes) for path in paths]
    _refuse_unused(changes, recipes)
    _refuse_equal_names(recipes, paths)
    return recipes


def load_recipe(name_or_path: str) -> Recipe:
    """Load one recipe.

    Raises:
        RecipeError: with its first fault, by file, line and key, and the number of further ones.
    """
    return load_recipes([name_or_path])[0]


def check_recipe_file(
    name_or_path: str | Path, further_faults: Callable[[Node], Iterable[Fault]] = lambda recipe: ()
) -> list[str]:
    """Return all faults of a recipe file and its parents, each as `file:line: key: what`, in order.

    Args:
        name_or_path: a shipped recipe by name, or a file.
        further_faults: tells what else is wrong with a recipe as `read_recipe` gives it.
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
    """Write a recipe with nothing left to inherit; `load_recipe` reads the same recipe back from it."""
    steps = [{step.name: step.parameters} if step.parameters else step.name for step in recipe.strategies]
    return dump_yaml({**recipe.model_dump(), "strategies": steps, "trackers": list(recipe.trackers)})


def what_is_wrong(errors: Sequence[ErrorDetails]) -> str:
    """Say in the words of a recipe what pydantic has against one value.

    Args:
        errors: one error, or one for each type that the value may have.
    """
    told = list(dict.fromkeys(map(_expected, errors)))
    alternatives = " or ".join([told[0], *(other.removeprefix("should be ") for other in told[1:])])
    first = errors[0]
    if first["type"] in ("missing", "value_error", "assertion_error"):
        return alternatives
    is_unquoted = first["type"] == "string_type" and isinstance(first["input"], int | float)
    return f"{alternatives}, got {shown(first['input'])}" + ("; put it in quotes" if is_unquoted else "")


def _expected(error: ErrorDetails) -> str:
    if error["type"] in ("value_error", "assertion_error"):
        return " ".join(str(error["ctx"]["error"]).split())
    return _EXPECTED.get(error["type"]) or error["msg"].removeprefix("Input ").replace("String ", "text ")


_EXPECTED = {
    "dict_type": "should be a mapping",
    "list_type": "should be a list",
    "missing": "is missing",
    "model_type": "should be a mapping",
    "string_type": "should be text",
    "tuple_type": "should be a list",
}


def _loaded(path: Path, changes: Iterable[Override]) -> Recipe:
    faults: list[Fault] = []
    node = read_recipe(path, faults)
    recipe = _validated(functools.reduce(overridden, changes, node), faults) if node else None
    if recipe is None or faults:
        more = f" (the first of {len(faults)} faults; `fer-augment recipes check` lists all)"
        raise RecipeError(str(_in_order(faults)[0]) + (more if len(faults) > 1 else ""))
    return recipe


def _validated(node: Node, faults: list[Fault]) -> Recipe | None:
    try:
        return Recipe.model_validate(node.plain())
    except ValidationError as error:
        faults += [_fault(node, detail) for detail in error.errors()]
        return None


def _fault(node: Node, error: ErrorDetails) -> Fault:
    keys = error["loc"]
    place = node.place_of(keys)
    if error["type"] == "missing":
        return Fault(Place(place.source), keys, what_is_wrong([error]))
    told = _unknown_key(keys) if error["type"] == "extra_forbidden" else what_is_wrong([error])
    return Fault(place, keys, told)


def _dotted_fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return all settings below a model, as `--set` writes them."""
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Settings):
            names += _dotted_fields(field.annotation, f"{prefix}{name}.")
    return names


_KEYS = (*_dotted_fields(Recipe), *FILE_KEYS)


def _unknown_key(keys: Keys) -> str:
    *above, key = map(str, keys)
    places = [known.rpartition(".") for known in _KEYS]
    elsewhere = [".".join(filter(None, (prefix, name))) for prefix, _, name in places if name == key]
    siblings = [name for prefix, _, name in places if prefix == ".".join(above)]
    return "unknown key" + (f"; did you mean {elsewhere[0]!r}?" if elsewhere else did_you_mean(key, siblings))


def _in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Sort by file and line; what is missing has no line and comes last."""
    return sorted(faults, key=lambda fault: (fault.place.source, fault.place.line or math.inf))


def _refuse_unused(changes: Iterable[Override], recipes: Iterable[Recipe]) -> None:
    labels = {step.label for recipe in recipes for step in recipe.strategies}
    for change in changes:
        if change.keys[0] == "strategies" and change.keys[1] not in labels:
            hint = did_you_mean(change.keys[1], labels)
            raise RecipeError(f"--set {change.text}: no recipe has a step {change.keys[1]!r}{hint}")


def _refuse_equal_names(recipes: Sequence[Recipe], paths: Sequence[Path]) -> None:
    name, count = Counter(recipe.name for recipe in recipes).most_common(1)[0] if recipes else ("", 0)
    if count > 1:
        files = sorted({str(path) for path, recipe in zip(paths, recipes, strict=True) if recipe.name == name})
        if len(files) == 1:
            raise RecipeError(f"recipe {name!r} is given twice; an arm stands in a comparison once")
        raise RecipeError(f"{' and '.join(files)} are all named {name!r}; give each a `name:` of its own")
