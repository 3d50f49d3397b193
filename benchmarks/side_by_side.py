"""Measuring ours and the peer in turn, so that whatever else the machine does hits both."""

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
    """Return the CPU seconds in user mode of all processes that were started and have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


_MEASURES = {time.perf_counter: "wall time", time.process_time: "CPU time", children_time: "CPU time"}


class Elsewhere:
    """A peer in a process of its own, as a user would run it: ours changes settings of the process that it runs in.

    Each call takes a new process, since how memory happens to lie makes one a third faster than another. It gives the
    processor seconds that the peer takes there on one thread, when it acts for the second time.
    """

    def __init__(self, act: Callable[..., object], *arguments: object) -> None:
        """Remember what is done; both the function and its arguments are sent to the process."""
        self._act, self._arguments = act, arguments

    def __call__(self) -> float:
        """Act."""
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_seconds_of, self._act, *self._arguments).result()


def _seconds_of(act: Callable[..., object], *arguments: object) -> float:
    torch.set_num_threads(1)
    act(*arguments)
    start = time.process_time()
    act(*arguments)
    return time.process_time() - start


class SideBySide:
    """Times ours by pytest-benchmark, and the peer right before each time; keeps the pairs in its JSON.

    The clock is the benchmark's timer: processor time unless a mark says otherwise, as others who use the machine
    disturb it least.
    """

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        """Begin without a measurement."""
        self.benchmark = benchmark
        self.benchmark.extra_info["pairs"] = []

    def __call__(
        self,
        what: str,
        *,
        ours: Callable[[], object],
        peer: Callable[[], object],
        peer_is: str,
        n: int = 7,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Pairs:
        """Measure n pairs, after one that does not count.

        Args:
            what: what is done, for people.
            ours: does it our way.
            peer: does it as a user would without us; an `Elsewhere` times itself.
            peer_is: what that way is, for people.
            n: number of pairs.
            at_least: the ratio that is aimed at.
            at_most: the most seconds of ours that are aimed at.
        """
        of_peer: list[float] = []

        def time_peer() -> None:
            start = self._clock()
            told = peer()
            took = self._clock() - start
            of_peer.append(told if isinstance(peer, Elsewhere) and isinstance(told, float) else took)

        self.benchmark.pedantic(ours, setup=time_peer, rounds=n, warmup_rounds=1)
        of_ours = self.benchmark.stats.stats.data
        measure = _MEASURES[self._clock]
        return self._keep(Pairs(what, peer_is, measure, tuple(of_ours), tuple(of_peer[1:]), at_least, at_most))

    def memory(
        self,
        what: str,
        *,
        ours: Callable[[], object],
        peer: Callable[[], object],
        peer_is: str,
        at_most: float | None = None,
    ) -> Pairs:
        """Measure the peak of the memory that each way allocates in addition; once, as it does not vary.

        Call it after the timing. `at_most` is in bytes.
        """
        return self._keep(Pairs(what, peer_is, "memory", (_peak(ours),), (_peak(peer),), at_most=at_most))

    @property
    def _clock(self) -> Callable[[], float]:
        clock: Callable[[], float] = self.benchmark.stats.options["timer"]
        return clock

    def _keep(self, pairs: Pairs) -> Pairs:
        self.benchmark.extra_info["pairs"].append(pairs.as_json())
        return pairs


def _peak(act: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        act()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
