"""Training curves: losses and scores per epoch, mean and standard deviation over runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fer_augment.reports.axes import Axis
from fer_augment.reports.wording import printable, spread
from fer_augment.results.comparison import Arm, ComparisonRecord, Statistic


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: legend text.
        look: CSS class with its color and dash pattern.
        points: `x,y x,y …` in percent, y from the top.
        band: outline of the band of ± one standard deviation, in the same format; None if all are 0 or unknown.
        last: its last value, as text.
    """

    label: str
    look: str
    points: str
    band: str | None
    last: str


@dataclass(frozen=True)
class Chart:
    """Lines over epochs with common axes."""

    title: str
    unit: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


LOOKS = 8
Values = Sequence[tuple[int, Statistic]]
_LOSSES = (
    ("validation_loss", "validation split"),
    ("selection_loss", "sample of the training set"),
    ("training_loss", "training batches (augmented, loss as modified by strategies)"),
)


def loss_charts(comparison: ComparisonRecord) -> tuple[Chart, ...]:
    """Return a chart of losses for each arm with a curve; arms with the same loss have the same y axis."""
    arms = _arms_with_curves(comparison)
    charts = []
    for arm in arms:
        same_loss = [other for other in arms if other.loss == arm.loss]
        ends = [end for other in same_loss for name, _ in _LOSSES for end in _ends(_over_epochs(other, name))]
        x, y = _epochs(arms), Axis.over([0.0, *ends])
        lines = tuple(
            _line(label, f"loss-{number}", _over_epochs(arm, name), x, y, 1.0)
            for number, (name, label) in enumerate(_LOSSES)
        )
        charts.append(Chart(printable(arm.recipe), f"{printable(arm.loss)}, mean per row", x, y, lines))
    return tuple(charts)


def accuracy_charts(comparison: ComparisonRecord) -> tuple[Chart, ...]:
    """Return charts of accuracy and balanced accuracy on the validation split, for all arms with a curve."""
    arms = _arms_with_curves(comparison)
    charts = []
    for title, values_of in ({"Accuracy": _accuracy, "Balanced accuracy": _balanced_accuracy} if arms else {}).items():
        x, y = _epochs(arms), Axis.over([100 * end for arm in arms for end in _ends(values_of(arm))])
        lines = tuple(
            _line(printable(arm.recipe), look_of(comparison.arms.index(arm)), values_of(arm), x, y, 100.0)
            for arm in arms
        )
        charts.append(Chart(title, "validation split, %", x, y, lines))
    return tuple(charts)


def _arms_with_curves(comparison: ComparisonRecord) -> list[Arm]:
    """Return the arms that were evaluated at least twice."""
    return [arm for arm in comparison.arms if len(arm.curve) > 1]


def look_of(place: int) -> str:
    """Return the CSS class with color and dash pattern of the arm at a place; they repeat after eight arms."""
    return f"look-{place % LOOKS}"


def _accuracy(arm: Arm) -> Values:
    return _over_epochs(arm, "validation_accuracy")


def _balanced_accuracy(arm: Arm) -> Values:
    """Return the mean over classes of the mean recall over runs; its sd over runs is not in the comparison."""
    values = []
    for point in arm.curve:
        recalls = [recall.mean for recall in point.validation_recall.values() if recall.mean is not None]
        if recalls:
            n = point.validation_accuracy.n
            values.append((point.epoch, Statistic(mean=float(np.mean(recalls)), sd=None, n=n, ci95=None)))
    return values


def _over_epochs(arm: Arm, name: str) -> Values:
    values = [(point.epoch, getattr(point, name)) for point in arm.curve]
    return [(epoch, value) for epoch, value in values if value.mean is not None]


def _ends(values: Values) -> list[float]:
    bands = [(value.mean, value.sd or 0.0) for _, value in values if value.mean is not None]
    return [end for mean, sd in bands for end in (mean - sd, mean + sd)]


def _epochs(arms: Iterable[Arm]) -> Axis:
    last = float(max(arm.curve[-1].epoch for arm in arms))
    return Axis(0.0, last, max(1.0, Axis.over([0.0, last]).step))


def _line(label: str, look: str, values: Values, x: Axis, y: Axis, scale: float) -> Line:
    points = [
        (epoch, value.mean * scale, (value.sd or 0.0) * scale) for epoch, value in values if value.mean is not None
    ]

    def outline(corners: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x.at(epoch):g},{y.from_top(height):g}" for epoch, height in corners)

    upper = [(epoch, mean + sd) for epoch, mean, sd in points]
    lower = [(epoch, mean - sd) for epoch, mean, sd in reversed(points)]
    has_band = any(sd for _, _, sd in points)
    return Line(
        label=label,
        look=look,
        points=outline((epoch, mean) for epoch, mean, _ in points),
        band=outline([*upper, *lower]) if has_band else None,
        last=spread(values[-1][1], scale=scale, digits=1 if scale > 1 else 3) if values else "",
    )
