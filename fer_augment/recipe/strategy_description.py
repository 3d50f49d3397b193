"""Descriptions of strategies for documentation and `plugins show`, collected from the classes."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from fer_augment.hooks.networks import ConfigurableModel
from fer_augment.hooks.plugin_manager import Offer
from fer_augment.hooks.specs import PROJECT
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Strategy
from fer_augment.recipe.parameter_types import limits_in_words, placeholder, type_in_words
from fer_augment.recipe.recipe import load_recipe, shipped_recipes
from fer_augment.recipe.yaml_source import dump_yaml


@dataclass(frozen=True)
class Parameter:
    """A parameter of a strategy or a network.

    Attributes:
        name: its name in recipes.
        type: how its values are written in a recipe.
        limits: limits of its values, such as `at least 0`; empty if there are none.
        required: whether a recipe has to set it.
        default: its default; None if it is required.
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
        """The default as written in a recipe."""
        is_word = isinstance(self.default, str) and self.default
        return str(self.default) if is_word else json.dumps(self.default, ensure_ascii=False)


@dataclass(frozen=True)
class StrategyDescription:
    """The description of a strategy; texts come from its docstring and are empty if missing.

    Attributes:
        name: the name used in recipes.
        summary: first paragraph of the docstring.
        details: the other paragraphs without a label, each in one line; list items are on separate lines.
        when: when it helps, from the paragraph `When:`.
        cost: its cost in time, memory and recall of other classes, from `Cost:`.
        values: parameters to try first, from `Try:`.
        elsewhere: results published by others, with their source, from `Elsewhere:`.
        measured: results measured with fer_augment, from `Measured:`.
        sources: one text for each paragraph that begins with `Source:` or `Sources:`.
        stages: the hooks that it implements, in the order of a run.
        effects: effects that it declares with the parameters of its example; None if the example or the declaration is
            not valid.
        parameters: its parameters.
        example: valid parameters for the classes `ant`, `bee` and `cat` of the conformity kit; placeholders for the
            required parameters of a strategy without an example.
        recipes: the shipped recipes that use it.
        provider: the distribution and version that registered it.
        module: the module that registered it.
    """

    name: str
    summary: str
    details: tuple[str, ...]
    when: str
    cost: str
    values: str
    elsewhere: str
    measured: str
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
        """The example as lines of a recipe; without an example, the defaults."""
        defaults = {parameter.name: parameter.default for parameter in self.parameters if not parameter.required}
        parameters = dict(self.example) or defaults
        return dump_yaml({"strategies": [{self.name: parameters} if parameters else self.name]})


def described(offer: Offer[type[Strategy]]) -> StrategyDescription:
    """Describe a strategy."""
    strategy_class = offer.value
    summary, *others = paragraphs_of(strategy_class) or [""]
    return StrategyDescription(
        name=offer.name,
        summary=summary,
        details=tuple(paragraph for paragraph in others if not _LABELLED.match(paragraph)),
        when=" ".join(_behind("When", others)),
        cost=" ".join(_behind("Cost", others)),
        values=" ".join(_behind("Try", others)),
        elsewhere=" ".join(_behind("Elsewhere", others)),
        measured=" ".join(_behind("Measured", others)),
        sources=_behind("Sources?", others),
        stages=tuple(stage for stage in STAGES if _implements(strategy_class, stage)),
        effects=_effects_of(strategy_class),
        parameters=parameters_of(strategy_class),
        example=example_of(strategy_class),
        recipes=tuple(name for name, used in _used_by_shipped_recipes().items() if offer.name in used),
        provider=offer.provider,
        module=offer.module,
    )


def parameters_of(plugin_class: type[BaseModel]) -> tuple[Parameter, ...]:
    """Describe the parameters of a strategy, or of a network with parameters."""
    return tuple(_parameter(field.alias or name, field) for name, field in plugin_class.model_fields.items())


def example_of(plugin_class: type[Strategy | ConfigurableModel]) -> dict[str, JsonValue]:
    """Return the example of a strategy or a network with parameters; else placeholders for required parameters."""
    example = plugin_class.example
    if isinstance(example, Mapping) and example:
        return {str(name): to_jsonable_python(value, fallback=str) for name, value in example.items()}
    fields = plugin_class.model_fields.items()
    return {field.alias or name: placeholder(field.annotation) for name, field in fields if field.is_required()}


def summary_of(offer: Offer[Any]) -> str:
    """Return the one-sentence description of a strategy, model, reader, loss or tracker."""
    if isinstance(offer.value, type):
        return (paragraphs_of(offer.value) or [""])[0]
    return str(offer.value.summary)


def paragraphs_of(documented: type) -> list[str]:
    """Return the paragraphs of the docstring of a class, each in one line, or each list item in one line."""
    text = inspect.cleandoc(documented.__doc__ or "")
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    lines_of = (re.split(r"\n(?=- )", text) if text.startswith("- ") else [text] for text in paragraphs)
    return ["\n".join(" ".join(line.split()) for line in lines) for lines in lines_of]


_LABELLED = re.compile(r"(When|Cost|Try|Elsewhere|Measured|Sources?): ")


def _behind(label: str, paragraphs: list[str]) -> tuple[str, ...]:
    """Return the text of each paragraph with a label."""
    matches = (re.fullmatch(f"{label}: (.+)", paragraph, re.DOTALL) for paragraph in paragraphs)
    return tuple(match[1] for match in matches if match)


def _implements(strategy_class: type[Strategy], hook: str) -> bool:
    return hasattr(getattr(strategy_class, hook, None), f"{PROJECT}_impl")


@functools.cache
def _used_by_shipped_recipes() -> dict[str, set[str]]:
    """Return the names of the strategies of each shipped recipe."""
    return {name: {step.name for step in load_recipe(name).strategies} for name in shipped_recipes()}


def _effects_of(strategy_class: type[Strategy]) -> tuple[str, ...] | None:
    try:
        return tuple(str(effect.name).lower() for effect in strategy_class(**strategy_class.example).effects)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a plugin may raise anything; `plugins check` reports it
        return None


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
