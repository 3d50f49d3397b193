"""The npy folder format, written by `fer-augment data convert`; its images are memory-mapped when read.

`X_<split>.npy` contains images, `(N, H, W, C) uint8`, `Y_<split>.npy` labels, `(N,) int64`, and `classes.json` the
class names in the order of the labels; the splits are named training, validation and test. If the source has groups or
soft labels, `groups_<split>.npy` contains group numbers, `(N,) int64`, and `shares_<split>.npy` the soft labels,
`(N, K) float32`. If near duplicates were searched for, `near_<split>.npy` contains their numbers, `(N,) int64`, see
`SourceRows.near`. `fer_augment.json` has the fields of `SETTINGS`, if one of them is not as usual, and `size` and
`fit`, if the images were fitted to a size; see `Splits.pixels`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.whole_files import whole_directory
from fer_augment.errors import DatasetError

CLASSES_FILE = "classes.json"
SETTINGS_FILE = "fer_augment.json"
SETTINGS = {"keeps_near_duplicates": True, "is_rewritten": False}
"""What the folder says of the splits as a whole, with the usual values; see `Splits`."""
SPLIT_WORDS = {"train": "training", "validation": "validation", "test": "test"}
"""Names of the splits in file names."""

_BYTES_AT_ONCE = 1 << 24


def images_file(word: str) -> str:
    """Return the name of the file with the images of a split."""
    return f"X_{word}.npy"


def labels_file(word: str) -> str:
    """Return the name of the file with the labels of a split."""
    return f"Y_{word}.npy"


def groups_file(word: str) -> str:
    """Return the name of the file with the groups of a split."""
    return f"groups_{word}.npy"


def shares_file(word: str) -> str:
    """Return the name of the file with the soft labels of a split."""
    return f"shares_{word}.npy"


def near_file(word: str) -> str:
    """Return the name of the file with the near duplicates of a split."""
    return f"near_{word}.npy"


def is_npy_folder(folder: str | Path) -> bool:
    """Return whether a folder contains image files of this format, ignoring case; never raises."""
    try:
        names = [name.lower() for name in os.listdir(folder)]
    except (OSError, ValueError):  # ValueError: not a valid file name
        return False
    return any(name.startswith("x_") and name.endswith(".npy") for name in names)


def refuse_existing(folder: Path) -> None:
    """Refuse an output folder that already exists.

    Raises:
        DatasetError: if it exists.
    """
    if os.path.lexists(folder):
        raise DatasetError(f"{folder}: already exists; choose another folder or remove it")


def write_npy_folder(
    splits: Splits, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write all splits to a new folder, a few megabytes at a time; the folder is created atomically.

    Args:
        splits: the data to write; reading the folder gives data with the same fingerprint.
        folder: output folder; must not exist.
        progress: called with the number of rows written and their total.

    Raises:
        DatasetError: if the folder exists or cannot be written.
    """
    refuse_existing(folder)
    done, total = 0, sum(map(len, splits.parts.values()))

    def written(rows: int) -> None:
        nonlocal done
        done += rows
        progress(done, total)

    try:
        with whole_directory(folder) as scratch:
            for name, part in splits.parts.items():
                # Not a memory map: on a full disk, writing to one kills the process instead of raising an error.
                with (scratch / images_file(SPLIT_WORDS[name])).open("wb") as stream:
                    write_images(part, stream, written)
                np.save(scratch / labels_file(SPLIT_WORDS[name]), part.labels)
                if part.sources and part.sources.groups is not None:
                    np.save(scratch / groups_file(SPLIT_WORDS[name]), part.sources.groups[part.origin])
                if part.sources and part.sources.near is not None:
                    np.save(scratch / near_file(SPLIT_WORDS[name]), part.sources.near[part.origin])
                if part.targets is not None:
                    np.save(scratch / shares_file(SPLIT_WORDS[name]), part.targets)
            names = json.dumps(splits.class_names, ensure_ascii=False)
            (scratch / CLASSES_FILE).write_text(names + "\n", encoding="utf-8")
            settings: dict[str, Any] = {name: getattr(splits, name) for name in SETTINGS}
            if splits.pixels.size == splits.train.image_shape[:2]:
                settings |= {"size": splits.pixels.size, "fit": splits.pixels.fit}
            if settings != SETTINGS:
                (scratch / SETTINGS_FILE).write_text(json.dumps(settings) + "\n", encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written ({error.strerror or error})") from error


def write_images(part: ImageDataset, stream: IO[bytes], written: Callable[[int], None]) -> None:
    """Write images as a `.npy` array a few megabytes at a time; `written` is called with the rows of each chunk."""
    rows_at_once = max(1, _BYTES_AT_ONCE // max(1, int(np.prod(part.image_shape))))
    header = {"descr": "|u1", "fortran_order": False, "shape": part.images.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for start in range(0, len(part), rows_at_once):
        images = part.images[start : start + rows_at_once]
        stream.write(images.data)
        written(len(images))
