"""The reader of npy folders: round trip with `write_npy_folder`, label formats, and messages for invalid files."""

from __future__ import annotations

import os
import pickle

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
    assert [len(part) for part in splits.parts.values()] == [33, 7, 40]  # one validation image of each class
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


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float16, np.float32, np.float64])
def test_images_of_other_dtypes_in_0_to_255_are_converted(tmp_path, dtype):
    splits = read(write_npy(tmp_path / "npy", PAIRS | {"X_test": IMAGES.astype(dtype)}))
    np.testing.assert_array_equal(splits.test.images[:], IMAGES[..., None])
    assert [note for note in splits.notes if f"X_test.npy: {np.dtype(dtype)} in 0 to 255, converted to uint8" in note]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_images_in_0_to_1_are_scaled_without_loss(tmp_path, dtype):
    splits = read(write_npy(tmp_path / "npy", PAIRS | {"X_test": (IMAGES / 255).astype(dtype)}))
    np.testing.assert_array_equal(splits.test.images[:], IMAGES[..., None])
    assert [note for note in splits.notes if "in 0 to 1, scaled to 0 to 255" in note]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_first_is_read_as_channels_last(tmp_path, channels, dtype):
    images = random_images(20, side=48, channels=channels)
    arrays = {f"X_{split}": images.transpose(0, 3, 1, 2).astype(dtype) for split in ("train", "val", "test")}
    labels = {f"Y_{split}": np.arange(20) % 2 for split in ("train", "val", "test")}
    splits = read(write_npy(tmp_path / "npy", arrays | labels))
    assert splits.train.image_shape == (48, 48, channels)
    np.testing.assert_array_equal(splits.train.images[:], images)
    assert len([note for note in splits.notes if "(N, C, H, W), read as (N, H, W, C)" in note]) == 3
    assert pickle.loads(pickle.dumps(splits)).fingerprint == splits.fingerprint
    write_npy_folder(splits, tmp_path / "converted")
    assert read(tmp_path / "converted").fingerprint == splits.fingerprint


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 8), (9, 8, 1)),
        ((2, 8), (2, 8, 1)),
        ((2, 2, 1), (2, 2, 1)),
        ((9, 8, 3), (9, 8, 3)),
        ((3, 9, 8), (9, 8, 3)),
        ((1, 5, 5), (5, 5, 1)),
        ((64, 64, 13), (64, 64, 13)),
        ((13, 64, 64), (64, 64, 13)),
        ((5, 5, 4), (5, 5, 4)),
        ((28, 28, 28), None),
        ((3, 4, 4), None),
        ((4, 4, 4), None),
        ((4, 4, 2), None),
        ((3, 8, 3), None),
        ((3, 8, 1), None),
        ((1, 28, 3), None),
        ((28, 3, 3), None),
        ((9, 8, 4), None),
        ((4, 9, 8), None),
        ((784, 1), None),
        ((3, 1024), None),
        ((784,), None),
        ((), None),
        ((1, 8, 8, 3), None),
    ],
)
def test_the_axis_of_channels_is_unique_or_the_shape_is_refused(tmp_path, shape, expected):
    arrays = {f"X_{split}": np.full((2, *shape), 200, np.uint8) for split in ("train", "val", "test")}
    path = write_npy(tmp_path / "npy", arrays | {f"Y_{split}": np.arange(2) for split in ("train", "val", "test")})
    if expected:
        assert read(path).train.image_shape == expected
    elif len(shape) == 3:
        assert_message(path, ["X_train.npy: it is ambiguous which axis of", "images.transpose(0, 2, 3, 1)"])
    else:
        assert_message(path, ["X_train.npy: images must be (N, H, W)", str((2, *shape))])


