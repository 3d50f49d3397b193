"""How many seeds an interval of a given width takes, estimated from the runs so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_augment.significance.differences import LEVEL
from fer_augment.significance.endpoints import FloatArray, class_means, class_sums
from fer_augment.significance.fixed_split import PRIOR_DF, ArmStatistics, estimated
from fer_augment.significance.intervals import Estimate, half_width

MOST_RUNS = 1000
"""Numbers of runs that are considered; if more are needed, the test split is the limit."""


def runs_for_half_width(
    a: ArmStatistics, b: ArmStatistics, class_weights: FloatArray, wanted: Sequence[float], image_errors: float = 0.0
) -> list[int | None]:
    """Estimate how many runs of each arm give intervals of certain half-widths on a fixed test split.

    The variances are those of `endpoint_differences`, taken as known: the one between runs falls with their number, the
    one between images does not. The degrees of freedom are Welch's if they are in the test of the runs so far.

    Args:
        a: the baseline, with at least two runs, from `arm_statistics`.
        b: the arm likewise.
        class_weights: `(K,)`, of the endpoint.
        wanted: half-widths of 95 % intervals.
        image_errors: how many of its standard errors are added to the variance between images, which stays at 0 or
            more. On a small test split, this variance is often estimated as 0 by chance, and seeds alone then seem to
            give any precision; or as too large, and no number of seeds then seems to be enough.

    Returns:
        For each half-width the smallest number of runs, at least 2, and more than there are if the present interval is
        wider; None if no number up to `MOST_RUNS` is enough, or if the variance between images cannot be estimated.
    """
    estimate = estimated(a, b, class_weights[None])
    of_arms = np.array([(arm.recall @ class_weights).var(ddof=1) for arm in (a, b)])
    between_runs = float(of_arms.sum())
    is_pooled = estimate.run_df[0] == a.runs + b.runs - 2
    df_per_run = 2.0 if is_pooled else between_runs**2 / float((of_arms**2).sum())
    residual = (a.residual * a.runs + b.residual * b.runs) / np.maximum(a.of_class, 1)
    of_images = estimate.image_variance[0] + image_errors * _image_error(a, b, class_weights)
    runs = np.arange(2.0, MOST_RUNS + 1)
    same = np.ones_like(runs)
    planned = Estimate(
        delta=0 * same,
        run_variance=between_runs / runs,
        run_df=df_per_run * (runs - 1),
        least_run_variance=float(residual @ class_weights**2) / runs,
        image_variance=np.maximum(of_images, 0.0) * same,
        image_df=estimate.image_df[0] * same,
    )
    half, present = half_width(planned, LEVEL / 2), float(half_width(estimate, LEVEL / 2)[0])
    needed = []
    for limit in wanted:
        enough = (half <= limit) & (runs > (max(a.runs, b.runs) if limit < present else 0))
        needed.append(int(runs[np.argmax(enough)]) if enough.any() else None)
    return needed


def _image_error(a: ArmStatistics, b: ArmStatistics, class_weights: FloatArray) -> float:
    """Return the approximate standard error of the variance between images, from that of a variance per class."""
    difference = b.right - a.right
    labels = np.repeat(np.arange(len(a.of_class)), a.of_class)
    centered = difference - class_means(difference, a.of_class)[labels]
    df = np.maximum(a.of_class - 1, 0) + PRIOR_DF
    squares = class_sums(centered**2, a.of_class)
    per_image = (squares + PRIOR_DF * (a.residual + b.residual)) / df
    errors = class_weights**2 * per_image / np.maximum(a.of_class, 1) * np.sqrt(2 / df)
    return float(np.sqrt((errors**2).sum()))
