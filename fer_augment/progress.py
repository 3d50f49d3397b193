"""Progress of runs as typed events, from the code that works to whatever displays them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fer_augment.data.records import Evaluation


@dataclass(frozen=True)
class Advance:
    """Part of a run has come this far.

    Attributes:
        activity: the part, for display, such as `training, epoch 3 of 30`.
        done: units done.
        total: units in all; 0 if that is not known.
        measures_run: whether the share of this part that is done stands for the share of the run: true for the run's
            own training, false for scouts and predictions.
    """

    activity: str
    done: int
    total: int
    measures_run: bool = False


@dataclass(frozen=True)
class Cached:
    """A run or a training existed already and is used again.

    Attributes:
        name: which one, for display, such as `run` or `scout of confusion_mirror`.
    """

    name: str


@dataclass(frozen=True)
class Evaluated:
    """The curve of a run has a point, also if its training is reused.

    Attributes:
        evaluation: the point.
    """

    evaluation: Evaluation


Event: TypeAlias = Advance | Cached | Evaluated
Report: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Display nothing."""


def throttled(report: Report, seconds: float) -> Report:
    """Return a function that leaves out progress that comes sooner than `seconds` after what was reported last.

    Optimizer steps of a head take less time than reporting them to another process. The start and the end of each
    piece of work are reported always. An event goes on with the work of the one before it if it has the same total and
    more done; its activity may be another one, such as the next epoch.
    """
    last, next_time = Advance("", 0, 0), 0.0

    def sometimes(event: Event) -> None:
        nonlocal last, next_time
        if isinstance(event, Advance):
            now, goes_on = time.monotonic(), event.total == last.total and event.done > last.done
            last = event
            if goes_on and event.done != event.total and now < next_time:
                return
            next_time = now + seconds
        report(event)

    return sometimes
