"""Grids: an arm of a comparison for each value of a setting, or for each combination of several (`--grid`)."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from fer_augment.errors import RecipeError, excerpt
from fer_augment.recipe.overrides import Override, parse_key, parse_value
from fer_augment.recipe.recipe import Recipe, has_key, overridden_recipe, refuse_unused

MAX_ARMS = 50
"""Arms of a comparison with a grid, at most."""
_LONGEST_NAME = 100
"""Bytes of the name of an arm of a grid, in UTF-8."""
_DIGEST_LETTERS = 8


@dataclass(frozen=True)
class GridArm:
    """An arm of a comparison with a grid.

    Attributes:
        recipe: its recipe, named after the values.
        values: its values by dotted key; empty for a recipe that has none of the keys.
    """

    recipe: Recipe
    values: dict[str, Any] = field(default_factory=dict)


def grid_arms(recipes: Sequence[Recipe], grid: Sequence[str]) -> list[GridArm]:
    """Return the arms of a comparison: each recipe, once for every combination of the values that it has a key for.

    Args:
        recipes: recipes with different names.
        grid: `key=value,value…` lines; keys and values are those of an override.

    Returns:
        The arms in the order of the recipes; the last key varies fastest. The name of an arm ends in its values, as in
        `modern-exponent-0.5`.

    Raises:
        RecipeError: if a line is invalid, no recipe has a key, a value is invalid, or there are more than `MAX_ARMS`
            arms.
    """
    axes = [_axis(text) for text in grid]
    for axis in axes:
        refuse_unused(axis[:1], recipes)
    keys = Counter(axis[0].keys for axis in axes)
    for axis in axes:
        if keys[axis[0].keys] > 1:
            raise RecipeError(f"{axis[0].source}: {'.'.join(axis[0].keys)} has two grids; give all its values in one")
    of_recipes = [[axis for axis in axes if has_key(recipe, axis[0])] for recipe in recipes]
    count = sum(math.prod(map(len, of_recipe)) for of_recipe in of_recipes)
    if axes and count > MAX_ARMS:
        raise RecipeError(f"--grid: makes {count:,} arms, at most {MAX_ARMS} are possible; give fewer values or keys")
    taken = {recipe.name.casefold() for recipe, own in zip(recipes, of_recipes, strict=True) if not own}
    arms = []
    for recipe, own in zip(recipes, of_recipes, strict=True):
        for changes in itertools.product(*own):
            arms.append(_arm(recipe, changes, taken) if changes else GridArm(recipe))
            taken.add(arms[-1].recipe.name.casefold())
    return arms


def _axis(text: str) -> list[Override]:
    """Return an override for each value of a `key=value,value…` line."""
    source = f"--grid {excerpt(text)}"
    keys, values = parse_key(text, source, "strategies.power_sampler.exponent=0.25,0.5,1")
    if keys[0] in ("name", "description"):
        raise RecipeError(f"{source}: {keys[0]!r} changes no training; a grid names its arms after their values")
    nodes = parse_value(f"[{values}]", source).items
    plain = [node.plain() for node in nodes]
    if len(nodes) < 2:
        hint = "omit the brackets" if plain and isinstance(plain[0], list) else "use --set for a single one"
        raise RecipeError(f"{source}: give at least two values with commas between them; {hint}")
    for place, value in enumerate(plain):
        if any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in plain[:place]):
            raise RecipeError(f"{source}: the value {_text(value)} is given twice; remove one of them")
    return [Override(source, keys, node) for node in nodes]


def _arm(recipe: Recipe, changes: Sequence[Override], taken: Container[str]) -> GridArm:
    values = {".".join(change.keys): change.value.plain() for change in changes}
    last = Counter(change.keys[-1] for change in changes)
    labels = {key: key.rpartition(".")[2] if last[key.rpartition(".")[2]] == 1 else key for key in values}
    name = "-".join([recipe.name, *(f"{_word(labels[key])}-{_word(_text(value))}" for key, value in values.items())])
    if len(name.encode()) > _LONGEST_NAME or name.casefold() in taken:
        digest = hashlib.sha256(json.dumps([recipe.name, values]).encode()).hexdigest()[:_DIGEST_LETTERS]
        name = f"{name.encode()[: _LONGEST_NAME - _DIGEST_LETTERS - 1].decode(errors='ignore')}-{digest}"
    settings = ", ".join(f"{labels[key]} = {_text(value)}" for key, value in values.items())
    ended = recipe.description and recipe.description + ("" if recipe.description.endswith((".", "!", "?")) else ".")
    description = f"{ended} Here {settings}." if ended else f"{settings}."
    changed = overridden_recipe(recipe, changes)
    return GridArm(changed.model_copy(update={"name": name, "description": description}), values)


def _text(value: object) -> str:
    """Return a value as in a recipe file; text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _word(text: str) -> str:
    """Return text with the characters that the name of an arm may have, and no dot at the end, as Windows requires."""
    return re.sub(r"[^\w.-]+", "-", text.replace("+", "").strip('[]{}"')).rstrip(".")
