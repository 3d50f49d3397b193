"""Rows of a table: the image, class, split and group that each row says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, ImageFile, did_you_mean
from fer_augment.readers._conventions import (
    SPLIT_NAMES,
    counted,
    display_name,
    refuse_rewritten,
    split_called,
    whole_number,
)
from fer_augment.readers._table_columns import ColumnChoice, Columns, bit, columns_of
from fer_augment.readers._table_content import Table
from fer_augment.readers._table_files import TableFile

MISSING = ("nan", "none", "null", "n/a", "<na>")
"""Texts that programs write where there is no value, in lower case."""
MAYBE_MISSING = ("na",)
"""Texts that some programs write where there is no value, but that are also names, such as of a subject of JAFFE."""

_MOST_COUNTED = 8
"""Columns whose values are counted, to find out whether they may be groups."""
_MOST_UNUSED = 5
"""Unused columns that a note names."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        image: the value of the column of images; for images as bytes, their name.
        label: class name; empty without.
        split: value of the column of splits: train, validation or test; else the split of the table, if each table is
            one; None without.
        group: value of the column of groups; empty without, and for a text of `MISSING`.
        table: the table.
        file: the image, if the table contains it.
        votes: for a row with votes, one number for each column of votes; later the shares of the classes.
    """

    image: str
    label: str
    split: str | None
    group: str
    table: TableFile
    file: ImageFile | None
    votes: tuple[float, ...] = ()

    @property
    def title(self) -> str:
        """Name of the image, for messages."""
        return display_name(self.image)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table.

    Attributes:
        rows: at least one row.
        columns: the columns that were read.
        class_names: the classes in the order of the table, if it has one; else empty.
        unused: by other column, how many rows have each value, see `_unused`.
    """

    rows: list[Row]
    columns: Columns
    class_names: tuple[str, ...]
    unused: Mapping[str, Mapping[str, int]]


def rows_of(file: TableFile, choice: ColumnChoice) -> Rows:
    """Read the rows of a table.

    Raises:
        DatasetError: if the table cannot be read, or a value is invalid.
    """
    table = file.opened()
    refuse_rewritten(table.name, table.columns, ("file", "class"))
    columns = columns_of(table, choice)
    files = table.image_files[columns.image]() if columns.image in table.image_files else None
    wanted = [name for name in (*columns.labels, columns.split, columns.group) if name]
    wanted += [] if files else [columns.image]
    values = dict(zip(wanted, zip(*table.rows(wanted), strict=True), strict=False))
    if not values:
        raise DatasetError(f"{table.name}: has a header but no rows; re-download or remove it")
    images = [image.name for image in files] if files else values[columns.image]
    empty = [f"row {number}" for number, image in enumerate(images, start=1) if not image]
    if empty and not columns.votes:  # in FERPlus these are images that were removed from FER2013
        raise DatasetError(f"{table.name}: {counted(empty, 'rows')}: no image; add its name or remove the row")
    rows = map(
        Row,
        images,
        _labels(table.name, columns, values, images),
        _splits(table.name, columns.split, values) if columns.split else repeat(None),
        _groups(values[columns.group]) if columns.group else repeat(""),
        repeat(file),
        files or repeat(None),
        _votes(table.name, columns, values, images) if columns.votes else repeat(()),
    )
    order = columns.one_hot or columns.votes or table.class_names.get(columns.label or "", ())
    return Rows(list(rows), columns, order, _unused(table, columns, choice))


def _unused(table: Table, columns: Columns, choice: ColumnChoice) -> dict[str, dict[str, int]]:
    """Return the columns that are not read, with the number of rows of each value of those that may be groups.

    These are columns of text or whole numbers, if there is no column of groups, and none was chosen.
    """
    used = {columns.image, *columns.labels, columns.split, columns.group}
    counts: dict[str, dict[str, int]] = {name: {} for name in table.columns if name and name not in used}
    if columns.group is not None or "group" in choice.names:
        return counts
    names = [name for name in counts if name not in table.image_files]
    sample = dict(zip(names, zip(*table.readable_sample(names), strict=True), strict=False)) if names else {}
    names = [name for name, values in sample.items() if not any(map(_is_measured, values))][:_MOST_COUNTED]
    found = {name: Counter[str]() for name in names}
    with suppress(DatasetError):  # a value that is no text, which nothing needs
        for row in table.rows(names) if names else ():
            for name, value in zip(names, row, strict=True):
                found[name][value] += value != "" and value.casefold() not in MISSING
        counts |= {name: dict(+values) for name, values in found.items()}
    return counts


def _is_measured(value: str) -> bool:
    """Return whether a text is a number, but no whole one."""
    try:
        return math.isfinite(float(value)) and not whole_number(value)
    except ValueError:
        return False


