"""Overrides: `key=value` settings that replace values of recipes when they are loaded (`--set`)."""

from __future__ import annotations

from dataclasses import dataclass

from fer_augment.errors import RecipeError, excerpt
from fer_augment.recipe.files import FILE_KEYS, model_name, step_label
from fer_augment.recipe.yaml_source import Fault, Node, merged, parse_yaml, with_value


@dataclass(frozen=True)
class Override:
    """A `key=value` setting.

    Attributes:
        source: the option with the setting as given, for messages.
        keys: the parts of the key.
        value: the new value.
    """

    source: str
    keys: tuple[str, ...]
    value: Node


def parse_override(text: str) -> Override:
    """Parse a `key=value` setting.

    Raises:
        RecipeError: if the text is not of this form, or the key cannot be overridden.
    """
    source = f"--set {excerpt(text)}"
    keys, value = parse_key(text, source, "training.epochs=5")
    return Override(source, keys, parse_value(value, source))


def parse_key(text: str, source: str, example: str) -> tuple[tuple[str, ...], str]:
    """Split a `key=value` setting into the parts of its key and the text of its value.

    Args:
        text: the setting.
        source: name of the setting, for messages.
        example: a valid setting, for messages.

    Raises:
        RecipeError: if the text is not of this form, or the key cannot be overridden.
    """
    key, equals, value = text.partition("=")
    keys = tuple(key.strip().split("."))
    if not equals or not all(keys):
        raise RecipeError(f"{source}: write it as key=value, for example {example}")
    if keys[0] in FILE_KEYS:
        raise RecipeError(f"{source}: {keys[0]!r} can only be set in a recipe file")
    if keys[0] == "model" and len(keys) == 2:
        raise RecipeError(f"{source}: write model=NAME, or model.NAME.parameter=value")
    if keys[0] == "strategies" and len(keys) < 3:
        raise RecipeError(f"{source}: name a step and its parameter: strategies.NAME.parameter=value")
    return keys, value


def parse_value(text: str, source: str) -> Node:
    """Parse a value, written as YAML.

    Raises:
        RecipeError: if the text is not valid YAML.
    """
    faults: list[Fault] = []
    node = parse_yaml(text, source, faults, has_lines=False)
    if faults:
        raise RecipeError(str(faults[0]))
    return node


def overridden(recipe: Node, change: Override) -> Node:
    """Apply an override to a recipe as returned by `read_recipe`.

    The value replaces the one at the key, also if both are mappings; a mapping for a whole section, as in
    `training={epochs: 5}`, replaces those of its settings that it has. A parameter is set in all steps with the name,
    or in the network if it has the name; a recipe without such a step or network is returned unchanged.
    """
    if change.keys[0] == "model":
        return _with_model(recipe, change)
    if len(change.keys) == 1:  # a section such as `training`, whose other settings are kept
        section = merged(recipe.entries.get(change.keys[0], change.value), change.value)
        return Node({**recipe.entries, change.keys[0]: section}, recipe.place)
    if change.keys[0] != "strategies":
        return Node(with_value(recipe, change.keys, change.value).value, recipe.place)
    keys = ("parameters", *change.keys[2:])
    steps = [
        with_value(step, keys, change.value) if step_label(str(step.entries["name"].value)) == change.keys[1] else step
        for step in recipe.entries["strategies"].items
    ]
    return Node({**recipe.entries, "strategies": Node(list(steps), recipe.place)}, recipe.place)


def _with_model(recipe: Node, change: Override) -> Node:
    """Replace the network, or set one of its parameters."""
    model = change.value
    if len(change.keys) > 1:
        current = recipe.entries.get("model", Node("", recipe.place))
        name = model_name(current)
        if step_label(name) != change.keys[1]:
            return recipe
        model = with_value(current, (name, *change.keys[2:]), change.value)
    return Node({**recipe.entries, "model": model}, recipe.place)
