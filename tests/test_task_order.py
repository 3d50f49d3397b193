"""Tasks that wait for each other: those that others wait for come first, and all are done."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_augment.progress import Report
from fer_augment.runs.executors import FailedTask, do_tasks
from fer_augment.runs.task_order import TaskOrder, duration
from tests.test_executors import Recorder

CHAIN = [(), (), (3,), (4,), ()]
"""Task 2 waits for 3, which waits for 4; 0 and 1 wait for nothing."""


def started(waits: list[tuple[int, ...]]) -> list[int]:
    """Return the order in which tasks start, one at a time."""
    order, numbers = TaskOrder(waits), []
    while (number := order.take()) is not None:
        numbers.append(number)
        order.end(number)
    return numbers


def test_the_longest_chain_comes_first_then_the_order_of_the_tasks() -> None:
    assert started([(), (), ()]) == [0, 1, 2]
    assert started(CHAIN) == [4, 3, 0, 1, 2]


def test_a_task_that_is_put_back_is_taken_again() -> None:
    order = TaskOrder([(), (0,)])
    assert (order.take(), order.take()) == (0, None)
    order.put_back(0)
    assert order.take() == 0
    order.end(0)
    assert order.take() == 1


def test_duration_of_five_scouts_and_a_run_on_two_processors() -> None:
    waits: list[tuple[int, ...]] = [(), (), (), (), (), (0, 1, 2, 3, 4)]
    assert duration(waits, [1, 1, 1, 1, 1, 1], 1) == 6
    assert duration(waits, [1, 1, 1, 1, 1, 1], 2) == 4
    assert duration(waits, [1, 1, 1, 1, 1, 1], 9) == 2
    assert duration([*waits, ()], [1, 1, 1, 1, 1, 1, 3], 2) == 5, "the run that waits for nothing fills the gap"
    assert duration([], [], 2) == 0


graphs = st.integers(0, 12).flatmap(
    lambda count: st.tuples(*(st.lists(st.integers(0, max(0, n - 1)), max_size=3 if n else 0) for n in range(count)))
)


@given(graphs, st.integers(1, 4))
def test_every_task_starts_once_after_those_that_it_waits_for(waits: list[tuple[int, ...]], at_once: int) -> None:
    numbers = started(waits)
    assert sorted(numbers) == list(range(len(waits)))
    place = {number: position for position, number in enumerate(numbers)}
    assert all(place[other] < place[number] for number, others in enumerate(waits) for other in others)
    total = duration(waits, [1.0] * len(waits), at_once)
    assert len(waits) / at_once <= total <= len(waits)


def note(task: str, report: Report) -> str:
    """Do what the name of the task says; return when it started and ended."""
    began = time.monotonic()
    if task == "fail":
        raise ValueError("no")
    if task == "leave":
        os._exit(7)
    if task == "exit":
        raise SystemExit(3)
    time.sleep(0.05)
    return f"{began} {time.monotonic()}"


@pytest.mark.parametrize("jobs", [1, 3])
def test_tasks_start_when_those_that_they_wait_for_have_ended(jobs: int) -> None:
    outcomes = do_tasks(note, list("abcde"), jobs, Recorder(), waits=CHAIN)
    times = [tuple(map(float, outcome.split())) for outcome in outcomes if isinstance(outcome, str)]
    for number, others in enumerate(CHAIN):
        assert all(times[other][1] <= times[number][0] for other in others)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failed_task_does_not_stop_those_that_wait_for_it(jobs: int) -> None:
    failed, done = do_tasks(note, ["fail", "a"], jobs, Recorder(), waits=[(), (0,)])
    assert isinstance(failed, FailedTask) and isinstance(done, str)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_isolated_task_that_ends_its_process_fails_alone(jobs: int) -> None:
    left, exits, done = do_tasks(note, ["leave", "exit", "a"], jobs, Recorder(), isolated=True)
    assert isinstance(done, str)
    assert left == FailedTask("its process ended with exit code 7; was there enough memory?")
    assert isinstance(exits, FailedTask) and exits.message == "SystemExit: 3"
