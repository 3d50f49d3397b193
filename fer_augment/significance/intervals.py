"""The interval of a difference whose variance has two parts, each with its own degrees of freedom.

One part is the variance between trainings, the other the variance between images. The squared half-width of the
interval is the sum of the squared half-widths for either part alone (Zou and Donner 2008, Statist. Med. 27, p. 1693).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isnan

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from fer_augment.significance.differences import LEVEL, POWER, Difference
from fer_augment.significance.endpoints import FloatArray, IntArray

_SMALLEST_TAIL = 1e-300
_BISECTIONS = 60  # exhaust double precision


@dataclass(frozen=True)
class Estimate:
    """Differences with the two parts of their variance; all arrays have one shape, for example `(E,)`.

    Attributes:
        delta: the differences; NaN if undefined.
        run_variance: variance between trainings.
        run_df: its degrees of freedom.
        least_run_variance: a variance between trainings that is known to exist; the squared half-width of the run part
            is at least this variance times the squared normal quantile.
        image_variance: variance between images; NaN if it cannot be estimated.
        image_df: its degrees of freedom.
    """

    delta: FloatArray
    run_variance: FloatArray
    run_df: FloatArray
    least_run_variance: FloatArray
    image_variance: FloatArray
    image_df: FloatArray

    @property
    def variance(self) -> FloatArray:
        """The variance of `delta`."""
        total: FloatArray = np.maximum(self.run_variance, self.least_run_variance) + self.image_variance
        return total


def half_width(estimate: Estimate, tail: float | FloatArray) -> FloatArray:
    """Return half the width of the interval with probability `tail` outside on either side."""
    with np.errstate(over="ignore", invalid="ignore"):
        of_runs = np.maximum(
            _squared(stdtrit(estimate.run_df, tail), estimate.run_variance),
            _squared(ndtri(tail), estimate.least_run_variance),
        )
        of_images = _squared(stdtrit(estimate.image_df, tail), estimate.image_variance)
        return np.sqrt(of_runs + of_images)


def _squared(quantile: ArrayLike, variance: FloatArray) -> FloatArray:
    return np.where(variance == 0, 0.0, np.asarray(quantile) ** 2 * variance)  # the quantile may be infinite


def p_values(estimate: Estimate) -> FloatArray:
    """Return the levels at which the intervals touch 0, by bisection on a log scale.

    NaN where a part is undefined, or where the variance is 0 but `delta` is not.
    """
    total = estimate.variance
    low = np.full(np.shape(estimate.delta), np.log(_SMALLEST_TAIL))
    high = np.full(np.shape(estimate.delta), np.log(0.5))
    distance = np.abs(estimate.delta)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        covers_zero = half_width(estimate, np.exp(middle)) >= distance
        low, high = np.where(covers_zero, middle, low), np.where(covers_zero, high, middle)
    nothing_varies = np.where(estimate.delta == 0, 1.0, np.nan)
    p = np.where(total > 0, np.minimum(2 * np.exp(high), 1.0), nothing_varies)
    return np.where(np.isnan(total) | np.isnan(estimate.delta), np.nan, p)


def as_differences(
    estimates: Sequence[Estimate], runs: Sequence[tuple[int, int]], images: IntArray, needs_runs: int = 2
) -> list[list[Difference]]:
    """Return the `Difference` of each of E endpoints, for several pairs of arms.

    Args:
        estimates: of `(E,)` endpoints, for each pair.
        runs: numbers of runs of arm A and of arm B, for each pair.
        images: `(E,)`, number of distinct images involved.
        needs_runs: see `Difference`.
    """
    if not estimates:
        return []
    columns = [np.stack([getattr(one, column.name) for one in estimates]) for column in fields(Estimate)]
    stacked = Estimate(*columns)
    delta, variance, p = stacked.delta, stacked.variance, p_values(stacked)
    half = half_width(stacked, LEVEL / 2)
    involved = images.tolist()
    return [
        [
            _difference(delta[at], variance[at], p[at], half[at], of_pair, involved[at[1]], needs_runs)
            for at in ((pair, endpoint) for endpoint in range(len(involved)))
        ]
        for pair, of_pair in enumerate(runs)
    ]


def _difference(
    delta: float, variance: float, p: float, half: float, runs: tuple[int, int], images: int, needs_runs: int
) -> Difference:
    delta, variance, p, half = map(float, (delta, variance, p, half))
    is_estimated = variance > 0 and not isnan(delta)
    return Difference(
        delta=None if isnan(delta) else delta,
        ci95=(delta - half, delta + half) if is_estimated else None,
        p=None if isnan(p) else p,
        detectable=half + float(ndtri(POWER)) * variance**0.5 if is_estimated else None,
        runs_a=runs[0],
        runs_b=runs[1],
        images=images,
        needs_runs=needs_runs,
    )
