"""The trainings that a comparison needs, the tasks that make them, and how long they will take."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from fer_augment.hooks.pipeline import Step
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import NEEDS_SCOUT, Strategy
from fer_augment.hooks.strategy_warnings import collected_warnings
from fer_augment.recipe.binding import BoundRecipe, bind
from fer_augment.runs.experiment import Experiment, PlannedRun, SharedTraining, Task
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.task_order import duration
from fer_augment.training.needed import NeededTraining, needed_trainings
from fer_augment.training.trainer import seconds_per_step
from fer_augment.training.trainings import RecipeTrainings, Trainings

_STEPS_OF_A_HEAD = 100
"""Optimizer steps of a head that are timed; each takes a fraction of a millisecond."""
_STAGES_OF_A_STEP = ("prepare_model", "optimizer_step", "augment_rows", "augment_batch")
"""Stages that decide how long an optimizer step takes."""


@dataclass(frozen=True, eq=False)
class PlannedTraining:
    """A training that runs need.

    Attributes:
        needed: the training, as the first of the runs needs it.
        runs: the runs that need it, for display.
        is_stored: whether it is not to be done: it is cached, or all that needs it is.
    """

    needed: NeededTraining
    runs: tuple[str, ...]
    is_stored: bool


@dataclass(frozen=True, eq=False)
class PlannedTask:
    """A task: a run that is not finished, or a training that other tasks wait for.

    Attributes:
        task: what is done.
        waits: numbers of the tasks that end before it starts.
        trainings: the trainings that it does, those with a task of their own left out.
    """

    task: Task
    waits: frozenset[int] = frozenset()
    trainings: tuple[NeededTraining, ...] = ()

    @property
    def weight(self) -> float:
        """Its duration relative to that of other tasks: epochs, and predicting takes as long as one."""
        return 1 + sum(training.epochs for training in self.trainings)


@dataclass(frozen=True)
class Plan:
    """What a comparison would train.

    Attributes:
        trainings: the distinct trainings, in the order in which runs reach them.
        tasks: the tasks that do what is missing; each run comes after the trainings that are done for it.
    """

    trainings: tuple[PlannedTraining, ...]
    tasks: tuple[PlannedTask, ...]

    @property
    def missing(self) -> tuple[PlannedTraining, ...]:
        """The trainings that are not cached."""
        return tuple(training for training in self.trainings if not training.is_stored)

    @property
    def waits(self) -> list[frozenset[int]]:
        """For each task the numbers of those that it waits for."""
        return [task.waits for task in self.tasks]

    @property
    def missing_second_stages(self) -> int:
        """How many of the missing trainings are second stages, which `minutes` leaves out."""
        return sum(training.needed.is_second_stage for training in self.missing)

    @property
    def missing_features(self) -> int:
        """How many images have no features yet under the frozen backbones of the missing trainings."""
        return sum(_missing_features(recipe) for recipe in _backbones(one.needed.recipe for one in self.missing))

    def minutes(self, jobs: int) -> float | None:
        """Estimate the wall time of the missing trainings, by timing a few optimizer steps of each kind now.

        Args:
            jobs: tasks at a time.

        Returns:
            Minutes without second stages, with the tasks in the order in which they will be done; None if there is
            nothing to time.
        """
        per_epoch: dict[Hashable, float] = {}

        def minutes_of(training: NeededTraining) -> float:
            recipe = training.recipe
            kind = _kind(recipe)
            if kind not in per_epoch:
                per_epoch[kind] = minutes_for(recipe) / recipe.settings.epochs
            return per_epoch[kind] * training.epochs

        timed = [[one for one in task.trainings if not one.is_second_stage] for task in self.tasks]
        if not any(timed):
            return None
        features = _minutes_of_features([training.recipe for trainings in timed for training in trainings])
        return features + duration(self.waits, [sum(map(minutes_of, trainings)) for trainings in timed], jobs)


def plan(runs: Sequence[PlannedRun], experiment: Experiment, finished: FinishedRuns) -> Plan:
    """Return the distinct trainings that runs need, and the tasks that do what is missing.

    Args:
        runs: the runs, an arm after the other.
        experiment: data and cache.
        finished: which of the runs are finished; their trainings are not done again.
    """
    planned: dict[str, PlannedTraining] = {}
    unfinished: list[tuple[PlannedRun, list[NeededTraining]]] = []
    for run, path in zip(runs, finished.paths, strict=True):
        bound = bind(run.recipe, installed_plugins())
        splits = experiment.data.splits_for(run.recipe, run.fold)
        needed = needed_trainings(Trainings(splits, run.seed, experiment.store).of(bound))
        to_do = set() if path else _to_do(needed, experiment)
        for training in needed:
            first = planned.get(training.key)
            of_runs = (*(first.runs if first else ()), str(run))
            is_stored = training.key not in to_do and (first is None or first.is_stored)
            planned[training.key] = PlannedTraining(first.needed if first else training, of_runs, is_stored)
        if path is None:
            unfinished.append((run, needed))
    missing = {key: training.needed for key, training in planned.items() if not training.is_stored}
    return Plan(tuple(planned.values()), tuple(_tasks(unfinished, missing)))


def _to_do(needed: Sequence[NeededTraining], experiment: Experiment) -> set[str]:
    """Return the keys of the trainings of a run that are to be done: its own and what that waits for, if not cached.

    Args:
        needed: each after those that it waits for, the run's own last.
        experiment: has the cache.
    """
    wanted, to_do = {needed[-1].key}, set[str]()
    for training in reversed(needed):
        if training.key in wanted and experiment.store.find(training.key) is None:
            to_do.add(training.key)
            wanted |= {*training.after}
    return to_do


def _tasks(
    runs: Sequence[tuple[PlannedRun, Sequence[NeededTraining]]], missing: Mapping[str, NeededTraining]
) -> Iterator[PlannedTask]:
    """Yield the tasks of runs with their needed trainings, which end with the run's own.

    A missing training is done by the first run whose own it is; if there is none, by a task of its own, except for a
    first stage that a single second stage starts from, which is done along with that.
    """
    own = {needed[-1].key for _, needed in runs}
    part_of = _first_stages_of_one(missing, own)
    tasks: list[tuple[Task, str]] = []
    number_of: dict[str, int] = {}
    for run, needed in runs:
        for number, training in enumerate(needed):
            key = training.key
            if key in missing and key not in part_of and key not in own and key not in number_of:
                number_of[key] = len(tasks)
                name = training.name if training.scout_of else "first stage"
                tasks.append((SharedTraining(run, number, name), key))
        number_of.setdefault(needed[-1].key, len(tasks))
        tasks.append((run, needed[-1].key))

    def waited_for(keys: Sequence[str]) -> Iterator[int]:
        for key in keys:
            if key in part_of:
                yield from waited_for(missing[key].after)
            elif key in missing:
                yield number_of[key]

    for number, (task, key) in enumerate(tasks):
        does_it = key in missing and number_of[key] == number
        trainings = (*(missing[one] for one in missing[key].after if one in part_of), missing[key]) if does_it else ()
        waits = waited_for(missing[key].after if does_it else [key])
        yield PlannedTask(task, frozenset(waits), trainings)


def _first_stages_of_one(missing: Mapping[str, NeededTraining], own: Set[str]) -> frozenset[str]:
    """Return the first stages that one second stage alone starts from, and that are not the training of a run."""
    counts = Counter(key for training in missing.values() for key in training.after)
    first_stages = {training.first_stage for training in missing.values()} & missing.keys()
    return frozenset(key for key in first_stages if counts[key] == 1 and key not in own)


def _kind(recipe: RecipeTrainings) -> Hashable:
    """Return what decides how long an optimizer step takes; of recipes in which it is equal, one is timed.

    Timing takes seconds, and a grid may have fifty values. Parameters that are floats are left out: probabilities and
    strengths change the time of a step little.
    """
    strategies = [step.strategy for step in _timed_steps(recipe.bound) if step.acts_at(_STAGES_OF_A_STEP)]
    return (
        recipe.bound.recipe.model_dump_json(include={"model", "training", "data"}),
        *((type(strategy), _without_floats(strategy)) for strategy in strategies),
    )


def _without_floats(strategy: Strategy) -> str:
    parameters = strategy.model_dump(mode="json")
    return json.dumps({name: value for name, value in parameters.items() if not isinstance(value, float)})


def _timed_steps(bound: BoundRecipe) -> tuple[Step, ...]:
    """Return the steps that act when optimizer steps are timed: all that query no scout."""
    return tuple(step for step in bound.steps if not step.strategy.effects & NEEDS_SCOUT)


def minutes_for(recipe: RecipeTrainings) -> float:
    """Estimate how long a training takes on one core, from a few optimizer steps taken now, without frozen features.

    Steps that query a scout are left out: in a batch they take little time, and the scout would have to be trained.
    """
    bound, train = recipe.bound, recipe.trainings.splits.train
    without_scouts = replace(bound, steps=_timed_steps(bound))
    settings, training = recipe.settings, recipe.trainings.of(without_scouts).training(train)
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
    """Estimate how long the features that trainings of heads need and that are missing take on one core."""
    seconds = 0.0
    for recipe in _backbones(recipes):
        missing = _missing_features(recipe)
        if recipe.frozen and missing:
            seconds += missing * recipe.frozen.seconds_per_image(recipe.trainings.splits.train)
    return seconds / 60


def _backbones(recipes: Iterable[RecipeTrainings]) -> Iterable[RecipeTrainings]:
    """Return one recipe for each frozen backbone."""
    return {recipe.frozen.cache: recipe for recipe in recipes if recipe.frozen}.values()


def _missing_features(recipe: RecipeTrainings) -> int:
    """Return how many images of the data have no features; images that steps make are not made yet."""
    frozen, parts = recipe.frozen, recipe.trainings.splits.parts.values()
    return sum(frozen.missing(part) for part in parts) if frozen else 0
