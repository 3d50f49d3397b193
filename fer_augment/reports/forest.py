"""Data of the forest plot: difference in recall of every class and arm to the baseline, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fer_augment.reports.axes import Axis
from fer_augment.reports.grids import runs_of
from fer_augment.reports.notable import notable_classes
from fer_augment.reports.wording import interval, is_tested, p_value, percent, points, printable
from fer_augment.results.comparison import ComparisonRecord, Judgment, SplitScores, Statistic, Versus
from fer_augment.significance import Verdict

TONES = {Verdict.BETTER: "better", Verdict.WORSE: "worse"}
"""CSS class of significant verdicts; that of all others is `open`."""

_CATERPILLAR_HEIGHT = 120, 600
"""Least and greatest height in pixels."""

_MARGIN_OF_LARGEST = 1.25
_MULTIPLE_OF_MEDIAN = 4.0
"""Intervals are clipped at the larger of `_MARGIN_OF_LARGEST` times the largest difference and `_MULTIPLE_OF_MEDIAN`
times the median interval end, so that the wide interval of one small class does not compress all others."""


@dataclass(frozen=True)
class Whisker:
    """Point and interval of a difference; positions are in percent of the axis.

    Attributes:
        at: position of the difference.
        low: lower end of the interval; None if there is no interval.
        high: upper end of the interval.
        is_clipped_below: whether the interval extends below the axis.
        is_clipped_above: whether it extends above the axis.
    """

    at: float
    low: float | None
    high: float | None
    is_clipped_below: bool
    is_clipped_above: bool


@dataclass(frozen=True)
class TestedDifference:
    """A difference as text and as a mark.

    Attributes:
        delta: the difference in points.
        ci95: its interval in points.
        p_adjusted: adjusted p-value.
        verdict: the verdict.
        tone: `better`, `worse` or `open`.
        whisker: its mark; None if the difference is undefined.
    """

    delta: str
    ci95: str
    p_adjusted: str
    verdict: str
    tone: str
    whisker: Whisker | None


@dataclass(frozen=True)
class ForestRow:
    """One endpoint of an arm.

    Attributes:
        label: name of the class or endpoint.
        rows: number of test images.
        baseline: score of the baseline in percent.
        arm: score of the arm in percent.
        difference: the difference on the test split.
        deduplicated: the difference on the deduplicated test split; None if this has the same images.
        deduplicated_rows: number of images of the deduplicated test split.
    """

    label: str
    rows: int
    baseline: str
    arm: str
    difference: TestedDifference
    deduplicated: TestedDifference | None
    deduplicated_rows: int


@dataclass(frozen=True)
class Caterpillar:
    """All classes in order of their difference, as paths of an SVG, 100 wide with a row of height 1 per class.

    Attributes:
        count: number of classes.
        height: height of the figure in pixels.
        intervals: path of the intervals.
        points: paths of the differences, by tone.
    """

    count: int
    height: int
    intervals: str
    points: dict[str, str]


@dataclass(frozen=True)
class ForestPanel:
    """Panel of an arm against the baseline.

    Attributes:
        arm: name of the arm.
        baseline: name of the baseline.
        runs: numbers of runs, as text.
        overall: balanced accuracy and accuracy.
        classes: recall of each class, or of the notable ones of many.
        caterpillar: all classes, if `classes` has only the notable ones.
    """

    arm: str
    baseline: str
    runs: str
    overall: tuple[ForestRow, ...]
    classes: tuple[ForestRow, ...]
    caterpillar: Caterpillar | None


@dataclass(frozen=True)
class Forest:
    """The plot.

    Attributes:
        axis: common axis of all panels, in points.
        panels: one panel per arm.
        has_deduplicated: whether any row has a mark for the deduplicated test split.
        has_intervals: whether any row has an interval.
        is_tested: whether any arm is tested: whether there are enough runs.
    """

    axis: Axis
    panels: tuple[ForestPanel, ...]
    has_deduplicated: bool
    has_intervals: bool
    is_tested: bool


def forest_plot(comparison: ComparisonRecord) -> Forest | None:
    """Return the forest plot of a comparison; None if no arm is tested."""
    if not comparison.versus:
        return None
    axis = _axis(comparison)
    panels = tuple(_panel(comparison, versus, axis) for versus in comparison.versus)
    rows = [row for panel in panels for row in (*panel.overall, *panel.classes)]
    has_intervals = any(row.difference.whisker and row.difference.whisker.low is not None for row in rows)
    return Forest(
        axis, panels, any(row.deduplicated for row in rows), has_intervals, any(map(is_tested, comparison.versus))
    )


def _axis(comparison: ComparisonRecord) -> Axis:
    """Return an axis over all differences and all intervals, except for very wide intervals."""
    judgments = [judgment for versus in comparison.versus for judgment in _all_judgments(versus)]
    deltas = [judgment.delta * 100 for judgment in judgments if judgment.delta is not None]
    ends = [end * 100 for judgment in judgments if judgment.ci95 for end in judgment.ci95]
    largest, median = np.abs([*deltas, 0.0]).max(), np.median(np.abs([*ends, 0.0]))
    reach = float(np.clip(max(largest * _MARGIN_OF_LARGEST, median * _MULTIPLE_OF_MEDIAN), 1.0, 100.0))
    return Axis.close_to([*deltas, *np.clip(ends, -reach, reach).tolist(), -1.0, 1.0], is_signed=True, ticks=6)


def _all_judgments(versus: Versus) -> Iterator[Judgment]:
    for judgments in (versus, versus.test_deduplicated):
        if judgments:
            yield from (judgments.accuracy, judgments.balanced_accuracy, *judgments.recall.values())


def _panel(comparison: ComparisonRecord, versus: Versus, axis: Axis) -> ForestPanel:
    arm, baseline = comparison.arm(versus.recipe), comparison.arm(versus.baseline)
    rows = [_row(endpoint, axis) for endpoint in _endpoints(comparison, versus, baseline.test, arm.test)]
    names = printable(arm.recipe), printable(baseline.recipe)
    caterpillar = _caterpillar(versus, axis) if len(rows) - 2 < len(comparison.class_names) else None
    return ForestPanel(*names, runs_of(comparison, versus), tuple(rows[:2]), tuple(rows[2:]), caterpillar)


def _caterpillar(versus: Versus, axis: Axis) -> Caterpillar:
    judged = [(judgment, judgment.delta) for judgment in versus.recall.values() if judgment.delta is not None]
    judged.sort(key=lambda pair: -pair[1])
    points: dict[str, str] = {}
    intervals = []
    for place, (judgment, delta) in enumerate(judged):
        y = place + 0.5
        if judgment.ci95:
            low, high = (axis.at(100 * end) for end in judgment.ci95)
            intervals.append(f"M{low:g} {y:g}H{high:g}")
        tone = TONES.get(judgment.verdict, "open")
        points[tone] = f"{points.get(tone, '')}M{axis.at(100 * delta):g} {y:g}h0"
    height = int(np.clip(4 * len(judged), *_CATERPILLAR_HEIGHT))
    return Caterpillar(len(judged), height, "".join(intervals), points)


class _Endpoint(NamedTuple):
    """Numbers of rows, scores and judgments of an endpoint, on the test split and the deduplicated test split."""

    label: str
    rows: int
    deduplicated_rows: int
    baseline: Statistic
    arm: Statistic
    judgment: Judgment
    deduplicated: Judgment | None


def _endpoints(comparison: ComparisonRecord, versus: Versus, old: SplitScores, new: SplitScores) -> Iterator[_Endpoint]:
    """Yield balanced accuracy, accuracy, and the recall of each class."""
    deduplicated = versus.test_deduplicated
    counts, deduplicated_counts = (comparison.data.counts.get(name, {}) for name in ("test", "test_deduplicated"))
    rows = old.rows, sum(deduplicated_counts.values())
    balanced = deduplicated.balanced_accuracy if deduplicated else None
    yield _Endpoint(
        "balanced accuracy", *rows, old.balanced_accuracy, new.balanced_accuracy, versus.balanced_accuracy, balanced
    )
    accuracy = deduplicated.accuracy if deduplicated else None
    yield _Endpoint("accuracy", *rows, old.accuracy, new.accuracy, versus.accuracy, accuracy)
    for name in notable_classes(comparison, versus):
        judgment = versus.recall[name]
        of_class = counts.get(name, 0), deduplicated_counts.get(name, 0)
        recall = deduplicated.recall[name] if deduplicated else None
        yield _Endpoint(printable(name), *of_class, old.recall[name], new.recall[name], judgment, recall)


def _row(endpoint: _Endpoint, axis: Axis) -> ForestRow:
    has_duplicates = endpoint.rows != endpoint.deduplicated_rows
    deduplicated = endpoint.deduplicated if has_duplicates else None
    return ForestRow(
        label=endpoint.label,
        rows=endpoint.rows,
        baseline=percent(endpoint.baseline),
        arm=percent(endpoint.arm),
        difference=_difference(endpoint.judgment, axis),
        deduplicated=_difference(deduplicated, axis) if deduplicated else None,
        deduplicated_rows=endpoint.deduplicated_rows,
    )


def _difference(judgment: Judgment, axis: Axis) -> TestedDifference:
    return TestedDifference(
        delta=points(judgment.delta),
        ci95=interval(judgment.ci95),
        p_adjusted=p_value(judgment.p_adjusted),
        verdict=str(judgment.verdict),
        tone=TONES.get(judgment.verdict, "open"),
        whisker=_whisker(judgment, axis),
    )


def _whisker(judgment: Judgment, axis: Axis) -> Whisker | None:
    if judgment.delta is None:
        return None
    at = axis.at(judgment.delta * 100)
    if judgment.ci95 is None:
        return Whisker(at, None, None, False, False)
    low, high = (100 * end for end in judgment.ci95)
    return Whisker(at, axis.at(low), axis.at(high), not axis.covers(low), not axis.covers(high))
