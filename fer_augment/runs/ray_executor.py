"""Do tasks on a Ray cluster, or on a local one that is started for them and stopped after them.

Ray's own output is redirected to stderr. Work, tasks and results are pickled inside the cluster, so every machine needs
the same versions of this package and of what the work imports.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from fer_augment.errors import RunError
from fer_augment.processes import cores
from fer_augment.progress import Advance, Event, ignore, throttled
from fer_augment.runs.executors import FailedTask, Listener, ResultT, TaskT, Work, attempt
from fer_augment.runs.task_order import TaskOrder, Waits

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

MadeT = TypeVar("MadeT")
ADDRESS_VARIABLE = "RAY_ADDRESS"
RETRIES = 3
"""How many times a task is repeated whose process or machine was lost."""

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class Needs:
    """Resources of a running task.

    Attributes:
        threads: processor threads, Ray's `num_cpus`.
        device: `cpu`; `cuda` for a GPU; `auto` for a GPU if any machine of the cluster has one.
    """

    threads: int = 1
    device: str = "cpu"


def require_ray() -> None:
    """Import Ray, which takes a second.

    Raises:
        RunError: if it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: F401 - imported where it is used
    except ImportError as error:
        raise RunError("Ray is not installed: pip install 'fer_augment[ray]', or use --executor local") from error


def do_tasks_on_ray(
    work: Work[Any, MadeT],
    tasks: Sequence[TaskT],
    needs: Callable[[TaskT], Needs],
    listener: Listener[TaskT],
    *,
    receive: Callable[[TaskT, MadeT], ResultT],
    at_once: int | None = None,
    waits: Waits | None = None,
    send: Callable[[int, TaskT], object] = lambda number, task: task,
) -> list[ResultT | FailedTask]:
    """Do all tasks on the cluster at `$RAY_ADDRESS`, or on a local one; a failed task does not affect the others.

    An error raised by the work gives a `FailedTask` at once. A task whose process or machine is lost is repeated up to
    `RETRIES` times.

    Args:
        work: does one task; it is put into Ray's object store once.
        tasks: queued in this order.
        needs: returns the resources of a task.
        listener: receives what happens, in this process.
        receive: called in this process with each task and its result as soon as it arrives; returns the outcome, and
            an error that it raises gives a `FailedTask`.
        at_once: maximum number of tasks at a time; None for as many as the cluster has room for.
        waits: for each task the numbers of those that end before it is queued, as for `executors.do_tasks`.
        send: called in this process with number and task when it is queued; returns what the work receives.

    Returns:
        The outcome of each task, in their order.

    Raises:
        RunError: if Ray is not installed, there is no cluster at the address, or none of its machines is large enough.
    """
    require_ray()
    needed = [needs(task) for task in tasks]
    if not tasks:
        return []
    with _connected(max(need.threads for need in needed)):
        machines = _machines()
        options = [_options(need, machines) for need in needed]
        _refuse_what_fits_nowhere(options, machines)
        order = TaskOrder(waits or [()] * len(tasks))
        return _Tasks(work, tasks, order, options, listener, receive, send, at_once or len(tasks)).outcomes()


class _Tasks(Generic[TaskT, MadeT, ResultT]):
    """Tasks that are queued in the cluster, running there, or finished."""

    def __init__(
        self,
        work: Work[Any, MadeT],
        tasks: Sequence[TaskT],
        order: TaskOrder,
        options: Sequence[dict[str, int]],
        listener: Listener[TaskT],
        receive: Callable[[TaskT, MadeT], ResultT],
        send: Callable[[int, TaskT], object],
        at_once: int,
    ) -> None:
        import ray

        self.tasks, self.order, self.options, self.at_once = tasks, order, options, at_once
        self.listener, self.receive, self.send = listener, receive, send
        self.work = ray.put(work)
        # Ray's own retries are off: they repeat forever what runs out of memory. One remote function keeps the order.
        self.do = ray.remote(max_retries=0)(_do)
        self.mailbox = _mailbox()
        self.running: dict[ObjectRef[MadeT | FailedTask], int] = {}
        self.started: set[int] = set()
        self.losses: Counter[int] = Counter()
        self.results: dict[int, ResultT | FailedTask] = {}

    def outcomes(self) -> list[ResultT | FailedTask]:
        import ray

        try:
            while len(self.results) < len(self.tasks):
                self._submit()
                back, _ = ray.wait(list(self.running), timeout=_SECONDS_BETWEEN_LOOKS)
                self._read_mail()
                for reference in back:
                    self._take(reference)
        finally:
            for reference in self.running:
                ray.cancel(reference, force=True)
            ray.kill(self.mailbox)
        return [self.results[number] for number in range(len(self.tasks))]

    def _submit(self) -> None:
        while len(self.running) < self.at_once and (number := self.order.take()) is not None:
            do = self.do.options(**self.options[number])
            sent = self.send(number, self.tasks[number])
            self.running[do.remote(self.work, sent, number, self.mailbox)] = number

    def _read_mail(self) -> None:
        import ray
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):  # without its mailbox a task only reports no progress
            for number, event in ray.get(self.mailbox.fetch.remote()):
                self._start(number)
                if event and number not in self.results:
                    self.listener.progressed(self.tasks[number], event)

    def _start(self, number: int) -> None:
        if number not in self.started:
            self.started.add(number)
            self.listener.started(self.tasks[number])

    def _take(self, reference: ObjectRef[MadeT | FailedTask]) -> None:
        import ray
        from ray.exceptions import ObjectLostError, RayError, RayTaskError

        number = self.running.pop(reference)
        try:
            made = ray.get(reference)
        except RayError as error:
            if isinstance(error, RayTaskError) and not isinstance(error.cause, ObjectLostError):
                reason = f"its worker could not begin it, or send its result: {_reason(error)}"
                self._end(number, FailedTask(reason, str(error)))
            else:
                self._begin_again(number, _reason(error))
        else:
            self._end(number, made)

    def _begin_again(self, number: int, reason: str) -> None:
        self.losses[number] += 1
        if self.losses[number] > RETRIES:
            self._end(
                number, FailedTask(f"its process or machine was lost {RETRIES + 1} times; enough memory? {reason}")
            )
            return
        self.order.put_back(number)
        self._start(number)
        self.listener.progressed(self.tasks[number], Advance("lost its process, waiting for another", 0, 1))

    def _end(self, number: int, made: MadeT | FailedTask) -> None:
        task = self.tasks[number]
        self._start(number)
        outcome: ResultT | FailedTask
        if isinstance(made, FailedTask):
            outcome = made
        else:
            outcome = attempt(lambda task, report: self.receive(task, made), task, ignore)
        self.results[number] = outcome
        self.order.end(number)
        self.listener.ended(task, outcome)


