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
    Arm,
    ComparisonRecord,
    Data,
    Failure,
    FoldDesign,
    GridChoice,
    Judgment,
    Judgments,
    Versus,
)
from fer_augment.results.comparison_warnings import (
    warnings_of_arms,
    warnings_of_records,
    warnings_of_repeats,
    warnings_of_scores,
)
from fer_augment.results.identical_arms import identical_arms
from fer_augment.results.scored_rows import ScoredRows
from fer_augment.significance import (
    Difference,
    accuracy_weights,
    balanced_accuracy_weights,
    endpoint_differences,
    fold_differences,
    holm,
    runs_for_half_width,
    shares_above,
    verdict,
)

PRECISIONS = (5, 3, 2, 1)
"""Half-widths of intervals in points for `ComparisonRecord.seeds_for_precision`."""
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
    precisions: Sequence[float] = (),
    grid: Mapping[str, dict[str, JsonValue]] | None = None,
) -> ComparisonRecord:
    """Compare the finished runs of several arms.

    The primary endpoint is balanced accuracy on the test split; accuracy is the guard, and the recall of each class
    is reported as well. All are tested with `significance.endpoint_differences`, or in a cross-validation with
    `significance.fold_differences`. Holm's correction is over the arms for balanced accuracy and for accuracy, and over
    the classes of an arm for recall.

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
    runs = {arm.name: arm.test.runs for arm in arms}
    records = {arm.name: arm.records for arm in arms if arm.records}
    of_arms = warnings_of_repeats if design else warnings_of_arms
    further = [
        *of_arms(baseline, runs, failures, by_class["test"], by_class.get("test_deduplicated")),
        *(warnings_of_records(records) if records else ()),
    ]
    watched = watched_pairs(arms)
    records_of_arms = tuple(summarized(arm, kept, watched) for arm in arms)
    if not design:
        further += warnings_of_scores(records_of_arms, by_class["test"])
    return ComparisonRecord(
        baseline=baseline,
        class_names=class_names,
        data=Data(source=source, fingerprint=fingerprint, counts=by_class, audit=dict(audit or {})),
        environment=_environment(record for arm in arms for record in arm.records),
        arms=records_of_arms,
        versus=_versus(arms, kept) if arms[0].name == baseline else (),
        failures=tuple(failures),
        warnings=tuple(dict.fromkeys([*warnings, *further])),
        cross_validation=design,
        seeds_for_precision={} if design or arms[0].name != baseline else _seeds_for(arms, precisions),
        grid=GridChoice(arms=dict(grid), chosen=_chosen(grid, records_of_arms)) if grid else None,
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


def _seeds_for(arms: Sequence[ArmRuns], precisions: Sequence[float]) -> dict[str, int | None]:
    """Return how many seeds each precision of balanced accuracy, in points, takes in the arm that takes most."""
    baseline, *others = (arm.test for arm in arms)
    if not others or min(rows.runs for rows in (baseline, *others)) < 2:
        return {}
    weights = balanced_accuracy_weights(baseline.labels, len(arms[0].class_names))
    wanted = sorted({*PRECISIONS, *precisions}, reverse=True)
    fractions = [points / 100 for points in wanted]
    of_arms = [
        runs_for_half_width(baseline.correct, rows.correct, baseline.labels, weights, fractions, baseline.groups)
        for rows in others
    ]
    return {
        f"{points:g}": None if None in needed else max(count for count in needed if count is not None)
        for points, needed in zip(wanted, zip(*of_arms, strict=True), strict=True)
    }


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


def _in_train(arms: Sequence[ArmRuns]) -> NDArray[np.bool_] | None:
    """Return which test rows have an exact duplicate in the training split of any run; None if that is unknown."""
    of_arms = [arm.test.in_train for arm in arms if arm.test.in_train is not None]
    return np.logical_or.reduce(of_arms) if len(of_arms) == len(arms) else None


def _by_class(class_names: Sequence[str], counts: ArrayLike) -> dict[str, int]:
    return dict(zip(class_names, np.asarray(counts).tolist(), strict=True))


# --- verdicts


def _versus(arms: Sequence[ArmRuns], kept: NDArray[np.bool_] | None) -> tuple[Versus, ...]:
    """Test every other arm against the first."""
    baseline, *others = arms
    names = baseline.class_names
    whole = _judgments(_differences(baseline, others, None), names)
    deduplicated: Sequence[Judgments | None] = [None] * len(others)
    if kept is not None and kept.any():
        deduplicated = _judgments(_differences(baseline, others, kept), names)
    shares = _shares_above(baseline.test, [arm.test for arm in others], len(names))
    return tuple(
        Versus(
            **dict(judgments),
            recipe=arm.name,
            baseline=baseline.name,
            share_above=share_above,
            test_deduplicated=on_deduplicated,
        )
        for arm, judgments, share_above, on_deduplicated in zip(others, whole, shares, deduplicated, strict=True)
    )


def _differences(
    baseline: ArmRuns, others: Sequence[ArmRuns], kept: NDArray[np.bool_] | None
) -> list[list[Difference]]:
    """Test accuracy, balanced accuracy and the recall of each class of every other arm, on all or some of the rows."""
    rows = [arm.test if kept is None else arm.test.where(kept) for arm in (baseline, *others)]
    labels, groups, classes = rows[0].labels, rows[0].groups, len(baseline.class_names)
    accuracy, balanced = accuracy_weights(labels, classes, groups), balanced_accuracy_weights(labels, classes)
    weights = np.vstack([accuracy, balanced, np.eye(classes)])
    if not baseline.repeats:
        return endpoint_differences(rows[0].correct, [arm.correct for arm in rows[1:]], labels, weights, groups)
    return [_of_repeats(baseline, arm, weights) for arm in others]


def _of_repeats(baseline: ArmRuns, arm: ArmRuns, weights: NDArray[np.float64]) -> list[Difference]:
    """Test an arm of a cross-validation by the repeats that it shares with the baseline."""
    shared = sorted(set(baseline.repeats) & set(arm.repeats))
    if not shared:
        return [Difference(None, None, None, None, 0, 0, 0, needs_runs=1)] * len(weights)
    a, b = (one.test.of_runs([one.repeats.index(repeat) for repeat in shared]) for one in (baseline, arm))
    if a.folds is None or b.folds is None or not np.array_equal(a.folds, b.folds):
        raise RunError(f"{baseline.name} and {arm.name}: different folds; compare runs of one cross-validation")
    return fold_differences(a.correct, [b.correct], a.labels, a.folds, weights, a.groups, a.together)[0]


def _judgments(differences: Sequence[Sequence[Difference]], class_names: Sequence[str]) -> list[Judgments]:
    """Judge the differences of each arm: accuracy, balanced accuracy, and the recall of each class."""
    of_accuracy, of_balanced = (_judged([of_arm[endpoint] for of_arm in differences]) for endpoint in (0, 1))
    return [
        Judgments(
            accuracy=of_accuracy[place],
            balanced_accuracy=of_balanced[place],
            recall=dict(zip(class_names, _judged(of_arm[2:]), strict=True)),
        )
        for place, of_arm in enumerate(differences)
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


def _shares_above(baseline: ScoredRows, arms: Sequence[ScoredRows], classes: int) -> list[float | None]:
    enough = [baseline.folds is None and arm.runs >= BOOTSTRAP_RUNS <= baseline.runs for arm in arms]
    weights = balanced_accuracy_weights(baseline.labels, classes)
    rng = np.random.default_rng(0)  # the same runs give the same comparison
    correct = [arm.correct for arm, is_enough in zip(arms, enough, strict=True) if is_enough]
    shares = iter(shares_above(baseline.correct, correct, baseline.labels, weights, baseline.groups, rng=rng))
    return [next(shares) if is_enough else None for is_enough in enough]


def _environment(records: Iterable[RunRecord]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for record in records:
        for name, value in record.environment.items():
            values.setdefault(name, []).append(value)
    return {name: " | ".join(dict.fromkeys(of_runs)) for name, of_runs in values.items()}
