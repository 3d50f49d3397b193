"""Tasks in this process and in others: outcomes in order, faults kept apart, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fer_augment import RunError
from fer_augment.runs.executors import FailedTask, cores, do_tasks


@dataclass
class Heard:
    """Keeps what it is told."""

    events: list[tuple[object, ...]] = field(default_factory=list)

    def started(self, task):
        self.events.append(("started", task))

    def progressed(self, task, what, done, total):
        self.events.append(("progressed", task, what, done, total))

    def ended(self, task, outcome):
        self.events.append(("ended", task, outcome))


def work(task, report):
    """Do what the task says."""
    report("working", 1, 2)
    if task == "fail":
        raise RunError("it failed for a known reason")
    if task == "bug":
        raise ZeroDivisionError("nobody\nforesaw this")
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "slow":
        time.sleep(0.5)
    return task.upper()


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_outcomes_stand_in_the_order_of_the_tasks(jobs):
    heard = Heard()
    assert do_tasks(work, ["slow", "a", "b", "c"], jobs, heard) == ["SLOW", "A", "B", "C"]
    assert {event[1] for event in heard.events if event[0] == "ended"} == {"slow", "a", "b", "c"}
    for task in ("slow", "a"):
        of_task = [event for event in heard.events if event[1] == task]
        assert of_task == [("started", task), ("progressed", task, "working", 1, 2), ("ended", task, task.upper())]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_task_that_fails_does_not_take_others_with_it(jobs):
    known, a, bug, b = do_tasks(work, ["fail", "a", "bug", "b"], jobs, Heard())
    assert (a, b) == ("A", "B")
    assert known == FailedTask("it failed for a known reason")
    assert bug.message == "ZeroDivisionError: nobody foresaw this"
    assert "in work" in bug.details


def test_a_process_that_dies_fails_its_task_only():
    outcomes = do_tasks(work, ["die", "a", "b", "die", "c"], 2, Heard())
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == ["A", "B", "C"]
    assert outcomes[0].message == outcomes[3].message
    assert outcomes[0].message == "its process ended with exit code -9; was there enough memory?"


def test_no_tasks_have_no_outcomes():
    assert do_tasks(work, [], 2, Heard()) == []


_PARENT = """
import os, sys, time
from fer_augment.runs.executors import do_tasks
from tests.test_executors import Heard

def work(task, report):
    import pathlib
    pathlib.Path(sys.argv[1], f"{task}.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
        report("working", 1, 2)

if __name__ == "__main__":
    do_tasks(work, ["a", "b"], 2, Heard())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(how, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, script, tmp_path], env=environment, stderr=subprocess.DEVNULL)
    pids = [int(_awaited(tmp_path / f"{task}.pid")) for task in "ab"]
    parent.send_signal(how)
    parent.wait(timeout=30)
    deadline = time.monotonic() + 30
    while any(_is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_running(pid) for pid in pids)


def _awaited(file: Path) -> str:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return file.read_text()


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_cores_are_counted_where_the_system_does_not_tell_which_a_process_may_use(monkeypatch):
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert cores() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
