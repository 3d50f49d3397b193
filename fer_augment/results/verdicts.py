"""Compute a comparison from finished runs: scores of every arm, and tests of each arm against the baseline.

Legend: S runs of an arm, N rows of a split, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from fer_augment.data.records import RunDirectory, RunRecord
from fer_augment.errors import NothingFinishedError, RunError
from fer_augment.results.arm_runs import ArmRuns, has_complete_repeat, read_arm, summarized, watched_pairs
from fer_augment.results.comparison import (
    Against,
    Arm,
    ComparisonRecord,
    Data,
    Failure,
    FoldDesign,
    GridChoice,
)
from fer_augment.results.comparison_warnings import (
    warnings_of_arms,
    warnings_of_one_class,
    warnings_of_records,
    warnings_of_repeats,
    warnings_of_scores,
)
from fer_augment.results.identical_arms import identical_arms
from fer_augment.results.judgments import tested


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
    precisions: Sequence[float] = (),
    grid: Mapping[str, dict[str, JsonValue]] | None = None,
    against: Against = "baseline",
) -> ComparisonRecord:
    """Compare the finished runs of several arms.

    The primary endpoint is balanced accuracy on the test split; accuracy is the guard, and the recall of each class
    is reported as well. All are tested with `significance.endpoint_differences`, or in a cross-validation with
    `significance.fold_differences`. Holm's correction is over the arms, or over all pairs of arms, for balanced
    accuracy and for accuracy, and over the classes of an arm or pair for recall.

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
        precisions: half-widths in points, besides `PRECISIONS`, for `ComparisonRecord.seeds_for_precision`.
        grid: values of each arm of a grid by dotted key; the arm to use is chosen among them on the validation split.
        against: `all` to test every two arms instead of each arm against the baseline.

    Returns:
        The comparison. For arms with one run it has differences without p-values.

    Raises:
        NothingFinishedError: if no run finished.
        RunError: if files of a run are damaged, or runs were scored on different rows.
    """
    arms = [read_arm(recipe, directories) for recipe, directories in runs.items() if has_complete_repeat(directories)]
    if not arms:
        raise nothing_finished(failures)
    return compare_arms(
        arms,
        baseline=baseline,
        source=source,
        fingerprint=fingerprint,
        counts=counts,
        audit=audit,
        failures=failures,
        warnings=[*warnings, *identical_arms(runs, baseline)],
        near_train=near_train,
        precisions=precisions,
        grid=grid,
        against=against,
    )


def compare_arms(
    arms: Iterable[ArmRuns],
    *,
    baseline: str,
    source: str,
    fingerprint: str,
    counts: Mapping[str, ArrayLike],
    audit: Mapping[str, int] | None = None,
    failures: Sequence[Failure] = (),
    warnings: Sequence[str] = (),
    near_train: Iterable[int] | None = None,
    precisions: Sequence[float] = (),
    grid: Mapping[str, dict[str, JsonValue]] | None = None,
    against: Against = "baseline",
) -> ComparisonRecord:
    """Compare arms whose predictions are in memory.

    Args:
        arms: at least one arm; all are scored on the same rows.
        baseline: name of the baseline.
        source: as for `compare_runs`, as are the other arguments.
        fingerprint: digest of the data.
        counts: `(K,)` rows per class of the splits, at least of `test`.
        audit: counts of the data audit, by name.
        failures: failed runs.
        warnings: warnings to list first.
        near_train: positions of the test rows with a near or mirrored duplicate in the training split.
        precisions: half-widths in points, besides `PRECISIONS`, for `ComparisonRecord.seeds_for_precision`.
        grid: values of each arm of a grid by dotted key; the arm to use is chosen among them on the validation split.
        against: `all` to test every two arms instead of each arm against the baseline.

    Raises:
        RunError: if arms were scored on different rows.
    """
    arms = sorted(arms, key=lambda arm: arm.name != baseline)
    _require_same_rows(arms)
    class_names, labels = arms[0].class_names, arms[0].test.labels
    design = _design(arms)
    in_train = None if design else _in_train(arms)  # folds keep duplicates together
    near = np.isin(np.arange(len(labels)), list(near_train or ()))
    kept = None if in_train is None else ~in_train & ~near
    of_splits = dict(counts)
    if kept is not None:
        of_splits["test_deduplicated"] = np.bincount(labels[kept], minlength=len(class_names))
    if near_train is not None and in_train is not None:
        of_splits["test_near_duplicates"] = np.bincount(labels[near & ~in_train], minlength=len(class_names))
    by_class = {split: _by_class(class_names, rows) for split, rows in of_splits.items()}
    if design:
        groups = _by_class(class_names, _groups_of_classes(arms[0]))
        repeats = {arm.name: arm.repeats for arm in arms}
        further = warnings_of_repeats(baseline, repeats, failures, by_class["test"], groups)
    else:
        runs = {arm.name: arm.test.runs for arm in arms}
        further = warnings_of_arms(baseline, runs, failures, by_class["test"], by_class.get("test_deduplicated"))
    records = {arm.name: arm.records for arm in arms if arm.records}
    further += warnings_of_records(records) if records else []
    watched = watched_pairs(arms)
    records_of_arms = tuple(summarized(arm, kept, watched) for arm in arms)
    if not design:
        further += warnings_of_scores(records_of_arms, by_class["test"])
    further += warnings_of_one_class({arm.name: name for arm in arms if (name := arm.single_class)})
    tests = tested(arms, baseline, kept, against, precisions)
    return ComparisonRecord(
        baseline=baseline,
        class_names=class_names,
        data=Data(source=source, fingerprint=fingerprint, counts=by_class, audit=dict(audit or {})),
        environment=_environment(record for arm in arms for record in arm.records),
        arms=records_of_arms,
        versus=tests.versus,
        failures=tuple(failures),
        warnings=tuple(dict.fromkeys([*warnings, *further])),
        cross_validation=design,
        seeds_for_precision=tests.seeds_for_precision,
        grid=GridChoice(arms=dict(grid), chosen=_chosen(grid, records_of_arms)) if grid else None,
        against=against,
        pairs=tests.pairs,
    )


def _chosen(names: Iterable[str], arms: Iterable[Arm]) -> str | None:
    """Return the arm of a grid with the highest mean balanced accuracy on the validation split."""
    candidates = set(names)
    means = {
        arm.recipe: arm.validation.balanced_accuracy.mean
        for arm in arms
        if arm.recipe in candidates and arm.validation is not None
    }
    known = {recipe: mean for recipe, mean in means.items() if mean is not None}
    return max(known, key=lambda recipe: known[recipe], default=None)


def nothing_finished(failures: Sequence[Failure]) -> NothingFinishedError:
    """Return the error for a comparison without finished runs, with the first failure as reason."""
    reason = f"; {failures[0]}: {failures[0].message}" if failures else ""
    what = "no repeat is complete" if failures and failures[0].fold else "no run finished"
    return NothingFinishedError(f"nothing to compare: {what}{reason}")


def _design(arms: Sequence[ArmRuns]) -> FoldDesign | None:
    """Return how the data were divided into folds; None on a fixed test split.

    Raises:
        RunError: if arms were divided differently.
    """
    designs = {(fold.folds, fold.keeps_test) for arm in arms for fold in arm.folds}
    kinds = {bool(arm.repeats) for arm in arms}
    if len(designs) > 1 or len(kinds) > 1:
        raise RunError("the arms have different folds; compare runs of one cross-validation, or of one test split")
    if not any(kinds):
        return None
    repeats = {repeat for arm in arms for repeat in arm.repeats}
    folds = arms[0].test.folds
    of_predictions = (0 if folds is None else int(folds.max()) + 1, False)  # another trainer's have no records
    number, keeps_test = next(iter(designs), of_predictions)
    return FoldDesign(folds=number, repeats=len(repeats), keeps_test=keeps_test)


def _require_same_rows(arms: Sequence[ArmRuns]) -> None:
    first = arms[0]
    for arm in arms[1:]:
        same_rows = np.array_equal(arm.test.labels, first.test.labels)
        if arm.class_names != first.class_names or not same_rows:
            names = f"{arm.name} and {first.name}"
            raise RunError(f"{names}: scored on different test splits; compare runs on the same data")


def _groups_of_classes(arm: ArmRuns) -> NDArray[np.int64]:
    """Return `(K,)`: the number of groups of rows that stay in one fold, of each class."""
    together = arm.test.groups if arm.test.together is None else arm.test.together
    pairs = np.unique(np.stack([arm.test.labels, together]), axis=1)
    return np.bincount(pairs[0], minlength=len(arm.class_names))


def _in_train(arms: Sequence[ArmRuns]) -> NDArray[np.bool_] | None:
    """Return which test rows have an exact duplicate in the training split of any run; None if that is unknown."""
    of_arms = [arm.test.in_train for arm in arms if arm.test.in_train is not None]
    return np.logical_or.reduce(of_arms) if len(of_arms) == len(arms) else None


def _by_class(class_names: Sequence[str], counts: ArrayLike) -> dict[str, int]:
    return dict(zip(class_names, np.asarray(counts).tolist(), strict=True))


def _environment(records: Iterable[RunRecord]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for record in records:
        for name, value in record.environment.items():
            values.setdefault(name, []).append(value)
    return {name: " | ".join(dict.fromkeys(of_runs)) for name, of_runs in values.items()}
