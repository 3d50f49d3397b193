"""Reader for tables of image paths, ids or bytes with labels: csv, tsv, JSON Lines, parquet, and lists of lines."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, DatasetReader, ImageFile, ImageSource, Omission, Splits, hookimpl
from fer_augment.data.splitting import SPLIT_ORDER
from fer_augment.phases import ReportProgress
from fer_augment.readers import csv_file
from fer_augment.readers._class_changes import ClassChanges
from fer_augment.readers._conventions import (
    class_order,
    counted,
    display_name,
    is_fer2013,
    paused_garbage_collection,
    split_called,
)
from fer_augment.readers._table_columns import ColumnChoice
from fer_augment.readers._table_files import TableFiles, has_tables, is_table_file, tables_of
from fer_augment.readers._table_images import NamedImage, find_images
from fer_augment.readers._table_rows import (
    MAYBE_MISSING,
    MISSING,
    Row,
    group_numbers,
    rows_of,
    unused_in_words,
    whole_numbers,
)
from fer_augment.readers._voted_csv import csv_beside, read_voted_csv
from fer_augment.readers._votes import SoftLabels, soft_labels

_IGNORE = "ignore the column of splits in a source description (docs/data.md): columns: {split: null}"
_ADVICE = {
    "train": f"add rows of the split train, or {_IGNORE}",
    "test": f"add rows of the split test, rename the split validation to test, or {_IGNORE}",
}
_NO_CHOICE = ColumnChoice()
_NO_CHANGES = ClassChanges()


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of tables."""
    summary = "FILE.csv|tsv|jsonl|parquet|txt of image names (or bytes) and labels, or a FOLDER of it and the images"
    return [DatasetReader("table", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is a table, or a folder or archive with one; FER2013 as a csv file has its own reader.

    An archive with a table is refused, as its folders may be no classes.
    """
    if is_table_file(source):
        return not csv_file.recognizes(source)
    return has_tables(source)


def read(source: str, progress: ReportProgress) -> Splits | ImageSource:
    """Read a table and find its images, below the folder of the table or the folder that is passed.

    The images of FERPlus's table of votes may also be a csv file of FER2013 beside it.

    Raises:
        DatasetError: if the table is invalid or in an archive, or images are missing.
    """
    tables = tables_of(source)
    if pixels := csv_beside(tables):
        return read_voted_csv(display_name(source), tables.files[0], str(pixels), progress=progress)
    return read_tables(display_name(source), tables, progress=progress)


@paused_garbage_collection()
def read_tables(
    description: str,
    tables: TableFiles,
    choice: ColumnChoice = _NO_CHOICE,
    changes: ClassChanges = _NO_CHANGES,
    *,
    progress: ReportProgress = lambda done, total: None,
) -> ImageSource:
    """Read tables, and find their images.

    Args:
        description: the source, for display.
        tables: one table, or one for each split.
        choice: columns chosen by name; others are guessed. If there is to be no column of splits, the names of tables
            and folders are no splits, either.
        changes: changes of class names.
        progress: called with the number of tables read and their total.

    Raises:
        DatasetError: if a table is invalid, or images are missing.
    """
    read_rows = []
    for done, file in enumerate(tables.files, start=1):
        read_rows.append(rows_of(file, choice))
        progress(done, len(tables.files))
    has_splits = choice.names.get("split", "") is not None
    orders = {part.class_names for part in read_rows}
    title = display_name(str(tables.files[0].path)) if len(tables.files) == 1 else description
    all_rows = [row for part in read_rows for row in part.rows]
    columns = read_rows[0].columns
    notes = [f"columns: {columns}" for columns in sorted({part.columns.in_words for part in read_rows})]
    notes[-1] += unused_in_words(read_rows, len(columns.votes) or len({row.label for row in all_rows}))
    notes += tables.notes
    order = orders.pop() if len(orders) == 1 and not changes else ()
    if len({part.columns.votes for part in read_rows}) > 1:
        raise DatasetError(f"{title}: the tables have different columns of votes; pass them one at a time")
    if columns.votes:
        soft = soft_labels(title, all_rows, columns, changes)
        rows, order = _voted(all_rows, soft), soft.class_names
        notes += soft.notes
    else:
        rows = _labeled(title, all_rows, changes, notes)
    if has_splits and tables.has_splits:
        rows = [row if row.split else replace(row, split=row.table.split) for row in rows]
    images = _with_images(title, tables, rows, _left_out(all_rows, rows), notes)
    rows = [image.row for image in images]
    names, labels = _classes(title, rows, order, notes)
    return ImageSource(
        description,
        [image.file for image in images],
        labels,
        names,
        split=_splits(title, images, notes) if has_splits else _no_splits(len(images)),
        groups=group_numbers(rows, notes),
        targets=np.array([row.votes for row in rows], dtype=np.float32) if columns.votes else None,
        notes=tuple(notes),
        advice=_ADVICE,
    )


@dataclass(frozen=True, slots=True)
class _Image:
    """A row with its image, and the names of the folders of the image, without those that all images are in."""

    row: Row
    file: ImageFile
    folders: tuple[str, ...] = ()


def _labeled(title: str, rows: list[Row], changes: ClassChanges, notes: list[str]) -> list[Row]:
    """Return the rows that have a label, with the names that the changes give to classes; append notes."""
    without = [row.title for row in rows if not row.label]
    notes += [Omission(f"{counted(without, 'rows')}: no label; left out")] if without else []
    labels = whole_numbers([row.label for row in rows])
    changes.check({label for label in labels if label})
    notes += changes.notes(labels)
    named = [(row, changes.name_of(label)) for row, label in zip(rows, labels, strict=True) if label]
    labeled = [row if row.label == name else replace(row, label=name) for row, name in named if name is not None]
    if not labeled:
        raise DatasetError(f"{title}: no row has a label that is kept; choose another column of labels (docs/data.md)")
    return labeled


def _voted(rows: Sequence[Row], soft: SoftLabels) -> list[Row]:
    """Return the rows that are kept, with their label and the shares of the votes."""
    kept = zip(soft.rows.tolist(), soft.labels.tolist(), soft.targets.tolist(), strict=True)
    return [replace(rows[row], label=soft.class_names[label], votes=tuple(shares)) for row, label, shares in kept]


def _left_out(all_rows: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Return the rows with an image that are not among those with a label, which have the same order."""
    kept = {(row.table.path, row.image) for row in rows}
    return [row for row in all_rows if row.image and (row.table.path, row.image) not in kept]


def _with_images(
    title: str, tables: TableFiles, rows: Sequence[Row], left_out: Sequence[Row], notes: list[str]
) -> list[_Image]:
    """Return the rows with their images, without repeated rows; append notes."""
    if all(row.file for row in rows):
        return [_Image(row, row.file) for row in rows if row.file]
    found = find_images(
        title,
        tables.images,
        [_named(row) for row in rows],
        [_named(row) for row in left_out],
        is_chosen=tables.are_images_chosen,
    )
    notes += found.notes
    by_image: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, path in enumerate(found.paths):
        by_image[path].append(number)
    repeated = {
        _names([found.files[number].name for number in numbers]): numbers
        for numbers in by_image.values()
        if len(numbers) > 1
    }
    contradictory = [
        name
        for name, numbers in repeated.items()
        if len({(rows[number].label, rows[number].votes, rows[number].split, rows[number].group) for number in numbers})
        > 1
    ]
    if contradictory:
        raise DatasetError(
            f"{title}: {counted(contradictory)}: several rows that differ in label, votes, split or group; keep one "
            "of them"
        )
    notes += [f"{counted([*repeated])}: several equal rows; read once"] if repeated else []
    return [_Image(rows[first], found.files[first], found.folders[first]) for first, *_ in by_image.values()]


def _names(names: Sequence[str]) -> str:
    """Return the name of an image, and another one under which rows name it, if there is one."""
    other = next((name for name in names if name != names[0]), None)
    return f"{names[0]} (also {other})" if other else names[0]


def _named(row: Row) -> NamedImage:
    return NamedImage(row.image, row.table.folder, row.split or row.table.split)


def _splits(title: str, images: Sequence[_Image], notes: list[str]) -> NDArray[np.int8]:
    """Return the number of the split of each row: of its column or table, else of folders or file names."""
    splits = [image.row.split for image in images]
    if not any(splits):
        splits = [_first_split(image.folders) for image in images]
        note = "the splits are those of the folders of the images"
        if not _is_complete(splits):
            splits = [_first_split(re.split(r"[/\\]", image.row.image)[-1].split("_")[:1]) for image in images]
            note = "the splits are those at the start of the file names"
        if not _is_complete(splits):
            return _no_splits(len(images))
        notes.append(note)
    numbers = [SPLIT_ORDER.index(split) for split in splits if split]
    if len(numbers) < len(images):
        without = [image.row.title for image, split in zip(images, splits, strict=True) if not split]
        raise DatasetError(f"{title}: {counted(without, 'rows')}: no split, unlike the other rows; add it")
    return np.array(numbers, dtype=np.int8)


def _no_splits(rows: int) -> NDArray[np.int8]:
    return np.full(rows, -1, dtype=np.int8)


def _first_split(names: Sequence[str]) -> str | None:
    return next((split for split in map(split_called, names) if split), None)


def _is_complete(splits: Sequence[str | None]) -> bool:
    """Return whether all rows have a split, and there are several."""
    return None not in splits and len(set(splits)) > 1


def _classes(
    title: str, rows: Sequence[Row], order: tuple[str, ...], notes: list[str]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the class names, in the order of the table if it has one, and the label of each row; append notes."""
    names, label_of = class_order(row.label for row in rows)
    unprintable = [display_name(name) for name in label_of if not name.isprintable()]
    if unprintable:
        raise DatasetError(f"{title}: {counted(unprintable, 'classes')}: unprintable characters; rename the classes")
    if len(names) == 1:
        raise DatasetError(f"{title}: all rows have the label {names[0]!r}; choose another column (docs/data.md)")
    if order and not is_fer2013(names):
        names = tuple(name for name in order if name in label_of)
        label_of = {name: label for label, name in enumerate(names)}
    for name in label_of:
        if name.casefold() in (*MISSING, *MAYBE_MISSING) and name not in order:
            count = sum(row.label == name for row in rows)
            notes.append(
                f"{count:,} {'row' if count == 1 else 'rows'} of the class {name}: if this is no class but no label, "
                f"leave the label empty, or set classes: {{drop: ['{name}']}} in a source description (docs/data.md)"
            )
    absent = [display_name(name) for name in order if name not in label_of]
    notes += [Omission(f"{counted(absent, 'classes')}: no rows; left out")] if absent else []
    return names, np.array([label_of[row.label] for row in rows], dtype=np.int64)
