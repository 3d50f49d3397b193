"""Processor cores, and the start of other Python processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_ONE_THREAD = threading.Lock()


def cores() -> int:
    """Return how many processor cores this process may use; on systems without affinity, such as macOS, all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
