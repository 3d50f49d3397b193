"""Small data sets, in memory and as files, for all tests that read data."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np

from fer_augment import ImageDataset, Splits

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SPLITS = ("train", "validation", "test")
USAGES = ("Training", "PublicTest", "PrivateTest")
KAGGLE_HEADER = "emotion,pixels,Usage"
ICML_HEADER = "emotion, Usage, pixels"

SQUARE_CLASSES = ("ant", "bee", "cat")
SQUARE_SIDE = 16
SQUARE_COUNTS = {"train": (40, 24, 8), "validation": (12, 9, 6), "test": (10, 8, 6)}

NO_LINKS: Mapping[str, tuple[bytes, str]] = MappingProxyType({})
Row = tuple[int | str, np.ndarray | str, str]
"""Label, pixels and usage of a csv line; strings are written unchanged."""


# --- in memory


def random_images(count, side=4, channels=1, seed=0):
    """Return `(count, side, side, channels) uint8` images without duplicates."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def splits_of(images, labels, sizes, classes=("ant", "bee")) -> Splits:
    """Divide images and labels into train, validation and test of the given sizes, which share one block."""
    whole = ImageDataset.from_arrays(images, labels, classes)
    train, validation, test = (
        ImageDataset.from_arrays(whole.blocks[0], whole.labels[rows], classes, rows=rows)
        for rows in np.split(np.arange(len(whole)), np.cumsum(sizes)[:-1])
    )
    return Splits(train, validation, test, "synthetic")


def squares(label: int, count: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return `(count, 16, 16, channels)` noise with a bright square whose position depends on the class."""
    images = rng.integers(0, 160, (count, SQUARE_SIDE, SQUARE_SIDE, channels), dtype=np.uint8)
    for image in images:
        top, left = rng.integers(0, 4, 2) + 4 * (label % 3)
        image[top : top + 5, left : left + 5] = 255
    return images


# --- csv files


def csv_rows(images, labels, usages) -> list[Row]:
    return list(zip(map(int, labels), images, usages, strict=True))


def small_csv_rows(images=None) -> list[Row]:
    """Return 14 rows without duplicates.

    Training: 4 angry, 2 disgust, 2 happy; PublicTest: 1 angry, 1 disgust, 1 happy; PrivateTest: 2 angry, 1 happy.
    """
    labels = [0, 0, 0, 0, 1, 1, 3, 3] + [0, 1, 3] + [0, 0, 3]
    usages = ["Training"] * 8 + ["PublicTest"] * 3 + ["PrivateTest"] * 3
    return csv_rows(random_images(14) if images is None else images, labels, usages)


def write_csv(path: Path, rows: Sequence[Row], *, header=KAGGLE_HEADER, quoted=False, newline="\n", end="\n") -> Path:
    """Write a csv file with the columns of the header: one of the two above, or with additional columns."""
    lines = [header]
    for label, pixels, usage in rows:
        text = pixels if isinstance(pixels, str) else " ".join(map(str, pixels.ravel()))
        fields = {"emotion": str(label), "Usage": usage, "pixels": f'"{text}"' if quoted else text}
        lines.append(",".join(fields.get(name.strip(), "") for name in header.split(",")))
    path.write_bytes((newline.join(lines) + end).encode())
    return path


# --- tables


def write_table(path: Path, columns: Mapping[str, Sequence[object]], delimiter: str = ",") -> Path:
    """Write columns of equal length as csv, tsv, JSON Lines or parquet, by the suffix; None is no value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else delimiter)
            writer.writerows([list(columns), *rows])
    return path


# --- image files


def encoded(image, suffix=".png") -> bytes:
    """Encode an image, `(H, W)` or `(H, W, C)` in RGB or RGBA."""
    pixels = np.squeeze(image)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return cv2.imencode(suffix, pixels)[1].tobytes()


def split_files(splits: dict[str, int], classes=("cat", "dog"), side=4, channels=1, suffix=".png") -> dict[str, bytes]:
    """Return `split/class/NUMBER` files; `splits` maps each split to its number of images per class."""
    images = iter(random_images(sum(splits.values()) * len(classes), side, channels))
    return {
        f"{split}/{name}/{number}{suffix}": encoded(next(images), suffix)
        for split, count in splits.items()
        for name in classes
        for number in range(count)
    }


def release(per_class=2, side=4, classes: Sequence[str] = FER2013_CLASSES) -> dict[str, bytes]:
    """Return files in the layout of the FER2013 image release: `per_class` images of each class and split."""
    images = iter(random_images(3 * len(classes) * per_class, side))
    return {
        f"{folder}/{name}/{usage}_{number}.png": encoded(next(images))
        for folder, usage in (("train", "Training"), ("test", "PublicTest"), ("test", "PrivateTest"))
        for name in classes
        for number in range(per_class)
    }


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(
    path: Path, files: Mapping[str, bytes], links: Mapping[str, tuple[bytes, str]] = MappingProxyType({})
) -> Path:
    """Write files, and links with their type and target; the suffix determines the compression."""
    mode: Any = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, (kind, target) in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def write_squares(folder: Path, *, classes: Sequence[str] = SQUARE_CLASSES, channels: int = 1) -> Path:
    """Write `squares` as `split/class/NUMBER.png`; any classes after the third are as small as the third."""
    rng = np.random.default_rng(0)
    for split, counts in SQUARE_COUNTS.items():
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number, image in enumerate(squares(label, counts[min(label, 2)], channels, rng)):
                cv2.imwrite(str(folder / split / name / f"{number:02}.png"), image)
    return folder


# --- npy folders


def write_npy(path: Path, arrays: Mapping[str, np.ndarray], classes: Sequence[str] | None = None) -> Path:
    """Write `NAME.npy` for each array and, if classes are given, `classes.json`."""
    path.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    if classes is not None:
        (path / "classes.json").write_text(json.dumps(list(classes)))
    return path


# --- other files of arrays

MNIST_IMAGES, MNIST_LABELS = random_images(40, side=28)[..., 0], np.arange(40, dtype=np.uint8) % 10
IDX_TYPES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> Path:
    function: Any = np.savez_compressed if compressed else np.savez
    function(path, **arrays)
    return path


def idx(array: np.ndarray) -> bytes:
    """Return an array in the idx format of MNIST."""
    header = bytes([0, 0, IDX_TYPES[array.dtype.str[1:]], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files, those with the suffix `.gz` compressed."""
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def mnist(prefix="", suffix="", test="t10k", separator="-") -> dict[str, bytes]:
    """Return idx files of 40 training and 40 test images, the same ones, under the names of the MNIST family."""
    return {
        f"{prefix}{split}-{content}{separator}idx{array.ndim}-ubyte{suffix}": idx(array)
        for split in ("train", test)
        for content, array in (("images", MNIST_IMAGES), ("labels", MNIST_LABELS))
    }
