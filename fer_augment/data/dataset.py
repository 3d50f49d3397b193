"""The data that flows through the house: labeled images that remember where every row came from.

Legend of shapes: N rows, H height, W width, C channels, K classes, P the largest number of source rows that one row
descends from (1 until something interpolates).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_augment.data.duplicates import group_ids, image_digests
from fer_augment.errors import DatasetError, did_you_mean
from fer_augment.randomness import mix64

AS_READ = 0
"""The step number of a row that stands as the reader gave it."""
UNSTAMPED = -1
"""The step number of a row that a strategy has just made; the core stamps it when the hook returns."""

_DIGEST_CHUNK = 4096
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class PixelBlock:
    """Images that lie together, in memory or in a memory-mapped `.npy` file.

    A memory-mapped block is pickled as its path, so that a worker process opens the file instead of receiving the
    pixels.

    Attributes:
        pixels: `(n, H, W, C) uint8`, read-only; given as `(n, H, W)`, they get one channel. They are not copied, so
            nobody may change them afterwards; `of` copies.
        path: the `.npy` file behind the pixels, or None when they are in memory.

    Raises:
        DatasetError: if the images are not uint8 or have another number of dimensions.
    """

    pixels: NDArray[np.uint8]
    path: Path | None = None

    def __post_init__(self) -> None:
        """Check the pixels and protect them."""
        pixels = self.pixels
        if pixels.dtype != np.uint8:
            raise DatasetError(f"images must be uint8 in 0..255, got {pixels.dtype}; convert them first")
        if pixels.ndim not in (3, 4):
            raise DatasetError(f"images must be (N, H, W) or (N, H, W, C), got shape {pixels.shape}")
        object.__setattr__(self, "pixels", _read_only(pixels[..., None] if pixels.ndim == 3 else pixels))

    @classmethod
    def of(cls, images: ArrayLike) -> PixelBlock:
        """Copy `(n, H, W)` or `(n, H, W, C)` uint8 images into a block.

        Raises:
            DatasetError: if the images are not uint8 or have another number of dimensions.
        """
        return cls(np.array(images, order="C"))

    @classmethod
    def open(cls, path: Path) -> PixelBlock:
        """Memory-map the images in a `.npy` file, `(n, H, W)` or `(n, H, W, C)` uint8.

        Raises:
            DatasetError: if the file is no such array.
        """
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: not a readable .npy file ({error})") from error
        try:
            return cls(array, path.resolve())
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from error

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle a memory map as the path of its file."""
        return (PixelBlock.open, (self.path,)) if self.path else (PixelBlock.of, (self.pixels,))

    @cached_property
    def row_digests(self) -> NDArray[np.void]:
        """One digest per image, see `image_digests`."""
        starts = range(0, len(self.pixels), _DIGEST_CHUNK)
        parts = [image_digests(self.pixels[start : start + _DIGEST_CHUNK]) for start in starts]
        return np.concatenate([np.empty(0, dtype="V16"), *parts])


