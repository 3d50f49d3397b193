"""False-positive rate and power of verdicts through `fa.judge`, in simulated experiments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.judged_simulations import ACCURACY, BALANCED, FoldsDesign, SeedDesign, share, tables, verdicts
from benchmarks.simulated_folds import FoldPopulation
from benchmarks.simulated_runs import fer2013
from fer_augment.results import judgments
from tests.test_significance_calibration import CLASSES, PLANTED, simulation_error

NULL_COMPARISONS = 1000
PLANTED_COMPARISONS = 100
NULL_RUNS = 3
RUNS = 5
SMALLER = 5
"""Null comparisons have a fifth of the images of FER2013, 11 of the smallest class."""
FACES = (0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17)


@pytest.mark.parametrize("design", [
    SeedDesign(replace(fer2013(), counts=fer2013().counts // 50 + 3), 2),
    FoldsDesign(FoldPopulation("", FACES, 60), 3, 2),
])  # fmt: skip
def test_simulated_predictions_are_judged(design):
    counts = verdicts(design, 3, 0, seed=1)
    endpoints = {name for name, _ in counts}
    assert len(endpoints) == 7 + 2 and {BALANCED, ACCURACY} < endpoints
    assert all(sum(number for (name, _), number in counts.items() if name == one) == 3 for one in endpoints)
    assert share(counts, 3, "better", "worse", "no evidence of a difference") == 1


def test_tables_of_folds_have_the_predictions_of_each_repeat():
    predicted, folds = np.arange(12).reshape(2, 2, 3), np.array([[0, 1, 0], [1, 0, 0]])
    given = tables(predicted, np.array([0, 1, 2]), folds)
    assert [(one["arm"][0], one["seed"][0]) for one in given] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert [list(one["predicted"]) for one in given] == predicted.reshape(4, 3).tolist()
    assert list(given[3]["fold"]) == [1, 0, 0]


@pytest.mark.calibration
def test_null_comparisons_are_better_in_at_most_5_percent():
    population = replace(fer2013(), counts=fer2013().counts // SMALLER)
    counts = verdicts(SeedDesign(population, NULL_RUNS), NULL_COMPARISONS, 0.0, seed=20261129)
    limit = 0.05 + simulation_error(0.05, 2 + len(CLASSES), NULL_COMPARISONS)
    require_few_false_positives(counts, NULL_COMPARISONS, limit)


@pytest.mark.calibration
@pytest.mark.parametrize("repeats", [1, 2])
def test_null_comparisons_of_folds_are_better_in_at_most_5_percent(repeats):
    comparisons = NULL_COMPARISONS // 2
    counts = verdicts(FoldsDesign(FoldPopulation("", FACES, 300), 5, repeats), comparisons, 0, seed=20261130)
    require_few_false_positives(counts, comparisons, 0.05 + simulation_error(0.05, 9, comparisons))


def require_few_false_positives(counts, comparisons, limit):
    of_endpoints = [share(counts, comparisons, "better", endpoint=name) for name in (BALANCED, ACCURACY)]
    assert max(*of_endpoints, share(counts, comparisons, "better", worst_class=True)) <= limit, counts
    either = [share(counts, comparisons, "better", "worse", endpoint=name) for name in (BALANCED, ACCURACY)]
    assert max(either) <= limit, either
    assert sum(either) > 0.01, "the test rejects at all"


@pytest.mark.calibration
def test_planted_gains_are_found_at_the_documented_power(monkeypatch):
    monkeypatch.setattr(judgments, "BOOTSTRAP_RUNS", RUNS + 1)  # the bootstrap takes long, and no verdict uses it
    counts = verdicts(SeedDesign(fer2013(), RUNS), PLANTED_COMPARISONS, PLANTED, seed=20261130)
    found = share(counts, PLANTED_COMPARISONS, "better")
    assert found >= 0.94 - simulation_error(0.94, 1, PLANTED_COMPARISONS), found
    assert share(counts, PLANTED_COMPARISONS, "worse") == 0
