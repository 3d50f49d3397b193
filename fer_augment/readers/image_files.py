"""Reader for image files in a folder or zip archive, such as the FER2013 image release."""

from __future__ import annotations

import os
from itertools import groupby

import numpy as np

from fer_augment import DatasetReader, ImageDataset, PixelBlock, Splits, hookimpl
from fer_augment.data.npy_format import is_npy_folder
from fer_augment.hooks.declarations import ReportProgress
from fer_augment.readers._conventions import (
    SPLIT_PARTS,
    class_order,
    display_name,
    is_folder,
    make_splits,
    split_off,
)
from fer_augment.readers._image_decoding import decoded
from fer_augment.readers._image_layout import EVERYTHING, places
from fer_augment.readers._image_members import image_members

_WHERE = {
    "train": "add a folder train with class folders",
    "test": "add a folder test with class folders (only a validation folder is optional)",
}


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of image files."""
    summary = "FOLDER or FILE.zip of split/class/*.png|jpg (train, validation, test) or class/*.png|jpg"
    return [DatasetReader("image_files", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source has the suffix `.zip`, or is a folder that is not an npy folder."""
    if os.path.isdir(source):
        return is_folder(source) and not is_npy_folder(source)
    return source.lower().endswith(".zip")


def read(source: str, progress: ReportProgress) -> Splits:
    """Read all images, sorted by name within each split, so that the order does not depend on the file system.

    If there is no validation split, 1 in 10 training rows are split off; if there are no splits, 1 in 10 rows each for
    validation and test.

    Raises:
        DatasetError: if a file or the folder layout is invalid.
    """
    with image_members(source) as members:
        images = places(source, members)
        pixels = decoded([image.member for image in images], progress)
    names, label_of = class_order(image.class_name for image in images)
    labels = np.array([label_of[image.class_name] for image in images], dtype=np.int64)
    pixels.flags.writeable = False
    parts = {}
    start = 0
    for split, in_split in groupby(images, key=lambda image: image.split):
        rows = slice(start, start + len(list(in_split)))
        parts[split] = ImageDataset.from_arrays(PixelBlock(pixels[rows]), labels[rows], names)
        start = rows.stop
    if EVERYTHING not in parts:
        return make_splits(source, parts, _WHERE)
    train, validation, test = split_off(parts[EVERYTHING], 2, source)
    note = f"validation and test: 1 in {SPLIT_PARTS} rows each, split off"
    return Splits(train, validation, test, f"{display_name(source)} ({note})")
