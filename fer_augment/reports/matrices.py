"""Data of confusion matrices of the arms, and of their differences to the baseline.

With many classes, matrices have the classes that are passed and a column for all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.reports.pictures import shades_uri
from fer_augment.reports.wording import points, printable, unit_of
from fer_augment.results.comparison import Arm, ComparisonRecord

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
    """A matrix with a column per predicted class; a row is the name of a true class and its cells.

    Attributes:
        title: name of the arm, or of the difference.
        classes: names of the columns.
        rows: name and cells of each row.
    """

    title: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]

    @property
    def letters(self) -> int:
        """Length of the longest word in the names, which should not be broken."""
        return max(len(word) for name in self.classes for word in re.split(r"[\s-]", name))


def confusion_matrix_figure(comparison: ComparisonRecord, arm: Arm, shown: Sequence[str]) -> Matrix:
    """Return the confusion matrix of an arm in percent of the true class, and in images per run or repeat.

    Args:
        comparison: the comparison.
        arm: one of its arms.
        shown: the classes to show.
    """
    counts, class_names, unit = _counts(arm), comparison.class_names, unit_of(comparison)
    shares = _shares(counts)
    all_counts, all_shares = (_with_others(values, class_names, shown) for values in (counts, shares))

    def cell(true: str, predicted: str, row: int, column: int) -> Cell:
        share, count = all_shares[row, column], _count(all_counts[row, column])
        names = f"{true} predicted as {predicted}"
        if np.isnan(share):
            return Cell("", "", 0.0, "share", f"{names}: no test images")
        text = f"{names}: {count} images per {unit}, {100 * share:.1f} %"
        return Cell(f"{100 * share:.0f}", count, round(float(share), 3), "share", text)

    return _matrix(printable(arm.recipe), class_names, shown, cell)


def difference_matrix_figures(
    comparison: ComparisonRecord, arms: Sequence[Arm], baseline: Arm, shown: Sequence[str]
) -> tuple[Matrix, ...]:
    """Return the differences of confusion matrices to the baseline, in points and in images per run or repeat."""
    old, class_names, unit = _counts(baseline), comparison.class_names, unit_of(comparison)
    return tuple(
        _difference(
            f"{printable(arm.recipe)} − {printable(baseline.recipe)}", _counts(arm), old, unit, class_names, shown
        )
        for arm in arms
    )


def _difference(
    title: str, new: FloatArray, old: FloatArray, unit: str, class_names: Sequence[str], shown: Sequence[str]
) -> Matrix:
    change = _with_others(_shares(new) - _shares(old), class_names, shown)
    rows = _with_others(new - old, class_names, shown)

    def cell(true: str, predicted: str, row: int, column: int) -> Cell:
        delta, count = change[row, column], rows[row, column]
        if np.isnan(delta):
            return Cell("", "", 0.0, "share", "no test images")
        tone = "better" if (delta > 0) == (row == column) else "worse"
        images = f"{count:+.1f}" if abs(count) >= 0.05 else "0"
        text = f"{true} predicted as {predicted}: {points(delta)} points, {images} images per {unit}"
        shade = min(1.0, round(abs(float(delta)) / _DARKEST, 3))
        return Cell(points(delta), images, shade, tone if delta else "share", text)

    return _matrix(title, class_names, shown, cell)


def _with_others(values: FloatArray, class_names: Sequence[str], shown: Sequence[str]) -> FloatArray:
    """Return the rows and columns of the classes that are shown; a further column has the sum of all others."""
    if len(shown) == len(class_names):
        return values
    number_of = {name: number for number, name in enumerate(class_names)}
    places = [number_of[name] for name in shown]
    rows = values[places]
    others = np.delete(rows, places, axis=1).sum(axis=1, keepdims=True)
    return np.concatenate([rows[:, places], others], axis=1)


def _matrix(
    title: str, class_names: Sequence[str], shown: Sequence[str], cell: Callable[[str, str, int, int], Cell]
) -> Matrix:
    names = tuple(map(printable, shown))
    columns = names if len(shown) == len(class_names) else (*names, f"{len(class_names) - len(shown)} others")
    return Matrix(
        title,
        columns,
        tuple(
            (name, tuple(cell(name, other, row, column) for column, other in enumerate(columns)))
            for row, name in enumerate(names)
        ),
    )


# --- all classes of a comparison with many: a picture with a pixel per cell, and the largest cells as text


@dataclass(frozen=True)
class HeatMap:
    """A picture of a matrix with a pixel per pair of classes.

    Attributes:
        title: name of the arm, or of the difference.
        picture: data URI.
        alternative: what it shows, for readers without pictures.
        largest: the largest cells: true class, predicted class, and the cell as text.
    """

    title: str
    picture: str
    alternative: str
    largest: tuple[tuple[str, str, str], ...]


def heat_maps(arms: Sequence[Arm], class_names: Sequence[str]) -> tuple[HeatMap, ...]:
    """Return the confusion matrices of arms as pictures, with the most frequent confusions."""
    maps = []
    for arm in arms:
        counts = _counts(arm)
        shares = np.nan_to_num(_shares(counts))
        cells = [
            (true, predicted, f"{100 * shares[true, predicted]:.0f} %, {_count(counts[true, predicted])} images")
            for true, predicted in _largest(np.where(np.eye(len(counts)), 0.0, counts))
        ]
        maps.append(_heat_map(printable(arm.recipe), np.sqrt(shares), class_names, cells))
    return tuple(maps)


def difference_maps(arms: Sequence[Arm], baseline: Arm, class_names: Sequence[str]) -> tuple[HeatMap, ...]:
    """Return the differences of confusion matrices to the baseline as pictures, with the largest changes."""
    old = _counts(baseline)
    maps = []
    for arm in arms:
        new = _counts(arm)
        change = np.nan_to_num(_shares(new) - _shares(old))
        sign = np.where(np.eye(len(new)), 1.0, -1.0)  # fewer confusions are better
        cells = [
            (true, predicted, f"{points(change[true, predicted])} points, {(new - old)[true, predicted]:+.1f} images")
            for true, predicted in _largest(np.abs(new - old))
        ]
        title = f"{printable(arm.recipe)} − {printable(baseline.recipe)}"
        shade = np.sign(change) * sign * np.sqrt(np.minimum(np.abs(change) / _DARKEST, 1.0))
        maps.append(_heat_map(title, shade, class_names, cells))
    return tuple(maps)


def _heat_map(
    title: str, shade: FloatArray, class_names: Sequence[str], cells: Sequence[tuple[int, int, str]]
) -> HeatMap:
    names = tuple(map(printable, class_names))
    largest = tuple((names[true], names[predicted], text) for true, predicted, text in cells)
    alternative = f"Matrix of {len(names)} classes, {title}: rows are true classes, columns predicted classes"
    return HeatMap(title, shades_uri(shade), alternative, largest)


_LARGEST_CELLS = 12


def _largest(values: FloatArray) -> list[tuple[int, int]]:
    """Return row and column of the largest cells above 0, the largest first."""
    flat = values.ravel()
    count = min(_LARGEST_CELLS, flat.size)
    places = np.argpartition(-flat, count - 1)[:count]
    ordered = places[np.argsort(-flat[places], kind="stable")]
    return [(int(place) // values.shape[1], int(place) % values.shape[1]) for place in ordered if flat[place] > 0]


def _counts(arm: Arm) -> FloatArray:
    """Return the confusion matrix in test images, mean over runs."""
    counts: FloatArray = np.array(arm.test.confusion) / arm.n
    return counts


def _shares(counts: FloatArray) -> FloatArray:
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, rows, out=shares, where=rows > 0)
    return shares


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) or number >= 10 else f"{number:.1f}"
