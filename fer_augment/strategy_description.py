"""What people want to know of a strategy before they use it, gathered from its class."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from fer_augment.hookspecs import OBSERVERS, PROJECT, STAGES
from fer_augment.parameter_types import limits_in_words, type_in_words
from fer_augment.plugin_manager import Offer
from fer_augment.recipe import load_recipe, shipped_recipes
from fer_augment.strategy import Strategy
from fer_augment.yaml_source import dump_yaml


@dataclass(frozen=True)
class Parameter:
    """A parameter of a strategy.

    Attributes:
        name: its name in recipes.
        type: what its values look like in a recipe.
        limits: what values are allowed beside that, such as `at least 0`; empty if there are no limits.
        required: whether a recipe has to give it.
        default: its value otherwise; None if it is required.
        description: what it does.
    """

    name: str
    type: str
    limits: str
    required: bool
    default: JsonValue
    description: str

    @property
    def default_in_words(self) -> str:
        """The default as a recipe writes it."""
        is_word = isinstance(self.default, str) and self.default
        return str(self.default) if is_word else json.dumps(self.default, ensure_ascii=False)


@dataclass(frozen=True)
class StrategyDescription:
    """A strategy, told to people.

    Attributes:
        name: the name used in recipes.
        summary: what it does, in a sentence: the first paragraph of its docstring.
        details: the other paragraphs.
        sources: the paragraphs that begin with `Source:` or `Sources:`, less this word.
        stages: the hooks that it implements, in the order of a run.
        effects: what it declares to change with the parameters of its example; None if these make no instance.
        parameters: its parameters.
        example: parameters with which it can be tried, for the conformity kit's classes `ant`, `bee` and `cat`.
        recipes: the shipped recipes that use it.
        provider: the distribution and its version.
        module: the module that registered it.
    """

    name: str
    summary: str
    details: tuple[str, ...]
    sources: tuple[str, ...]
    stages: tuple[str, ...]
    effects: tuple[str, ...] | None
    parameters: tuple[Parameter, ...]
    example: Mapping[str, JsonValue]
    recipes: tuple[str, ...]
    provider: str
    module: str

    @property
    def example_yaml(self) -> str:
        """The example as lines of a recipe; a strategy without one is shown with its defaults."""
        defaults = {parameter.name: parameter.default for parameter in self.parameters if not parameter.required}
        parameters = dict(self.example) or defaults
        return dump_yaml({"strategies": [{self.name: parameters} if parameters else self.name]})


def described(offer: Offer[type[Strategy]]) -> StrategyDescription:
    """Describe a strategy."""
    strategy_class = offer.value
    summary, *others = paragraphs_of(strategy_class) or [""]
    is_source = [paragraph.startswith(("Source:", "Sources:")) for paragraph in others]
    return StrategyDescription(
        name=offer.name,
        summary=summary,
        details=tuple(text for text, source in zip(others, is_source, strict=True) if not source),
        sources=tuple(text.partition(": ")[2] for text, source in zip(others, is_source, strict=True) if source),
        stages=tuple(stage for stage in (*STAGES, *OBSERVERS) if _implements(strategy_class, stage)),
        effects=_effects_of(strategy_class),
        parameters=tuple(_parameter(field.alias or name, field) for name, field in strategy_class.model_fields.items()),
        example=to_jsonable_python(strategy_class.example, fallback=str),
        recipes=tuple(name for name, used in _used_by_shipped_recipes().items() if offer.name in used),
        provider=offer.provider,
        module=offer.module,
    )


def summary_of(offer: Offer[Any]) -> str:
    """Return in a sentence what an offer of any kind is."""
    if isinstance(offer.value, type):
        return (paragraphs_of(offer.value) or [""])[0]
    return str(offer.value.summary)


def paragraphs_of(documented: type) -> list[str]:
    """Return the paragraphs of a class's own docstring, each in one line."""
    text = inspect.cleandoc(documented.__doc__ or "")
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def _implements(strategy_class: type[Strategy], hook: str) -> bool:
    return hasattr(getattr(strategy_class, hook, None), f"{PROJECT}_impl")


@functools.cache
def _used_by_shipped_recipes() -> dict[str, set[str]]:
    """Return for each shipped recipe the names of its strategies."""
    return {name: {step.name for step in load_recipe(name).strategies} for name in shipped_recipes()}


def _effects_of(strategy_class: type[Strategy]) -> tuple[str, ...] | None:
    try:
        effects = strategy_class(**strategy_class.example).effects
    except Exception:  # noqa: BLE001 - a stranger's validators; `plugins check` tells what is wrong with them
        return None
    return tuple(str(effect.name).lower() for effect in effects)


def _parameter(name: str, field: FieldInfo) -> Parameter:
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True, validated_data={})
    return Parameter(
        name=name,
        type=type_in_words(field.annotation),
        limits=limits_in_words(field.metadata),
        required=required,
        default=to_jsonable_python(default, fallback=str),
        description=" ".join((field.description or "").split()),
    )
