"""How many seeds an interval of a given width takes, estimated from the runs so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_augment.significance.differences import LEVEL
from fer_augment.significance.endpoints import FloatArray
from fer_augment.significance.fixed_split import ArmStatistics, estimated
from fer_augment.significance.intervals import Estimate, half_width

MOST_RUNS = 1000
"""Numbers of runs that are considered; if more are needed, the test split is the limit."""


def runs_for_half_width(
    a: ArmStatistics, b: ArmStatistics, class_weights: FloatArray, wanted: Sequence[float]
) -> list[int | None]:
    """Estimate how many runs of each arm give intervals of certain half-widths on a fixed test split.

    The variances are those of `endpoint_differences`, taken as known: the one between runs falls with their number, the
    one between images does not.

    Args:
        a: the baseline, with at least two runs, from `arm_statistics`.
        b: the arm likewise.
        class_weights: `(K,)`, of the endpoint.
        wanted: half-widths of 95 % intervals.

    Returns:
        For each half-width the smallest number of runs, at least 2; None if no number up to `MOST_RUNS` is enough, or
        if the variance between images cannot be estimated.
    """
    estimate = estimated(a, b, class_weights[None])
    between_runs = sum(float((arm.recall @ class_weights).var(ddof=1)) for arm in (a, b))
    residual = (a.residual * a.runs + b.residual * b.runs) / np.maximum(a.of_class, 1)
    runs = np.arange(2.0, MOST_RUNS + 1)
    same = np.ones_like(runs)
    planned = Estimate(
        delta=0 * same,
        run_variance=between_runs / runs,
        run_df=2 * runs - 2,
        least_run_variance=float(residual @ class_weights**2) / runs,
        image_variance=estimate.image_variance[0] * same,
        image_df=estimate.image_df[0] * same,
    )
    half = half_width(planned, LEVEL / 2)
    return [int(runs[np.argmax(half <= limit)]) if (half <= limit).any() else None for limit in wanted]
