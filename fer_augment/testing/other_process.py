"""Run a strategy in another process, where nothing ran before and strings have other hashes.

One process serves all strategies that a process checks: it starts while the first is checked, and answers in order.
That process calls `serve`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fer_augment.errors import in_one_line
from fer_augment.hooks.strategy import Strategy
from fer_augment.hooks.strategy_files import ExecutedFile, executed_files, module_as_of
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.stages import Arrays, trial

Answer: TypeAlias = dict[tuple[str, int], Arrays]
"""The results of a strategy by stage and seed."""
_CLASSES = 7
HASH_SEEDS = ("4242", "2424")
"""Values of PYTHONHASHSEED; the other process has one that this process does not have."""


@dataclass(frozen=True)
class Request:
    """What the other process is asked to do: run all stages with all seeds, in this order, on data of seven classes.

    It is small: while the other process writes a large answer, it does not read.

    Attributes:
        strategy_class: the class.
        parameters: its parameters.
        stages: the stages.
        channels: 1 for gray images, 3 for color.
        seeds: the seeds of the runs.
    """

    strategy_class: type[Strategy]
    parameters: Mapping[str, Any]
    stages: tuple[str, ...]
    channels: int
    seeds: tuple[int, ...]

    def answered(self) -> Answer:
        """Return the results by stage and seed."""
        data = tiny_dataset(self.channels, classes=_CLASSES)
        return {
            (stage, seed): trial(self.strategy_class(**self.parameters), stage, data, seed=seed)
            for seed in self.seeds
            for stage in self.stages
        }


@dataclass(eq=False)
class OtherProcess:
    """The process, and the answers that it has given."""

    process: subprocess.Popen[bytes]
    sent: int = 0
    answers: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def started(cls) -> OtherProcess:
        """Start the process; it takes a second or two until it can answer."""
        here = os.environ.get("PYTHONHASHSEED")
        hash_seed = next(seed for seed in HASH_SEEDS if seed != here)
        folders = os.pathsep.join(folder or "." for folder in sys.path)
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],  # with -m, runpy would warn
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": folders},
        )
        started = cls(process)
        atexit.register(started.stop)
        return started

    def send(self, request: Request) -> int | None:
        """Send a request; return its number, or None if the class cannot be found in another process."""
        try:
            message = pickle.dumps((executed_files([request.strategy_class]), pickle.dumps(request)))
        except Exception:  # noqa: BLE001 - a class of a function or a notebook; pickle raises many kinds of errors
            return None
        assert self.process.stdin
        self.process.stdin.write(message)
        self.process.stdin.flush()
        self.sent += 1
        return self.sent

    def receive(self, number: int) -> Answer | str | None:
        """Return the answer to a request, once: results, the message of an error, or None if there was no such class.

        Raises:
            EOFError: if the process died.
        """
        assert self.process.stdout
        while number not in self.answers:
            try:
                self.answers[len(self.answers) + 1] = pickle.load(self.process.stdout)
            except (EOFError, pickle.UnpicklingError) as error:
                self.process.wait()
                raise EOFError("the process ended") from error
        answer: Answer | str | None = self.answers[number]
        self.answers[number] = None
        return answer

    def stop(self, seconds: float = 5) -> None:
        """Let the process end, which removes its temporary folders; terminate it after some seconds."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait()


_running: list[OtherProcess] = []


def other_process() -> OtherProcess:
    """Return the other process; start it if it is not running."""
    if not _running or _running[0].process.poll() is not None:
        _running[:] = [OtherProcess.started()]
    return _running[0]


def serve() -> None:
    """Answer the requests in stdin, to stdout."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what plugins print must not mix with answers
    while True:
        try:
            files, message = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_answer(files, message), answers)
        answers.flush()


def _answer(files: list[ExecutedFile], message: bytes) -> Any:
    try:
        for file in files:
            module_as_of(file)
        request: Request = pickle.loads(message)
    except BaseException:  # noqa: BLE001 - importing a plugin may raise anything
        return None
    try:
        return request.answered()
    except BaseException as error:  # noqa: BLE001 - a strategy may raise anything, SystemExit included
        return in_one_line(error)
