"""Significance test on a fixed test split: over new seeds *and* new test images.

Each arm is trained S times and every run is scored on the same test images, so a difference between two arms varies
with the seeds and with the images. The confidence interval has one variance and one t quantile for each of the two. A
test on images alone mistakes variation between seeds for an effect of the recipe; a test on runs alone ignores that the
test set is a sample.

Legend: S_A, S_B runs of the arms (A = baseline), N test rows, K classes, n distinct images, E endpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from fer_augment.significance.differences import Difference
from fer_augment.significance.endpoints import (
    ROUNDING,
    CorrectArray,
    FloatArray,
    Images,
    IntArray,
    class_means,
    class_sums,
    require_correct,
    require_groups,
    require_labels,
    require_weights,
    without_rounding,
)
from fer_augment.significance.intervals import Estimate, as_differences

VARIANCE_TEST_LEVEL = 0.05
"""Level of the two-sided F test for unequal run variances of two arms."""

PRIOR_DF = 2.0
"""Degrees of freedom with which the variance pooled over the classes enters the variance of each class."""


def endpoint_differences(
    baseline: CorrectArray,
    arms: Sequence[CorrectArray],
    labels: IntArray,
    class_weights: FloatArray,
    groups: IntArray | None = None,
) -> list[list[Difference]]:
    """Test the differences of several arms from a baseline on several endpoints, over new seeds and new test images.

    For an endpoint with class weights w_c let R be its value in each run, d_i the mean over runs of B minus that of A
    on image i of the n_c images of class c, and SS_c the residual sum of squares of an arm after removing image and
    run means:

        V     = var(R_a) / S_A + var(R_b) / S_B                                         (runs)
        r_c   = sum over arms of SS_c / ((n_c - 1)(S - 1)) / S                          (per image, already in V)
        V_res = sum_c w_c^2 r_c / n_c
        s2_c  = var(d_i) - r_c         per image of class c, beyond the noise of runs
        s2    = mean of s2_c, weighted by n_c - 1
        v_c   = max(0, 2 s2 + (n_c - 1) s2_c) / ((n_c + 1) n_c)
        V_i   = sum_c w_c^2 v_c                                                         (images x recipes)
        interval = delta -+ sqrt(max(t(df)^2 V, z^2 V_res) + t(df_i)^2 V_i)

    v_c shrinks the variance of a class to the one pooled over all classes, which counts as two images' worth of
    information (after Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3, 3); a class with a single image has the pooled
    variance. `df_i` is Satterthwaite's, of the sum of the w_c^2 v_c with n_c + 1 degrees of freedom each (1946,
    Biometrics Bull. 2, p. 110). `df` is S_A + S_B - 2, or that of Welch (1947, Biometrika 34, p. 28) in two cases where
    S_A + S_B - 2 is too large: if the arms have different numbers of runs (V is then not a pooled variance, and is at
    least V_res), or if a two-sided F test rejects equal run variances at the 5 % level.

    Images are paired between the arms, runs are not. Rows with the same `groups` number *and* label are exact
    duplicates of one image and count once, with the mean of their rows; duplicates with different labels count as
    different images. docs/statistics.md has the measured false positive rates.

    Args:
        baseline: `(S_A, N)` bool, or floats in `[0, 1]`: whether row i is correct in each run of the baseline.
        arms: `(S_B, N)` likewise for each of the other arms.
        labels: `(N,) int64` in `0 … K - 1`.
        class_weights: `(E, K)` finite, no row all 0; see `recall_weights`, `balanced_accuracy_weights`,
            `accuracy_weights`.
        groups: `(N,) int64` duplicate groups; None if the test set has no duplicates.

    Returns:
        For each arm, the difference on each endpoint. With one run of either arm, only `delta` is set. If a class with
        nonzero weight has no images, `delta` is None. If no class has two images, or the total variance is 0, there is
        no interval; p is then 1 if the variance and `delta` are 0, and None otherwise.

    Raises:
        ValueError: if shapes do not match, a label is out of range, or a value is not in `[0, 1]`.
    """
    weights = np.atleast_2d(np.asarray(class_weights, dtype=np.float64))
    require_weights(weights)
    statistics = arm_statistics([baseline, *arms], labels, weights.shape[1], groups)
    return pair_differences(statistics, [(0, place) for place in range(1, len(statistics))], weights)


def endpoint_difference(
    correct_a: CorrectArray,
    correct_b: CorrectArray,
    labels: IntArray,
    class_weights: FloatArray,
    groups: IntArray | None = None,
) -> Difference:
    """Test the difference of two arms on one endpoint: `endpoint_differences` with `(K,)` class weights."""
    return endpoint_differences(correct_a, [correct_b], labels, class_weights, groups)[0][0]


def arm_statistics(
    arms: Sequence[CorrectArray], labels: IntArray, classes: int, groups: IntArray | None = None
) -> list[ArmStatistics]:
    """Reduce arms to what `pair_differences` needs of them.

    Args:
        arms: `(S, N)` each, the baseline first; see `endpoint_differences`, as for the other arguments.
        labels: `(N,) int64` in `0 … K - 1`.
        classes: K.
        groups: `(N,) int64` duplicate groups.

    Raises:
        ValueError: if shapes do not match, a label is out of range, or a value is not in `[0, 1]`.
    """
    require_labels(labels, classes)
    require_groups(groups, labels)
    for place, correct in enumerate(arms):
        require_correct("arm" if place else "baseline", correct, len(labels))
    images = Images.of(labels, classes, groups)
    return [ArmStatistics.of(images.merge(correct), images.of_class) for correct in arms]


def pair_differences(
    arms: Sequence[ArmStatistics], pairs: Sequence[tuple[int, int]], class_weights: FloatArray
) -> list[list[Difference]]:
    """Test the differences of pairs of arms, the second minus the first, as `endpoint_differences` does.

    Args:
        arms: arms on the same test images, from `arm_statistics`.
        pairs: places of two arms each.
        class_weights: `(E, K)` as for `endpoint_differences`.

    Returns:
        For each pair, the difference on each endpoint.
    """
    if not pairs:
        return []
    of_class = arms[0].of_class
    involved = class_weights != 0
    estimates = [_estimated_or_delta(arms[a], arms[b], class_weights) for a, b in pairs]
    for estimate in estimates:
        estimate.delta[(involved & (of_class == 0)).any(axis=-1)] = np.nan
    return as_differences(estimates, [(arms[a].runs, arms[b].runs) for a, b in pairs], involved @ of_class)


def _estimated_or_delta(a: ArmStatistics, b: ArmStatistics, weights: FloatArray) -> Estimate:
    return estimated(a, b, weights) if min(a.runs, b.runs) > 1 else _only_delta(a, b, weights)


# --- statistics of classes; every array may have leading batch dimensions


@dataclass(frozen=True)
class ArmStatistics:
    """Sufficient statistics of an arm, for any endpoint and any other arm.

    Attributes:
        recall: `(..., S, K)`, recall of each run; 0 for a class without images.
        right: `(..., n)`, share of the runs that are correct on each image, sorted by class.
        residual: `(..., K)`, SS_c / ((n_c - 1)(S - 1)) / S: variance per image of `right` due to disagreement of runs;
            for a class with a single image, the mean over classes, weighted by n_c - 1.
        of_class: `(K,)`, number of distinct images.
    """

    recall: FloatArray
    right: FloatArray
    residual: FloatArray
    of_class: IntArray

    @classmethod
    def of(cls, correct: FloatArray, of_class: IntArray) -> ArmStatistics:
        """Reduce `(..., S, n)` images sorted by class."""
        recall, right, runs = class_means(correct, of_class), correct.mean(axis=-2), correct.shape[-2]
        around_images = class_sums(runs * correct.var(axis=-2), of_class)
        squares = around_images - runs * of_class * recall.var(axis=-2)
        squares = without_rounding(squares, 1e-12 * around_images).clip(min=0.0)
        residual = _per_degree_of_freedom(squares, of_class) / (max(runs - 1, 1) * runs)
        return cls(recall, right, residual, of_class)

    @property
    def runs(self) -> int:
        """Number of runs, S."""
        return int(self.recall.shape[-2])


def _per_degree_of_freedom(squares: FloatArray, of_class: IntArray) -> FloatArray:
    """Divide `(..., K)` sums of squares by n_c - 1; a class with fewer than two images gets the pooled value."""
    df = np.maximum(of_class - 1, 0)
    pooled = squares.sum(axis=-1, keepdims=True) / max(int(df.sum()), 1)
    return np.where(df > 0, squares / np.maximum(df, 1), pooled)


def estimated(a: ArmStatistics, b: ArmStatistics, weights: FloatArray) -> Estimate:
    """Combine the statistics of two arms into endpoints with `(E, K)` class weights: arrays of shape `(..., E)`."""
    scale = np.abs(weights).sum(axis=-1)
    floor = (ROUNDING * scale) ** 2
    of_runs_a, of_runs_b = a.recall @ weights.T, b.recall @ weights.T
    variance_a = without_rounding(of_runs_a.var(axis=-2, ddof=1), floor)
    variance_b = without_rounding(of_runs_b.var(axis=-2, ddof=1), floor)
    run_variance = variance_a / a.runs + variance_b / b.runs
    least = ((a.residual + b.residual) / np.maximum(a.of_class, 1)) @ (weights**2).T
    image_variance, image_df = _image_part(a, b, weights)
    return Estimate(
        delta=without_rounding(of_runs_b.mean(axis=-2) - of_runs_a.mean(axis=-2), ROUNDING * scale),
        run_variance=run_variance if a.runs == b.runs else np.maximum(run_variance, least),
        run_df=_run_degrees_of_freedom(variance_a, variance_b, a.runs, b.runs),
        least_run_variance=least,
        image_variance=image_variance,
        image_df=image_df,
    )


def _image_part(a: ArmStatistics, b: ArmStatistics, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the variance V_i and its degrees of freedom, both `(..., E)`."""
    of_class = a.of_class
    df = np.maximum(of_class - 1, 0)
    if not df.any():
        undefined = np.full((*a.right.shape[:-1], len(weights)), np.nan)
        return undefined, np.ones_like(undefined)
    difference = b.right - a.right
    centered = difference - np.repeat(class_means(difference, of_class), of_class, axis=-1)
    squares = class_sums(centered**2, of_class)
    squares = without_rounding(squares, ROUNDING**2 * np.maximum(of_class, 1))
    beyond = without_rounding(squares - df * (a.residual + b.residual), 1e-12 * squares)  # (n_c - 1) s2_c
    pooled = beyond.sum(axis=-1, keepdims=True) / df.sum()
    per_image = np.maximum(PRIOR_DF * pooled + beyond, 0.0) / (df + PRIOR_DF)
    parts = (per_image / np.maximum(of_class, 1))[..., None, :] * weights**2
    total = parts.sum(axis=-1)
    spread = (parts**2 / (df + PRIOR_DF)).sum(axis=-1)
    return total, np.divide(total**2, spread, out=np.ones_like(total), where=spread > 0)


