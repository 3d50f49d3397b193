"""What people want to know of a strategy before they use it, gathered from its class."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from fer_augment.hooks.plugin_manager import Offer
from fer_augment.hooks.specs import OBSERVERS, PROJECT, STAGES
from fer_augment.hooks.strategy import Strategy
from fer_augment.recipe.parameter_types import limits_in_words, type_in_words
from fer_augment.recipe.recipe import load_recipe, shipped_recipes
from fer_augment.recipe.yaml_source import dump_yaml


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
        details: the other paragraphs without a label; items of a list stand on lines of their own.
        when: when it helps: what its docstring says behind `When:`; empty if nothing, as those that follow.
        cost: what it costs, behind `Cost:`: time, memory, what other classes pay.
        values: parameters to try, behind `Try:`.
        elsewhere: what others measured, with their source, behind `Elsewhere:`.
        measured: what fer_augment measured, behind `Measured:`.
        sources: where it comes from: a text for each paragraph that begins with `Source:` or `Sources:`.
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
        """The example as lines of a recipe; a strategy without one is shown with its defaults."""
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
    """Return the paragraphs of a class's own docstring, each in one line; of a list, each item in one line."""
    text = inspect.cleandoc(documented.__doc__ or "")
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    lines_of = (re.split(r"\n(?=- )", text) if text.startswith("- ") else [text] for text in paragraphs)
    return ["\n".join(" ".join(line.split()) for line in lines) for lines in lines_of]


_LABELLED = re.compile(r"(When|Cost|Try|Elsewhere|Measured|Sources?): ")


def _behind(label: str, paragraphs: list[str]) -> tuple[str, ...]:
    """Return what each paragraph says that begins with a label."""
    matches = (re.fullmatch(f"{label}: (.+)", paragraph, re.DOTALL) for paragraph in paragraphs)
    return tuple(match[1] for match in matches if match)


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
