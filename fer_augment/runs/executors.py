"""Do independent tasks one after another or in several processes; progress from all of them comes to one place."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from fer_augment.errors import FerAugmentError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
TakenT = TypeVar("TakenT", contravariant=True)
MadeT = TypeVar("MadeT", covariant=True)
ReportTask = Callable[[str, int, int], None]
"""Called with what a task is at, how much of that is done, and how much there is."""
_SECONDS_TO_STOP = 5.0


class Work(Protocol[TakenT, MadeT]):
    """What is done with each task; it is sent to the processes once, so it has to be picklable."""

    def __call__(self, task: TakenT, report: ReportTask) -> MadeT:
        """Do a task; say how far it is."""
        ...


@dataclass(frozen=True)
class FailedTask:
    """Why a task has no result.

    Attributes:
        message: one line for people.
        details: the traceback of an error that nobody foresaw; else empty.
    """

    message: str
    details: str = ""


class Listener(Protocol[TakenT]):
    """Who is told what happens to tasks, always in the calling process."""

    def started(self, task: TakenT) -> None:
        """Called when a task begins."""
        ...

    def progressed(self, task: TakenT, what: str, done: int, total: int) -> None:
        """Called as a task goes on."""
        ...

    def ended(self, task: TakenT, outcome: object) -> None:
        """Called when a task has a result, or with the `FailedTask` that it ended in."""
        ...


def cores() -> int:
    """Return how many cores this process may use, or there are where the system does not tell: macOS does not."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_tasks(
    work: Work[TaskT, ResultT], tasks: Sequence[TaskT], jobs: int, listener: Listener[TaskT]
) -> list[ResultT | FailedTask]:
    """Do all tasks; those that fail do not take others with them.

    Args:
        work: what is done with a task.
        tasks: started in this order.
        jobs: how many at a time; with 1 they run in this very process.
        listener: told what happens.

    Returns:
        The outcome of each task, in their order.
    """
    if min(jobs, len(tasks)) <= 1:
        return [_done_here(work, task, listener) for task in tasks]
    return _Pool(work, tasks, min(jobs, len(tasks)), listener).outcomes()


def _done_here(work: Work[TaskT, ResultT], task: TaskT, listener: Listener[TaskT]) -> ResultT | FailedTask:
    listener.started(task)
    outcome = attempt(work, task, lambda what, done, total: listener.progressed(task, what, done, total))
    listener.ended(task, outcome)
    return outcome


def attempt(work: Work[TaskT, ResultT], task: TaskT, report: ReportTask) -> ResultT | FailedTask:
    """Do a task in this process; return its result, or why it has none."""
    try:
        return work(task, report)
    except FerAugmentError as error:
        return FailedTask(str(error))
    except Exception as error:  # noqa: BLE001 - one task's fault, whatever it is, is not the others'
        return FailedTask(f"{type(error).__name__}: {' '.join(str(error).split())}", traceback.format_exc())


class _Pool(Generic[TaskT, ResultT]):
    """Processes that each do one task at a time, and are told which by this one."""

    def __init__(
        self, work: Work[TaskT, ResultT], tasks: Sequence[TaskT], jobs: int, listener: Listener[TaskT]
    ) -> None:
        self.work, self.tasks, self.listener = work, tasks, listener
        self.waiting = deque(range(len(tasks)))
        self.results: dict[int, ResultT | FailedTask] = {}
        self.workers = [_Worker(work) for _ in range(jobs)]

    def outcomes(self) -> list[ResultT | FailedTask]:
        try:
            while len(self.results) < len(self.tasks):
                self._give_out_tasks()
                busy = [worker.connection for worker in self.workers if worker.task is not None]
                for connection in wait(busy):
                    self._hear(next(worker for worker in self.workers if worker.connection is connection))
        finally:
            for worker in self.workers:
                worker.stop()
            for worker in self.workers:
                worker.join()
        return [self.results[number] for number in range(len(self.tasks))]

    def _give_out_tasks(self) -> None:
        for worker in self.workers:
            if worker.task is None and self.waiting:
                number = self.waiting.popleft()
                worker.give(number, self.tasks[number])
                self.listener.started(self.tasks[number])

    def _hear(self, worker: _Worker) -> None:
        number = worker.task
        assert number is not None
        try:
            kind, told = worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.join()
            told = FailedTask(f"its process ended with exit code {worker.process.exitcode}; was there enough memory?")
            self.workers[self.workers.index(worker)] = _Worker(self.work)
            kind = "ended"
        if kind == "progressed":
            self.listener.progressed(self.tasks[number], *told)
            return
        worker.task = None
        self.results[number] = told
        self.listener.ended(self.tasks[number], told)


class _Worker:
    """A process, and this end of the pipe to it."""

    def __init__(self, work: Work[Any, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, other_end), daemon=True)
        self.process.start()
        other_end.close()
        self.task: int | None = None

    def give(self, number: int, task: object) -> None:
        self.task = number
        self.connection.send(task)

    def stop(self) -> None:
        self.process.terminate()

    def join(self) -> None:
        self.process.join(_SECONDS_TO_STOP)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _serve(work: Work[Any, Any], connection: Connection) -> None:
    """Do tasks until the other end is gone; Ctrl-C is left to the process that a person speaks to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        while True:
            task = connection.recv()
            outcome = attempt(work, task, lambda *told: connection.send(("progressed", told)))
            connection.send(("ended", outcome))
    except (EOFError, ConnectionError):
        return
