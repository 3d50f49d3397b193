"""Do tasks in this process or in several; progress events of all arrive in the calling process."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from fer_augment.errors import FerAugmentError, full_disk, in_one_line
from fer_augment.processes import start_process
from fer_augment.progress import Event, Report
from fer_augment.runs.task_order import TaskOrder, Waits

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
TakenT = TypeVar("TakenT", contravariant=True)
MadeT = TypeVar("MadeT", covariant=True)
_SECONDS_TO_STOP = 5.0


class Work(Protocol[TakenT, MadeT]):
    """A picklable callable that does one task; it is sent to each process once."""

    def __call__(self, task: TakenT, report: Report) -> MadeT:
        """Do a task; send progress events to `report`."""
        ...


@dataclass(frozen=True)
class FailedTask:
    """Why a task has no result.

    Attributes:
        message: one line.
        details: the traceback; empty if the process of the task died.
    """

    message: str
    details: str = ""


class Listener(Protocol[TakenT]):
    """Receives what happens to tasks, always in the calling process."""

    def started(self, task: TakenT) -> None:
        """Called when a task starts."""
        ...

    def progressed(self, task: TakenT, event: Event) -> None:
        """Called as a task progresses."""
        ...

    def ended(self, task: TakenT, outcome: object) -> None:
        """Called with the result of a task, or with its `FailedTask`."""
        ...


def do_tasks(
    work: Work[TaskT, ResultT],
    tasks: Sequence[TaskT],
    jobs: int,
    listener: Listener[TaskT],
    *,
    waits: Waits | None = None,
    isolated: bool = False,
) -> list[ResultT | FailedTask]:
    """Do all tasks; a failed task does not affect the others, not even those that wait for it.

    Args:
        work: does one task.
        tasks: started in this order, but for those that wait.
        jobs: tasks at a time; with 1 they run in the calling process.
        listener: receives what happens.
        waits: for each task the numbers of those that end before it starts; None if no task waits. Those that others
            wait for are started first.
        isolated: whether no task runs in the calling process, so that a crash of the interpreter fails one task only.

    Returns:
        The outcome of each task, in their order.
    """
    order, results = TaskOrder(waits or [()] * len(tasks)), dict[int, ResultT | FailedTask]()
    # A daemonic process, such as a worker of another pool, cannot start processes.
    if tasks and (isolated or min(jobs, len(tasks)) > 1) and not multiprocessing.current_process().daemon:
        results = _Pool(work, tasks, order, min(jobs, len(tasks)), listener).outcomes()
    else:
        while (number := order.take()) is not None:
            results[number] = _done_here(work, tasks[number], listener)
            order.end(number)
    return [results[number] for number in range(len(tasks))]


def _done_here(work: Work[TaskT, ResultT], task: TaskT, listener: Listener[TaskT]) -> ResultT | FailedTask:
    listener.started(task)
    outcome = attempt(work, task, lambda event: listener.progressed(task, event))
    listener.ended(task, outcome)
    return outcome


def attempt(work: Work[TaskT, ResultT], task: TaskT, report: Report) -> ResultT | FailedTask:
    """Do a task in this process; return its result, or a `FailedTask`."""
    try:
        return work(task, report)
    except FerAugmentError as error:
        return FailedTask(str(error), traceback.format_exc())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - any error of one task must not stop the others, SystemExit included
        message = full_disk(error) or in_one_line(error)
        return FailedTask(message, traceback.format_exc())


class _Pool(Generic[TaskT, ResultT]):
    """Processes that each do one task at a time; the calling process assigns tasks."""

    def __init__(
        self,
        work: Work[TaskT, ResultT],
        tasks: Sequence[TaskT],
        order: TaskOrder,
        jobs: int,
        listener: Listener[TaskT],
    ) -> None:
        self.work, self.tasks, self.order, self.jobs, self.listener = work, tasks, order, jobs, listener
        self.results: dict[int, ResultT | FailedTask] = {}
        self.workers: list[_Worker] = []

    def outcomes(self) -> dict[int, ResultT | FailedTask]:
        try:
            while len(self.results) < len(self.tasks):
                self._assign_tasks()
                busy = [worker.connection for worker in self.workers if worker.task is not None]
                for connection in wait(busy) if busy else ():  # it would wait forever for none
                    self._receive(next(worker for worker in self.workers if worker.connection is connection))
        finally:
            for worker in self.workers:
                worker.stop()
            for worker in self.workers:
                worker.join()
        return self.results

    def _assign_tasks(self) -> None:
        while (idle := self._idle_worker()) and (number := self.order.take()) is not None:
            self.listener.started(self.tasks[number])
            try:
                idle().assign(number, self.tasks[number])
            except OSError as error:  # the process died before it had received what it is to do
                for worker in [one for one in self.workers if one.task == number]:
                    worker.stop()
                    worker.join()
                    self.workers.remove(worker)
                self._end(number, FailedTask(f"its process could not be started ({error}); was there enough memory?"))

    def _idle_worker(self) -> Callable[[], _Worker] | None:
        """Return a function that gives an idle worker, or starts one; None if all are busy."""
        for worker in self.workers:
            if worker.task is None:
                return lambda: worker
        return self._start_worker if len(self.workers) < self.jobs else None

    def _start_worker(self) -> _Worker:
        self.workers.append(_Worker(self.work))
        return self.workers[-1]

    def _receive(self, worker: _Worker) -> None:
        number = worker.task
        assert number is not None
        try:
            kind, content = worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.join()
            content = FailedTask(
                f"its process ended with exit code {worker.process.exitcode}; was there enough memory?"
            )
            self.workers.remove(worker)
            kind = "ended"
        if kind == "progressed":
            self.listener.progressed(self.tasks[number], content)
            return
        worker.task = None
        self._end(number, content)

    def _end(self, number: int, outcome: ResultT | FailedTask) -> None:
        self.results[number] = outcome
        self.order.end(number)
        self.listener.ended(self.tasks[number], outcome)


class _Worker:
    """A process and this end of the pipe to it."""

    def __init__(self, work: Work[Any, Any]) -> None:
        self.connection, other_end = multiprocessing.Pipe()
        self.process = start_process(_serve, work, other_end)  # not daemonic: may start processes
        other_end.close()
        self.task: int | None = None

    def assign(self, number: int, task: object) -> None:
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
    """Do tasks until the other end of the pipe closes; Ctrl-C is handled by the calling process alone."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends with KeyboardInterrupt, which no task catches
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            task = connection.recv()
            outcome = attempt(work, task, lambda event: connection.send(("progressed", event)))
            connection.send(("ended", outcome))
    except (EOFError, ConnectionError):
        return
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
