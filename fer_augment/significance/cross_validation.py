"""Significance test for repeated K-fold cross-validation: over new trainings *and* new data sets.

In each of S repeats the data set is divided anew into K folds, and each image is predicted once, by a training that has
not seen it. Both arms use the same folds. Trainings that share a fold's training set and seed make errors together, so
the variance between trainings is estimated from the sums over folds; the images vary as well, both as test images and
because each of them also trains.

Legend: S repeats, N rows, K_c classes, n distinct images, E endpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_augment.significance.differences import Difference
from fer_augment.significance.endpoints import (
    ROUNDING,
    CorrectArray,
    FloatArray,
    Images,
    IntArray,
    class_means,
    require_correct,
    require_groups,
    require_labels,
    require_weights,
    without_rounding,
)
from fer_augment.significance.intervals import Estimate, as_differences

FEWEST_FOLDS = 2


def fold_differences(
    baseline: CorrectArray,
    arms: Sequence[CorrectArray],
    labels: IntArray,
    folds: IntArray,
    class_weights: FloatArray,
    groups: IntArray | None = None,
    clusters: IntArray | None = None,
) -> list[list[Difference]]:
    """Test the differences of several arms from a baseline on several endpoints, in a repeated cross-validation.

    For an endpoint with class weights w_c let D_si be correct_B - correct_A of image i in repeat s, and D_sc its mean
    over the n_c images of class c. Images that share a cluster, g, stay in one fold; class c has g_c clusters:

        delta  = sum_c w_c mean_s D_sc
        z_si   = (w_c / n_c) (D_si - D_sc)
        z_sg   = sum of sqrt(g_c / (g_c - 1)) z_si over the images of cluster g,    z_g its mean over repeats
        V_fold = K' / (K' - 1) sum_s sum_folds (sum of z_si in the fold)^2 / S^2,   K' = min(K, largest g_c involved)
        V_cell = sum_s sum_g z_sg^2 / S^2
        V_t    = max(V_fold, V_cell)                                                (trainings)
        V_d    = max(sum_g z_g^2 - sum_s sum_g (z_sg - z_g)^2 / (S (S - 1)), 0)     (images; 0 if S = 1)
        interval = delta -+ sqrt(t(S (K' - 1))^2 V_t + t(nu)^2 (2 - 1/S) V_d)

    With v_c what V_d would be for the images of class c alone, nu is (sum v_c)^2 / sum(v_c^2 / (g_c - 1)), and at most
    the number of clusters of the classes involved, less one: clusters may hold several classes. The image part counts
    twice because every image also trains; the factor was measured, see docs/statistics.md. One repeat can be tested.

    Args:
        baseline: `(S, N)` bool, or floats in `[0, 1]`: whether the out-of-fold prediction of row i is correct in each
            repeat of the baseline.
        arms: `(S, N)` likewise for each of the other arms, with the same folds.
        labels: `(N,) int64` in `0 … K_c - 1`.
        folds: `(S, N) int64`, the fold of each row in each repeat, 0 or more, in any numbering; each repeat has at
            least two folds.
        class_weights: `(E, K_c)` finite, no row all 0.
        groups: `(N,) int64` duplicate groups, see `endpoint_differences`: exact duplicates count once.
        clusters: `(N,) int64`, equal for rows that were kept in one fold, such as images of one patient; None if these
            are the exact duplicates only.

    Returns:
        For each arm, the difference on each endpoint; `runs_a` and `runs_b` are numbers of repeats. If a class with
        nonzero weight has no images, `delta` is None; if one has a single cluster, or the variance is 0, there is no
        interval, and p is 1 if the variance and `delta` are 0 and None otherwise.

    Raises:
        ValueError: if shapes do not match, a label is out of range, a value is not in `[0, 1]`, rows of a cluster are
            in several folds of a repeat, or a repeat has fewer than two folds.
    """
    weights = np.atleast_2d(np.asarray(class_weights, dtype=np.float64))
    require_weights(weights)
    require_labels(labels, weights.shape[1])
    require_groups(groups, labels)
    for name, correct in [("baseline", baseline), *(("arm", arm) for arm in arms)]:
        require_correct(name, correct, len(labels))
        if correct.shape != np.shape(folds):
            raise ValueError(f"{name} must have the shape of folds, {np.shape(folds)}, not {correct.shape}")
    layout = FoldLayout.of(labels, folds, weights.shape[1], groups, clusters)
    first = layout.images.merge(baseline)
    repeats, involved = len(folds), weights != 0
    is_absent = (involved & (layout.images.of_class == 0)).any(axis=-1)
    estimates = [estimated(layout.images.merge(arm) - first, layout, weights) for arm in arms]
    for estimate in estimates:
        estimate.delta[is_absent] = np.nan
    counts = involved @ layout.images.of_class
    return as_differences(estimates, [(repeats, repeats)] * len(arms), counts, needs_runs=1)


@dataclass(frozen=True)
class FoldLayout:
    """The distinct images of a cross-validation, their clusters, and the folds of each repeat.

    Attributes:
        images: the distinct images, sorted by class.
        labels: `(n,)`, class of each image.
        cluster: `(n,)`, cluster of each image, from 0.
        part: `(n,)`, number of the part of a cluster that has the class of each image, from 0, sorted by class.
        fold: `(S, n)`, fold of each image in each repeat, from 0.
        of_class: `(K_c,)`, number of clusters that have images of each class.
        folds: number of folds, K.
    """

    images: Images
    labels: IntArray
    cluster: IntArray
    part: IntArray
    fold: IntArray
    of_class: IntArray
    folds: int

    @classmethod
    def of(
        cls, labels: IntArray, folds: IntArray, classes: int, groups: IntArray | None, clusters: IntArray | None
    ) -> FoldLayout:
        """Find images, clusters and folds of `(N,)` rows; see `fold_differences`.

        Raises:
            ValueError: if rows of a cluster are in several folds of a repeat, or a repeat has fewer than two folds.
        """
        if clusters is None:
            clusters = np.arange(len(labels)) if groups is None else groups
        require_groups(clusters, labels)
        numbered = np.unique(clusters, return_inverse=True)[1]
        if folds.min() < 0 or min(len(np.unique(repeat)) for repeat in folds) < FEWEST_FOLDS:
            raise ValueError("folds must be numbers from 0, at least two in each repeat")
        folds = np.stack([np.unique(repeat, return_inverse=True)[1] for repeat in folds])
        first_fold = np.zeros((len(folds), numbered.max() + 1), dtype=np.int64)
        first_fold[:, numbered] = folds
        if not np.array_equal(first_fold[:, numbered], folds):
            raise ValueError("rows of one cluster must be in one fold of each repeat")
        images = Images.of(labels, classes, groups)
        label, cluster = images.first_rows(labels), images.first_rows(numbered)
        clusters_in_all = int(cluster.max()) + 1
        parts, part = np.unique(label * clusters_in_all + cluster, return_inverse=True)
        return cls(
            images=images,
            labels=label,
            cluster=cluster,
            part=part.astype(np.int64),
            fold=images.first_rows(folds),
            of_class=np.bincount(parts // clusters_in_all, minlength=classes),
            folds=int(folds.max()) + 1,
        )

    @property
    def crosses_classes(self) -> bool:
        """Whether a cluster holds images of several classes."""
        return int(self.of_class.sum()) > int(self.cluster.max()) + 1


def estimated(difference: FloatArray, layout: FoldLayout, weights: FloatArray) -> Estimate:
    """Estimate `(E,)` endpoints from `(S, n)` differences of the arms on each image, sorted by class."""
    of_class, repeats = layout.images.of_class, len(difference)
    means = class_means(difference, of_class)
    scale = np.abs(weights).sum(axis=-1)
    centered = without_rounding(difference - np.repeat(means, of_class, axis=-1), ROUNDING)
    per_image = centered / np.maximum(of_class, 1)[layout.labels]
    of_folds = _sums(per_image, layout)
    most = np.where(weights != 0, layout.of_class, 0).max(axis=-1)
    folds = np.clip(np.minimum(layout.folds, most), FEWEST_FOLDS, None)
    v_fold = folds / (folds - 1) * ((weights @ of_folds) ** 2).sum(axis=(0, 2)) / repeats**2
    v_cell, v_data, data_df = _cluster_parts(per_image, layout, weights)
    delta = without_rounding(means.mean(axis=0) @ weights.T, ROUNDING * scale)
    has_one = ((weights != 0) & (layout.of_class == 1)).any(axis=-1)
    return Estimate(
        delta=delta,
        run_variance=np.maximum(v_fold, v_cell),
        run_df=repeats * (folds - 1.0),
        least_run_variance=np.zeros_like(delta),
        image_variance=np.where(has_one, np.nan, (2 - 1 / repeats) * v_data),
        image_df=data_df,
    )


def _sums(per_image: FloatArray, layout: FoldLayout) -> FloatArray:
    """Sum `(S, n)` values over the images of each class in each fold: `(S, K_c, K)`."""
    classes = len(layout.of_class)
    cells = layout.labels * layout.folds + layout.fold
    sums = [_binned(cell, row, classes * layout.folds) for cell, row in zip(cells, per_image, strict=True)]
    return np.stack(sums).reshape(len(per_image), classes, layout.folds)


def _binned(bins: IntArray, values: FloatArray, count: int) -> FloatArray:
    return np.asarray(np.bincount(bins, values, count), dtype=np.float64)


def _cluster_parts(
    per_image: FloatArray, layout: FoldLayout, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return V_cell, V_d and the degrees of freedom of V_d, each `(E,)`."""
    clusters = layout.of_class
    corrected = per_image * np.sqrt(clusters / np.maximum(clusters - 1, 1))[layout.labels]
    label = np.repeat(np.arange(len(clusters)), clusters)
    cells, data = (_binned(label, part, len(clusters)) for part in _squares_of_clusters(corrected, layout.part))
    data = without_rounding(data, 1e-12 * cells)
    parts = np.maximum(data, 0.0) * weights**2
    spread = (parts**2 / np.maximum(clusters - 1, 1)).sum(axis=-1)
    df = np.divide(parts.sum(axis=-1) ** 2, spread, out=np.full(len(weights), np.inf), where=spread > 0)
    if not layout.crosses_classes:
        involved = (weights != 0) @ clusters
        return weights**2 @ cells, np.maximum(weights**2 @ data, 0.0), np.minimum(df, np.maximum(involved - 1, 1))
    of_endpoints = [_squares_of_clusters(corrected * own[layout.labels], layout.cluster) for own in weights]
    cells = np.array([part.sum() for part, _ in of_endpoints])
    data = without_rounding(np.array([part.sum() for _, part in of_endpoints]), 1e-12 * cells)
    involved = np.array([len(np.unique(layout.cluster[own[layout.labels] != 0])) for own in weights])
    return cells, np.maximum(data, 0.0), np.minimum(df, np.maximum(involved - 1, 1))


def _squares_of_clusters(corrected: FloatArray, cluster: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return what each of G clusters adds to V_cell and to V_d, from `(S, n)` values of images: `(G,)` each."""
    sums = np.stack([_binned(cluster, row, 0) for row in corrected])
    repeats = len(sums)
    of_cells = (sums**2).sum(axis=0) / repeats**2
    if repeats == 1:
        return of_cells, np.zeros_like(of_cells)
    mean = sums.mean(axis=0)
    around = ((sums - mean) ** 2).sum(axis=0) / (repeats * (repeats - 1))
    return of_cells, mean**2 - around
