"""Data of dot plots of runs, bar charts of class counts and reliability diagrams: positions in percent, and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_augment.reports.axes import Axis
from fer_augment.reports.curves import look_of
from fer_augment.reports.notable import MOST_ROWS, SHOWN_ROWS
from fer_augment.reports.run_files import LocatedRun, RunFiles
from fer_augment.reports.wording import percent, percent_interval, printable
from fer_augment.results.comparison import Arm, ComparisonRecord, SplitScores, Statistic

# --- dot plots: a score of every run


@dataclass(frozen=True)
class Dot:
    """Score of a run: its seed or fold, the score in percent, and the position of the dot."""

    run: str
    score: str
    at: float


@dataclass(frozen=True)
class DotRow:
    """Scores of an arm: dots of the located runs, positions of the mean and its interval, and `mean ± sd` as text."""

    arm: str
    look: str
    dots: tuple[Dot, ...]
    mean: float | None
    low: float | None
    high: float | None
    score: str
    n: int


@dataclass(frozen=True)
class DotFigure:
    """Dot plot of one score of all arms."""

    title: str
    axis: Axis
    rows: tuple[DotRow, ...]


def dot_figures(comparison: ComparisonRecord, files: RunFiles) -> tuple[DotFigure, ...]:
    """Return dot plots of balanced accuracy and accuracy on the test split."""
    return (
        _dots("Balanced accuracy", comparison, files, "balanced_accuracy"),
        _dots("Accuracy", comparison, files, "accuracy"),
    )


def _dots(title: str, comparison: ComparisonRecord, files: RunFiles, name: str) -> DotFigure:
    of_arms: list[Statistic] = [getattr(arm.test, name) for arm in comparison.arms]
    of_runs = [[(run.name, getattr(run.scores, name)) for run in files.of(arm)] for arm in comparison.arms]
    axis = _score_axis(of_arms, [score for runs in of_runs for _, score in runs])
    rows = []
    for place, (arm, summary, runs) in enumerate(zip(comparison.arms, of_arms, of_runs, strict=True)):
        low, high = (axis.at(100 * end) for end in summary.ci95) if summary.ci95 else (None, None)
        rows.append(
            DotRow(
                arm=printable(arm.recipe),
                look=look_of(place),
                dots=tuple(Dot(run, f"{100 * score:.1f}", axis.at(100 * score)) for run, score in runs),
                mean=None if summary.mean is None else axis.at(100 * summary.mean),
                low=low,
                high=high,
                score=percent(summary),
                n=summary.n,
            )
        )
    return DotFigure(title, axis, tuple(rows))


def _score_axis(of_arms: Sequence[Statistic], of_runs: Sequence[float]) -> Axis:
    """Return an axis over all runs and means; intervals, very wide for two runs, extend it at most threefold."""
    scores = [*of_runs, *(summary.mean for summary in of_arms if summary.mean is not None)]
    reach = max(scores) - min(scores)
    bounds = max(0.0, min(scores) - reach), min(1.0, max(scores) + reach)
    ends = np.clip([end for summary in of_arms for end in summary.ci95 or ()], *bounds).tolist()
    return Axis.close_to([100 * value for value in (*scores, *ends)])


# --- bar charts: rows per class


@dataclass(frozen=True)
class Bar:
    """Bar of a class.

    Attributes:
        label: name of the class.
        length: length of the bar, in percent of the longest one.
        before: its length before the strategies were applied; None if there is no such length.
        text: number or share of rows.
        spread: range over runs; empty if all runs are equal.
    """

    label: str
    length: float
    before: float | None
    text: str
    spread: str = ""


@dataclass(frozen=True)
class BarFigure:
    """Bar chart with a bar per class."""

    title: str
    total: str
    bars: tuple[Bar, ...]


_LEAST_SHIFT = 0.002
"""Differences between the sampling frequency of a class and its share of rows below this are rounding errors."""

_SPLITS = {
    "train": "Training split",
    "validation": "Validation split",
    "test": "Test split",
    "test_deduplicated": "Deduplicated test split",
}


def split_figures(comparison: ComparisonRecord) -> tuple[BarFigure, ...]:
    """Return the class counts of every split; the deduplicated test split only if it differs from the test split."""
    counts = comparison.data.counts
    figures = []
    for name, title in _SPLITS.items():
        of_class = counts.get(name, {})
        if not of_class or (name == "test_deduplicated" and of_class == counts.get("test")):
            continue
        longest, total = max(*of_class.values(), 1), sum(of_class.values())
        bars = tuple(
            Bar(printable(label), _percent(rows, longest), None, f"{rows:,} ({_share(rows, total)})")
            for label, rows in of_class.items()
        )
        figures.append(_bar_figure(title, f"{total:,} rows", bars))
    return tuple(figures)


def rewritten_figures(comparison: ComparisonRecord) -> tuple[BarFigure, ...]:
    """Return the class counts of each rewritten training set, mean over runs, with the counts before."""
    changed = [arm for arm in comparison.arms if any(after != arm.train_counts for after in arm.rewritten_counts)]
    longest = max(
        (max(after.values()) for arm in changed for after in (arm.train_counts, *arm.rewritten_counts)), default=1
    )
    return tuple(_rewritten(arm, max(longest, 1)) for arm in changed)


def _rewritten(arm: Arm, longest: int) -> BarFigure:
    bars = []
    for label, before in arm.train_counts.items():
        after = [of_run.get(label, 0) for of_run in arm.rewritten_counts]
        mean = float(np.mean(after))
        text = f"{before:,}" if set(after) == {before} else f"{before:,} → {mean:,.0f}"
        spread = f"{min(after):,} to {max(after):,}" if len(set(after)) > 1 else ""
        bars.append(Bar(printable(label), _percent(mean, longest), _percent(before, longest), text, spread))
    total = np.mean([sum(of_run.values()) for of_run in arm.rewritten_counts])
    return _bar_figure(printable(arm.recipe), f"{sum(arm.train_counts.values()):,} → {total:,.0f} rows", bars)


def sampling_figures(comparison: ComparisonRecord, files: RunFiles) -> tuple[BarFigure, ...]:
    """Return sampling frequencies of classes in the last epoch, mean over runs, for arms with weighted sampling."""
    figures = []
    for arm in comparison.arms:
        runs = files.of(arm)
        if not runs:
            continue
        rows = np.mean([run.record.rewritten_counts for run in runs], axis=0)
        before, after = rows / rows.sum(), np.mean([run.record.class_prior for run in runs], axis=0)
        if np.abs(after - before).max() > _LEAST_SHIFT:
            longest = max(*before, *after)
            bars = tuple(
                Bar(
                    printable(label),
                    _percent(new, longest),
                    _percent(old, longest),
                    f"{100 * old:.1f} → {100 * new:.1f} %",
                )
                for label, old, new in zip(comparison.class_names, before, after, strict=True)
            )
            figures.append(_bar_figure(printable(arm.recipe), "% of sampled rows", bars))
    return tuple(figures)


def _bar_figure(title: str, total: str, bars: Sequence[Bar]) -> BarFigure:
    """Return a chart of all classes or, of many, those with the longest and those with the shortest bars."""
    if len(bars) <= MOST_ROWS:
        return BarFigure(title, total, tuple(bars))
    order = sorted(range(len(bars)), key=lambda place: bars[place].length)
    half = SHOWN_ROWS // 2
    kept = sorted([*order[:half], *order[-half:]])
    total = f"{total}; the {half} largest and the {half} smallest of {len(bars):,} classes"
    return BarFigure(title, total, tuple(bars[place] for place in kept))


def _percent(part: float, whole: float) -> float:
    return round(100 * float(part) / float(whole), 2)


def _share(rows: int, total: int) -> str:
    return f"{100 * rows / total:.1f} %" if total else "none"


# --- reliability diagrams: accuracy by confidence


@dataclass(frozen=True)
class ReliabilityBin:
    """Test predictions of all runs of an arm in one bin of confidence; positions in percent, the radius in pixels."""

    left: float
    width: float
    accuracy: float
    confidence: float
    share: float
    radius: float
    description: str


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram of an arm.

    Attributes:
        title: name of the arm.
        ece: expected calibration error in percent, `mean ± sd`.
        interval: 95 % interval of the calibration error in percent; `-` if there is none.
        n: number of runs of `ece`.
        missing: how many of the runs are in the diagram, as text; empty if all are.
        bins: the nonempty bins.
    """

    title: str
    ece: str
    interval: str
    n: int
    missing: str
    bins: tuple[ReliabilityBin, ...]


