"""Arguments of the Python API: recipes, settings, seeds, folds and precision, validated and in one form."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, SupportsIndex, TypeAlias

from numpy.typing import NDArray

from fer_augment.data.cross_validation import CrossValidation
from fer_augment.errors import RecipeError, excerpt
from fer_augment.recipe.recipe import Recipe, load_recipes

AnyRecipe: TypeAlias = str | PathLike[str] | Recipe
"""A shipped recipe by name, a recipe file by path, or a recipe built in Python."""
Overrides: TypeAlias = Sequence[str] | Mapping[str, object]
"""Settings for every recipe: `key=value` lines, or values by dotted key."""
Grid: TypeAlias = Sequence[str] | Mapping[str, Sequence[object] | NDArray[Any]]
"""Settings with several values: `key=value,value…` lines, or lists or arrays of values by dotted key."""

LARGEST_SEED = 2**63 - 1
MOST_SEEDS, MOST_FOLDS, MOST_JOBS = 10_000, 1_000, 1_024
"""The largest numbers of seeds of an arm, of folds and of repeats, and of runs at a time."""
_LONGEST_NAME = 80
_DIGEST_LETTERS = 8


def loaded_recipes(recipes: AnyRecipe | Sequence[AnyRecipe], overrides: Overrides) -> list[Recipe]:
    """Load one or several recipes with their overrides.

    Raises:
        RecipeError: if there is none, or one or an override is invalid.
    """
    given = [recipes] if isinstance(recipes, str | PathLike | Recipe) else list(recipes)
    if not given:
        raise RecipeError("no recipe given; name at least one, such as 'modern'")
    return load_recipes([one if isinstance(one, Recipe) else str(one) for one in given], _override_lines(overrides))


def _override_lines(overrides: Overrides) -> Sequence[str]:
    try:
        if isinstance(overrides, Mapping):
            return [f"{key}={_as_yaml(value)}" for key, value in overrides.items()]
    except TypeError as error:
        raise RecipeError(
            f"overrides: values must be numbers, text, truth values or lists of them ({error})"
        ) from error
    return _lines(overrides, "overrides", "model=convnet2")


def _lines(lines: object, name: str, example: str) -> list[str]:
    """Return one or several lines as a list; refuse what is no text."""
    given = [lines] if isinstance(lines, str) or not isinstance(lines, Iterable) else list(lines)
    if wrong := [line for line in given if not isinstance(line, str)]:
        raise RecipeError(
            f"{name}: must be a mapping, or lines of text such as {example!r}, got {excerpt(repr(wrong[0]), 60)}"
        )
    return list(map(str, given))


def _as_yaml(value: object) -> str:
    """Return a value as JSON, which is YAML; numbers and arrays of numpy and paths as what they stand for."""
    return json.dumps(value, default=lambda other: other.tolist() if hasattr(other, "tolist") else os.fspath(other))


def grid_lines(grid: Grid) -> Sequence[str]:
    """Return a grid as `key=value,value…` lines.

    Raises:
        RecipeError: if a line is no text, or a value is not a list of numbers, text, truth values or lists of them.
    """
    if not isinstance(grid, Mapping):
        return _lines(grid, "grid", "training.epochs=5,10")
    try:
        return [f"{key}={', '.join(map(_as_yaml, _grid_values(key, values)))}" for key, values in grid.items()]
    except TypeError as error:
        raise RecipeError(f"grid: values must be numbers, text, truth values or lists of them ({error})") from error


def _grid_values(key: str, values: object) -> Sequence[object]:
    """Return the values of a setting, those of an array of numpy as a list."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise RecipeError(f"grid: {key}: must be a list of values, got {excerpt(repr(values), 60)}")
    return values


def seed_of(seed: int) -> int:
    """Return a seed as an integer.

    Raises:
        RecipeError: if it is not a number from 0 to `LARGEST_SEED`.
    """
    if not _is_number(seed) or not 0 <= seed <= LARGEST_SEED:
        raise RecipeError(f"seed: must be a number from 0 to {LARGEST_SEED}, got {excerpt(repr(seed), 40)}")
    return int(seed)


