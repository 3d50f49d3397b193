"""Do independent tasks on the machines of a Ray cluster, or on a local one that lives as long as they do.

What Ray itself says goes to stderr, and only where it has to. Work, tasks and results travel as pickles inside the
cluster, so every machine needs this package, and whatever the work needs, in the same versions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from fer_augment.errors import RunError
from fer_augment.runs.executors import FailedTask, Listener, ReportTask, ResultT, TaskT, Work, attempt, cores

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

MadeT = TypeVar("MadeT")
ADDRESS_VARIABLE = "RAY_ADDRESS"
RETRIES = 3
"""How many times a task is begun again that was lost with its process or its machine."""

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class Needs:
    """What a task occupies while it runs.

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
        import ray  # noqa: F401 - whoever needs it imports it where it is needed
    except ImportError as error:
        raise RunError("Ray is not installed: pip install 'fer_augment[ray]', or leave --executor at local") from error


def do_tasks_on_ray(
    work: Work[TaskT, MadeT],
    tasks: Sequence[TaskT],
    needs: Callable[[TaskT], Needs],
    listener: Listener[TaskT],
    *,
    receive: Callable[[TaskT, MadeT], ResultT],
    at_once: int | None = None,
) -> list[ResultT | FailedTask]:
    """Do all tasks on the cluster at `$RAY_ADDRESS`, or on a local one; those that fail do not take others with them.

    An error that the work raises is a `FailedTask` at once. A task that is lost with its process or machine is begun
    again, up to `RETRIES` times.

    Args:
        work: what is done with a task; it goes into Ray's object store once.
        tasks: queued in this order.
        needs: tells what a task occupies.
        listener: told what happens, in this process.
        receive: called in this process with each task and what was made of it, as soon as it is there; what it
            returns is the outcome, and what it raises a `FailedTask`.
        at_once: how many at a time at the most; as many as the cluster has room for if None.

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
        return _Tasks(work, tasks, options, listener, receive, at_once or len(tasks)).outcomes()


class _Tasks(Generic[TaskT, MadeT, ResultT]):
    """Tasks that are queued in the cluster, run there, or are back."""

    def __init__(
        self,
        work: Work[TaskT, MadeT],
        tasks: Sequence[TaskT],
        options: Sequence[dict[str, int]],
        listener: Listener[TaskT],
        receive: Callable[[TaskT, MadeT], ResultT],
        at_once: int,
    ) -> None:
        import ray

        self.tasks, self.options, self.listener, self.receive, self.at_once = tasks, options, listener, receive, at_once
        self.work = ray.put(work)
        # Its own retries are off, as Ray retries for ever what runs out of memory. One remote function keeps the order.
        self.do = ray.remote(max_retries=0)(_do)
        self.mailbox = _mailbox()
        self.waiting = deque(range(len(tasks)))
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
        while self.waiting and len(self.running) < self.at_once:
            number = self.waiting.popleft()
            do = self.do.options(**self.options[number])
            self.running[do.remote(self.work, self.tasks[number], number, self.mailbox)] = number

    def _read_mail(self) -> None:
        import ray
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):  # without its mailbox a task is only silent
            for number, told in ray.get(self.mailbox.fetch.remote()):
                self._start(number)
                if told and number not in self.results:
                    self.listener.progressed(self.tasks[number], *told)

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
        self.waiting.appendleft(number)
        self._start(number)
        self.listener.progressed(self.tasks[number], "lost its process, waits for another", 0, 1)

    def _end(self, number: int, made: MadeT | FailedTask) -> None:
        task = self.tasks[number]
        self._start(number)
        outcome: ResultT | FailedTask
        if isinstance(made, FailedTask):
            outcome = made
        else:
            outcome = attempt(lambda task, report: self.receive(task, made), task, lambda what, done, total: None)
        self.results[number] = outcome
        self.listener.ended(task, outcome)


class _Mailbox:
    """Where tasks leave word of how far they are, until it is fetched."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, tuple[str, int, int] | None]] = []

    def leave(self, number: int, told: tuple[str, int, int] | None) -> None:
        self.messages.append((number, told))

    def fetch(self) -> list[tuple[int, tuple[str, int, int] | None]]:
        fetched, self.messages = self.messages, []
        return fetched


