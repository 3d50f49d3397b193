"""What arms train in addition to their baseline, by the facts of the trainings in the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fer_augment import Splits
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.runs.experiment import splits_for
from fer_augment.training.store import default_store
from fer_augment.training.trainings import Trainings


def relative_times(arms: Sequence[BoundRecipe], splits: Splits, seeds: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """Return, by name, what each arm but the first trains in addition to the first, as shares of its training time.

    Scouts count, unless they are trainings of the first arm, whoever of the arms made them. There is a number for each
    seed with which all of the trainings are finished; 0 where an arm trains nothing of its own.
    """
    baseline, *others = arms
    shares: dict[str, list[float]] = {arm.recipe.name: [] for arm in others}
    for seed in seeds:
        of_baseline = _trainings(baseline, splits, seed)
        whole = _seconds(of_baseline, baseline, ())
        shared = {needed.key for needed in of_baseline.needed(baseline)}
        for arm in others:
            further = _seconds(_trainings(arm, splits, seed), arm, shared)
            if whole and further is not None:
                shares[arm.recipe.name].append(further / whole)
    return {name: tuple(of_seeds) for name, of_seeds in shares.items()}


def _trainings(arm: BoundRecipe, splits: Splits, seed: int) -> Trainings:
    return Trainings(splits_for(arm.recipe, splits), seed, default_store())


def _seconds(trainings: Trainings, bound: BoundRecipe, shared: Collection[str]) -> float | None:
    """Return the wall time of what a recipe trains besides the shared keys; None if something is not finished."""
    further = {needed.key for needed in trainings.needed(bound)} - set(shared)
    found = [trainings.store.find(key) for key in sorted(further)]
    return None if None in found else sum(stored.facts.seconds for stored in found if stored)
