"""The converted data folder: its file names, and how it is written; its images are memory-mapped when read.

`X_<split>.npy` holds images, `(N, H, W, C) uint8`, `Y_<split>.npy` labels, `(N,) int64`, and `classes.json`
the class names in the order of the labels; the splits are called training, validation and test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.records import whole_directory
from fer_augment.errors import DatasetError

CLASSES_FILE = "classes.json"
SPLIT_WORDS = {"train": "training", "validation": "validation", "test": "test"}
"""What the files call each split."""

_BYTES_AT_ONCE = 1 << 24


def images_file(word: str) -> str:
    """Return the name of the file that holds the images of a split."""
    return f"X_{word}.npy"


def labels_file(word: str) -> str:
    """Return the name of the file that holds the labels of a split."""
    return f"Y_{word}.npy"


def is_npy_folder(folder: str | Path) -> bool:
    """Return whether a folder holds images of this format, in any letter case; never raises."""
    try:
        names = [name.lower() for name in os.listdir(folder)]
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False
    return any(name.startswith("x_") and name.endswith(".npy") for name in names)


def refuse_existing(folder: Path) -> None:
    """Refuse a folder to write to that exists already.

    Raises:
        DatasetError: if it does.
    """
    if os.path.lexists(folder):
        raise DatasetError(f"{folder}: exists already; name a folder that does not, or remove it")


def write_npy_folder(
    splits: Splits, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write all splits to a new folder, a few megabytes at a time; it appears whole or not at all.

    Args:
        splits: what to write; reading the folder gives data with the same fingerprint.
        folder: where to; must not exist.
        progress: told how many rows are written and how many there are.

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
                # Not a memory map: on a full disk, writing to one ends the process instead of raising an error.
                with (scratch / images_file(SPLIT_WORDS[name])).open("wb") as stream:
                    write_images(part, stream, written)
                np.save(scratch / labels_file(SPLIT_WORDS[name]), part.labels)
            names = json.dumps(splits.class_names, ensure_ascii=False)
            (scratch / CLASSES_FILE).write_text(names + "\n", encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written ({error.strerror or error})") from error


def write_images(part: ImageDataset, stream: IO[bytes], written: Callable[[int], None]) -> None:
    """Write the images of a set as one `.npy` array, a few megabytes at a time; tell how many rows each time."""
    rows_at_once = max(1, _BYTES_AT_ONCE // max(1, int(np.prod(part.image_shape))))
    header = {"descr": "|u1", "fortran_order": False, "shape": part.images.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for start in range(0, len(part), rows_at_once):
        images = part.images[start : start + rows_at_once]
        stream.write(images.data)
        written(len(images))