AMBIGUOUS_VALUES = {
    "normalized": (IMAGES / 64 - 2.0, ["float64 values of -2 to 1.98438", "(images * std + mean) * 255"]),
    "minus one to one": (IMAGES / 127.5 - 1, ["values of -1 to 1", "((images + 1) * 127.5)"]),
    "negative integers": (IMAGES.astype(np.int16) - 1, ["int16 values of -1 to 254"]),
    "0 to 16": (IMAGES // 16.0, ["values of 0 to 15", "(images * (255 / WHITE))", "such as 15"]),
    "dark": (IMAGES / 600, ["values of 0 to 0.425", "neither 0 to 255 nor 0 to 1"]),
    "slightly above 1": (IMAGES / 250, ["values of 0 to 1.02"]),
    "16 bits": (IMAGES.astype(np.uint16) * 257, ["uint16 values of 0 to 65535", "such as 65535"]),
    "integers of 0 and 1": (IMAGES.astype(np.int64) // 128, ["int64 values of 0 to 1"]),
    "not a number": (np.where(np.arange(40) == 7, np.nan, 1.0)[:, None, None] * IMAGES, ["row 7 has values", "NaN"]),
    "infinite": (np.where(np.arange(40) == 7, np.inf, 1.0)[:, None, None] * (IMAGES + 1.0), ["row 7 has values"]),
    "masks": (IMAGES > 128, ["dtype bool"]),
    "complex": (IMAGES * 1j, ["dtype complex128"]),
    "text": (IMAGES.astype(str), ["dtype <U"]),
}


@pytest.mark.parametrize(("images", "expected"), AMBIGUOUS_VALUES.values(), ids=AMBIGUOUS_VALUES)
def test_images_in_other_ranges_are_refused_with_what_to_type(tmp_path, images, expected):
    assert_message(write_npy(tmp_path / "npy", PAIRS | {"X_test": images}), [f"{tmp_path}/npy/X_test.npy: ", *expected])


def test_classes_are_named_after_their_labels_in_natural_order(tmp_path):
    labels = np.array([11, 9, 10, 9])
    arrays = {"x_train": IMAGES[:4, :32], "y_train": labels, "x_test": IMAGES[:4, :32], "y_test": labels[:, None]}
    splits = read(write_npy(tmp_path / "npy", arrays | {"x_val": IMAGES[:4, :32], "y_val": labels.astype(float)}))
    assert splits.class_names == ("9", "10", "11")
    for part in splits.parts.values():
        assert part.labels.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("dtype", [str, bytes])
def test_text_labels_are_class_names(tmp_path, dtype):
    labels = np.array(["c10", "c9", "c10", "größer"])
    labels = labels if dtype is str else np.char.encode(labels, "utf-8")
    arrays = {f"X_{split}": IMAGES[:4] for split in ("train", "val", "test")}
    splits = read(write_npy(tmp_path / "npy", arrays | {f"Y_{split}": labels for split in ("train", "val", "test")}))
    assert splits.class_names == ("c9", "c10", "größer")
    assert splits.test.labels.tolist() == [1, 0, 1, 2]


def test_text_labels_keep_the_order_of_the_class_names(tmp_path):
    arrays = {f"X_{split}": IMAGES[:3] for split in ("train", "val", "test")}
    labels = {f"Y_{split}": np.array(["dog", "cat", "dog"]) for split in ("train", "val", "test")}
    splits = read(write_npy(tmp_path / "a", arrays | labels, ["dog", "cat"]))
    assert splits.class_names == ("dog", "cat")
    assert splits.test.labels.tolist() == [0, 1, 0]
    assert_message(write_npy(tmp_path / "b", arrays | labels, ["dogs", "cat"]), ["no class 'dog'", "did you mean"])


def test_fer2013_is_recognized_only_by_all_seven_labels(tmp_path):
    arrays = {f"X_{split}": IMAGES for split in ("train", "val", "test")}
    labels = {f"Y_{split}": np.arange(40) % 6 for split in ("train", "val", "test")}
    assert read(write_npy(tmp_path / "a", arrays | labels)).class_names == ("0", "1", "2", "3", "4", "5")
    splits = read(write_npy(tmp_path / "b", arrays | labels | {"Y_train": LABELS}))
    assert splits.class_names == FER2013_CLASSES
    assert [note for note in splits.notes if "FER2013's classes: angry, disgust" in note]


def test_images_and_labels_without_a_split_are_split(tmp_path):
    splits = read(write_npy(tmp_path / "npy", {"images": IMAGES, "labels": LABELS, "extra": LABELS}))
    assert sum(map(len, splits.parts.values())) == 40
    assert "validation and test: 1 in 10 rows each, split off" in splits.source
    assert isinstance(splits.train.blocks[0].pixels, np.memmap)
    assert "not read: extra.npy" in splits.omissions


@pytest.mark.parametrize(
    ("groups", "shares"),
    [
        ("groups_training", "shares_training"),
        ("groups_train", "shares_train"),
        ("Groups_TRAIN", "SHARES_Training"),
        ("train_groups", "train-shares"),
    ],
)
def test_groups_and_shares_take_the_names_of_splits_that_images_take(tmp_path, groups, shares):
    arrays = PAIRS | {groups: np.arange(40) // 2, shares: np.eye(7)[LABELS]}
    splits = read(write_npy(tmp_path / "npy", arrays))
    assert not any("not read" in note for note in splits.notes)
    in_parts = [set(part.sources.groups.tolist()) for part in (splits.train, splits.validation)]
    assert not in_parts[0] & in_parts[1] and len(in_parts[0] | in_parts[1]) == 20
    np.testing.assert_array_equal(splits.train.targets, np.eye(7)[splits.train.labels])
    assert splits.test.targets is None


def test_groups_without_a_split_stay_together_in_the_splits_that_are_made(tmp_path):
    arrays = {"images": IMAGES, "labels": LABELS, "groups": np.arange(40) // 2, "shares": np.eye(7)[LABELS]}
    splits = read(write_npy(tmp_path / "npy", arrays))
    in_parts = [set(part.sources.groups.tolist()) for part in splits.parts.values()]
    assert sum(map(len, in_parts)) == len(set.union(*in_parts)) == 20
    np.testing.assert_array_equal(splits.test.targets, np.eye(7)[splits.test.labels])


def test_a_single_npy_file_is_refused_with_its_folder(tmp_path):
    path = write_npy(tmp_path / "npy", PAIRS)
    assert_message(path / "X_test.npy", ["is a single array", f"pass its folder {path}"])
    assert_message(path / "X_tset.npy", [f"no such file or folder; did you mean {path / 'X_test.npy'}?"])


BAD_NPY_FOLDERS = {
    "no labels": ({**PAIRS, "Y_test": None}, None, ["X_test.npy has no labels; add Y_test.npy"]),
    "no images": ({**PAIRS, "X_test": None}, None, ["Y_test.npy has no images; add X_test.npy"]),
    "no test": (
        {**PAIRS, "X_test": None, "Y_test": None},
        None,
        ["the test split is empty; add X_test.npy and Y_test.npy"],
    ),
    "no training": (
        {**PAIRS, "X_training": None, "Y_training": None},
        None,
        ["the train split is empty; add X_train.npy and Y_train.npy"],
    ),
    "training and validation": (
        {"x_train": IMAGES, "y_train": LABELS, "x_val": IMAGES, "y_val": LABELS},
        None,
        ["the test split is empty; rename x_val.npy and y_val.npy to x_test.npy and y_test.npy, and a validation"],
    ),
    "images with and without a split": (
        {**PAIRS, "images": IMAGES, "labels": LABELS},
        None,
        ["images.npy is in no split, X_training.npy is; rename or remove images.npy"],
    ),
    "an unknown split": ({"X_trian": IMAGES}, None, ["X_trian.npy is in no split; name it X_train.npy"]),
    "no rows": ({**PAIRS, "X_test": IMAGES[:0], "Y_test": LABELS[:0]}, None, ["the test split is empty"]),
    "two names of one split": (
        {**PAIRS, "X_privatetest": IMAGES},
        None,
        ["X_privatetest.npy and X_test.npy are the same split"],
    ),
    "flat images": (
        {**PAIRS, "X_test": IMAGES.reshape(40, -1)},
        None,
        ["X_test.npy", "(N, H, W)", "(40, 2304)"],
    ),
    "object images": (
        {**PAIRS, "X_test": np.array([None])},
        None,
        ["X_test.npy", "array of Python objects, which would be unpickled"],
    ),
    "other sizes": (
        {**PAIRS, "X_test": IMAGES[:, :40]},
        list("abcdefg"),
        ["the test split has images of 40x48x1, train has 48x48x1"],
    ),
    "few labels": ({**PAIRS, "Y_test": LABELS[:-1]}, None, ["Y_test.npy", "(39,)", "40 images"]),
    "three-dimensional labels": ({**PAIRS, "Y_test": np.zeros((40, 2, 2))}, None, ["Y_test.npy", "(40, 2, 2)"]),
    "float labels": (
        {**PAIRS, "Y_test": LABELS / 2},
        None,
        ["Y_test.npy: row 1: label 0.5 is not the number of a class; use integers, text or one-hot"],
    ),
    "text as groups": (
        {**PAIRS, "groups_training": np.array(["p1"] * 40)},
        None,
        ["groups_training.npy: groups must be integers"],
    ),
    "too high numbers as groups": (
        {**PAIRS, "groups_training": np.arange(40, dtype=np.uint64) + (1 << 63)},
        None,
        [f"groups_training.npy: groups must be below 2^63, got {(1 << 63) + 39}; number them from 0"],
    ),
    "too few near duplicates": (
        {**PAIRS, "near_training": np.arange(39)},
        None,
        ["near must be one number for each of 40 rows, got shape (39,)"],
    ),
    "groups of an unknown split": (
        {**PAIRS, "groups_trian": LABELS},
        None,
        ["groups_trian.npy is in no split of the images; name it groups_train.npy or groups_test.npy, or remove it"],
    ),
    "shares of a split that has no images": (
        {**PAIRS, "shares_val": np.eye(7)[LABELS]},
        None,
        ["shares_val.npy is in no split of the images; name it shares_train.npy or shares_test.npy, or remove it"],
    ),
    "groups of a split of images without splits": (
        {"images": IMAGES, "labels": LABELS, "groups_train": LABELS},
        None,
        ["groups_train.npy is in no split of the images; name it groups.npy, or remove it"],
    ),
    "two names of the groups of one split": (
        {**PAIRS, "groups_train": LABELS, "groups_training": LABELS},
        None,
        ["groups_train.npy and groups_training.npy are the same split; keep only one"],
    ),
    "shares": ({**PAIRS, "shares_test": np.zeros((40, 7))}, None, ["shares_test.npy: row 0: soft labels must be"]),
    "too few groups": (
        {**PAIRS, "groups_training": np.arange(39)},
        None,
        ["groups must be one number for each of 40 rows, got shape (39,)"],
    ),
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
        ["Y_test.npy: row 0: label -1 is negative; remove rows without a label"],
    ),
    "negative label with class names": (
        {**PAIRS, "Y_test": LABELS - 1},
        list("abcdefg"),
        ["Y_test.npy: row 0: label -1 is outside 0..6"],
    ),
    "high label, no class names": ({**PAIRS, "Y_test": LABELS + 1}, None, ["the test split has rows of 7"]),
    "one class": ({**PAIRS, "Y_training": LABELS * 0, "Y_test": LABELS * 0}, None, ["all labels are 0; at least two"]),
    "text and numbers": ({**PAIRS, "Y_test": LABELS.astype(str)}, None, ["use numbers or text for the labels of all"]),
    "empty text": (
        {**PAIRS, "Y_training": LABELS.astype(str), "Y_test": np.array(["a"] * 39 + [""])},
        None,
        ["Y_test.npy: row 39: label is empty"],
    ),
    "object labels": ({**PAIRS, "Y_test": np.array([None] * 40)}, None, ["Y_test.npy", "array of Python objects"]),
    "several labels per image": (
        {**PAIRS, "Y_test": np.eye(40, 7)},
        None,
        ["Y_test.npy: row 7 is not one-hot (a single 1, otherwise 0); each image needs one class"],
    ),
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_and_damaged_headers_are_refused_by_name(tmp_path):
    folder = write_npy(tmp_path / "npy", {"images": random_images(4), "labels": np.arange(4) % 2})
    file = folder / "images.npy"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"}", b"(", 1))
    assert_message(folder, ["images.npy: not a readable .npy file (EOF in multi-line statement); save it again"])
    file.unlink()
    os.mkfifo(file)
    assert_message(folder, ["images.npy: not a readable .npy file", "not a regular file"])


def test_a_truncated_image_file_is_refused(tmp_path):
    path = write_npy(tmp_path / "bad", PAIRS)
    os.truncate(path / "X_test.npy", 5000)
    assert str(path / "X_test.npy") in message_of(path)
