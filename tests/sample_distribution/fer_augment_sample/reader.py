"""A reader of drawings in a text file: one image per line, as `SPLIT CLASS ROW/ROW/…`, with `#` for a set pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fer_augment import DatasetError, DatasetReader, ImageDataset, Splits, hookimpl


def recognizes(source: str) -> bool:
    """Return whether the source is named like a file of drawings."""
    return source.endswith(".drawings")


def read(source: str, progress: Callable[[int, int], None]) -> Splits:
    """Read the drawings of all three splits.

    Raises:
        DatasetError: if the file cannot be read.
    """
    try:
        lines = [line.split() for line in Path(source).read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise DatasetError(f"{source}: {error.strerror}") from error
    names = sorted({name for _, name, _ in lines})
    train, validation, test = (
        _part([line for line in lines if line[0] == split], names) for split in ("train", "validation", "test")
    )
    progress(len(lines), len(lines))
    return Splits(train, validation, test, source)


def _part(lines: list[list[str]], names: list[str]) -> ImageDataset:
    images = [[[255 * (letter == "#") for letter in row] for row in rows.split("/")] for _, _, rows in lines]
    return ImageDataset.from_arrays(
        np.array(images, dtype=np.uint8), [names.index(name) for _, name, _ in lines], names
    )


@hookimpl
def register_dataset_readers() -> list[DatasetReader]:
    """Register the reader of this module."""
    return [DatasetReader("drawings", "FILE.drawings: SPLIT CLASS ROW/ROW/…, one image per line", recognizes, read)]
