"""Exported training sets are read back by other programs and by the built-in readers."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fer_augment import DatasetError, ImageDataset, Splits
from fer_augment.data.cross_validation import CrossValidation, Folds
from fer_augment.data.export import FORMATS, refuse_unfit, rows_to_write, write_export
from fer_augment.data.pixels import PixelSettings
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.data_files import FER2013_CLASSES, random_images

ROWS = {"train": 21, "validation": 8, "test": 9}


def source_splits(classes=FER2013_CLASSES, shape=(12, 12, 1)) -> Splits:
    parts = {
        name: ImageDataset.from_arrays(
            random_images(rows, seed=number, side=20)[:, : shape[0], : shape[1], :1].repeat(shape[2], axis=3)
            ^ np.arange(shape[2], dtype=np.uint8),
            np.arange(rows) % len(classes),
            classes,
        )
        for number, (name, rows) in enumerate(ROWS.items())
    }
    return Splits(parts["train"], parts["validation"], parts["test"], "synthetic")


def rewritten_from(splits: Splits) -> ImageDataset:
    """Drop a row, mirror two, interpolate two, and repeat one: every kind of provenance."""
    train = splits.train.without([4])
    mirrored = train.append(train.images[[0, 7]][:, :, ::-1], parents=[0, 7]).stamped(1)
    pair = mirrored.images[[2, 3]].mean(axis=0).astype(np.uint8)
    interpolated = mirrored.append(pair[None], parents=[[2, 3]]).stamped(2)
    return interpolated.take([*range(len(interpolated)), 5]).stamped(3)


def export(form: str, splits: Splits, folder: Path) -> Path:
    """Write the rewritten training set and check the reported number of rows."""
    rewritten = rewritten_from(splits)
    row_counts: list[int] = []
    refuse_unfit([form], splits)
    name = write_export(form, rewritten, splits, folder, row_counts.append)
    assert sum(row_counts) == rows_to_write(form, rewritten, splits)
    return folder / name


def by_pixels(dataset: ImageDataset) -> list[tuple[bytes, str]]:
    """Return sorted pairs of pixels and class name."""
    names = [dataset.class_names[label] for label in dataset.labels]
    return sorted(zip((image.tobytes() for image in dataset.images[:]), names, strict=True))


@pytest.fixture(params=[1, 5, 10_000], ids=["one at a time", "a few at a time", "all at once"])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_augment.data.export._ROWS_AT_ONCE", request.param)
    monkeypatch.setattr("fer_augment.data.npy_format._BYTES_AT_ONCE", request.param * 144)


@pytest.mark.usefixtures("rows_at_once")
class TestEveryFormat:
    def test_npz_contains_all_arrays_without_pickling(self, tmp_path: Path) -> None:
        splits = source_splits()
        rewritten = rewritten_from(splits)

        with np.load(export("npz", splits, tmp_path), allow_pickle=False) as arrays:
            assert set(arrays) == {"images", "labels", "origins", "copies", "step", "class_names"}
            for name in ("labels", "origins", "copies", "step"):
                assert np.array_equal(arrays[name], getattr(rewritten, name))
            assert np.array_equal(arrays["images"], rewritten.images[:])
            assert tuple(arrays["class_names"]) == FER2013_CLASSES

    @pytest.mark.parametrize("shape", [(12, 12, 1), (12, 9, 3)], ids=["gray", "color"])
    def test_folders_are_read_back_by_the_image_reader(self, tmp_path: Path, shape: tuple[int, int, int]) -> None:
        splits = source_splits(shape=shape)

        source = str(export("folder", splits, tmp_path))
        with pytest.raises(DatasetError, match=r"provenance.csv: is a rewritten training set, whose augmented copies"):
            installed_plugins().read(source)
        for form, root, inside in (("zip", source, "."), ("tar", Path(source).parent, Path(source).name)):
            archive = shutil.make_archive(str(tmp_path / "packed"), form, root, inside)
            with pytest.raises(DatasetError, match=r"provenance.csv: is a rewritten training set"):
                installed_plugins().read(archive)
        read = installed_plugins().open(source, reader="image_files").splits(PixelSettings(), lambda done, total: None)

        assert read.class_names == FER2013_CLASSES
        rows = sorted(row for part in read.parts.values() for row in by_pixels(part))
        assert rows == by_pixels(rewritten_from(splits))

    def test_csv_can_replace_the_source(self, tmp_path: Path) -> None:
        splits = source_splits()
        rewritten = rewritten_from(splits)

        read = installed_plugins().read(str(export("csv", splits, tmp_path)))

        assert read.validation.fingerprint == splits.validation.fingerprint
        assert read.test.fingerprint == splits.test.fingerprint
        assert np.array_equal(read.train.images[:], rewritten.images[:])
        assert np.array_equal(read.train.labels, rewritten.labels)
        with pytest.raises(DatasetError, match="augmented copies would leak into held-out folds"):
            Folds.of(read, CrossValidation(2, 1))


def test_pandas_reads_csv_with_provenance_columns(tmp_path: Path) -> None:
    splits = source_splits()
    rewritten = rewritten_from(splits)

    table = pd.read_csv(export("csv", splits, tmp_path), dtype={"origins": str})

    assert list(table) == ["emotion", "pixels", "Usage", "origins", "copies", "step"]
    train = table[table.Usage == "Training"]
    assert train.step.tolist() == rewritten.step.tolist() and train.copies.tolist() == rewritten.copies.tolist()
    assert [[int(row) for row in text.split()] for text in train.origins] == [
        [int(row) for row in rows if row >= 0] for rows in rewritten.origins
    ]
    assert table.Usage.value_counts().to_dict() == {"Training": len(rewritten), "PublicTest": 8, "PrivateTest": 9}


def test_files_in_a_folder_are_named_by_provenance_and_listed(tmp_path: Path) -> None:
    splits = source_splits()
    rewritten = rewritten_from(splits)

    folder = export("folder", splits, tmp_path)

    with (folder / "provenance.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == [
        f"{FER2013_CLASSES[label]}/{origin:02}_{copy}_{step}.png"
        for label, origin, copy, step in zip(
            rewritten.labels, rewritten.origin, rewritten.copies, rewritten.step, strict=True
        )
    ]
    interpolated = lines[int(np.flatnonzero(rewritten.step == 2)[0])]
    assert (interpolated["class"], interpolated["origins"]) == ("fear", "2 3")
    for line, image in zip(lines, rewritten.images[:], strict=True):
        assert np.array_equal(cv2.imread(str(folder / line["file"]), cv2.IMREAD_UNCHANGED), image[..., 0])
    assert sum(1 for _ in folder.rglob("*.png")) == len(rewritten)


@pytest.mark.parametrize(
    "name",
    ["a/b", "a\\b", "..", ".hidden", "what?", "c:", "end.", "Con", "aux.old", "漢" * 100],
    ids=repr,
)
def test_unsafe_class_names_are_refused_as_folder_names(name: str) -> None:
    with pytest.raises(DatasetError, match="not a valid folder name; use --format npz"):
        refuse_unfit(["folder"], source_splits(("ant", name)))


def test_formats_refuse_unsuitable_data() -> None:
    with pytest.raises(DatasetError, match="differ only in case"):
        refuse_unfit(["folder"], source_splits(("Ant", "ant")))
    with pytest.raises(DatasetError, match="images have 2 channels"):
        refuse_unfit(["folder"], source_splits(shape=(12, 12, 2)))
    for unfit in (source_splits(("ant", "bee")), source_splits(shape=(12, 9, 1)), source_splits(shape=(12, 12, 3))):
        with pytest.raises(DatasetError, match="csv requires square gray images of FER2013"):
            refuse_unfit(["csv"], unfit)
        refuse_unfit(["npz", "folder"], unfit)
    refuse_unfit(FORMATS, source_splits())
