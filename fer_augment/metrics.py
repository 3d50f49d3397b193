"""Classification metrics: confusion matrix, recall, precision, F1 and calibration.

Shapes: N rows, K classes. All functions are pure functions of labels and predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
LogitArray = NDArray[np.float32] | NDArray[np.float64]
Floats = TypeVar("Floats", NDArray[np.float32], NDArray[np.float64])


@dataclass(frozen=True)
class Scores:
    """Metrics of one set of predictions; all but the confusion matrix are in `[0, 1]`.

    Attributes:
        accuracy: fraction of rows that are predicted correctly.
        balanced_accuracy: mean recall over the classes that have rows (Brodersen et al. 2010, ICPR, p. 3121).
        macro_f1: mean F1 over the classes that have rows.
        recall: `(K,) float64`, fraction of the rows of each class that are predicted correctly; NaN for a class
            without rows.
        precision: `(K,) float64`, fraction of the rows predicted as each class that belong to it; 0 for a class
            that is never predicted, as with scikit-learn's `zero_division=0`.
        f1: `(K,) float64`, `2 TP / (2 TP + FP + FN)`; 0 for a class that is never predicted, NaN for a class
            without rows.
        confusion: `(K, K) int64`; row = true class, column = predicted class.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    recall: FloatArray
    precision: FloatArray
    f1: FloatArray
    confusion: IntArray


