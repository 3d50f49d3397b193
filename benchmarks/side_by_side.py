"""Measure fer_augment and an alternative alternately, so that other load on the machine affects both."""

from __future__ import annotations

import multiprocessing
import resource
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.pairs import Pairs


def children_time() -> float:
    """Return the CPU seconds in user mode of all child processes that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


_MEASURES = {time.perf_counter: "wall time", time.process_time: "CPU time", children_time: "CPU time"}


class InSubprocess:
    """An alternative that runs in a process of its own, since fer_augment changes settings of its process.

    Each call starts a new process, since the memory layout makes some processes a third faster than others. A call
    returns the CPU seconds of the second execution in that process, on one thread.
    """

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        """Store the function and its arguments; both must be picklable."""
        self._function, self._arguments = function, arguments

    def __call__(self) -> float:
        """Run the function in a new process; return its CPU seconds."""
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_cpu_seconds_of, self._function, *self._arguments).result()


def _cpu_seconds_of(function: Callable[..., object], *arguments: object) -> float:
    torch.set_num_threads(1)
    function(*arguments)
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


class SideBySide:
    """Time fer_augment with pytest-benchmark and the alternative directly before each round; store the pairs in JSON.

    The clock is the timer of the benchmark: CPU time unless a mark sets another, as it is affected least by other load.
    """

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        """Start without measurements."""
        self.benchmark = benchmark
        self.benchmark.extra_info["pairs"] = []

    def __call__(
        self,
        task: str,
        *,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        alternative: str,
        n: int = 7,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Measure n pairs after one warm-up pair; with `--benchmark-disable`, only run both sides once.

        Args:
            task: the task, for display.
            ours: does the task with fer_augment.
            theirs: does the task with the alternative; an `InSubprocess` measures its own time.
            alternative: the alternative, for display.
            n: number of pairs.
            at_least: target for the ratio; None for no target.
            at_most: target for our time in seconds; None for no target.
        """
        if self.benchmark.disabled:
            theirs()
            self.benchmark(ours)
            return
        times: list[float] = []

        def time_alternative() -> None:
            start = self._clock()
            result = theirs()
            elapsed = self._clock() - start
            times.append(result if isinstance(theirs, InSubprocess) and isinstance(result, float) else elapsed)

        self.benchmark.pedantic(ours, setup=time_alternative, rounds=n, warmup_rounds=1)
        our_times = self.benchmark.stats.stats.data
        measure = _MEASURES[self._clock]
        self._keep(Pairs(task, alternative, measure, tuple(our_times), tuple(times[1:]), at_least, at_most))

    def memory(
        self,
        task: str,
        *,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        alternative: str,
        at_most: float | None = None,
    ) -> None:
        """Measure the peak of additional allocations of both once, since it does not vary.

        Call it after the timing. `at_most` is in bytes.
        """
        self._keep(Pairs(task, alternative, "memory", (_peak(ours),), (_peak(theirs),), at_most=at_most))

    def measured_memory(
        self, task: str, *, ours: Callable[[], float], theirs: Callable[[], float], alternative: str
    ) -> None:
        """Store a peak of memory, in bytes, that both sides measure themselves, once."""
        other = theirs()
        self._keep(Pairs(task, alternative, "memory", (self.benchmark.pedantic(ours),), (other,)))

    @property
    def _clock(self) -> Callable[[], float]:
        clock: Callable[[], float] = self.benchmark.stats.options["timer"]
        return clock

    def _keep(self, pairs: Pairs) -> None:
        self.benchmark.extra_info["pairs"].append(pairs.as_json())


def _peak(function: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        function()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
