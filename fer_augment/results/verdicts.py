"""Compute a comparison from finished runs: scores of every arm, and tests of each arm against the baseline.

Legend: S runs of an arm, N rows of a split, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_augment.data.records import Predictions, RunDirectory, RunRecord, StepRecord
from fer_augment.errors import NothingFinishedError, RunError
from fer_augment.metrics import Scores, expected_calibration_error, negative_log_likelihood, score
from fer_augment.results.comparison import (
    Arm,
    ComparisonRecord,
    Confusion,
    CurvePoint,
    Data,
    Failure,
    Judgment,
    Judgments,
    SplitScores,
    Statistic,
    StepRows,
    Versus,
)
from fer_augment.results.comparison_warnings import warnings_of_runs
from fer_augment.significance import (
    Difference,
    accuracy_weights,
    balanced_accuracy_weights,
    endpoint_difference,
    holm,
    mean_interval,
    recall_weights,
    share_above,
    verdict,
)

Pair = tuple[str, str]

BOOTSTRAP_RUNS = 5
"""Minimum number of runs of both arms for `Versus.share_above`; with fewer, the bootstrap is too optimistic."""


def compare_runs(
    runs: Mapping[str, Sequence[RunDirectory]],
    *,
    baseline: str,
    source: str,
    fingerprint: str,
    counts: Mapping[str, ArrayLike],
    audit: Mapping[str, int] | None = None,
    failures: Sequence[Failure] = (),
    warnings: Sequence[str] = (),
    near_train: Iterable[int] | None = None,
) -> ComparisonRecord:
    """Compare the finished runs of several arms.

    The primary endpoint is balanced accuracy on the test split; accuracy is the guard, and the recall of each class
    is reported as well. All are tested with `significance.endpoint_difference`. Holm's correction is over the arms
    for balanced accuracy and for accuracy, and over the classes of an arm for recall.

    Args:
        runs: finished runs of each arm, in the order of the arms; an arm without finished runs may be missing or
            empty.
        baseline: name of the baseline.
        source: description of the data source, for display.
        fingerprint: digest of the data as read.
        counts: `(K,)` rows per class in `train`, `validation` and `test` as read.
        audit: counts of the data audit, by name.
        failures: failed runs.
        warnings: warnings to list before those of the runs.
        near_train: positions of the test rows with a near or mirrored duplicate in the training split; None if these
            were not searched for. Rows with an exact one are known from the runs.

    Returns:
        The comparison. For arms with one run it has differences without p-values.

    Raises:
        NothingFinishedError: if no run finished.
        RunError: if files of a run are damaged, or runs were scored on different rows.
    """
    arms = [_ArmRuns.read(recipe, directories) for recipe, directories in runs.items() if directories]
    arms.sort(key=lambda arm: arm.recipe != baseline)
    if not arms:
        raise nothing_finished(failures)
    _require_same_rows(arms)
    class_names = arms[0].class_names
    labels = arms[0].test.labels
    in_train = np.logical_or.reduce([arm.test.in_train for arm in arms])
    near = np.isin(np.arange(len(labels)), list(near_train or ())) & ~in_train
    kept = ~in_train & ~near
    versus = _versus(arms, kept) if arms[0].recipe == baseline else ()
    of_splits = {**counts, "test_deduplicated": np.bincount(labels[kept], minlength=len(class_names))}
    if near_train is not None:
        of_splits["test_near_duplicates"] = np.bincount(labels[near], minlength=len(class_names))
    records = {arm.recipe: arm.records for arm in arms}
    watched = _watched_pairs(arms)
    of_runs = warnings_of_runs(baseline, records, failures, of_splits["test"], of_splits["test_deduplicated"])
    return ComparisonRecord(
        baseline=baseline,
        class_names=class_names,
        data=Data(
            source=source,
            fingerprint=fingerprint,
            counts={split: _by_class(class_names, np.asarray(rows).tolist()) for split, rows in of_splits.items()},
            audit=dict(audit or {}),
        ),
        environment=_environment(record for arm in arms for record in arm.records),
        arms=tuple(_arm(arm, kept, watched) for arm in arms),
        versus=versus,
        failures=tuple(failures),
        warnings=tuple(dict.fromkeys([*warnings, *of_runs])),
    )


def nothing_finished(failures: Sequence[Failure]) -> NothingFinishedError:
    """Return the error for a comparison without finished runs, with the first failure as reason."""
    reason = f"; {failures[0].recipe}, seed {failures[0].seed}: {failures[0].message}" if failures else ""
    return NothingFinishedError(f"nothing to compare: no run finished{reason}")


# --- runs in memory


@dataclass(frozen=True, eq=False)
class _Rows:
    """Predictions of S runs for the same N rows.

    Attributes:
        labels: `(N,) int64`.
        groups: `(N,) int64`, equal for exact duplicates.
        in_train: `(N,) bool`, whether the row has an exact duplicate in the training split of any run.
        logits: `(S, N, K) float32`.
    """

    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    in_train: NDArray[np.bool_]
    logits: NDArray[np.float32]

    @classmethod
    def of(cls, of_runs: Sequence[Predictions]) -> _Rows:
        in_train = np.logical_or.reduce([predictions.in_train for predictions in of_runs])
        logits = np.stack([predictions.logits for predictions in of_runs])
        return cls(of_runs[0].labels, of_runs[0].groups, in_train, logits)

    def where(self, kept: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.labels[kept], self.groups[kept], self.in_train[kept], self.logits[:, kept])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """`(S, N) int64`."""
        predicted: NDArray[np.int64] = np.argmax(self.logits, axis=2)
        return predicted

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """`(S, N) bool`."""
        return np.equal(self.predicted, self.labels, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class _ArmRuns:
    """The runs of an arm, in ascending order of their seeds."""

    recipe: str
    records: tuple[RunRecord, ...]
    test: _Rows
    validation: _Rows

    @classmethod
    def read(cls, recipe: str, directories: Iterable[RunDirectory]) -> _ArmRuns:
        runs = sorted(((run.record, run) for run in directories), key=lambda pair: pair[0].identity.seed)
        of_runs = [(run.predictions("test"), run.predictions("validation")) for _, run in runs]
        for (_, run), of_run in zip(runs, of_runs, strict=True):
            if any(not np.array_equal(own.labels, first.labels) for own, first in zip(of_run, of_runs[0], strict=True)):
                raise RunError(f"{run.path}: scored on different rows than {runs[0][1].path}; remove the wrong run")
        test, validation = (_Rows.of(split) for split in zip(*of_runs, strict=True))
        return cls(recipe, tuple(record for record, _ in runs), test, validation)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.records[0].class_names


def _require_same_rows(arms: Sequence[_ArmRuns]) -> None:
    first = arms[0]
    for arm in arms[1:]:
        same_rows = np.array_equal(arm.test.labels, first.test.labels)
        if arm.class_names != first.class_names or not same_rows:
            names = f"{arm.recipe} and {first.recipe}"
            raise RunError(f"{names}: scored on different test splits; compare runs on the same data")


# --- scores of one arm


def _arm(arm: _ArmRuns, kept: NDArray[np.bool_], watched: Sequence[Pair]) -> Arm:
    names, records = arm.class_names, arm.records
    newest = records[-1]
    return Arm(
        recipe=arm.recipe,
        description=str(newest.recipe.get("description", "")),
        model=str(newest.recipe.get("model", "")),
        loss=str(newest.recipe.get("training", {}).get("loss", "")),
        seeds=tuple(record.identity.seed for record in records),
        run_keys=tuple(record.identity.key for record in records),
        test=_split_scores(arm.test, names),
        test_deduplicated=_split_scores(arm.test.where(kept), names) if kept.any() else None,
        validation=_split_scores(arm.validation, names),
        test_loss=_statistic([record.test_loss for record in records]),
        selection_loss=_statistic([record.curve[-1].selection_loss for record in records if record.curve]),
        watched=tuple(_confusion(arm.test, names, pair) for pair in watched),
        steps=_step_rows(records),
        train_counts=_by_class(names, newest.train_counts),
        rewritten_counts=tuple(_by_class(names, record.rewritten_counts) for record in records),
        optimizer_steps=tuple(record.optimizer_steps for record in records),
        parameter_count=newest.parameter_count,
        training_seconds=_statistic([s for record in records if (s := record.training_seconds) is not None]),
        curve=_curve(records),
    )


def _split_scores(rows: _Rows, class_names: Sequence[str]) -> SplitScores:
    classes = len(class_names)
    scores = [score(rows.labels, predicted, classes) for predicted in rows.predicted]

    def of_classes(name: str) -> dict[str, Statistic]:
        columns = np.stack([getattr(one, name) for one in scores], axis=1)
        return {class_name: _statistic(column) for class_name, column in zip(class_names, columns, strict=True)}

    return SplitScores(
        rows=len(rows.labels),
        accuracy=_statistic([one.accuracy for one in scores]),
        balanced_accuracy=_statistic([one.balanced_accuracy for one in scores]),
        macro_f1=_statistic([one.macro_f1 for one in scores]),
        ece=_statistic([expected_calibration_error(rows.labels, logits) for logits in rows.logits]),
        nll=_statistic([negative_log_likelihood(rows.labels, logits) for logits in rows.logits]),
        recall=of_classes("recall"),
        precision=of_classes("precision"),
        f1=of_classes("f1"),
        confusion=_summed_confusion(scores),
    )


def _summed_confusion(scores: Iterable[Scores]) -> tuple[tuple[int, ...], ...]:
    total = np.sum([one.confusion for one in scores], axis=0)
    return tuple(tuple(row) for row in total.tolist())


def _statistic(values: ArrayLike) -> Statistic:
    """Summarize one number per run; NaN and infinity count as missing."""
    numbers = np.asarray(values, dtype=np.float64)
    summary = mean_interval(numbers[np.isfinite(numbers)])
    return Statistic(mean=summary.mean, sd=summary.sd, n=summary.n, ci95=summary.ci95)


def _by_class(class_names: Sequence[str], counts: Iterable[int]) -> dict[str, int]:
    return dict(zip(class_names, counts, strict=True))


def _step_rows(records: Sequence[RunRecord]) -> tuple[StepRows, ...]:
    of_steps = zip(*(record.steps for record in records), strict=True)
    return tuple(
        StepRows(name=step[0].name, rows=tuple(run.rows for run in step), chosen=_chosen(step)) for step in of_steps
    )


def _chosen(step: Sequence[StepRecord]) -> dict[str, tuple[float | None, ...]]:
    names = dict.fromkeys(name for run in step for name in run.chosen)
    return {name: tuple(run.chosen.get(name) for run in step) for name in names}


def _curve(records: Sequence[RunRecord]) -> tuple[CurvePoint, ...]:
    of_runs = [{(point.epoch, point.step): point for point in record.curve} for record in records]
    shared = [place for place in of_runs[0] if all(place in points for points in of_runs)]
    names = records[0].class_names
    curve = []
    for epoch, step in shared:
        points = [of_run[epoch, step] for of_run in of_runs]
        recall = np.array([point.validation_recall for point in points], dtype=np.float64)
        curve.append(
            CurvePoint(
                epoch=epoch,
                step=step,
                training_loss=_statistic([point.training_loss for point in points]),
                selection_loss=_statistic([point.selection_loss for point in points]),
                validation_loss=_statistic([point.validation_loss for point in points]),
                validation_accuracy=_statistic([point.validation_accuracy for point in points]),
                validation_recall={name: _statistic(column) for name, column in zip(names, recall.T, strict=True)},
            )
        )
    return tuple(curve)


# --- watched pairs


def _watched_pairs(arms: Sequence[_ArmRuns]) -> tuple[Pair, ...]:
    """Return the pairs (true, predicted) that steps watch, or the most frequent confusion of the first arm.

    The latter is determined on the validation split, so that nothing is selected on the test split.
    """
    class_names = arms[0].class_names
    steps = (step for arm in arms for step in arm.records[0].steps)
    named = [pair for step in steps for pair in step.watched_pairs if set(pair) <= set(class_names)]
    if named:
        return tuple(dict.fromkeys(named))
    confusion = np.array(_split_scores(arms[0].validation, class_names).confusion)
    np.fill_diagonal(confusion, 0)
    if not confusion.any():
        return ()
    true, predicted = np.unravel_index(confusion.argmax(), confusion.shape)
    return ((class_names[true], class_names[predicted]),)


def _confusion(rows: _Rows, class_names: Sequence[str], pair: Pair) -> Confusion:
    true, predicted = (class_names.index(name) for name in pair)
    count = ((rows.labels == true) & (rows.predicted == predicted)).sum(axis=1)
    return Confusion(true=pair[0], predicted=pair[1], count=_statistic(count))


# --- verdicts


def _versus(arms: Sequence[_ArmRuns], kept: NDArray[np.bool_]) -> tuple[Versus, ...]:
    """Test every other arm against the first."""
    baseline, *others = arms
    names = baseline.class_names
    whole = _judgments(baseline.test, [arm.test for arm in others], names)
    deduplicated: Sequence[Judgments | None] = [None] * len(others)
    if kept.any():
        deduplicated = _judgments(baseline.test.where(kept), [arm.test.where(kept) for arm in others], names)
    return tuple(
        Versus(
            **dict(judgments),
            recipe=arm.recipe,
            baseline=baseline.recipe,
            share_above=_share_above(baseline.test, arm.test, len(names)),
            test_deduplicated=on_deduplicated,
        )
        for arm, judgments, on_deduplicated in zip(others, whole, deduplicated, strict=True)
    )


def _judgments(baseline: _Rows, arms: Sequence[_Rows], class_names: Sequence[str]) -> list[Judgments]:
    labels, groups, classes = baseline.labels, baseline.groups, len(class_names)

    def differences(weights: Sequence[NDArray[np.float64]], rows: _Rows) -> list[Difference]:
        return [endpoint_difference(baseline.correct, rows.correct, labels, each, groups) for each in weights]

    overall = [accuracy_weights(labels, classes, groups), balanced_accuracy_weights(labels, classes)]
    recalls = [recall_weights(number, classes) for number in range(classes)]
    by_endpoint = zip(*(differences(overall, rows) for rows in arms), strict=True)
    accuracy, balanced_accuracy = [_judged(endpoint) for endpoint in by_endpoint] or ([], [])
    return [
        Judgments(
            accuracy=accuracy[place],
            balanced_accuracy=balanced_accuracy[place],
            recall=dict(zip(class_names, _judged(differences(recalls, rows)), strict=True)),
        )
        for place, rows in enumerate(arms)
    ]


def _judged(family: Sequence[Difference]) -> list[Judgment]:
    """Judge a family of differences with Holm's correction."""
    adjusted = holm([difference.p for difference in family])
    return [
        Judgment(
            delta=difference.delta,
            ci95=difference.ci95,
            p=difference.p,
            p_adjusted=p_adjusted,
            verdict=verdict(difference, p_adjusted),
            detectable=difference.detectable,
        )
        for difference, p_adjusted in zip(family, adjusted, strict=True)
    ]


def _share_above(baseline: _Rows, arm: _Rows, classes: int) -> float | None:
    if min(len(baseline.logits), len(arm.logits)) < BOOTSTRAP_RUNS:
        return None
    weights = balanced_accuracy_weights(baseline.labels, classes)
    rng = np.random.default_rng(0)  # the same runs give the same comparison
    arms = baseline.correct, arm.correct
    return share_above(*arms, baseline.labels, weights, baseline.groups, rng=rng)


def _environment(records: Iterable[RunRecord]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for record in records:
        for name, value in record.environment.items():
            values.setdefault(name, []).append(value)
    return {name: " | ".join(dict.fromkeys(of_runs)) for name, of_runs in values.items()}
