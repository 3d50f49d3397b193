"""Tiny data sources on disk, for tests of whatever reads them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = ("Training", "PublicTest", "PrivateTest")
KAGGLE_HEADER = "emotion,pixels,Usage"
ICML_HEADER = "emotion, Usage, pixels"

Row = tuple[int | str, np.ndarray | str, str]
"""Label, pixels and usage of a csv line; strings are written as they are."""


def random_images(count, side=4, channels=1, seed=0):
    """Return `(count, side, side, channels) uint8` images that all differ."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def csv_rows(images, labels, usages) -> list[Row]:
    return list(zip(map(int, labels), images, usages, strict=True))


def write_csv(path: Path, rows: Sequence[Row], *, header=KAGGLE_HEADER, quoted=False, newline="\n", end="\n") -> Path:
    """Write a csv file in the layout of the header, which is one of the two above or has further columns."""
    lines = [header]
    for label, pixels, usage in rows:
        text = pixels if isinstance(pixels, str) else " ".join(map(str, pixels.ravel()))
        fields = {"emotion": str(label), "Usage": usage, "pixels": f'"{text}"' if quoted else text}
        lines.append(",".join(fields.get(name.strip(), "") for name in header.split(",")))
    path.write_bytes((newline.join(lines) + end).encode())
    return path


def encoded(image, suffix=".png") -> bytes:
    """Return an image, `(H, W)` or `(H, W, C)` in RGB or RGBA, as the content of a file."""
    pixels = np.squeeze(image)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return cv2.imencode(suffix, pixels)[1].tobytes()


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


def write_npy(path: Path, arrays: Mapping[str, np.ndarray], classes: Sequence[str] | None = None) -> Path:
    """Write `NAME.npy` for each array and, if classes are given, `classes.json`."""
    path.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    if classes is not None:
        (path / "classes.json").write_text(json.dumps(list(classes)))
    return path
