"""Conventions of all readers: class order and split names."""

from __future__ import annotations

import functools
import gc
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fer_augment.errors import display_name as display_name
from fer_augment.errors import excerpt as excerpt
from fer_augment.errors import no_such_file as no_such_file

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's classes in the order of the label numbers."""

DEMO = "demo"
"""Source name of the synthetic faces; to read a folder of this name, use `./demo`."""

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Names of each split in folder, file and array names, case-insensitive."""

EVERYTHING = "everything"
"""Split of all images in a source without splits."""


def counted(titles: Sequence[str], kind: str = "images") -> str:
    """Return what a message is about: the title of one file, or the number of files and the first three titles."""
    if len(titles) == 1:
        return titles[0]
    return f"{len(titles):,} {kind} ({', '.join(titles[:3])}{', …' if len(titles) > 3 else ''})"


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pause the search for cyclic garbage, which takes more time than reading if millions of objects are created."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def is_folder(source: str) -> bool:
    """Return whether the source is a folder, excluding the source name of the synthetic faces."""
    return source != DEMO and os.path.isdir(source)


@functools.lru_cache(maxsize=1024)  # called for every file, with the names of few folders
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


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a sort key that compares runs of digits as numbers: without leading zeros, a longer one is greater."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    digits = [piece.lstrip("0") if piece[0] in "0123456789" else None for piece in pieces]
    keys = [(True, 0, piece) if n is None else (False, len(n), n) for n, piece in zip(digits, pieces, strict=True)]
    return keys, name