def _run_degrees_of_freedom(variance_a: FloatArray, variance_b: FloatArray, runs_a: int, runs_b: int) -> FloatArray:
    pooled = np.full(np.shape(variance_a), runs_a + runs_b - 2.0)
    share_a, share_b = variance_a / runs_a, variance_b / runs_b
    welch: FloatArray = np.divide(
        (share_a + share_b) ** 2,
        share_a**2 / (runs_a - 1) + share_b**2 / (runs_b - 1),
        out=pooled.copy(),
        where=share_a + share_b > 0,
    )
    if runs_a != runs_b:
        return welch
    larger, smaller = np.maximum(variance_a, variance_b), np.minimum(variance_a, variance_b)
    ratio = np.divide(larger, smaller, out=np.where(larger > 0, np.inf, 1.0), where=smaller > 0)
    clearly_differ = fdtrc(runs_a - 1, runs_a - 1, ratio) < VARIANCE_TEST_LEVEL / 2
    return np.where(clearly_differ, welch, pooled)


def _only_delta(a: ArmStatistics, b: ArmStatistics, weights: FloatArray) -> Estimate:
    delta = (b.recall.mean(axis=-2) - a.recall.mean(axis=-2)) @ weights.T
    nothing, undefined = np.zeros_like(delta), np.full_like(delta, np.nan)
    return Estimate(delta, nothing, np.ones_like(delta), nothing, undefined, np.ones_like(delta))
