"""Metrics, compared with hand-computed values and with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics as sklearn_metrics

from fer_augment.metrics import (
    calibration_bins,
    confusion_matrix,
    expected_calibration_error,
    negative_log_likelihood,
    predicted_classes,
    score,
    softmax,
    without_ties,
)

RNG = np.random.default_rng(0)
LABELS = RNG.choice(7, size=500, p=[0.3, 0.02, 0.18, 0.2, 0.1, 0.1, 0.1])
LOGITS = (RNG.normal(size=(500, 7)) + 2 * np.eye(7)[LABELS]).astype(np.float32)
PREDICTIONS = LOGITS.argmax(axis=1)


def test_scores_equal_hand_computed_values():
    scores = score(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0]), classes=2)

    assert_array_equal(scores.confusion, [[3, 1], [1, 1]])
    assert scores.accuracy == 4 / 6
    assert_allclose(scores.recall, [3 / 4, 1 / 2])
    assert_allclose(scores.precision, [3 / 4, 1 / 2])
    assert_allclose(scores.f1, [3 / 4, 1 / 2])
    assert scores.balanced_accuracy == scores.macro_f1 == 5 / 8


def test_scores_agree_with_scikit_learn():
    scores = score(LABELS, PREDICTIONS, classes=7)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(LABELS, PREDICTIONS)

    assert_array_equal(scores.confusion, sklearn_metrics.confusion_matrix(LABELS, PREDICTIONS))
    assert_allclose(scores.recall, recall)
    assert_allclose(scores.precision, precision)
    assert_allclose(scores.f1, f1)
    assert_allclose(scores.accuracy, sklearn_metrics.accuracy_score(LABELS, PREDICTIONS))
    assert_allclose(scores.balanced_accuracy, sklearn_metrics.balanced_accuracy_score(LABELS, PREDICTIONS))
    assert_allclose(scores.macro_f1, sklearn_metrics.f1_score(LABELS, PREDICTIONS, average="macro"))


def test_rows_of_the_confusion_matrix_are_true_classes():
    assert_array_equal(
        confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 0]), classes=3),
        [[0, 2, 0], [0, 0, 0], [1, 0, 0]],
    )


def test_classes_without_rows_have_recall_nan_and_are_excluded_from_means():
    scores = score(np.array([0, 0, 1]), np.array([0, 2, 1]), classes=3)

    assert_array_equal(scores.recall, [0.5, 1.0, np.nan])
    assert_array_equal(scores.precision, [1.0, 1.0, 0.0])
    assert_allclose(scores.f1, [2 / 3, 1.0, np.nan])
    assert scores.balanced_accuracy == 0.75
    assert_allclose(scores.macro_f1, 5 / 6)


def test_classes_never_predicted_have_precision_and_f1_0_like_scikit_learn():
    labels, predictions = np.array([0, 0, 1]), np.array([0, 0, 0])
    scores = score(labels, predictions, classes=2)

    precision, _, f1, _ = sklearn_metrics.precision_recall_fscore_support(labels, predictions, zero_division=0)
    assert_allclose(scores.precision, precision)
    assert_allclose(scores.f1, f1)
    assert scores.precision[1] == scores.f1[1] == scores.recall[1] == 0.0


def test_softmax_gives_probabilities_and_does_not_overflow():
    probabilities = softmax(np.array([[0.0, np.log(3.0)], [3e38, -3e38]], dtype=np.float32))

    assert_allclose(probabilities, [[0.25, 0.75], [1.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(("chance", "chosen"), [(0.0, 0), (0.33, 0), (0.34, 2), (0.66, 2), (0.67, 3), (1 - 2**-53, 3)])
@pytest.mark.parametrize("largest", [0.0, 3.0, -1e-30, 1e30])
def test_ties_are_broken_by_the_random_number_of_the_row(chance: float, chosen: int, largest: float):
    logits = np.array([[largest, 2 * -abs(largest) - 1, largest, largest]], dtype=np.float32)
    before = logits.copy()

    untied = without_ties(logits, np.array([chance]))

    assert untied.argmax() == chosen
    assert untied.dtype == np.float32
    assert_array_equal(np.flatnonzero(untied != logits), [chosen])
    assert_allclose(untied, logits, rtol=1e-6, atol=1e-44)
    assert_array_equal(logits, before)


def test_rows_with_ties_or_nan_have_no_predicted_class():
    scores = [[0.2, 0.5, 0.3], [0.0, 0.0, 0.0], [0.4, 0.2, 0.4], [0.1, 0.1, 0.8], [np.nan] * 3, [1.0, np.nan, 0.0]]
    assert predicted_classes(np.array(scores, np.float32)).tolist() == [1, -1, -1, 2, -1, -1]


def test_logits_without_ties_for_the_largest_are_unchanged():
    logits = np.array([[1, 0, 0], [-2, -3, -2.5], [np.nan, 1, 1]], dtype=np.float32)

    assert_array_equal(without_ties(logits, np.full(3, 0.9)), logits)


def test_calibration_uses_predictions_after_tie_breaking():
    untied = without_ties(np.zeros((2, 2), np.float32), np.array([0.1, 0.9]))

    assert calibration_bins(np.array([0, 1]), untied).right.sum() == 2


def test_negative_log_likelihood_agrees_with_scikit_learn_and_is_log_k_for_uniform_probabilities():
    expected = sklearn_metrics.log_loss(LABELS, softmax(LOGITS), labels=range(7))

    assert_allclose(negative_log_likelihood(LABELS, LOGITS), expected)
    assert_allclose(negative_log_likelihood(LABELS, np.zeros((500, 7))), np.log(7))


def test_negative_log_likelihood_of_a_confident_error_is_finite():
    assert negative_log_likelihood(np.array([1]), np.array([[1000.0, 0.0]], dtype=np.float32)) == 1000.0


def test_calibration_error_equals_a_hand_computed_value():
    # four rows with confidence 0.9, three of them correct, and one correct row with confidence 0.6
    logits = np.log(np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]]))
    labels = np.array([0, 0, 0, 1, 1])

    assert_allclose(expected_calibration_error(labels, logits), (4 * 0.15 + 1 * 0.4) / 5)


def test_calibration_bins_equal_hand_computed_values():
    logits = np.log(np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]]))
    binned = calibration_bins(np.array([0, 0, 0, 1, 1]), logits, bins=10)

    assert_array_equal(np.flatnonzero(binned.rows), [5, 8])
    assert_array_equal(binned.rows[[5, 8]], [1, 4])
    assert_array_equal(binned.right[[5, 8]], [1, 3])
    assert_allclose(binned.confidence[[5, 8]], [0.6, 3.6])


def test_calibration_error_agrees_with_a_loop_over_bins():
    probabilities = softmax(LOGITS)
    confidence, correct = probabilities.max(axis=1), PREDICTIONS == LABELS
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())

    assert_allclose(expected_calibration_error(LABELS, LOGITS), expected)


def test_a_confidence_at_the_edge_of_two_bins_is_in_the_lower_one():
    # 0.5 (correct) and 0.6 (incorrect): in separate bins, split at 0.5, the gaps add up; in one bin they would cancel
    logits = np.log(np.array([[0.5, 0.5], [0.6, 0.4]]))

    assert_allclose(expected_calibration_error(np.array([0, 1]), logits, bins=2), (0.5 + 0.6) / 2)
    assert_allclose(expected_calibration_error(np.array([0, 1]), logits, bins=1), 0.05)


def test_perfect_confidence_is_perfectly_calibrated():
    logits = np.where(np.eye(3), 1000.0, 0.0)

    assert expected_calibration_error(np.arange(3), logits) == 0.0
    assert negative_log_likelihood(np.arange(3), logits) == 0.0


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (np.array([0, 1]), np.array([0]), r"must have the same shape, got \(2,\) and \(1,\)"),
        (np.array([0, 3]), np.array([0, 1]), r"labels must be in 0 … 2, but range from 0 to 3"),
        (np.array([0, 1]), np.array([0, -1]), r"predictions must be in 0 … 2"),
        (np.array([0.0, 1.0]), np.array([0, 1]), r"labels must be integers of shape \(N,\), got float64"),
        (np.array([], dtype=int), np.array([], dtype=int), "no rows"),
    ],
)
def test_invalid_predictions_are_rejected(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        score(labels, predictions, classes=3)


@pytest.mark.parametrize("measure", [expected_calibration_error, negative_log_likelihood])
@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        (np.array([0, 1]), np.zeros((3, 2)), r"logits must have shape \(2, K\)"),
        (np.array([0, 1]), np.zeros(2), r"logits must have shape \(2, K\)"),
        (np.array([0, 2]), np.zeros((2, 2)), "labels must be in 0 … 1"),
        (np.array([], dtype=int), np.zeros((0, 2)), "no rows"),
    ],
)
def test_invalid_logits_are_rejected(measure, labels, logits, message):
    with pytest.raises(ValueError, match=message):
        measure(labels, logits)


def test_zero_bins_are_rejected():
    with pytest.raises(ValueError, match="bins"):
        expected_calibration_error(LABELS, LOGITS, bins=0)
