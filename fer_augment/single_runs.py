"""From Python: one run of a recipe, or only the training set that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fer_augment.arguments import AnyRecipe, Overrides, seed_of
from fer_augment.doing_runs import outcomes_of
from fer_augment.errors import NothingFinishedError
from fer_augment.finished import Run
from fer_augment.preparing import (
    RESULTS,
    bound_recipes,
    checked_networks,
    create_folder,
    data_for,
    jobs_on_this_machine,
    observers_of,
)
from fer_augment.processes import cores
from fer_augment.reading import Data
from fer_augment.recipe.warnings import recipe_warnings
from fer_augment.reports.console import print_warnings, progress_of_activities
from fer_augment.runs.executors import FailedTask, Listener, do_tasks
from fer_augment.runs.experiment import Experiment, PlannedRun, Task
from fer_augment.runs.failures import with_traceback
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.preflight import preflight
from fer_augment.runs.task_order import Waits
from fer_augment.training.store import default_store

if TYPE_CHECKING:
    from fer_augment.runs.plan import PlannedTask
    from fer_augment.runs.rewriting import Rewriting


def run(
    recipe: AnyRecipe,
    data: Data,
    *,
    seed: int = 0,
    out: str | PathLike[str] = RESULTS,
    overrides: Overrides = (),
    track: str | Sequence[str] = (),
    progress: bool = True,
) -> Run:
    """Train one recipe with one seed and score it on the test split once.

    A single run gives no verdict on a recipe: use `compare` for that.

    Args:
        recipe: the name of a shipped recipe, the path of a recipe file, or a `Recipe`.
        data: a data source or `Splits`.
        seed: the seed of the run.
        out: the run's directory is created below `out/runs`.
        overrides: `key=value` settings, such as `training.epochs=5`.
        track: names of trackers, in addition to those that the recipe names.
        progress: whether to show progress and warnings on stderr.

    Raises:
        FerAugmentError: in one line, for whatever the pre-flight refuses.
        RunError: if the run fails; its traceback is in `out/failures`, and in the `__notes__` of the error.
    """
    chosen_seed = seed_of(seed)
    (arm,) = bound_recipes([recipe], overrides, quiet=not progress)
    observers = observers_of([arm], track, Path(out))
    directory, recipe_data, store = Path(out), data_for([arm], data, progress=progress), default_store()
    notices = [*observers.failures, *preflight([arm], recipe_data, store, out=directory, is_comparison=False)]
    task, experiment = PlannedRun(arm.recipe, chosen_seed), Experiment(recipe_data, store, directory / "runs")
    finished = FinishedRuns.among([task], experiment)
    is_finished = all(finished.paths)
    checked, memory = ([], 0) if is_finished else checked_networks([arm], recipe_data, store)
    if progress:
        print_warnings([*notices, *checked, *recipe_warnings(arm)])
    create_folder(directory)
    damaged = finished.remove_damaged()
    omissions = () if is_finished else recipe_data.as_read(arm.recipe).omissions
    if progress:
        print_warnings([*damaged, *omissions])

    def do(tasks: Sequence[Task], waits: Waits, listener: Listener[Task]) -> list[Path | FailedTask]:
        return do_tasks(experiment, tasks, jobs_on_this_machine([arm.recipe], memory), listener, waits=waits)

    planned: Sequence[PlannedTask] = ()
    if not is_finished:
        from fer_augment.runs.plan import plan  # imports torch, as networks do: not for a finished run

        planned = plan([task], experiment, finished).tasks
    (outcome,) = outcomes_of([task], finished, planned, do, experiment, observers, directory, progress=progress)
    if isinstance(outcome, FailedTask):
        raise with_traceback(NothingFinishedError(f"{task} failed: {outcome.message}"), directory, task)
    return Run(outcome)


def rewrite(
    recipe: AnyRecipe, data: Data, *, seed: int = 0, overrides: Overrides = (), progress: bool = True
) -> Rewriting:
    """Rewrite the training set as a recipe does, and train nothing but the scouts that its strategies query.

    Args:
        recipe: the name of a shipped recipe, the path of a recipe file, or a `Recipe`.
        data: a data source or `Splits`.
        seed: the seed.
        overrides: `key=value` settings, such as `training.epochs=5`.
        progress: whether to show progress and warnings on stderr.

    Returns:
        The training set before and after, with the provenance of every row, and the effect of each step.

    Raises:
        FerAugmentError: in one line, for whatever the pre-flight refuses.
        RunError: if the training of a scout fails.
        StrategyError: if a strategy fails.
    """
    from fer_augment.runs.rewriting import rewriting_of
    from fer_augment.training.trainings import Trainings

    chosen_seed = seed_of(seed)
    (arm,) = bound_recipes([recipe], overrides, quiet=not progress)
    recipe_data, store = data_for([arm], data, progress=progress), default_store()
    notices = preflight([arm], recipe_data, store)
    checked, _ = checked_networks([arm], recipe_data, store, is_local=False)
    if progress:
        omissions = recipe_data.as_read(arm.recipe).omissions
        print_warnings([*notices, *checked, *recipe_warnings(arm), *omissions])
    with progress_of_activities(quiet=not progress) as report:
        trainings = Trainings(recipe_data.splits_for(arm.recipe), chosen_seed, store, report, cores=cores())
        return rewriting_of(trainings.of(arm))
