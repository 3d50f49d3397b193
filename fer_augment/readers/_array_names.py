"""Split and content of arrays, from names such as `x_train`, `groups_val.npy` and `t10k-images-idx3-ubyte.gz`."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fer_augment import DatasetError
from fer_augment.data.npy_format import is_npy_folder
from fer_augment.readers._conventions import EVERYTHING, SPLIT_NAMES, display_name, split_called

LABELS_OF = {"x": "y", "images": "labels", "image": "label", "imgs": "labels", "data": "targets", "idx3": "idx1"}
"""Words for images in array names, and the words for their labels; the last pair is part of idx file names."""
IMAGES_OF = {"y": "x", "labels": "images", "label": "image", "targets": "data", "target": "data", "idx1": "idx3"}

COLUMNS = ("groups", "shares", "near")
"""Words for what a source of arrays may say of its rows besides images and labels: groups, soft labels, duplicates."""

_ROLES = {word: word in LABELS_OF for word in (*LABELS_OF, *IMAGES_OF) if not word.startswith("idx")}
_BETWEEN_WORDS = re.compile(r"([_\-. ]+)")
_IDX_FILE = re.compile(
    r"(?:(?P<prefix>.+)-)?(?P<content>[a-z0-9]+-(?:images|labels))[-.]idx[0-9]-[a-z]+(?P<suffix>\.gz)?", re.IGNORECASE
)


@dataclass(frozen=True)
class ArrayName:
    """Content of an array.

    Attributes:
        split: train, validation or test, or `EVERYTHING` for arrays without a split.
        is_images: whether it has the images, not the labels.
    """

    split: str
    is_images: bool


def array_name(name: str) -> ArrayName | None:
    """Return the content of an array called `images`, `x_train`, `train_images` or similar, ignoring case.

    Returns:
        None if the name is not a word for images or labels, alone or with the name of a split.
    """
    words = _BETWEEN_WORDS.split(name.casefold())[::2]
    roles = [word for word in words if word in _ROLES]
    splits = [split for word in words if (split := split_called(word))]
    if len(roles) != 1 or len(roles) + len(splits) != len(words) or len(splits) > 1:
        return None
    return ArrayName(splits[0] if splits else EVERYTHING, _ROLES[roles[0]])


@dataclass(frozen=True)
class ColumnName:
    """What an array of groups or soft labels belongs to.

    Attributes:
        column: one of `COLUMNS`.
        split: train, validation or test, or `EVERYTHING` for arrays without a split; None if it is neither.
    """

    column: str
    split: str | None


def column_name(name: str) -> ColumnName | None:
    """Return what an array called `groups`, `groups_train`, `train_shares` or similar belongs to, ignoring case.

    Returns:
        None if the name does not start with a word for a column, and is not one with the name of a split.
    """
    words = _BETWEEN_WORDS.split(name.casefold())[::2]
    columns = [word for word in words if word in COLUMNS]
    splits = [split_called(word) for word in words if word not in COLUMNS]
    if len(columns) == 1 and len(splits) <= 1 and None not in splits:
        return ColumnName(columns[0], splits[0] if splits else EVERYTHING)
    return ColumnName(words[0], None) if words[0] in COLUMNS else None


@dataclass(frozen=True)
class IdxName:
    """Content of an idx file.

    Attributes:
        prefix: name of the data set, such as `emnist-letters`; often empty.
        content: split, and whether the file has images.
        is_compressed: whether the file is compressed by gzip.
    """

    prefix: str
    content: ArrayName
    is_compressed: bool


def idx_name(name: str) -> IdxName | None:
    """Return the content of a file called `train-images-idx3-ubyte.gz` or similar, None for other names."""
    match = _IDX_FILE.fullmatch(name)
    content = array_name(match["content"].casefold().replace("t10k", "test")) if match else None
    return IdxName(match["prefix"] or "", content, bool(match["suffix"])) if match and content else None


def has_arrays(folder: str) -> bool:
    """Return whether a folder has images in `.npy` files or in idx files; never raises."""
    return has_npy_files(folder) or has_idx_files(folder)


def has_npy_files(folder: str) -> bool:
    """Return whether a folder has images in `.npy` files; never raises."""
    contents = (array_name(name[:-4]) for name in _names_in(folder) if name.lower().endswith(".npy"))
    return is_npy_folder(folder) or any(content.is_images for content in contents if content)


def has_idx_files(folder: str) -> bool:
    """Return whether a folder has images in idx files; never raises."""
    return any(name.content.is_images for name in map(idx_name, _names_in(folder)) if name)


def pairs(source: str, arrays: Mapping[str, ArrayName]) -> dict[str, tuple[str, str]]:
    """Pair images with labels.

    Args:
        source: name of the data source, for messages.
        arrays: contents of the arrays, by name.

    Returns:
        For each split, or `EVERYTHING` alone, the names of the images and of the labels.

    Raises:
        DatasetError: if images have no labels, labels no images, or two arrays have the same content.
    """
    by_content: dict[ArrayName, str] = {}
    for name in sorted(arrays):
        other = by_content.setdefault(arrays[name], name)
        if other != name:
            both = f"{display_name(other)} and {display_name(name)}"
            raise DatasetError(f"{display_name(source)}: {both} are the same split; keep only one")
    for content, name in by_content.items():
        if ArrayName(content.split, not content.is_images) not in by_content:
            missing = "labels" if content.is_images else "images"
            add = counterpart(name, LABELS_OF if content.is_images else IMAGES_OF)
            raise DatasetError(
                f"{display_name(source)}: {display_name(name)} has no {missing}; add {display_name(add)}"
            )
    splits = [split for split in (*SPLIT_NAMES, EVERYTHING) if ArrayName(split, True) in by_content]
    if EVERYTHING in splits and len(splits) > 1:
        with_split, without = (display_name(by_content[ArrayName(split, True)]) for split in (splits[0], EVERYTHING))
        raise DatasetError(
            f"{display_name(source)}: {without} is in no split, {with_split} is; rename or remove {without}"
        )
    return {split: (by_content[ArrayName(split, True)], by_content[ArrayName(split, False)]) for split in splits}


def columns_of_splits(
    source: str, arrays: Mapping[str, ColumnName], splits: Collection[str]
) -> dict[tuple[str, str], str]:
    """Assign groups and soft labels to the splits of the images.

    Args:
        source: name of the data source, for messages.
        arrays: contents of the `.npy` files, by file name.
        splits: the splits of the images, or `EVERYTHING` alone.

    Returns:
        The file names by column and split.

    Raises:
        DatasetError: if an array belongs to none of the splits, or two belong to the same.
    """
    files: dict[tuple[str, str], str] = {}
    for name in sorted(arrays):
        column, split = arrays[name].column, arrays[name].split
        if split is None or split not in splits:
            possible = " or ".join(f"{column}.npy" if one == EVERYTHING else f"{column}_{one}.npy" for one in splits)
            raise DatasetError(
                f"{display_name(source)}: {display_name(name)} is in no split of the images; name it {possible}, or "
                "remove it"
            )
        other = files.setdefault((column, split), name)
        if other != name:
            both = f"{display_name(other)} and {display_name(name)}"
            raise DatasetError(f"{display_name(source)}: {both} are the same split; keep only one")
    return files


def counterpart(name: str, words: Mapping[str, str]) -> str:
    """Return the name of the labels for images, or of the images for labels; keeps upper case."""
    pieces = []
    for piece in _BETWEEN_WORDS.split(name):
        other = words.get(piece.casefold(), piece)
        pieces.append(other.upper() if piece.isupper() else other)
    return "".join(pieces)


def missing_split_advice(parts: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return what to do if the train or the test split is missing, by split, with the names of arrays to add."""
    if not parts:
        return {}
    names = next(iter(parts.values()))
    advice = {split: f"add {_in_split(names, split)}" for split in ("train", "test")}
    if "train" in parts and "validation" in parts:
        given, needed = _joined(parts["validation"]), _in_split(parts["validation"], "test")
        advice["test"] = f"rename {given} to {needed}, and a validation split is split off from train"
    return advice


def _in_split(names: tuple[str, str], split: str) -> str:
    pieces = (_BETWEEN_WORDS.split(name) for name in names)
    return _joined(tuple("".join(split if _is_split(word) else word for word in words) for words in pieces))


def _is_split(word: str) -> bool:
    return word.casefold() == "t10k" or split_called(word) is not None


def _joined(names: tuple[str, ...]) -> str:
    return " and ".join(map(display_name, names))


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (OSError, ValueError):  # ValueError: not a valid file name
        return []
