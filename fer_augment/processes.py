"""Processor cores, and the start of other Python processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import ModuleType

_MOST_ON_WINDOWS = 60
"""There, a process waits for at most 63 others at a time."""
_ONE_THREAD = threading.Lock()
_PRELOADED = ["fer_augment.runs.performing"]
"""What all processes need; it imports torch, but no plugin."""
_OF_TRAININGS = ["torch._dynamo"]
"""What torch imports when a process creates its first optimizer, in two seconds."""


def cores() -> int:
    """Return how many processor cores this process may use; on systems without affinity, such as macOS, all cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return min(os.cpu_count() or 1, _MOST_ON_WINDOWS) if sys.platform == "win32" else os.cpu_count() or 1


@contextmanager
def without_main_module() -> Iterator[None]:
    """Keep a process that starts here from importing the script that runs now, which would start all over in it.

    Nothing that is sent to the process is defined in that script, so the script needs no `if __name__ == "__main__"`.
    """
    with _ONE_THREAD:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def start_process(target: Callable[..., None], *arguments: object, daemon: bool = False) -> BaseProcess:
    """Start a Python process that calls a function; it has the environment variables of this process.

    On Linux it is forked from a server that has imported this package and no plugin, which takes a fifth of the time of
    a new interpreter. Elsewhere forks are not safe with the libraries of the system: a new interpreter is started.

    Args:
        target: a function that can be pickled.
        arguments: those of the function; connections among them are passed on.
        daemon: whether the process ends with this one, and may not start processes; it trains nothing.
    """
    process_class = process_class_of(sys.platform, _PRELOADED if daemon else [*_PRELOADED, *_OF_TRAININGS])
    process = process_class(target=_call, args=(dict(os.environ), target, arguments), daemon=daemon)
    with without_main_module():
        process.start()
    return process


def process_class_of(platform: str, preloaded: list[str]) -> type[BaseProcess]:
    """Return how processes are started on a system, as `sys.platform` names it.

    Args:
        platform: the system.
        preloaded: modules that the server imports if this is the first process that it starts.
    """
    if platform != "linux" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn").Process
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded)
    return context.Process


def _call(environment: dict[str, str], target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)
