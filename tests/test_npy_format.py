"""Writing of npy folders; reading is tested in test_npy_reader.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fer_augment.data.dataset import ImageDataset, SourceRows, Splits
from fer_augment.data.npy_format import (
    CLASSES_FILE,
    SETTINGS_FILE,
    images_file,
    is_npy_folder,
    labels_file,
    write_npy_folder,
)
from fer_augment.data.pixels import PixelSettings
from fer_augment.errors import DatasetError
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.data_files import random_images

CLASSES = ("wütend", "fröhlich")


def three_splits(train: ImageDataset) -> Splits:
    return Splits(train, train.take([0, 1]), train.take([1]), "synthetic")


def source_rows() -> ImageDataset:
    return ImageDataset.from_arrays(random_images(5, channels=3), [0, 1, 1, 0, 1], CLASSES)


def test_numpy_reads_the_files(tmp_path: Path) -> None:
    write_npy_folder(three_splits(source_rows()), tmp_path / "npy")

    images, labels = (np.load(tmp_path / "npy" / name("training")) for name in (images_file, labels_file))
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert_array_equal(images, random_images(5, channels=3))
    assert labels.tolist() == [0, 1, 1, 0, 1]
    assert json.loads((tmp_path / "npy" / CLASSES_FILE).read_text(encoding="utf-8")) == list(CLASSES)


@pytest.mark.parametrize("bytes_at_once", [1, 100, 1 << 24])
def test_rows_of_several_blocks_are_written_in_order_in_chunks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_at_once: int
) -> None:
    monkeypatch.setattr("fer_augment.data.npy_format._BYTES_AT_ONCE", bytes_at_once)
    train = source_rows().append(random_images(2, channels=3, seed=1), parents=[0, 1]).take([6, 0, 5, 0])
    write_npy_folder(three_splits(train), tmp_path / "npy")

    assert_array_equal(np.load(tmp_path / "npy" / images_file("training")), train.images[:])
    assert_array_equal(np.load(tmp_path / "npy" / images_file("test")), train.images[[1]])


def test_what_folds_keep_together_is_written_and_read(tmp_path: Path) -> None:
    rows = source_rows()
    train = replace(rows, sources=SourceRows(near=np.array([3, 4, 3, 6, 7])))
    splits = replace(three_splits(train), keeps_near_duplicates=False, is_rewritten=True)
    write_npy_folder(splits, tmp_path / "npy")
    again = installed_plugins().read(str(tmp_path / "npy"))
    assert (again.keeps_near_duplicates, again.is_rewritten) == (False, True)
    near = [
        part.sources.near.tolist() for part in again.parts.values() if part.sources and part.sources.near is not None
    ]
    assert near == [[3, 4, 3, 6, 7], [3, 4], [4]]
    write_npy_folder(three_splits(rows), tmp_path / "usual")
    assert not (tmp_path / "usual" / SETTINGS_FILE).exists()


def test_how_images_were_fitted_is_written_and_read(tmp_path: Path) -> None:
    pixels = PixelSettings((4, 4), "pad")
    write_npy_folder(replace(three_splits(source_rows()), pixels=pixels), tmp_path / "npy")
    opened = installed_plugins().open(str(tmp_path / "npy"))
    assert opened.splits(PixelSettings(), lambda done, total: None).pixels == pixels
    assert opened.splits(PixelSettings((8, 8)), lambda done, total: None).pixels == PixelSettings((8, 8), "pad")
    settings = json.loads((tmp_path / "npy" / SETTINGS_FILE).read_text(encoding="utf-8"))
    for other in ({"size": [5, 5]}, {"size": "large"}, {"size": [4, 4], "fit": "bend"}):
        (tmp_path / "npy" / SETTINGS_FILE).write_text(json.dumps(settings | other), encoding="utf-8")
        assert installed_plugins().read(str(tmp_path / "npy")).pixels == PixelSettings()


@pytest.mark.parametrize("kind", ["folder", "file", "link to nothing"])
def test_existing_files_are_not_overwritten(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "npy"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("kept")
    else:
        target.symlink_to(tmp_path / "nothing")

    with pytest.raises(DatasetError, match="npy: already exists; choose another folder or remove it"):
        write_npy_folder(three_splits(source_rows()), target)
    assert kind != "file" or target.read_text() == "kept"


def test_write_errors_include_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be written \(File name too long\)"):
        write_npy_folder(three_splits(source_rows()), tmp_path / ("n" * 300))


def test_npy_folders_are_recognized_ignoring_case(tmp_path: Path) -> None:
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "x_Training.NPY").touch()
    (tmp_path / "no").mkdir()
    for name in ("Y_training.npy", "X_training.txt", "training.npy"):
        (tmp_path / "no" / name).touch()

    assert is_npy_folder(tmp_path / "yes")
    for other in (tmp_path / "no", tmp_path / "missing", tmp_path / "no" / "training.npy", "", "a\0b"):
        assert not is_npy_folder(other)
