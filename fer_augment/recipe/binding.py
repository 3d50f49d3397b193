"""Bind a recipe: look up the plugins that it names and create its strategies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fer_augment.data.records import weights_file
from fer_augment.errors import FerAugmentError, RecipeError, StrategyError, did_you_mean, excerpt, in_one_line
from fer_augment.hooks.declarations import Loss, Tracker
from fer_augment.hooks.declared_values import declaration_fault, missing_distribution
from fer_augment.hooks.local_declarations import declaration_in_file
from fer_augment.hooks.networks import AnyModel, ConfigurableModel, Model
from fer_augment.hooks.pipeline import Step, steps_of
from fer_augment.hooks.plugin_manager import Catalog
from fer_augment.hooks.strategy import ClassName, Effect, Strategy
from fer_augment.hooks.strategy_files import model_in_file, strategy_in_file
from fer_augment.recipe.files import local_plugin
from fer_augment.recipe.model_choice import ModelChoice
from fer_augment.recipe.recipe import Recipe, StrategyStep, validation_message
from fer_augment.recipe.yaml_source import Fault, Keys, Node

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True)
class BoundRecipe:
    """A recipe with its plugins.

    Attributes:
        recipe: the recipe.
        steps: its strategies with their parameters, in order.
        model: the network with its parameters.
        loss: the loss.
        trackers: the trackers that it names.
        providers: the providers of model and loss, as distribution and version.
    """

    recipe: Recipe
    steps: tuple[Step, ...]
    model: AnyModel
    loss: Loss
    trackers: tuple[Tracker, ...]
    providers: tuple[str, ...] = ()

    @property
    def distributions(self) -> frozenset[str]:
        """Canonical names of the distributions that provide model, loss and strategies, except those in files."""
        providers = [*self.providers, *(step.provider for step in self.steps)]
        names = (provider.rpartition(" ")[0] for provider in providers if not provider.startswith("file "))
        return frozenset(canonicalize_name(name) for name in names if name and name != "unknown")


def bind(recipe: Recipe, catalog: Catalog, *, needed_at: Collection[str] | None = None) -> BoundRecipe:
    """Look up the plugins of a recipe and create its strategies.

    Args:
        recipe: the recipe.
        catalog: the installed plugins.
        needed_at: the stages at which steps will be called; parameters of steps that act at others only are not
            validated if they are invalid now, such as the path of a file that was moved. None for all stages.

    Raises:
        RecipeError: if a plugin is not installed, the file of a step cannot be loaded, or parameters are invalid.
    """
    with _error_context(recipe, "model"):
        model, model_provider = _bound_model(recipe.model, catalog)
    with _error_context(recipe, "training.loss"):
        loss, loss_provider = loss_named(recipe.training.loss, catalog)
    with _error_context(recipe, "trackers"):
        trackers = tuple(tracker_named(name, catalog) for name in recipe.trackers)
    strategies, providers = [], []
    for number, step in enumerate(recipe.strategies, 1):
        with _error_context(recipe, f"step {number} ({step.label})"):
            strategy_class, provider = _strategy_class(step, catalog)
            strategies.append(_created(strategy_class, step.parameters, needed_at))
            providers.append(provider)
    steps = steps_of(strategies, providers)
    return BoundRecipe(recipe, steps, model, loss, trackers, (model_provider, loss_provider))


def _created(
    strategy_class: type[Strategy], parameters: Mapping[str, Any], needed_at: Collection[str] | None
) -> Strategy:
    """Create a strategy; with invalid parameters only if it does not act where it is needed.

    Raises:
        RecipeError: if parameters are invalid, and the strategy may be called.
    """
    try:
        return with_parameters(strategy_class, parameters)
    except RecipeError:
        if needed_at is None:
            raise
        unchecked = strategy_class.model_construct(**parameters)
        try:
            (step,) = steps_of([unchecked])
            is_called = step.acts_at(needed_at)
        except Exception:  # noqa: BLE001 - `idle_at` may rely on valid parameters
            is_called = True
        if is_called:
            raise
        return unchecked


def loss_named(name: str, catalog: Catalog) -> tuple[Loss, str]:
    """Return an installed loss, or one of a file, `FILE.py:NAME`, and its provider.

    Raises:
        PluginError: if there is none.
    """
    local = local_plugin(name)
    if local is None:
        offer = catalog.loss(name)
        return offer.value, offer.provider
    loss: Loss = declaration_in_file(local[0], "loss", local[1])
    return loss, f"file {local[0].name}"


def tracker_named(name: str, catalog: Catalog) -> Tracker:
    """Return an installed tracker, or one of a file, `FILE.py:NAME`.

    Raises:
        PluginError: if there is none.
    """
    local = local_plugin(name)
    tracker: Tracker = declaration_in_file(local[0], "tracker", local[1]) if local else catalog.tracker(name).value
    return tracker


def binding_faults(
    recipe: Node, catalog: Catalog, check_tracker: Callable[[Tracker], object] = lambda tracker: None
) -> Iterator[Fault]:
    """Yield everything that `bind` would refuse, with its position in the file.

    Args:
        recipe: a recipe as returned by `read_recipe`; parts with an invalid structure are skipped.
        catalog: the installed plugins.
        check_tracker: raises a FerAugmentError for a tracker that a run would refuse.
    """

    def checked_tracker(name: str) -> object:
        return check_tracker(tracker_named(name, catalog))

    entries = recipe.entries
    loss = entries["training"].entries.get("loss") if "training" in entries else None
    trackers = entries["trackers"].items if "trackers" in entries else []
    named: list[tuple[Keys, Node | None, Callable[[str], object]]] = [
        (("training", "loss"), loss, partial(loss_named, catalog=catalog))
    ]
    named += [(("trackers", number), node, checked_tracker) for number, node in enumerate(trackers)]
    for keys, node, look_up in named:
        if node and isinstance(node.value, str) and node.value:
            try:
                look_up(node.value)
            except FerAugmentError as error:
                yield Fault(node.place, keys, str(error))
    if "model" in entries:
        yield from _model_faults(entries["model"], catalog)
    for node in entries["strategies"].items:
        yield from _step_faults(node, catalog)


def _model_faults(node: Node, catalog: Catalog) -> Iterator[Fault]:
    try:
        choice = ModelChoice.model_validate(node.plain())
    except ValidationError:  # reported when the recipe is read
        return
    if not choice.name:
        return
    try:
        model = _bound_model(choice, catalog)[0]
        fault = declaration_fault(model) or missing_distribution(model)
    except _ParameterError as error:
        for keys, message in error.faults:
            yield Fault(node.place_of((choice.name, *keys)), ("model", choice.label, *keys), message)
        return
    except FerAugmentError as error:
        yield Fault(node.place_of((choice.name,)), ("model",), str(error))
        return
    if fault:
        yield Fault(node.place_of((choice.name,)), ("model", choice.label), fault)
    try:
        if model.weights is not None:
            weights_file(model.weights)
    except FerAugmentError as error:
        place = node.place_of((choice.name, "weights"))
        yield Fault(place, ("model", choice.label), str(error))


def _step_faults(node: Node, catalog: Catalog) -> Iterator[Fault]:
    try:
        step = StrategyStep.model_validate(node.plain())
    except ValidationError:  # reported when the recipe is read
        return
    try:
        strategy = with_parameters(_strategy_class(step, catalog)[0], step.parameters)
        fault = declaration_fault(strategy) or missing_distribution(strategy)
        if fault:
            yield Fault(node.place, ("strategies", step.label), fault)
    except _ParameterError as error:
        for keys, message in error.faults:
            place = node.place_of(("parameters", *keys))
            yield Fault(place, ("strategies", step.label, *keys), message)
    except FerAugmentError as error:
        yield Fault(node.place, ("strategies", step.label), str(error))


def check_classes(bound: BoundRecipe, class_names: Sequence[str]) -> None:
    """Refuse parameters that name classes which the data set does not have.

    Raises:
        RecipeError: for the first unknown class, with the most similar name as a hint.
    """
    for step in bound.steps:
        for parameter in type(step.strategy).model_fields:
            for name in class_names_in(getattr(step.strategy, parameter)):
                if name not in class_names:
                    hint = did_you_mean(name, class_names)
                    where = f"recipe {bound.recipe.name!r}, {step}: {parameter}"
                    raise RecipeError(f"{where}: the data set has no class {excerpt(str(name), 60)!r}{hint}")


def head_training_faults(bound: BoundRecipe) -> Iterator[FerAugmentError]:
    """Yield what prevents `training.train: head` in a recipe, as far as it is known without the data."""
    name, settings = bound.model.name, bound.recipe.training
    if settings.train != "head":
        return
    if bound.model == bound.model.untrained:
        yield RecipeError(
            f"training.train: head trains the last layer on the features of a given backbone, but {name} starts from "
            f"random weights; set them, as in model: {{{name}: {{weights: FILE_OR_RUN}}}}"
        )
    for step in bound.steps:
        if Effect.NEEDS_FEATURES in step.strategy.effects:
            yield StrategyError(
                f"{step}: its loss changes the features of images, but with training.train: head they are given; "
                f"remove it (without: [{step.name}]), or set train: all"
            )
        for stage in ("augment_rows", "augment_batch"):
            if step.acts_at([stage]):
                yield StrategyError(
                    f"{step}: draws new pixels in each batch ({stage}), but with training.train: head the features of "
                    f"an image are computed once; remove it (without: [{step.name}]), or train the head on pixels "
                    f"with train: all and freeze_epochs: {settings.epochs}"
                )


@contextmanager
def _error_context(recipe: Recipe, part: str) -> Iterator[None]:
    """Add the recipe and the part of it to the message of an error."""
    try:
        yield
    except FerAugmentError as error:
        raise RecipeError(f"recipe {recipe.name!r}, {part}: {error}") from error


def _strategy_class(step: StrategyStep, catalog: Catalog) -> tuple[type[Strategy], str]:
    """Return the class of a step and its provider."""
    local = local_plugin(step.name)
    if local is None:
        offer = catalog.strategy(step.name)
        return offer.value, offer.provider
    file, class_name = local
    return strategy_in_file(file, class_name), f"file {file.name}"


def _bound_model(choice: ModelChoice, catalog: Catalog) -> tuple[AnyModel, str]:
    """Return a network with its parameters, and its provider."""
    local = local_plugin(choice.name)
    if local is None:
        offer = catalog.model(choice.name)
        return configured_model(offer.value, choice.parameters), offer.provider
    file, name = local
    return configured_model(model_in_file(file, name), choice.parameters), f"file {file.name}"


def configured_model(declared: Model | type[ConfigurableModel], parameters: Mapping[str, Any]) -> AnyModel:
    """Return a network with its parameters.

    Raises:
        RecipeError: if parameters are invalid, or given to a network without any.
    """
    if not isinstance(declared, Model):
        return with_parameters(declared, parameters)
    if parameters:
        raise _ParameterError([((key,), f"unknown parameter; {declared.name} has none") for key in parameters])
    return declared


class _ParameterError(RecipeError):
    """Invalid parameters of a strategy or a network, each with its keys and a message."""

    def __init__(self, faults: Sequence[tuple[Keys, str]]) -> None:
        self.faults = faults
        messages = (f"{_dotted(keys)}: {message}" if keys else message for keys, message in faults)
        super().__init__(" | ".join(messages))


def _dotted(keys: Keys) -> str:
    return ".".join(excerpt(str(key), 60) for key in keys)


def with_parameters(plugin_class: type[P], parameters: Mapping[str, Any]) -> P:
    """Create a strategy, or a network with parameters.

    Raises:
        RecipeError: if parameters are invalid; one line with the key and the message of each.
    """
    try:
        return plugin_class.model_validate(parameters)
    except ValidationError as error:
        raise _ParameterError(list(_parameter_faults(plugin_class, parameters, error.errors()))) from error
    except (FerAugmentError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - validators are third-party code
        raise RecipeError(in_one_line(error)) from error


def _parameter_faults(
    plugin_class: type[BaseModel], parameters: Mapping[str, Any], errors: Sequence[ErrorDetails]
) -> Iterator[tuple[Keys, str]]:
    """Yield the keys of each invalid parameter and a message.

    A value that matches none of several types has an error for each of them. Only the errors deepest in the value are
    kept, and reported as alternatives.
    """
    by_place: dict[Keys, list[ErrorDetails]] = {}
    for error in errors:
        by_place.setdefault(_keys_in(parameters, error), []).append(error)
    for keys, alternatives in by_place.items():
        if any(other[:1] == keys[:1] and len(other) > len(keys) for other in by_place):
            continue
        if alternatives[0]["type"] == "extra_forbidden":
            names = [field.alias or name for name, field in plugin_class.model_fields.items()]
            yield keys, "unknown parameter" + (did_you_mean(str(keys[0]), names) if len(keys) == 1 else "")
        else:
            yield keys, validation_message(alternatives)


def _keys_in(value: Any, error: ErrorDetails) -> Keys:
    """Return the keys of an error that lead into a value, without the names of types that pydantic inserts."""
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
    """Yield the class names in nested models, mappings and collections."""
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