def reliability_figures(comparison: ComparisonRecord, files: RunFiles) -> tuple[Reliability, ...]:
    """Return the diagrams of the arms with located runs."""
    return tuple(_reliability(arm, files.of(arm)) for arm in comparison.arms if files.of(arm))


def _reliability(arm: Arm, runs: Sequence[LocatedRun]) -> Reliability:
    rows, confidence, right = (
        np.sum([getattr(run.calibration, name) for run in runs], axis=0) for name in ("rows", "confidence", "right")
    )
    width = 100 / len(rows)
    bins = tuple(
        ReliabilityBin(
            left=round(number * width, 2),
            width=round(width, 2),
            accuracy=round(100 * right[number] / rows[number], 2),
            confidence=round(100 * confidence[number] / rows[number], 2),
            share=round(100 * rows[number] / rows.max(), 2),
            radius=round(2 + 3 * float(np.sqrt(rows[number] / rows.max())), 1),
            description=f"confidence {100 * confidence[number] / rows[number]:.0f} %: "
            f"{100 * right[number] / rows[number]:.0f} % correct, {_share(rows[number], rows.sum())} of predictions",
        )
        for number in np.flatnonzero(rows)
    )
    total, name = len(arm.seeds), printable(arm.recipe)
    missing = f"{len(runs)} of the {total} runs of {name}" if len(runs) < total else ""
    return Reliability(name, percent(arm.test.ece), percent_interval(arm.test.ece_ci95), arm.test.ece.n, missing, bins)


# --- scores per class, as a table


def class_scores(scores: SplitScores) -> tuple[tuple[str, str, str, str], ...]:
    """Return name, recall, precision and F1 of each class, in percent."""
    return tuple(
        (printable(name), percent(recall), percent(scores.precision[name]), percent(scores.f1[name]))
        for name, recall in scores.recall.items()
    )
