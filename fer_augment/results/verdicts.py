"""From the records of finished runs to a comparison: scores of every arm, and a verdict on each against the baseline.

Legend: S runs of an arm, N rows of a split, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
"""Fewest runs of either arm for `Versus.share_above`: with fewer, the bootstrap claims too much."""


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
) -> ComparisonRecord:
    """Compare the finished runs of several arms.

    The primary endpoint is balanced accuracy on the test split, with accuracy as the guard and the recall of each
    class beside it, judged by `significance.endpoint_difference`. Holm's correction goes over the arms for balanced
    accuracy and for accuracy, and over the classes within an arm for recall.

    Args:
        runs: finished runs of each arm, in the order of the arms; an arm none of whose runs finished may be left out
            or stand with none.
        baseline: name of the arm that the others are compared with.
        source: where the data came from, for people.
        fingerprint: digest of the data as read.
        counts: `(K,)` rows of each class in `train`, `validation` and `test` as read.
        audit: what the audit counted, by name.
        failures: runs that gave no result.
        warnings: sentences to stand before those found here.

    Returns:
        The comparison. With one run in an arm there are differences without p and verdict.

    Raises:
        NothingFinishedError: if no run finished.
        RunError: if a run's files are damaged, or runs were not scored on the same rows.
    """
    arms = [_ArmRuns.read(recipe, directories) for recipe, directories in runs.items() if directories]
    arms.sort(key=lambda arm: arm.recipe != baseline)
    if not arms:
        raise nothing_finished(failures)
    _require_same_rows(arms)
    class_names = arms[0].class_names
    kept = ~np.logical_or.reduce([arm.test.in_train for arm in arms])
    versus = _versus(arms, kept) if arms[0].recipe == baseline else ()
    of_splits = {**counts, "test_deduplicated": np.bincount(arms[0].test.labels[kept], minlength=len(class_names))}
    records = {arm.recipe: arm.records for arm in arms}
    watched = _watched_pairs(arms)
    found = warnings_of_runs(baseline, records, failures, of_splits["test"], of_splits["test_deduplicated"])
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
        warnings=tuple(dict.fromkeys([*warnings, *found])),
    )


def nothing_finished(failures: Sequence[Failure]) -> NothingFinishedError:
    """Return the error that says so, with the first reason."""
    why = f"; {failures[0].recipe} with seed {failures[0].seed}: {failures[0].message}" if failures else ""
    return NothingFinishedError(f"no run finished, so there is nothing to compare{why}")


# --- runs in memory


@dataclass(frozen=True, eq=False)
class _Rows:
    """What S runs said about the same N rows.

    Attributes:
        labels: `(N,) int64`.
        groups: `(N,) int64`, equal for copies.
        in_train: `(N,) bool`, for a row that any run saw in the training split.
        logits: `(S, N, K) float32`.
    """

    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    in_train: NDArray[np.bool_]
    logits: NDArray[np.float32]

    @classmethod
    def of(cls, said: Sequence[Predictions]) -> _Rows:
        in_train = np.logical_or.reduce([predictions.in_train for predictions in said])
        return cls(said[0].labels, said[0].groups, in_train, np.stack([predictions.logits for predictions in said]))

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
        said = [(run.predictions("test"), run.predictions("validation")) for _, run in runs]
        for (_, run), predictions in zip(runs, said, strict=True):
            if any(
                not np.array_equal(ours.labels, first.labels) for ours, first in zip(predictions, said[0], strict=True)
            ):
                raise RunError(f"{run.path}: was scored on other rows than {runs[0][1].path}; delete the wrong one")
        test, validation = (_Rows.of(split) for split in zip(*said, strict=True))
        return cls(recipe, tuple(record for record, _ in runs), test, validation)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.records[0].class_names


def _require_same_rows(arms: Sequence[_ArmRuns]) -> None:
    first = arms[0]
    for arm in arms[1:]:
        same_rows = np.array_equal(arm.test.labels, first.test.labels)
        if arm.class_names != first.class_names or not same_rows:
            raise RunError(f"{arm.recipe} and {first.recipe} were scored on different test splits; compare runs of one")


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
    """Summarize one number a run; NaN and infinity count as "the run does not have it"."""
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
    """Return the pairs (true, predicted) that strategies name, or else the one that the first arm confuses most.

    The latter is looked up on the validation split: nothing is chosen by the test split.
    """
    class_names = arms[0].class_names
    steps = (step for arm in arms for step in arm.records[0].steps)
    named = [pair for step in steps for pair in _named_pairs(step.parameters, class_names)]
    if named:
        return tuple(dict.fromkeys(named))
    confusion = np.array(_split_scores(arms[0].validation, class_names).confusion)
    np.fill_diagonal(confusion, 0)
    if not confusion.any():
        return ()
    true, predicted = np.unravel_index(confusion.argmax(), confusion.shape)
    return ((class_names[true], class_names[predicted]),)


def _named_pairs(parameters: Mapping[str, Any], class_names: Sequence[str]) -> list[Pair]:
    """Return what looks like `[[true, predicted], …]` in a strategy's parameters."""
    lists = (value for value in parameters.values() if isinstance(value, list | tuple))
    items = (item for value in lists for item in value if isinstance(item, list | tuple) and len(item) == 2)
    return [(item[0], item[1]) for item in items if item[0] != item[1] and all(name in class_names for name in item)]


def _confusion(rows: _Rows, class_names: Sequence[str], pair: Pair) -> Confusion:
    true, predicted = (class_names.index(name) for name in pair)
    count = ((rows.labels == true) & (rows.predicted == predicted)).sum(axis=1)
    return Confusion(true=pair[0], predicted=pair[1], count=_statistic(count))


# --- verdicts


def _versus(arms: Sequence[_ArmRuns], kept: NDArray[np.bool_]) -> tuple[Versus, ...]:
    """Judge every arm after the first against the first."""
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
            test_deduplicated=without_copies,
        )
        for arm, judgments, without_copies in zip(others, whole, deduplicated, strict=True)
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
    """Judge the differences that are tested together."""
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
    rng = np.random.default_rng(0)  # a report made again says the same
    arms = baseline.correct, arm.correct
    return share_above(*arms, baseline.labels, weights, baseline.groups, rng=rng)


def _environment(records: Iterable[RunRecord]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for record in records:
        for name, value in record.environment.items():
            values.setdefault(name, []).append(value)
    return {name: " | ".join(dict.fromkeys(of_runs)) for name, of_runs in values.items()}
