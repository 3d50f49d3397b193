"""Progress of runs as typed events, from the code that works to whatever displays them."""

from __future__ import annotations

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
