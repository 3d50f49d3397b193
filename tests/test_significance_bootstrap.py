"""`shares_above`: the two-way bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fer_augment.significance import balanced_accuracy_weights, recall_weights, shares_above
from tests.significance_experiments import experiment


def test_agrees_with_a_loop_over_resamples():
    correct_a, correct_b, labels = experiment(5, 6, 4, shift=0.2)
    weights = balanced_accuracy_weights(labels, 3)
    rng = np.random.default_rng(1)
    deltas = []
    for _ in range(4000):
        images = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in range(3)])
        resampled_a, resampled_b = (arm[rng.choice(len(arm), len(arm))] for arm in (correct_a, correct_b))
        ends = [arm[:, images] @ (weights / np.bincount(labels))[labels[images]] for arm in (resampled_a, resampled_b)]
        deltas.append(ends[1].mean() - ends[0].mean())

    (measured,) = shares_above(correct_a, [correct_b], labels, weights, rng=np.random.default_rng(2))

    expected = np.mean(np.array(deltas) > 0)
    assert 0.05 < expected < 0.95
    assert_allclose(measured, expected, atol=4 * 0.5 * np.sqrt(1 / 4000 + 1 / 10000))


def test_the_same_seed_gives_the_same_share():
    correct_a, correct_b, labels = experiment(5, 3, 3)
    first, second = (
        shares_above(correct_a, [correct_b], labels, recall_weights(0, 3), rng=np.random.default_rng(7), draws=300)
        for _ in range(2)
    )

    assert first == second


def test_ties_count_half():
    correct, _, labels = experiment(5, 3, 3)
    identical = np.tile(correct[0], (2, 1))
    weights = balanced_accuracy_weights(labels, 3)

    assert shares_above(identical, [identical], labels, weights, rng=np.random.default_rng(0), draws=50) == [0.5]


def test_exact_duplicates_count_once():
    correct, _, labels = experiment(5, 3, 3)
    weights = balanced_accuracy_weights(labels, 3)
    rows = np.repeat(np.arange(len(labels)), 2)

    once = shares_above(correct, [correct[::-1]], labels, weights, draws=50, rng=np.random.default_rng(3))
    duplicated = correct[:, rows], [correct[::-1][:, rows]], labels[rows]
    grouped = shares_above(*duplicated, weights, rows, draws=50, rng=np.random.default_rng(3))

    assert grouped == once


def test_one_run_has_no_share():
    one, three, labels = experiment(5, 1, 3)
    weights = recall_weights(0, 3)

    assert shares_above(one, [three, three], labels, weights, rng=np.random.default_rng(0)) == [None, None]
    alone = shares_above(three, [three[::-1]], labels, weights, rng=np.random.default_rng(0), draws=50)
    assert shares_above(three, [one, three[::-1]], labels, weights, rng=np.random.default_rng(0), draws=50) == [
        None,
        *alone,
    ]


def test_every_arm_has_its_own_share():
    baseline, arm, labels = experiment(5, 6, 4, shift=0.2)
    weights = balanced_accuracy_weights(labels, 3)

    shares = shares_above(baseline, [arm & False, arm, arm | True], labels, weights, rng=np.random.default_rng(0))

    assert shares[0] == 0 and shares[2] == 1 and 0 < shares[1] < 1


def test_draws_and_images_are_required():
    correct_a, correct_b, labels = experiment(5, 3, 3)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="draws"):
        shares_above(correct_a, [correct_b], labels, recall_weights(0, 3), rng=rng, draws=0)
    with pytest.raises(ValueError, match="class 3 has a nonzero weight but no images"):
        shares_above(correct_a, [correct_b], labels, recall_weights(3, 4), rng=rng)
