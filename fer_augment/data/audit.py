"""Audit of a data source: duplicate, mislabeled and blank images.

Shape legend: N rows of all splits concatenated, U distinct images among them, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fer_augment.data.dataset import ImageDataset, Images, Splits
from fer_augment.data.duplicates import group_ids, image_digests
from fer_augment.data.near_duplicates import in_pieces, near_pairs
from fer_augment.errors import DatasetError

BLANK = 1.0
"""An image is blank if the standard deviation of its pixels (0 … 255) is below this in every channel."""

RowCounts = dict[str, dict[str, int]]
"""Number of rows by split and class name."""


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Plain):
    """A row of a data source.

    Attributes:
        split: train, validation or test.
        row: position in the split.
        label: class name.
    """

    split: str
    row: int
    label: str


class GroupCounts(_Plain):
    """Number of groups and rows.

    Attributes:
        groups: number of groups.
        rows: total number of rows in these groups.
        conflicting: number of groups with more than one label.
    """

    groups: int
    rows: int
    conflicting: int


class Duplicates(_Plain):
    """Groups of duplicate rows.

    Attributes:
        total: groups over all splits.
        across: groups with rows in more than one split.
        within: for each split, groups among the rows of this split only.
        rows: number of rows that belong to a group.
        conflicting_rows: number of rows in groups with more than one label.
        groups: the groups over all splits, worst first: conflicting labels, then across splits, then by size.
    """

    total: GroupCounts
    across: GroupCounts
    within: dict[str, GroupCounts]
    rows: RowCounts
    conflicting_rows: RowCounts
    groups: tuple[tuple[Row, ...], ...]


class Audit(_Plain):
    """Result of an audit.

    Attributes:
        source: description of the data source.
        fingerprint: digest of the data.
        class_names: the K class names.
        counts: number of rows.
        identical: exact duplicates (identical bytes).
        mirrored: mirrored duplicates: distinct images, one a horizontal mirror image of the other, exactly or nearly.
        near: near duplicates: distinct images of the same picture, see `near_duplicates`.
        held_out_in_train: validation and test rows with an exact duplicate in the training split.
        held_out_near_train: further validation and test rows with a near or mirrored duplicate in the training split.
        blank: rows with a blank image, see `BLANK`.
        constant: blank rows in which all pixels are equal.
        blank_rows: the blank rows.
    """

    source: str
    fingerprint: str
    class_names: tuple[str, ...]
    counts: RowCounts
    identical: Duplicates
    mirrored: Duplicates
    near: Duplicates
    held_out_in_train: RowCounts
    held_out_near_train: RowCounts
    blank: RowCounts
    constant: RowCounts
    blank_rows: tuple[Row, ...]

    @property
    def summary(self) -> dict[str, int]:
        """Key figures for the report of a comparison, by description."""
        identical = self.identical.total
        return {
            "groups of identical images": identical.groups,
            "rows in these groups": identical.rows,
            "groups of identical images with conflicting labels": identical.conflicting,
            "groups of nearly identical images": self.near.total.groups,
            "groups of mirrored images": self.mirrored.total.groups,
            **{
                f"{split} rows identical to a training row": sum(self.held_out_in_train[split].values())
                for split in self.held_out_in_train
            },
            "blank images": sum(sum(rows.values()) for rows in self.blank.values()),
        }


def audit(splits: Splits, progress: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Find exact, near and mirrored duplicates, conflicting labels and blank images within and across splits.

    Pixels are processed a few megabytes at a time. For the effect of duplicates on test scores see Barz and Denzler
    2020, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates", Journal of Imaging 6(6).

    Args:
        splits: the data to audit.
        progress: called with the number of images processed and their total.
    """
    rows = _AllRows(splits)
    spread = rows.spread_of_pixels()
    pictured = np.flatnonzero(spread >= BLANK)
    near, mirrored = (pictured[pairs] for pairs in near_pairs(rows.images, rows.first[pictured], progress))
    near_group = rows.connected(near)
    mirrored_group = rows.connected(np.concatenate([mirrored, rows.exactly_mirrored()]))
    in_train = rows.held_out_with_train(rows.image)
    near_train = rows.held_out_with_train(near_group) | rows.held_out_with_train(mirrored_group)
    is_blank = spread[rows.image] < BLANK
    held_out = ("validation", "test")
    return Audit(
        source=splits.source,
        fingerprint=splits.fingerprint,
        class_names=splits.class_names,
        counts=rows.counts(np.full(len(rows.labels), True)),
        identical=rows.duplicates(rows.image, np.arange(len(rows.labels))),
        mirrored=rows.duplicates(mirrored_group, rows.image),
        near=rows.duplicates(near_group, rows.image),
        held_out_in_train=rows.counts(in_train, held_out),
        held_out_near_train=rows.counts(near_train & ~in_train, held_out),
        blank=rows.counts(is_blank),
        constant=rows.counts(spread[rows.image] == 0),
        blank_rows=rows.rows_at(np.flatnonzero(is_blank)),
    )