class _Mailbox:
    """Collects the progress events of tasks until they are fetched."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Event | None]] = []

    def leave(self, number: int, event: Event | None) -> None:
        self.messages.append((number, event))

    def fetch(self) -> list[tuple[int, Event | None]]:
        fetched, self.messages = self.messages, []
        return fetched


def _mailbox() -> ActorHandle[_Mailbox]:
    """Create a mailbox on the machine of this process: other machines may leave the cluster."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(_Mailbox).remote()


def _do(work: Work[TaskT, MadeT], task: TaskT, number: int, mailbox: ActorHandle[_Mailbox]) -> MadeT | FailedTask:
    """Do a task in a worker of the cluster."""
    import ray

    mailbox.leave.remote(number, None)
    report = throttled(lambda event: mailbox.leave.remote(number, event), _SECONDS_BETWEEN_LOOKS)
    outcome = attempt(work, task, report)
    ray.wait([mailbox.leave.remote(number, None)], timeout=_SECONDS_TO_ANSWER)  # events arrive before the result
    return outcome


@contextmanager
def _connected(threads: int) -> Iterator[None]:
    """Connect this process to a cluster while the block runs; an existing connection is used and kept.

    Args:
        threads: minimum number of CPUs of a local cluster.

    Raises:
        RunError: if that is not possible.
    """
    import ray

    with contextlib.redirect_stdout(sys.stderr):  # Ray reports lost workers on stdout, which is for results
        if ray.is_initialized():
            yield
            return
        _connect(threads)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(threads: int) -> None:
    import ray

    address = os.environ.get(ADDRESS_VARIABLE)
    try:
        if address:
            _refuse_silence(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            cpus = max(threads, cores())
            ray.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # noqa: BLE001 - Ray raises ConnectionError, ValueError, RuntimeError, OSError and others
        what = f"{ADDRESS_VARIABLE}={address}: cannot be joined" if address else "Ray cannot be started on this machine"
        token = "if it asks for a token, set RAY_AUTH_MODE=token; " if address else ""
        raise RunError(f"{what} ({_reason(error)}); {token}--executor local needs no cluster") from error


def _refuse_silence(address: str) -> None:
    """Raise OSError at once if nothing listens at an address; Ray itself retries for minutes."""
    place = urlsplit(f"//{address.rpartition('://')[2]}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=_SECONDS_TO_ANSWER).close()


def several_machines() -> bool:
    """Whether the cluster has more than one machine; only while connected to it."""
    import ray

    return len([node for node in ray.nodes() if node["Alive"]]) > 1


def _machines() -> list[tuple[int, int]]:
    """Return the distinct pairs (CPUs, GPUs) of the machines of the cluster."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sorted({(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in resources})


def _options(needs: Needs, machines: Sequence[tuple[int, int]]) -> dict[str, int]:
    on_gpu = needs.device == "cuda" or (needs.device == "auto" and any(gpus for _, gpus in machines))
    return {"num_cpus": needs.threads, "num_gpus": int(on_gpu)}


def _refuse_what_fits_nowhere(options: Sequence[dict[str, int]], machines: Sequence[tuple[int, int]]) -> None:
    for wanted in options:
        cpus, gpus = wanted["num_cpus"], wanted["num_gpus"]
        if not any(cpus <= has_cpus and gpus <= has_gpus for has_cpus, has_gpus in machines):
            existing = ", ".join(f"{has_cpus} and {has_gpus}" for has_cpus, has_gpus in machines)
            raise RunError(
                f"a run needs {cpus} CPUs and {gpus} GPUs on one machine, and those of the Ray cluster have "
                f"{existing}; lower training.threads, set training.device, or add a machine"
            )


def _reason(error: Exception) -> str:
    """Return the first line of Ray's message."""
    cause: Any = getattr(error, "cause", None) or error
    return " ".join(str(cause).split("\n")[0].split()) or type(cause).__name__
