"""Doing runs, of a comparison or a single one: with the display of their progress, trackers and tracebacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fer_augment.hooks.observers import Observers
from fer_augment.progress import Cached
from fer_augment.reports.console import print_warnings
from fer_augment.reports.run_progress import RunProgress
from fer_augment.runs.executors import FailedTask, Listener
from fer_augment.runs.experiment import Experiment, PlannedRun, Task
from fer_augment.runs.failures import keep_traceback
from fer_augment.runs.finished_runs import FinishedRuns
from fer_augment.runs.task_order import Waits
from fer_augment.runs.tracking import Tracking

if TYPE_CHECKING:
    from fer_augment.runs.plan import PlannedTask

Do: TypeAlias = Callable[[Sequence[Task], Waits, Listener[Task]], Sequence[Path | FailedTask]]
"""Does tasks, which wait for others; returns the outcome of each."""


def outcomes_of(
    runs: Sequence[PlannedRun],
    finished: FinishedRuns,
    planned: Sequence[PlannedTask],
    do: Do,
    experiment: Experiment,
    observers: Observers,
    directory: Path,
    *,
    reported: Sequence[PlannedRun] = (),
    progress: bool,
) -> list[Path | FailedTask]:
    """Do the runs that are not finished; keep the traceback of each that fails.

    Args:
        runs: the runs, at least one.
        finished: which of them are finished.
        planned: the tasks that do the others; empty if all are finished.
        do: does the tasks; not called without any.
        experiment: data, cache and folder of the runs.
        observers: the trackers.
        directory: where results are written.
        reported: finished runs that were reported to trackers and on stderr before.
        progress: whether to show progress and warnings on stderr.

    Returns:
        The directory of each run, or why there is none.

    Raises:
        RunError: if the traceback of an earlier attempt cannot be removed.
    """
    tasks, waits = [one.task for one in planned], [one.waits for one in planned]
    class_names = experiment.data.as_read(runs[0].recipe).class_names
    with (
        RunProgress(tasks, class_names, weights=[one.weight for one in planned], quiet=not progress) as display,
        Tracking(observers, display, experiment.identify) as tracking,
    ):
        for run, path in zip(runs, finished.paths, strict=True):
            if path and run not in reported:
                tracking.started(run)
                tracking.progressed(run, Cached("run"))
                tracking.ended(run, path)
        of_tasks = do(tasks, waits, tracking) if tasks else []
    done = iter([outcome for task, outcome in zip(tasks, of_tasks, strict=True) if isinstance(task, PlannedRun)])
    outcomes = [path or next(done) for path in finished.paths]
    unwritten: dict[str, None] = {}
    for run, outcome in zip(runs, outcomes, strict=True):
        details = outcome.details if isinstance(outcome, FailedTask) else ""
        unwritten |= dict.fromkeys(keep_traceback(directory, run, details))
    if progress:
        print_warnings(unwritten)
    return outcomes