def drop_held_out_duplicates(splits: Splits) -> Splits:
    """Drop training rows that have an exact duplicate in the validation or test split.

    The remaining rows are the source rows of the result: their origins are renumbered. No pixels are copied.

    Args:
        splits: as read; validation and test are unchanged.

    Raises:
        DatasetError: if a class with validation or test rows would have no training rows left.
    """
    rows = _AllRows(splits)
    is_train = rows.split == 0
    is_duplicate = np.isin(rows.image[is_train], rows.image[~is_train])
    if not is_duplicate.any():
        return splits
    note = f"without {is_duplicate.sum():,} training rows that have an exact duplicate in a held-out split"
    try:
        train = _source_rows(splits.train, np.flatnonzero(~is_duplicate))
        return replace(splits, train=train, source=f"{splits.source} ({note})")
    except DatasetError as error:
        raise DatasetError(f"{error}; set data.held_out_duplicates to keep") from error


def _source_rows(dataset: ImageDataset, rows: NDArray[np.int64]) -> ImageDataset:
    """Return a new set that has the given rows as its source rows."""
    zeros = np.zeros(len(rows), dtype=np.int64)
    return replace(
        dataset,
        index=dataset.index[rows],
        labels=dataset.labels[rows],
        origins=np.arange(len(rows))[:, None],
        copies=zeros,
        step=zeros,
        sources=None if dataset.sources is None else dataset.sources.taken(dataset.origin[rows]),
    )


