"""The reader of image files in folders or in a zip: the FER2013 image release and all laid out like it."""

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
    is_folder,
    make_splits,
    shown,
    split_off,
)
from fer_augment.readers._image_decoding import decoded
from fer_augment.readers._image_layout import EVERYTHING, places
from fer_augment.readers._image_members import image_members

_WHERE = {
    "train": "it needs a folder train with class folders and images in it",
    "test": "it needs a folder test with class folders and images in it (of held-out parts only validation "
    "may be missing)",
}


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Offer the reader of image files."""
    summary = "FOLDER or FILE.zip of split/class/*.png|jpg (train, validation, test) or class/*.png|jpg"
    return [DatasetReader("image_files", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is called `.zip`, or is a folder other than a converted one."""
    if os.path.isdir(source):
        return is_folder(source) and not is_npy_folder(source)
    return source.lower().endswith(".zip")


def read(source: str, progress: ReportProgress) -> Splits:
    """Read all images, each split sorted by name: the same files are the same data on any file system.

    Without a validation part one row in ten is split off from train; without any splits, one in ten each for
    validation and test.

    Raises:
        DatasetError: if a file, or the way the files are laid out, is not as it should be.
    """
    with image_members(source) as members:
        found = places(source, members)
        pixels = decoded([place.member for place in found], progress)
    names, label_of = class_order(place.class_name for place in found)
    labels = np.array([label_of[place.class_name] for place in found], dtype=np.int64)
    pixels.flags.writeable = False
    parts = {}
    start = 0
    for split, together in groupby(found, key=lambda place: place.split):
        rows = slice(start, start + len(list(together)))
        parts[split] = ImageDataset.from_arrays(PixelBlock(pixels[rows]), labels[rows], names)
        start = rows.stop
    if EVERYTHING not in parts:
        return make_splits(source, parts, _WHERE)
    train, validation, test = split_off(parts[EVERYTHING], 2, source)
    note = f"validation and test: 1 in {SPLIT_PARTS} rows each, split off"
    return Splits(train, validation, test, f"{shown(source)} ({note})")
