"""Charts as SVG files: a few kilobytes of text, the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from fer_augment.reports.axes import Axis

_PLAIN = "#8a929b"
"""The color of what things are without a strategy."""
_COLORS = ("#0072b2", "#c8500a", "#00805e")
"""Of what they are with it, in order; told apart by brightness, too."""

_WIDTH = 640
_LEFT, _RIGHT = 90, 560
_TOP = 64
_BAR, _SPACE = 11, 9
_LINES_HEIGHT = 220


def bar_chart(
    title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], *, plain: str = "", digits: int = 2
) -> str:
    """Draw horizontal bars from 0, and the value at the end of each.

    Args:
        title: a line above.
        labels: what each group of bars is for.
        series: for each name one value per label.
        plain: the name of the series without a strategy, if there is one.
        digits: decimal places of the values.
    """
    colors = _colors(series, plain)
    axis = Axis.over([0, *(value for values in series.values() for value in values)])
    group = _BAR * len(series) + _SPACE
    bottom = _TOP + group * len(labels)
    marks = [*_legend(colors), *_vertical_grid(axis, bottom)]
    for place, label in enumerate(labels):
        top = _TOP + place * group + _SPACE // 2
        marks.append(_text(_LEFT - 8, top + (group - _SPACE) / 2 + 4, label, anchor="end"))
        for number, (name, values) in enumerate(series.items()):
            marks += _bar(axis, values[place], top + number * _BAR, colors[name], f"{values[place]:.{digits}f}")
    return _drawing(title, marks, bottom + 24)


def line_chart(title: str, across: str, series: Mapping[str, Sequence[tuple[float, float]]], *, plain: str = "") -> str:
    """Draw lines through points `(x, y)`; the title names what goes up, `across` what goes to the right."""
    colors = _colors(series, plain)
    points = [point for line in series.values() for point in line]
    x_axis, y_axis = (Axis.over([0, *(point[side] for point in points)]) for side in (0, 1))
    bottom = _TOP + _LINES_HEIGHT
    marks = [*_legend(colors), *_vertical_grid(x_axis, bottom), *_horizontal_grid(y_axis, bottom)]
    for name, line in series.items():
        path = " ".join(f"{_x(x_axis, x):.1f},{_y(y_axis, y):.1f}" for x, y in line)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colors[name]}" stroke-width="2"/>')
    marks.append(_text((_LEFT + _RIGHT) / 2, bottom + 34, across, anchor="middle"))
    return _drawing(title, marks, bottom + 44)


def _colors(names: Iterable[str], plain: str) -> dict[str, str]:
    others = iter(_COLORS)
    return {name: _PLAIN if name == plain else next(others) for name in names}


def _drawing(title: str, marks: Iterable[str], height: float) -> str:
    """Put marks on a white page, which is readable in dark surroundings too."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" role="img" font-family="sans-serif" fill="#1b1f24">'
    )
    page = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    lines = (head, f"<title>{escape(title)}</title>", page, _text(12, 22, title, bold=True), *marks, "</svg>")
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
        yield f'<path d="M{at:.1f} {_TOP}V{bottom}" stroke="{_gray(tick.label)}"/>'
        yield _text(at, bottom + 16, tick.label, anchor="middle")


def _horizontal_grid(axis: Axis, bottom: float) -> Iterator[str]:
    for tick in axis.ticks:
        at = bottom - tick.at / 100 * _LINES_HEIGHT
        yield f'<path d="M{_LEFT} {at:.1f}H{_RIGHT}" stroke="{_gray(tick.label)}"/>'
        yield _text(_LEFT - 8, at + 4, tick.label, anchor="end")


def _gray(label: str) -> str:
    """Return the color of a line of the grid: darker where the value is 0."""
    return _PLAIN if float(label.replace(",", "")) == 0 else "#d4dae0"


def _bar(axis: Axis, value: float, top: float, color: str, told: str) -> Iterator[str]:
    start, end = sorted((_x(axis, 0), _x(axis, value)))
    yield f'<rect x="{start:.1f}" y="{top}" width="{end - start:.1f}" height="{_BAR - 1}" fill="{color}"/>'
    at, anchor = (start - 4, "end") if value < 0 else (end + 4, "start")
    yield _text(at, top + _BAR - 2, told, anchor=anchor, size=10)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.at(value) / 100 * (_RIGHT - _LEFT)


def _y(axis: Axis, value: float) -> float:
    return _TOP + axis.from_top(value) / 100 * _LINES_HEIGHT


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight}>{escape(text)}</text>'
