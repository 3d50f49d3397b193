"""False-positive rate and power of verdicts through `fa.judge`, in simulated experiments."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import fer_augment as fa
from benchmarks.simulated_runs import fer2013, simulated
from tests.test_significance_calibration import CLASSES, PLANTED, simulation_error

NULL_COMPARISONS = 1000
PLANTED_COMPARISONS = 100
NULL_RUNS = 3
RUNS = 5
SMALLER = 5
"""Null comparisons have a fifth of the images of FER2013, 11 of the smallest class."""


def tables(arms, labels):
    """Yield the predictions of `(S, N) bool` correct runs of two arms as tables in memory."""
    names, others = np.array(CLASSES)[labels], np.array(CLASSES)[(labels + 1) % len(CLASSES)]
    for arm, runs in zip("ab", arms, strict=True):
        for seed, correct in enumerate(runs):
            predicted = np.where(correct, names, others)
            rows = len(labels)
            yield {"id": range(rows), "true": names, "predicted": predicted, "arm": [arm] * rows, "seed": [seed] * rows}


def verdicts(population, comparisons, runs, planted, seed):
    """Return how often each endpoint has each verdict."""
    counts: Counter[tuple[str, str]] = Counter()
    blocks = simulated(np.random.default_rng(seed), population, comparisons, (runs, runs), planted)
    for arms in (one for block in blocks for one in zip(*block, strict=True)):
        (versus,) = fa.judge(list(tables(arms, population.labels)), baseline="a", progress=False).versus
        endpoints = {"balanced accuracy": versus.balanced_accuracy, "accuracy": versus.accuracy, **versus.recall}
        counts.update((name, str(judgment.verdict)) for name, judgment in endpoints.items())
    return counts


@pytest.mark.calibration
def test_null_comparisons_are_better_in_at_most_5_percent():
    population = replace(fer2013(), counts=fer2013().counts // SMALLER)
    counts = verdicts(population, NULL_COMPARISONS, NULL_RUNS, 0.0, seed=20261129)
    endpoints = ("balanced accuracy", "accuracy", *CLASSES)
    limit = 0.05 + simulation_error(0.05, len(endpoints), NULL_COMPARISONS)
    shares = {name: counts[name, "better"] / NULL_COMPARISONS for name in endpoints}
    assert max(shares.values()) <= limit, shares
    either = {
        name: shares[name] + counts[name, "worse"] / NULL_COMPARISONS for name in ("balanced accuracy", "accuracy")
    }
    assert max(either.values()) <= limit, either
    assert sum(either.values()) > 0.01, "the test rejects at all"


@pytest.mark.calibration
def test_planted_gains_are_found_at_the_documented_power():
    counts = verdicts(fer2013(), PLANTED_COMPARISONS, RUNS, PLANTED, seed=20261130)
    found = counts["balanced accuracy", "better"] / PLANTED_COMPARISONS
    assert found >= 0.94 - simulation_error(0.94, 1, PLANTED_COMPARISONS), found
    assert counts["balanced accuracy", "worse"] == 0
