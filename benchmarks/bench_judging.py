"""Judging predictions of another trainer: many images, classes and runs, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from benchmarks.judging import judge_folder, write_predictions
from benchmarks.side_by_side import SideBySide

ARMS, RUNS, IMAGES, CLASSES = 4, 5, 20_000, 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    write_predictions(folder, ARMS, RUNS, IMAGES, CLASSES)
    return folder


def score_with_scikit_learn(files: list[Path]) -> None:
    """Score each file; nothing is matched or tested."""
    for file in files:
        with np.load(file) as arrays:
            true, predicted = arrays["true"], arrays["predicted"]
        metrics.classification_report(true, predicted, output_dict=True)
        metrics.balanced_accuracy_score(true, predicted)
        metrics.confusion_matrix(true, predicted)


def test_judging_files(side_by_side: SideBySide, folder: Path) -> None:
    side_by_side(
        f"verdicts for {ARMS} arms with {RUNS} runs each on {IMAGES:,} images of {CLASSES} classes, from npz files",
        ours=lambda: judge_folder(folder),
        theirs=lambda: score_with_scikit_learn(sorted(folder.iterdir())),
        alternative="scikit-learn metrics per file, without tests",
        n=3,
        at_most=10.0,
    )
