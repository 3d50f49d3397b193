"""A rewritten training set as files that other programs read, with where every row came from.

`npz`: `training_set.npz` with the arrays images, labels, origins, copies, step and class_names.
`folder`: `training_set/CLASS/ORIGIN_COPY_STEP.png`, and `training_set/provenance.csv` with a line for each image.
`csv`: `training_set.csv` in the manner of fer2013.csv with the columns of provenance; the held-out rows follow, so that
it can stand in the place of the source.

Legend of shapes: N rows, H, W, C height, width and channels, P source rows of a row.
"""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, Splits
from fer_augment.data.npy_format import write_images
from fer_augment.data.records import provenance_arrays
from fer_augment.errors import DatasetError

FORMATS = ("npz", "folder", "csv")
FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The classes that the numbers in fer2013.csv stand for."""
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
"""What fer2013.csv calls the splits."""

_NAME = "training_set"
_ROWS_AT_ONCE = 1024
_PROVENANCE = ("origins", "copies", "step")

Written = Callable[[int], None]
"""Called with how many more rows are written."""


def refuse_unfit(formats: Sequence[str], splits: Splits) -> None:
    """Refuse formats that cannot hold images or class names such as these.

    Raises:
        DatasetError: if one cannot; it says why, and which one can.
    """
    height, width, channels = splits.train.image_shape
    if "folder" in formats:
        if channels not in (1, 3):
            raise DatasetError(f"png files hold 1 or 3 channels, these images have {channels}; choose --format npz")
        for name in splits.class_names:
            if not _names_a_folder(name):
                raise DatasetError(f"the class {name!r} cannot name a folder; choose --format npz")
        if len({name.casefold() for name in splits.class_names}) < len(splits.class_names):
            raise DatasetError("some class names differ in letter case only, folders may not; choose --format npz")
    if "csv" in formats and (height != width or channels != 1 or splits.class_names != FER2013_CLASSES):
        raise DatasetError(
            "csv is the form of FER2013: square gray images of its seven classes; choose --format npz or folder"
        )


def rows_to_write(form: str, rewritten: ImageDataset, splits: Splits) -> int:
    """Return how many rows a format holds."""
    return len(rewritten) + (len(splits.validation) + len(splits.test) if form == "csv" else 0)


def write_export(form: str, rewritten: ImageDataset, splits: Splits, folder: Path, written: Written) -> str:
    """Write a rewritten training set, some rows at a time.

    Args:
        form: one of `FORMATS` that `refuse_unfit` does not refuse.
        rewritten: the training set.
        splits: the data that it was made from.
        folder: where to.
        written: told how many more rows are written.

    Returns:
        The name of what was written into the folder.
    """
    if form == "npz":
        with zipfile.ZipFile(folder / f"{_NAME}.npz", "w") as archive:
            _write_arrays(archive, rewritten, written)
        return f"{_NAME}.npz"
    if form == "folder":
        _write_files(rewritten, folder / _NAME, written)
        return f"{_NAME}/"
    with (folder / f"{_NAME}.csv").open("w", encoding="utf-8", newline="") as file:
        _write_table(file, {**splits.parts, "train": rewritten}, written)
    return f"{_NAME}.csv"


def _write_arrays(archive: zipfile.ZipFile, rewritten: ImageDataset, written: Written) -> None:
    """Write what `numpy.load` reads; no array holds objects, so nothing is pickled."""
    with archive.open("images.npy", "w", force_zip64=True) as entry:
        write_images(rewritten, entry, written)
    arrays = {**provenance_arrays(rewritten), "class_names": np.array(rewritten.class_names)}
    for name, array in arrays.items():
        with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array(entry, array, allow_pickle=False)


def _write_files(rewritten: ImageDataset, folder: Path, written: Written) -> None:
    import cv2

    for name in rewritten.class_names:
        (folder / name).mkdir(parents=True)
    digits = len(str(rewritten.origin.max(initial=0)))
    with (folder / "provenance.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["file", "class", *_PROVENANCE])
        for rows, images in _chunks(rewritten, written):
            for row, image in zip(rows, images, strict=True):
                name = rewritten.class_names[rewritten.labels[row]]
                title = f"{rewritten.origin[row]:0{digits}}_{rewritten.copies[row]}_{rewritten.step[row]}.png"
                content = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]
                (folder / name / title).write_bytes(content.data)
                lines.writerow([f"{name}/{title}", name, *_provenance(rewritten, row)])


def _write_table(file: IO[str], parts: dict[str, ImageDataset], written: Written) -> None:
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["emotion", "pixels", "Usage", *_PROVENANCE])
    number = [str(value) for value in range(256)]
    for split, part in parts.items():
        for rows, images in _chunks(part, written):
            for row, pixels in zip(rows, images.reshape(len(rows), -1).tolist(), strict=True):
                text = " ".join([number[value] for value in pixels])
                lines.writerow([part.labels[row], text, USAGES[split], *_provenance(part, row)])


def _provenance(dataset: ImageDataset, row: int) -> list[Any]:
    origins = dataset.origins[row]
    return [" ".join(map(str, origins[origins >= 0])), dataset.copies[row], dataset.step[row]]


def _chunks(dataset: ImageDataset, written: Written) -> Iterator[tuple[range, NDArray[np.uint8]]]:
    for start in range(0, len(dataset), _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, len(dataset)))
        yield rows, dataset.images[rows.start : rows.stop]
        written(len(rows))


def _names_a_folder(name: str) -> bool:
    """Whether a class name is that of one visible folder here and on other systems."""
    separators = {os.sep, os.altsep or os.sep, *'/\\:*?"<>|'}
    return name.isprintable() and not (set(name) & separators) and name[:1] not in ("", ".") and name == name.strip()
