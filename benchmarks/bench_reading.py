"""Reading data: a csv file, a converted folder, and images in a zip archive."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.samples import sample
from benchmarks.side_by_side import SideBySide
from fer_augment import Splits
from fer_augment.data.npy_format import write_npy_folder
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.data_files import csv_rows, encoded, write_csv, write_zip

ROWS_OF_EACH_SPLIT = 1_000
PHOTOS, SIDE = 240, 224
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}


def read(source: Path) -> Splits:
    return installed_plugins().read(str(source))


@pytest.fixture(scope="module")
def csv_file(faces: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = {name: sample(part, ROWS_OF_EACH_SPLIT) for name, part in faces.parts.items()}
    rows = [
        row
        for name, part in chosen.items()
        for row in csv_rows(part.images[:], part.labels, [USAGES[name]] * len(part))
    ]
    return write_csv(tmp_path_factory.mktemp("csv") / "faces.csv", rows)


@pytest.fixture(scope="module")
def converted(faces: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "faces"
    write_npy_folder(faces, folder)
    return folder


def read_with_pandas(csv_file: Path, pixels_of: Callable[[str], Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the file with pandas and convert the text of the pixels row by row."""
    table = pd.read_csv(csv_file)
    images = np.stack([pixels_of(text) for text in table["pixels"]]).reshape(-1, 48, 48)
    labels = table["emotion"].to_numpy()
    return {usage: (images[rows], labels[rows]) for usage in USAGES.values() for rows in [table["Usage"] == usage]}


@pytest.mark.parametrize(
    ("alternative", "pixels_of"),
    [
        ("pandas and np.fromstring per row", lambda text: np.fromstring(text, dtype=np.uint8, sep=" ")),
        ("pandas and np.array(text.split()) per row", lambda text: np.array(text.split(), dtype=np.uint8)),
    ],
    ids=["fromstring", "split"],
)
def test_csv_file(side_by_side: SideBySide, csv_file: Path, alternative: str, pixels_of: Callable[[str], Any]) -> None:
    assert (read_with_pandas(csv_file, pixels_of)["Training"][0][..., None] == read(csv_file).train.images[:]).all()
    side_by_side(
        "reading a csv file of 48x48 images",
        ours=lambda: read(csv_file),
        theirs=lambda: read_with_pandas(csv_file, pixels_of),
        alternative=alternative,
        at_least=3.0,
    )


def test_converted_folder_against_numpy(side_by_side: SideBySide, converted: Path) -> None:
    side_by_side(
        "opening a converted data set",
        ours=lambda: read(converted),
        theirs=lambda: [np.load(file) for file in converted.glob("*.npy")],
        alternative="np.load of the same files",
        n=15,
        at_most=0.05,
    )


def test_converted_folder_against_csv_file(side_by_side: SideBySide, csv_file: Path, tmp_path: Path) -> None:
    write_npy_folder(read(csv_file), tmp_path / "converted")
    side_by_side(
        "opening a converted data set",
        ours=lambda: read(tmp_path / "converted"),
        theirs=lambda: read_with_pandas(csv_file, lambda text: np.fromstring(text, dtype=np.uint8, sep=" ")),
        alternative="reading the csv file with pandas and np.fromstring",
        n=5,
    )


def read_with_pillow(archive: Path) -> np.ndarray:
    with zipfile.ZipFile(archive) as file:
        names = sorted(file.namelist())
        return np.stack([np.asarray(Image.open(io.BytesIO(file.read(name)))) for name in names])


def read_with_opencv(archive: Path) -> np.ndarray:
    """Decode the images of a zip archive; color channels are in BGR order."""
    with zipfile.ZipFile(archive) as file:
        contents = [np.frombuffer(file.read(name), np.uint8) for name in sorted(file.namelist())]
        return np.stack([cv2.imdecode(content, cv2.IMREAD_UNCHANGED) for content in contents])


@pytest.fixture(scope="module")
def small_images(faces: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a zip archive of 3,000 gray jpg files."""
    return _zip_of(faces.train.images[:3000], tmp_path_factory)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a zip archive of color jpg files, smooth with some noise, like photos."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (PHOTOS, 8, 8, 3), dtype=np.uint8)
    smooth = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for image in coarse])
    return _zip_of(np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8), tmp_path_factory)


def _zip_of(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = ("train", "train", "train", "validation", "test")
    files = {
        f"{splits[number % 5]}/{('cat', 'dog')[number % 2]}/{number:05}.jpg": encoded(image, ".jpg")
        for number, image in enumerate(images)
    }
    return write_zip(tmp_path_factory.mktemp("zip") / "images.zip", files)


@pytest.mark.parametrize(
    ("alternative", "read_archive"),
    [("a loop with Pillow", read_with_pillow), ("a loop with OpenCV", read_with_opencv)],
)
def test_zip_of_small_gray_images(
    side_by_side: SideBySide, small_images: Path, alternative: str, read_archive: Any
) -> None:
    side_by_side(
        "reading a zip archive of 48x48 gray jpg files",
        ours=lambda: read(small_images),
        theirs=lambda: read_archive(small_images),
        alternative=alternative,
    )


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize(
    ("alternative", "read_archive"),
    [("a loop with Pillow", read_with_pillow), ("a loop with OpenCV", read_with_opencv)],
)
def test_zip_of_photos(side_by_side: SideBySide, photos: Path, alternative: str, read_archive: Any) -> None:
    side_by_side(
        f"reading a zip archive of {SIDE}x{SIDE} color jpg files",
        ours=lambda: read(photos),
        theirs=lambda: read_archive(photos),
        alternative=alternative,
        n=9,
    )
