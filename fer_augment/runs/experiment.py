"""Recipe × seed → run: the tasks of a comparison, and doing one unless it is cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from fer_augment.cache import LEDGERS
from fer_augment.data.dataset import Splits
from fer_augment.data.records import FoldIdentity, RunIdentity, run_path
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.progress import Advance, Cached, Report
from fer_augment.recipe.binding import BoundRecipe, bind
from fer_augment.recipe.recipe import Recipe
from fer_augment.runs.ledger import Ledger
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.keys import run_key
from fer_augment.training.store import TrainingStore


@dataclass(frozen=True)
class PlannedRun:
    """A run that is to be done: an arm with one seed, or on one fold.

    Attributes:
        recipe: the arm's recipe.
        seed: the seed.
        fold: the held-out fold; None on a fixed test split.
    """

    recipe: Recipe
    seed: int
    fold: FoldIdentity | None = None

    def __str__(self) -> str:
        """Return the recipe with seed or fold, for messages."""
        return f"{self.recipe.name}, {self.fold or f'seed {self.seed}'}"


@dataclass(frozen=True)
class SharedTraining:
    """A training that is done before the runs that need it: of a scout, or a first stage that several runs start from.

    Attributes:
        run: the first of these runs.
        number: the place of the training among those that the run needs, see `training.needed`.
        name: what is trained, for display.
    """

    run: PlannedRun
    number: int
    name: str

    def __str__(self) -> str:
        """Return what is trained for which run, for messages."""
        return f"{self.name} ({self.run})"

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.run.recipe


Task: TypeAlias = PlannedRun | SharedTraining
"""A part of a comparison that is done by one process."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """Runs on one data source: a callable that does one of their tasks, in this process or in another.

    Attributes:
        data: the data as each recipe sees it.
        store: where trainings are kept.
        folder: where run directories are written.
    """

    data: RecipeData
    store: TrainingStore
    folder: Path

    def __call__(self, task: Task, report: Report) -> Path:
        """Do a run or a training unless it is cached; return its directory."""
        from fer_augment.runs.performing import perform  # imports torch, which nothing else here needs
        from fer_augment.training.needed import needed_trainings
        from fer_augment.training.trainings import Trainings

        bound = bind(task.recipe, installed_plugins())
        if isinstance(task, SharedTraining):
            splits = self.data.splits_for(task.recipe, task.run.fold)
            trainings = Trainings(splits, task.run.seed, self.store, _as_whole_task(report))
            return needed_trainings(trainings.of(bound))[task.number].obtain().path
        identity = self.identify(task)[0]
        path = run_path(self.folder, identity)
        if path.is_dir():
            report(Cached("run"))
            return path
        source, splits = self.data.splits_of(task.recipe, task.fold), self.data.splits_for(task.recipe, task.fold)
        folds = self.data.folds if task.fold else None
        held_out = folds.held_out(task.fold) if folds and task.fold else None
        fold_pixels = folds.pixels if folds else None
        perform(bound, identity, splits, source.train, self.store, path, report, held_out, fold_pixels)
        self.ledger.note(task.recipe, self.data.scored(task.recipe))
        return path

    def path_of(self, run: PlannedRun) -> Path:
        """Return the directory of a run, which exists if the run is finished."""
        return run_path(self.folder, self.identify(run)[0])

    def identify(self, task: PlannedRun) -> tuple[RunIdentity, tuple[str, ...]]:
        """Return the identity of a run and the names of the classes."""
        splits = self.data.splits_for(task.recipe, task.fold)
        return identity_of(bind(task.recipe, installed_plugins()), task.seed, splits, task.fold), splits.class_names

    @property
    def ledger(self) -> Ledger:
        """The ledger of recipes scored on each test split; it is kept beside the trainings."""
        return Ledger(self.store.root.parent / LEDGERS)


def identity_of(bound: BoundRecipe, seed: int, splits: Splits, fold: FoldIdentity | None = None) -> RunIdentity:
    """Return the identity of a run on the data after the recipe's `data` settings, of a fold if one is given."""
    return RunIdentity(recipe=bound.recipe.name, seed=seed, key=run_key(bound, seed, splits), fold=fold)


def _as_whole_task(report: Report) -> Report:
    """Let the progress of each training stand for that of the task."""
    return lambda event: report(replace(event, measures_run=True) if isinstance(event, Advance) else event)


def runs_in_order(
    recipes: Sequence[Recipe], seeds: Sequence[int], folds: Sequence[FoldIdentity] = ()
) -> list[PlannedRun]:
    """Return all runs, the baseline's first: its trainings serve other arms as scouts.

    Args:
        recipes: one for each arm.
        seeds: the seeds of each arm on a fixed test split.
        folds: the folds of a cross-validation, which have seeds of their own; empty for a fixed test split.
    """
    if folds:
        return [PlannedRun(recipe, fold.seed, fold) for recipe in recipes for fold in folds]
    return [PlannedRun(recipe, seed) for recipe in recipes for seed in seeds]
