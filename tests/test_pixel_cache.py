"""Decoded pixels are kept on disk if they are many, found again, and bounded."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fer_augment as fa
from fer_augment.cache import Entry, delete
from fer_augment.data import pixel_cache
from fer_augment.data.decoded_files import FILES_AT_ONCE, Destination
from fer_augment.data.pixel_blocks import PixelBlock
from fer_augment.data.pixel_cache import StoredPixels, decoded_block
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import DatasetError
from tests.data_files import encoded, random_images, split_files, write_folder

COUNT = 5 * FILES_AT_ONCE + 3
IMAGES = random_images(COUNT, 8)


@dataclass
class Content:
    """Content of files, which counts how often each is read."""

    reads: list[int] = field(default_factory=list)
    images: np.ndarray = field(default_factory=lambda: IMAGES)
    fails_at: int = COUNT

    def files(self, version: str = "1") -> list[fa.ImageFile]:
        return [fa.ImageFile(f"{row}.png", self.reader(row), version) for row in range(len(self.images))]

    def reader(self, row: int) -> Callable[[], bytes]:
        def read() -> bytes:
            if row == self.fails_at:
                raise KeyboardInterrupt
            self.reads.append(row)
            return encoded(self.images[row])

        return read


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pixel_cache, "CACHED_FROM", 1)
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
    return tmp_path / "pixels"


def decoded(content: Content, version: str = "1", size: tuple[int, int] | None = None) -> StoredPixels:
    return decoded_block("faces", content.files(version), PixelSettings(size), lambda done, total: None)


def test_a_second_start_reads_no_file() -> None:
    content = Content()
    first = decoded(content)
    reads = len(content.reads)
    second = decoded(content)
    assert len(content.reads) == reads
    for block in (first.block, second.block):
        np.testing.assert_array_equal(block.pixels, IMAGES)
        assert block.path is not None
        np.testing.assert_array_equal(block.row_digests, fa.PixelBlock.of(IMAGES).row_digests)


def test_other_files_versions_and_settings_are_decoded_anew(folder: Path) -> None:
    content = Content()
    decoded(content)
    decoded(content, version="2")
    decoded(content, size=(4, 4))
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 3


def test_interrupted_decoding_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, flushed = Content(fails_at=3 * FILES_AT_ONCE + 5), list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(np.memmap, "flush", lambda array: flushed.append(Path(array.filename).name))
        with pytest.raises(KeyboardInterrupt):
            decoded(content)
    assert flushed == ["pixels.npy", "conversions.npy"], "they are on the disk before they count as decoded"
    (partial,) = (path for path in folder.iterdir() if path.is_dir())
    assert partial.suffix == ".partial"
    (partial / "pixels.npy.digests.npy").write_bytes(b"cut short")
    content.fails_at = COUNT
    content.reads.clear()
    np.testing.assert_array_equal(decoded(content).block.pixels, IMAGES)
    assert sorted(set(content.reads) - {0}) == list(range(3 * FILES_AT_ONCE, COUNT))
    assert [path.suffix for path in folder.iterdir()] == [""]


def test_gray_files_before_a_color_file_are_decoded_again_as_color() -> None:
    class Mixed(Content):
        def reader(self, row: int) -> Callable[[], bytes]:
            return lambda: encoded(random_images(1, 8, 3)[0] if row == COUNT - 1 else IMAGES[row])

    result = decoded(Mixed())
    assert result.block.pixels.shape == (COUNT, 8, 8, 3)
    np.testing.assert_array_equal(result.block.pixels[0], np.repeat(IMAGES[0], 3, axis=2))
    assert decoded(Mixed()).notes == result.notes != ()


def test_interrupted_decoding_of_gray_and_color_files_goes_on(folder: Path) -> None:
    color = random_images(1, 8, 3)[0]

    class Mixed(Content):
        def reader(self, row: int) -> Callable[[], bytes]:
            read = super().reader(row)
            return lambda: encoded(color) if read() and row == FILES_AT_ONCE else encoded(self.images[row])

    content = Mixed(fails_at=3 * FILES_AT_ONCE + 5)
    with pytest.raises(KeyboardInterrupt):
        decoded(content)
    content.fails_at = COUNT
    content.reads.clear()
    pixels = decoded(content).block.pixels
    assert sorted(set(content.reads) - {0}) == list(range(3 * FILES_AT_ONCE, COUNT))
    expected = np.repeat(IMAGES, 3, axis=3)
    expected[FILES_AT_ONCE] = color
    np.testing.assert_array_equal(pixels, expected)
    assert [path.suffix for path in folder.iterdir()] == [""]


def test_decoding_as_color_begins_after_the_gray_arrays_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows deletes no file that is mapped."""
    made: list[weakref.ref[np.ndarray]] = []
    on_disk = pixel_cache._on_disk

    def recorded(*arguments: Any, **options: Any) -> Destination:
        assert not [array for array in made if array() is not None]
        into = on_disk(*arguments, **options)
        made.append(weakref.ref(into.pixels))
        return into

    class Mixed(Content):
        def reader(self, row: int) -> Callable[[], bytes]:
            return lambda: encoded(random_images(1, 8, 3)[0] if row == COUNT - 1 else IMAGES[row])

    monkeypatch.setattr(pixel_cache, "_on_disk", recorded)
    decoded(Mixed())
    assert len(made) == 2


