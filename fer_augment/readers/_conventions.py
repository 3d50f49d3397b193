"""What all readers agree on: the order of classes, the names of splits, and how a missing split is made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import numpy as np

from fer_augment import DatasetError, ImageDataset, Splits
from fer_augment.data.duplicates import group_ids, stratified_folds
from fer_augment.randomness import stream_rng

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's classes in the order of its label numbers."""

DEMO = "demo"
"""The word for the demo faces; a folder of this name is read as `./demo`."""

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""What folders and files may call each split, in any letter case."""

SPLIT_SEED = 2013
SPLIT_PARTS = 10
"""A split that is made holds one in so many rows."""


def shown(name: str) -> str:
    """Return a file's name as it may be printed, control characters and the like escaped."""
    if name.isprintable():  # asked for every file
        return name
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def is_folder(source: str) -> bool:
    """Return whether the source is a folder and not the word for the demo faces."""
    return source != DEMO and os.path.isdir(source)


def split_called(name: str) -> str | None:
    """Return `train`, `validation` or `test` for what a source calls it, None for any other name."""
    return next((split for split, names in SPLIT_NAMES.items() if name.casefold() in names), None)


def is_fer2013(names: Iterable[str]) -> bool:
    """Return whether these are FER2013's class names, in any order and letter case."""
    return {name.casefold() for name in names} == set(FER2013_CLASSES)


def class_order(found: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Put class names in order: FER2013's for FER2013's names in any letter case, else sorted, 2 before 10.

    Returns:
        The K class names, and the label of each name as it was found.
    """
    distinct = set(found)
    if is_fer2013(distinct):
        return FER2013_CLASSES, {name: FER2013_CLASSES.index(name.casefold()) for name in distinct}
    names = tuple(sorted(distinct, key=_natural))
    return names, {name: label for label, name in enumerate(names)}


def make_splits(source: str, parts: Mapping[str, ImageDataset], where: Mapping[str, str]) -> Splits:
    """Put the parts of a source together, and split off a validation part where there is none.

    Args:
        source: what was read, for people.
        parts: source rows by split name; a split that the source lacks is absent or empty.
        where: for train and for test, a sentence on where the source has to hold them.

    Raises:
        DatasetError: if train or test is missing or empty, or the parts do not belong together.
    """
    for name in ("train", "test"):
        if name not in parts or not len(parts[name]):
            raise DatasetError(f"{shown(source)}: the {name} split is empty; {where[name]}")
    if len(parts.get("validation", ())):
        return Splits(parts["train"], parts["validation"], parts["test"], shown(source))
    train, validation = split_off(parts["train"], 1, source)
    note = f"validation: 1 in {SPLIT_PARTS} rows of train, split off"
    return Splits(train, validation, parts["test"], f"{shown(source)} ({note})")


def split_off(dataset: ImageDataset, count: int, source: str) -> list[ImageDataset]:
    """Split off parts of a tenth each, always the same ones; nothing is copied.

    Classes are spread evenly, images that are byte for byte the same stay together, and a class that would be
    missing from the rest stays in it whole.

    Args:
        dataset: source rows in one block.
        count: how many parts to split off.
        source: what was read, for people.

    Returns:
        The rest and the parts, each a set of source rows in the order of the source.

    Raises:
        DatasetError: if there are too few images.
    """
    groups = group_ids(dataset.digests)
    part_of_row = stratified_folds(dataset.labels, groups, SPLIT_PARTS, stream_rng(SPLIT_SEED, "split off"))
    left_out = np.setdiff1d(dataset.labels, dataset.labels[part_of_row >= count])
    stays = np.isin(groups, groups[np.isin(dataset.labels, left_out)])
    part_of_row[stays] = SPLIT_PARTS
    masks = [part_of_row >= count, *(part_of_row == part for part in range(count))]
    if not all(mask.any() for mask in masks):
        raise DatasetError(
            f"{shown(source)}: too few images ({len(dataset)}) to split off a part; "
            "add images, or provide all three splits"
        )
    block, names = dataset.blocks[0], dataset.class_names
    return [ImageDataset.from_arrays(block, dataset.labels[mask], names, rows=dataset.index[mask]) for mask in masks]


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a sort key under which runs of digits count as numbers."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    is_number = [piece[0] in "0123456789" for piece in pieces]
    return [(not n, int(piece) if n else 0, piece) for n, piece in zip(is_number, pieces, strict=True)], name