def _mailbox() -> ActorHandle[_Mailbox]:
    """Put a mailbox on the machine of this process, as no other machine is sure to stay."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(_Mailbox).remote()


def _do(work: Work[TaskT, MadeT], task: TaskT, number: int, mailbox: ActorHandle[_Mailbox]) -> MadeT | FailedTask:
    """Do a task in a worker of the cluster."""
    import ray

    mailbox.leave.remote(number, None)
    outcome = attempt(work, task, _reporter(number, mailbox))
    ray.wait([mailbox.leave.remote(number, None)], timeout=_SECONDS_TO_ANSWER)  # so all word of it is there before it
    return outcome


def _reporter(number: int, mailbox: ActorHandle[_Mailbox]) -> ReportTask:
    """Return what sends word of a task's progress, no more often than it is looked at."""
    last_what, next_time = "", 0.0

    def report(what: str, done: int, total: int) -> None:
        nonlocal last_what, next_time
        now = time.monotonic()
        if what != last_what or done == total or now >= next_time:
            last_what, next_time = what, now + _SECONDS_BETWEEN_LOOKS
            mailbox.leave.remote(number, (what, done, total))

    return report


@contextmanager
def _connected(threads: int) -> Iterator[None]:
    """Connect this process to a cluster while the block runs; use a connection that there is.

    Args:
        threads: what a local cluster must have at the least.

    Raises:
        RunError: if that is not possible.
    """
    import ray

    with contextlib.redirect_stdout(sys.stderr):  # Ray prints to stdout that a worker was lost; stdout is for results
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
    except Exception as error:  # noqa: BLE001 - Ray raises what it likes: ConnectionError, ValueError, RuntimeError, OSError
        what = f"{ADDRESS_VARIABLE}={address}: cannot be joined" if address else "Ray cannot be started on this machine"
        token = "if it asks for a token, set RAY_AUTH_MODE=token; " if address else ""
        raise RunError(f"{what} ({_reason(error)}); {token}--executor local needs no cluster") from error


def _refuse_silence(address: str) -> None:
    """Raise OSError at once if nothing listens at an address; Ray itself would try for minutes."""
    place = urlsplit(f"//{address.rpartition('://')[2]}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=_SECONDS_TO_ANSWER).close()


def _machines() -> list[tuple[int, int]]:
    """Return how many CPUs and GPUs the machines of the cluster have, each kind of machine once."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sorted({(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in resources})


def _options(needs: Needs, machines: Sequence[tuple[int, int]]) -> dict[str, int]:
    on_gpu = needs.device == "cuda" or (needs.device == "auto" and any(gpus for _, gpus in machines))
    return {"num_cpus": needs.threads, "num_gpus": int(on_gpu)}


def _refuse_what_fits_nowhere(options: Sequence[dict[str, int]], machines: Sequence[tuple[int, int]]) -> None:
    for asked in options:
        cpus, gpus = asked["num_cpus"], asked["num_gpus"]
        if not any(cpus <= has_cpus and gpus <= has_gpus for has_cpus, has_gpus in machines):
            there = ", ".join(f"{has_cpus} and {has_gpus}" for has_cpus, has_gpus in machines)
            raise RunError(
                f"a run needs {cpus} CPUs and {gpus} GPUs on one machine, and those of the Ray cluster have {there}; "
                "lower training.threads, set training.device, or add a machine"
            )


def _reason(error: Exception) -> str:
    """Return in one line what Ray has to say."""
    cause: Any = getattr(error, "cause", None) or error
    return " ".join(str(cause).split("\n")[0].split()) or type(cause).__name__
