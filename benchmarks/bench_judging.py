"""Judging predictions of another trainer: many images, classes and runs, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

import fer_augment as fa
from benchmarks.side_by_side import SideBySide

ARMS, RUNS, IMAGES, CLASSES = 4, 5, 20_000, 100
PATTERN = "{arm}_seed{seed}.npz"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("predictions"), np.random.default_rng(0)
    true = rng.integers(0, CLASSES, IMAGES)
    ids = np.array([f"{number:06}.jpg" for number in range(IMAGES)])
    written = []
    for arm in range(ARMS):
        for seed in range(RUNS):
            right = rng.random(IMAGES) < 0.6 + 0.01 * arm
            predicted = np.where(right, true, rng.integers(0, CLASSES, IMAGES))
            order = rng.permutation(IMAGES)
            written.append(folder / PATTERN.format(arm=f"arm{arm}", seed=seed))
            np.savez(written[-1], id=ids[order], true=true[order], predicted=predicted[order])
    return written


def score_with_scikit_learn(files: list[Path]) -> None:
    """Score each file; nothing is matched or tested."""
    for file in files:
        with np.load(file) as arrays:
            true, predicted = arrays["true"], arrays["predicted"]
        metrics.classification_report(true, predicted, output_dict=True)
        metrics.balanced_accuracy_score(true, predicted)
        metrics.confusion_matrix(true, predicted)


def test_judging_files(side_by_side: SideBySide, files: list[Path]) -> None:
    def judge() -> None:
        fa.judge(list(files), baseline="arm0", pattern=PATTERN, progress=False)

    side_by_side(
        f"verdicts for {ARMS} arms with {RUNS} runs each on {IMAGES:,} images of {CLASSES} classes, from npz files",
        ours=judge,
        theirs=lambda: score_with_scikit_learn(files),
        alternative="scikit-learn metrics per file, without tests",
        n=3,
        at_most=10.0,
    )