@dataclass(frozen=True, eq=False)
class _AllRows:
    """The rows of all splits, concatenated."""

    splits: Splits

    @cached_property
    def split(self) -> NDArray[np.int64]:
        """`(N,) int64`, split number of each row."""
        return np.repeat(np.arange(3), [len(part) for part in self.splits.parts.values()])

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """`(N,) int64`, labels of all rows."""
        return np.concatenate([part.labels for part in self.splits.parts.values()])

    @cached_property
    def image(self) -> NDArray[np.int64]:
        """`(N,) int64` in 0 … U - 1, equal for exact duplicates."""
        return group_ids(np.concatenate([part.digests for part in self.splits.parts.values()]))

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """`(U,) int64`, the first row of each distinct image."""
        return np.unique(self.image, return_index=True)[1]

    @cached_property
    def images(self) -> Images:
        """The pixels of all rows."""
        parts = self.splits.parts.values()
        lengths = [sum(len(block.pixels) for block in part.blocks) for part in parts]
        starts = np.cumsum([0, *lengths[:-1]])
        return Images(
            tuple(block for part in parts for block in part.blocks),
            np.concatenate([start + part.index for start, part in zip(starts, parts, strict=True)]),
        )

    def rows_at(self, numbers: NDArray[np.int64]) -> tuple[Row, ...]:
        """Return split, position and class name of the given rows."""
        names, class_names = list(self.splits.parts), self.splits.class_names
        position = numbers - np.searchsorted(self.split, self.split[numbers])
        columns = zip(self.split[numbers], position.tolist(), self.labels[numbers], strict=True)
        return tuple(Row(split=names[split], row=row, label=class_names[label]) for split, row, label in columns)

    def counts(self, mask: NDArray[np.bool_], among: Iterable[str] = ("train", "validation", "test")) -> RowCounts:
        """Count the rows in an `(N,)` mask for each of the named splits."""
        names = self.splits.class_names
        return {
            name: dict(
                zip(
                    names,
                    np.bincount(self.labels[mask & (self.split == number)], minlength=len(names)).tolist(),
                    strict=True,
                )
            )
            for number, name in enumerate(self.splits.parts)
            if name in among
        }

    def spread_of_pixels(self) -> NDArray[np.float64]:
        """Return `(U,) float64`, the largest per-channel standard deviation of each image."""
        pieces = in_pieces(self.images, self.first)
        return np.concatenate([piece.std(axis=(1, 2)).max(axis=1) for piece in pieces])

    def exactly_mirrored(self) -> NDArray[np.int64]:
        """Return `(p, 2) int64` pairs of distinct images that are exact horizontal mirror images of each other."""
        mirrored = [image_digests(piece[:, :, ::-1]) for piece in in_pieces(self.images, self.first)]
        digests = np.concatenate([part.digests for part in self.splits.parts.values()])[self.first]
        own, other = np.split(group_ids(np.concatenate([digests, *mirrored])), 2)
        image_with = np.full(2 * len(own), -1)
        image_with[own] = np.arange(len(own))
        pairs = np.stack([np.arange(len(own)), image_with[other]], axis=1)
        return pairs[pairs[:, 0] < pairs[:, 1]]

    def connected(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `(N,) int64` component numbers of the rows in the graph whose edges are `(p, 2)` pairs of images."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        size = len(self.first)
        graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
        group_of_image: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
        return group_of_image[self.image]

    def held_out_with_train(self, group: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return an `(N,) bool` mask of the held-out rows whose `(N,)` group contains a training row."""
        return (self.split > 0) & np.isin(group, group[self.split == 0])

    def duplicates(self, group: NDArray[np.int64], member: NDArray[np.int64]) -> Duplicates:
        """Describe the groups, by `(N,)` group number, that have more than one distinct `(N,)` member."""
        everywhere = np.full(len(group), True)
        grouped = _varied(group, member, everywhere)
        conflicting = _varied(group, self.labels, grouped)
        return Duplicates(
            total=self._group_counts(group, grouped),
            across=self._group_counts(group, _varied(group, self.split, grouped)),
            within={
                name: self._group_counts(group, _varied(group, member, self.split == number))
                for number, name in enumerate(self.splits.parts)
            },
            rows=self.counts(grouped),
            conflicting_rows=self.counts(conflicting),
            groups=self._worst_first(group, grouped),
        )

    def _group_counts(self, group: NDArray[np.int64], grouped: NDArray[np.bool_]) -> GroupCounts:
        conflicting = _varied(group, self.labels, grouped)
        return GroupCounts(
            groups=len(np.unique(group[grouped])),
            rows=int(grouped.sum()),
            conflicting=len(np.unique(group[conflicting])),
        )

    def _worst_first(self, group: NDArray[np.int64], grouped: NDArray[np.bool_]) -> tuple[tuple[Row, ...], ...]:
        rows = np.flatnonzero(grouped)
        rows = rows[np.argsort(group[rows], kind="stable")]
        members = np.split(rows, np.flatnonzero(np.diff(group[rows])) + 1) if len(rows) else []
        members.sort(
            key=lambda numbers: (
                len(set(self.labels[numbers])) == 1,
                len(set(self.split[numbers])) == 1,
                -len(numbers),
                numbers[0],
            )
        )
        return tuple(self.rows_at(numbers) for numbers in members)


def _varied(group: NDArray[np.int64], value: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return an `(N,) bool` mask of the masked rows whose group has more than one value among its masked rows."""
    span = int(value.max()) + 1
    distinct = np.unique(group[mask] * span + value[mask])
    values_in_group = np.bincount(distinct // span, minlength=int(group.max()) + 1)
    return mask & (values_in_group[group] > 1)