def seeds_of(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """Return the seeds, given how many or which.

    Raises:
        RecipeError: if there are none or too many, or they are not distinct numbers from 0 to `LARGEST_SEED`.
    """
    given = seeds
    if not isinstance(seeds, Iterable):
        seeds = range(seeds) if _is_number(seeds) and seeds <= MOST_SEEDS else ()
    chosen = tuple(itertools.islice(seeds, MOST_SEEDS + 1))
    are_valid = all(_is_number(seed) and 0 <= seed <= LARGEST_SEED for seed in chosen)
    if not chosen or len(chosen) > MOST_SEEDS or not are_valid or len(set(chosen)) != len(chosen):
        raise RecipeError(
            "seeds: must be how many, such as 5, or distinct numbers from 0, such as [0, 3, 7], got "
            f"{excerpt(repr(given), 40)}; at most {MOST_SEEDS:,}, each at most {LARGEST_SEED}"
        )
    return tuple(map(int, chosen))


def cross_validation_of(
    folds: int | None, repeats: int | None, keep_test: bool, seeds: int | Sequence[int] | None
) -> CrossValidation | None:
    """Return the design of a cross-validation; None for a fixed test split.

    Raises:
        RecipeError: if a number is not an integer, or settings contradict each other.
        DatasetError: if there are too few folds or repeats.
    """
    if folds is None:
        if repeats is not None or keep_test:
            raise RecipeError(f"{'repeats' if repeats is not None else 'keep_test'}: is for folds; give their number")
        return None
    if seeds is not None:
        raise RecipeError("seeds: not with folds, every training of a cross-validation has a seed of its own; omit it")
    for name, number in (("folds", folds), ("repeats", repeats)):
        if number is not None and not _is_number(number):
            raise RecipeError(f"{name}: must be a whole number, got {number!r}")
        if number is not None and number > MOST_FOLDS:
            raise RecipeError(f"{name}: must be at most {MOST_FOLDS:,}, got {excerpt(str(number), 40)}")
    return CrossValidation(int(folds), 2 if repeats is None else int(repeats), keep_test)


def check_precision(
    precision: float | None, max_seeds: int, seeds: Sequence[int], arms: int, folds: int | None
) -> None:
    """Refuse a precision that cannot be reached by adding seeds.

    Raises:
        RecipeError: if it is not positive, there is nothing to compare, or the seeds are already too many.
    """
    if precision is None:
        return
    if folds is not None:
        raise RecipeError("precision: not with folds; add repeats for narrower intervals")
    if not isinstance(precision, int | float) or isinstance(precision, bool) or not 0 < precision < 100:
        raise RecipeError(f"precision: must be points between 0 and 100, such as 2, got {precision!r}")
    if arms < 2:
        raise RecipeError("precision: is that of a difference; name at least two recipes")
    if not _is_number(max_seeds) or max_seeds < max(len(seeds), 2):
        raise RecipeError(f"max_seeds: must be at least the number of seeds, {max(len(seeds), 2)}, got {max_seeds!r}")


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of runs at a time that is not 1 to `MOST_JOBS`; None is the default number.

    Raises:
        RecipeError: with the value.
    """
    if jobs is not None and (not _is_number(jobs) or jobs < 1):
        raise RecipeError(f"jobs: must be 1 or more, got {jobs}")
    if jobs is not None and jobs > MOST_JOBS:
        raise RecipeError(f"jobs: must be at most {MOST_JOBS:,}, got {excerpt(str(jobs), 40)}")


def _is_number(value: object) -> bool:
    """Return whether a value counts something: an integer of Python or numpy, and not a truth value."""
    return isinstance(value, SupportsIndex) and not isinstance(value, bool)


def directory_name(recipes: Sequence[str]) -> str:
    """Join the recipes' names; of a list that is long in UTF-8, keep the beginning and add a digest."""
    name = "_".join(recipes)
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LETTERS]
    return f"{name.encode()[: _LONGEST_NAME - _DIGEST_LETTERS - 1].decode(errors='ignore')}-{digest}"
