"""Statistics: verdicts for ten arms with twenty runs each on a test split like that of FER2013."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from benchmarks.side_by_side import SideBySide
from fer_augment.data.records import RunDirectory
from fer_augment.results.verdicts import compare_runs
from fer_augment.significance import balanced_accuracy_weights, shares_above
from tests.synthetic_runs import counts_by_split, guesses, labels_of, write_arm

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
COUNTS = (491, 55, 528, 879, 594, 416, 626)
RECALL = (0.484, 0.363, 0.365, 0.860, 0.503, 0.721, 0.629)
ARMS, RUNS, DRAWS = 10, 20, 10_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[RunDirectory]]:
    folder = tmp_path_factory.mktemp("runs")
    settings: dict[str, Any] = {"seeds": range(RUNS), "counts": COUNTS, "class_names": CLASSES}
    return {f"arm {number}": write_arm(folder, f"arm {number}", RECALL, **settings) for number in range(ARMS)}


def score_with_scikit_learn(runs: dict[str, list[RunDirectory]]) -> None:
    """Score each run with scikit-learn and bootstrap the accuracy of each arm over test images only."""
    correct = []
    for directories in runs.values():
        correct_SN = []
        for directory in directories:
            for split in ("test", "validation"):
                predictions = directory.predictions(split)
                labels, logits = predictions.labels, predictions.logits
                predicted = logits.argmax(axis=1)
                metrics.classification_report(labels, predicted, output_dict=True)
                metrics.balanced_accuracy_score(labels, predicted)
                metrics.confusion_matrix(labels, predicted)
                metrics.log_loss(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
                if split == "test":
                    correct_SN.append(predicted == labels)
        correct.append(np.mean(correct_SN, axis=0))
    for correct_N in correct[1:]:
        difference = (correct_N - correct[0],)
        stats.bootstrap(difference, np.mean, n_resamples=DRAWS, batch=500, method="percentile", rng=0)


def test_comparison_of_ten_arms(side_by_side: SideBySide, runs: dict[str, list[RunDirectory]]) -> None:
    counts = counts_by_split(COUNTS)
    options: dict[str, Any] = {
        "baseline": "arm 0",
        "source": "synthetic runs",
        "fingerprint": "f" * 64,
        "counts": counts,
    }
    side_by_side(
        f"verdicts for {ARMS} arms with {RUNS} runs each on {sum(COUNTS):,} images",
        ours=lambda: compare_runs(runs, **options),
        theirs=lambda: score_with_scikit_learn(runs),
        alternative="scikit-learn metrics per run, scipy bootstrap per arm",
        n=3,
        at_most=10.0,
    )
    side_by_side.memory(
        f"verdicts for {ARMS} arms with {RUNS} runs each: memory",
        ours=lambda: compare_runs(runs, **options),
        theirs=lambda: score_with_scikit_learn(runs),
        alternative="scikit-learn metrics per run, scipy bootstrap per arm",
        at_most=1e9,
    )


@pytest.fixture(scope="module")
def two_arms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, `(N,)`, and for each of two arms which images are classified correctly, `(S, N)`."""
    rng, labels = np.random.default_rng(0), labels_of(COUNTS)
    correct_a, correct_b = (np.stack([guesses(labels, RECALL, rng) == labels for _ in range(RUNS)]) for _ in range(2))
    return labels, correct_a, correct_b


def loop_of_resamples(labels: np.ndarray, arms: Sequence[np.ndarray], draws: int) -> float:
    """Resample images within classes and runs within arms, one resample at a time."""
    rng = np.random.default_rng(0)
    of_class = [np.flatnonzero(labels == label) for label in range(len(COUNTS))]
    deltas = np.empty(draws)
    for draw in range(draws):
        images = [rng.choice(rows, len(rows)) for rows in of_class]
        balanced_accuracy = []
        for correct in arms:
            resampled = correct[rng.integers(len(correct), size=len(correct))]
            balanced_accuracy.append(np.mean([resampled[:, rows].mean() for rows in images]))
        deltas[draw] = balanced_accuracy[1] - balanced_accuracy[0]
    return float((np.sign(deltas).mean() + 1) / 2)


def test_bootstrap(side_by_side: SideBySide, two_arms: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, correct_a, correct_b = two_arms
    weights = balanced_accuracy_weights(labels, len(COUNTS))
    side_by_side(
        "1,000 two-way bootstrap resamples of balanced accuracy",
        ours=lambda: shares_above(correct_a, [correct_b], labels, weights, rng=np.random.default_rng(0), draws=1_000),
        theirs=lambda: loop_of_resamples(labels, (correct_a, correct_b), 1_000),
        alternative="a numpy loop over resamples",
    )
