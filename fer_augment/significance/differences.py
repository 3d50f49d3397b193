"""Differences between two arms on an endpoint, their verdicts, and summaries of scores over runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

LEVEL = 0.05
"""Significance level of verdicts; confidence intervals cover `1 - LEVEL`."""

POWER = 0.8
"""Power of `Difference.detectable`."""


class Verdict(StrEnum):
    """Result of testing a difference; there is deliberately no value for "equal"."""

    BETTER = "better"
    WORSE = "worse"
    NO_EVIDENCE = "no evidence of a difference"
    ONE_RUN = "not tested (one run)"
    UNTESTABLE = "not testable"


@dataclass(frozen=True)
class Difference:
    """Endpoint of arm B minus the same endpoint of arm A; undefined values are None.

    Attributes:
        delta: the difference, in `[-1, 1]` for a weighted mean of recalls; None if a class with nonzero weight
            has no images.
        ci95: 95 % confidence interval of `delta` over new runs and new images; not clipped to `[-1, 1]`.
        p: two-sided p-value, the level at which the interval touches 0. None with fewer than two runs of an arm on a
            fixed test split, if the variance over images cannot be estimated, or if the variance is 0 but `delta` is
            not.
        detectable: minimum detectable effect: the smallest true difference that a test at the 5 % level, without
            correction for multiple tests, detects with 80 % power given the estimated variances: half the width
            of `ci95` plus 0.84 standard errors. None if the variance is 0.
        runs_a: number of runs of arm A; repeats in a cross-validation.
        runs_b: number of runs of arm B; repeats in a cross-validation.
        images: number of distinct images of the classes with nonzero weight.
        needs_runs: smallest number of runs of an arm with which the difference can be tested.
    """

    delta: float | None
    ci95: tuple[float, float] | None
    p: float | None
    detectable: float | None
    runs_a: int
    runs_b: int
    images: int
    needs_runs: int = 2

    def __post_init__(self) -> None:
        """Raise ValueError for inconsistent values."""
        if self.delta is None and (self.ci95, self.p, self.detectable) != (None, None, None):
            raise ValueError("ci95, p and detectable must be None where delta is None")
        if self.p is not None and not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p must be in [0, 1], not {self.p}")


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of one score over seeds, on one fixed test set.

    Attributes:
        mean: mean over runs; None if no run has the score.
        sd: sample standard deviation (divisor n - 1); None with fewer than two runs.
        n: number of runs that have the score.
        ci95: 95 % t interval of the mean over new runs on the same test set; None with fewer than two runs.
    """

    mean: float | None
    sd: float | None
    n: int
    ci95: tuple[float, float] | None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for multiple tests (Holm 1979, Scand. J. Statist. 6, p. 65).

    Args:
        p_values: in `[0, 1]`; None stays None and does not count as a hypothesis, since it can never be
            rejected.

    Returns:
        The adjusted p-values in the same order. Rejecting those below alpha keeps the probability of any false
        rejection at or below alpha.

    Raises:
        ValueError: if a value is not in `[0, 1]`.
    """
    existing = [(p, position) for position, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(sorted(existing)):
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p-values must be in [0, 1], not {p}")
        largest = max(largest, min(1.0, (len(existing) - rank) * p))
        adjusted[position] = largest
    return adjusted


def verdict(difference: Difference, p_adjusted: float | None, level: float = LEVEL) -> Verdict:
    """Return the verdict on a difference.

    Args:
        difference: the difference between an arm and its baseline.
        p_adjusted: its p-value after correction for multiple tests, see `holm`; None where `difference.p` is
            None.
        level: significance level; a difference is significant if `p_adjusted` is below it.
    """
    if difference.delta is None:
        return Verdict.UNTESTABLE
    if min(difference.runs_a, difference.runs_b) < difference.needs_runs:
        return Verdict.ONE_RUN
    if p_adjusted is None:
        return Verdict.UNTESTABLE
    if p_adjusted >= level:
        return Verdict.NO_EVIDENCE
    return Verdict.BETTER if difference.delta > 0 else Verdict.WORSE


def mean_interval(values: Sequence[float] | NDArray[np.float64]) -> Summary:
    """Summarize one score over seeds.

    Args:
        values: one score per run; NaN (recall of a class without rows) is ignored.

    Returns:
        Mean, sample standard deviation, number of runs, and the t interval of the mean over new runs. Equal
        values give an interval of zero width.

    Raises:
        ValueError: if a value is infinite.
    """
    scores = np.asarray(values, dtype=np.float64).ravel()
    scores = scores[~np.isnan(scores)]
    if np.isinf(scores).any():
        raise ValueError("scores must not be infinite")
    n = len(scores)
    if n == 0:
        return Summary(None, None, 0, None)
    mean = float(scores.mean())
    if n == 1:
        return Summary(mean, None, 1, None)
    sd = float(scores.std(ddof=1))
    half_width = -float(stdtrit(n - 1, LEVEL / 2)) * sd / n**0.5
    return Summary(mean, sd, n, (mean - half_width, mean + half_width))
