"""Checks of trackers: hooks that exist, and the events of a comparison and of a single run, made of real records."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.declarations import Tracker
from fer_augment.hooks.observers import Observers
from fer_augment.testing.finished_runs import finished_comparison
from fer_augment.testing.losses import name_faults
from fer_augment.testing.scratch import scratch_folder

Event: TypeAlias = tuple[str, dict[str, Any]]
"""A hook and its arguments."""


@dataclass(frozen=True, eq=False)
class TrackerSubject:
    """A tracker under test.

    Attributes:
        tracker: its declaration.
    """

    tracker: Tracker

    @property
    def label(self) -> str:
        """The name of the tracker."""
        return self.tracker.name

    @cached_property
    def events(self) -> list[Event]:
        """The events of a comparison of two arms; one run of the second fails."""
        return list(_events(scratch_folder(self) / "results"))

    @contextmanager
    def observers(self) -> Iterator[tuple[Observers, Path]]:
        """Make the observer in an empty folder; yield what notifies it, and the folder.

        The working directory is one that is removed, too: some servers keep files there by default.

        Raises:
            PluginError: if a package is missing, or the observer has no hook, or one that does not exist.
        """
        with tempfile.TemporaryDirectory(prefix="fer_augment_tracker_") as folder:
            out = Path(folder) / "results"
            out.mkdir()
            with contextlib.chdir(folder):
                yield Observers({self.tracker.name: self.tracker.make(out)}), out


def is_declared_as_a_tracker(subject: TrackerSubject) -> Iterator[str]:
    """The declaration has a name for recipes, a description, and a function that makes an observer."""
    yield from name_faults(subject.tracker.name)
    if not subject.tracker.summary:
        yield "add a summary; `plugins show` prints it"
    if not callable(subject.tracker.make):
        yield f"make must be a function of a directory, is a {type(subject.tracker.make).__name__}"


def makes_an_observer_with_hooks(subject: TrackerSubject) -> Iterator[str]:
    """`make(directory)` returns an object whose hooks and their arguments exist."""
    try:
        with subject.observers():
            pass
    except FerAugmentError as error:
        yield str(error)


def writes_nothing_before_the_first_event(subject: TrackerSubject) -> Iterator[str]:
    """Making the observer writes nothing, nor beside its directory: a comparison that is refused leaves no trace."""
    with subject.observers() as (_, out):
        for file in [file for file in sorted(out.parent.rglob("*")) if file != out][:1]:
            yield f"writes {os.path.relpath(file, out)} when it is made; write at the first event"


def receives_the_events_of_a_comparison(subject: TrackerSubject) -> Iterator[str]:
    """No hook raises in a comparison, with a run that fails and with recall that is unknown."""
    yield from _failures(subject, lambda event: True)


def receives_the_events_of_a_single_run(subject: TrackerSubject) -> Iterator[str]:
    """No hook raises in a run without a comparison, as of `fer-augment run --track`."""
    yield from _failures(subject, lambda event: not event[0].startswith("comparison_"))


def receives_a_comparison_again(subject: TrackerSubject) -> Iterator[str]:
    """No hook raises if the same comparison is resumed in the same directory, by a new observer."""
    with subject.observers() as (observers, out):
        for event, arguments in subject.events[: len(subject.events) // 2]:
            observers.notify(event, **arguments)
        again = Observers({subject.tracker.name: subject.tracker.make(out)})
        yield from (
            f"after an interruption: {failure}"
            for event, arguments in subject.events
            for failure in again.notify(event, **arguments)
        )


def receives_a_comparison_without_a_result(subject: TrackerSubject) -> Iterator[str]:
    """No hook raises if all runs of a comparison fail."""
    with subject.observers() as (observers, _):
        for event, arguments in subject.events[:2]:
            yield from observers.notify(event, **arguments)
        yield from observers.notify("run_failed", run=subject.events[1][1]["run"], message="interrupted")
        yield from observers.notify("comparison_failed", message="all runs failed")


def leaves_records_alone(subject: TrackerSubject) -> Iterator[str]:
    """What the hooks receive is not modified, as other trackers receive it, too."""
    fresh = TrackerSubject(subject.tracker)  # its events were not received before
    with subject.observers() as (observers, _):
        for event, arguments in fresh.events:
            before = repr(arguments)
            observers.notify(event, **arguments)
            if repr(arguments) != before:
                yield f"{event}: an argument was modified; work on a copy"


def _failures(subject: TrackerSubject, chosen: Callable[[Event], bool]) -> Iterator[str]:
    with subject.observers() as (observers, _):
        for event, arguments in filter(chosen, subject.events):
            yield from observers.notify(event, **arguments)


def _events(folder: Path) -> Iterator[Event]:
    comparison, runs = finished_comparison(folder)
    source = comparison.data.source
    yield "comparison_started", {"recipes": [arm.recipe for arm in comparison.arms], "seeds": [0, 1], "source": source}
    for directory in runs:
        record = directory.record
        of_run = {"run": record.identity}
        class_names = record.class_names
        yield "run_started", {**of_run, "recipe": dict(record.recipe), "class_names": class_names}
        for evaluation in record.curve:
            yield "epoch_finished", {**of_run, "evaluation": evaluation, "class_names": class_names}
        if directory is runs[-1]:
            yield "run_failed", {**of_run, "message": "epoch 2: the loss is not finite"}
        else:
            scores = _scores(comparison.class_names)
            yield "run_finished", {**of_run, "record": record, "scores": scores, "directory": directory.path}
    yield "comparison_finished", {"comparison": comparison}


def _scores(class_names: tuple[str, ...]) -> Mapping[str, float]:
    totals = {"test_accuracy": 0.5, "test_balanced_accuracy": 0.45, "test_macro_f1": 0.4, "test_loss": 1.2}
    return totals | {f"test_recall/{name}": 0.5 for name in class_names}
