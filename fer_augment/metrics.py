"""Scores of one set of predictions: confusion matrix, recall, precision, F1, calibration.

Legend: N rows, K classes. Everything is a pure function of the labels and of what the model said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
LogitArray = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """How well a set of predictions agrees with the labels; every number lies in `[0, 1]`.

    Attributes:
        accuracy: share of rows that are predicted right.
        balanced_accuracy: mean recall over the classes that have rows (Brodersen et al. 2010, ICPR, p. 3121).
        macro_f1: mean F1 over the classes that have rows.
        recall: `(K,) float64`, share of a class's rows that are found; NaN for a class without rows.
        precision: `(K,) float64`, share of right ones among the rows predicted as the class; 0 for a class
            that is never predicted, like scikit-learn's `zero_division=0`.
        f1: `(K,) float64`, `2 TP / (2 TP + FP + FN)`; 0 for a class that is never predicted, NaN for a class
            without rows.
        confusion: `(K, K) int64`, rows are true classes and columns are predicted ones.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    recall: FloatArray
    precision: FloatArray
    f1: FloatArray
    confusion: IntArray


def softmax(logits: LogitArray) -> FloatArray:
    """Return the class probabilities of `(N, K)` logits as `(N, K) float64`; every row sums to 1."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def without_ties(logits: NDArray[np.float32], chances: FloatArray) -> NDArray[np.float32]:
    """Raise one of several equal largest logits of a row to the next number, so that no class is favored.

    `argmax` gives all such rows to the class that happens to stand first. They are not rare: a network that ends in a
    ReLU is at 0 for every class of many rows, and bfloat16 has few numbers.

    Args:
        logits: `(N, K) float32`.
        chances: `(N,)` in [0, 1), which of its largest logits a row gets: the first at 0, the last near 1.

    Returns:
        `(N, K) float32`; the logits themselves where nothing is tied.
    """
    largest = logits == logits.max(axis=1, keepdims=True)
    ties = largest.sum(axis=1)
    rows = np.flatnonzero(ties > 1)
    if not len(rows):
        return logits
    place = np.floor(chances[rows] * ties[rows]).astype(np.int64)
    chosen = np.argmax(largest[rows].cumsum(axis=1) > place[:, None], axis=1)
    untied = logits.copy()
    untied[rows, chosen] = np.nextafter(untied[rows, chosen], np.float32(np.inf))
    return untied


def confusion_matrix(labels: IntArray, predictions: IntArray, classes: int) -> IntArray:
    """Count how often each class is predicted as each class.

    Args:
        labels: `(N,) int64` in `0 … K - 1`.
        predictions: `(N,) int64` in `0 … K - 1`.
        classes: K, the number of classes.

    Returns:
        `(K, K) int64`; row = true class, column = predicted class.

    Raises:
        ValueError: the shapes differ, or a value is not a class.
    """
    _require_classes("labels", labels, classes)
    _require_classes("predictions", predictions, classes)
    if labels.shape != predictions.shape:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} must have one shape")
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def score(labels: IntArray, predictions: IntArray, classes: int) -> Scores:
    """Score predictions against labels.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        predictions: `(N,) int64` in `0 … K - 1`.
        classes: K, the number of classes.

    Returns:
        The scores; see `Scores` for what happens to classes without rows or without predictions.

    Raises:
        ValueError: the shapes differ, there are no rows, or a value is not a class.
    """
    confusion = confusion_matrix(labels, predictions, classes)
    rows, predicted, right = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    if not len(labels):
        raise ValueError("there are no rows to score")
    present = rows > 0
    recall = _ratio(right, rows, where_undefined=np.nan)
    f1 = np.where(present, _ratio(2 * right, rows + predicted, where_undefined=0.0), np.nan)
    return Scores(
        accuracy=float(right.sum() / rows.sum()),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        recall=recall,
        precision=_ratio(right, predicted, where_undefined=0.0),
        f1=f1,
        confusion=confusion,
    )


@dataclass(frozen=True)
class CalibrationBins:
    """Rows sorted by the probability of their predicted class into B bins of equal width, for a reliability diagram.

    Attributes:
        rows: `(B,) int64`, number of rows.
        confidence: `(B,) float64`, sum of the probabilities of the predicted classes.
        right: `(B,) int64`, number of rows that are predicted right.
    """

    rows: IntArray
    confidence: FloatArray
    right: IntArray


def calibration_bins(labels: IntArray, logits: LogitArray, bins: int = 15) -> CalibrationBins:
    """Sort rows into bins by confidence; each bin is open on the left and closed on the right.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        logits: `(N, K)` floats before softmax.
        bins: the number of bins.

    Raises:
        ValueError: the shapes do not fit, there are no rows, a label is not a class, or `bins` is below 1.
    """
    _require_logits(labels, logits)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    probabilities = softmax(logits)
    confidence = probabilities.max(axis=1)
    right = logits.argmax(axis=1) == labels  # not of probabilities: they may be equal where logits are not
    bin_of_row = np.digitize(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True)
    return CalibrationBins(
        rows=np.bincount(bin_of_row, minlength=bins).astype(np.int64),
        confidence=np.bincount(bin_of_row, weights=confidence, minlength=bins).astype(np.float64),
        right=np.bincount(bin_of_row[right], minlength=bins).astype(np.int64),
    )


def expected_calibration_error(labels: IntArray, logits: LogitArray, bins: int = 15) -> float:
    """Return how far confidence is from accuracy on average, in `[0, 1]` (Guo et al. 2017, ICML, eq. 3).

    The gaps between mean confidence and accuracy in `calibration_bins` are averaged, weighted by rows.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        logits: `(N, K)` floats before softmax.
        bins: the number of bins.

    Raises:
        ValueError: the shapes do not fit, there are no rows, a label is not a class, or `bins` is below 1.
    """
    binned = calibration_bins(labels, logits, bins)
    return float(np.abs(binned.confidence - binned.right).sum() / len(labels))


def negative_log_likelihood(labels: IntArray, logits: LogitArray) -> float:
    """Return the mean of `-ln p(true class)`, in nats; 0 is perfect, `ln K` is what knowing nothing costs.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        logits: `(N, K)` floats before softmax.

    Raises:
        ValueError: the shapes do not fit, there are no rows, or a label is not a class.
    """
    _require_logits(labels, logits)
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    of_true_class = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - of_true_class).mean())


def _ratio(numerator: IntArray, denominator: IntArray, where_undefined: float) -> FloatArray:
    ratio = np.full(numerator.shape, where_undefined)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def _require_classes(name: str, values: IntArray, classes: int) -> None:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be (N,) integers, not {values.shape} {values.dtype}")
    if len(values) and not 0 <= values.min() <= values.max() < classes:
        raise ValueError(f"{name} must lie in 0 … {classes - 1}, but range from {values.min()} to {values.max()}")


def _require_logits(labels: IntArray, logits: LogitArray) -> None:
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(f"logits must be ({len(labels)}, K) to fit the labels, not {logits.shape}")
    if not len(labels):
        raise ValueError("there are no rows to score")
    _require_classes("labels", labels, logits.shape[1])