def unused_in_words(tables: Sequence[Rows], classes: int) -> str:
    """Name the columns of tables that are not used, and those that may be groups: with more values than classes."""
    counts: dict[str, Counter[str]] = {}
    for table in tables:
        for name, values in table.unused.items():
            counts.setdefault(name, Counter()).update(values)
    groups = [name for name, values in counts.items() if classes < len(values) < values.total()]
    names = [f"{display_name(name)} ({len(counts[name]):,} values)" for name in groups]
    names += [display_name(name) for name in counts if name not in groups]
    if not names:
        return ""
    shown = ", ".join(names[:_MOST_UNUSED]) + (", …" if len(names) > _MOST_UNUSED else "")
    column = display_name(groups[0]) if len(groups) == 1 else "NAME"
    hint = f"; if images of one value belong together, set columns: {{group: {column}}} in a source description"
    return f"; unused: {shown}{hint if groups else ''}"


def group_numbers(rows: Sequence[Row], notes: list[str]) -> NDArray[np.int64] | None:
    """Return the number of the group of each row; a row without a group is one of its own; append a note.

    If all groups are whole numbers, 01 and 1 are the same.
    """
    without = [row.title for row in rows if not row.group]
    if len(without) == len(rows):
        return None
    notes += [f"{counted(without, 'rows')}: no group; each is a group of its own"] if without else []
    for name in sorted({row.group for row in rows if row.group.casefold() in MAYBE_MISSING}):
        count = sum(row.group == name for row in rows)
        if count > 1:
            notes.append(f"{count:,} rows of the group {name}: one group; if this is no group, leave it empty")
    numbers = [row.group and whole_number(row.group) for row in rows]
    names = [row.group for row in rows] if None in numbers else numbers
    keys = [(name, 0 if name else number) for number, name in enumerate(names)]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([number_of[key] for key in keys], dtype=np.int64)


def whole_numbers(texts: Sequence[str]) -> list[str]:
    """Write whole numbers alike, if all are: 1.0, as columns with missing values are often saved, becomes 1."""
    if all(whole_number(text) for text in texts if text):
        return [text.partition(".")[0] for text in texts]
    return list(texts)


def _groups(values: Sequence[str]) -> list[str]:
    return whole_numbers(["" if value.casefold() in MISSING else value for value in values])


def _labels(title: str, columns: Columns, values: Mapping[str, Sequence[str]], images: Sequence[str]) -> Sequence[str]:
    if columns.label is not None:
        return values[columns.label]
    if columns.votes:
        return [""] * len(images)
    bits = np.array(
        [[bit(value) for value in values[column]] for column in columns.one_hot], dtype=float
    )  # None is NaN
    is_invalid = bits.sum(axis=0) != 1
    invalid = [display_name(images[row]) for row in np.flatnonzero(is_invalid).tolist()]
    if invalid:
        raise DatasetError(
            f"{title}: {counted(invalid, 'rows')}: not exactly one 1 in the columns {_some(columns.one_hot)}; correct "
            "them, or choose the columns of the classes in a source description (docs/data.md): "
            "columns: {label: [NAME, NAME]}"
        )
    return [columns.one_hot[position] for position in bits.argmax(axis=0).tolist()]


def _votes(
    title: str, columns: Columns, values: Mapping[str, Sequence[str]], images: Sequence[str]
) -> list[tuple[float, ...]]:
    """Return the numbers of votes of each row."""
    votes = []
    for row, texts in enumerate(zip(*(values[column] for column in columns.votes), strict=True)):
        try:
            numbers = tuple(map(float, texts))
        except ValueError:
            numbers = (math.nan,)
        if not all(0 <= number < math.inf for number in numbers):
            column, text = next(
                (column, text) for column, text in zip(columns.votes, texts, strict=True) if not _is_count(text)
            )
            where = f"row {row + 1}" + (f" ({display_name(images[row])})" if images[row] else "")
            raise DatasetError(
                f"{title}: {where}: column {display_name(column)!r}: {display_name(text[:20])!r} is no number of "
                "votes; expected a number, 0 or more"
            )
        votes.append(numbers)
    return votes


def _is_count(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _splits(title: str, column: str, values: Mapping[str, Sequence[str]]) -> list[str | None]:
    split_of = {value: split_called(value) for value in values[column]}
    unknown = sorted(value for value, split in split_of.items() if split is None)
    if unknown:
        hint = did_you_mean(unknown[-1], [name for names in SPLIT_NAMES.values() for name in names])
        reason = f"{_some(unknown)}: not the name of a split{hint}" if any(unknown) else "some rows have no split"
        raise DatasetError(
            f"{title}: column {display_name(column)!r}: {reason}; correct it, or ignore the column in a source "
            "description (docs/data.md): columns: {split: null}"
        )
    return [split_of[value] for value in values[column]]


def _some(values: Sequence[str]) -> str:
    return ", ".join(repr(display_name(value)) for value in values[:3]) + (", …" if len(values) > 3 else "")
