"""Direct implementations of the significance tests, in loops, and synthetic experiments, for their tests."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import f, norm, t


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


def loop_residual_sum_of_squares(arm):
    """Return the sum of squares of one class after removing the means of images and of runs."""
    squares = 0.0
    for s in range(len(arm)):
        for i in range(arm.shape[1]):
            squares += (arm[s, i] - arm[:, i].mean() - arm[s].mean() + arm.mean()) ** 2
    return squares


def loop_residual_variance(arms, labels, weights):
    """Return `(K,)` per-image variance r_c, and V_res; a class with one image has the pooled variance."""
    classes = range(len(weights))
    sizes = [(labels == c).sum() for c in classes]
    of_class = np.zeros(len(weights))
    for arm in arms:
        runs = len(arm)
        squares = [loop_residual_sum_of_squares(arm[:, labels == c]) if sizes[c] else 0.0 for c in classes]
        pooled = sum(squares) / sum(max(n - 1, 0) for n in sizes)
        for c in classes:
            per_image = squares[c] / (sizes[c] - 1) if sizes[c] > 1 else pooled
            of_class[c] += per_image / (runs - 1) / runs
    return of_class, sum(w**2 * of_class[c] / sizes[c] for c, w in enumerate(weights) if w)


def loop_image_part(arms, labels, weights):
    """Return V_i and its degrees of freedom."""
    residual, _ = loop_residual_variance(arms, labels, weights)
    beyond, sizes = [], []
    for c in range(len(weights)):
        arm_a, arm_b = (arm[:, labels == c] for arm in arms)
        n = arm_a.shape[1]
        difference = [arm_b[:, i].mean() - arm_a[:, i].mean() for i in range(n)]
        beyond.append(np.var(difference, ddof=1) - residual[c] if n > 1 else 0.0)
        sizes.append(n)
    pooled = sum((n - 1) * s2 for n, s2 in zip(sizes, beyond, strict=True) if n > 1) / sum(n - 1 for n in sizes if n)
    parts = [
        w**2 * max(0.0, 2 * pooled + (n - 1) * s2) / ((n + 1) * n) if w else 0.0
        for w, n, s2 in zip(weights, sizes, beyond, strict=True)
    ]
    total = sum(parts)
    if total == 0:
        return 0.0, 1.0
    return total, total**2 / sum(v**2 / (n + 1) for v, n in zip(parts, sizes, strict=True))


def loop_difference(correct_a, correct_b, labels, weights):
    """Return delta, interval, p and the minimum detectable effect on a fixed test split, calculated in loops."""
    ends_a = [loop_endpoint(run, labels, weights) for run in correct_a]
    ends_b = [loop_endpoint(run, labels, weights) for run in correct_b]
    delta = np.mean(ends_b) - np.mean(ends_a)
    of_runs = np.var(ends_a, ddof=1) / len(ends_a) + np.var(ends_b, ddof=1) / len(ends_b)
    _, least = loop_residual_variance((correct_a, correct_b), labels, weights)
    if len(correct_a) != len(correct_b):
        of_runs = max(of_runs, least)
    of_images, image_df = loop_image_part((correct_a, correct_b), labels, weights)
    run_df = loop_run_df(ends_a, ends_b)

    def half_width(level):
        run_part = max(t.isf(level / 2, run_df) ** 2 * of_runs, norm.isf(level / 2) ** 2 * least)
        return np.sqrt(run_part + t.isf(level / 2, image_df) ** 2 * of_images)

    return summarized(delta, half_width, max(of_runs, least) + of_images)


def summarized(delta, half_width, variance):
    if variance == 0:
        return delta, None, None if delta else 1.0, None
    p = brentq(lambda level: half_width(level) - abs(delta), 1e-12, 1, xtol=1e-14) if delta else 1.0
    detectable = half_width(0.05) + ndtri(0.8) * np.sqrt(variance)
    return delta, (delta - half_width(0.05), delta + half_width(0.05)), p, detectable


def loop_fold_difference(correct_a, correct_b, labels, folds, weights, clusters):
    """Return delta, interval, p and the minimum detectable effect of a cross-validation, calculated in loops."""
    repeats, rows = correct_a.shape
    difference = correct_b.astype(float) - correct_a
    involved = [c for c, w in enumerate(weights) if w]
    images = {c: (labels == c).sum() for c in involved}
    in_class = {c: len(set(clusters[labels == c])) for c in involved}
    delta = np.mean([sum(weights[c] * d[labels == c].mean() for c in involved) for d in difference])
    z, corrected = np.zeros((repeats, rows)), np.zeros((repeats, rows))
    for s in range(repeats):
        for i in range(rows):
            c = labels[i]
            if weights[c]:
                z[s, i] = weights[c] / images[c] * (difference[s, i] - difference[s, labels == c].mean())
                corrected[s, i] = z[s, i] * np.sqrt(in_class[c] / (in_class[c] - 1))
    number = min(folds.max() + 1, max(in_class.values()))
    v_fold = 0.0
    for s in range(repeats):
        for k in range(folds.max() + 1):
            v_fold += number / (number - 1) * z[s, folds[s] == k].sum() ** 2 / repeats**2
    names = sorted(set(clusters))
    of_cluster = np.array([[corrected[s, clusters == g].sum() for g in names] for s in range(repeats)])
    v_cell = (of_cluster**2).sum() / repeats**2

    def data_part(rows):
        """Return V_d of some rows."""
        total = 0.0
        for g in names:
            sums = [corrected[s, (clusters == g) & rows].sum() for s in range(repeats)]
            around = sum((one - np.mean(sums)) ** 2 for one in sums)
            total += np.mean(sums) ** 2 - around / (repeats * (repeats - 1)) if repeats > 1 else 0.0
        return max(total, 0.0)

    v_data = data_part(np.isin(labels, involved))
    v = {c: data_part(labels == c) for c in involved}
    most = len(set(clusters[np.isin(labels, involved)])) - 1
    squares = sum(v[c] ** 2 / (in_class[c] - 1) for c in involved)
    df = min(most, sum(v.values()) ** 2 / squares) if squares else most
    of_trainings, of_images = max(v_fold, v_cell), (2 - 1 / repeats) * v_data

    def half_width(level):
        run_part = t.isf(level / 2, repeats * (number - 1)) ** 2 * of_trainings
        return np.sqrt(run_part + t.isf(level / 2, df) ** 2 * of_images)

    return summarized(delta, half_width, of_trainings + of_images)


def folds_for(rng, clusters, repeats, folds):
    """Return `(repeats, N)` random folds that keep clusters whole."""
    _, number = np.unique(clusters, return_inverse=True)
    return np.stack([rng.permutation(np.arange(number.max() + 1) % folds)[number] for _ in range(repeats)])


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
