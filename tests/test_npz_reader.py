"""The reader of npz files: MedMNIST, Keras, images and labels alone, memory mapping, and messages for invalid files."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from fer_augment.data import pixel_cache
from fer_augment.data.export import write_export
from fer_augment.readers import _stored_arrays
from tests.data_files import FER2013_CLASSES, random_images, small_csv_rows, write_csv, write_npz
from tests.reading import assert_message, assert_source_rows, read

IMAGES, LABELS = random_images(40, side=28, channels=3), np.arange(40) % 4
MEDMNIST = {
    f"{split}_{content}": array
    for split in ("train", "val", "test")
    for content, array in (("images", IMAGES), ("labels", LABELS[:, None].astype(np.uint8)))
}
KERAS = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS[:, None]}


@pytest.mark.parametrize("compressed", [False, True])
def test_medmnist(tmp_path, compressed):
    write_npz(tmp_path / "pathmnist.npz", MEDMNIST, compressed=compressed)
    splits = read(tmp_path / "pathmnist.npz")
    assert splits.class_names == ("0", "1", "2", "3")
    assert splits.source == str(tmp_path / "pathmnist.npz")
    for part in splits.parts.values():
        np.testing.assert_array_equal(part.images[:], IMAGES)
        np.testing.assert_array_equal(part.labels, LABELS)
    assert_source_rows(splits)


def test_keras(tmp_path):
    write_npz(tmp_path / "cifar.npz", KERAS).rename(tmp_path / "cifar.NPZ")
    splits = read(tmp_path / "cifar.NPZ")
    assert [len(part) for part in splits.parts.values()] == [36, 4, 40]
    np.testing.assert_array_equal(splits.test.images[:], IMAGES)
    assert "validation: 1 in 10 rows of train, split off" in splits.source


@pytest.mark.parametrize("names", [("images", "labels"), ("X", "Y"), ("data", "target"), ("imgs", "labels")])
def test_images_and_labels_alone_are_split(tmp_path, names):
    write_npz(tmp_path / "a.npz", dict(zip(names, (IMAGES[..., 0], LABELS), strict=True)))
    splits = read(tmp_path / "a.npz")
    assert [len(part) for part in splits.parts.values()] == [32, 4, 4]
    assert "validation and test: 1 in 10 rows each, split off" in splits.source
    for part in splits.parts.values():
        np.testing.assert_array_equal(part.images[:], IMAGES[part.index, ..., :1])
        np.testing.assert_array_equal(part.labels, LABELS[part.index])


@pytest.mark.parametrize("key", ["class_names", "classes", "label_names"])
@pytest.mark.parametrize("dtype", ["U", "S"])
def test_class_names_in_the_order_of_the_labels(tmp_path, key, dtype):
    write_npz(tmp_path / "a.npz", MEDMNIST | {key: np.array(["dog", "cat", "ant", "bee"], dtype)})
    assert read(tmp_path / "a.npz").class_names == ("dog", "cat", "ant", "bee")


def test_arrays_that_are_not_read_are_noted(tmp_path):
    write_npz(tmp_path / "a.npz", MEDMNIST | {"classes": np.arange(4), "patient": LABELS})
    splits = read(tmp_path / "a.npz")
    assert splits.notes == splits.omissions == ("not read: classes, patient",)


def test_floats_and_channels_first_follow_the_rules_of_npy_folders(tmp_path):
    images = (IMAGES / 255).astype(np.float32).transpose(0, 3, 1, 2)
    write_npz(tmp_path / "a.npz", KERAS | {"x_test": images}, compressed=True)
    splits = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(splits.test.images[:], IMAGES)
    assert splits.notes == (
        f"{tmp_path / 'a.npz'}: x_test: float32 in 0 to 1, scaled to 0 to 255; (N, C, H, W), read as (N, H, W, C)",
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressed", [False, True])
def test_large_arrays_are_memory_mapped_and_sent_to_other_processes_as_a_place_in_a_file(
    tmp_path, monkeypatch, order, compressed
):
    monkeypatch.setattr(pixel_cache, "CACHED_FROM", 1)
    images = np.asarray(IMAGES, order=order)
    write_npz(tmp_path / "a.npz", MEDMNIST | {"test_images": images}, compressed=compressed)
    test = read(tmp_path / "a.npz").test
    assert isinstance(test.blocks[0].pixels, np.memmap)
    sent = pickle.dumps(test.blocks[0])
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).pixels, IMAGES)
    assert (test.blocks[0].path == tmp_path / "a.npz") == (order == "C" and not compressed)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_compressed_arrays_are_read_a_few_megabytes_at_a_time(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(pixel_cache, "CACHED_FROM", 1)
    monkeypatch.setattr(_stored_arrays, "BYTES_AT_ONCE", 1 << 16)
    images = random_images(2_000, side=64)
    train = {"train_images": images.astype(dtype), "train_labels": np.arange(2_000) % 4}
    small = {name: images[:9] if "images" in name else np.arange(9) % 4 for name in MEDMNIST}
    write_npz(tmp_path / "a.npz", small | train, compressed=True)
    tracemalloc.start()
    try:
        splits = read(tmp_path / "a.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < images.nbytes
    np.testing.assert_array_equal(splits.train.images[:], images)
    assert read(tmp_path / "a.npz").notes == splits.notes, "the second start reads notes from the cache"


def test_48x48_gray_images_with_seven_labels_are_fer2013(tmp_path):
    images, labels = random_images(70, side=48), np.arange(70) % 7
    write_npz(tmp_path / "a.npz", {"x": images, "y": labels})
    assert read(tmp_path / "a.npz").class_names == FER2013_CLASSES


def test_a_rewritten_training_set_is_refused(tmp_path):
    data = write_csv(tmp_path / "a.csv", small_csv_rows())
    splits = read(data)
    write_export("npz", splits.train, splits, tmp_path, lambda rows: None)
    assert_message(
        tmp_path / "training_set.npz",
        ["is a rewritten training set, whose augmented copies would leak", "pass the original data to --data"],
    )


@pytest.mark.parametrize("arrays", [{"x": IMAGES, "y": LABELS}, KERAS, MEDMNIST])
def test_reading_and_the_search_for_near_duplicates_are_one_activity(tmp_path, arrays):
    reports = []
    read(write_npz(tmp_path / "a.npz", arrays), lambda done, total: reports.append((done, total)))
    rows = sum(len(array) for name, array in arrays.items() if array.ndim > 2)
    done = [count for count, total in reports if total == rows]
    assert len(done) == len(reports)
    assert done == sorted(done)
    assert done[-1] == rows


BAD_NPZ_FILES = {
    "no known arrays": ({"arr_0": IMAGES}, ["no known arrays (it has arr_0); name them x_train, y_train"]),
    "no arrays": ({}, ["no known arrays (it has none)"]),
    "no labels": (KERAS | {"y_train": None}, ["x_train has no labels; add y_train"]),
    "no images": (MEDMNIST | {"val_images": None}, ["val_labels has no images; add val_images"]),
    "train and validation": (
        {name: array for name, array in MEDMNIST.items() if "test" not in name},
        ["the test split is empty; rename val_images and val_labels to test_images and test_labels"],
    ),
    "train alone": ({"x_train": IMAGES, "y_train": LABELS}, ["the test split is empty; add x_test and y_test"]),
    "two images of a split": (KERAS | {"test_images": IMAGES}, ["test_images and x_test are the same split"]),
    "objects": (KERAS | {"x_test": np.array([None] * 40)}, ["x_test: is an array of Python objects"]),
    "object labels": (KERAS | {"y_test": np.array([None] * 40)}, ["y_test: is an array of Python objects"]),
    "several labels per image": (
        MEDMNIST | {"train_labels": np.ones((40, 14), np.uint8)},
        ["train_labels: row 0 is not one-hot", "each image needs one class"],
    ),
    "fewer labels": (KERAS | {"y_test": LABELS[:-1]}, ["y_test: labels have shape (39,), but there are 40 images"]),
    "flat images": (
        KERAS | {"x_train": IMAGES.reshape(40, -1)},
        ["x_train: images must be (N, H, W), (N, H, W, C) or (N, C, H, W), not (40, 2352)", "reshape flat images"],
    ),
    "normalized": (KERAS | {"x_train": IMAGES / 64 - 2}, ["x_train: float64 values of -2 to 1.98438"]),
    "equal class names": (MEDMNIST | {"classes": np.array(list("abca"))}, ["classes: class names must be unique"]),
    "names in Latin-1": (MEDMNIST | {"classes": np.array(["p\xe8re".encode("latin-1"), b"b"])}, ["not UTF-8"]),
    "labels in Latin-1": (
        KERAS | {"y_train": np.array(["p\xe8re".encode("latin-1"), b"mere"] * 20)},
        [r"y_train: has text that is not UTF-8, such as b'p\xe8re'", "latin-1"],
    ),
    "empty class name": (MEDMNIST | {"classes": np.array(["a", "", "c", "d"])}, ["a.npz: class name '' is empty"]),
    "class name with space": (MEDMNIST | {"classes": np.array(["a", " b", "c", "d"])}, ["class name ' b'"]),
    "one class": (
        {"images": IMAGES, "labels": LABELS * 0, "classes": np.array(["a", "b"])},
        ["all labels are 0; at least two classes are needed"],
    ),
    "infinite label": (
        KERAS | {"y_train": np.where(LABELS == 1, np.inf, LABELS)},
        ["y_train: row 1: label inf is not the number of a class"],
    ),
    "large label": (KERAS | {"y_train": LABELS.astype(np.uint64) + 2**63}, ["row 0: label 9223372036854775808 is not"]),
    "sizes of splits": (
        KERAS | {"x_test": IMAGES[:, :20, :20]},
        ["test split has images of 20x20x3, train has 28x28x3"],
    ),
    "unprintable class names": (MEDMNIST | {"classes": np.array(["a", "\x1b"])}, ["unique and printable"]),
    "high label": (MEDMNIST | {"classes": np.array(list("abc"))}, ["train_labels: row 3: label 3 is outside 0..2"]),
    "no rows": ({"x": IMAGES[:0], "y": LABELS[:0]}, ["has no images"]),
    "control characters": ({"\x1b[2J": IMAGES}, [r"it has \x1b[2J"]),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("arrays", "expected"), BAD_NPZ_FILES.values(), ids=BAD_NPZ_FILES)
def test_invalid_npz_files_are_refused_with_the_name_of_the_array(tmp_path, arrays, expected, compressed):
    path = write_npz(
        tmp_path / "a.npz", {name: array for name, array in arrays.items() if array is not None}, compressed=compressed
    )
    assert_message(path, expected)


def write_member_that_is_no_array(path):
    write_npz(path, {name: array for name, array in KERAS.items() if name != "x_test"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test.npy", b"hello")


def write_changed_member(path):
    write_npz(path, KERAS, compressed=True)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def write_short_member(path):
    """Write an uncompressed member with fewer bytes than its header says."""
    write_npz(path, {name: array for name, array in KERAS.items() if name != "x_test"})
    np.save(path.with_suffix(".npy"), IMAGES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test.npy", path.with_suffix(".npy").read_bytes()[:-1])


def write_truncated(path):
    write_npz(path, KERAS)
    os.truncate(path, 5000)


DAMAGED = {
    "missing": (lambda path: None, ["no such file"]),
    "empty": (lambda path: path.write_bytes(b""), ["not a complete npz file", "re-download it"]),
    "text": (lambda path: path.write_text("hello"), ["not a complete npz file"]),
    "truncated": (write_truncated, ["not a complete npz file"]),
    "member that is no array": (write_member_that_is_no_array, [": x_test: damaged", "re-download the file"]),
    "changed member": (write_changed_member, [": x_train: damaged"]),
    "short member": (write_short_member, [": x_test: damaged"]),
}


@pytest.mark.parametrize(("write", "expected"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_npz_files_are_refused(tmp_path, write, expected):
    write(tmp_path / "a.npz")
    assert_message(tmp_path / "a.npz", expected)


def test_a_misspelled_file_is_reported_with_the_most_similar_one(tmp_path):
    write_npz(tmp_path / "pathmnist.npz", KERAS)
    assert_message(tmp_path / "patmnist.npz", [f"did you mean {tmp_path / 'pathmnist.npz'}?"])
