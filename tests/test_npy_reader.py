"""The reader of npy folders: round trip with `write_npy_folder`, label formats, and messages for invalid files."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fer_augment import DatasetError
from fer_augment.data.npy_format import write_npy_folder
from tests.data_files import (
    FER2013_CLASSES,
    random_images,
    release,
    split_files,
    write_folder,
    write_npy,
    write_zip,
)
from tests.reading import assert_message, assert_source_rows, message_of, read


@pytest.fixture
def converted(tmp_path):
    """Splits, and the npy folder that they were written to."""
    splits = read(write_zip(tmp_path / "a.zip", release()))
    write_npy_folder(splits, tmp_path / "out" / "npy")
    return splits, tmp_path / "out" / "npy"


def test_an_npy_folder_has_the_same_data_memory_mapped(converted):
    splits, folder = converted
    opened = read(folder)
    assert opened.fingerprint == splits.fingerprint
    assert sorted(path.name for path in folder.iterdir()) == [
        "X_test.npy",
        "X_training.npy",
        "X_validation.npy",
        "Y_test.npy",
        "Y_training.npy",
        "Y_validation.npy",
        "classes.json",
    ]
    assert isinstance(opened.train.blocks[0].pixels, np.memmap)
    assert opened.train.blocks[0].path == (folder / "X_training.npy").resolve()
    assert_source_rows(opened)


def test_split_off_splits_are_unchanged_by_conversion(tmp_path):
    files = {name.removeprefix("train/"): content for name, content in split_files({"train": 30}).items()}
    splits = read(write_folder(tmp_path / "plain", files))
    write_npy_folder(splits, tmp_path / "npy")
    assert read(tmp_path / "npy").fingerprint == splits.fingerprint


def test_conversion_is_chunked_and_reports_progress(tmp_path, monkeypatch):
    splits = read(write_zip(tmp_path / "a.zip", release()))
    monkeypatch.setattr("fer_augment.data.npy_format._BYTES_AT_ONCE", 5 * 16)
    calls = []
    write_npy_folder(splits, tmp_path / "npy", lambda done, total: calls.append((done, total)))
    assert calls == [(done, 42) for done in (5, 10, 14, 19, 24, 28, 33, 38, 42)]
    assert read(tmp_path / "npy").fingerprint == splits.fingerprint


def test_a_failed_conversion_leaves_no_files(tmp_path):
    splits = read(write_zip(tmp_path / "a.zip", release()))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_npy_folder(splits, tmp_path / "out" / "npy", stop)
    assert not list((tmp_path / "out").iterdir())


def test_conversion_does_not_overwrite(converted, tmp_path):
    splits, folder = converted
    with pytest.raises(DatasetError, match="already exists"):
        write_npy_folder(splits, folder)
    with pytest.raises(DatasetError, match=r"cannot be written \(Not a directory\)|\(File exists\)"):
        write_npy_folder(splits, tmp_path / "a.zip" / "npy")


IMAGES, LABELS = random_images(40, side=48)[..., 0], np.arange(40) % 7
PAIRS = {"X_training": IMAGES, "Y_training": LABELS, "X_test": IMAGES, "Y_test": LABELS}
TINY = {"X_training": IMAGES[:, :2], "Y_training": LABELS, "X_test": IMAGES[:, :2], "Y_test": LABELS}


def test_fer2013_is_recognized_without_class_names(tmp_path):
    names = ("X_Training", "Y_Training", "X_PublicTest", "y_publictest", "X_privatetest", "Y_privatetest")
    splits = read(write_npy(tmp_path / "npy", dict(zip(names, [IMAGES, LABELS] * 3, strict=True))))
    assert splits.class_names == FER2013_CLASSES
    for part in splits.parts.values():
        np.testing.assert_array_equal(part.images[:], IMAGES[..., None])
        np.testing.assert_array_equal(part.labels, LABELS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_])
def test_one_hot_labels(tmp_path, dtype):
    one_hot = np.eye(7, dtype=dtype)[LABELS]
    splits = read(write_npy(tmp_path / "npy", PAIRS | {"Y_training": one_hot}))
    np.testing.assert_array_equal(splits.parts["test"].labels, LABELS)
    assert np.bincount(splits.train.labels).sum() == len(splits.train)


def test_column_labels(tmp_path):
    assert len(read(write_npy(tmp_path / "npy", PAIRS | {"Y_test": LABELS[:, None]})).test) == 40


def test_a_split_off_validation_split_shares_the_memory_map_of_train(tmp_path):
    splits = read(write_npy(tmp_path / "npy", PAIRS))
    assert [len(part) for part in splits.parts.values()] == [36, 4, 40]
    assert splits.train.blocks[0] is splits.validation.blocks[0]
    together = np.concatenate([splits.train.index, splits.validation.index])
    np.testing.assert_array_equal(np.sort(together), np.arange(40))
    for part in (splits.train, splits.validation):
        np.testing.assert_array_equal(part.images[:], IMAGES[part.index, ..., None])
        np.testing.assert_array_equal(part.labels, LABELS[part.index])
    assert_source_rows(splits)


def test_class_order_is_kept_except_for_fer2013(tmp_path):
    names = ["zebra", "ant", "bee", "cat", "dog", "emu", "fox"]
    assert read(write_npy(tmp_path / "a", PAIRS, names)).class_names == tuple(names)
    by_alphabet = [name.title() for name in sorted(FER2013_CLASSES)]
    splits = read(write_npy(tmp_path / "b", PAIRS, by_alphabet))
    assert splits.class_names == FER2013_CLASSES
    names_read = [FER2013_CLASSES[label].title() for label in splits.test.labels]
    assert names_read == [by_alphabet[label] for label in LABELS]


BAD_NPY_FOLDERS = {
    "no labels": ({**PAIRS, "Y_test": None}, None, ["Y_test.npy: no such file"]),
    "no test": ({**PAIRS, "X_test": None}, None, ["the test split is empty", "X_test.npy and Y_test.npy"]),
    "no training": ({**PAIRS, "X_training": None}, None, ["the train split is empty", "X_training.npy"]),
    "no rows": ({**PAIRS, "X_test": IMAGES[:0], "Y_test": LABELS[:0]}, None, ["the test split is empty"]),
    "two names of one split": (
        {**PAIRS, "X_privatetest": IMAGES},
        None,
        ["X_test.npy and X_privatetest.npy are the same split"],
    ),
    "float images": ({**PAIRS, "X_test": IMAGES / 255}, None, ["X_test.npy", "must be uint8", "float64"]),
    "flat images": (
        {**PAIRS, "X_test": IMAGES.reshape(40, -1)},
        None,
        ["X_test.npy", "(N, H, W)", "(40, 2304)"],
    ),
    "object images": (
        {**PAIRS, "X_test": np.array([None])},
        None,
        ["X_test.npy", "not a readable .npy file"],
    ),
    "other sizes": ({**PAIRS, "X_test": IMAGES[:, :40]}, list("abcdefg"), ["test", "image sizes"]),
    "few labels": ({**PAIRS, "Y_test": LABELS[:-1]}, None, ["Y_test.npy", "(39,)", "40 images"]),
    "three-dimensional labels": ({**PAIRS, "Y_test": np.zeros((40, 2, 2))}, None, ["Y_test.npy", "(40, 2, 2)"]),
    "float labels": ({**PAIRS, "Y_test": LABELS / 2}, None, ["Y_test.npy", "float64", "one-hot"]),
    "two hot": ({**PAIRS, "Y_test": np.eye(40, 7)}, None, ["Y_test.npy: row 7 is not one-hot"]),
    "not one": ({**PAIRS, "Y_test": np.eye(7)[LABELS] * 2}, None, ["Y_test.npy: row 0 is not one-hot"]),
    "high label": (
        {**PAIRS, "Y_test": LABELS + 1},
        list("abcdefg"),
        ["Y_test.npy: row 6: label 7 is outside 0..6"],
    ),
    "negative label": (
        {**PAIRS, "Y_test": LABELS - 1},
        None,
        ["Y_test.npy: row 0: label -1 is outside 0..6"],
    ),
    "no class names": (TINY, None, ["classes.json is missing", '["cat", "dog"]']),
    "high label, no class names": ({**PAIRS, "Y_test": LABELS + 1}, None, ["classes.json is missing"]),
    "equal class names": (PAIRS, ["a", "a"], ["classes.json", "unique names"]),
    "unprintable class name": (PAIRS, ["a", "\x1b"], ["classes.json", "unique names"]),
    "numeric class names": (PAIRS, [1, 2], ["classes.json", "unique names"]),
    "class not in train": (
        {**TINY, "Y_training": LABELS % 2},
        list("abcdefg"),
        ["the test split has rows of c, d, e, f, g"],
    ),
}


@pytest.mark.parametrize(("pairs", "classes", "expected"), BAD_NPY_FOLDERS.values(), ids=BAD_NPY_FOLDERS)
def test_invalid_npy_folders_are_refused_with_the_file_name(tmp_path, pairs, classes, expected):
    kept = {name: array for name, array in pairs.items() if array is not None}
    path = write_npy(tmp_path / "bad", kept, classes)
    assert_message(path, expected)


@pytest.mark.parametrize("name", ["X_test.npy", "Y_test.npy", "classes.json"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_damaged_files_are_refused_by_name(tmp_path, name, content):
    path = write_npy(tmp_path / "bad", PAIRS, FER2013_CLASSES)
    (path / name).write_bytes(content)
    assert str(path / name) in message_of(path)


def test_a_truncated_image_file_is_refused(tmp_path):
    path = write_npy(tmp_path / "bad", PAIRS)
    os.truncate(path / "X_test.npy", 5000)
    assert str(path / "X_test.npy") in message_of(path)
