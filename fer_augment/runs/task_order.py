"""The order of tasks that wait for each other: what others wait for comes first, so that no processor is idle."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence

Waits = Sequence[Collection[int]]
"""For each task, by number, the tasks that end before it starts; they have smaller or larger numbers, but no circle."""


class TaskOrder:
    """Tells which task to start next.

    Among the tasks that wait for nothing any more, the one at the start of the longest chain of waiting tasks is first,
    then the one with the smallest number. A task that failed does not stop those that wait for it.
    """

    def __init__(self, waits: Waits) -> None:
        """Prepare the order; no task is started.

        Args:
            waits: for each task those that it waits for.
        """
        self._left = [len(set(others)) for others in waits]
        self._dependents: list[list[int]] = [[] for _ in waits]
        for number, others in enumerate(waits):
            for other in set(others):
                self._dependents[other].append(number)
        self._height = _heights(self._dependents)
        self._ready: list[tuple[int, int]] = []
        for number, left in enumerate(self._left):
            if not left:
                self.put_back(number)

    def take(self) -> int | None:
        """Return the next task to start; None if all others are started or wait."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def put_back(self, number: int) -> None:
        """Let a task be started (again)."""
        heapq.heappush(self._ready, (-self._height[number], number))

    def end(self, number: int) -> None:
        """Note that a task has ended, well or not."""
        for dependent in self._dependents[number]:
            self._left[dependent] -= 1
            if not self._left[dependent]:
                self.put_back(dependent)


def duration(waits: Waits, durations: Sequence[float], at_once: int) -> float:
    """Return how long tasks take together.

    Args:
        waits: for each task those that it waits for.
        durations: of each task.
        at_once: tasks at a time.
    """
    order, running, now = TaskOrder(waits), list[tuple[float, int]](), 0.0
    while True:
        while len(running) < at_once and (number := order.take()) is not None:
            heapq.heappush(running, (now + durations[number], number))
        if not running:
            return now
        now, number = heapq.heappop(running)
        order.end(number)


def _heights(dependents: Sequence[Sequence[int]]) -> list[int]:
    """Return for each task how many tasks the longest chain of those that wait for it has."""
    heights: dict[int, int] = {}
    for first in range(len(dependents)):
        path = [first]
        while path:
            number = path[-1]
            unknown = [other for other in dependents[number] if other not in heights]
            if unknown:
                path.append(unknown[0])
            else:
                heights[path.pop()] = 1 + max((heights[other] for other in dependents[number]), default=-1)
    return [heights[number] for number in range(len(dependents))]