def test_a_file_that_cannot_be_decoded_is_decoded_again_when_it_is_repaired() -> None:
    class Damaged(Content):
        def reader(self, row: int) -> Callable[[], bytes]:
            return (lambda: b"damaged") if row == self.fails_at else super().reader(row)

    content = Damaged(fails_at=FILES_AT_ONCE)
    with pytest.raises(fa.DatasetError, match=f"{FILES_AT_ONCE}.png"):
        decoded(content)
    content.fails_at = COUNT
    np.testing.assert_array_equal(decoded(content).block.pixels, IMAGES)


def test_the_least_recently_used_are_deleted_beyond_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE_LIMIT", str(3 * IMAGES.nbytes / 1e9))
    content = Content()
    for number, version in enumerate("ab"):
        decoded(content, version)
        (newest,) = (path for path in folder.iterdir() if path.stat().st_mtime > 1_000_000)
        os.utime(newest, (number, number))
    decoded(content, "a")  # is used again, so that b is the oldest
    reads = len(content.reads)
    decoded(content, "c")
    decoded(content, "a")
    assert len(content.reads) == reads + COUNT + 1, "c alone was decoded; its first file is read for the shape, too"
    decoded(content, "b")
    assert len(content.reads) > reads + 2 * COUNT
    monkeypatch.setenv("FER_AUGMENT_CACHE_LIMIT", "much")
    with pytest.raises(fa.DatasetError, match="FER_AUGMENT_CACHE_LIMIT: must be a number of GB"):
        decoded(content, "d")


def test_pixels_that_are_in_use_are_not_deleted_beyond_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE_LIMIT", str(1.5 * IMAGES.nbytes / 1e9))
    first = decoded(Content())
    second = decoded(Content(), "2")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first.block)).pixels, second.block.pixels)
    del first
    decoded(Content(), "3")
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2


def test_what_an_interrupted_process_decoded_is_deleted_beyond_the_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        decoded(Content(fails_at=3 * FILES_AT_ONCE + 5))
    (partial,) = folder.glob("*.partial")
    os.utime(partial, (0, 0))
    monkeypatch.setenv("FER_AUGMENT_CACHE_LIMIT", str(2 * IMAGES.nbytes / 1e9))
    decoded(Content(), "other")
    assert [path.suffix for path in folder.iterdir() if path.is_dir()] == [""]


def test_a_full_disk_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage(free=9))
    with pytest.raises(fa.DatasetError, match=r"decoded pixels need 0\.0 GB, but 0\.0 GB are free"):
        decoded(Content())


@dataclass
class _Usage:
    free: int


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", "/proc/cache")
    with pytest.raises(fa.DatasetError, match=r"/proc/cache/pixels/.*cannot be used \(.*FER_AUGMENT_CACHE"):
        decoded(Content())


def test_few_pixels_stay_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "CACHED_FROM", IMAGES.nbytes + 1)
    assert decoded(Content()).block.path is None
    assert not folder.exists()


def test_few_pixels_stay_in_memory_if_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the limit of small sets
    (tmp_path / "file").touch()
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "file"))
    files = Content().files()
    stored = decoded_block("faces", files, PixelSettings(), lambda done, total: None, cached_from=0)
    np.testing.assert_array_equal(stored.block.pixels, IMAGES)


