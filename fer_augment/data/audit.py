"""Audit of a data source: duplicate, mislabeled and blank images.

Shape legend: N rows of all splits concatenated, U distinct images among them, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.audit_records import Audit, Duplicates, GroupCounts, Row, RowCounts, SourceGroups
from fer_augment.data.dataset import HELD_OUT, Splits, joined_groups
from fer_augment.data.duplicates import group_ids, image_digests
from fer_augment.data.near_duplicates import near_pairs, pieces, star_groups
from fer_augment.data.pixel_blocks import Images
from fer_augment.data.similar_vectors import THREADS
from fer_augment.errors import DatasetError
from fer_augment.phases import part_of

BLANK = 1.0
"""An image is blank if the standard deviation of its pixels (0 … 255) is below this in every channel."""


def audit(splits: Splits, progress: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Find exact, near and mirrored duplicates, conflicting labels and blank images within and across splits.

    Pixels are processed a few megabytes at a time. For the effect of duplicates on test scores see Barz and Denzler
    2020, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates", Journal of Imaging 6(6).

    Args:
        splits: the data to audit.
        progress: called with the number of images processed and their total.
    """
    rows = _AllRows(splits)
    total = len(rows.labels)
    spread, mirrored_digests = rows.spreads_and_mirrored_digests(part_of(progress, total, 0, 0.2))
    pictured = np.flatnonzero(spread >= BLANK)
    pairs = near_pairs(rows.images, rows.first[pictured], part_of(progress, total, 0.2, 1))
    near, mirrored = pictured[pairs[0]], np.concatenate([pictured[pairs[1]], rows.exactly_mirrored(mirrored_digests)])
    near_group = star_groups(len(rows.first), near)
    mirrored_group = _mirrored_groups(near_group, mirrored)[rows.image]
    near_group = near_group[rows.image]
    in_train = rows.held_out_with_train(rows.image)
    near_train = rows.held_out_with_train(near_group) | rows.held_out_with_train(mirrored_group)
    near_train |= rows.held_out_paired_with_train(np.concatenate([near, mirrored]))
    near_train &= ~in_train
    is_blank = spread[rows.image] < BLANK
    return Audit(
        source=splits.source,
        fingerprint=splits.fingerprint,
        class_names=splits.class_names,
        counts=rows.counts(np.full(total, True)),
        identical=rows.duplicates(rows.image, np.arange(total)),
        near=rows.duplicates(near_group, rows.image),
        mirrored=rows.duplicates(mirrored_group, rows.image),
        held_out_in_train=rows.counts(in_train, HELD_OUT),
        held_out_near_train=rows.counts(near_train, HELD_OUT),
        held_out_near_train_rows=rows.positions(near_train, HELD_OUT),
        blank=rows.counts(is_blank),
        constant=rows.counts(spread[rows.image] == 0),
        blank_rows=rows.rows_at(np.flatnonzero(is_blank)),
        source_groups=rows.source_groups(),
        soft_labels=_soft_labels(splits),
    )


def _soft_labels(splits: Splits) -> dict[str, int] | None:
    targets = {name: part.targets for name, part in splits.parts.items()}
    soft = {name: int((shares.max(axis=1) < 1).sum()) for name, shares in targets.items() if shares is not None}
    return soft or None


