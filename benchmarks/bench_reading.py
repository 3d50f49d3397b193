"""Reading data: a csv file, a converted folder, images in a zip archive, and a folder of photographs."""

from __future__ import annotations

import io
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from benchmarks.samples import sample
from benchmarks.side_by_side import SideBySide
from fer_augment import Splits, read_data
from fer_augment.cache import CACHE_VARIABLE
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


# --- a folder of photographs, decoded for the first time

PHOTO_HEIGHT, PHOTO_WIDTH = 384, 512
COPIES = 2
"""So often each of TrashNet's 330 photographs is in the folder, which makes 390 MB of pixels."""
WORKERS = 2


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder `SPLIT/CLASS/*.jpg` of TrashNet's photographs of 512x384, or of generated images."""
    folder = tmp_path_factory.mktemp("photographs") / "images"
    for number, (name, content) in enumerate(_photographs()):
        for copy in range(COPIES):
            file = folder / ("train", "train", "val", "test")[number % 4] / name / f"{number:03}_{copy}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return folder


def _photographs() -> Iterator[tuple[str, bytes]]:
    """Yield classes and jpg files."""
    source = os.environ.get("TRASHNET")
    if source:
        with zipfile.ZipFile(Path(source, "trashnet_small.zip")) as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(".jpg")):
                yield Path(name).parent.name, archive.read(name)
        return
    rng = np.random.default_rng(0)
    for number in range(330):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (PHOTO_WIDTH, PHOTO_HEIGHT), interpolation=cv2.INTER_CUBIC)
        image = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        yield ("cat", "dog")[number % 2], encoded(image, ".jpg")


def first_reading(folder: Path, side: int | None) -> None:
    """Read a folder with an empty cache, in one color and size."""
    with tempfile.TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, cache)
        splits = read_data(folder, size=side, progress=False)
        assert sum(map(len, splits.parts.values())) == len(list(folder.glob("*/*/*")))


def with_pillow_loop(folder: Path, side: int | None) -> np.ndarray:
    """Decode the files one after another."""
    return np.stack([np.asarray(_fitted(Image.open(file), side)) for file in sorted(folder.glob("*/*/*"))])


def _fitted(image: Image.Image, side: int | None) -> Image.Image:
    """Crop and scale a photograph to a square, as torchvision's Resize and CenterCrop do."""
    color = image.convert("RGB")
    return color if side is None else ImageOps.fit(color, (side, side), Image.Resampling.BILINEAR)


class PillowFiles(torch.utils.data.Dataset[torch.Tensor]):
    """Image files that are decoded as torchvision's ImageFolder does."""

    def __init__(self, folder: Path, side: int | None) -> None:
        self._files, self._side = sorted(folder.glob("*/*/*")), side

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self._files[row]) as image:
            return torch.from_numpy(np.array(_fitted(image, self._side)))


def with_data_loader(folder: Path, side: int | None) -> None:
    """Decode the files in the worker processes of PyTorch."""
    dataset = PillowFiles(folder, side)
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, num_workers=WORKERS)
    assert sum(len(batch) for batch in loader) == len(dataset)


def with_torchvision(folder: Path, side: int | None) -> None:
    """Decode the files with torchvision's ImageFolder, in worker processes."""
    transforms, datasets = torchvision_modules()
    fit = [] if side is None else [transforms.Resize(side), transforms.CenterCrop(side)]
    transform = transforms.Compose([*fit, transforms.PILToTensor()])
    parts = [datasets.ImageFolder(split, transform) for split in sorted(folder.iterdir())]
    for part in parts:
        for _ in torch.utils.data.DataLoader(part, batch_size=64, num_workers=WORKERS):
            pass


def torchvision_modules() -> tuple[Any, Any]:
    try:
        from torchvision import datasets, transforms
    except (ImportError, RuntimeError) as error:  # RuntimeError: a build for another build of torch
        pytest.skip(f"torchvision cannot be imported beside torch {torch.__version__}: {error}")
    return transforms, datasets


def with_hugging_face(folder: Path, side: int | None) -> None:
    """Decode the files with Hugging Face datasets, as its imagefolder gives them."""
    datasets = hugging_face_datasets()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        for part in datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=cache).values():
            for row in part:
                np.asarray(_fitted(row["image"], side))


def hugging_face_datasets() -> Any:
    return pytest.importorskip("datasets", reason="Hugging Face datasets is not installed (extra: bench)")


NEEDS: dict[Any, tuple[Callable[[], Any], ...]] = {
    with_torchvision: (torchvision_modules,),
    with_hugging_face: (hugging_face_datasets,),
}
"""What an alternative needs; missing libraries skip it."""


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("side", [None, 224, 96])
@pytest.mark.parametrize(
    ("alternative", "read_folder"),
    [
        ("a loop with Pillow", with_pillow_loop),
        (f"Pillow in a DataLoader with {WORKERS} workers", with_data_loader),
        (f"torchvision's ImageFolder in a DataLoader with {WORKERS} workers", with_torchvision),
        ("Hugging Face datasets, imagefolder", with_hugging_face),
    ],
    ids=["pillow", "data loader", "torchvision", "hugging face"],
)
def test_folder_of_photographs(
    side_by_side: SideBySide, photographs: Path, alternative: str, read_folder: Any, side: int | None
) -> None:
    for needed in NEEDS.get(read_folder, ()):
        needed()
    size = f"in {PHOTO_WIDTH}x{PHOTO_HEIGHT}" if side is None else f"scaled to {side}x{side}"
    side_by_side(
        f"reading a folder of {PHOTO_WIDTH}x{PHOTO_HEIGHT} color jpg files for the first time, {size}",
        ours=lambda: first_reading(photographs, side),
        theirs=lambda: read_folder(photographs, side),
        alternative=alternative,
        n=5,
        at_least=2.0,
    )