def softmax(logits: LogitArray) -> FloatArray:
    """Return the class probabilities of `(N, K)` logits, `(N, K) float64`; every row sums to 1."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def without_ties(logits: Floats, chances: FloatArray) -> Floats:
    """Break ties between equal largest logits of a row at random, by raising one to the next float.

    `argmax` would assign all tied rows to the class that comes first. Ties are not rare: the logits of a network that
    ends in a ReLU are 0 for all classes of many rows, and bfloat16 has few distinct values.

    Args:
        logits: `(N, K)` floats.
        chances: `(N,)` in [0, 1), random numbers that select the raised logit: 0 the first of the tied ones, values
            near 1 the last.

    Returns:
        `(N, K)` floats; `logits` itself if there are no ties.
    """
    largest = logits == logits.max(axis=1, keepdims=True)
    ties = largest.sum(axis=1)
    rows = np.flatnonzero(ties > 1)
    if not len(rows):
        return logits
    tied_index = np.floor(chances[rows] * ties[rows]).astype(np.int64)
    chosen = np.argmax(largest[rows].cumsum(axis=1) > tied_index[:, None], axis=1)
    untied = logits.copy()
    untied[rows, chosen] = np.nextafter(untied[rows, chosen], untied.dtype.type(np.inf))
    return untied


def predicted_classes(scores: LogitArray) -> IntArray:
    """Return the class with the largest score in each row, such as its largest probability.

    Args:
        scores: `(N, K)` floats.

    Returns:
        `(N,) int64`; -1 for a row with NaN, and for one in which several classes have the largest score. `argmax` would
        return the class that comes first for these; such ties are not rare.
    """
    largest = scores == scores.max(axis=1, keepdims=True)
    return np.where(largest.sum(axis=1) == 1, largest.argmax(axis=1), -1)


def confusion_matrix(labels: IntArray, predictions: IntArray, classes: int) -> IntArray:
    """Compute the confusion matrix.

    Args:
        labels: `(N,) int64` in `0 … K - 1`.
        predictions: `(N,) int64` in `0 … K - 1`.
        classes: K, the number of classes.

    Returns:
        `(K, K) int64`; row = true class, column = predicted class.

    Raises:
        ValueError: if the shapes differ, or a value is not a class number.
    """
    _require_classes("labels", labels, classes)
    _require_classes("predictions", predictions, classes)
    if labels.shape != predictions.shape:
        raise ValueError(f"labels and predictions must have the same shape, got {labels.shape} and {predictions.shape}")
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def score(labels: IntArray, predictions: IntArray, classes: int) -> Scores:
    """Compute all scores of a set of predictions.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        predictions: `(N,) int64` in `0 … K - 1`.
        classes: K, the number of classes.

    Returns:
        The scores; see `Scores` for classes without rows or without predictions.

    Raises:
        ValueError: if the shapes differ, there are no rows, or a value is not a class number.
    """
    confusion = confusion_matrix(labels, predictions, classes)
    rows, predicted, correct = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    if not len(labels):
        raise ValueError("there are no rows to score")
    present = rows > 0
    recall = _ratio(correct, rows, where_undefined=np.nan)
    f1 = np.where(present, _ratio(2 * correct, rows + predicted, where_undefined=0.0), np.nan)
    return Scores(
        accuracy=float(correct.sum() / rows.sum()),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        recall=recall,
        precision=_ratio(correct, predicted, where_undefined=0.0),
        f1=f1,
        confusion=confusion,
    )


@dataclass(frozen=True)
class CalibrationBins:
    """Statistics of B equal-width confidence bins, for a reliability diagram.

    The confidence of a row is the probability of its predicted class.

    Attributes:
        rows: `(B,) int64`, number of rows.
        confidence: `(B,) float64`, sum of the confidence of the rows.
        right: `(B,) int64`, number of rows that are predicted correctly.
    """

    rows: IntArray
    confidence: FloatArray
    right: IntArray

    @property
    def error(self) -> float:
        """The mean absolute difference between mean confidence and accuracy of the bins, weighted by rows."""
        return float(np.abs(self.confidence - self.right).sum() / self.rows.sum())


def calibration_bins(labels: IntArray, logits: LogitArray, bins: int = 15) -> CalibrationBins:
    """Bin rows by confidence; see `binned_by_confidence`.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        logits: `(N, K)` floats before softmax.
        bins: the number of bins.

    Raises:
        ValueError: if the shapes do not match, there are no rows, a label is not a class number, or `bins` is below 1.
    """
    _require_logits(labels, logits)
    right = logits.argmax(axis=1) == labels  # not of the probabilities, which can be tied where logits are not
    return binned_by_confidence(softmax(logits).max(axis=1), right, bins)


def confidence_bins(confidence: FloatArray, bins: int = 15) -> IntArray:
    """Return the bin, from 0, of each confidence in `[0, 1]`; bins have equal width and are closed on the right.

    Raises:
        ValueError: if `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    return np.digitize(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True).astype(np.int64)


def binned_by_confidence(confidence: FloatArray, right: NDArray[np.bool_], bins: int = 15) -> CalibrationBins:
    """Bin rows by confidence; see `confidence_bins`.

    Args:
        confidence: `(N,)` in `[0, 1]`, probability of the predicted class.
        right: `(N,) bool`, whether the row is predicted correctly.
        bins: the number of bins.

    Raises:
        ValueError: if `bins` is below 1.
    """
    bin_of_row = confidence_bins(confidence, bins)
    return CalibrationBins(
        rows=np.bincount(bin_of_row, minlength=bins).astype(np.int64),
        confidence=np.bincount(bin_of_row, weights=confidence, minlength=bins).astype(np.float64),
        right=np.bincount(bin_of_row[right], minlength=bins).astype(np.int64),
    )


def expected_calibration_error(labels: IntArray, logits: LogitArray, bins: int = 15) -> float:
    """Return the expected calibration error, in `[0, 1]` (Guo et al. 2017, ICML, eq. 3).

    It is the mean absolute difference between mean confidence and accuracy over `calibration_bins`, weighted by rows.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        logits: `(N, K)` floats before softmax.
        bins: the number of bins.

    Raises:
        ValueError: if the shapes do not match, there are no rows, a label is not a class number, or `bins` is below 1.
    """
    return calibration_bins(labels, logits, bins).error


def negative_log_likelihood(labels: IntArray, logits: LogitArray) -> float:
    """Return the mean of `-ln p(true class)`, in nats; 0 is perfect, `ln K` the value of uniform probabilities.

    Args:
        labels: `(N,) int64` in `0 … K - 1`, at least one row.
        logits: `(N, K)` floats before softmax.

    Raises:
        ValueError: if the shapes do not match, there are no rows, or a label is not a class number.
    """
    return float(row_losses(labels, logits).mean())


def row_losses(labels: IntArray, logits: LogitArray) -> FloatArray:
    """Return `-ln p(true class)` of every row, `(N,) float64`; arguments and errors of `negative_log_likelihood`."""
    _require_logits(labels, logits)
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    of_true_class = shifted[np.arange(len(labels)), labels]
    losses: FloatArray = np.log(np.exp(shifted).sum(axis=1)) - of_true_class
    return losses


def _ratio(numerator: IntArray, denominator: IntArray, where_undefined: float) -> FloatArray:
    ratio = np.full(numerator.shape, where_undefined)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def _require_classes(name: str, values: IntArray, classes: int) -> None:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers of shape (N,), got {values.dtype} of shape {values.shape}")
    if len(values) and not 0 <= values.min() <= values.max() < classes:
        raise ValueError(f"{name} must be in 0 … {classes - 1}, but range from {values.min()} to {values.max()}")


def _require_logits(labels: IntArray, logits: LogitArray) -> None:
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(f"logits must have shape ({len(labels)}, K) to match the labels, got {logits.shape}")
    if not len(labels):
        raise ValueError("there are no rows to score")
    _require_classes("labels", labels, logits.shape[1])
