"""Confusion matrices: how each arm distributes the rows of a class, and what changed against the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.reports.wording import points, printable
from fer_augment.results.comparison import Arm

FloatArray = NDArray[np.float64]

_DARKEST = 0.1
"""A change of so much of a class, or of more, is shaded fully."""


@dataclass(frozen=True)
class Cell:
    """A cell of a matrix.

    Attributes:
        main: the large number.
        count: the small number.
        shade: how dark, in `[0, 1]`.
        tone: `share`, `better` or `worse`.
        told: the cell in a sentence.
    """

    main: str
    count: str
    shade: float
    tone: str
    told: str


@dataclass(frozen=True)
class Matrix:
    """A matrix with classes as its columns; its rows have a class name and as many cells."""

    title: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def confusion_matrix_figure(arm: Arm, class_names: Sequence[str]) -> Matrix:
    """Draw how an arm's runs distribute the test rows of each class, in percent and in rows a run."""
    counts = _counts(arm)
    shares = _shares(counts)

    def cell(true: int, predicted: int) -> Cell:
        share, count = shares[true, predicted], _count(counts[true, predicted])
        told = f"{printable(class_names[true])} as {printable(class_names[predicted])}: {count} rows a run"
        if np.isnan(share):
            return Cell("", "", 0.0, "share", f"{told}, of none")
        return Cell(f"{100 * share:.0f}", count, round(float(share), 3), "share", f"{told}, {100 * share:.1f} %")

    return _matrix(printable(arm.recipe), class_names, cell)


def difference_matrix_figures(arms: Sequence[Arm], baseline: Arm, class_names: Sequence[str]) -> tuple[Matrix, ...]:
    """Draw how the shares of arms differ from the baseline's, in points and in rows a run."""
    old = _counts(baseline)
    return tuple(
        _difference(f"{printable(arm.recipe)} − {printable(baseline.recipe)}", _counts(arm), old, class_names)
        for arm in arms
    )


def _difference(title: str, new: FloatArray, old: FloatArray, class_names: Sequence[str]) -> Matrix:
    change, rows = _shares(new) - _shares(old), new - old

    def cell(true: int, predicted: int) -> Cell:
        delta, count = change[true, predicted], rows[true, predicted]
        if np.isnan(delta):
            return Cell("", "", 0.0, "share", "no rows")
        is_better = (delta > 0) == (true == predicted)
        moved = f"{count:+.1f}" if abs(count) >= 0.05 else "0"
        what = f"{printable(class_names[true])} as {printable(class_names[predicted])}"
        told = f"{what}: {points(delta)} points, {moved} rows a run"
        shade = min(1.0, round(abs(float(delta)) / _DARKEST, 3))
        return Cell(points(delta), moved, shade, "better" if is_better else "worse", told)

    return _matrix(title, class_names, cell)


def _matrix(title: str, class_names: Sequence[str], cell: Callable[[int, int], Cell]) -> Matrix:
    numbers = range(len(class_names))
    names = tuple(map(printable, class_names))
    return Matrix(title, names, tuple((names[row], tuple(cell(row, column) for column in numbers)) for row in numbers))


def _counts(arm: Arm) -> FloatArray:
    """Return the test rows of each class predicted as each class, in a run on average."""
    counts: FloatArray = np.array(arm.test.confusion) / len(arm.seeds)
    return counts


def _shares(counts: FloatArray) -> FloatArray:
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, rows, out=shares, where=rows > 0)
    return shares


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) or number >= 10 else f"{number:.1f}"
