"""Reader for npy folders: `X_training.npy`, `Y_training.npy`, …, memory-mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError, DatasetReader, ImageDataset, PixelBlock, Splits, hookimpl
from fer_augment.data.npy_format import CLASSES_FILE, SPLIT_WORDS, images_file, is_npy_folder, labels_file
from fer_augment.data.splitting import make_splits
from fer_augment.hooks.declarations import ReportProgress
from fer_augment.readers._conventions import (
    FER2013_CLASSES,
    SPLIT_NAMES,
    class_order,
    display_name,
    is_fer2013,
    is_folder,
)

FER2013_SHAPE = (48, 48, 1)
_WHERE = {
    name: f"add {images_file(SPLIT_WORDS[name])} and {labels_file(SPLIT_WORDS[name])}" for name in ("train", "test")
}


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of npy folders."""
    summary = "FOLDER with X_training.npy, Y_training.npy, X_test.npy, …, as written by `fer-augment data convert`"
    return [DatasetReader("npy_folder", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is a folder with images in `.npy` files."""
    return is_folder(source) and is_npy_folder(source)


def read(source: str, progress: ReportProgress) -> Splits:
    """Open the files; images are memory-mapped and loaded when rows are accessed.

    Split names are the same as for folders of images, including FER2013's PublicTest and PrivateTest, ignoring case.
    Labels are integers or one-hot. If there is no `classes.json`, labels 0 … 6 of 48x48 gray images are assumed to be
    FER2013's classes.

    Raises:
        DatasetError: if a file is missing or invalid; the message names the file and the reason.
    """
    try:
        files = {name.casefold(): Path(source, name) for name in sorted(os.listdir(source))}
    except OSError as error:
        raise DatasetError(f"{display_name(source)}: cannot be read ({error.strerror}); check the path") from error
    opened = {}
    for number, split in enumerate(SPLIT_NAMES, start=1):
        pair = _files_of(split, files, source)
        if pair:
            block = PixelBlock.open(pair[0])
            opened[split] = _Part(block, pair[1], _read_labels(pair[1], len(block.pixels)))
        progress(number, len(SPLIT_NAMES))
    names = _class_names(source, files.get(CLASSES_FILE), opened.values())
    parts = {split: _labeled(part, names) for split, part in opened.items()}
    return make_splits(display_name(source), parts, _WHERE)


@dataclass(frozen=True, eq=False)
class _Part:
    """Images, label file and `(N,)` labels of a split."""

    block: PixelBlock
    file: Path
    labels: NDArray[np.int64]


def _files_of(split: str, files: dict[str, Path], source: str) -> tuple[Path, Path] | None:
    """Return the image and label files of a split, None if it has no image file."""
    words = [word for word in SPLIT_NAMES[split] if images_file(word).casefold() in files]
    if not words:
        return None
    if len(words) > 1:
        both = " and ".join(files[images_file(word).casefold()].name for word in words)
        raise DatasetError(f"{display_name(source)}: {both} are the same split; keep only one")
    labels = labels_file(words[0])
    if labels.casefold() not in files:
        raise _error(Path(source, labels), "no such file; every X_*.npy needs a Y_*.npy with its labels")
    return files[images_file(words[0]).casefold()], files[labels.casefold()]


def _read_labels(file: Path, count: int) -> NDArray[np.int64]:
    """Read `(count,)` integers or a one-hot `(count, K)` array of any numeric type."""
    try:
        array: NDArray[np.generic] = np.lib.format.open_memmap(file, mode="r")
    except (OSError, ValueError) as error:
        raise _error(file, f"not a readable .npy file ({error})") from error
    if array.ndim not in (1, 2) or len(array) != count:
        expected = "(N,) integers or (N, K) one-hot"
        raise _error(file, f"labels have shape {array.shape}, but there are {count} images; expected {expected}")
    if array.ndim == 2 and array.shape[1] > 1:
        return _from_one_hot(file, array)
    if not np.issubdtype(array.dtype, np.integer):
        raise _error(file, f"labels have dtype {array.dtype}; expected integers or one-hot")
    return array.reshape(-1).astype(np.int64)


def _from_one_hot(file: Path, array: NDArray[np.generic]) -> NDArray[np.int64]:
    is_one = array == 1
    invalid = np.flatnonzero((is_one.sum(axis=1) != 1) | ((array != 0).sum(axis=1) != 1))
    if len(invalid):
        raise _error(file, f"row {invalid[0]} is not one-hot (a single 1, otherwise 0); correct it")
    return np.asarray(is_one.argmax(axis=1), dtype=np.int64)


def _class_names(source: str, file: Path | None, parts: Collection[_Part]) -> tuple[str, ...]:
    """Return the class names in the order of the labels."""
    if file is not None:
        return _read_class_names(file)
    is_fer2013_size = all(part.block.pixels.shape[1:] == FER2013_SHAPE for part in parts)
    if is_fer2013_size and all(part.labels.max(initial=0) < len(FER2013_CLASSES) for part in parts):
        return FER2013_CLASSES
    raise DatasetError(
        f"{display_name(source)}: {CLASSES_FILE} is missing; create it with the class names in the order of the "
        'labels, such as ["cat", "dog"]'
    )


def _read_class_names(file: Path) -> tuple[str, ...]:
    try:
        names = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _error(file, f"not readable as JSON ({error})") from error
    is_list = isinstance(names, list) and all(isinstance(name, str) and name.isprintable() for name in names)
    if not is_list or not names or len(set(names)) != len(names):
        raise _error(file, 'expected a list of unique names, such as ["cat", "dog"]')
    return tuple(names)


def _labeled(part: _Part, names: tuple[str, ...]) -> ImageDataset:
    """Return a split as a data set; FER2013's classes are reordered to FER2013's order."""
    invalid = np.flatnonzero((part.labels < 0) | (part.labels >= len(names)))
    if len(invalid):
        label, highest = part.labels[invalid[0]], len(names) - 1
        reason = f"row {invalid[0]}: label {label} is outside 0..{highest} ({len(names)} classes)"
        raise _error(part.file, f"{reason}; correct it, or list all classes in {CLASSES_FILE}")
    if len(names) != len(FER2013_CLASSES) or not is_fer2013(names):
        return ImageDataset.from_arrays(part.block, part.labels, names)
    _, label_of = class_order(names)
    number = np.array([label_of[name] for name in names])
    return ImageDataset.from_arrays(part.block, number[part.labels], FER2013_CLASSES)


def _error(file: Path, reason: str) -> DatasetError:
    return DatasetError(f"{display_name(str(file))}: {reason}")
