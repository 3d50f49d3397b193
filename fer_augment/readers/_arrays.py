"""Data sets from arrays of images and labels, of any usual layout, range of values and form of labels."""

from __future__ import annotations

import contextlib
import math
import tokenize
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, ImageDataset, PixelBlock, Splits, did_you_mean
from fer_augment.data.dataset import SourceRows
from fer_augment.data.pixel_cache import computed_block
from fer_augment.data.splitting import make_splits, splits_from_rows
from fer_augment.errors import said_of
from fer_augment.phases import ReportProgress, two_phases
from fer_augment.readers._array_names import missing_split_advice
from fer_augment.readers._conventions import EVERYTHING, FER2013_CLASSES, class_order, display_name, is_fer2013
from fer_augment.readers._stored_arrays import Array, StoredArray

FER2013_SHAPE = (48, 48, 1)
LARGEST_AMBIGUOUS_SIDE = 4
"""Images of this height or width may be channels: `(N, 3, 4, 4)` is refused."""

_LABELS_BELOW = 1 << 31
_AS_UINT8 = '.round().astype("uint8")'
HEADER_FAULTS = (ValueError, EOFError, tokenize.TokenError)
"""What numpy raises for a damaged header of an array."""


@contextlib.contextmanager
def ignoring_old_headers() -> Iterator[None]:
    """Ignore numpy's advice to save arrays of Python 2 again: they are read correctly."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header", UserWarning)
        yield


@dataclass(frozen=True, eq=False)
class LabeledArray:
    """Images and labels of a split, as stored.

    Attributes:
        images: N images, of any layout and range of values that `image_block` accepts.
        labels: N labels, of any form that `label_values` accepts.
        images_title: name of the images, for messages.
        labels_title: name of the labels, for messages.
    """

    images: StoredArray
    labels: Array
    images_title: str
    labels_title: str


@dataclass(frozen=True, eq=False)
class _Part:
    """Pixels and `(N,)` labels of a split: numbers or names."""

    block: PixelBlock
    labels: Array
    labels_title: str


def splits_of_arrays(
    source: str,
    parts: Mapping[str, LabeledArray],
    names: Mapping[str, tuple[str, str]],
    class_names: Sequence[str] | None,
    progress: ReportProgress,
    notes: Sequence[str] = (),
    columns: Mapping[str, SourceRows] = MappingProxyType({}),
) -> Splits:
    """Return the splits of a source of arrays.

    Args:
        source: name of the data source.
        parts: arrays by split: train, validation and test, or `EVERYTHING` alone.
        names: names of the images and labels of each split, for messages.
        class_names: names in the order of the labels; None names the classes after their labels, except FER2013's.
        progress: called with the number of images done and their total; an image that is to be compared with others
            for near duplicates is half done when it is read.
        notes: what was passed over or changed so far.
        columns: groups and soft labels by split; splits without any may be missing.

    Raises:
        DatasetError: if an array is invalid, or a split is missing; the message names the array.
    """
    total, done = sum(len(part.images) for part in parts.values()), 0
    if not total:
        raise DatasetError(f"{display_name(source)}: has no images")

    report_reading, report_search = two_phases(progress, total, 1.0 if "validation" in parts else 0.5)

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        report_reading(done, total)

    notes, read = list(notes), dict[str, _Part]()
    for split, part in parts.items():
        block, note = image_block(part, advance)
        notes += [note] if note else []
        labels = label_values(part.labels, part.labels_title, len(block.pixels))
        read[split] = _Part(block, labels, part.labels_title)
    classes = _classes(source, class_names, read)
    notes += [classes.note] if classes.note else []
    description, datasets = display_name(source), dict[str, ImageDataset]()
    for split, one in read.items():
        numbers = classes.numbers(one)
        sources = columns.get(split)
        has_columns = sources is not None and any(
            column is not None for column in (sources.groups, sources.targets, sources.near)
        )
        with said_of(one.labels_title if has_columns else description):  # columns are checked by row
            datasets[split] = ImageDataset.from_arrays(one.block, numbers, classes.names, sources=sources)
    if EVERYTHING in datasets:
        rows = datasets[EVERYTHING]
        no_split = np.full(len(rows), -1, dtype=np.int8)
        return splits_from_rows(description, rows, no_split, notes=tuple(notes), progress=report_search)
    splits = make_splits(description, datasets, missing_split_advice(names), progress=report_search)
    return replace(splits, notes=(*notes, *splits.notes))


# --- images


def image_block(part: LabeledArray, advance: Callable[[int], None]) -> tuple[PixelBlock, str | None]:
    """Return images as `(N, H, W, C) uint8`, and a note if they were converted.

    Memory-mapped uint8 arrays of the layouts `(N, H, W)` and `(N, H, W, C)` are used in place. All others are read a
    few megabytes at a time, into memory or, if they are large, into a file of the cache. Integers other than uint8 must
    have their highest value in 128 … 255. Floats are scaled by 255 if their highest value is in 0.5 … 1, and rounded if
    it is in 128 … 255.

    Args:
        part: images as `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`.
        advance: called with the number of images read since the last call.

    Raises:
        DatasetError: if layout, dtype or range of values are ambiguous or unsupported; says what to save instead.
    """
    images, title = part.images, part.images_title
    is_channels_first = _is_channels_first(images.shape, title)
    mapped = images.mapped
    if images.dtype == np.uint8 and not is_channels_first and mapped is not None and mapped.flags.c_contiguous:
        advance(len(images))
        return PixelBlock.mapped(mapped), None

    def convert(pixels: NDArray[np.uint8]) -> list[str]:
        factor, start = _scale(images, title), 0
        for stored in images.chunks():
            values = stored.reshape(len(stored), *images.shape[1:])
            if np.issubdtype(values.dtype, np.floating):
                values = np.rint(values.astype(np.float64) * factor)
            values = values.transpose(0, 2, 3, 1) if is_channels_first else values.reshape(len(values), *shape[1:])
            pixels[start : start + len(values)] = values
            start += len(values)
            advance(len(values))
        return _changes(images, factor, is_channels_first)

    count, *sides = images.shape
    shape = (count, *sides[1:], sides[0]) if is_channels_first else (count, sides[0], sides[1], *(sides[2:] or [1]))
    stored = computed_block(f"{images.version}\0{images.shape} {images.dtype}", shape, convert)
    return stored.block, f"{title}: {'; '.join(stored.notes)}" if stored.notes else None


def _changes(images: StoredArray, factor: int, is_channels_first: bool) -> list[str]:
    """Describe how images were converted; empty if they were only copied."""
    changes = []
    if images.dtype != np.uint8:
        changes.append(
            f"{images.dtype} in {'0 to 1, scaled to 0 to 255' if factor != 1 else '0 to 255, converted to uint8'}"
        )
    return [*changes, "(N, C, H, W), read as (N, H, W, C)"] if is_channels_first else changes


def _is_channels_first(shape: tuple[int, ...], title: str) -> bool:
    """Return whether the layout is `(N, C, H, W)`, not `(N, H, W, C)` or `(N, H, W)`.

    The axis of channels is the second or the last: the one of length 1 or 3, if no other is; or the one shorter than
    two equal sides.

    Raises:
        DatasetError: if neither or both can be the channels, or there are no pixels.
    """
    if 0 in shape[1:]:
        raise DatasetError(f"{title}: images of shape {shape} have no pixels; save images with pixels")
    if len(shape) == 3 and not {1, 3} & {*shape[1:]}:
        return False
    if len(shape) != 4:
        hint = "reshape flat images, such as images.reshape(-1, 28, 28)"
        raise DatasetError(f"{title}: images must be (N, H, W), (N, H, W, C) or (N, C, H, W), not {shape}; {hint}")
    _, second, third, last = shape
    smallest = LARGEST_AMBIGUOUS_SIDE
    is_last = (last in (1, 3) and not {1, 3} & {second, third}) or second == third > max(last, smallest)
    is_second = (second in (1, 3) and min(third, last) > smallest) or third == last > max(second, smallest)
    if is_last == is_second:
        raise DatasetError(
            f"{title}: it is ambiguous which axis of {shape} has the channels; save images of 1 or 3 channels as "
            f"(N, H, W, C), such as images.transpose(0, 2, 3, 1) of (N, C, H, W), larger than "
            f"{smallest}x{smallest} pixels"
        )
    return is_second


def _scale(images: StoredArray, title: str) -> int:
    """Return the factor from values to 0 … 255: 1 or 255.

    Raises:
        DatasetError: if the values allow neither.
    """
    if images.dtype == np.uint8:
        return 1
    is_float = np.issubdtype(images.dtype, np.floating)
    if not is_float and not np.issubdtype(images.dtype, np.integer):
        raise DatasetError(f"{title}: has dtype {images.dtype}; save uint8 in 0 to 255, such as images * np.uint8(255)")
    if not math.prod(images.shape):
        return 1
    lowest, highest, start = np.inf, -np.inf, 0
    for values in images.chunks():
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            is_finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            row = start + int(np.argmin(is_finite))
            raise DatasetError(f"{title}: row {row} has values that are infinite or NaN; correct it")
        lowest, highest, start = min(lowest, low), max(highest, high), start + len(values)
    if lowest >= 0 and 128 <= highest <= 255:
        return 1
    if lowest >= 0 and 0.5 <= highest <= 1 and is_float:
        return 255
    raise DatasetError(
        f"{title}: {images.dtype} values of {lowest:g} to {highest:g} are neither 0 to 255 nor 0 to 1; "
        f"{_rescaling(lowest, highest)}"
    )


def _rescaling(lowest: float, highest: float) -> str:
    """Return what to type for values of another range."""
    if lowest >= 0:
        return f"save (images * (255 / WHITE)){_AS_UINT8}, where WHITE is the value of white, such as {highest:g}"
    if lowest >= -1 and highest <= 1:
        return f"for values in -1 to 1, save ((images + 1) * 127.5){_AS_UINT8}"
    return f"undo the normalization: save ((images * std + mean) * 255){_AS_UINT8}"


# --- labels and classes


def label_values(array: Array, title: str, count: int) -> Array:
    """Return `(count,)` labels, integers or text.

    Args:
        array: `(N,)` or `(N, 1)` integers, whole floats or text, or `(N, K)` one-hot of any numeric type.
        title: name of the labels, for messages.
        count: number of images.

    Raises:
        DatasetError: if the labels are invalid.
    """
    if array.ndim not in (1, 2) or len(array) != count:
        expected = "(N,) integers or (N, K) one-hot"
        raise DatasetError(f"{title}: labels have shape {array.shape}, but there are {count} images; use {expected}")
    if array.ndim == 2 and array.shape[1] != 1:
        return _from_one_hot(array, title)
    values = np.asarray(array).reshape(-1)
    values = as_text(values, title)
    if values.dtype.kind == "U":
        unprintable = np.flatnonzero([not name or not name.isprintable() for name in values.tolist()])
        if len(unprintable):
            raise DatasetError(f"{title}: row {unprintable[0]}: label is empty or has unprintable characters")
        return values
    if values.dtype.kind not in "iubf":
        raise DatasetError(f"{title}: labels have dtype {values.dtype}; use integers or one-hot")
    numbers = values.astype(np.float64)
    invalid = np.flatnonzero(~(np.abs(numbers) < _LABELS_BELOW) | (numbers != np.rint(numbers)))
    if len(invalid):
        reason = f"row {invalid[0]}: label {values[invalid[0]]} is not the number of a class"
        raise DatasetError(f"{title}: {reason}; use integers, text or one-hot, and remove rows without a label")
    return values.astype(np.int64)


def as_text(values: Array, title: str) -> Array:
    """Return text for bytes, and anything else as it is.

    Raises:
        DatasetError: if bytes are not UTF-8.
    """
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{title}: has text that is not UTF-8, such as {bytes(error.object)!r}; decode it before saving, as in "
            "np.char.decode(array, 'latin-1')"
        ) from error


def _from_one_hot(array: Array, title: str) -> NDArray[np.int64]:
    if array.dtype.kind not in "iubf":
        raise DatasetError(f"{title}: labels have dtype {array.dtype}; use integers or one-hot")
    is_one = array == 1
    invalid = np.flatnonzero((is_one.sum(axis=1) != 1) | ((array != 0).sum(axis=1) != 1))
    if len(invalid):
        reason = "each image needs one class"
        raise DatasetError(f"{title}: row {invalid[0]} is not one-hot (a single 1, otherwise 0); {reason}")
    return np.asarray(is_one.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Classes:
    """Class names, the number of each name, and the names in the order of stored labels if these are positions."""

    names: tuple[str, ...]
    number_of: Mapping[str, int]
    stored: tuple[str, ...] | None = None
    note: str | None = None

    def numbers(self, part: _Part) -> NDArray[np.int64]:
        """Return the `(N,)` labels of a split as positions in `names`.

        Raises:
            DatasetError: if there is no such class.
        """
        labels, title = part.labels, part.labels_title
        if self.stored is not None and labels.dtype.kind != "U":
            count = len(self.stored)
            invalid = np.flatnonzero((labels < 0) | (labels >= count))
            if len(invalid):
                reason = f"row {invalid[0]}: label {labels[invalid[0]]} is outside 0..{count - 1} ({count} classes)"
                raise DatasetError(f"{title}: {reason}; correct it, or name all classes")
            return np.array([self.number_of[name] for name in self.stored], dtype=np.int64)[labels]
        distinct, inverse = np.unique(labels.astype(str), return_inverse=True)
        unknown = [name for name in distinct.tolist() if name not in self.number_of]
        if unknown:
            raise DatasetError(f"{title}: there is no class {unknown[0]!r}{did_you_mean(unknown[0], self.names)}")
        return np.array([self.number_of[name] for name in distinct.tolist()], dtype=np.int64)[inverse]


def _classes(source: str, class_names: Sequence[str] | None, parts: Mapping[str, _Part]) -> _Classes:
    distinct = {label for part in parts.values() for label in np.unique(part.labels).tolist()}
    if len(distinct) == 1:
        raise DatasetError(f"{display_name(source)}: all labels are {distinct.pop()}; at least two classes are needed")
    if class_names is not None:
        stored = tuple(class_names)
        if len(stored) == len(FER2013_CLASSES) and is_fer2013(stored):
            return _Classes(*class_order(stored), stored)
        return _Classes(stored, {name: number for number, name in enumerate(stored)}, stored)
    if len({part.labels.dtype.kind == "U" for part in parts.values()}) > 1:
        titles = " and ".join(part.labels_title for part in parts.values())
        raise DatasetError(f"{titles}: use numbers or text for the labels of all splits")
    for part in parts.values():
        negative = np.flatnonzero(part.labels < 0) if part.labels.dtype.kind != "U" else np.empty(0, np.int64)
        if len(negative):
            reason = f"row {negative[0]}: label {part.labels[negative[0]]} is negative"
            raise DatasetError(f"{part.labels_title}: {reason}; remove rows without a label")
    has_fer2013_size = all(part.block.pixels.shape[1:] == FER2013_SHAPE for part in parts.values())
    if has_fer2013_size and distinct == set(range(len(FER2013_CLASSES))):
        note = f"labels 0 to 6 of 48x48 gray images are FER2013's classes: {', '.join(FER2013_CLASSES)}"
        return _Classes(*class_order(FER2013_CLASSES), FER2013_CLASSES, note)
    return _Classes(*class_order(map(str, distinct)))
