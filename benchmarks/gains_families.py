"""Families of recipes with the same baseline; each family is one comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.gains_page import Gains
from benchmarks.gains_times import relative_times
from fer_augment import Splits, compare
from fer_augment.errors import FerAugmentError, NothingFinishedError, RecipeError
from fer_augment.hooks.plugin_manager import Catalog
from fer_augment.recipe.binding import BoundRecipe, bind
from fer_augment.recipe.files import find_recipe, parents_of
from fer_augment.recipe.overrides import parse_override
from fer_augment.recipe.recipe import Recipe, load_recipes, shipped_recipes
from fer_augment.recipe.warnings import recipe_warnings
from fer_augment.runs.network_checks import check_networks
from fer_augment.runs.preflight import preflight
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.store import default_store

_QUICK_TRAINING = (
    *("model=vgg_tiny", "training.epochs=10", "training.batch_size=64"),
    *("training.learning_rate=0.005", "training.schedule=one_cycle"),
)

QUICK: Mapping[str, tuple[str, ...]] = {
    "paper": _QUICK_TRAINING,
    "modern": (*_QUICK_TRAINING, "training.optimizer=adam"),
}
"""Overrides with which the recipes of a family take minutes on the demo data; other families take no longer anyway."""

_QUICK_RECIPES = Path(__file__).parent / "recipes" / "quick"
"""Versions of shipped recipes whose parameters are epoch numbers, adapted to the number of epochs of `QUICK`."""


@dataclass(frozen=True)
class Family:
    """A planned comparison.

    Attributes:
        baseline: the baseline, by name or path.
        recipes: the recipes to compare with it, by name or path.
        overrides: `key=value` settings for all of them.
        arms: the baseline and the recipes that can be compared with it; filled in by `select_arms`.
        left_out: the reason for each recipe that cannot be compared, by name; filled in by `select_arms`.
    """

    baseline: str
    recipes: tuple[str, ...]
    overrides: tuple[str, ...]
    arms: dict[str, BoundRecipe] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the baseline."""
        return Path(self.baseline).stem


def families_of(
    recipes: Sequence[str], overrides: Sequence[str] = (), *, baseline: str | None = None, quick: bool = False
) -> list[Family]:
    """Group recipes by their baselines.

    Args:
        recipes: shipped recipes by name and files by path; empty for all shipped recipes.
        overrides: `key=value` settings; those of steps that a family does not have are not applied to it.
        baseline: the baseline of all recipes; None for the recipe that each one extends, at the root.
        quick: whether to apply `QUICK` before the overrides.

    Raises:
        RecipeError: if a recipe does not exist or has no baseline, or an override is invalid for all recipes.
    """
    grouped: dict[str, list[str]] = {}
    for recipe in recipes or _shipped():
        grouped.setdefault(baseline or _root_of(recipe), []).append(_quick_file(recipe) if quick else recipe)
    load_recipes([name for root, members in grouped.items() for name in (root, *members)], overrides)
    families = []
    for root, members in grouped.items():
        applicable = _applicable(load_recipes([root, *members]), overrides)
        settings = [*(QUICK.get(root, ()) if quick else ()), *applicable]
        by_key = {parse_override(text).keys: text for text in settings}
        families.append(Family(root, tuple(members), tuple(by_key.values())))
    return families


def _shipped() -> list[str]:
    return [name for name, path in shipped_recipes().items() if parents_of(path)]


def _root_of(recipe: str) -> str:
    parents = parents_of(find_recipe(recipe, Path()))
    if not parents:
        raise RecipeError(f"{recipe}: extends no other recipe, so it has no baseline; select one with --baseline")
    return parents[-1].stem if shipped_recipes().get(parents[-1].stem) == parents[-1] else str(parents[-1])


def _quick_file(recipe: str) -> str:
    file = _QUICK_RECIPES / f"{recipe}.yaml"
    return str(file) if file.is_file() else recipe


def _applicable(recipes: Sequence[Recipe], overrides: Sequence[str]) -> Iterator[str]:
    """Yield the overrides except those of steps that no recipe has."""
    labels = {step.label for recipe in recipes for step in recipe.strategies}
    for text in overrides:
        keys = parse_override(text).keys
        if keys[0] != "strategies" or keys[1] in labels:
            yield text


def select_arms(family: Family, splits: Splits, catalog: Catalog) -> None:
    """Select the recipes of a family that can be compared with its baseline, and note why others cannot.

    Raises:
        FerAugmentError: if the pre-flight refuses the baseline.
    """
    first, *others = load_recipes([family.baseline, *family.recipes], family.overrides)
    family.arms[family.baseline] = _checked(first, splits, catalog)
    for name, recipe in zip(family.recipes, others, strict=True):
        try:
            _check_differs(recipe, first)
            family.arms[name] = _checked(recipe, splits, catalog)
        except FerAugmentError as error:
            family.left_out[recipe.name] = str(error)


def _check_differs(recipe: Recipe, baseline: Recipe) -> None:
    labels = {"name": "", "description": ""}
    if recipe.model_copy(update=labels) == baseline.model_copy(update=labels):
        raise RecipeError(f"the same as {baseline.name} with these overrides")


def _checked(recipe: Recipe, splits: Splits, catalog: Catalog) -> BoundRecipe:
    """Bind a recipe; refuse one that fails the pre-flight or has a step that never acts."""
    bound = bind(recipe, catalog)
    data, store = RecipeData.of(splits), default_store()
    preflight([bound], data, store)
    check_networks([bound], data, store)
    for warning in recipe_warnings(bound):
        if "never acts" in warning:
            raise RecipeError(warning)
    return bound


def measure(family: Family, splits: Splits, *, seeds: Sequence[int], out: Path, jobs: int | None = None) -> Gains:
    """Compare the arms of a family, or resume the comparison; failed runs are part of the result.

    Args:
        family: the family after `select_arms`.
        splits: the data.
        seeds: the seeds.
        out: the directory of the comparison.
        jobs: runs at a time; None for as many as there are cores.
    """
    gains = Gains(family.name, None, overrides=family.overrides, left_out=family.left_out)
    if len(family.arms) < 2:
        return gains
    try:
        comparison = compare(list(family.arms), splits, seeds=seeds, out=out, jobs=jobs, overrides=family.overrides)
    except NothingFinishedError as error:
        return replace(gains, error=str(error))
    return replace(gains, comparison=comparison, times=relative_times(list(family.arms.values()), splits, seeds))
