"""Endpoints as class weights, and the distinct images of a test set.

An endpoint is a weighted sum of class recalls: the recall of one class, balanced accuracy, or accuracy.

Legend: S runs of an arm, N test rows, K classes, n distinct images, E endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CorrectArray = NDArray[np.bool_] | NDArray[np.float32] | NDArray[np.float64]

ROUNDING = 1e-13
"""Smaller than any possible difference of two endpoints: floating-point noise."""


def recall_weights(class_index: int, classes: int) -> FloatArray:
    """Return the `(K,) float64` class weights for the recall of one class."""
    if not 0 <= class_index < classes:
        raise ValueError(f"class_index must be in 0 … {classes - 1}, not {class_index}")
    weights = np.zeros(classes)
    weights[class_index] = 1.0
    return weights


def balanced_accuracy_weights(labels: IntArray, classes: int) -> FloatArray:
    """Return the `(K,) float64` class weights for balanced accuracy: mean recall over classes with rows."""
    present = (_rows_per_class(labels, classes) > 0).astype(np.float64)
    return present / float(present.sum())


def accuracy_weights(labels: IntArray, classes: int, groups: IntArray | None = None) -> FloatArray:
    """Return the `(K,) float64` class weights for accuracy.

    Args:
        labels: `(N,) int64` in `0 … K - 1`.
        classes: K, the number of classes.
        groups: `(N,) int64` duplicate groups, see `endpoint_differences`; exact duplicates then count once.
    """
    rows = _rows_per_class(labels, classes)
    if groups is not None:
        rows = _rows_per_class(np.unique(np.stack([labels, groups]), axis=1)[0], classes)
    return rows.astype(np.float64) / float(rows.sum())


# --- images


@dataclass(frozen=True)
class Images:
    """The distinct images of a test set, sorted by class: rows of one duplicate group *and* label are one image.

    Attributes:
        order: `(N,)`, positions of the rows, sorted by class and duplicate group.
        first: `(n,)`, where in `order` each image begins.
        of_class: `(K,)`, number of distinct images of each class; may be 0.
    """

    order: IntArray
    first: IntArray
    of_class: IntArray

    @classmethod
    def of(cls, labels: IntArray, classes: int, groups: IntArray | None = None) -> Images:
        """Find the images of `(N,)` rows; None for `groups` means that there are no duplicates."""
        group_of_row = np.arange(len(labels)) if groups is None else groups
        order = np.lexsort((group_of_row, labels))
        label, group = labels[order], group_of_row[order]
        is_first = np.ones(len(order), dtype=np.bool_)
        is_first[1:] = (label[1:] != label[:-1]) | (group[1:] != group[:-1])
        first = np.flatnonzero(is_first)
        of_class = np.bincount(label[first], minlength=classes)
        return cls(order.astype(np.int64), first.astype(np.int64), of_class.astype(np.int64))

    def __len__(self) -> int:
        """Number of distinct images, n."""
        return len(self.first)

    def merge(self, correct: CorrectArray) -> FloatArray:
        """Average `(..., N)` rows over the duplicates of each image: `(..., n) float64`."""
        rows = np.asarray(correct[..., self.order], dtype=np.float64)
        if len(self.first) == len(self.order):
            return rows
        rows_per_image = np.diff(self.first, append=len(self.order))
        means: FloatArray = np.add.reduceat(rows, self.first, axis=-1) / rows_per_image
        return means

    def first_rows(self, values: IntArray) -> IntArray:
        """Return the value of the first row of each image: `(..., N)` to `(..., n)`."""
        chosen: IntArray = values[..., self.order[self.first]]
        return chosen


def class_sums(values: FloatArray, of_class: IntArray) -> FloatArray:
    """Sum `(..., n)` values of images sorted by class into `(..., K)`; 0 for a class without images."""
    sums = np.zeros((*values.shape[:-1], len(of_class)))
    present = of_class > 0
    if present.any():
        sums[..., present] = np.add.reduceat(values, (np.cumsum(of_class) - of_class)[present], axis=-1)
    return sums


def class_means(values: FloatArray, of_class: IntArray) -> FloatArray:
    """Average `(..., n)` values of images sorted by class into `(..., K)`; 0 for a class without images."""
    means: FloatArray = class_sums(values, of_class) / np.maximum(of_class, 1)
    return means


def without_rounding(values: FloatArray, floor: float | FloatArray) -> FloatArray:
    """Set values within floating-point noise to 0, so that zero variance is exactly 0."""
    return np.where(np.abs(values) > floor, values, 0.0)


# --- checks


def require_labels(labels: IntArray, classes: int) -> None:
    """Raise ValueError unless labels are a vector of integers in `0 … classes - 1`."""
    if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be a vector of at least one integer, not {labels.shape} {labels.dtype}")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must be in 0 … {classes - 1}, but range from {labels.min()} to {labels.max()}")


def require_weights(class_weights: FloatArray) -> None:
    """Raise ValueError unless class weights are `(K,)` or `(E, K)`, finite, and no endpoint is all 0."""
    shaped = class_weights.ndim in (1, 2) and class_weights.size
    if not shaped or not np.isfinite(class_weights).all() or not class_weights.any(axis=-1).all():
        raise ValueError("class_weights must be one or several vectors of finite numbers, not all of them 0")


def require_correct(name: str, correct: CorrectArray, rows: int) -> None:
    """Raise ValueError unless an arm is `(S, N)`, boolean or in `[0, 1]`."""
    if correct.ndim != 2 or not len(correct) or correct.shape[1] != rows:
        raise ValueError(f"{name} must be (runs, {rows}) with at least one run, not {correct.shape}")
    if correct.dtype != np.bool_ and not (correct.min() >= 0 and correct.max() <= 1):
        raise ValueError(f"{name} must be boolean or in [0, 1]")


def require_groups(groups: IntArray | None, labels: IntArray) -> None:
    """Raise ValueError unless there is a group number for each row, or none at all."""
    if groups is not None and groups.shape != labels.shape:
        raise ValueError(f"groups must have the shape of labels, {labels.shape}, not {groups.shape}")


def _rows_per_class(labels: IntArray, classes: int) -> IntArray:
    require_labels(labels, classes)
    return np.bincount(labels, minlength=classes).astype(np.int64)
