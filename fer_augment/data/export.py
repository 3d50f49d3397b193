"""Export of a rewritten training set, with provenance, to formats that other programs can read.

`npz`: `training_set.npz` with the arrays images, labels, origins, copies, step and class_names; targets, if the source
has soft labels; outside, what origins -2, -3, … are, if there are rows that were not made from training rows.
`folder`: `training_set/CLASS/ORIGIN_COPY_STEP.png`, and `training_set/provenance.csv` with one line per image, and a
column `share of CLASS` for each class, if the source has soft labels.
`csv`: `training_set.csv` in the format of fer2013.csv with provenance columns; it includes the validation and test
rows, so that it can replace the source.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.class_order import FER2013_CLASSES
from fer_augment.data.dataset import FIRST_OUTSIDE, ImageDataset, Splits
from fer_augment.data.npy_format import write_images
from fer_augment.data.records import OUTSIDE, provenance_arrays
from fer_augment.errors import DatasetError, excerpt, windows_refuses

FORMATS = ("npz", "folder", "csv")
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
"""Usage column of fer2013.csv by split."""

_NAME = "training_set"
_LONGEST_FILE_NAME = 255
"""Bytes of a file name on common file systems."""
_ROWS_AT_ONCE = 1024
_PROVENANCE = ("origins", "copies", "step")

Written = Callable[[int], None]
"""Called with the number of rows written since the last call."""


def refuse_unfit(formats: Sequence[str], splits: Splits) -> None:
    """Refuse formats that cannot represent these images or class names.

    Raises:
        DatasetError: if a format is unsuitable; the message suggests another.
    """
    height, width, channels = splits.train.image_shape
    if "folder" in formats:
        if channels not in (1, 3):
            raise DatasetError(f"images have {channels} channels, png files need 1 or 3; use --format npz")
        for name in splits.class_names:
            if not _names_a_folder(name):
                raise DatasetError(f"class {excerpt(name, 60)!r} is not a valid folder name; use --format npz")
        if len({name.casefold() for name in splits.class_names}) < len(splits.class_names):
            raise DatasetError("some class names differ only in case, folder names must not; use --format npz")
    if "csv" in formats and (height != width or channels != 1 or splits.class_names != FER2013_CLASSES):
        raise DatasetError(
            "--format csv requires square gray images of FER2013's seven classes; use --format npz or folder"
        )
    if "csv" in formats and splits.train.targets is not None:
        raise DatasetError("--format csv has no columns for soft labels; use --format npz or folder")


def rows_to_write(form: str, rewritten: ImageDataset, splits: Splits) -> int:
    """Return the number of rows that a format contains."""
    return len(rewritten) + (len(splits.validation) + len(splits.test) if form == "csv" else 0)


def write_export(form: str, rewritten: ImageDataset, splits: Splits, folder: Path, written: Written) -> str:
    """Write a rewritten training set in chunks.

    Args:
        form: one of `FORMATS` that `refuse_unfit` accepts.
        rewritten: rewritten training set.
        splits: the data that it was created from.
        folder: output directory.
        written: called with the number of rows written since the last call.

    Returns:
        The name of the file or folder written.
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
    """Write the members of an `.npz` file; no array has dtype object, so nothing is pickled."""
    with archive.open("images.npy", "w", force_zip64=True) as entry:
        write_images(rewritten, entry, written)
    arrays: dict[str, NDArray[Any]] = {
        **provenance_arrays(rewritten),
        "class_names": np.array(rewritten.class_names),
    }
    if rewritten.outside:
        arrays[OUTSIDE] = np.array(rewritten.outside)
    if rewritten.targets is not None:
        arrays["targets"] = rewritten.targets
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
        shares = rewritten.targets
        names = [] if shares is None else [f"share of {name}" for name in rewritten.class_names]
        lines.writerow(["file", "class", *_PROVENANCE, *names])
        for rows, images in _chunks(rewritten, written):
            for row, image in zip(rows, images, strict=True):
                name = rewritten.class_names[rewritten.labels[row]]
                origin = rewritten.origin[row]
                first = f"{origin:0{digits}}" if origin >= 0 else _named(rewritten, origin)
                title = f"{first}_{rewritten.copies[row]}_{rewritten.step[row]}.png"
                content = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]
                (folder / name / title).write_bytes(content.data)
                of_row = [] if shares is None else shares[row].tolist()
                lines.writerow([f"{name}/{title}", name, *_provenance(rewritten, row), *of_row])


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
    origins = [_named(dataset, origin) for origin in dataset.origins[row].tolist() if origin != -1]
    return [" ".join(origins), dataset.copies[row], dataset.step[row]]


def _named(dataset: ImageDataset, origin: int) -> str:
    """Return a source row as a number, or the name of what a row from outside comes from."""
    return str(origin) if origin >= 0 else dataset.outside[FIRST_OUTSIDE - origin]


def _chunks(dataset: ImageDataset, written: Written) -> Iterator[tuple[range, NDArray[np.uint8]]]:
    for start in range(0, len(dataset), _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, len(dataset)))
        yield rows, dataset.images[rows.start : rows.stop]
        written(len(rows))


def _names_a_folder(name: str) -> bool:
    """Return whether a class name is a valid, visible folder name on all platforms."""
    return (
        name.isprintable()
        and not (set(name) & set('/\\:*?"<>|'))
        and not name.startswith(".")
        and name == name.strip() != ""
        and len(name.encode()) <= _LONGEST_FILE_NAME
        and not windows_refuses(name)
    )
