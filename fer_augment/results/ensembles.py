"""Ensembles of the runs of an arm: the mean of their class probabilities, scored as one prediction per image.

Legend: S runs of an arm, N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.records import Predictions
from fer_augment.metrics import binned_by_confidence, score, softmax
from fer_augment.randomness import stream_key
from fer_augment.results.comparison import Ensemble
from fer_augment.results.largest_scores import drawn_largest

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

FEWEST_RUNS = 2
_UNIT = 2.0**22
"""Probabilities are summed as multiples of 2^-22, so that the order of the runs does not matter."""
_MOST_RUNS = 1000
"""Sums of more runs might exceed 32 bits."""
MOST_BYTES = 1_000_000_000
"""Memory for the sums of all arms; with more images, classes and arms, there are no ensembles."""


def ensemble_of(of_runs: Sequence[Predictions], class_names: Sequence[str]) -> Ensemble | None:
    """Score the mean softmax of runs on the same rows; None with fewer than two runs."""
    if len(of_runs) < FEWEST_RUNS:
        return None
    mean = np.mean([softmax(predictions.logits) for predictions in of_runs], axis=0)
    return scored_ensemble(of_runs[0].labels, mean, class_names, len(of_runs))


def scored_ensemble(labels: IntArray, probabilities: FloatArray, class_names: Sequence[str], runs: int) -> Ensemble:
    """Score `(N, K)` mean probabilities; among equal largest ones of a row, one is drawn by the row.

    Args:
        labels: `(N,)` in `0 … K - 1`.
        probabilities: `(N, K)`, mean over runs.
        class_names: the K class names.
        runs: number of runs.

    """
    predicted = drawn_largest(probabilities, class_names, lambda row: stream_key(0, "tie of an ensemble", row) / 2**64)
    scores = score(labels, predicted, len(class_names))
    recall = [None if np.isnan(one) else float(one) for one in scores.recall]
    return Ensemble(
        runs=runs,
        accuracy=scores.accuracy,
        balanced_accuracy=scores.balanced_accuracy,
        recall=dict(zip(class_names, recall, strict=True)),
        ece=binned_by_confidence(probabilities.max(axis=1).clip(0, 1), predicted == labels).error,
    )


class SummedProbabilities:
    """Sums of class probabilities over the runs of each arm, for predictions that are read one run after the other."""

    def __init__(self) -> None:
        """Begin without runs."""
        self._sums: dict[str, NDArray[np.uint32]] = {}
        self._runs: dict[str, int] = {}
        self._incomplete: set[str] = set()
        self.is_too_large = False

    def add(self, arm: str, images: IntArray, probabilities: FloatArray | None) -> None:
        """Add a run.

        Args:
            arm: its arm.
            images: `(N,)` numbers of the images from 0, each once.
            probabilities: `(N, K)`; None for a run without scores, whose arm then has no ensemble.
        """
        if probabilities is None or self._runs.get(arm, 0) >= _MOST_RUNS:
            self._incomplete.add(arm)
        if arm in self._incomplete or probabilities is None or self.is_too_large:
            return
        units = np.rint(probabilities.clip(0, 1) * _UNIT).astype(np.uint32)
        total = self._sums.get(arm)
        if total is None:
            total = np.zeros((int(images.max()) + 1, probabilities.shape[1]), dtype=np.uint32)
            if total.nbytes * (len(self._sums) + 1) > MOST_BYTES:
                self.is_too_large = True
                self._sums.clear()
                return
            self._sums[arm] = total
        if total.shape[0] <= images.max() or len(images) != total.shape[0]:
            self._incomplete.add(arm)  # other images than in the first run, which is refused later
            return
        total[images] += units
        self._runs[arm] = self._runs.get(arm, 0) + 1

    def ensemble(self, arm: str, images: IntArray, labels: IntArray, class_names: Sequence[str]) -> Ensemble | None:
        """Score the ensemble of an arm; None with fewer than two runs or without scores of all of them.

        Args:
            arm: the arm.
            images: `(N,)` numbers of the images, in the order of the labels.
            labels: `(N,)`.
            class_names: the K class names, in the order of the probabilities.
        """
        runs = self._runs.get(arm, 0)
        if arm in self._incomplete or self.is_too_large or runs < FEWEST_RUNS:
            return None
        mean: FloatArray = self._sums[arm][images] / (_UNIT * runs)
        return scored_ensemble(labels, mean, class_names, runs)
