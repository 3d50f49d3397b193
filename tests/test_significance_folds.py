"""The test for repeated cross-validation: checked by hand and against a direct implementation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import t

from fer_augment.significance import (
    accuracy_weights,
    balanced_accuracy_weights,
    fold_differences,
    recall_weights,
    verdict,
)
from tests.significance_experiments import experiment, folds_for, loop_fold_difference

ENDPOINTS = {
    "recall": lambda labels: recall_weights(1, 3),
    "balanced accuracy": lambda labels: balanced_accuracy_weights(labels, 3),
    "accuracy": lambda labels: accuracy_weights(labels, 3),
    "uneven": lambda labels: np.array([0.7, 0.0, 0.3]),
}
CLUSTERS = {
    "images": lambda labels: np.arange(len(labels)),
    "of one class": lambda labels: labels * 1000 + np.arange(len(labels)) // 4,
    "across classes": lambda labels: np.arange(len(labels)) // 3,
}


@pytest.mark.parametrize("repeats", [1, 2, 5])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", CLUSTERS)
@pytest.mark.parametrize("counts", [(60, 31, 42), (30, 3, 9)])
def test_agrees_with_a_direct_implementation(repeats, endpoint, kind, counts):
    for seed in range(2):
        correct_a, correct_b, labels = experiment(seed, repeats, repeats, counts, shift=0.3)
        clusters, rng = CLUSTERS[kind](labels), np.random.default_rng(seed)
        folds, weights = folds_for(rng, clusters, repeats, 5), ENDPOINTS[endpoint](labels)

        ((measured,),) = fold_differences(correct_a, [correct_b], labels, folds, weights, clusters=clusters)

        delta, ci95, p, detectable = loop_fold_difference(correct_a, correct_b, labels, folds, weights, clusters)
        assert_allclose(measured.delta, delta, atol=1e-12)
        if ci95 is None:  # nothing varies
            assert (measured.ci95, measured.p, measured.detectable) == (None, p, None)
            continue
        assert_allclose(measured.ci95, ci95, atol=1e-9)
        assert_allclose(measured.p, p, rtol=1e-6)
        assert_allclose(measured.detectable, detectable, rtol=1e-9)


def test_one_repeat_calculated_by_hand():
    # one class of four images in two folds; B is right on images 1 and 2, A on none: D = 0 1 1 0, mean 1/2
    correct_a, correct_b = np.zeros((1, 4), dtype=bool), np.array([[0, 1, 1, 0]], dtype=bool)
    labels, folds = np.zeros(4, dtype=int), np.array([[0, 1, 1, 0]])

    ((measured,),) = fold_differences(correct_a, [correct_b], labels, folds, np.ones(1))

    # z = -+ 1/8; sums over folds -1/4 and 1/4, so V_fold = 2/1 * 2/16; V_cell = 4/64 * 4/3; K' - 1 = 1
    v_fold, v_cell = 2 * 2 / 16, 4 / 64 * 4 / 3
    assert v_fold > v_cell
    half_width = t.ppf(0.975, 1) * np.sqrt(v_fold)
    assert measured.delta == 0.5
    assert_allclose(measured.ci95, (0.5 - half_width, 0.5 + half_width))
    assert_allclose(measured.p, 2 * t.sf(0.5 / np.sqrt(v_fold), 1))
    assert (measured.runs_a, measured.runs_b, measured.images) == (1, 1, 4)
    assert verdict(measured, measured.p) == "no evidence of a difference"


def test_images_that_differ_in_every_repeat_calculated_by_hand():
    # twelve images in two folds; in both repeats B is right on the first three: only images vary, not trainings
    labels = np.zeros(12, dtype=int)
    correct_a = np.zeros((2, 12), dtype=bool)
    correct_b = np.tile(np.arange(12) < 3, (2, 1))
    folds = np.stack([np.arange(12) % 2, np.arange(12) // 2 % 2])

    ((measured,),) = fold_differences(correct_a, [correct_b], labels, folds, np.ones(1))

    # D = 1 or 0 with mean 1/4, z = (3/4)/12 or (-1/4)/12; squares sum to (3 * 9/16 + 9 * 1/16) / 144 = 2.25 / 144
    squares = 2.25 / 144 * 12 / 11
    v_cell, v_data = 2 * squares / 4, squares
    # either repeat has two of the three in one fold: (2 * 3/4 - 4 * 1/4) / 12 = 1/24 in one fold, -1/24 in the other
    v_fold = 2 * 2 * 2 * (1 / 24) ** 2 / 4
    of_trainings = max(v_fold, v_cell)
    half_width = np.sqrt(t.ppf(0.975, 2) ** 2 * of_trainings + t.ppf(0.975, 11) ** 2 * 1.5 * v_data)
    assert_allclose(measured.ci95, (0.25 - half_width, 0.25 + half_width))


def test_a_group_of_two_classes_does_not_change_the_recall_of_a_third():
    correct_a, correct_b, labels = experiment(7, 2, 2, counts=(60, 40, 5), shift=0.6, noise=0.1)
    folds = np.stack([np.arange(len(labels)) % 5, np.arange(len(labels)) // 3 % 5])
    apart, joined = np.arange(len(labels)), np.arange(len(labels))
    same_folds = [np.flatnonzero((labels == c) & (folds == 0).all(axis=0))[0] for c in (0, 1)]
    joined[same_folds] = same_folds[0]
    intervals = [
        fold_differences(correct_a, [correct_b], labels, folds, recall_weights(2, 3), clusters=clusters)[0][0].ci95
        for clusters in (apart, joined)
    ]
    assert intervals[0] == pytest.approx(intervals[1])


def test_exact_duplicates_count_once():
    correct_a, correct_b, labels = experiment(2, 3, 3)
    folds = folds_for(np.random.default_rng(0), np.arange(len(labels)), 3, 5)
    rows = np.concatenate([np.arange(len(labels)), [0, 0, 0, 5, 9, 9]])
    weights = accuracy_weights(labels, 3)

    once = fold_differences(correct_a, [correct_b], labels, folds, weights)
    grouped = fold_differences(
        correct_a[:, rows], [correct_b[:, rows]], labels[rows], folds[:, rows], weights, groups=rows
    )

    assert grouped[0][0].images == once[0][0].images == len(labels)
    assert_allclose(grouped[0][0].ci95, once[0][0].ci95)


def test_the_order_of_rows_does_not_matter():
    correct_a, correct_b, labels = experiment(1, 3, 3)
    clusters = np.arange(len(labels)) // 3
    folds = folds_for(np.random.default_rng(0), clusters, 3, 5)
    order = np.random.default_rng(0).permutation(len(labels))
    weights = balanced_accuracy_weights(labels, 3)

    measured = fold_differences(correct_a, [correct_b], labels, folds, weights, clusters=clusters)[0][0]
    shuffled = fold_differences(
        correct_a[:, order], [correct_b[:, order]], labels[order], folds[:, order], weights, clusters=clusters[order]
    )[0][0]

    assert_allclose((shuffled.delta, *shuffled.ci95), (measured.delta, *measured.ci95))


@pytest.mark.parametrize("numbers", [(1, 2, 3, 4, 5), (0, 7, 3, 100, 4)])
def test_the_numbers_of_folds_do_not_matter(numbers):
    correct_a, correct_b, labels = experiment(1, 3, 3)
    folds = folds_for(np.random.default_rng(0), np.arange(len(labels)), 3, 5)
    weights = balanced_accuracy_weights(labels, 3)
    other = folds.copy()
    other[1:] = np.array(numbers)[folds[1:]]

    measured, renumbered = (
        fold_differences(correct_a, [correct_b], labels, numbered, weights)[0][0] for numbered in (folds, other)
    )

    assert_allclose(renumbered.ci95, measured.ci95)


def test_several_arms_and_endpoints_at_once_are_as_one_by_one():
    baseline, arm, labels = experiment(0, 3, 3, shift=0.3)
    _, other, _ = experiment(1, 3, 3, shift=0.1)
    folds = folds_for(np.random.default_rng(0), np.arange(len(labels)), 3, 5)
    weights = np.stack([make(labels) for make in ENDPOINTS.values()])

    differences = fold_differences(baseline, [arm, other], labels, folds, weights)

    for of_arm, correct in zip(differences, (arm, other), strict=True):
        one_by_one = [fold_differences(baseline, [correct], labels, folds, each)[0][0] for each in weights]
        assert_allclose([each.ci95 for each in of_arm], [each.ci95 for each in one_by_one])


def test_undefined_differences():
    correct_a, correct_b, labels = experiment(0, 2, 2, counts=(30, 1))
    folds = folds_for(np.random.default_rng(0), np.arange(len(labels)), 2, 5)

    absent, single, identical = (
        fold_differences(correct_a, [arm], labels, folds, weights)[0][0]
        for arm, weights in (
            (correct_b, recall_weights(2, 3)),
            (correct_b, balanced_accuracy_weights(labels, 2)),
            (correct_a, recall_weights(0, 2)),
        )
    )

    assert absent.delta is None
    assert single.delta is not None and single.p is None and verdict(single, None) == "not testable"
    assert (identical.delta, identical.ci95, identical.p) == (0.0, None, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": np.ones((2, 5), dtype=bool)}, r"baseline must be \(runs, 4\)"),
        ({"arms": [np.ones((3, 4), dtype=bool)]}, r"arm must have the shape of folds, \(2, 4\), not \(3, 4\)"),
        ({"folds": np.zeros((2, 4), dtype=int)}, "at least two in each repeat"),
        ({"folds": np.array([[0, 1, 0, -1], [0, 1, 0, 1]])}, "numbers from 0"),
        ({"clusters": np.array([0, 0, 1, 1])}, "rows of one cluster must be in one fold"),
        ({"clusters": np.arange(3)}, "groups must have the shape of labels"),
        ({"labels": np.array([0, 1, 1, 2])}, "labels must be in 0 … 1"),
    ],
)
def test_invalid_arrays_are_refused(changes, message):
    arrays = {
        "baseline": np.ones((2, 4), dtype=bool),
        "arms": [np.ones((2, 4), dtype=bool)],
        "labels": np.array([0, 0, 1, 1]),
        "folds": np.array([[0, 1, 0, 1], [1, 0, 0, 1]]),
        "class_weights": np.array([0.5, 0.5]),
    } | changes

    with pytest.raises(ValueError, match=message):
        fold_differences(**arrays)
