"""A direct implementation of the significance test, and synthetic experiments, for its tests."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import f, t


def loop_endpoint(correct, labels, weights):
    return sum(w * correct[labels == c].mean() for c, w in enumerate(weights) if w)


def loop_run_df(ends_a, ends_b):
    runs_a, runs_b = len(ends_a), len(ends_b)
    share_a, share_b = np.var(ends_a, ddof=1) / runs_a, np.var(ends_b, ddof=1) / runs_b
    low, high = sorted([share_a * runs_a, share_b * runs_b])
    variances_differ = high > low * f.ppf(0.975, runs_a - 1, runs_a - 1)
    if runs_a != runs_b or variances_differ:
        return (share_a + share_b) ** 2 / (share_a**2 / (runs_a - 1) + share_b**2 / (runs_b - 1))
    return runs_a + runs_b - 2


def loop_image_variance(arms, labels, weights):
    total = 0.0
    for c, w in enumerate(weights):
        if w == 0:
            continue
        arm_a, arm_b = (arm[:, labels == c] for arm in arms)
        n = arm_a.shape[1]
        total += w**2 * np.var(arm_b.mean(axis=0) - arm_a.mean(axis=0), ddof=1) / n
        for arm in (arm_a, arm_b):
            runs = len(arm)
            squares = 0.0
            for s in range(runs):
                for i in range(n):
                    squares += (arm[s, i] - arm[:, i].mean() - arm[s].mean() + arm.mean()) ** 2
            total -= w**2 * squares / ((n - 1) * (runs - 1)) / (n * runs)
    return max(total, 0.0)


def loop_difference(correct_a, correct_b, labels, weights):
    """Return delta, interval, p and the minimum detectable effect, calculated in loops."""
    ends_a = [loop_endpoint(run, labels, weights) for run in correct_a]
    ends_b = [loop_endpoint(run, labels, weights) for run in correct_b]
    delta = np.mean(ends_b) - np.mean(ends_a)
    of_runs = np.var(ends_a, ddof=1) / len(ends_a) + np.var(ends_b, ddof=1) / len(ends_b)
    of_images = loop_image_variance((correct_a, correct_b), labels, weights)
    run_df = loop_run_df(ends_a, ends_b)
    image_df = min((labels == c).sum() for c, w in enumerate(weights) if w) - 1

    def half_width(level):
        return np.sqrt(t.isf(level / 2, run_df) ** 2 * of_runs + t.isf(level / 2, image_df) ** 2 * of_images)

    p = brentq(lambda level: half_width(level) - abs(delta), 1e-12, 1, xtol=1e-14)
    detectable = half_width(0.05) + ndtri(0.8) * np.sqrt(of_runs + of_images)
    return delta, (delta - half_width(0.05), delta + half_width(0.05)), p, detectable


def experiment(seed, runs_a, runs_b, counts=(60, 31, 42), noise=0.25, shift=0.0):
    """Return the correctness of two arms on easy and hard images, and the labels in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    easy = rng.random(len(labels)) < 0.6
    changed = rng.random(len(labels)) < shift

    def arm(runs, right):
        of_run = noise * rng.random((runs, 1)) + noise / 2
        return np.where(rng.random((runs, len(labels))) < of_run, ~right, right)

    return arm(runs_a, easy), arm(runs_b, easy ^ changed), labels
