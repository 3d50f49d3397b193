"""Reader for image files in a folder, zip or tar archive, such as the FER2013 image release."""

from __future__ import annotations

import os

import numpy as np

from fer_augment import DatasetReader, ImageSource, hookimpl
from fer_augment.data.splitting import SPLIT_ORDER
from fer_augment.phases import ReportProgress
from fer_augment.readers._array_names import has_arrays
from fer_augment.readers._conventions import (
    EVERYTHING,
    class_order,
    display_name,
    is_folder,
    paused_garbage_collection,
)
from fer_augment.readers._image_layout import places
from fer_augment.readers._image_members import is_archive, left_out, scan
from fer_augment.readers._table_files import has_tables, is_table, notes_on_tables

_NUMBERS = {EVERYTHING: -1, **{name: number for number, name in enumerate(SPLIT_ORDER)}}


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of image files."""
    summary = "FOLDER, FILE.zip, FILE.tar or FILE.tar.gz of split/class/image (train, validation, test) or class/image"
    return [DatasetReader("image_files", summary, recognizes, read)]


def recognizes(source: str) -> bool:
    """Return whether the source is a folder without arrays of images, or an archive, and has no table of labels."""
    is_recognized = is_folder(source) and not has_arrays(source) if os.path.isdir(source) else is_archive(source)
    return is_recognized and not has_tables(source)


def read(source: str, progress: ReportProgress) -> ImageSource:
    """Find all images, sorted by name within each split, so that the order does not depend on the file system.

    Raises:
        DatasetError: if the source cannot be read or the folder layout is invalid.
    """
    with paused_garbage_collection():
        found = scan(source)
        images = places(source, found.images)
        tables = [file for file in found.others if is_table(file)]
        others = [file for file in found.others if not is_table(file)]
        names, label_of = class_order(image.class_name for image in images)
        return ImageSource(
            description=display_name(source),
            files=[image.member.file for image in images],
            labels=np.array([label_of[image.class_name] for image in images], dtype=np.int64),
            class_names=names,
            split=np.array([_NUMBERS[image.split] for image in images], dtype=np.int8),
            notes=(*notes_on_tables(source, tables), *left_out(others)),
        )
