"""Curves: losses and scores over the epochs of a training, mean and spread over runs."""

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
        label: what it is.
        look: name of its color and dash pattern.
        points: `x,y x,y …` in percent, y from the top.
        band: outline of one standard deviation around it, the same way; None without a spread.
        last: its last value.
    """

    label: str
    look: str
    points: str
    band: str | None
    last: str


@dataclass(frozen=True)
class Chart:
    """Lines over epochs on common axes."""

    title: str
    unit: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


LOOKS = 8
Values = Sequence[tuple[int, Statistic]]
_LOSSES = (
    ("validation_loss", "validation split"),
    ("selection_loss", "rows of the training set"),
    ("training_loss", "batches, with what strategies make of rows and loss"),
)


def loss_charts(comparison: ComparisonRecord) -> tuple[Chart, ...]:
    """Draw the losses of each arm with a curve; arms with the same loss share an axis."""
    arms = _arms_with_curves(comparison)
    charts = []
    for arm in arms:
        alike = [other for other in arms if other.loss == arm.loss]
        ends = [end for other in alike for name, _ in _LOSSES for end in _ends(_over_epochs(other, name))]
        x, y = _epochs(arms), Axis.over([0.0, *ends])
        lines = tuple(
            _line(label, f"loss-{number}", _over_epochs(arm, name), x, y, 1.0)
            for number, (name, label) in enumerate(_LOSSES)
        )
        charts.append(Chart(printable(arm.recipe), f"{printable(arm.loss)}, mean a row", x, y, lines))
    return tuple(charts)


def accuracy_charts(comparison: ComparisonRecord) -> tuple[Chart, ...]:
    """Draw accuracy and mean recall of all arms with a curve, on the validation split."""
    arms = _arms_with_curves(comparison)
    charts = []
    for title, values_of in ({"Accuracy": _accuracy, "Balanced accuracy": _balanced_accuracy} if arms else {}).items():
        x, y = _epochs(arms), Axis.over([100 * end for arm in arms for end in _ends(values_of(arm))])
        lines = tuple(
            _line(printable(arm.recipe), look_of(comparison.arms.index(arm)), values_of(arm), x, y, 100.0)
            for arm in arms
        )
        charts.append(Chart(title, "% of the validation split", x, y, lines))
    return tuple(charts)


def _arms_with_curves(comparison: ComparisonRecord) -> list[Arm]:
    """Return the arms that were evaluated more than once: two points make a line."""
    return [arm for arm in comparison.arms if len(arm.curve) > 1]


def look_of(place: int) -> str:
    """Name the color and dash pattern of an arm by its place; the ninth arm looks as the first."""
    return f"look-{place % LOOKS}"


def _accuracy(arm: Arm) -> Values:
    return _over_epochs(arm, "validation_accuracy")


def _balanced_accuracy(arm: Arm) -> Values:
    """The mean over classes of the mean over runs; its spread over runs is not in a comparison."""
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
    known = [(value.mean, value.sd or 0.0) for _, value in values if value.mean is not None]
    return [end for mean, sd in known for end in (mean - sd, mean + sd)]


def _epochs(arms: Iterable[Arm]) -> Axis:
    last = float(max(arm.curve[-1].epoch for arm in arms))
    return Axis(0.0, last, max(1.0, Axis.over([0.0, last]).step))


def _line(label: str, look: str, values: Values, x: Axis, y: Axis, scale: float) -> Line:
    known = [
        (epoch, value.mean * scale, (value.sd or 0.0) * scale) for epoch, value in values if value.mean is not None
    ]

    def outline(points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x.at(across):g},{y.from_top(up):g}" for across, up in points)

    above = [(epoch, mean + sd) for epoch, mean, sd in known]
    below = [(epoch, mean - sd) for epoch, mean, sd in reversed(known)]
    has_band = any(sd for _, _, sd in known)
    told = spread(values[-1][1], scale=scale, digits=1 if scale > 1 else 3) if values else ""
    return Line(
        label=label,
        look=look,
        points=outline((epoch, mean) for epoch, mean, _ in known),
        band=outline([*above, *below]) if has_band else None,
        last=told,
    )
