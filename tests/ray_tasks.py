"""Tasks for tests of the executor on Ray; workers import this module, so that it loads nothing slow."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from fer_augment import RunError
from fer_augment.progress import Advance

WORKING = Advance("working", 1, 2)


def work(task: str, report: Any, *, folder: Path) -> str:
    """Do what the name of the task says, and record that it was done."""
    report(WORKING)
    with (folder / task).open("a") as file:
        file.write("done\n")
    if task == "fail":
        raise RunError("it failed for a known reason")
    if task == "bug":
        raise ZeroDivisionError("nobody\nforesaw this")
    if task == "die" or (task == "die once" and times_done(folder, task) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return task.upper()


def times_done(folder: Path, task: str) -> int:
    return len((folder / task).read_text().splitlines())


def node_of(task: str, report: Any) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
