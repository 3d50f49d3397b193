"""The test on a fixed split: checked by hand and against a direct implementation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm, t

from fer_augment.significance import (
    Difference,
    accuracy_weights,
    balanced_accuracy_weights,
    endpoint_difference,
    endpoint_differences,
    recall_weights,
    shares_above,
    verdict,
)
from tests.significance_experiments import experiment, loop_difference, loop_endpoint, loop_image_part

ENDPOINTS = {
    "recall": lambda labels: recall_weights(1, 3),
    "balanced accuracy": lambda labels: balanced_accuracy_weights(labels, 3),
    "accuracy": lambda labels: accuracy_weights(labels, 3),
    "uneven": lambda labels: np.array([0.7, 0.0, 0.3]),
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("counts", [(60, 31, 42), (60, 2, 1)])
@pytest.mark.parametrize(("runs_a", "runs_b"), [(2, 2), (3, 3), (5, 5), (2, 4), (7, 3)])
def test_agrees_with_a_direct_implementation(endpoint, runs_a, runs_b, counts):
    for seed in range(4):
        correct_a, correct_b, labels = experiment(seed, runs_a, runs_b, counts, shift=0.3)
        weights = ENDPOINTS[endpoint](labels)

        measured = endpoint_difference(correct_a, correct_b, labels, weights)

        delta, ci95, p, detectable = loop_difference(correct_a, correct_b, labels, weights)
        assert_allclose(measured.delta, delta, atol=1e-12)
        assert_allclose(measured.ci95, ci95, atol=1e-9)
        assert_allclose(measured.p, p, rtol=1e-6)
        assert_allclose(measured.detectable, detectable, rtol=1e-9)


def test_a_difference_calculated_by_hand():
    # one class of four images; run recalls .5, .75 and .75, 1: delta .25 and V = 2 * .03125 / 2
    correct_a = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=bool)
    correct_b = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], dtype=bool)

    measured = endpoint_difference(correct_a, correct_b, np.zeros(4, dtype=int), np.ones(1))

    # d_i = 0 0 .5 .5 with variance 1/12; each arm's residual sum of squares is .375, over (4-1)(2-1) and 2 runs
    beyond = 1 / 12 - 2 * (0.375 / 3) / 2
    assert beyond < 0  # no variance of images, and V_res = 2 * .0625 / 4 = V: t decides
    half_width = 4.302652729911275 * np.sqrt(0.03125)
    assert measured.delta == 0.25
    assert_allclose(measured.ci95, (0.25 - half_width, 0.25 + half_width))
    assert_allclose(measured.p, 2 * t.sf(0.25 / np.sqrt(0.03125), 2))
    assert_allclose(measured.detectable, (4.302652729911275 + 0.8416212335729143) * np.sqrt(0.03125))
    assert (measured.runs_a, measured.runs_b, measured.images) == (2, 2, 4)


def test_the_image_part_calculated_by_hand():
    # no run disagrees with another of its arm: all variance is between images, and B is right on one image more
    right_a, right_b = np.array([1, 0, 0, 0, 1]), np.array([1, 1, 0, 0, 1])
    labels = np.array([0, 0, 0, 0, 1])

    def measured(weights):
        return endpoint_difference(np.tile(right_a, (3, 1)), np.tile(right_b, (3, 1)), labels, np.array(weights))

    # d_i = 0 1 0 0 with variance 1/4, which is the pooled variance, too: class 1 has a single image
    of_first, of_second = (2 / 4 + 3 / 4) / (5 * 4), (2 / 4) / (2 * 1)
    df = (of_first / 4 + of_second / 4) ** 2 / ((of_first / 4) ** 2 / 5 + (of_second / 4) ** 2 / 2)
    for weights, variance, degrees, delta in (
        ([1.0, 0.0], of_first, 5, 0.25),
        ([0.0, 1.0], of_second, 2, 0.0),
        ([0.5, 0.5], of_first / 4 + of_second / 4, df, 0.125),
    ):
        half_width = t.ppf(0.975, degrees) * np.sqrt(variance)
        assert_allclose(measured(weights).ci95, (delta - half_width, delta + half_width))
        assert_allclose(measured(weights).p, 2 * t.sf(delta / np.sqrt(variance), degrees))


def test_equal_scores_of_runs_that_disagree_on_images_do_not_make_the_interval_narrow():
    # both runs of an arm are right on half of the images, by luck exactly, but on different ones
    labels = np.zeros(8, dtype=int)
    correct = np.array([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]], dtype=bool)
    measured = endpoint_difference(correct, correct, labels, np.ones(1))

    # V = 0; each arm has the residual sum of squares 4 * 1/2, over (8-1)(2-1) and 2 runs, and there are 8 images
    half_width = norm.ppf(0.975) * np.sqrt(2 * (2 / 7) / 2 / 8)
    assert_allclose(measured.ci95, (-half_width, half_width))


def test_several_arms_and_endpoints_at_once_are_as_one_by_one():
    baseline, arm, labels = experiment(0, 3, 4, shift=0.3)
    _, other, _ = experiment(1, 3, 2, shift=0.1)
    weights = np.stack([make(labels) for make in ENDPOINTS.values()])

    differences = endpoint_differences(baseline, [arm, other], labels, weights)

    for of_arm, correct in zip(differences, (arm, other), strict=True):
        one_by_one = [endpoint_difference(baseline, correct, labels, each) for each in weights]
        assert_allclose([each.ci95 for each in of_arm], [each.ci95 for each in one_by_one])


def test_the_detectable_effect_exceeds_half_the_interval():
    # ten runs and three images per class: the interval is wide because of the few images, not because of the runs
    for seed in range(4):
        correct_a, correct_b, labels = experiment(seed, 10, 10, counts=(3, 3), noise=0.1, shift=0.5)
        measured = endpoint_difference(correct_a, correct_b, labels, balanced_accuracy_weights(labels, 2))
        assert measured.detectable > (measured.ci95[1] - measured.ci95[0]) / 2


@pytest.mark.parametrize("runs", [2, 3, 6])
def test_p_is_below_five_percent_if_and_only_if_the_interval_excludes_zero(runs):
    significant = []
    for seed in range(150):
        correct_a, correct_b, labels = experiment(seed, runs, runs, shift=0.3)
        measured = endpoint_difference(correct_a, correct_b, labels, balanced_accuracy_weights(labels, 3))
        low, high = measured.ci95
        significant.append(measured.p < 0.05)
        assert (measured.p < 0.05) == (low > 0 or high < 0)
    assert 0 < sum(significant) < len(significant)


def test_swapping_the_arms_changes_the_sign():
    correct_a, correct_b, labels = experiment(3, 4, 3, shift=0.3)
    difference = endpoint_difference(correct_a, correct_b, labels, recall_weights(0, 3))
    swapped = endpoint_difference(correct_b, correct_a, labels, recall_weights(0, 3))

    assert_allclose((swapped.delta, *swapped.ci95), (-difference.delta, -difference.ci95[1], -difference.ci95[0]))
    assert swapped.p == pytest.approx(difference.p)


def test_the_p_value_of_a_huge_difference_does_not_underflow():
    correct_a, correct_b, labels = experiment(0, 20, 20, counts=(3000,), noise=0.01)
    measured = endpoint_difference(correct_a & False, correct_b, labels, np.ones(1))

    assert 0 < measured.p < 1e-20


# --- endpoints and images


def test_class_weights_of_recall_balanced_accuracy_and_accuracy():
    labels = np.array([0, 0, 0, 1, 3])

    assert_allclose(recall_weights(2, 4), [0, 0, 1, 0])
    assert_allclose(balanced_accuracy_weights(labels, 4), [1 / 3, 1 / 3, 0, 1 / 3])
    assert_allclose(accuracy_weights(labels, 4), [0.6, 0.2, 0, 0.2])
    assert_allclose(accuracy_weights(labels, 4, groups=np.array([5, 5, 7, 5, 9])), [0.5, 0.25, 0, 0.25])


def test_the_order_of_rows_does_not_matter():
    correct_a, correct_b, labels = experiment(1, 3, 3)
    order = np.random.default_rng(0).permutation(len(labels))
    weights = balanced_accuracy_weights(labels, 3)

    measured = endpoint_difference(correct_a, correct_b, labels, weights)
    shuffled = endpoint_difference(correct_a[:, order], correct_b[:, order], labels[order], weights)

    assert_allclose((shuffled.delta, *shuffled.ci95), (measured.delta, *measured.ci95))


def test_exact_duplicates_count_once():
    correct_a, correct_b, labels = experiment(2, 3, 3)
    rows = np.concatenate([np.arange(len(labels)), [0, 0, 0, 5, 9, 9]])
    weights = accuracy_weights(labels, 3)

    once = endpoint_difference(correct_a, correct_b, labels, weights)
    grouped = endpoint_difference(correct_a[:, rows], correct_b[:, rows], labels[rows], weights, groups=rows)
    ungrouped = endpoint_difference(correct_a[:, rows], correct_b[:, rows], labels[rows], weights)

    assert_allclose((grouped.delta, *grouped.ci95, grouped.p), (once.delta, *once.ci95, once.p))
    assert (grouped.images, ungrouped.images) == (len(labels), len(labels) + 6)
    assert ungrouped.delta != once.delta


def test_duplicates_with_different_predictions_count_as_their_mean():
    labels, groups = np.zeros(4, dtype=int), np.array([7, 7, 8, 9])
    correct_a = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], dtype=bool)
    correct_b = np.array([[1, 1, 0, 1], [1, 0, 1, 1]], dtype=bool)

    grouped = endpoint_difference(correct_a, correct_b, labels, np.ones(1), groups)
    by_hand = endpoint_difference(
        np.array([[0.5, 1, 0], [0, 1, 1]]), np.array([[1, 0, 1], [0.5, 1, 1]]), labels[:3], np.ones(1)
    )

    assert grouped == by_hand


def test_duplicates_with_different_labels_are_different_images():
    correct_a, correct_b, labels = experiment(2, 3, 3)
    groups = np.arange(len(labels))
    groups[np.flatnonzero(labels == 1)[0]] = groups[np.flatnonzero(labels == 0)[0]]
    weights = balanced_accuracy_weights(labels, 3)

    assert endpoint_difference(correct_a, correct_b, labels, weights, groups) == endpoint_difference(
        correct_a, correct_b, labels, weights
    )


# --- few runs or images, zero variance


@pytest.mark.parametrize(("runs_a", "runs_b"), [(1, 1), (1, 10), (10, 1)])
def test_one_run_gives_only_a_difference(runs_a, runs_b):
    correct_a, correct_b, labels = experiment(0, runs_a, runs_b)
    weights = balanced_accuracy_weights(labels, 3)
    measured = endpoint_difference(correct_a, correct_b, labels, weights)

    ends = [np.mean([loop_endpoint(run, labels, weights) for run in arm]) for arm in (correct_a, correct_b)]
    assert_allclose(measured.delta, ends[1] - ends[0])
    assert measured.ci95 is None and measured.p is None and measured.detectable is None
    assert verdict(measured, measured.p) == "not tested (one run)"


def test_an_absent_class_has_no_difference():
    correct_a, correct_b, labels = experiment(0, 3, 3)

    assert endpoint_difference(correct_a, correct_b, labels, recall_weights(3, 4)) == Difference(
        None, None, None, None, runs_a=3, runs_b=3, images=0
    )


def test_balanced_accuracy_ignores_an_absent_class():
    correct_a, correct_b, labels = experiment(0, 3, 3)

    of_three = endpoint_difference(correct_a, correct_b, labels, balanced_accuracy_weights(labels, 3))
    of_four = endpoint_difference(correct_a, correct_b, labels, balanced_accuracy_weights(labels, 4))

    assert of_four == of_three


def test_a_class_with_one_image_does_not_make_balanced_accuracy_untestable():
    correct_a, correct_b, labels = experiment(0, 5, 5, counts=(60, 31, 1), shift=0.3)

    for weights in (balanced_accuracy_weights(labels, 3), accuracy_weights(labels, 3), recall_weights(2, 3)):
        assert endpoint_difference(correct_a, correct_b, labels, weights).p is not None


def test_a_single_image_has_a_difference_but_no_interval():
    measured = endpoint_difference(np.zeros((3, 1), dtype=bool), np.ones((3, 1), dtype=bool), np.array([0]), np.ones(1))

    assert measured == Difference(1.0, None, None, None, runs_a=3, runs_b=3, images=1)
    assert verdict(measured, measured.p) == "not testable"


@pytest.mark.parametrize("always", [True, False])
def test_identical_predictions_of_all_runs_give_no_evidence_of_a_difference(always):
    correct = np.full((3, 40), always)
    measured = endpoint_difference(correct, correct, np.zeros(40, dtype=int), np.ones(1))

    assert measured == Difference(0.0, None, 1.0, None, runs_a=3, runs_b=3, images=40)
    assert verdict(measured, measured.p) == "no evidence of a difference"


def test_a_difference_with_zero_variance_has_no_p():
    never, always = np.zeros((3, 40), dtype=bool), np.ones((3, 40), dtype=bool)
    measured = endpoint_difference(never, always, np.zeros(40, dtype=int), np.ones(1))

    assert measured == Difference(1.0, None, None, None, runs_a=3, runs_b=3, images=40)
    assert verdict(measured, measured.p) == "not testable"


@pytest.mark.parametrize("images", [3, 7, 49, 3589])
def test_rounding_errors_do_not_count_as_variance(images):
    # every run is correct on the same third of the images, so all variances are 0 up to rounding errors of the mean
    correct = np.tile(np.arange(images) % 3 == 0, (7, 1))
    measured = endpoint_difference(correct[:3], correct, np.zeros(images, dtype=int), np.ones(1))

    assert (measured.delta, measured.ci95, measured.p) == (0.0, None, 1.0)


def test_an_arm_without_variance_leaves_the_variance_of_the_other_arm():
    correct_a, correct_b, labels = experiment(0, 4, 4, counts=(60,))
    never = np.zeros_like(correct_a)
    measured = endpoint_difference(never, correct_b, labels, np.ones(1))

    ends = correct_b.mean(axis=1)
    of_images, df = loop_image_part((never, correct_b), labels, np.ones(1))
    assert df == pytest.approx(61)
    half_width = np.sqrt(t.ppf(0.975, 3) ** 2 * ends.var(ddof=1) / 4 + t.ppf(0.975, 61) ** 2 * of_images)
    assert_allclose(measured.ci95, (measured.delta - half_width, measured.delta + half_width))


# --- invalid arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": np.ones((2, 5), dtype=bool)}, r"baseline must be \(runs, 4\)"),
        ({"arms": [np.ones(4, dtype=bool)]}, r"arm must be \(runs, 4\)"),
        ({"arms": [np.ones((0, 4), dtype=bool)]}, "at least one run"),
        ({"arms": [np.full((2, 4), 1.5)]}, r"arm must be boolean or in \[0, 1\]"),
        ({"baseline": np.full((2, 4), np.nan)}, r"baseline must be boolean or in \[0, 1\]"),
        ({"labels": np.array([0, 1, 1, 2])}, "labels must be in 0 … 1, but range from 0 to 2"),
        ({"labels": np.array([0.0, 1.0, 1.0, 0.0])}, "labels must be a vector of at least one integer"),
        ({"class_weights": np.zeros(2)}, "class_weights"),
        ({"class_weights": np.array([1.0, np.nan])}, "class_weights"),
        ({"groups": np.arange(3)}, "groups must have the shape of labels"),
    ],
)
def test_invalid_arrays_are_refused(changes, message):
    arrays = {
        "baseline": np.ones((2, 4), dtype=bool),
        "arms": [np.ones((2, 4), dtype=bool)],
        "labels": np.array([0, 0, 1, 1]),
        "class_weights": np.array([0.5, 0.5]),
    } | changes

    with pytest.raises(ValueError, match=message):
        endpoint_differences(**arrays)
    with pytest.raises(ValueError, match=message):
        shares_above(**arrays, rng=np.random.default_rng(0))


def test_recall_weights_refuse_an_unknown_class():
    with pytest.raises(ValueError, match="class_index must be in 0 … 6"):
        recall_weights(7, 7)
