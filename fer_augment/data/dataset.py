"""Labeled images with the provenance of every row.

Shape legend: N rows, H height, W width, C channels, K classes, P the maximum number of source rows per row (1 unless a
step interpolates).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_augment.data.class_order import class_names_fault
from fer_augment.data.duplicates import group_ids, joined
from fer_augment.data.pixel_blocks import Images, PixelBlock, as_index, read_only
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import DatasetError, did_you_mean, excerpt
from fer_augment.randomness import mix64

HELD_OUT = ("validation", "test")
"""The splits that are not trained on."""
AS_READ = 0
"""Step number of a row as read from the data source."""
UNSTAMPED = -1
"""Step number of a row that a strategy has just created; it is set when the hook returns."""
FIRST_OUTSIDE = -2
"""In `origins`, the first source of `outside`; -3 is the second. -1 is padding."""
ROUNDING = 1e-6
"""Shares that differ by less are equal: equal sums in float32 may differ."""


@dataclass(frozen=True, eq=False)
class SourceRows:
    """What a source says of its rows besides images and labels.

    Attributes:
        names: file name of each source row, for display; None if the source has no files.
        groups: `(S,) int64`, equal for source rows that must not be parted by splits or folds, such as images of one
            patient; None without groups.
        targets: `(S, K) float32`, soft labels: the class weights of each source row, summing to 1, such as shares of
            votes; None for one-hot targets. They are used in training; scores and strategies use the labels, which are
            the classes with the largest shares.
        near: `(S,) int64`, equal for source rows that are near or mirrored duplicates, directly or by others; folds
            keep them together. None if the splits are those of the source, which was not searched for them.

    Raises:
        DatasetError: if groups or near duplicates are not integers below 2^63, or soft labels are not `(S, K)` shares
            that sum to 1.
    """

    names: tuple[str, ...] | None = None
    groups: NDArray[np.int64] | None = None
    targets: NDArray[np.float32] | None = None
    near: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Validate groups, near duplicates and soft labels."""
        for name, column in (("groups", self.groups), ("near", self.near)):
            if column is not None and not np.issubdtype(column.dtype, np.integer):
                raise DatasetError(f"{name} must be integers, got {column.dtype}")
            if column is not None and column.dtype == np.uint64:  # with other integers it would become float64
                if column.max(initial=0) > np.iinfo(np.int64).max:
                    raise DatasetError(f"{name} must be below 2^63, got {column.max()}; number them from 0")
                object.__setattr__(self, name, column.astype(np.int64))
        if self.targets is not None:
            if self.targets.ndim != 2 or not np.issubdtype(self.targets.dtype, np.floating):
                got = f"{self.targets.dtype} {self.targets.shape}"
                raise DatasetError(f"soft labels must be (N, K) floats, got {got}")
            invalid = (self.targets < 0).any(axis=1) | ~(np.abs(self.targets.sum(axis=1) - 1) <= 1e-3)  # NaN is invalid
            if invalid.any():
                raise DatasetError(f"row {int(np.argmax(invalid))}: soft labels must be 0 or more and sum to 1")

    def taken(self, rows: NDArray[np.int64]) -> SourceRows:
        """Return the source rows at `(n,)` positions."""
        names = None if self.names is None else tuple(self.names[row] for row in rows.tolist())
        groups = None if self.groups is None else self.groups[rows]
        targets = None if self.targets is None else self.targets[rows]
        return SourceRows(names, groups, targets, None if self.near is None else self.near[rows])


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labeled images with provenance; immutable and validated on construction.

    Derive new data sets with `take`, `append` and `without`, which maintain provenance. They never copy pixels: a data
    set is an index into shared blocks, so a view of a million rows of a file is cheap.

    Attributes:
        blocks: blocks of pixels.
        index: `(N,) int64`, position of each row's pixels in the concatenated blocks.
        labels: `(N,) int64` in `0 … K - 1`.
        class_names: K class names.
        origins: `(N, P) int64`, source rows of each row, padded with -1. A row that was not made from rows of the set
            has a negative number that `outside` names: -2 for the first, -3 for the second.
        copies: `(N,) int64`, copy number, unique among rows with the same first origin; 0 for source rows.
        step: `(N,) int64`, number of the recipe step that created the row; 0 for source rows, -1 if not yet set.
        sources: names, groups and soft labels of the source rows, by the numbers in `origins`; None if there are none.
        outside: what the rows come from that were not made from rows of the set, such as `generated`.
    """

    blocks: tuple[PixelBlock, ...]
    index: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    origins: NDArray[np.int64]
    copies: NDArray[np.int64]
    step: NDArray[np.int64]
    sources: SourceRows | None = None
    outside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate the arrays and make them read-only."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                object.__setattr__(self, field.name, read_only(value))
                if value.ndim != (2 if field.name == "origins" else 1):
                    raise DatasetError(f"{field.name} must have one number per row, got shape {value.shape}")
                if len(value) != len(self.index):
                    raise DatasetError(f"{field.name} has {len(value)} rows, index has {len(self.index)}")
        if fault := class_names_fault(self.class_names):
            raise DatasetError(fault)
        if self.origins.min(initial=0) < FIRST_OUTSIDE + 1 - len(self.outside):
            raise DatasetError(f"origins has {self.origins.min()}, which is no row and names no source of `outside`")
        if any(block.pixels.shape[1:] != self.blocks[0].pixels.shape[1:] for block in self.blocks):
            raise DatasetError("all images of a data set must have the same size and number of channels")
        if len(self.labels) and not (self.labels.min() >= 0 and self.labels.max() < len(self.class_names)):
            row = int(np.flatnonzero((self.labels < 0) | (self.labels >= len(self.class_names)))[0])
            raise DatasetError(
                f"row {row}: label {self.labels[row]} is outside 0..{len(self.class_names) - 1} "
                f"({len(self.class_names)} classes)"
            )

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike | PixelBlock,
        labels: ArrayLike,
        class_names: Sequence[str],
        *,
        rows: ArrayLike | None = None,
        sources: SourceRows | None = None,
    ) -> ImageDataset:
        """Create a data set of source rows.

        Args:
            images: `(M, H, W)` or `(M, H, W, C) uint8`, or a block of pixels (for example a memory-mapped file).
            labels: `(N,)` integers in `0 … K - 1`, labels of the selected rows.
            class_names: K unique names.
            rows: `(N,)` positions in `images` of the rows to select, by default all (N = M); lets several splits
                share a block.
            sources: names, groups and soft labels of the N rows.

        Raises:
            DatasetError: if the arrays are invalid or inconsistent, or the soft labels of a row give another class than
                its label the largest share.
        """
        block = images if isinstance(images, PixelBlock) else PixelBlock.of(images)
        index = np.arange(len(block.pixels)) if rows is None else _integers(rows, "rows")
        if len(index) and not (index.min() >= 0 and index.max() < len(block.pixels)):
            raise DatasetError(f"rows must be positions in 0..{len(block.pixels) - 1}")
        if sources:
            _check_columns(sources, len(index), len(class_names))
        number = np.arange(len(index), dtype=np.int64)
        zeros = np.zeros(len(index), dtype=np.int64)
        names = tuple(class_names)
        dataset = cls((block,), index, _integers(labels, "labels"), names, number[:, None], zeros, zeros, sources)
        if sources and sources.targets is not None:
            _check_largest(dataset.labels, sources.targets, names)
        return dataset

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the fields only, so that unpickling validates the data set and makes it read-only."""
        return ImageDataset, tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        """Number of rows, N."""
        return len(self.index)

    def __repr__(self) -> str:
        """Summary of size and classes."""
        height, width, channels = self.image_shape
        return f"ImageDataset({len(self)} rows of {height}x{width}x{channels}, {len(self.class_names)} classes)"

    @cached_property
    def images(self) -> Images:
        """The pixels, gathered on demand."""
        return Images(self.blocks, self.index)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""
        return self.images.shape[1:]

    @property
    def origin(self) -> NDArray[np.int64]:
        """`(N,) int64`, the (first) source row of each row."""
        return self.origins[:, 0]

    @cached_property
    def targets(self) -> NDArray[np.float32] | None:
        """`(N, K) float32`, training targets: soft labels of the source rows; None if all targets are one-hot.

        A row created from several source rows has the mean of their soft labels. A row whose label is not that of its
        source row was relabeled, and its target is one-hot, like that of a row from outside.
        """
        if self.sources is None or self.sources.targets is None:
            return None
        soft = np.vstack([self.sources.targets, np.zeros((1, len(self.class_names)), np.float32)])
        weights = (self.origins >= 0).astype(np.float32)
        targets: NDArray[np.float32] = np.einsum(
            "npk,np->nk", soft[np.maximum(self.origins, -1)], weights / weights.sum(axis=1, keepdims=True).clip(1)
        )
        of_source = soft[np.maximum(self.origin, -1)]
        relabeled = ~have_largest_share(self.labels, of_source) | self.is_from_outside
        targets[relabeled] = np.eye(len(self.class_names), dtype=np.float32)[self.labels[relabeled]]
        return targets

    @property
    def is_from_outside(self) -> NDArray[np.bool_]:
        """`(N,) bool`, whether a row was made, at least in part, from something that is no row of the set."""
        return np.asarray((self.origins <= FIRST_OUTSIDE).any(axis=1))

    def with_hard_labels(self) -> ImageDataset:
        """Return the same rows with one-hot targets."""
        if self.targets is None or self.sources is None:
            return self
        return replace(self, sources=replace(self.sources, targets=None))

    def name_of(self, row: int) -> str | None:
        """Return the file name of the (first) source row of a row; None if there is none, or it has no name."""
        names = self.sources.names if self.sources else None
        return (names[self.origin[row]] or None) if names and self.origin[row] >= 0 else None

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """`(K,) int64`, number of rows per class; read-only."""
        return read_only(np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64))

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the contents; equal contents have equal fingerprints, whatever their source."""
        digest = hashlib.sha256("\x1f".join(self.class_names).encode())
        digest.update(repr(self.image_shape).encode() + self.digests.tobytes())
        for array in (self.labels, self.origins, self.copies):
            digest.update(np.ascontiguousarray(array).data)
        digest.update("\x1f".join(self.outside).encode())
        for column in (self.sources.groups, self.sources.targets) if self.sources else ():
            if column is not None:  # folds depend on groups, the loss on soft labels
                digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    @cached_property
    def digests(self) -> NDArray[np.void]:
        """`(N,)`, one digest per row; equal digests mean equal pixels."""
        return np.concatenate([block.row_digests for block in self.blocks])[self.index]

    def rows_of(self, classes: Iterable[str]) -> NDArray[np.int64]:
        """Return the positions of all rows of the given classes, in ascending order.

        Raises:
            DatasetError: if a class does not exist.
        """
        return np.flatnonzero(np.isin(self.labels, [self.class_number(name) for name in classes]))

    def class_number(self, name: str) -> int:
        """Return the label of a class.

        Raises:
            DatasetError: if the class does not exist.
        """
        if name not in self.class_names:
            raise DatasetError(f"there is no class {name!r}{did_you_mean(name, self.class_names)}")
        return self.class_names.index(name)

    def take(self, rows: ArrayLike) -> ImageDataset:
        """Select rows, in the given order; a repeated row becomes an augmented copy with its own copy number.

        Args:
            rows: `(n,)` positions or an `(N,)` boolean mask.
        """
        positions = np.arange(len(self), dtype=np.int64)[as_index(rows)]
        origin = self.origin[positions]
        again = occurrence(positions) > 0
        copies, step = self.copies[positions], self.step[positions]
        if again.any():
            copies[again] = self._next_copies(origin[again])
            step[again] = UNSTAMPED
        return replace(
            self,
            index=self.index[positions],
            labels=self.labels[positions],
            origins=_trimmed(self.origins[positions]),
            copies=copies,
            step=step,
        )

    def without(self, rows: ArrayLike) -> ImageDataset:
        """Drop rows, given as `(n,)` positions or an `(N,)` boolean mask."""
        keep = np.ones(len(self), dtype=bool)
        keep[as_index(rows)] = False
        return self.take(np.flatnonzero(keep))

    def as_source_rows(self, rows: slice | ArrayLike = slice(None)) -> ImageDataset:
        """Return rows as the source rows of a data set of their own; no pixels are copied.

        A row from outside has no file name, and is in a group with rows of the same pixels only. The target of a
        relabeled row is one-hot.

        Args:
            rows: `(n,)` positions or an `(N,)` boolean mask, by default all.
        """
        chosen = np.arange(len(self), dtype=np.int64)[as_index(rows)]
        zeros = np.zeros(len(chosen), dtype=np.int64)
        return ImageDataset(
            blocks=self.blocks,
            index=self.index[chosen],
            labels=self.labels[chosen],
            class_names=self.class_names,
            origins=np.arange(len(chosen), dtype=np.int64)[:, None],
            copies=zeros,
            step=zeros,
            sources=self._sources_of(chosen),
        )

    def _sources_of(self, rows: NDArray[np.int64]) -> SourceRows | None:
        """Return names, groups and soft labels of rows at `(n,)` positions; None if there are none."""
        if self.sources is None:
            return None
        origin = self.origin[rows]
        sources = self.sources.taken(np.maximum(origin, 0))
        if self.targets is not None:
            sources = replace(sources, targets=self.targets[rows])
        is_outside = origin < 0
        if not is_outside.any():
            return sources
        names = sources.names and tuple(self.name_of(row) or "" for row in rows.tolist())
        own = -1 - (self.digests[rows].view(np.uint64)[::2] >> 1).astype(np.int64)
        groups, near = (
            None if column is None else np.where(is_outside, own, column) for column in (sources.groups, sources.near)
        )
        return replace(sources, names=names, groups=groups, near=near)

    def append(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        parents: ArrayLike | None = None,
        source: str = "generated",
    ) -> ImageDataset:
        """Append new images.

        Args:
            images: `(n, H, W, C) uint8`, with H, W and C of this data set.
            labels: `(n,)` integers; by default the label of the (first) parent.
            parents: positions in this data set of the rows that each image was created from: `(n,)`, or `(n, 2)` for
                interpolations of two rows. None for images that were not made from rows of this data set, such as those
                of a generative model or of another data set; they need labels.
            source: a word that says what images without parents come from; recorded in `outside`.

        Raises:
            DatasetError: if the arrays are inconsistent with each other or with this data set.
        """
        block = PixelBlock.of(images)
        if block.pixels.shape[1:] != self.image_shape:
            raise DatasetError(
                f"appended images have shape {block.pixels.shape[1:]}, expected {self.image_shape}; resize or convert "
                "them to the `image_shape` of the set"
            )
        parents_nP = None if parents is None else self._parents(parents, len(block.pixels))
        if not len(block.pixels):
            return self
        outside = self.outside
        if parents_nP is None:
            if labels is None:
                raise DatasetError("appended images without parents need labels; pass labels, or the parents")
            outside, number = _named_in(self.outside, source)
            origins = np.full((len(block.pixels), 1), number)
            new_labels = _integers(labels, "labels")
        else:
            origins = _union(self.origins[parents_nP].reshape(len(parents_nP), -1))
            new_labels = self.labels[parents_nP[:, 0]] if labels is None else _integers(labels, "labels")
        start = sum(len(block.pixels) for block in self.blocks)
        width = max(self.origins.shape[1], origins.shape[1])
        return ImageDataset(
            blocks=(*self.blocks, block),
            index=np.concatenate([self.index, start + np.arange(len(block.pixels))]),
            labels=np.concatenate([self.labels, new_labels]),
            class_names=self.class_names,
            origins=np.concatenate([_padded(self.origins, width), _padded(origins, width)]),
            copies=np.concatenate([self.copies, self._next_copies(origins[:, 0], parents_nP)]),
            step=np.concatenate([self.step, np.full(len(block.pixels), UNSTAMPED)]),
            sources=self.sources,
            outside=outside,
        )

    def _parents(self, parents: ArrayLike, images: int) -> NDArray[np.int64]:
        """Return the `(n, P)` positions of the parents of new images."""
        parents_nP = np.atleast_2d(_integers(parents, "parents").T).T
        if len(parents_nP) != images:
            raise DatasetError(f"{images} appended images, but {len(parents_nP)} rows of parents")
        if images and not (parents_nP.min() >= 0 and parents_nP.max() < len(self)):
            raise DatasetError(f"parents must be positions in 0..{len(self) - 1}")
        return parents_nP

    def row_keys(self, rows: slice | ArrayLike = slice(None)) -> NDArray[np.uint64]:
        """Return `(n,) uint64` keys that depend on a row's origin and copy number only, not on its position."""
        chosen = as_index(rows)
        return _key(self.origin[chosen], self.copies[chosen])

    @cached_property
    def rows_by_key(self) -> NDArray[np.int64]:
        """`(N,)` positions of the rows in ascending order of their keys: an order that does not depend on positions."""
        return np.argsort(self.row_keys(), kind="stable")

    def copy_keys(self, parents: ArrayLike) -> NDArray[np.uint64]:
        """Return the `(n,) uint64` keys that the new rows of `append(…, parents=parents)` will have."""
        positions = _integers(parents, "parents")
        parents_nP = np.atleast_2d(positions.T).T
        origin = self.origin[parents_nP[:, 0]]
        return _key(origin, self._next_copies(origin, parents_nP))

    def stamped(self, step: int) -> ImageDataset:
        """Set the step number of all rows that have none yet."""
        return replace(self, step=np.where(self.step == UNSTAMPED, step, self.step))

    def _next_copies(self, origin: NDArray[np.int64], parents_nP: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the copy numbers of new rows created from the given source rows.

        Rows with the same source row are numbered in the order of the copy numbers of their (first) parents, if these
        are given: an order that does not depend on positions.
        """
        numbers = np.concatenate([self.origin, origin])
        lowest = int(numbers.min(initial=0))  # rows from outside have negative numbers
        highest = np.full(int(numbers.max(initial=0)) - lowest + 1, -1, dtype=np.int64)
        np.maximum.at(highest, self.origin - lowest, self.copies)
        order = np.arange(len(origin))
        if parents_nP is not None:
            order = np.argsort(self.copies[parents_nP[:, 0]], kind="stable")
        copies = np.empty_like(origin)
        copies[order] = highest[origin[order] - lowest] + 1 + occurrence(origin[order] - lowest)
        return copies


class Omission(str):
    """A note on something that is in a source, but is not used, such as rows without a label; see `Splits.notes`."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Splits:
    """Training, validation and test split; for FER2013, Training, PublicTest and PrivateTest.

    Strategies see `train` only. `validation` is used for all model selection; `test` is scored once per run, after
    training.

    All rows of a split that has rows from outside, see `ImageDataset.origins`, become source rows: splits are where
    provenance starts.

    Attributes:
        train: training split.
        validation: validation split.
        test: test split.
        source: description of the data source.
        notes: what was passed over or converted when the source was read, one sentence each; an `Omission` if it is
            not used, see `omissions`.
        pixels: size and color that the recipe or the source set; new images are fitted alike. Images that a reader
            returns may still have others: they are given those that the recipe sets, or else these.
        keeps_near_duplicates: whether a cross-validation keeps near and mirrored duplicates in one fold; a source
            description can turn it off.
        is_rewritten: whether the training split has augmented copies, as a file written by `fer-augment rewrite`; it is
            not divided into folds, which copies would leak into.
    """

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    source: str
    notes: tuple[str, ...] = ()
    pixels: PixelSettings = PixelSettings()
    keeps_near_duplicates: bool = True
    is_rewritten: bool = False

    def __post_init__(self) -> None:
        """Validate that the splits are consistent; make rows from outside source rows."""
        for name, part in self.parts.items():
            if part.outside and part.is_from_outside.any():
                object.__setattr__(self, name, part.as_source_rows())
            if not len(part):
                raise DatasetError(f"{self.source}: the {name} split is empty")
            where = f"{self.source}: the {name} split has"
            if part.class_names != self.train.class_names:
                raise DatasetError(f"{where} other classes than train; use those of train, in its order")
            if part.image_shape != self.train.image_shape:
                sizes = ["x".join(map(str, one.image_shape)) for one in (part, self.train)]
                raise DatasetError(f"{where} images of {sizes[0]}, train has {sizes[1]}; save all in one size")
            missing = np.flatnonzero((part.counts > 0) & (self.train.counts == 0))
            if len(missing):
                names = excerpt(", ".join(self.class_names[label] for label in missing.tolist()))
                raise DatasetError(
                    f"{where} rows of {names}, the train split has none; move some there, or leave these classes out"
                )

    @property
    def parts(self) -> dict[str, ImageDataset]:
        """The splits by name, in the order train, validation, test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K class names."""
        return self.train.class_names

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all three splits; part of every training key."""
        return hashlib.sha256("".join(part.fingerprint for part in self.parts.values()).encode()).hexdigest()

    @property
    def omissions(self) -> tuple[Omission, ...]:
        """The notes on what is in the source, but is not used: those that are an `Omission`.

        They are warnings of runs and comparisons; all notes are listed by `data show`.
        """
        return tuple(note for note in self.notes if isinstance(note, Omission))

    def in_train(self, part: ImageDataset) -> NDArray[np.bool_]:
        """Return an `(N,) bool` mask of the rows with an exact duplicate in the training split."""
        both = group_ids(np.concatenate([self.train.digests, part.digests]))
        return np.isin(both[len(self.train) :], both[: len(self.train)])


def groups_of(dataset: ImageDataset) -> NDArray[np.int64]:
    """Return `(N,) int64` numbers, equal for source rows that belong together.

    These are exact duplicates, rows of one group and, if they were searched for, near duplicates.
    """
    columns = () if dataset.sources is None else (dataset.sources.groups, dataset.sources.near)
    given = [
        np.unique(column[dataset.origin], return_inverse=True)[1].astype(np.int64)
        for column in columns
        if column is not None
    ]
    exact = group_ids(dataset.digests)
    return joined(exact, *given) if given else exact


def joined_groups(parts: Sequence[ImageDataset]) -> NDArray[np.int64] | None:
    """Return the groups of the rows of several splits; rows of a split without groups are apart; None without any."""
    groups = [
        part.sources.groups[part.origin] if part.sources and part.sources.groups is not None else None for part in parts
    ]
    given = [one.astype(np.int64) for one in groups if one is not None]
    if not given:
        return None
    together = np.concatenate(given)
    if len(given) == len(parts):
        return together
    numbered = np.unique(together, return_inverse=True)[1].astype(np.int64)  # there may be none above the largest
    of_given = iter(np.split(numbered, np.cumsum([len(one) for one in given])[:-1]))
    own = np.cumsum([int(numbered.max(initial=-1)) + 1, *map(len, parts)])
    return np.concatenate(
        [
            np.arange(start, start + len(part)) if one is None else next(of_given)
            for one, part, start in zip(groups, parts, own, strict=False)
        ]
    )


def have_largest_share(labels: NDArray[np.int64], targets: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return an `(N,) bool` mask of the rows whose label has the largest share, also if other classes have as much.

    Args:
        labels: `(N,)` in `0 … K - 1`.
        targets: `(N, K)` floats, soft labels.
    """
    return np.asarray(targets[np.arange(len(labels)), labels] >= targets.max(axis=1) - ROUNDING)


def _check_largest(labels: NDArray[np.int64], targets: NDArray[np.float32], names: Sequence[str]) -> None:
    """Refuse source rows with a larger share for another class than their label: training would not use the shares.

    Raises:
        DatasetError: for the first of them.
    """
    for row in np.flatnonzero(~have_largest_share(labels, targets))[:1].tolist():
        label, largest = int(labels[row]), int(targets[row].argmax())
        raise DatasetError(
            f"row {row}: the label {excerpt(names[label], 60)} has a share of {targets[row, label]:.3g} in the soft "
            f"labels, {excerpt(names[largest], 60)} has {targets[row, largest]:.3g}; label rows with the class of the "
            "largest share, or leave out the soft labels"
        )


def _check_columns(sources: SourceRows, rows: int, classes: int) -> None:
    for name, column in (("groups", sources.groups), ("near", sources.near)):
        if column is not None and column.shape != (rows,):
            raise DatasetError(f"{name} must be one number for each of {rows} rows, got shape {column.shape}")
    if sources.targets is not None and sources.targets.shape != (rows, classes):
        raise DatasetError(f"soft labels must be ({rows}, {classes}), got shape {sources.targets.shape}")


def _integers(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise DatasetError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)


def occurrence(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each value, the number of equal values before it."""
    order = _grouping(values)
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else order
    position = np.arange(len(values))
    result = np.empty(len(values), dtype=np.int64)
    result[order] = position - np.repeat(starts, np.diff(np.r_[starts, len(values)]))
    return result


def _grouping(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a stable order that groups equal values.

    Sorts 16 bits at a time, for which numpy uses a radix sort: linear time, and five times as fast as sorting 64-bit
    integers.
    """
    bits = values.astype(np.uint64)
    order = np.argsort(bits.astype(np.uint16), kind="stable")
    for shift in range(16, int(bits.max(initial=0)).bit_length(), 16):
        order = order[np.argsort((bits[order] >> np.uint64(shift)).astype(np.uint16), kind="stable")]
    return order


def _named_in(outside: tuple[str, ...], source: str) -> tuple[tuple[str, ...], int]:
    """Return the names of sources with another one, unless it is among them, and its number in `origins`."""
    if not re.fullmatch(r"[A-Za-z][\w.-]{0,59}", source):
        raise DatasetError(
            f"source must be a word of at most 60 letters, digits and _ . -, starting with a letter; got {source!r}"
        )
    names = outside if source in outside else (*outside, source)
    return names, FIRST_OUTSIDE - names.index(source)


def _union(origins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Remove repeated source rows from each row of `(n, m)`, move -1 to the right and trim."""
    distinct = origins.copy()
    for column in range(1, distinct.shape[1]):
        repeated = (distinct[:, :column] == distinct[:, column, None]).any(axis=1)
        distinct[repeated, column] = -1
    order = np.argsort(distinct == -1, axis=1, kind="stable")
    distinct = np.take_along_axis(distinct, order, axis=1)
    return _trimmed(distinct)


def _trimmed(origins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop trailing columns that contain only -1; keep at least one column."""
    used = int((origins != -1).any(axis=0).sum())
    return origins[:, : max(1, used)]


def _padded(origins: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return np.pad(origins, ((0, 0), (0, width - origins.shape[1])), constant_values=-1)


def _key(origin: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.uint64]:
    return mix64(mix64(origin.astype(np.uint64)) ^ copies.astype(np.uint64))
