"""Soft labels: the votes of several people for the classes of an image, as in FERPlus.

Shape legend: N rows of a table, n rows that are kept, V columns of votes, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, Omission
from fer_augment.readers._class_changes import ClassChanges
from fer_augment.readers._conventions import FER2013_CLASSES, counted, display_name, is_fer2013
from fer_augment.readers._table_columns import Columns
from fer_augment.readers._table_rows import Row


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """The labels of rows with votes.

    Attributes:
        rows: `(n,) int64`, the rows that are kept, in ascending order.
        labels: `(n,) int64` in `0 … K - 1`, the class with the most votes.
        class_names: K class names in the order of the columns, or FER2013's; each is the label of at least one row.
        targets: `(n, K) float32`, shares of the votes for these classes, summing to 1.
        notes: rows and classes that are left out, and ties.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    targets: NDArray[np.float32]
    notes: tuple[str, ...]


def soft_labels(title: str, voted: Sequence[Row], columns: Columns, changes: ClassChanges) -> SoftLabels:
    """Return labels and shares of votes.

    Votes for merged classes are added. A row whose most frequent class is dropped is left out; other rows lose their
    votes for it. If several classes have the most votes, the label is drawn among them, see `_drawn`.

    Args:
        title: the table, for messages.
        voted: N rows of the table; one without an image name is left out.
        columns: its columns, V of them of votes.
        changes: changes of class names; columns of FERPlus that are no classes are dropped as well.

    Raises:
        DatasetError: if a class to change does not exist, or fewer than two classes are left.
    """
    changes = replace(changes, dropped=changes.dropped | set(columns.no_classes))
    changes.check(columns.votes)
    images, votes = [row.image for row in voted], np.array([row.votes for row in voted], dtype=np.float64)
    new_names = [changes.name_of(name) for name in columns.votes]
    names = tuple(dict.fromkeys(name for name in new_names if name is not None))
    if is_fer2013(names):
        names = tuple(sorted(names, key=lambda name: FER2013_CLASSES.index(name.casefold())))
    kept_votes = np.stack([votes[:, [new == name for new in new_names]].sum(axis=1) for name in names], axis=1)
    dropped = np.flatnonzero([name is None for name in new_names])
    others = votes[:, dropped]
    has_image = np.array([bool(image) for image in images])
    most, most_of_others = kept_votes.max(axis=1), others.max(axis=1, initial=0)
    is_kept = has_image & (most > 0) & (most >= most_of_others)
    notes = _left_out(images, columns.votes, votes, dropped, has_image, most)
    rows = np.flatnonzero(is_kept)
    is_most = kept_votes[rows] == most[rows, None]
    labels = is_most.argmax(axis=1)
    ties = np.flatnonzero(is_most.sum(axis=1) > 1)
    for row in ties.tolist():
        labels[row] = _drawn(images[rows[row]], names, is_most[row])
    if len(ties):
        tied = counted([display_name(images[rows[row]]) for row in ties.tolist()], "rows")
        notes.append(f"{tied}: several classes have the most votes; the label is drawn among them")
    present = np.unique(labels)
    if len(present) < 2:
        raise DatasetError(f"{title}: fewer than two classes have the most votes for an image; choose other columns")
    absent = [display_name(names[label]) for label in range(len(names)) if label not in present]
    notes += [Omission(f"{counted(absent, 'classes')}: never the most votes; left out")] if absent else []
    shares = kept_votes[rows][:, present]
    return SoftLabels(
        rows,
        np.searchsorted(present, labels).astype(np.int64),
        tuple(names[label] for label in present.tolist()),
        (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32),
        tuple(notes),
    )


def _left_out(
    images: Sequence[str],
    columns: Sequence[str],
    votes: NDArray[np.float64],
    dropped: NDArray[np.int64],
    has_image: NDArray[np.bool_],
    most: NDArray[np.float64],
) -> list[str]:
    """Return a note for each reason to leave out rows, with their number."""
    without_image = [f"row {row + 1}" for row in np.flatnonzero(~has_image).tolist()]
    notes: list[str] = []
    notes += [Omission(f"{counted(without_image, 'rows')}: no image name; left out")] if without_image else []
    unrated = [display_name(images[row]) for row in np.flatnonzero(has_image & ~votes.any(axis=1)).tolist()]
    notes += [Omission(f"{counted(unrated, 'rows')}: no votes; left out")] if unrated else []
    if len(dropped):
        others = votes[:, dropped]
        is_dropped = has_image & (others.max(axis=1) > most)
        counts = np.bincount(others[is_dropped].argmax(axis=1), minlength=len(dropped))
        notes += [
            Omission(f"{count:,} rows with the most votes for {display_name(columns[column])}: dropped")
            for column, count in zip(dropped.tolist(), counts.tolist(), strict=True)
        ]
    return notes


def _drawn(image: str, names: Sequence[str], is_candidate: NDArray[np.bool_]) -> int:
    """Draw a class: the candidate with the lowest digest of image and class, so that no order matters."""
    candidates = np.flatnonzero(is_candidate).tolist()
    return min(candidates, key=lambda label: hashlib.sha256(f"{image}\x1f{names[label]}".encode()).digest())
