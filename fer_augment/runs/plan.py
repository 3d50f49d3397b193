"""The trainings that a comparison needs, which of them are cached, and how long the others will take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import NEEDS_SCOUT
from fer_augment.hooks.strategy_warnings import collected_warnings
from fer_augment.recipe.binding import bind
from fer_augment.runs.experiment import Experiment, PlannedRun
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.training.trainer import seconds_per_step
from fer_augment.training.trainings import NeededTraining, RecipeTrainings, Trainings

_STEPS_OF_A_HEAD = 100
"""Optimizer steps of a head that are timed; each takes a fraction of a millisecond."""


@dataclass(frozen=True, eq=False)
class PlannedTraining:
    """A training that runs need.

    Attributes:
        needed: the training, as the first of the runs needs it.
        runs: the runs that need it, for display.
        is_stored: whether it is cached, or all runs that need it are finished.
    """

    needed: NeededTraining
    runs: tuple[str, ...]
    is_stored: bool


@dataclass(frozen=True)
class Plan:
    """What a comparison would train.

    Attributes:
        trainings: the distinct trainings, in the order in which runs reach them.
    """

    trainings: tuple[PlannedTraining, ...]

    @property
    def missing(self) -> tuple[PlannedTraining, ...]:
        """The trainings that are not cached."""
        return tuple(training for training in self.trainings if not training.is_stored)

    @property
    def missing_second_stages(self) -> int:
        """How many of the missing trainings are second stages, which `minutes` leaves out."""
        return sum(training.needed.is_second_stage for training in self.missing)

    def minutes(self, jobs: int) -> float | None:
        """Estimate the wall time of the missing trainings, by timing a few optimizer steps of each kind now.

        Args:
            jobs: runs at a time.

        Returns:
            Minutes without second stages; None if there is nothing to time.
        """
        timed = [training.needed.recipe for training in self.missing if not training.needed.is_second_stage]
        minutes: dict[str, float] = {}
        total = _minutes_of_features(timed)
        for recipe in timed:
            kind = recipe.bound.recipe.model_dump_json(include={"model", "training", "data"})
            if kind not in minutes:
                minutes[kind] = minutes_for(recipe)
            total += minutes[kind]
        return total / min(jobs, len(timed)) if timed else None


def plan(runs: Sequence[PlannedRun], experiment: Experiment, finished: FinishedRuns) -> Plan:
    """Return the distinct trainings that runs need.

    Args:
        runs: in the order in which they will be done.
        experiment: data and cache.
        finished: which of the runs are finished; their trainings are not done again.
    """
    planned: dict[str, PlannedTraining] = {}
    for run, path in zip(runs, finished.paths, strict=True):
        bound = bind(run.recipe, installed_plugins())
        recipe = Trainings(experiment.data.splits_for(run.recipe, run.fold), run.seed, experiment.store).of(bound)
        for needed in recipe.needed():
            first = planned.get(needed.key)
            of_runs = (*(first.runs if first else ()), str(run))
            is_stored = path is not None or experiment.store.find(needed.key) is not None
            is_stored &= first.is_stored if first else True
            planned[needed.key] = PlannedTraining(first.needed if first else needed, of_runs, is_stored)
    return Plan(tuple(planned.values()))


def minutes_for(recipe: RecipeTrainings) -> float:
    """Estimate how long a training takes on one core, from a few optimizer steps taken now, without frozen features.

    Steps that query a scout are left out: in a batch they take little time, and the scout would have to be trained.
    """
    bound, train = recipe.bound, recipe.trainings.splits.train
    steps = tuple(step for step in bound.steps if not step.strategy.effects & NEEDS_SCOUT)
    settings, training = recipe.settings, recipe.trainings.of(replace(bound, steps=steps)).training(train)
    frozen = settings.freeze_epochs
    with collected_warnings():  # those of strategies, which the run repeats
        if training.frozen:
            seconds = settings.epochs * seconds_per_step(
                replace(training, frozen=training.frozen.on_trial()), steps=_STEPS_OF_A_HEAD
            )
        else:
            seconds = (settings.epochs - frozen) * seconds_per_step(training) if settings.epochs > frozen else 0.0
            seconds += frozen * seconds_per_step(training, is_frozen=True) if frozen else 0.0
    return math.ceil(len(train) / settings.batch_size) * seconds / 60


def _minutes_of_features(recipes: Iterable[RecipeTrainings]) -> float:
    """Estimate how long the features that trainings of heads need and that are missing take on one core.

    Images that steps make are left out, since they are not made yet.
    """
    by_backbone = {recipe.frozen.cache: recipe for recipe in recipes if recipe.frozen}
    seconds = 0.0
    for recipe in by_backbone.values():
        assert recipe.frozen is not None
        missing = sum(recipe.frozen.missing(part) for part in recipe.trainings.splits.parts.values())
        if missing:
            seconds += missing * recipe.frozen.seconds_per_image(recipe.trainings.splits.train)
    return seconds / 60
