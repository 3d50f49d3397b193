"""What arms train in addition to their baseline, by the facts of the trainings in the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fer_augment import Splits
from fer_augment.hooks.recipe_binding import BoundRecipe
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
    """Return the wall time of what a recipe trains besides the shared keys; None if something is not finished.

    The seconds of a second stage hold those of its first. Those of a training hold the time that its scouts took where
    they were made, or waited for, meanwhile; where they stood there already they do not.
    """
    alone: dict[str, float] = {}
    ends: dict[str, float] = {}
    seconds_before = 0.0
    for needed in trainings.needed(bound):
        stored = trainings.store.find(needed.key)
        if stored is None:
            return None
        end = stored.weights.stat().st_mtime
        seconds = stored.facts.seconds
        begin = end - (seconds - seconds_before if needed.is_second_stage else seconds)
        meanwhile = (min(alone[key], ended - begin) for key, ended in ends.items() if begin < ended < end)
        alone[needed.key], ends[needed.key], seconds_before = end - begin - sum(meanwhile), end, seconds
    return sum(time for key, time in alone.items() if key not in shared)
