"""A data source of image files that are not decoded yet: names, labels, splits and groups of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.class_order import notes_on_names
from fer_augment.data.dataset import ImageDataset, SourceRows, Splits
from fer_augment.data.decoding import Conversion, notes_on
from fer_augment.data.image_files import ImageFile
from fer_augment.data.near_duplicates import SIDE
from fer_augment.data.pixel_blocks import PixelBlock
from fer_augment.data.pixel_cache import computed_block, decoded_block
from fer_augment.data.pixels import PixelSettings, fitted, reduction, with_channels
from fer_augment.data.splitting import SPLIT_ORDER, Assignment, SplitSettings, assign_splits, divided, makes_splits
from fer_augment.errors import DatasetError, said_of
from fer_augment.phases import ReportProgress, never_back, part_of

DEMO = "demo"
"""Source name of the synthetic faces; to read a folder of this name, use `./demo`."""

_THUMBNAILS = PixelSettings((SIDE, SIDE), "stretch", "gray")
"""The images whose duplicates stay in one split, whatever size and color a recipe sets, so that splits are the same.

They are kept in the cache, as each costs decoding a whole image again.
"""


class DataSource(Protocol):
    """Something that gives `Splits` with images of the size and color that a recipe asks for."""

    @property
    def description(self) -> str:
        """The source, for display."""
        ...

    def splits(self, settings: PixelSettings, progress: ReportProgress) -> Splits:
        """Return the data with images in this size and color.

        Raises:
            DatasetError: if an image cannot be decoded, or the settings do not fit the images.
        """
        ...


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Labeled image files; decoded when `splits` is called.

    Attributes:
        description: the source, for display.
        files: N image files, with unique names.
        labels: `(N,) int64` in `0 … K - 1`.
        class_names: K class names.
        split: `(N,) int8`: position in `SPLIT_ORDER` (train, validation, test); -1 for rows to be assigned.
        groups: `(N,) int64`, equal for rows that must stay in one split, such as images of one patient; None without.
        targets: `(N, K) float32`, soft labels, see `SourceRows.targets`; None for one-hot targets.
        settings: size and color that the source declares; a recipe's own settings override them.
        splitting: fractions and seed of splits that are made, and whether they keep near duplicates together.
        notes: what was passed over or changed, one sentence each; see `Splits.notes`.
        advice: by split, where the source must provide it; for messages.
    """

    description: str
    files: Sequence[ImageFile]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: NDArray[np.int8]
    groups: NDArray[np.int64] | None = None
    targets: NDArray[np.float32] | None = None
    settings: PixelSettings = PixelSettings()
    splitting: SplitSettings = SplitSettings()
    notes: tuple[str, ...] = ()
    advice: Mapping[str, str] = field(default_factory=dict)
    _assigned: list[Assignment] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Validate that there is a label and a split for each file."""
        lengths = {len(self.files), len(self.labels), len(self.split)}
        lengths |= {len(array) for array in (self.groups, self.targets) if array is not None}
        if len(lengths) > 1 or not self.files:
            raise DatasetError(
                f"{self.description}: files, labels, splits and groups must be equally many, at least one"
            )
        classes, splits = len(self.class_names), len(SPLIT_ORDER)
        if not _are_numbers(self.labels, 0, classes - 1):
            raise DatasetError(f"{self.description}: labels must be whole numbers of the {classes} classes, from 0 on")
        if not _are_numbers(self.split, -1, splits - 1):
            raise DatasetError(f"{self.description}: splits must be whole numbers from -1 to {splits - 1}")
        if len({file.name for file in self.files}) < len(self.files):
            raise DatasetError(f"{self.description}: several files have the same name")

    def splits(self, settings: PixelSettings, progress: ReportProgress = lambda done, total: None) -> Splits:
        """Decode all files and return train, validation and test; missing splits are made.

        Args:
            settings: size and color; what is None is taken from the source's own settings.
            progress: called with the number of images done and their total; if splits are made, an image is done when
                it was decoded, decoded to a thumbnail and compared with others.

        Raises:
            DatasetError: if a file cannot be decoded, or sizes differ and no size is given.
        """
        settings = settings.over(self.settings)
        order = np.argsort(self.split, kind="stable")  # rows of one split are adjacent in the pixels
        files = [self.files[row] for row in order]
        progress = never_back(progress)
        is_searched = not self._assigned and makes_splits(self.split)
        decoding_ends = 1 / 3 if is_searched else 1.0
        decoded = decoded_block(self.description, files, settings, part_of(progress, len(files), 0.0, decoding_ends))
        rows = self._rows(decoded.block, order)
        if not self._assigned:
            compared = rows
            is_thumbnails = settings.size is None and rows.image_shape == (SIDE, SIDE, 1)
            if is_searched and not is_thumbnails:
                report = part_of(progress, len(files), 1 / 3, 2 / 3)
                thumbnails = decoded_block(self.description, files, _THUMBNAILS, report, cached_from=0)
                compared = self._rows(thumbnails.block, order)
            self._assigned.append(
                assign_splits(
                    self.description,
                    compared,
                    self.split[order],
                    self.splitting,
                    advice=self.advice,
                    progress=part_of(progress, len(files), 2 / 3, 1.0),
                )
            )
            progress(len(files), len(files))
        notes = (*self.notes, *notes_on_names(self.class_names), *decoded.notes)
        splits = divided(self.description, rows, self._assigned[0], notes)
        return replace(splits, pixels=settings, keeps_near_duplicates=self.splitting.keep_near_duplicates)

    def _rows(self, block: PixelBlock, order: NDArray[np.int64]) -> ImageDataset:
        with said_of(self.description):
            return ImageDataset.from_arrays(
                block,
                self.labels[order],
                self.class_names,
                sources=SourceRows(
                    tuple(self.files[row].name for row in order.tolist()),
                    None if self.groups is None else self.groups[order],
                    None if self.targets is None else self.targets[order],
                ),
            )


def _are_numbers(array: NDArray[np.generic], lowest: int, highest: int) -> bool:
    """Whether an array has one dimension and whole numbers in a range."""
    is_whole = np.issubdtype(array.dtype, np.integer) and array.ndim == 1
    return bool(is_whole and lowest <= array.min() and array.max() <= highest)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Splits that are in memory or in memory-mapped arrays; other sizes and colors are computed from these pixels.

    Attributes:
        original: the data as they are.
    """

    original: Splits

    @property
    def description(self) -> str:
        """The source, for display."""
        return self.original.source

    def splits(self, settings: PixelSettings, progress: ReportProgress = lambda done, total: None) -> Splits:
        """Return the data in a size and color; what is None is taken from `Splits.pixels`, else from the images."""
        settings = settings.over(self.original.pixels)
        height, width, channels = self.original.train.image_shape
        size, count = settings.size or (height, width), settings.channel_count or channels
        if (size, count) == ((height, width), channels):
            return replace(self.original, pixels=settings)
        total, done = sum(map(len, self.original.parts.values())), 0
        resized = []
        for part in self.original.parts.values():

            def resize(pixels: NDArray[np.uint8], part: ImageDataset = part) -> tuple[str, ...]:
                nonlocal done
                for row in range(len(part)):
                    pixels[row] = fitted(with_channels(part.images[[row]][0], count), size, settings.fit)
                    done += 1
                    progress(done, total)
                return ()

            block = computed_block(f"{part.fingerprint} {settings}", (len(part), *size, count), resize).block
            resized.append(
                ImageDataset.from_arrays(block, part.labels, part.class_names, sources=part.as_source_rows().sources)
            )
        train, validation, test = resized
        notes = (*self.original.notes, *notes_on(np.full(total, _conversion((height, width, channels), settings))))
        return replace(self.original, train=train, validation=validation, test=test, pixels=settings, notes=notes)


def _conversion(shape: tuple[int, int, int], settings: PixelSettings) -> Conversion:
    """Return what is done to an image of shape `(h, w, C)` to give it a size and color."""
    conversion = Conversion.NONE
    if settings.channel_count not in (None, shape[2]):
        conversion |= Conversion.TO_COLOR if settings.channel_count == 3 else Conversion.TO_GRAY
    if settings.size and settings.size != shape[:2]:
        conversion |= Conversion.RESIZED
        if reduction(shape[:2], settings.size, settings.fit) < 1:
            conversion |= Conversion.ENLARGED
    return conversion
