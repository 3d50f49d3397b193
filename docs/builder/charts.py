"""Charts as SVG files: a few kilobytes of text, byte-identical on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from fer_augment.reports.axes import Axis

_BASELINE_COLOR = "#8a929b"
"""Color of the series without a strategy."""
_COLORS = ("#0072b2", "#c8500a", "#00805e")
"""Colors of the series with a strategy, in order; they also differ in brightness."""

_WIDTH = 640
_LEFT, _RIGHT = 90, 560
_TOP = 64
_BAR, _SPACE = 11, 9
_LINE_CHART_HEIGHT = 220


def bar_chart(
    title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], *, baseline: str = "", digits: int = 2
) -> str:
    """Draw horizontal bars from 0, with the value at the end of each.

    Args:
        title: title of the chart.
        labels: label of each group of bars.
        series: one value per label, by name.
        baseline: name of the series without a strategy, if there is one.
        digits: decimal places of the values.
    """
    colors = _colors(series, baseline)
    axis = Axis.over([0, *(value for values in series.values() for value in values)])
    group = _BAR * len(series) + _SPACE
    bottom = _TOP + group * len(labels)
    marks = [*_legend(colors), *_vertical_grid(axis, bottom)]
    for index, label in enumerate(labels):
        top = _TOP + index * group + _SPACE // 2
        marks.append(_text(_LEFT - 8, top + (group - _SPACE) / 2 + 4, label, anchor="end"))
        for number, (name, values) in enumerate(series.items()):
            marks += _bar(axis, values[index], top + number * _BAR, colors[name], f"{values[index]:.{digits}f}")
    return _svg(title, marks, bottom + 24)


def line_chart(
    title: str, x_label: str, series: Mapping[str, Sequence[tuple[float, float]]], *, baseline: str = ""
) -> str:
    """Draw lines through points `(x, y)`; the title names the quantity on the y-axis."""
    colors = _colors(series, baseline)
    points = [point for line in series.values() for point in line]
    x_axis, y_axis = (Axis.over([0, *(point[side] for point in points)]) for side in (0, 1))
    bottom = _TOP + _LINE_CHART_HEIGHT
    marks = [*_legend(colors), *_vertical_grid(x_axis, bottom), *_horizontal_grid(y_axis, bottom)]
    for name, line in series.items():
        path = " ".join(f"{_x(x_axis, x):.1f},{_y(y_axis, y):.1f}" for x, y in line)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colors[name]}" stroke-width="2"/>')
    marks.append(_text((_LEFT + _RIGHT) / 2, bottom + 34, x_label, anchor="middle"))
    return _svg(title, marks, bottom + 44)


def _colors(names: Iterable[str], baseline: str) -> dict[str, str]:
    others = iter(_COLORS)
    return {name: _BASELINE_COLOR if name == baseline else next(others) for name in names}


def _svg(title: str, marks: Iterable[str], height: float) -> str:
    """Return an SVG file with the marks on a white background, which is readable with dark themes, too."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" role="img" font-family="sans-serif" fill="#1b1f24">'
    )
    background = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    lines = (head, f"<title>{escape(title)}</title>", background, _text(12, 22, title, bold=True), *marks, "</svg>")
    return "\n".join(lines) + "\n"


def _legend(colors: Mapping[str, str]) -> Iterator[str]:
    left = 12.0
    for name, color in colors.items():
        yield f'<rect x="{left:.1f}" y="34" width="10" height="10" fill="{color}"/>'
        yield _text(left + 15, 43, name)
        left += 33 + 6.3 * len(name)


def _vertical_grid(axis: Axis, bottom: float) -> Iterator[str]:
    for tick in axis.ticks:
        at = _LEFT + tick.at / 100 * (_RIGHT - _LEFT)
        yield f'<path d="M{at:.1f} {_TOP}V{bottom}" stroke="{_grid_color(tick.label)}"/>'
        yield _text(at, bottom + 16, tick.label, anchor="middle")


def _horizontal_grid(axis: Axis, bottom: float) -> Iterator[str]:
    for tick in axis.ticks:
        at = bottom - tick.at / 100 * _LINE_CHART_HEIGHT
        yield f'<path d="M{_LEFT} {at:.1f}H{_RIGHT}" stroke="{_grid_color(tick.label)}"/>'
        yield _text(_LEFT - 8, at + 4, tick.label, anchor="end")


def _grid_color(label: str) -> str:
    """Return the color of a grid line: darker at 0."""
    return _BASELINE_COLOR if float(label.replace(",", "")) == 0 else "#d4dae0"


def _bar(axis: Axis, value: float, top: float, color: str, label: str) -> Iterator[str]:
    start, end = sorted((_x(axis, 0), _x(axis, value)))
    yield f'<rect x="{start:.1f}" y="{top}" width="{end - start:.1f}" height="{_BAR - 1}" fill="{color}"/>'
    at, anchor = (start - 4, "end") if value < 0 else (end + 4, "start")
    yield _text(at, top + _BAR - 2, label, anchor=anchor, size=10)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.at(value) / 100 * (_RIGHT - _LEFT)


def _y(axis: Axis, value: float) -> float:
    return _TOP + axis.from_top(value) / 100 * _LINE_CHART_HEIGHT


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight}>{escape(text)}</text>'