@pytest.mark.parametrize("remains", [True, False])
def test_pixels_that_another_process_deletes_while_they_are_opened_are_made_again(
    folder: Path, remains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded(Content())
    (kept,) = folder.iterdir()
    read = PixelBlock.open

    def open_deleted(path: Path) -> PixelBlock:
        monkeypatch.setattr(PixelBlock, "open", read)
        delete(Entry("pixels", kept, 0, 0.0))
        if remains:
            return read(path)
        raise DatasetError("not a readable .npy file")

    monkeypatch.setattr(PixelBlock, "open", open_deleted)
    np.testing.assert_array_equal(decoded(Content()).block.pixels, IMAGES)
    assert list(folder.iterdir()) == [kept]


def test_few_pixels_of_many_files_are_cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "CACHED_FROM", IMAGES.nbytes + 1)
    monkeypatch.setattr(pixel_cache, "FILES_CACHED_FROM", len(IMAGES))
    content = Content()
    first = decoded(content).block
    reads = len(content.reads)
    second = decoded(content).block
    assert len(content.reads) == reads
    assert [path.is_dir() for path in folder.iterdir()] == [True]
    shutil.rmtree(folder)  # small sets are read into memory, and so are sent by value to other processes and machines
    for block in (first, second, pickle.loads(pickle.dumps(second))):
        assert block.path is None
        np.testing.assert_array_equal(block.pixels, IMAGES)


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def _zeroed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-50:] = bytes(50)
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["pixels.npy", "pixels.npy.digests.npy", "notes.json"])
@pytest.mark.parametrize("damage", [_emptied, _cut, _zeroed])
@pytest.mark.parametrize("is_small", [True, False])
def test_damaged_files_are_named(
    name: str, damage: Callable[[Path], None], is_small: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "CACHED_FROM", IMAGES.nbytes + is_small)
    monkeypatch.setattr(pixel_cache, "FILES_CACHED_FROM", len(IMAGES))
    decoded(Content())
    (made,) = folder.iterdir()
    damage(made / name)
    if damage is _zeroed and not is_small and name != "notes.json":
        return  # pixels of large sets are not read to open them
    with pytest.raises(fa.DatasetError, match=rf"^{re.escape(str(made))}: pixels in the cache are damaged; delete"):
        decoded(Content())


def test_what_another_process_decodes_meanwhile_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, other = pixel_cache._locked, Content()

    @contextmanager
    def locked(place: Path) -> Iterator[None]:
        monkeypatch.setattr(pixel_cache, "_locked", lock)
        decoded(other)
        with lock(place):
            yield

    monkeypatch.setattr(pixel_cache, "_locked", locked)
    content = Content()
    np.testing.assert_array_equal(decoded(content).block.pixels, IMAGES)
    assert len(content.reads) < len(IMAGES) <= len(other.reads)
    assert [path.suffix for path in folder.iterdir()] == [""]


def test_another_version_of_a_decoder_decodes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded(Content())
    monkeypatch.setattr(pixel_cache, "version", lambda name: "99.0")
    content = Content()
    decoded(content)
    assert len(set(content.reads)) == COUNT


def test_folders_with_files_of_equal_names_sizes_and_times_are_told_apart(tmp_path: Path) -> None:
    sources = list[fa.Splits]()
    for number in range(2):
        source = tmp_path / f"source {number}"
        for name in ("train/a/0.bmp", "train/b/0.bmp", "val/a/0.bmp", "val/b/0.bmp", "test/a/0.bmp", "test/b/0.bmp"):
            file = source / name
            file.parent.mkdir(parents=True)
            level = 10 * number + len(sources) + sum(name.encode()) % 9
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(file)
            os.utime(file, (0, 0))
        sources.append(fa.read_data(source, progress=False))
    assert sources[0].train.images[:].max() < sources[1].train.images[:].min()


def test_a_folder_gives_the_same_data_cached_or_not(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "source", split_files({"train": 40, "val": 9, "test": 9}))
    cached = fa.read_data(source, progress=False)
    assert [path.is_dir() for path in folder.iterdir()] == [True]
    monkeypatch.setattr(pixel_cache, "CACHED_FROM", 1 << 30)
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "other"))
    assert fa.read_data(source, progress=False).fingerprint == cached.fingerprint
