"""What is wrong with a data source before anything is trained on it: repeated, contradictory and empty images.

Legend of shapes: N rows of all splits laid end to end, U distinct images among them, K classes.
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
"""An image is blank if in every channel the standard deviation of its pixels, of 0 … 255, is below this."""

RowCounts = dict[str, dict[str, int]]
"""How many rows: by split, then by class name."""


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Plain):
    """A row of a data source.

    Attributes:
        split: train, validation or test.
        row: its position in the split.
        label: the name of its class.
    """

    split: str
    row: int
    label: str


class GroupCounts(_Plain):
    """How many groups there are.

    Attributes:
        groups: how many.
        rows: how many rows they have together.
        conflicting: how many of the groups carry more than one label.
    """

    groups: int
    rows: int
    conflicting: int


class Duplicates(_Plain):
    """Rows that show one picture, in groups.

    Attributes:
        total: groups over all splits together.
        across: those of them that have rows in more than one split.
        within: for each split, groups among the rows of this split alone.
        rows: rows that belong to a group.
        conflicting_rows: rows of groups that carry more than one label.
        groups: the groups over all splits, worst first: contradictory ones, then those across splits, then large ones.
    """

    total: GroupCounts
    across: GroupCounts
    within: dict[str, GroupCounts]
    rows: RowCounts
    conflicting_rows: RowCounts
    groups: tuple[tuple[Row, ...], ...]


class Audit(_Plain):
    """What an audit of a data source found.

    Attributes:
        source: where the data came from, for people.
        fingerprint: digest of the data.
        class_names: the K class names.
        counts: all rows.
        identical: images that are byte for byte the same.
        mirrored: different images of which one is the mirror image, left to right, of another, exactly or nearly.
        near: different images that show one picture, see `near_duplicates`.
        held_out_in_train: validation and test rows that are byte for byte the same as a training row.
        held_out_near_train: further ones that show one picture with a training row, upright or mirrored.
        blank: rows whose image is all but even, see `BLANK`.
        constant: those of them in which all pixels are the same.
        blank_rows: which rows are blank.
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
        """The numbers that a reader of a comparison has to know, each by what it counts."""
        whole = self.identical.total
        return {
            "groups of identical images": whole.groups,
            "rows in these groups": whole.rows,
            "groups of identical images with conflicting labels": whole.conflicting,
            "groups of nearly identical images": self.near.total.groups,
            "groups of mirrored images": self.mirrored.total.groups,
            **{
                f"{split} rows identical to a training row": sum(self.held_out_in_train[split].values())
                for split in self.held_out_in_train
            },
            "blank images": sum(sum(rows.values()) for rows in self.blank.values()),
        }


def audit(splits: Splits, progress: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Look for repeated, mirrored, nearly repeated, contradictory and blank images within and across splits.

    Pixels are looked at a few megabytes at a time. Why it matters: Barz and Denzler 2020, "Do We Train on Test Data?
    Purging CIFAR of Near-Duplicates", Journal of Imaging 6(6).

    Args:
        splits: what to look at.
        progress: told how many images were looked at and how many there are.
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
    """Return the splits less the training rows that are byte for byte the same as a validation or test row.

    The rows that stay are the source rows of the result: their origins are numbered anew. No pixels are copied.

    Args:
        splits: as read; validation and test stay as they are.

    Raises:
        DatasetError: if a class would have held-out rows and no training row left.
    """
    rows = _AllRows(splits)
    is_train = rows.split == 0
    copied = np.isin(rows.image[is_train], rows.image[~is_train])
    if not copied.any():
        return splits
    source = f"{splits.source} (less {copied.sum():,} training rows with a copy held out)"
    try:
        return replace(splits, train=_source_rows(splits.train, np.flatnonzero(~copied)), source=source)
    except DatasetError as error:
        raise DatasetError(f"{error}; set held_out_duplicates to keep") from error


def _source_rows(dataset: ImageDataset, rows: NDArray[np.int64]) -> ImageDataset:
    """Return rows of a set as source rows of a set of their own."""
    zeros = np.zeros(len(rows), dtype=np.int64)
    return replace(
        dataset,
        index=dataset.index[rows],
        labels=dataset.labels[rows],
        origins=np.arange(len(rows))[:, None],
        copies=zeros,
        step=zeros,
    )


@dataclass(frozen=True, eq=False)
class _AllRows:
    """The rows of all splits laid end to end."""

    splits: Splits

    @cached_property
    def split(self) -> NDArray[np.int64]:
        """`(N,) int64`, number of the split that each row stands in."""
        return np.repeat(np.arange(3), [len(part) for part in self.splits.parts.values()])

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """`(N,) int64`."""
        return np.concatenate([part.labels for part in self.splits.parts.values()])

    @cached_property
    def image(self) -> NDArray[np.int64]:
        """`(N,) int64` in 0 … U - 1, equal for rows that are byte for byte the same."""
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
        """Name rows by their split and their position in it."""
        names, class_names = list(self.splits.parts), self.splits.class_names
        position = numbers - np.searchsorted(self.split, self.split[numbers])
        columns = zip(self.split[numbers], position.tolist(), self.labels[numbers], strict=True)
        return tuple(Row(split=names[split], row=row, label=class_names[label]) for split, row, label in columns)

    def counts(self, mask: NDArray[np.bool_], among: Iterable[str] = ("train", "validation", "test")) -> RowCounts:
        """Count the rows of an `(N,)` mask in the named splits."""
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
        """Return `(U,) float64`, each image's standard deviation in the channel where it is largest."""
        pieces = in_pieces(self.images, self.first)
        return np.concatenate([piece.std(axis=(1, 2)).max(axis=1) for piece in pieces])

    def exactly_mirrored(self) -> NDArray[np.int64]:
        """Return `(p, 2) int64` pairs of distinct images that are each other's mirror image, left to right."""
        mirrored = [image_digests(piece[:, :, ::-1]) for piece in in_pieces(self.images, self.first)]
        digests = np.concatenate([part.digests for part in self.splits.parts.values()])[self.first]
        own, other = np.split(group_ids(np.concatenate([digests, *mirrored])), 2)
        image_with = np.full(2 * len(own), -1)
        image_with[own] = np.arange(len(own))
        pairs = np.stack([np.arange(len(own)), image_with[other]], axis=1)
        return pairs[pairs[:, 0] < pairs[:, 1]]

    def connected(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `(N,) int64`, equal for rows whose images are connected by a chain of `(p, 2)` pairs of images."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        size = len(self.first)
        graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
        group_of_image: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
        return group_of_image[self.image]

    def held_out_with_train(self, group: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return an `(N,) bool` mask of the held-out rows in whose group, `(N,)`, there is a training row."""
        return (self.split > 0) & np.isin(group, group[self.split == 0])

    def duplicates(self, group: NDArray[np.int64], member: NDArray[np.int64]) -> Duplicates:
        """Describe groups of rows: those, by `(N,)` group number, in which there is more than one `(N,)` member."""
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
            key=lambda of_group: (
                len(set(self.labels[of_group])) == 1,
                len(set(self.split[of_group])) == 1,
                -len(of_group),
                of_group[0],
            )
        )
        return tuple(self.rows_at(of_group) for of_group in members)


def _varied(group: NDArray[np.int64], value: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return an `(N,) bool` mask of the masked rows among whose group, as masked, there is more than one value."""
    span = int(value.max()) + 1
    distinct = np.unique(group[mask] * span + value[mask])
    values_in_group = np.bincount(distinct // span, minlength=int(group.max()) + 1)
    return mask & (values_in_group[group] > 1)
