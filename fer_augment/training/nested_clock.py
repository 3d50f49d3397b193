"""Measures trainings that contain other trainings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

ResultT = TypeVar("ResultT")


@dataclass
class NestedClock:
    """Measures each training without the trainings of scouts and first stages that happen inside it.

    Attributes:
        nested: seconds spent in finished trainings so far.
    """

    nested: float = 0.0

    def start(self) -> Callable[[], float]:
        """Return a function that gives the seconds from now on, less those spent in nested trainings."""
        started = time.monotonic() - self.nested
        return lambda: time.monotonic() - self.nested - started

    def wait_for(self, work: Callable[[], ResultT]) -> ResultT:
        """Do a training, or other work that several trainings share; from then on all of its time counts as nested."""
        nested, started = self.nested, time.monotonic()
        result = work()
        self.nested = nested + time.monotonic() - started
        return result
