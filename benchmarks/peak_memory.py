"""Peak of the memory that a function allocates, in a process of its own."""

from __future__ import annotations

import multiprocessing
import re
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

STATUS = Path("/proc/self/status")
"""Has the memory of this process by kind, on Linux."""
_SECONDS_BETWEEN = 0.002


def peak_memory_of(function: Callable[..., object], *arguments: object) -> float:
    """Return the bytes that a function has allocated at its peak, in a new process.

    Pages of memory-mapped files are not counted: the system drops them when memory is needed.

    Args:
        function: can be pickled, like its arguments.
        arguments: those of the function.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, function, *arguments).result()


def _peak(function: Callable[..., object], *arguments: object) -> float:
    before = peak = _allocated()
    finished = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(_SECONDS_BETWEEN):
            peak = max(peak, _allocated())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function(*arguments)
    finally:
        finished.set()
        watcher.join()
    return float(max(peak, _allocated()) - before)


def _allocated() -> int:
    match = re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text())
    assert match, "the kernel is Linux 4.5 or later"
    return int(match[1]) * 1024
