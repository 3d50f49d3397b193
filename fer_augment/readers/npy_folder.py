"""Reader for npy folders: `X_training.npy`, `Y_training.npy`, …; uint8 images are memory-mapped."""

from __future__ import annotations

import json
import os
import tokenize
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_augment import DatasetError, DatasetReader, Omission, Splits, hookimpl
from fer_augment.data.dataset import SourceRows
from fer_augment.data.image_files import regular_file
from fer_augment.data.npy_format import CLASSES_FILE, SETTINGS, SETTINGS_FILE
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import said_of
from fer_augment.phases import ReportProgress
from fer_augment.readers._array_names import COLUMNS, array_name, column_name, columns_of_splits, has_npy_files, pairs
from fer_augment.readers._arrays import HEADER_FAULTS, LabeledArray, ignoring_old_headers, splits_of_arrays
from fer_augment.readers._conventions import display_name, excerpt, is_folder, no_such_file
from fer_augment.readers._stored_arrays import Array, StoredArray, file_version


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of npy folders."""
    summary = "FOLDER with X_training.npy, Y_training.npy, X_test.npy, …, as written by `fer-augment data convert`"
    return [DatasetReader("npy_folder", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is a folder with images in `.npy` files, or a single such file."""
    if os.path.isdir(source):
        return is_folder(source) and has_npy_files(source)
    return source.lower().endswith(".npy")


def read(source: str, progress: ReportProgress) -> Splits:
    """Open the files; uint8 images are memory-mapped and loaded when rows are accessed.

    Split names are the same as for folders of images, including FER2013's PublicTest and PrivateTest, ignoring case.
    Groups are in `groups_train.npy`, soft labels in `shares_train.npy`, near duplicates in `near_train.npy`, and
    likewise for the other splits.
    Class names are those of `classes.json`, in the order of the labels; without it, see `splits_of_arrays`. Size and
    fit are those that the images were converted with.

    Raises:
        DatasetError: if a file is missing or invalid; the message names the file and the reason.
    """
    title = display_name(source)
    if not os.path.lexists(source):
        raise DatasetError(no_such_file(source))
    if not os.path.isdir(source):
        folder = display_name(os.path.dirname(source) or os.curdir)
        raise DatasetError(f"{title}: is a single array; pass its folder {folder}, with labels in Y_*.npy")
    try:
        files = sorted(os.listdir(source))
    except OSError as error:
        raise DatasetError(f"{title}: cannot be read ({error.strerror}); check the path") from error
    arrays = [name for name in files if name.lower().endswith(".npy")]
    contents = {name: content for name in arrays if (content := array_name(name[:-4]))}
    if not contents:
        raise DatasetError(f"{title}: {display_name(arrays[0])} is in no split; name it X_train.npy or X_test.npy")
    names = pairs(source, contents)
    column_names = {name: column for name in arrays if (column := column_name(name[:-4]))}
    column_files = columns_of_splits(source, column_names, names)
    columns = {split: _columns(Path(source), column_files, split) for split in names}
    others = [name for name in arrays if name not in contents and name not in column_names]
    notes = [Omission(f"not read: {display_name(', '.join(others))}")] if others else []
    classes = [name for name in files if name.casefold() == CLASSES_FILE]
    class_names = _read_class_names(Path(source, classes[0])) if classes else None
    parts = {split: _labeled(Path(source, images), Path(source, labels)) for split, (images, labels) in names.items()}
    splits = splits_of_arrays(source, parts, names, class_names, progress, notes, columns)
    settings = _read_settings(Path(source, SETTINGS_FILE)) if SETTINGS_FILE in files else SETTINGS
    return replace(
        splits,
        pixels=_pixels(settings, splits),
        keeps_near_duplicates=settings["keeps_near_duplicates"],
        is_rewritten=settings["is_rewritten"],
    )


def _labeled(images: Path, labels: Path) -> LabeledArray:
    titles = display_name(str(images)), display_name(str(labels))
    return LabeledArray(StoredArray.of(_array(images), file_version(images)), _array(labels), *titles)


def _columns(folder: Path, files: Mapping[tuple[str, str], str], split: str) -> SourceRows:
    """Return groups, soft labels and near duplicates of a split; `splits_of_arrays` validates their shapes."""
    columns = SourceRows()
    groups, shares, near = (files.get((column, split)) for column in COLUMNS)
    if near:
        with said_of(display_name(str(folder / near))):
            columns = replace(columns, near=np.asarray(_array(folder / near)))
    if groups:
        with said_of(display_name(str(folder / groups))):
            columns = replace(columns, groups=np.asarray(_array(folder / groups)))
    if shares:
        with said_of(display_name(str(folder / shares))):
            columns = replace(columns, targets=np.asarray(_array(folder / shares)))
    return columns


def _array(file: Path) -> Array:
    try:
        with ignoring_old_headers():
            return np.lib.format.open_memmap(regular_file(file), mode="r")
    except (OSError, *HEADER_FAULTS) as error:
        if "Python objects" in str(error):
            reason = "is an array of Python objects, which would be unpickled; save a numeric array (np.stack)"
            raise _error(file, reason) from error
        fault = error.args[0] if isinstance(error, tokenize.TokenError) else error
        raise _error(file, f"not a readable .npy file ({excerpt(str(fault))}); save it again with np.save") from error


def _read_class_names(file: Path) -> tuple[str, ...]:
    try:
        names = json.loads(regular_file(file).read_bytes())
    except (OSError, ValueError) as error:
        raise _error(file, f"not readable as JSON ({error})") from error
    is_list = isinstance(names, list) and all(isinstance(name, str) and name.isprintable() for name in names)
    if not is_list or not names or len(set(names)) != len(names):
        raise _error(file, 'expected a list of unique names, such as ["cat", "dog"]')
    return tuple(names)


def _read_settings(file: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(regular_file(file).read_bytes())
    except (OSError, ValueError) as error:
        raise _error(file, f"not readable as JSON ({error})") from error
    if not isinstance(settings, dict) or not all(isinstance(settings.get(name), bool) for name in SETTINGS):
        return SETTINGS  # the file is one of another program
    return settings


def _pixels(settings: Mapping[str, Any], splits: Splits) -> PixelSettings:
    """Return how the images were fitted; nothing if they were not, or not by this version or to another size."""
    try:
        pixels = PixelSettings(settings.get("size"), settings.get("fit"))
    except DatasetError:
        return PixelSettings()
    return pixels if pixels.size == splits.train.image_shape[:2] else PixelSettings()


def _error(file: Path, reason: str) -> DatasetError:
    return DatasetError(f"{display_name(str(file))}: {reason}")
