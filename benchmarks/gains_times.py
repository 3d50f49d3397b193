"""Additional training time of arms relative to their baseline, from the records of cached trainings."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fer_augment import Splits
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.needed import needed_trainings
from fer_augment.training.store import default_store
from fer_augment.training.trainings import RecipeTrainings, Trainings


def relative_times(arms: Sequence[BoundRecipe], splits: Splits, seeds: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """Return the additional training time of each arm except the first, as multiples of that of the first.

    Args:
        arms: the baseline and the other arms.
        splits: the data.
        seeds: the seeds.

    Returns:
        By name, one number for each seed for which all trainings are finished. Trainings shared with the baseline do
        not count, those of scouts do; 0 if an arm has no trainings of its own.
    """
    baseline, *others = arms
    multiples: dict[str, list[float]] = {arm.recipe.name: [] for arm in others}
    for seed in seeds:
        baseline_trainings = _trainings(baseline, splits, seed)
        baseline_seconds = _seconds(baseline_trainings, ())
        shared = {needed.key for needed in needed_trainings(baseline_trainings)}
        for arm in others:
            additional_seconds = _seconds(_trainings(arm, splits, seed), shared)
            if baseline_seconds and additional_seconds is not None:
                multiples[arm.recipe.name].append(additional_seconds / baseline_seconds)
    return {name: tuple(per_seed) for name, per_seed in multiples.items()}


def _trainings(arm: BoundRecipe, splits: Splits, seed: int) -> RecipeTrainings:
    return Trainings(RecipeData.of(splits).splits_for(arm.recipe), seed, default_store()).of(arm)


def _seconds(recipe: RecipeTrainings, shared: Collection[str]) -> float | None:
    """Return the wall time of the trainings of a recipe without those shared; None if one is not finished."""
    keys = {needed.key for needed in needed_trainings(recipe)} - set(shared)
    finished = [recipe.trainings.store.find(key) for key in sorted(keys)]
    return None if None in finished else sum(stored.facts.seconds for stored in finished if stored)
