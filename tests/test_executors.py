"""Tasks in this process and in others: outcomes in order, failures isolated, no process left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fer_augment import RunError
from fer_augment.processes import cores
from fer_augment.progress import Advance
from fer_augment.runs.executors import FailedTask, attempt, do_tasks
from tests.processes import start


@dataclass
class Recorder:
    """Records the calls of a listener."""

    events: list[tuple[object, ...]] = field(default_factory=list)

    def started(self, task):
        self.events.append(("started", task))

    def progressed(self, task, event):
        self.events.append(("progressed", task, event))

    def ended(self, task, outcome):
        self.events.append(("ended", task, outcome))


WORKING = Advance("working", 1, 2)


def work(task, report):
    """Do what the name of the task says."""
    report(WORKING)
    if task == "fail":
        raise RunError("it failed for a known reason")
    if task == "bug":
        raise ZeroDivisionError("nobody\nforesaw this")
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "slow":
        time.sleep(0.5)
    return task.upper()


class Gone:
    """Something that the process that is to do the work cannot read."""

    def __reduce__(self):
        return (_refuse, ())


def _refuse():
    raise RuntimeError("the file is gone")


@dataclass
class UnreadableWork:
    """Work whose second part is too much for a pipe to hold, so that it is never read."""

    first: Gone = field(default_factory=Gone)
    second: bytes = bytes(1 << 20)

    def __call__(self, task, report):
        return task


def test_a_process_that_dies_before_it_has_its_work_fails_its_task_only():
    recorder = Recorder()
    outcomes = do_tasks(UnreadableWork(), ["a", "b"], 2, recorder, isolated=True)
    for outcome in outcomes:
        assert isinstance(outcome, FailedTask)
        assert "its process could not be started" in outcome.message or "its process ended" in outcome.message
    assert [event[:2] for event in recorder.events if event[0] == "started"] == [("started", "a"), ("started", "b")]
    assert {event[1] for event in recorder.events if event[0] == "ended"} == {"a", "b"}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_outcomes_are_in_the_order_of_the_tasks(jobs):
    recorder = Recorder()
    assert do_tasks(work, ["slow", "a", "b", "c"], jobs, recorder) == ["SLOW", "A", "B", "C"]
    assert {event[1] for event in recorder.events if event[0] == "ended"} == {"slow", "a", "b", "c"}
    for task in ("slow", "a"):
        of_task = [event for event in recorder.events if event[1] == task]
        assert of_task == [("started", task), ("progressed", task, WORKING), ("ended", task, task.upper())]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failed_task_does_not_affect_others(jobs):
    known, a, bug, b = do_tasks(work, ["fail", "a", "bug", "b"], jobs, Recorder())
    assert (a, b) == ("A", "B")
    assert known.message == "it failed for a known reason" and "in work" in known.details
    assert bug.message == "ZeroDivisionError: nobody foresaw this"
    assert "in work" in bug.details


def test_a_process_that_dies_fails_its_task_only():
    outcomes = do_tasks(work, ["die", "a", "b", "die", "c"], 2, Recorder())
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == ["A", "B", "C"]
    assert outcomes[0].message == outcomes[3].message
    assert outcomes[0].message == "its process ended with exit code -9; was there enough memory?"


def test_no_tasks_have_no_outcomes():
    assert do_tasks(work, [], 2, Recorder()) == []


_PARENT = """
import functools, pathlib, sys
from fer_augment.runs.executors import do_tasks
from tests.test_executors import Recorder, work_forever

pathlib.Path(sys.argv[1], "imported").open("a").write("x")
do_tasks(functools.partial(work_forever, folder=sys.argv[1]), ["a", "b"], 2, Recorder())
"""


def work_forever(task, report, *, folder):
    Path(folder, f"{task}.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
        report(WORKING)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(how, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    parent = start([sys.executable, script, tmp_path], env=environment, stderr=subprocess.DEVNULL)
    pids = [int(_awaited(tmp_path / f"{task}.pid")) for task in "ab"]
    assert (tmp_path / "imported").read_text() == "x", "the script ran again in the processes that it started"
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


def test_all_cores_count_on_systems_without_affinity(monkeypatch):
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert cores() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_a_full_file_system_is_named_with_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(2_500_000))

    def copy(task: int, report: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "weights"), None, str(tmp_path / "run" / "weights"))

    failed = attempt(copy, 1, lambda event: None)
    assert isinstance(failed, FailedTask) and "No space left on device" in failed.details
    assert failed.message.startswith(f"{tmp_path / 'run' / 'weights'}: the file system is full (")
    assert "MB are free, 2.5 MB are needed for this file); make room" in failed.message
