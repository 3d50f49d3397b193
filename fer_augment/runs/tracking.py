"""What happens to runs, for the display and for trackers: events of workers, and the curves of what was reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from fer_augment.data.records import RunDirectory, RunIdentity, RunRecord
from fer_augment.errors import RunError
from fer_augment.hooks.observers import Observers
from fer_augment.metrics import score
from fer_augment.progress import Evaluated, Event
from fer_augment.runs.executors import Listener
from fer_augment.runs.experiment import PlannedRun, SharedTraining, Task

Identify = Callable[[PlannedRun], tuple[RunIdentity, Sequence[str]]]
"""From a run to its identity and the names of the classes."""


class Display(Listener[Task], Protocol):
    """Shows what happens to runs, and to trainings that are done for several of them."""

    def warn(self, message: str) -> None:
        """Show a warning."""
        ...


class Tracking:
    """A `Listener` of the executors that informs the display and the trackers.

    Every point of the curve of a run arrives exactly once, in order of epochs: points of a cached run are taken from
    its record, and those that a repeated run sends again are dropped. As a context manager, it reports runs that have
    not ended as interrupted.
    """

    def __init__(self, observers: Observers, display: Display, identify: Identify) -> None:
        """Prepare to listen.

        Args:
            observers: the trackers.
            display: receives all events.
            identify: called when a run starts, if there are trackers.
        """
        self.observers, self.display, self.identify = observers, display, identify
        self._running: dict[str, tuple[RunIdentity, Sequence[str]]] = {}
        self._last_epochs: dict[str, int] = {}

    def __enter__(self) -> Tracking:
        """Listen."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report the runs that have not ended."""
        message = f"interrupted ({reason(error)})" if error else "interrupted"
        for identity, _ in self._running.values():
            self._notify("run_failed", run=identity, message=message)
        self._running.clear()

    def started(self, task: Task) -> None:
        """Report that a run begins; trackers do not hear of trainings that are done for several runs."""
        self.display.started(task)
        if self.observers and isinstance(task, PlannedRun):
            identity, class_names = self._running[str(task)] = self.identify(task)
            recipe = task.recipe.model_dump(mode="json")
            self._notify("run_started", run=identity, recipe=recipe, class_names=class_names)

    def progressed(self, task: Task, event: Event) -> None:
        """Report progress, and each point of the curve once."""
        if isinstance(event, Evaluated):
            if event.evaluation.epoch <= self._last_epochs.get(str(task), 0):
                return
            self._last_epochs[str(task)] = event.evaluation.epoch
            if str(task) in self._running:
                identity, class_names = self._running[str(task)]
                self._notify("epoch_finished", run=identity, evaluation=event.evaluation, class_names=class_names)
        self.display.progressed(task, event)

    def ended(self, task: Task, outcome: object) -> None:
        """Report the result of a run, or why there is none."""
        if isinstance(task, SharedTraining):
            self.display.ended(task, outcome)
            return
        record, message = _record_of(outcome)
        for evaluation in record.curve if record else ():
            self.progressed(task, Evaluated(evaluation))
        self.display.ended(task, outcome)
        if str(task) not in self._running:
            return
        identity, _ = self._running.pop(str(task))
        if record and isinstance(outcome, Path):
            scores = scores_on_test_split(RunDirectory(outcome))
            self._notify("run_finished", run=identity, record=record, scores=scores, directory=outcome)
        else:
            self._notify("run_failed", run=identity, message=message)

    def _notify(self, event: str, **arguments: Any) -> None:
        for failure in self.observers.notify(event, **arguments):
            self.display.warn(failure)


def _record_of(outcome: object) -> tuple[RunRecord | None, str]:
    """Return the record of a finished run, or None with the reason; a damaged one raises an error where it is used."""
    if not isinstance(outcome, Path):
        return None, str(getattr(outcome, "message", outcome))
    try:
        return RunDirectory(outcome).record, ""
    except RunError as error:
        return None, str(error)


def scores_on_test_split(directory: RunDirectory) -> dict[str, float]:
    """Return the scores of a run on the test split by name, without those of classes that have no test row."""
    record, test = directory.record, directory.predictions("test")
    scores = score(test.labels, test.logits.argmax(axis=1), len(record.class_names))
    totals = {
        "test_accuracy": scores.accuracy,
        "test_balanced_accuracy": scores.balanced_accuracy,
        "test_macro_f1": scores.macro_f1,
        "test_loss": record.test_loss,
    }
    of_classes = {
        f"test_{name}/{class_name}": float(share)
        for name in ("recall", "precision", "f1")
        for class_name, share in zip(record.class_names, getattr(scores, name), strict=True)
    }
    return {name: value for name, value in (totals | of_classes).items() if value == value}


def reason(error: BaseException) -> str:
    """Return why something stopped, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
