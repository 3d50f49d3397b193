"""Memory of reading, auditing and converting against the number of images."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import pytest

from benchmarks.peak_memory import STATUS, peak_memory_of
from benchmarks.side_by_side import SideBySide
from fer_augment import read_data
from fer_augment.cache import CACHE_VARIABLE
from fer_augment.data.audit import audit
from fer_augment.data.npy_format import write_npy_folder

FEW, COUNTS, SIDE = 1_000, (4_000, 16_000), 160
"""1,000 images of 160x160 in color, 77 MB, are enough to be decoded into files of the cache."""

Source: TypeAlias = Callable[[Path, int], Path]
Task: TypeAlias = Callable[[Path, str], None]

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="memory is measured on Linux only")


def images(count: int) -> Iterator[np.ndarray]:
    """Yield different color images, smooth like photographs."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        yield cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def folder_of_files(folder: Path, count: int) -> Path:
    """Write `CLASS/NUMBER.jpg`."""
    for number, image in enumerate(images(count)):
        file = folder / ("cat", "dog")[number % 2] / f"{number:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    return folder


def compressed_npz(folder: Path, count: int) -> Path:
    """Write the same images as one compressed array."""
    folder.mkdir(parents=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, SIDE, SIDE, 3)}
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for image in images(count):
                stream.write(image.tobytes())
        with archive.open("labels.npy", "w") as stream:
            np.lib.format.write_array(stream, np.arange(count) % 2)
    return folder / "a.npz"


def read(source: Path, cache: str) -> None:
    """Read images for the first time, and split them."""
    os.environ[CACHE_VARIABLE] = cache
    read_data(source, progress=False)


def convert(source: Path, cache: str) -> None:
    os.environ[CACHE_VARIABLE] = cache
    write_npy_folder(read_data(source, progress=False), Path(cache, "converted"))


def read_and_audit(source: Path, cache: str) -> None:
    os.environ[CACHE_VARIABLE] = cache
    audit(read_data(source, progress=False))


class Peaks:
    """Peak memory of tasks, measured once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sources: dict[tuple[Source, int], Path] = {}
        self._peaks: dict[tuple[Task, Source, int], float] = {}

    def __call__(self, task: Task, source: Source, count: int) -> float:
        """Return the peak in bytes of a task on a number of images, with an empty cache."""
        if (source, count) not in self._sources:
            self._sources[source, count] = source(self._folder / f"{source.__name__}_{count}", count)
        if (task, source, count) not in self._peaks:
            with tempfile.TemporaryDirectory(dir=self._folder) as cache:
                self._peaks[task, source, count] = peak_memory_of(task, self._sources[source, count], cache)
        return self._peaks[task, source, count]


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> Peaks:
    return Peaks(tmp_path_factory.mktemp("peaks"))


TASKS: dict[str, tuple[Task, Source]] = {
    "reading a folder": (read, folder_of_files),
    "reading and auditing a folder": (read_and_audit, folder_of_files),
    "converting a folder": (convert, folder_of_files),
    "converting a compressed npz file": (convert, compressed_npz),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("task", TASKS)
def test_memory_does_not_grow_with_the_pixels(side_by_side: SideBySide, peaks: Peaks, task: str, count: int) -> None:
    megabytes = count * SIDE * SIDE * 3 / 1e6
    side_by_side.measured_memory(
        f"{task} of {count:,} color images of {SIDE}x{SIDE} ({megabytes:,.0f} MB of pixels) for the first time: memory",
        ours=lambda: peaks(*TASKS[task], count),
        theirs=lambda: peaks(*TASKS[task], FEW),
        alternative=f"{FEW:,} images ({FEW / count:.2g}: linear growth)",
    )