def _mirrored_groups(near_group: NDArray[np.int64], mirrored: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `(U,)` group numbers in 0 … U - 1: groups of near duplicates joined with the ones that mirror them.

    Args:
        near_group: `(U,)`, representative of each image among its near duplicates.
        mirrored: `(p, 2)` pairs of mirrored duplicates.
    """
    linked = np.unique(np.sort(near_group[mirrored], axis=1), axis=0)
    group = star_groups(len(near_group), linked[linked[:, 0] != linked[:, 1]])[near_group]
    inside = mirrored[group[mirrored[:, 0]] == group[mirrored[:, 1]]]
    return np.where(np.isin(group, group[inside]), group, np.arange(len(group)))


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
        train = splits.train.as_source_rows(~is_duplicate)
        return replace(splits, train=train, source=f"{splits.source} ({note})")
    except DatasetError as error:
        raise DatasetError(f"{error}; set data.held_out_duplicates to keep") from error


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
    def digests(self) -> NDArray[np.void]:
        """`(N,)`, digests of all rows."""
        return np.concatenate([part.digests for part in self.splits.parts.values()])

    @cached_property
    def image(self) -> NDArray[np.int64]:
        """`(N,) int64` in 0 … U - 1, equal for exact duplicates."""
        return group_ids(self.digests)

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
        """Return split, position, class name and file name of the given rows."""
        return tuple(self._row(number) for number in numbers.tolist())

    def _row(self, number: int) -> Row:
        split = self._names[self.split[number]]
        part, row = self.splits.parts[split], number - int(self._starts[self.split[number]])
        return Row(split=split, row=row, label=part.class_names[part.labels[row]], file=part.name_of(row))

    @cached_property
    def _names(self) -> list[str]:
        return list(self.splits.parts)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.searchsorted(self.split, np.arange(len(self._names)))

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

    def positions(self, mask: NDArray[np.bool_], among: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the positions in their split of the rows in an `(N,)` mask, for each of the named splits."""
        return {
            name: tuple(np.flatnonzero(mask[self.split == number]).tolist())
            for number, name in enumerate(self.splits.parts)
            if name in among
        }

    def spreads_and_mirrored_digests(
        self, progress: Callable[[int, int], None]
    ) -> tuple[NDArray[np.float64], NDArray[np.void]]:
        """Return for each image the largest standard deviation of a channel, and the digest of its mirror image."""
        images, first = self.images, self.first

        def read(piece: tuple[int, int]) -> tuple[list[float], NDArray[np.void]]:
            pixels = images[first[slice(*piece)]]
            return [_spread(image) for image in pixels], image_digests(pixels[:, :, ::-1])

        spreads, digests = list[float](), [np.empty(0, dtype="V16")]
        with ThreadPoolExecutor(THREADS) as pool:
            for spread, mirrored in pool.map(read, pieces(images, first)):
                spreads += spread
                digests.append(mirrored)
                progress(len(spreads), len(first))
        return np.array(spreads), np.concatenate(digests)

    def exactly_mirrored(self, mirrored_digests: NDArray[np.void]) -> NDArray[np.int64]:
        """Return `(p, 2) int64` pairs of distinct images that are exact horizontal mirror images of each other."""
        count = len(self.first)
        own, other = np.split(group_ids(np.concatenate([self.digests[self.first], mirrored_digests])), 2)
        image_with = np.full(2 * count, -1)
        image_with[own] = np.arange(count)
        pairs = np.stack([np.arange(count), image_with[other]], axis=1)
        return pairs[pairs[:, 0] < pairs[:, 1]]

    def held_out_with_train(self, group: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return an `(N,) bool` mask of the held-out rows whose `(N,)` group contains a training row."""
        return (self.split > 0) & np.isin(group, group[self.split == 0])

    def held_out_paired_with_train(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return an `(N,) bool` mask of held-out rows whose image is in a `(p, 2)` pair with a training image."""
        in_train = np.zeros(len(self.first), dtype=bool)
        in_train[self.image[self.split == 0]] = True
        paired = np.zeros_like(in_train)
        for one, other in (pairs.T, pairs.T[::-1]):
            paired[one[in_train[other]]] = True
        return (self.split > 0) & paired[self.image]

    def source_groups(self) -> SourceGroups | None:
        """Return the groups that the source declares across splits; None if it declares none."""
        parts = list(self.splits.parts.values())
        joined = joined_groups(parts)
        if joined is None:
            return None
        group = np.unique(joined, return_inverse=True)[1]
        is_declared = np.repeat(
            [part.sources is not None and part.sources.groups is not None for part in parts], [*map(len, parts)]
        )
        is_across = _varied(group, self.split, np.full(len(group), True))
        rows = np.flatnonzero(is_across)
        first_in_split = rows[np.unique(group[rows] * len(self._names) + self.split[rows], return_index=True)[1]]
        sizes = np.bincount(group)
        order = np.lexsort([first_in_split, group[first_in_split], -sizes[group[first_in_split]]])
        first_in_split = first_in_split[order]
        ends = np.flatnonzero(np.diff(group[first_in_split])) + 1
        examples = np.split(first_in_split, ends) if len(rows) else []
        return SourceGroups(
            total=len(np.unique(group[is_declared])),
            across=len(examples),
            held_out_in_train=self.counts(self.held_out_with_train(group), HELD_OUT),
            examples=tuple(self.rows_at(numbers) for numbers in examples),
        )

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


def _spread(image: NDArray[np.uint8]) -> float:
    """Return the largest standard deviation of a channel of `(H, W, C)`."""
    import cv2

    return float(cv2.meanStdDev(image)[1].max())
