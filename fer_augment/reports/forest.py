"""The forest plot: for every class and arm how recall changed against the baseline, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fer_augment.reports.axes import Axis
from fer_augment.reports.wording import interval, p_value, percent, points, printable
from fer_augment.results.comparison import ComparisonRecord, Judgment, SplitScores, Statistic, Versus
from fer_augment.significance import Verdict

TONES = {Verdict.BETTER: "better", Verdict.WORSE: "worse"}
"""How verdicts are colored; all others are left uncolored."""

_OVER_LARGEST_CHANGE = 1.25
_OVER_USUAL_END = 4.0
"""An interval is cut off where it reaches further than this many times the largest change and the median end of an
interval: one very small class must not press all others together."""


@dataclass(frozen=True)
class Whisker:
    """An interval on the axis, all in percent of its length.

    Attributes:
        at: the difference.
        low: lower end of the interval; None if there is no interval.
        high: upper end.
        goes_on_below: whether the interval reaches below the axis.
        goes_on_above: whether it reaches above.
    """

    at: float
    low: float | None
    high: float | None
    goes_on_below: bool
    goes_on_above: bool


@dataclass(frozen=True)
class Change:
    """A difference in words and as a mark.

    Attributes:
        delta: in points.
        ci95: its interval in points.
        p_adjusted: adjusted p.
        verdict: in one word or a few.
        tone: `better`, `worse` or `open`.
        whisker: where it stands; None if the difference cannot be known.
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
        label: name of the class or of the endpoint.
        rows: test rows that it is about.
        baseline: its score in percent.
        arm: the arm's.
        change: the difference on the test split.
        without_copies: the same on test rows that do not stand in the training split; None if that is all of them.
        rows_without_copies: how many these are.
    """

    label: str
    rows: int
    baseline: str
    arm: str
    change: Change
    without_copies: Change | None
    rows_without_copies: int


@dataclass(frozen=True)
class ForestPanel:
    """An arm against the baseline.

    Attributes:
        arm: its name.
        baseline: the baseline's name.
        runs: numbers of runs, in words.
        overall: balanced accuracy and accuracy.
        classes: the recall of each class.
    """

    arm: str
    baseline: str
    runs: str
    overall: tuple[ForestRow, ...]
    classes: tuple[ForestRow, ...]


@dataclass(frozen=True)
class Forest:
    """The whole plot.

    Attributes:
        axis: the same for all panels, in points.
        panels: one for each arm.
        has_copies: whether any row has a second, smaller mark.
        has_intervals: whether any row has an interval.
    """

    axis: Axis
    panels: tuple[ForestPanel, ...]
    has_copies: bool
    has_intervals: bool


def forest_plot(comparison: ComparisonRecord) -> Forest | None:
    """Draw the verdicts of a comparison; None if it has none."""
    if not comparison.versus:
        return None
    axis = _axis(comparison)
    panels = tuple(_panel(comparison, versus, axis) for versus in comparison.versus)
    rows = [row for panel in panels for row in (*panel.overall, *panel.classes)]
    has_intervals = any(row.change.whisker and row.change.whisker.low is not None for row in rows)
    return Forest(axis, panels, any(row.without_copies for row in rows), has_intervals)


def _axis(comparison: ComparisonRecord) -> Axis:
    """Return an axis that shows all changes whole, and all intervals but those of very few rows."""
    judged = [said for versus in comparison.versus for said in _all_judgments(versus)]
    deltas = [said.delta * 100 for said in judged if said.delta is not None]
    ends = [end * 100 for said in judged if said.ci95 for end in said.ci95]
    sizes = np.abs([*deltas, 0.0]).max() * _OVER_LARGEST_CHANGE, np.median(np.abs([*ends, 0.0])) * _OVER_USUAL_END
    reach = float(np.clip(max(sizes), 1.0, 100.0))
    return Axis.close_to([*deltas, *np.clip(ends, -reach, reach).tolist(), -1.0, 1.0], is_signed=True, ticks=6)


def _all_judgments(versus: Versus) -> Iterator[Judgment]:
    for judged in (versus, versus.test_deduplicated):
        if judged:
            yield from (judged.accuracy, judged.balanced_accuracy, *judged.recall.values())


def _panel(comparison: ComparisonRecord, versus: Versus, axis: Axis) -> ForestPanel:
    arm, baseline = comparison.arm(versus.recipe), comparison.arm(versus.baseline)
    rows = [_row(endpoint, axis) for endpoint in _endpoints(comparison, versus, baseline.test, arm.test)]
    n, n_baseline = len(arm.seeds), len(baseline.seeds)
    runs = f"n = {n} runs each" if n == n_baseline else f"n = {n} and {n_baseline} runs"
    return ForestPanel(printable(arm.recipe), printable(baseline.recipe), runs, tuple(rows[:2]), tuple(rows[2:]))


class _Endpoint(NamedTuple):
    """An endpoint, on the whole test split and on the rows without copies: how many rows, scores, judgments."""

    label: str
    rows: int
    rows_without_copies: int
    baseline: Statistic
    arm: Statistic
    said: Judgment
    said_without_copies: Judgment | None


def _endpoints(comparison: ComparisonRecord, versus: Versus, old: SplitScores, new: SplitScores) -> Iterator[_Endpoint]:
    """Give balanced accuracy, accuracy, and the recall of each class."""
    fewer = versus.test_deduplicated
    of_class, of_class_fewer = (comparison.data.counts.get(name, {}) for name in ("test", "test_deduplicated"))
    rows = old.rows, sum(of_class_fewer.values())
    balanced, right = (fewer.balanced_accuracy, fewer.accuracy) if fewer else (None, None)
    yield _Endpoint(
        "balanced accuracy", *rows, old.balanced_accuracy, new.balanced_accuracy, versus.balanced_accuracy, balanced
    )
    yield _Endpoint("accuracy", *rows, old.accuracy, new.accuracy, versus.accuracy, right)
    for name, said in versus.recall.items():
        counts = of_class.get(name, 0), of_class_fewer.get(name, 0)
        of_fewer = fewer.recall[name] if fewer else None
        yield _Endpoint(printable(name), *counts, old.recall[name], new.recall[name], said, of_fewer)


def _row(endpoint: _Endpoint, axis: Axis) -> ForestRow:
    has_copies = endpoint.rows != endpoint.rows_without_copies
    without_copies = endpoint.said_without_copies if has_copies else None
    return ForestRow(
        label=endpoint.label,
        rows=endpoint.rows,
        baseline=percent(endpoint.baseline),
        arm=percent(endpoint.arm),
        change=_change(endpoint.said, axis),
        without_copies=_change(without_copies, axis) if without_copies else None,
        rows_without_copies=endpoint.rows_without_copies,
    )


def _change(said: Judgment, axis: Axis) -> Change:
    return Change(
        delta=points(said.delta),
        ci95=interval(said.ci95),
        p_adjusted=p_value(said.p_adjusted),
        verdict=str(said.verdict),
        tone=TONES.get(said.verdict, "open"),
        whisker=_whisker(said, axis),
    )


def _whisker(said: Judgment, axis: Axis) -> Whisker | None:
    if said.delta is None:
        return None
    if said.ci95 is None:
        return Whisker(axis.at(said.delta * 100), None, None, False, False)
    low, high = (100 * end for end in said.ci95)
    return Whisker(axis.at(said.delta * 100), axis.at(low), axis.at(high), not axis.covers(low), not axis.covers(high))
