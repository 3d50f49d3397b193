"""Folder layouts that are refused: folders that are no classes, tables beside images, missing splits."""

from __future__ import annotations

import pytest

from fer_augment.readers import image_files
from tests.data_files import encoded, random_images, write_folder, write_zip
from tests.reading import assert_message, read

PNGS = [encoded(image) for image in random_images(60)]


def files(*folders: str, count: int = 3) -> dict[str, bytes]:
    images = iter(PNGS)
    return {f"{folder}/{number}.png": next(images) for folder in folders for number in range(count)}


NO_CLASSES = {
    "one folder": (files("photos"), "photos is the only class folder"),
    "one class in each split": (files("train/cat", "test/cat"), "cat is the only class folder"),
    "below parent folders": (files("faces/Image/aligned"), "aligned is the only class folder"),
    "flat": ({"0.png": PNGS[0], "1.png": PNGS[1]}, "all images are in one folder"),
    "flat splits": (files("train", "test"), "the split folders have no class folders"),
    "Kaggle": (
        files("train_images", "test_images"),
        "2 folders (test_images, train_images): these folders are no classes",
    ),
    "RAF-DB": (files("Image/aligned", "Image/original"), "2 folders (aligned, original): these folders are no classes"),
    "numbered": (files("images_001", "images_002"), "2 folders (images_001, images_002): these folders are no classes"),
    "four folders": (files("img1", "img2", "img3", "img4"), "4 folders (img1, img2, img3, …): these folders"),
    "images and masks": (files("train/images", "train/masks"), "images among the class folders: not a class"),
    "images among classes": (files("cat", "dog", "JPEGImages"), "JPEGImages among the class folders: not a class"),
}


@pytest.mark.parametrize("write", [write_folder, write_zip])
@pytest.mark.parametrize(("content", "expected"), NO_CLASSES.values(), ids=NO_CLASSES)
def test_folders_that_are_no_classes_are_refused(tmp_path, content, expected, write):
    path = write(tmp_path / "a.zip", content)
    assert_message(path, [expected, "make one folder per class", "--data labels.csv"])


@pytest.mark.parametrize(
    "names", [("cat", "images of dogs"), ("aligned", "misaligned"), ("all", "hem"), ("photo", "sketch"), ("0", "1")]
)
def test_similar_class_names_are_accepted(tmp_path, names):
    assert sorted(read(write_folder(tmp_path / "a", files(*names, count=15))).class_names) == sorted(names)


TABLE = b"name,age\n0.png,1\n"


@pytest.mark.parametrize("name", ["ages.csv", "docs/ages.TSV"])
def test_a_table_beside_images_is_named(tmp_path, name):
    content = files("images") | {name: TABLE, ".hidden/x.csv": TABLE, "images/deep/deeper/x.csv": TABLE}
    folder = write_folder(tmp_path / "faces", content)
    assert image_files.recognizes(str(folder))
    assert_message(folder, [f"images is the only class folder; pass the table of the labels: --data {folder}/{name}"])
    archive = write_zip(tmp_path / "faces.zip", content)
    assert_message(archive, [f"unpack it and pass the table of the labels: --data {name}"])


def test_missing_test_split_with_a_validation_split_is_renamed(tmp_path):
    content = files("data/train/cat", "data/train/dog", "data/val/cat", "data/val/dog", count=12)
    folder = write_folder(tmp_path / "a", content)
    assert_message(
        folder,
        ["the test split is empty; rename the folder data/val to data/test, and a validation split is split off"],
    )
    (folder / "data" / "val").rename(folder / "data" / "test")
    splits = read(folder)
    assert [len(part) for part in splits.parts.values()] == [22, 2, 24]


def test_missing_test_and_validation_split_are_split_off_from_the_train_folder(tmp_path):
    folder = write_folder(tmp_path / "a", files("train/cat", "train/dog", count=20))
    assert_message(
        folder, [f"add a folder test with class folders, or pass {folder}/train to have validation and test"]
    )
    assert sum(map(len, read(folder / "train").parts.values())) == 40


def test_files_are_checked_before_any_image_is_decoded(tmp_path):
    content = dict.fromkeys(files("train/cat", "train/dog", "test/cat", "test/emu", "val/emu", "val/fox"), b"no image")
    assert_message(
        write_folder(tmp_path / "a", content),
        ["the test split has rows of emu, the train split has none; add images of it to train"],
    )


def test_fer2013_classes_are_compared_ignoring_case(tmp_path):
    names = ["Angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    content = files(*(f"train/{name}" for name in names), "test/angry", "val/ANGRY")
    assert read(write_folder(tmp_path / "a", content)).test.counts.tolist() == [3, 0, 0, 0, 0, 0, 0]


GOOD = files("train/cat", "train/dog", "test/cat", "test/dog")
OFFENDERS = {
    "misplaced": (
        dict.fromkeys(["a.png", "b.png", "c.png", "train/d.png"], PNGS[0]),
        "4 images (a.png, b.png, c.png, …): not in split/class/image like the other images; move or remove them",
    ),
    "unknown splits": (
        dict.fromkeys(["tset/cat/0.png", "tset/cat/1.png", "other/cat/0.png", "extra/cat/0.png"], PNGS[0]),
        "4 images (extra/cat/0.png, other/cat/0.png, tset/cat/0.png, …): expected split/class/image, but "
        "3 folders (extra, other, tset) are not splits",
    ),
    "unprintable": (
        dict.fromkeys(["train/\x1b/0.png", "train/\x1b/1.png"], PNGS[0]),
        r"2 images (train/\x1b/0.png, train/\x1b/1.png): the class name has unprintable characters",
    ),
    "image release": (
        dict.fromkeys([f"test/cat/{name}.png" for name in ("PublicTest_1", "PrivateTest_1")], PNGS[0]),
        "6 images (test/cat/0.png, test/cat/1.png, test/cat/2.png, …): name does not start with PublicTest_ or "
        "PrivateTest_; rename or remove them",
    ),
}


@pytest.mark.parametrize(("added", "expected"), OFFENDERS.values(), ids=OFFENDERS)
def test_several_offending_images_are_counted_and_the_first_three_are_named(tmp_path, added, expected):
    for path in (write_folder(tmp_path / "a", GOOD | added), write_zip(tmp_path / "b.zip", GOOD | added)):
        assert_message(path, [f"{path}: {expected}"])
