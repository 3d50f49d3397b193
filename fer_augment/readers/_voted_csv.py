"""FERPlus's votes for the rows of FER2013 as a csv file: row i of one file belongs to row i of the other."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, ImageDataset, Splits
from fer_augment.data.dataset import SourceRows
from fer_augment.data.splitting import SPLIT_ORDER, make_splits
from fer_augment.phases import ReportProgress
from fer_augment.readers import csv_file
from fer_augment.readers._class_changes import ClassChanges
from fer_augment.readers._conventions import FER2013_CLASSES, counted, display_name
from fer_augment.readers._table_columns import ColumnChoice, ferplus_votes
from fer_augment.readers._table_files import TableFile, TableFiles
from fer_augment.readers._table_rows import Row, group_numbers, rows_of
from fer_augment.readers._table_text import is_image_name
from fer_augment.readers._votes import SoftLabels, soft_labels

_NAMES = dict(
    zip(("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"), FER2013_CLASSES, strict=True)
)
"""FER2013's classes by FERPlus's names."""
_NO_CHOICE = ColumnChoice()
_NO_CHANGES = ClassChanges()


def csv_beside(tables: TableFiles) -> Path | None:
    """Return the csv file of FER2013 beside FERPlus's table; None if there is none, or there are image files.

    Raises:
        DatasetError: if there are several.
    """
    (file, *others), root = tables.files, tables.images
    if others or not os.path.isdir(root) or not file.path.is_file() or not ferplus_votes(file.opened()):
        return None
    beside = [file.path.parent / name for name in sorted(os.listdir(file.path.parent))]
    found = [path for path in beside if path.suffix.lower() == ".csv" and csv_file.recognizes(str(path))]
    if not found or any(is_image_name(name) for _, _, names in os.walk(root) for name in names):
        return None
    if len(found) > 1:
        names = counted([display_name(path.name) for path in found], "files")
        raise DatasetError(
            f"{display_name(str(file.path))}: {names}: the votes may belong to any of them; choose one in a source "
            f"description (docs/data.md): images: {display_name(found[0].name)}, table: {display_name(file.path.name)}"
        )
    return found[0]


def read_voted_csv(
    description: str,
    file: TableFile,
    pixels: str,
    choice: ColumnChoice = _NO_CHOICE,
    changes: ClassChanges = _NO_CHANGES,
    *,
    progress: ReportProgress,
) -> Splits:
    """Read FER2013's images with FERPlus's votes.

    Args:
        description: the source, for display.
        file: the table of votes.
        pixels: the csv file of FER2013.
        choice: columns chosen by name; others are guessed.
        changes: changes of class names.
        progress: called with the number of bytes read and their total.

    Raises:
        DatasetError: if a file is invalid, or the files have different numbers of rows in a split.
    """
    title = display_name(str(file.path))
    read = rows_of(file, choice)
    if not read.columns.votes or read.columns.split is None:
        missing = "votes" if read.columns.split else "splits, such as Usage"
        raise DatasetError(f"{title}: no column of {missing}; {display_name(pixels)} needs the table of FERPlus")
    parts = csv_file.read_parts(pixels, progress)
    split = np.array([SPLIT_ORDER.index(row.split or "") for row in read.rows])
    for number, name in enumerate(SPLIT_ORDER):
        rows = int((split == number).sum())
        if rows != len(parts[name]):
            raise DatasetError(
                f"{title}: {rows:,} rows of the {name} split, but {display_name(pixels)} has {len(parts[name]):,}; row "
                "i of one file belongs to row i of the other, so use files of the same edition"
            )
    soft = soft_labels(title, read.rows, read.columns, changes)
    notes = [f"columns: {read.columns.in_words}", *soft.notes, *_agreement(pixels, parts, split, read.rows, soft)]
    groups = group_numbers([read.rows[row] for row in soft.rows.tolist()], notes)
    voted = {
        name: _voted(parts[name], read.rows, soft, groups, split == number) for number, name in enumerate(SPLIT_ORDER)
    }
    splits = make_splits(description, voted, csv_file.WHERE)
    return Splits(splits.train, splits.validation, splits.test, splits.source, (*notes, *splits.notes))


def _voted(
    part: ImageDataset,
    rows: list[Row],
    soft: SoftLabels,
    groups: NDArray[np.int64] | None,
    in_split: NDArray[np.bool_],
) -> ImageDataset:
    """Return the rows of a split that have a label, with their votes, and their groups if there are any."""
    chosen = np.flatnonzero(in_split[soft.rows])
    kept = soft.rows[chosen]
    position = np.cumsum(in_split) - 1
    return ImageDataset.from_arrays(
        part.blocks[0],
        soft.labels[chosen],
        soft.class_names,
        rows=part.index[position[kept]],
        sources=SourceRows(
            tuple(rows[row].image for row in kept.tolist()),
            None if groups is None else groups[chosen],
            soft.targets[chosen],
        ),
    )


def _agreement(
    pixels: str, parts: dict[str, ImageDataset], split: NDArray[np.int64], rows: list[Row], soft: SoftLabels
) -> list[str]:
    """Return a note on how often the class with the most votes is FER2013's label; no note for other class names."""
    labels = np.empty(len(rows), dtype=np.int64)
    for number, name in enumerate(SPLIT_ORDER):
        labels[split == number] = parts[name].labels
    voted = [soft.class_names[label] for label in soft.labels.tolist()]
    both = [
        _NAMES[name] == FER2013_CLASSES[label]
        for name, label in zip(voted, labels[soft.rows].tolist(), strict=True)
        if name in _NAMES
    ]
    share = f"{sum(both):,} of {len(both):,} labels are those of {display_name(pixels)}"
    return [f"{share} ({100 * sum(both) / len(both):.1f} %)"] if both else []
