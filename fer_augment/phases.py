"""Progress of an activity that has several phases, as one count."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with the units of one activity done and in all."""


def part_of(progress: ReportProgress, total: int, start: float, end: float) -> ReportProgress:
    """Report the progress of a phase as the share of all units between two fractions."""
    return lambda done, count: progress(int(total * (start + (end - start) * done / max(1, count))), total)


def two_phases(progress: ReportProgress, total: int, first_ends: float) -> tuple[ReportProgress, ReportProgress]:
    """Return what two phases report to: the first advances to a fraction of all units, the second from there."""
    return part_of(progress, total, 0.0, first_ends), part_of(progress, total, first_ends, 1.0)


def never_back(progress: ReportProgress) -> ReportProgress:
    """Report progress without the steps back of work that is repeated."""
    most = 0

    def report(done: int, total: int) -> None:
        nonlocal most
        most = max(most, done)
        progress(most, total)

    return report
