"""From the names in a recipe to the plugins they mean, and what misleads in a recipe or a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from fer_augment.errors import FerAugmentError, RecipeError, did_you_mean
from fer_augment.hooks.declarations import Loss, Model, Tracker
from fer_augment.hooks.plugin_manager import Catalogue
from fer_augment.hooks.stages import Step, steps_of
from fer_augment.hooks.strategy import ClassName, Effect, Strategy
from fer_augment.hooks.strategy_files import strategy_in_file
from fer_augment.recipe.files import FILE_KEYS, local_strategy
from fer_augment.recipe.recipe import Recipe, StrategyStep, what_is_wrong
from fer_augment.recipe.yaml_source import Fault, Keys, Node


@dataclass(frozen=True)
class BoundRecipe:
    """A recipe with the plugins that it names.

    Attributes:
        recipe: the recipe.
        steps: its strategies with their parameters, in order.
        model: the network.
        loss: the loss.
        trackers: the observers of its runs.
    """

    recipe: Recipe
    steps: tuple[Step, ...]
    model: Model
    loss: Loss
    trackers: tuple[Tracker, ...]


def bind(recipe: Recipe, catalogue: Catalogue) -> BoundRecipe:
    """Look up everything that a recipe names, and give the strategies their parameters.

    Raises:
        RecipeError: if something is not installed, the file of a step cannot be used, or a strategy refuses
            its parameters.
    """
    with _blaming(recipe, "model"):
        model = catalogue.model(recipe.model).value
    with _blaming(recipe, "training.loss"):
        loss = catalogue.loss(recipe.training.loss).value
    with _blaming(recipe, "trackers"):
        trackers = tuple(catalogue.tracker(name).value for name in recipe.trackers)
    strategies, providers = [], []
    for number, step in enumerate(recipe.strategies, 1):
        with _blaming(recipe, f"step {number} ({step.label})"):
            strategy_class, provider = _strategy_class(step, catalogue)
            strategies.append(with_parameters(strategy_class, step.parameters))
            providers.append(provider)
    return BoundRecipe(recipe, steps_of(strategies, providers), model, loss, trackers)


def binding_faults(recipe: Node, catalogue: Catalogue) -> Iterator[Fault]:
    """Tell everything in a recipe that `bind` would refuse, with its place.

    Args:
        recipe: a recipe as `read_recipe` gives it; parts that are not as they should be are passed over.
        catalogue: what is installed.
    """
    entries = recipe.entries
    loss = entries["training"].entries.get("loss") if "training" in entries else None
    trackers = entries["trackers"].items if "trackers" in entries else []
    for keys, node, look_up in (
        (("model",), entries.get("model"), catalogue.model),
        (("training", "loss"), loss, catalogue.loss),
        *((("trackers", number), node, catalogue.tracker) for number, node in enumerate(trackers)),
    ):
        if node and isinstance(node.value, str) and node.value:
            try:
                look_up(node.value)
            except FerAugmentError as error:
                yield Fault(node.place, keys, str(error))
    for node in entries["strategies"].items:
        yield from _step_faults(node, catalogue)


def _step_faults(node: Node, catalogue: Catalogue) -> Iterator[Fault]:
    step = StrategyStep.model_validate(node.plain())
    try:
        with_parameters(_strategy_class(step, catalogue)[0], step.parameters)
    except _ParameterError as error:
        for keys, what in error.faults:
            place = node.place_of(("parameters", *keys))
            yield Fault(place, ("strategies", step.label, *keys), what)
    except FerAugmentError as error:
        yield Fault(node.place, ("strategies", step.label), str(error))


def check_classes(bound: BoundRecipe, class_names: Sequence[str]) -> None:
    """Refuse strategies whose parameters name classes that the data set does not have.

    Raises:
        RecipeError: with the first unknown class and the nearest known one.
    """
    for step in bound.steps:
        for parameter in type(step.strategy).model_fields:
            for name in class_names_in(getattr(step.strategy, parameter)):
                if name not in class_names:
                    hint = did_you_mean(name, class_names)
                    where = f"recipe {bound.recipe.name!r}, {step}: {parameter}"
                    raise RecipeError(f"{where}: the data set has no class {str(name)!r}{hint}")


def bound_warnings(bound: BoundRecipe) -> tuple[str, ...]:
    """Return a sentence for each combination in a recipe that works and yet misleads."""
    shifting, favouring = _having(bound, Effect.SHIFTS_CLASS_PRIOR), _having(bound, Effect.FAVOURS_SMALL_CLASSES)
    correcting = _having(bound, Effect.CORRECTS_CLASS_PRIOR | Effect.FAVOURS_SMALL_CLASSES)
    mirroring, flipping = _having(bound, Effect.MIRRORED_COPIES), _having(bound, Effect.RANDOM_FLIP)
    over_logits, in_sample = _having(bound, Effect.NEEDS_RAW_LOGITS), _having(bound, Effect.IN_SAMPLE_MINING)
    warnings = []
    if favouring and set(shifting) - set(favouring):  # a step that does both by itself means to
        warnings.append(
            f"Class frequencies are changed by {_listed(shifting)} and made up for by {_listed(favouring)}: "
            "small classes may be favoured twice."
        )
    if len(correcting) > 1:
        warnings.append(
            f"Class frequencies are made up for more than once, by {_listed(correcting)}: "
            "small classes may be favoured too much."
        )
    if mirroring and flipping:
        warnings.append(
            f"Under the random flip of {_listed(flipping)}, the mirrored copies of {_listed(mirroring)} are "
            "plain copies: they add weight, not new images."
        )
    if over_logits and not bound.loss.over_logits:
        warnings.append(
            f"The loss {bound.loss.name!r} sees the softmax output; {_listed(over_logits)} is meant for a "
            "loss over logits."
        )
    if in_sample:
        warnings.append(
            "Predictions of a model about the rows that it was trained on under-report confusion: "
            f"{_listed(in_sample)} chooses rows by them; out-of-fold predictions do not have this fault."
        )
    epochs = bound.recipe.training.epochs
    for step in bound.steps:
        if step.strategy.acts_from >= epochs:
            warnings.append(
                f"Training has {epochs} epochs, and {step} acts from epoch {step.strategy.acts_from} on, counted "
                "from 0: it never acts."
            )
    return tuple(warnings)


def comparison_warnings(bounds: Sequence[BoundRecipe]) -> tuple[str, ...]:
    """Return a sentence for each reason why arms do not compare as simply as it looks.

    Args:
        bounds: the arms; the first is the baseline.
    """
    warnings = []
    for bound in bounds[1:]:
        settings, baseline = _settings(bound.recipe), _settings(bounds[0].recipe)
        different = [key for key, value in settings.items() if value != baseline[key]]
        if different:
            warnings.append(
                f"{bound.recipe.name} differs from {bounds[0].recipe.name} in more than its strategies, "
                f"namely in {', '.join(different)}: its result is not that of the strategies alone."
            )
    longer = [bound.recipe.name for bound in bounds if _may_train_longer(bound)]
    if longer and len(bounds) > 1:
        warnings.append(
            "With `training.budget: epochs` a larger rewritten training set is trained on for more optimiser "
            f"steps ({', '.join(longer)}): a difference may come from the length of training alone."
        )
    return tuple(warnings)


def recipe_json_schema(catalogue: Catalogue) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a recipe file, with the parameters of every installed strategy."""
    schema = Recipe.model_json_schema()
    properties, definitions = schema["properties"], schema["$defs"]
    del definitions["StrategyStep"], schema["required"]
    training = definitions["TrainingSettings"]["properties"]
    for kind, place in (("model", properties["model"]), ("loss", training["loss"])):
        place["enum"] = [offer.name for offer in catalogue.of_kind(kind)]
    properties["strategies"]["items"] = _step_schema(catalogue, definitions)
    properties["extends"] = {"type": "string", "description": FILE_KEYS["extends"]}
    names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    properties["without"] = {**names, "description": FILE_KEYS["without"]}
    schema["anyOf"] = [{"required": ["model"]}, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@contextmanager
def _blaming(recipe: Recipe, part: str) -> Iterator[None]:
    """Tell which part of which recipe an error is about."""
    try:
        yield
    except FerAugmentError as error:
        raise RecipeError(f"recipe {recipe.name!r}, {part}: {error}") from error


def _strategy_class(step: StrategyStep, catalogue: Catalogue) -> tuple[type[Strategy], str]:
    """Return the class of a step and who provides it."""
    local = local_strategy(step.name)
    if local is None:
        offer = catalogue.strategy(step.name)
        return offer.value, offer.provider
    file, class_name = local
    return strategy_in_file(file, class_name), f"file {file.name}"


class _ParameterError(RecipeError):
    """A strategy refuses its parameters: for some keys in them, what is wrong."""

    def __init__(self, faults: Sequence[tuple[Keys, str]]) -> None:
        self.faults = faults
        super().__init__(" | ".join(f"{'.'.join(map(str, keys))}: {what}" if keys else what for keys, what in faults))


def with_parameters(strategy_class: type[Strategy], parameters: Mapping[str, Any]) -> Strategy:
    """Make a strategy with its parameters.

    Raises:
        RecipeError: if the strategy refuses them; in one line, by the place in the parameters.
    """
    try:
        return strategy_class.model_validate(parameters)
    except ValidationError as error:
        raise _ParameterError(list(_parameter_faults(strategy_class, parameters, error.errors()))) from error
    except FerAugmentError:
        raise
    except Exception as error:  # noqa: BLE001 - a validator is the stranger's code
        raise RecipeError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _parameter_faults(
    strategy_class: type[Strategy], parameters: Mapping[str, Any], errors: Sequence[ErrorDetails]
) -> Iterator[tuple[Keys, str]]:
    """Tell for each place in its parameters what a strategy has against them.

    A value that fits none of several types has an error for each of them. Of these only those count that got
    furthest into the value, and they are told as alternatives.
    """
    by_place: dict[Keys, list[ErrorDetails]] = {}
    for error in errors:
        by_place.setdefault(_keys_in(parameters, error), []).append(error)
    for keys, alternatives in by_place.items():
        if any(other[:1] == keys[:1] and len(other) > len(keys) for other in by_place):
            continue
        if alternatives[0]["type"] == "extra_forbidden":
            known = [field.alias or name for name, field in strategy_class.model_fields.items()]
            yield keys, "unknown parameter" + (did_you_mean(str(keys[0]), known) if len(keys) == 1 else "")
        else:
            yield keys, what_is_wrong(alternatives)


def _keys_in(value: Any, error: ErrorDetails) -> Keys:
    """Return the keys of an error that lead into a value, less the names of types between them."""
    keys = []
    for part in error["loc"]:
        inner = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inner, dict) and part in inner:
            value = inner[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        keys.append(part)
    return tuple(keys)


def class_names_in(value: Any) -> Iterator[ClassName]:
    """Find class names in models, mappings and collections, at every depth."""
    if isinstance(value, ClassName):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from class_names_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from class_names_in(pair)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from class_names_in(item)


def _having(bound: BoundRecipe, effects: Effect) -> list[Step]:
    """Return the steps that declare any of some effects."""
    return [step for step in bound.steps if effects & step.strategy.effects]


def _listed(steps: Iterable[Step]) -> str:
    return " and ".join(map(str, steps))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return what arms should agree in, under dotted keys."""
    return dict(_flat(recipe.model_dump(include={"model", "training", "data"})))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _may_train_longer(bound: BoundRecipe) -> bool:
    rewrites = any(step.acts_at(["rewrite_training_set"]) for step in bound.steps)
    return rewrites and bound.recipe.training.budget == "epochs"


def _step_schema(catalogue: Catalogue, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a step; what the strategies' parameters refer to is added to the definitions."""
    parameters = {offer.name: _parameter_schema(offer.value) for offer in catalogue.of_kind("strategy")}
    for name, schema in parameters.items():
        inner = schema.pop("$defs", {})
        definitions.update({f"{name}.{definition}": value for definition, value in inner.items()})
        definitions[name] = schema
    bare = [name for name, schema in parameters.items() if not schema.get("required")]
    in_file = r"\.py:\w+$"
    named_step = {
        "type": "object",
        "properties": {
            name: {"anyOf": [{"$ref": f"#/$defs/{name}"}, *[{"type": "null"}] * (name in bare)]} for name in parameters
        },
        "patternProperties": {in_file: {"type": ["object", "null"]}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [{"enum": bare}, {"type": "string", "pattern": in_file}, named_step]}


def _parameter_schema(strategy_class: type[Strategy]) -> dict[str, Any]:
    try:
        name = strategy_class.strategy_name()
        return strategy_class.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    except PydanticUserError:  # a parameter whose type has no JSON Schema
        return {"type": "object"}