@dataclass(frozen=True, eq=False)
class Images:
    """The pixels of a data set, gathered on demand: `images[rows]` is a fresh `(n, H, W, C) uint8` array."""

    blocks: tuple[PixelBlock, ...]
    index: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(N, H, W, C)`."""
        height, width, channels = self.blocks[0].pixels.shape[1:]
        return len(self.index), height, width, channels

    def __len__(self) -> int:
        """The number of rows, N."""
        return len(self.index)

    def __getitem__(self, rows: slice | ArrayLike) -> NDArray[np.uint8]:
        """Gather rows (a slice, positions or a boolean mask) into a new array that the caller owns."""
        positions = self.index[_chosen(rows)]
        if len(self.blocks) == 1:
            return np.take(np.asarray(self.blocks[0].pixels), positions, axis=0)
        gathered = np.empty((len(positions), *self.shape[1:]), dtype=np.uint8)
        start = 0
        for block in self.blocks:
            inside = np.flatnonzero((positions >= start) & (positions < start + len(block.pixels)))
            gathered[inside] = np.take(block.pixels, positions[inside] - start, axis=0)
            start += len(block.pixels)
        return gathered


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labeled images with provenance; immutable, checked when made.

    New sets are made from old ones by `take`, `append` and `without` only, so no row can lose its provenance. Pixels
    are never copied by these: the set is an index into shared blocks, and a million-row view of a file is normal use.

    Attributes:
        blocks: where the pixels lie.
        index: `(N,) int64`, position of each row's pixels in the blocks laid end to end.
        labels: `(N,) int64` in `0 … K - 1`.
        class_names: K names.
        origins: `(N, P) int64`, the source rows that a row descends from, -1 where there are fewer than P.
        copies: `(N,) int64`, tells the rows of one first origin apart; 0 for the row as read.
        step: `(N,) int64`, number of the recipe step that made the row; 0 as read, -1 not stamped yet.
    """

    blocks: tuple[PixelBlock, ...]
    index: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    origins: NDArray[np.int64]
    copies: NDArray[np.int64]
    step: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check what every other part of the program relies on."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                object.__setattr__(self, field.name, _read_only(value))
                if value.ndim != (2 if field.name == "origins" else 1):
                    raise DatasetError(f"{field.name} must be one number for each row, got shape {value.shape}")
                if len(value) != len(self.index):
                    raise DatasetError(f"{field.name} has {len(value)} rows, index has {len(self.index)}")
        if len(set(self.class_names)) != len(self.class_names) or not self.class_names:
            raise DatasetError(f"class names must be given and differ from each other, got {self.class_names}")
        if any(block.pixels.shape[1:] != self.blocks[0].pixels.shape[1:] for block in self.blocks):
            raise DatasetError("all images of a data set must have one size and number of channels")
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
    ) -> ImageDataset:
        """Make a data set of source rows.

        Args:
            images: `(M, H, W)` or `(M, H, W, C) uint8`, or a block of pixels (a memory-mapped file).
            labels: `(N,)` integers in `0 … K - 1`, of the chosen rows.
            class_names: K distinct names.
            rows: `(N,)` positions in `images` of the rows that make the set, by default all of them (N = M);
                this way the splits of one file share its block.

        Raises:
            DatasetError: if the arrays do not fit together.
        """
        block = images if isinstance(images, PixelBlock) else PixelBlock.of(images)
        index = np.arange(len(block.pixels)) if rows is None else _integers(rows, "rows")
        if len(index) and not (index.min() >= 0 and index.max() < len(block.pixels)):
            raise DatasetError(f"rows must be positions in 0..{len(block.pixels) - 1}")
        number = np.arange(len(index), dtype=np.int64)
        zeros = np.zeros(len(index), dtype=np.int64)
        names = tuple(class_names)
        return cls((block,), index, _integers(labels, "labels"), names, number[:, None], zeros, zeros)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the fields alone, so that the copy is made, checked and protected like every other set."""
        return ImageDataset, tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        """The number of rows, N."""
        return len(self.index)

    def __repr__(self) -> str:
        """A line for people."""
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
        """`(N,) int64`, the (first) source row that each row descends from."""
        return self.origins[:, 0]

    @property
    def counts(self) -> NDArray[np.int64]:
        """`(K,) int64`, rows of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything in the set; equal contents give equal fingerprints, wherever they were read from."""
        digest = hashlib.sha256("\x1f".join(self.class_names).encode())
        digest.update(repr(self.image_shape).encode() + self.digests.tobytes())
        for array in (self.labels, self.origins, self.copies):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @cached_property
    def digests(self) -> NDArray[np.void]:
        """`(N,)` one digest per row; equal digests mean equal pixels."""
        return np.concatenate([block.row_digests for block in self.blocks])[self.index]

    def rows_of(self, classes: Iterable[str]) -> NDArray[np.int64]:
        """Return the positions of all rows that belong to one of the named classes, in order.

        Raises:
            DatasetError: if a name is not a class of this set.
        """
        return np.flatnonzero(np.isin(self.labels, [self.class_number(name) for name in classes]))

    def class_number(self, name: str) -> int:
        """Return the label that stands for a class name.

        Raises:
            DatasetError: if the name is not a class of this set.
        """
        if name not in self.class_names:
            raise DatasetError(f"there is no class {name!r}{did_you_mean(name, self.class_names)}")
        return self.class_names.index(name)

    def take(self, rows: ArrayLike) -> ImageDataset:
        """Return the set of the given rows, in the given order; a row that is named again becomes a copy.

        Args:
            rows: `(n,)` positions or an `(N,)` boolean mask.
        """
        positions = np.arange(len(self), dtype=np.int64)[_chosen(rows)]
        origin = self.origin[positions]
        again = occurrence(positions) > 0
        copies, step = self.copies[positions], self.step[positions]
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
        """Return the set less the given rows, `(n,)` positions or an `(N,)` boolean mask."""
        keep = np.ones(len(self), dtype=bool)
        keep[_chosen(rows)] = False
        return self.take(np.flatnonzero(keep))

    def append(self, images: ArrayLike, labels: ArrayLike | None = None, *, parents: ArrayLike) -> ImageDataset:
        """Return the set with new images at its end.

        Args:
            images: `(n, H, W, C) uint8`, the same H, W and C as this set's.
            labels: `(n,)` integers; by default each image has the label of its (first) parent.
            parents: positions in this set of the rows that each image was made from: `(n,)`, or `(n, 2)` where an
                image was interpolated between two.

        Raises:
            DatasetError: if the arrays do not fit each other or this set.
        """
        block = PixelBlock.of(images)
        if block.pixels.shape[1:] != self.image_shape:
            raise DatasetError(f"appended images are {block.pixels.shape[1:]}, the data set's {self.image_shape}")
        parents_nP = np.atleast_2d(_integers(parents, "parents").T).T
        if len(parents_nP) != len(block.pixels):
            raise DatasetError(f"{len(block.pixels)} appended images have {len(parents_nP)} parents")
        if not len(parents_nP):
            return self
        if not (parents_nP.min() >= 0 and parents_nP.max() < len(self)):
            raise DatasetError(f"parents must be positions in 0..{len(self) - 1}")
        new_labels = self.labels[parents_nP[:, 0]] if labels is None else _integers(labels, "labels")
        start = sum(len(block.pixels) for block in self.blocks)
        origins = _union(self.origins[parents_nP].reshape(len(parents_nP), -1))
        width = max(self.origins.shape[1], origins.shape[1])
        return ImageDataset(
            blocks=(*self.blocks, block),
            index=np.concatenate([self.index, start + np.arange(len(block.pixels))]),
            labels=np.concatenate([self.labels, new_labels]),
            class_names=self.class_names,
            origins=np.concatenate([_padded(self.origins, width), _padded(origins, width)]),
            copies=np.concatenate([self.copies, self._next_copies(origins[:, 0])]),
            step=np.concatenate([self.step, np.full(len(block.pixels), UNSTAMPED)]),
        )

    def row_keys(self, rows: slice | ArrayLike = slice(None)) -> NDArray[np.uint64]:
        """Return `(n,) uint64` keys that stay with a row wherever it moves: made of its origin and copy number."""
        chosen = _chosen(rows)
        return _key(self.origin[chosen], self.copies[chosen])

    def copy_keys(self, parents: ArrayLike) -> NDArray[np.uint64]:
        """Return the `(n,) uint64` row keys that `append(…, parents=parents)` is going to give its new rows."""
        positions = _integers(parents, "parents")
        origin = self.origin[positions if positions.ndim == 1 else positions[:, 0]]
        return _key(origin, self._next_copies(origin))

    def stamped(self, step: int) -> ImageDataset:
        """Return the set with all rows that are not stamped yet marked as made by the given step."""
        return replace(self, step=np.where(self.step == UNSTAMPED, step, self.step))

    def _next_copies(self, origin: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the copy numbers of new rows that descend from the given source rows."""
        highest = np.full(max(self.origin.max(initial=0), origin.max(initial=0)) + 1, -1, dtype=np.int64)
        np.maximum.at(highest, self.origin, self.copies)
        return highest[origin] + 1 + occurrence(origin)


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data source; for FER2013 Training, PublicTest and PrivateTest.

    Strategies see `train` only. `validation` serves every choice; `test` is scored once a run, after training.

    Attributes:
        train: the rows to learn from.
        validation: the rows to choose by.
        test: the rows to report.
        source: where the data came from, for people.
    """

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    source: str

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        for name, part in self.parts.items():
            if not len(part):
                raise DatasetError(f"{self.source}: the {name} split is empty")
            if part.class_names != self.train.class_names or part.image_shape != self.train.image_shape:
                raise DatasetError(f"{self.source}: the {name} split has other classes or image sizes than train")
            lacking = np.flatnonzero((part.counts > 0) & (self.train.counts == 0))
            if len(lacking):
                names = ", ".join(self.class_names[label] for label in lacking)
                raise DatasetError(f"{self.source}: {name} has rows of {names}, the train split has none")

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
        """A digest of all three parts; the root of every cache key."""
        return hashlib.sha256("".join(part.fingerprint for part in self.parts.values()).encode()).hexdigest()

    def in_train(self, part: ImageDataset) -> NDArray[np.bool_]:
        """Return an `(N,) bool` mask: which rows of a part are byte for byte the same as a training row."""
        both = group_ids(np.concatenate([self.train.digests, part.digests]))
        return np.isin(both[len(self.train) :], both[: len(self.train)])


def _read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    view = array.view()
    view.flags.writeable = False
    return view


def _chosen(rows: slice | ArrayLike) -> slice | NDArray[np.generic]:
    """Return rows as an index of arrays; numpy takes an empty list for one of floats, which is none."""
    if isinstance(rows, slice):
        return rows
    array = np.atleast_1d(rows)
    return array if array.size else array.astype(np.int64)


def _integers(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise DatasetError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)


def occurrence(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each value how many equal ones stand before it."""
    order = _grouping(values)
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else order
    position = np.arange(len(values))
    result = np.empty(len(values), dtype=np.int64)
    result[order] = position - np.repeat(starts, np.diff(np.r_[starts, len(values)]))
    return result


def _grouping(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order in which equal values lie together and stay in order.

    It sorts by 16 bits at a time, for which numpy has a radix sort: a fifth of the time of sorting whole numbers, and
    in proportion to how many there are.
    """
    bits = values.astype(np.uint64)
    order = np.argsort(bits.astype(np.uint16), kind="stable")
    for shift in range(16, int(bits.max(initial=0)).bit_length(), 16):
        order = order[np.argsort((bits[order] >> np.uint64(shift)).astype(np.uint16), kind="stable")]
    return order


def _union(origins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop repeated source rows from each row of `(n, m)`, move the -1 to the right and trim them."""
    distinct = origins.copy()
    for column in range(1, distinct.shape[1]):
        repeated = (distinct[:, :column] == distinct[:, column, None]).any(axis=1)
        distinct[repeated, column] = -1
    order = np.argsort(distinct == -1, axis=1, kind="stable")
    distinct = np.take_along_axis(distinct, order, axis=1)
    return _trimmed(distinct)


def _trimmed(origins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop the columns at the right that hold nothing but -1; one is always left."""
    used = int((origins != -1).any(axis=0).sum())
    return origins[:, : max(1, used)]


def _padded(origins: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return np.pad(origins, ((0, 0), (0, width - origins.shape[1])), constant_values=-1)


def _key(origin: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.uint64]:
    return mix64(mix64(origin.astype(np.uint64)) ^ copies.astype(np.uint64))
