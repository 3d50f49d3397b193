"""Training time of arms in addition to their baseline, from the facts of the cached trainings."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fer_augment import Splits
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.runs.experiment import splits_for
from fer_augment.training.store import default_store
from fer_augment.training.trainings import RecipeTrainings, Trainings


def relative_times(arms: Sequence[BoundRecipe], splits: Splits, seeds: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """Return, by name, the training time of each arm but the first that it does not share with the first, relative.

    The unit is the first arm's training time. Scouts count, unless they are trainings of the first arm. There is a
    number for each seed for which all trainings are finished; 0 where an arm trains nothing of its own.
    """
    baseline, *others = arms
    shares: dict[str, list[float]] = {arm.recipe.name: [] for arm in others}
    for seed in seeds:
        of_baseline = _trainings(baseline, splits, seed)
        whole = _seconds(of_baseline, ())
        shared = {needed.key for needed in of_baseline.needed()}
        for arm in others:
            further = _seconds(_trainings(arm, splits, seed), shared)
            if whole and further is not None:
                shares[arm.recipe.name].append(further / whole)
    return {name: tuple(of_seeds) for name, of_seeds in shares.items()}


def _trainings(arm: BoundRecipe, splits: Splits, seed: int) -> RecipeTrainings:
    return Trainings(splits_for(arm.recipe, splits), seed, default_store()).of(arm)


def _seconds(recipe: RecipeTrainings, shared: Collection[str]) -> float | None:
    """Return the wall time of a recipe's trainings besides the shared keys; None if one is not finished."""
    further = {needed.key for needed in recipe.needed()} - set(shared)
    finished = [recipe.trainings.store.find(key) for key in sorted(further)]
    return None if None in finished else sum(stored.facts.seconds for stored in finished if stored)
