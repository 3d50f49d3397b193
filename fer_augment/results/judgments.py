"""Test arms against the baseline, or every two of them, with Holm's correction.

Legend: S runs of an arm, N rows of a split, K classes, P pairs of arms.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import FerAugmentError, RunError
from fer_augment.results.arm_runs import ArmRuns
from fer_augment.results.comparison import Against, Judgment, Judgments, Versus
from fer_augment.results.scored_rows import ScoredRows
from fer_augment.significance import (
    ArmStatistics,
    Difference,
    accuracy_weights,
    arm_statistics,
    balanced_accuracy_weights,
    fold_differences,
    holm,
    pair_differences,
    runs_for_half_width,
    shares_above,
    verdict,
)

PRECISIONS = (5, 3, 2, 1)
"""Half-widths of intervals in points for `ComparisonRecord.seeds_for_precision`."""
BOOTSTRAP_RUNS = 5
"""Minimum number of runs of both arms for `Versus.share_above`; with fewer, the bootstrap is too optimistic."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class ArmTests:
    """Tests of a comparison; see `ComparisonRecord` for the attributes."""

    versus: tuple[Versus, ...]
    pairs: tuple[Versus, ...]
    seeds_for_precision: dict[str, int | None]


def check_against(against: str) -> None:
    """Refuse a choice of tests that does not exist.

    Raises:
        FerAugmentError: if it is neither `baseline` nor `all`.
    """
    if against not in get_args(Against):
        raise FerAugmentError(f"against: must be {' or '.join(map(repr, get_args(Against)))}, got {against!r}")


def tested(
    arms: Sequence[ArmRuns],
    baseline: str,
    kept: NDArray[np.bool_] | None,
    against: Against = "baseline",
    precisions: Sequence[float] = (),
) -> ArmTests:
    """Test arms against the baseline, or every two arms.

    Args:
        arms: the arms, the baseline first if it has finished runs.
        baseline: name of the baseline.
        kept: `(N,) bool`, rows of the deduplicated test split; None if it is unknown.
        against: `all` to test every two arms, with Holm's correction over all pairs.
        precisions: half-widths in points, besides `PRECISIONS`, for `seeds_for_precision`.

    Raises:
        RunError: if arms of a cross-validation have different folds.
    """
    pairs = list(itertools.combinations(range(len(arms)), 2))
    if against == "baseline":
        pairs = [pair for pair in pairs if pair[0] == 0] if arms[0].name == baseline else []
    statistics = None if arms[0].repeats else _statistics(arms, None)
    whole = _judgments(_differences(arms, pairs, None, statistics), arms[0].class_names)
    deduplicated: Sequence[Judgments | None] = [None] * len(pairs)
    if kept is not None and kept.any():
        of_kept = None if arms[0].repeats else _statistics(arms, kept)
        deduplicated = _judgments(_differences(arms, pairs, kept, of_kept), arms[0].class_names)
    shares = _shares_above(arms) if arms[0].name == baseline else []
    share_of = {(0, place): share for place, share in enumerate(shares, start=1)}
    judged = [
        Versus(
            **dict(judgments),
            recipe=arms[b].name,
            baseline=arms[a].name,
            share_above=share_of.get((a, b)),
            test_deduplicated=on_deduplicated,
        )
        for (a, b), judgments, on_deduplicated in zip(pairs, whole, deduplicated, strict=True)
    ]
    return ArmTests(
        versus=tuple(one for one in judged if one.baseline == baseline),
        pairs=tuple(one for one in judged if one.baseline != baseline),
        seeds_for_precision=_seeds_for(arms, pairs, statistics, precisions),
    )


def _statistics(arms: Sequence[ArmRuns], kept: NDArray[np.bool_] | None) -> list[ArmStatistics]:
    rows = [arm.test if kept is None else arm.test.where(kept) for arm in arms]
    return arm_statistics([one.correct for one in rows], rows[0].labels, len(arms[0].class_names), rows[0].groups)


def _differences(
    arms: Sequence[ArmRuns],
    pairs: Sequence[Pair],
    kept: NDArray[np.bool_] | None,
    statistics: Sequence[ArmStatistics] | None,
) -> list[list[Difference]]:
    """Test accuracy, balanced accuracy and the recall of each class, on all or some of the rows: P lists."""
    first = arms[0].test if kept is None else arms[0].test.where(kept)
    classes = len(arms[0].class_names)
    accuracy = accuracy_weights(first.labels, classes, first.groups)
    weights = np.vstack([accuracy, balanced_accuracy_weights(first.labels, classes), np.eye(classes)])
    if statistics is not None:
        return pair_differences(statistics, pairs, weights)
    return [_of_repeats(arms[a], arms[b], weights) for a, b in pairs]


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
    """Judge the differences of each pair: accuracy, balanced accuracy, and the recall of each class."""
    of_accuracy, of_balanced = (_judged([of_pair[endpoint] for of_pair in differences]) for endpoint in (0, 1))
    return [
        Judgments(
            accuracy=of_accuracy[place],
            balanced_accuracy=of_balanced[place],
            recall=dict(zip(class_names, _judged(of_pair[2:]), strict=True)),
        )
        for place, of_pair in enumerate(differences)
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


def _shares_above(arms: Sequence[ArmRuns]) -> list[float | None]:
    """Return `Versus.share_above` of each arm but the first, the baseline."""
    baseline, *others = (arm.test for arm in arms)
    enough = [_has_bootstrap(baseline, arm) for arm in others]
    weights = balanced_accuracy_weights(baseline.labels, len(arms[0].class_names))
    rng = np.random.default_rng(0)  # the same runs give the same comparison
    correct = [arm.correct for arm, is_enough in zip(others, enough, strict=True) if is_enough]
    shares = iter(shares_above(baseline.correct, correct, baseline.labels, weights, baseline.groups, rng=rng))
    return [next(shares) if is_enough else None for is_enough in enough]


def _has_bootstrap(baseline: ScoredRows, arm: ScoredRows) -> bool:
    return baseline.folds is None and arm.runs >= BOOTSTRAP_RUNS <= baseline.runs


def _seeds_for(
    arms: Sequence[ArmRuns],
    pairs: Sequence[Pair],
    statistics: Sequence[ArmStatistics] | None,
    precisions: Sequence[float],
) -> dict[str, int | None]:
    """Return how many seeds each precision of balanced accuracy, in points, takes for the pair that takes most.

    Only pairs with at least two runs of either arm count. A precision is omitted if it would be out of reach with one
    standard error more between images, but not with one less.
    """
    tested_pairs = [pair for pair in pairs if min(arms[place].test.runs for place in pair) > 1]
    if statistics is None or not tested_pairs:
        return {}
    weights = balanced_accuracy_weights(arms[0].test.labels, len(arms[0].class_names))
    wanted = sorted({*PRECISIONS, *precisions}, reverse=True)
    fractions = [points / 100 for points in wanted]
    fewest, expected, most = (
        [
            None if None in needed else max(count for count in needed if count is not None)
            for needed in zip(
                *(
                    runs_for_half_width(statistics[a], statistics[b], weights, fractions, errors)
                    for a, b in tested_pairs
                ),
                strict=True,
            )
        ]
        for errors in (-1.0, 0.0, 1.0)
    )
    return {
        f"{points:g}": seeds
        for points, low, seeds, high in zip(wanted, fewest, expected, most, strict=True)
        if low is None or high is not None
    }
