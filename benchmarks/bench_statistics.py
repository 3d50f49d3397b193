"""Judging: ten arms of twenty runs on a test set like FER2013's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from benchmarks.side_by_side import SideBySide
from fer_augment.data.records import RunDirectory
from fer_augment.results.verdicts import compare_runs
from fer_augment.significance import balanced_accuracy_weights, share_above
from tests.synthetic_runs import counts_by_split, guesses, labels_of, write_arm

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
COUNTS = (491, 55, 528, 879, 594, 416, 626)
RECALL = (0.484, 0.363, 0.365, 0.860, 0.503, 0.721, 0.629)
ARMS, RUNS, DRAWS = 10, 20, 10_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[RunDirectory]]:
    folder = tmp_path_factory.mktemp("runs")
    settings = {"seeds": range(RUNS), "counts": COUNTS, "class_names": CLASSES}
    return {f"arm {number}": write_arm(folder, f"arm {number}", RECALL, **settings) for number in range(ARMS)}


def by_scikit_learn(runs: dict[str, list[RunDirectory]]) -> None:
    """Score each run as is usual, and resample the test images for each arm; without runs, classes or copies."""
    correct = []
    for directories in runs.values():
        of_runs = []
        for directory in directories:
            for split in ("test", "validation"):
                said = directory.predictions(split)
                predicted = said.logits.argmax(axis=1)
                metrics.classification_report(said.labels, predicted, output_dict=True)
                metrics.balanced_accuracy_score(said.labels, predicted)
                metrics.confusion_matrix(said.labels, predicted)
                metrics.log_loss(said.labels, np.exp(said.logits) / np.exp(said.logits).sum(axis=1, keepdims=True))
                if split == "test":
                    of_runs.append(predicted == said.labels)
        correct.append(np.mean(of_runs, axis=0))
    for of_arm in correct[1:]:
        difference = (of_arm - correct[0],)
        stats.bootstrap(difference, np.mean, n_resamples=DRAWS, batch=500, method="percentile", rng=0)


def test_comparison_of_ten_arms(side_by_side: SideBySide, runs: dict[str, list[RunDirectory]]) -> None:
    counts = counts_by_split(COUNTS)
    told = {"baseline": "arm 0", "source": "made up", "fingerprint": "f" * 64, "counts": counts}
    side_by_side(
        f"comparing {ARMS} arms of {RUNS} runs on {sum(COUNTS):,} images",
        ours=lambda: compare_runs(runs, **told),
        peer=lambda: by_scikit_learn(runs),
        peer_is="scikit-learn's metrics a run, scipy's bootstrap an arm",
        n=3,
        at_most=10.0,
    )
    side_by_side.memory(
        f"comparing {ARMS} arms of {RUNS} runs: memory",
        ours=lambda: compare_runs(runs, **told),
        peer=lambda: by_scikit_learn(runs),
        peer_is="scikit-learn's metrics a run, scipy's bootstrap an arm",
        at_most=1e9,
    )


@pytest.fixture(scope="module")
def two_arms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, `(N,)`, and what two arms got right, `(S, N)`."""
    rng, labels = np.random.default_rng(0), labels_of(COUNTS)
    correct_a, correct_b = (np.stack([guesses(labels, RECALL, rng) == labels for _ in range(RUNS)]) for _ in range(2))
    return labels, correct_a, correct_b


def loop_of_resamples(labels: np.ndarray, arms: Sequence[np.ndarray], draws: int) -> float:
    """Resample images within classes and runs within arms, one resample after another."""
    rng = np.random.default_rng(0)
    of_class = [np.flatnonzero(labels == label) for label in range(len(COUNTS))]
    deltas = np.empty(draws)
    for draw in range(draws):
        images = [rng.choice(rows, len(rows)) for rows in of_class]
        ends = []
        for correct in arms:
            of_runs = correct[rng.integers(len(correct), size=len(correct))]
            ends.append(np.mean([of_runs[:, rows].mean() for rows in images]))
        deltas[draw] = ends[1] - ends[0]
    return float((np.sign(deltas).mean() + 1) / 2)


def test_bootstrap(side_by_side: SideBySide, two_arms: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, *arms = two_arms
    weights = balanced_accuracy_weights(labels, len(COUNTS))
    side_by_side(
        "1,000 two-way resamples of balanced accuracy",
        ours=lambda: share_above(*arms, labels, weights, rng=np.random.default_rng(0), draws=1_000),
        peer=lambda: loop_of_resamples(labels, arms, 1_000),
        peer_is="a numpy loop over resamples",
    )
