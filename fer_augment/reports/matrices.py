"""Data of confusion matrices of the arms, and of their differences to the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.reports.wording import points, printable
from fer_augment.results.comparison import Arm

FloatArray = NDArray[np.float64]

_DARKEST = 0.1
"""Differences of at least this share of a class have full color."""


@dataclass(frozen=True)
class Cell:
    """A cell of a matrix.

    Attributes:
        main: the large number.
        count: the small number.
        shade: intensity of the color, in `[0, 1]`.
        tone: `share`, `better` or `worse`.
        description: the cell as a sentence.
    """

    main: str
    count: str
    shade: float
    tone: str
    description: str


@dataclass(frozen=True)
class Matrix:
    """A matrix with a column per predicted class; a row is the name of a true class and its cells."""

    title: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def confusion_matrix_figure(arm: Arm, class_names: Sequence[str]) -> Matrix:
    """Return the confusion matrix of an arm in percent of the true class, and in test images per run."""
    counts = _counts(arm)
    shares = _shares(counts)

    def cell(true: int, predicted: int) -> Cell:
        share, count = shares[true, predicted], _count(counts[true, predicted])
        names = f"{printable(class_names[true])} predicted as {printable(class_names[predicted])}"
        if np.isnan(share):
            return Cell("", "", 0.0, "share", f"{names}: no test images")
        text = f"{names}: {count} images per run, {100 * share:.1f} %"
        return Cell(f"{100 * share:.0f}", count, round(float(share), 3), "share", text)

    return _matrix(printable(arm.recipe), class_names, cell)


def difference_matrix_figures(arms: Sequence[Arm], baseline: Arm, class_names: Sequence[str]) -> tuple[Matrix, ...]:
    """Return the differences of confusion matrices to the baseline, in points and in test images per run."""
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
            return Cell("", "", 0.0, "share", "no test images")
        is_better = (delta > 0) == (true == predicted)
        images = f"{count:+.1f}" if abs(count) >= 0.05 else "0"
        names = f"{printable(class_names[true])} predicted as {printable(class_names[predicted])}"
        text = f"{names}: {points(delta)} points, {images} images per run"
        shade = min(1.0, round(abs(float(delta)) / _DARKEST, 3))
        return Cell(points(delta), images, shade, "better" if is_better else "worse", text)

    return _matrix(title, class_names, cell)


def _matrix(title: str, class_names: Sequence[str], cell: Callable[[int, int], Cell]) -> Matrix:
    numbers = range(len(class_names))
    names = tuple(map(printable, class_names))
    return Matrix(title, names, tuple((names[row], tuple(cell(row, column) for column in numbers)) for row in numbers))


def _counts(arm: Arm) -> FloatArray:
    """Return the confusion matrix in test images, mean over runs."""
    counts: FloatArray = np.array(arm.test.confusion) / len(arm.seeds)
    return counts


def _shares(counts: FloatArray) -> FloatArray:
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, rows, out=shares, where=rows > 0)
    return shares


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) or number >= 10 else f"{number:.1f}"
