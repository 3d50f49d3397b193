"""The reader of idx files: MNIST, KMNIST and EMNIST names, gzip, memory mapping, and messages for invalid files."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.data_files import MNIST_IMAGES, MNIST_LABELS, idx, mnist, random_images, write_idx
from tests.reading import assert_message, assert_source_rows, read

IMAGES, LABELS = MNIST_IMAGES, MNIST_LABELS


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"suffix": ".gz"},
        {"separator": "."},
        {"prefix": "emnist-digits-", "test": "test", "suffix": ".gz"},
        {"prefix": "k49-", "test": "test"},
    ],
    ids=str,
)
def test_the_names_of_the_mnist_family(tmp_path, names):
    splits = read(write_idx(tmp_path / "raw", mnist(**names)))
    assert splits.class_names == tuple("0123456789")
    assert [len(part) for part in splits.parts.values()] == [36, 4, 40]
    assert "validation: 1 in 10 rows of train, split off" in splits.source
    np.testing.assert_array_equal(splits.test.images[:], IMAGES[..., None])
    np.testing.assert_array_equal(splits.test.labels, LABELS)
    assert_source_rows(splits)
    assert isinstance(splits.test.blocks[0].pixels, np.memmap) == ("suffix" not in names)


def test_uncompressed_files_are_preferred_to_compressed_ones(tmp_path):
    splits = read(write_idx(tmp_path / "raw", mnist() | mnist(suffix=".gz")))
    assert isinstance(splits.train.blocks[0].pixels, np.memmap)
    assert splits.omissions == (
        "not read: 4 files (t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, train-images-idx3-ubyte.gz, …), "
        "as uncompressed files are present",
    )


def test_labels_that_start_at_1_and_color_images(tmp_path):
    images = random_images(6, side=8, channels=3)
    files = {f"{split}-images-idx4-ubyte": idx(images) for split in ("train", "val", "test")}
    files |= {
        f"{split}-labels-idx1-ubyte": idx(np.array([1, 2, 26] * 2, np.uint8)) for split in ("train", "val", "test")
    }
    splits = read(write_idx(tmp_path / "raw", files))
    assert splits.class_names == ("1", "2", "26")
    assert splits.test.labels.tolist() == [0, 1, 2] * 2
    np.testing.assert_array_equal(splits.train.images[:], images)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_other_types_are_big_endian(tmp_path, dtype):
    files = mnist() | {"train-images-idx3-ubyte": idx(IMAGES.astype(dtype))}
    files["t10k-labels-idx1-ubyte"] = idx(LABELS.astype(dtype))
    splits = read(write_idx(tmp_path / "raw", files))
    np.testing.assert_array_equal(splits.train.images[:], IMAGES[splits.train.index, ..., None])
    np.testing.assert_array_equal(splits.test.labels, LABELS)


def test_a_file_selects_one_of_the_data_sets_of_a_folder(tmp_path):
    letters = {
        name: idx(LABELS + 1) if "labels" in name else content for name, content in mnist("emnist-letters-").items()
    }
    folder = write_idx(tmp_path / "gzip", mnist("emnist-digits-") | letters)
    assert_message(
        folder,
        [
            "has 2 data sets (emnist-digits, emnist-letters)",
            f"pass a file of one of them, such as {folder}/emnist-letters-t10k-images-idx3-ubyte",
        ],
    )
    for name in ("emnist-letters-train-images-idx3-ubyte", "emnist-letters-t10k-labels-idx1-ubyte"):
        assert read(folder / name).class_names == tuple(map(str, range(1, 11)))
    assert read(folder / "emnist-digits-train-images-idx3-ubyte").class_names == tuple("0123456789")


TRAIN_IMAGES = "train-images-idx3-ubyte"
BAD = {
    "no labels": ({"train-labels-idx1-ubyte": None}, [f"{TRAIN_IMAGES} has no labels; add train-labels-idx1-ubyte"]),
    "no images": (
        {"t10k-images-idx3-ubyte": None},
        ["t10k-labels-idx1-ubyte has no images; add t10k-images-idx3-ubyte"],
    ),
    "no test": (
        {"t10k-images-idx3-ubyte": None, "t10k-labels-idx1-ubyte": None},
        ["the test split is empty; add test-images-idx3-ubyte and test-labels-idx1-ubyte"],
    ),
    "two names of a split": (
        {"training-images-idx3-ubyte": idx(IMAGES)},
        ["train-images-idx3-ubyte and training-images-idx3-ubyte are the same split"],
    ),
    "fewer labels": (
        {"t10k-labels-idx1-ubyte": idx(LABELS[1:])},
        ["t10k-labels-idx1-ubyte: labels have shape (39,), but there are 40 images"],
    ),
    "several labels per image": (
        {"t10k-labels-idx1-ubyte": idx(np.zeros((40, 8), np.int32))},
        ["t10k-labels-idx1-ubyte: row 0 is not one-hot"],
    ),
    "empty": ({TRAIN_IMAGES: b""}, [f"{TRAIN_IMAGES}: not a complete idx file (starts with nothing); re-download it"]),
    "text": ({TRAIN_IMAGES: b"<html>"}, [f"{TRAIN_IMAGES}: not a complete idx file (starts with 3c 68 74 6d)"]),
    "header cut": ({TRAIN_IMAGES: idx(IMAGES)[:11]}, ["ends within the header"]),
    "truncated": ({TRAIN_IMAGES: idx(IMAGES)[:-1]}, ["fewer bytes than the 31,360 of its header"]),
    "longer": ({TRAIN_IMAGES: idx(IMAGES) + b"x"}, ["more bytes than the 31,360 of its header"]),
    "unknown type": ({TRAIN_IMAGES: b"\0\0\x07\x01\0\0\0\1x"}, ["starts with 00 00 07 01"]),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("changes", "expected"), BAD.values(), ids=BAD)
def test_invalid_idx_files_are_refused_by_name(tmp_path, changes, expected, suffix):
    files = {name: content for name, content in (mnist() | changes).items() if content is not None}
    path = write_idx(tmp_path / "raw", {f"{name}{suffix}": content for name, content in files.items()})
    assert_message(path, [text.replace("ubyte", f"ubyte{suffix}") for text in expected])


def test_damaged_gzip_files_are_refused_by_name(tmp_path):
    path = write_idx(tmp_path / "raw", mnist(suffix=".gz"))
    os.truncate(path / f"{TRAIN_IMAGES}.gz", 5000)
    assert_message(path, [f"{path / TRAIN_IMAGES}.gz: not a complete idx file", "re-download it"])
    (path / f"{TRAIN_IMAGES}.gz").write_bytes(idx(IMAGES))
    assert_message(path, [f"{path / TRAIN_IMAGES}.gz: not a complete idx file (Not a gzipped file"])


def test_a_missing_file_is_reported_with_the_most_similar_one(tmp_path):
    path = write_idx(tmp_path / "raw", mnist(suffix=".gz"))
    assert_message(path / TRAIN_IMAGES, [f"no such file or folder; did you mean {path / TRAIN_IMAGES}.gz?"])
