"""Conventions of all readers: split names, messages, and the order of classes."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fer_augment.data.class_order import FER2013_CLASSES as FER2013_CLASSES
from fer_augment.data.class_order import class_order as class_order
from fer_augment.data.class_order import is_fer2013 as is_fer2013
from fer_augment.data.class_order import whole_number as whole_number
from fer_augment.data.image_source import DEMO as DEMO
from fer_augment.errors import DatasetError
from fer_augment.errors import display_name as display_name
from fer_augment.errors import excerpt as excerpt
from fer_augment.errors import no_such_file as no_such_file

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Names of each split in folder, file and array names, case-insensitive."""

EVERYTHING = "everything"
"""Split of all images in a source without splits."""

PROVENANCE = {"origins", "copies", "step"}
"""Arrays or columns of a training set that `fer-augment rewrite` has written."""


def version_of(status: os.stat_result) -> str:
    """Return what changes with the content of a file, and differs between files of equal size and time."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_dev} {status.st_ino}"


def counted(titles: Sequence[str], kind: str = "images") -> str:
    """Return what a message is about: the title of one file, or the number of files and the first three titles."""
    if len(titles) == 1:
        return titles[0]
    return f"{len(titles):,} {kind} ({', '.join(titles[:3])}{', …' if len(titles) > 3 else ''})"


def refuse_rewritten(title: str, names: Collection[str], of_format: Collection[str]) -> None:
    """Refuse a training set that `fer-augment rewrite` has written as one of arrays or of files.

    Args:
        title: the source, for the message.
        names: its arrays or columns.
        of_format: the arrays or columns of images and labels in this format.

    Raises:
        DatasetError: if it has these and the provenance.
    """
    if PROVENANCE.union(of_format).issubset(names):
        raise DatasetError(
            f"{title}: is a rewritten training set, whose augmented copies would leak into splits made of it; pass the "
            "original data to --data, and the recipe to compare"
        )


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pause the search for cyclic garbage, which takes more time than reading if millions of objects are created.

    The objects count as old afterwards, so that they are not searched at once.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.unfreeze()
            gc.enable()


def is_folder(source: str) -> bool:
    """Return whether the source is a folder, excluding the source name of the synthetic faces."""
    return source != DEMO and os.path.isdir(source)


@functools.lru_cache(maxsize=1024)  # called for every file, with the names of few folders
def split_called(name: str) -> str | None:
    """Return `train`, `validation` or `test` for a split name used by a source, None for any other name."""
    return next((split for split, names in SPLIT_NAMES.items() if name.casefold() in names), None)
