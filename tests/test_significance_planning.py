"""How many seeds an interval of a given width takes."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, t

from fer_augment.significance import (
    arm_statistics,
    balanced_accuracy_weights,
    endpoint_difference,
    runs_for_half_width,
)
from tests.significance_experiments import (
    experiment,
    loop_endpoint,
    loop_image_part,
    loop_residual_variance,
)


def loop_half_widths(correct_a, correct_b, labels, weights):
    """Return the half-width for each number of runs, if all variances stay as they are."""
    ends = [[loop_endpoint(run, labels, weights) for run in arm] for arm in (correct_a, correct_b)]
    between = sum(np.var(of_arm, ddof=1) for of_arm in ends)
    least = loop_residual_variance((correct_a, correct_b), labels, weights)[1] * len(correct_a)
    of_images, df = loop_image_part((correct_a, correct_b), labels, weights)
    return {
        runs: np.sqrt(
            max(t.ppf(0.975, 2 * runs - 2) ** 2 * between, norm.ppf(0.975) ** 2 * least) / runs
            + t.ppf(0.975, df) ** 2 * of_images
        )
        for runs in range(2, 1001)
    }


def test_agrees_with_a_direct_implementation():
    correct_a, correct_b, labels = experiment(1, 4, 4, shift=0.3)
    weights = balanced_accuracy_weights(labels, 3)
    half_widths = loop_half_widths(correct_a, correct_b, labels, weights)
    wanted = [half_widths[2] * 1.1, half_widths[4] * 1.0001, half_widths[20] * 1.0001, half_widths[1000] * 0.9]

    a, b = arm_statistics([correct_a, correct_b], labels, 3)
    needed = runs_for_half_width(a, b, weights, wanted)

    assert needed == [2, 4, 20, None]


def test_the_present_number_of_runs_gives_the_present_width():
    correct_a, correct_b, labels = experiment(1, 5, 5, shift=0.3)
    weights = balanced_accuracy_weights(labels, 3)
    low, high = endpoint_difference(correct_a, correct_b, labels, weights).ci95
    a, b = arm_statistics([correct_a, correct_b], labels, 3)

    assert runs_for_half_width(a, b, weights, [(high - low) / 2 * 1.0001]) == [5]


def test_unequal_variances_are_planned_as_they_are_tested():
    correct_a, correct_b, labels = experiment(1, 5, 5, shift=0.3)
    correct_a[1:] = correct_a[0]  # runs that do not differ at all
    correct_b[:2, ::2] = False
    weights = balanced_accuracy_weights(labels, 3)
    low, high = endpoint_difference(correct_a, correct_b, labels, weights).ci95
    a, b = arm_statistics([correct_a, correct_b], labels, 3)

    wanted = [(high - low) / 2 * 1.0001, (high - low) / 2 * 0.9999]
    assert runs_for_half_width(a, b, weights, wanted) == [5, 6]


def test_a_narrower_interval_takes_more_runs_than_there_are():
    correct_a, correct_b, labels = experiment(1, 2, 9, shift=0.3)
    weights = balanced_accuracy_weights(labels, 3)
    low, high = endpoint_difference(correct_a, correct_b, labels, weights).ci95
    a, b = arm_statistics([correct_a, correct_b], labels, 3)

    assert runs_for_half_width(a, b, weights, [(high - low) / 2 * 0.9999])[0] >= 10


def test_without_two_images_of_a_class_nothing_is_known():
    correct = np.array([[True, False], [True, True]])
    a, b = arm_statistics([correct, correct], np.array([0, 1]), 2)
    assert runs_for_half_width(a, b, np.array([0.5, 0.5]), [0.5]) == [None]


def test_a_small_test_split_does_not_promise_what_seeds_alone_cannot_give():
    def needed(images):
        labels = np.repeat(np.arange(3), images)
        rng = np.random.default_rng(3)
        a, b = arm_statistics([rng.random((5, len(labels))) < 0.7 for _ in range(2)], labels, 3)
        return [runs_for_half_width(a, b, np.full(3, 1 / 3), [0.03], errors)[0] for errors in (0.0, 1.0)]

    small, cautious = needed(11)
    assert small is not None and cautious is None
    large, cautious = needed(500)
    assert large is not None and large <= cautious


def test_the_variance_between_images_stays_above_zero():
    labels = np.repeat(np.arange(3), 11)
    rng = np.random.default_rng(3)
    a, b = arm_statistics([rng.random((5, len(labels))) < 0.7 for _ in range(2)], labels, 3)
    weights = np.full(3, 1 / 3)
    less, much_less = (runs_for_half_width(a, b, weights, [0.2, 0.03], errors) for errors in (-3.0, -1000.0))
    assert None not in less and less == much_less
