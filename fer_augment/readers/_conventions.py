"""Conventions of all readers: class order, split names, and how missing splits are created."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import numpy as np

from fer_augment import DatasetError, ImageDataset, Splits
from fer_augment.data.duplicates import group_ids, stratified_folds
from fer_augment.randomness import stream_rng

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's classes in the order of the label numbers."""

DEMO = "demo"
"""Source name of the synthetic faces; to read a folder of this name, use `./demo`."""

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Names of each split in folder and file names, case-insensitive."""

SPLIT_SEED = 2013
SPLIT_PARTS = 10
"""A split that is split off contains 1 in this many rows."""


def display_name(name: str) -> str:
    """Return a file name for display, with control characters escaped."""
    if name.isprintable():  # fast path, called for every file
        return name
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def is_folder(source: str) -> bool:
    """Return whether the source is a folder, excluding the source name of the synthetic faces."""
    return source != DEMO and os.path.isdir(source)


def split_called(name: str) -> str | None:
    """Return `train`, `validation` or `test` for a split name used by a source, None for any other name."""
    return next((split for split, names in SPLIT_NAMES.items() if name.casefold() in names), None)


def is_fer2013(names: Iterable[str]) -> bool:
    """Return whether these are FER2013's class names, ignoring order and case."""
    return {name.casefold() for name in names} == set(FER2013_CLASSES)


def class_order(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Order class names: FER2013's order for FER2013's names (ignoring case), else natural order, 2 before 10.

    Returns:
        The K class names, and the label of each given name.
    """
    distinct = set(names)
    if is_fer2013(distinct):
        return FER2013_CLASSES, {name: FER2013_CLASSES.index(name.casefold()) for name in distinct}
    ordered = tuple(sorted(distinct, key=_natural))
    return ordered, {name: label for label, name in enumerate(ordered)}


def make_splits(source: str, parts: Mapping[str, ImageDataset], where: Mapping[str, str]) -> Splits:
    """Create `Splits`; if there is no validation split, split it off from the training split.

    Args:
        source: name of the data source, for display.
        parts: source rows by split name; missing splits are absent or empty.
        where: for train and for test, where the source must provide them; used in messages.

    Raises:
        DatasetError: if train or test is missing or empty, or the splits are inconsistent.
    """
    for name in ("train", "test"):
        if name not in parts or not len(parts[name]):
            raise DatasetError(f"{display_name(source)}: the {name} split is empty; {where[name]}")
    if len(parts.get("validation", ())):
        return Splits(parts["train"], parts["validation"], parts["test"], display_name(source))
    train, validation = split_off(parts["train"], 1, source)
    note = f"validation: 1 in {SPLIT_PARTS} rows of train, split off"
    return Splits(train, validation, parts["test"], f"{display_name(source)} ({note})")


def split_off(dataset: ImageDataset, count: int, source: str) -> list[ImageDataset]:
    """Split off parts of one tenth each; stratified, deterministic, and without copying pixels.

    Exact duplicates stay together. A class that would be missing from the remaining rows stays there entirely.

    Args:
        dataset: source rows in one block.
        count: number of parts to split off.
        source: name of the data source, for messages.

    Returns:
        The remaining rows, followed by the parts; each a data set of source rows in their original order.

    Raises:
        DatasetError: if there are too few images.
    """
    groups = group_ids(dataset.digests)
    part_of_row = stratified_folds(dataset.labels, groups, SPLIT_PARTS, stream_rng(SPLIT_SEED, "split off"))
    missing = np.setdiff1d(dataset.labels, dataset.labels[part_of_row >= count])
    stays = np.isin(groups, groups[np.isin(dataset.labels, missing)])
    part_of_row[stays] = SPLIT_PARTS
    masks = [part_of_row >= count, *(part_of_row == part for part in range(count))]
    if not all(mask.any() for mask in masks):
        raise DatasetError(
            f"{display_name(source)}: too few images ({len(dataset)}) to split off a validation or test split; "
            "add images or provide all three splits"
        )
    block, names = dataset.blocks[0], dataset.class_names
    return [ImageDataset.from_arrays(block, dataset.labels[mask], names, rows=dataset.index[mask]) for mask in masks]


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a sort key that compares runs of digits as numbers."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    is_number = [piece[0] in "0123456789" for piece in pieces]
    return [(not n, int(piece) if n else 0, piece) for n, piece in zip(is_number, pieces, strict=True)], name
