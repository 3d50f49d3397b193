"""Predictions of several runs for the same rows, and their scores.

Legend: S runs of an arm, N rows of a split, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_augment.data.records import Predictions
from fer_augment.metrics import Scores, binned_by_confidence, confidence_bins, row_losses, score, softmax
from fer_augment.results.comparison import Confusion, SplitScores, Statistic
from fer_augment.significance import calibration_error_interval, mean_interval


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Predictions of S runs for the same N rows.

    Attributes:
        labels: `(N,) int64`.
        groups: `(N,) int64`, equal for exact duplicates.
        in_train: `(N,) bool`, whether the row has an exact duplicate in the training split of any run; None if that
            is unknown.
        predicted: `(S, N) int64`, predicted classes.
        confidence: `(S, N) float64`, probability of the predicted class; NaN for a run without class probabilities.
        losses: `(S, N) float64`, `-ln p(true class)`; NaN for a run without class probabilities.
        folds: `(S, N) int64`, the fold in which each row was held out; None on a fixed test split. The S "runs" are
            then repeats of a cross-validation.
        together: `(N,) int64`, equal for rows that stay in one fold; None on a fixed test split.
    """

    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    in_train: NDArray[np.bool_] | None
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    losses: NDArray[np.float64]
    folds: NDArray[np.int64] | None = None
    together: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, of_runs: Sequence[Predictions]) -> ScoredRows:
        """Score the logits of runs with the same labels."""
        first = of_runs[0]
        return cls(
            labels=first.labels,
            groups=first.groups,
            in_train=np.logical_or.reduce([predictions.in_train for predictions in of_runs]),
            predicted=np.stack([predictions.logits.argmax(axis=1) for predictions in of_runs]),
            confidence=np.stack([softmax(predictions.logits).max(axis=1) for predictions in of_runs]),
            losses=np.stack([row_losses(first.labels, predictions.logits) for predictions in of_runs]),
        )

    def where(self, kept: NDArray[np.bool_]) -> ScoredRows:
        """Return some of the rows."""
        in_train = None if self.in_train is None else self.in_train[kept]
        of_runs = self.predicted[:, kept], self.confidence[:, kept], self.losses[:, kept]
        folds = None if self.folds is None else self.folds[:, kept]
        together = None if self.together is None else self.together[kept]
        return ScoredRows(self.labels[kept], self.groups[kept], in_train, *of_runs, folds, together)

    def of_runs(self, places: Sequence[int]) -> ScoredRows:
        """Return some of the runs, by their places."""
        chosen = list(places)
        return replace(
            self,
            predicted=self.predicted[chosen],
            confidence=self.confidence[chosen],
            losses=self.losses[chosen],
            folds=None if self.folds is None else self.folds[chosen],
        )

    @property
    def runs(self) -> int:
        """S, the number of runs."""
        return len(self.predicted)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """`(S, N) bool`."""
        return np.equal(self.predicted, self.labels, dtype=np.bool_)

    @property
    def single_classes(self) -> NDArray[np.int64] | None:
        """The classes that are predicted, if each run, or each fold of one, predicts one class only; else None."""
        for place, predicted in enumerate(self.predicted):
            folds = np.zeros_like(predicted) if self.folds is None else self.folds[place]
            pairs = folds * (predicted.max(initial=0) + 1) + predicted
            if len(np.unique(pairs)) > len(np.unique(folds)):
                return None
        return np.unique(self.predicted)


def split_scores(parts: Sequence[ScoredRows], class_names: Sequence[str]) -> SplitScores:
    """Return the scores of all runs.

    Args:
        parts: runs that were scored on the same rows are in one part; at least one part.
        class_names: the K class names.
    """
    classes = len(class_names)
    scores = [score(rows.labels, predicted, classes) for rows in parts for predicted in rows.predicted]
    binned = (binned_by_confidence(*run) for rows in parts for run in zip(rows.confidence, rows.correct, strict=True))

    def of_classes(name: str) -> dict[str, Statistic]:
        columns = np.stack([getattr(one, name) for one in scores], axis=1)
        return {class_name: share(column) for class_name, column in zip(class_names, columns, strict=True)}

    return SplitScores(
        rows=len(parts[0].labels),
        accuracy=share([one.accuracy for one in scores]),
        balanced_accuracy=share([one.balanced_accuracy for one in scores]),
        macro_f1=share([one.macro_f1 for one in scores]),
        ece=share([bins.error for bins in binned]),
        nll=statistic(np.concatenate([rows.losses.mean(axis=1) for rows in parts])),
        recall=of_classes("recall"),
        precision=of_classes("precision"),
        f1=of_classes("f1"),
        confusion=_summed_confusion(scores),
        ece_ci95=_calibration_interval(parts),
    )


def _calibration_interval(parts: Sequence[ScoredRows]) -> tuple[float, float] | None:
    """Return the interval of the calibration error of runs on the same rows, if all have class probabilities."""
    rows = parts[0]
    if len(parts) > 1 or rows.folds is not None or not np.isfinite(rows.confidence).all():
        return None
    return calibration_error_interval(rows.confidence, rows.correct, confidence_bins(rows.confidence), rows.groups)


def first_of_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `(N,) int64`: for each row the first row with the same group number."""
    _, first, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    return first[group_of_row].astype(np.int64)


def confusion_of(rows: ScoredRows, class_names: Sequence[str], pair: tuple[str, str]) -> Confusion:
    """Count the rows of one class that each run predicts as another."""
    true, predicted = (class_names.index(name) for name in pair)
    count = ((rows.labels == true) & (rows.predicted == predicted)).sum(axis=1)
    return Confusion(true=pair[0], predicted=pair[1], count=statistic(count))


def statistic(values: ArrayLike) -> Statistic:
    """Summarize one number per run; NaN and infinity count as missing."""
    numbers = np.asarray(values, dtype=np.float64)
    summary = mean_interval(numbers[np.isfinite(numbers)])
    return Statistic(mean=summary.mean, sd=summary.sd, n=summary.n, ci95=summary.ci95)


def share(values: ArrayLike) -> Statistic:
    """Summarize one number in `[0, 1]` per run; the interval is clipped to this range."""
    summary = statistic(values)
    if summary.ci95 is None:
        return summary
    low, high = summary.ci95
    return summary.model_copy(update={"ci95": (max(low, 0.0), min(high, 1.0))})


def _summed_confusion(scores: Iterable[Scores]) -> tuple[tuple[int, ...], ...]:
    total = np.sum([one.confusion for one in scores], axis=0)
    return tuple(tuple(row) for row in total.tolist())
