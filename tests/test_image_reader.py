"""The reader of image files: folder layouts, class order, split-off splits, and messages for invalid files."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fer_augment.data.pixel_cache import _WORTH_THREADS
from tests.data_files import (
    FER2013_CLASSES,
    SPLITS,
    USAGES,
    encoded,
    random_images,
    release,
    split_files,
    write_folder,
    write_zip,
)
from tests.reading import assert_message, assert_source_rows, read


def test_the_image_release_is_split_by_file_names(tmp_path):
    files = release()
    splits = read(write_zip(tmp_path / "a.zip", files))
    assert splits.class_names == FER2013_CLASSES
    for prefix, part in zip(USAGES, (splits.train, splits.validation, splits.test), strict=True):
        names = sorted(name for name in files if f"/{prefix}_" in name)
        np.testing.assert_array_equal(part.labels, [FER2013_CLASSES.index(name.split("/")[1]) for name in names])
        assert [encoded(image) for image in part.images[:]] == [files[name] for name in names]
    assert_source_rows(splits)


def test_zip_files_and_folders_give_the_same_data_in_any_order(tmp_path):
    files = release()
    shuffled = dict(random.Random(0).sample(sorted(files.items()), len(files)))
    nested = {f"fer2013/{name}": content for name, content in shuffled.items()}
    sources = [
        write_zip(tmp_path / "a.zip", files),
        write_zip(tmp_path / "b.zip", shuffled),
        write_zip(tmp_path / "c.ZIP", nested),
        write_folder(tmp_path / "d", shuffled),
        write_folder(tmp_path / "e", nested),
        write_zip(tmp_path / "f.zip", {name.replace("/", "\\"): content for name, content in files.items()}),
    ]
    assert len({read(source).fingerprint for source in sources}) == 1


def test_hidden_files_and_other_file_types_are_ignored(tmp_path):
    clutter = {
        "__MACOSX/train/angry/Training_0.png": b"",
        "train/.DS_Store": b"",
        ".cache/train/angry/x.png": b"",
        "train/angry/.x.png": b"",
        "README.md": b"",
        "train/labels.csv": b"",
    }
    expected = read(write_zip(tmp_path / "a.zip", release())).fingerprint
    assert read(write_zip(tmp_path / "b.zip", release() | clutter)).fingerprint == expected
    assert read(write_folder(tmp_path / "c", release() | clutter)).fingerprint == expected


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val", "test"),
        ("Training", "VALID", "Testing"),
        ("train", "dev", "PrivateTest"),
        ("train", "validation", "TEST"),
    ],
)
def test_common_split_names_are_accepted_ignoring_case(tmp_path, folders):
    splits = read(write_folder(tmp_path / "a", split_files(dict(zip(folders, (3, 2, 1), strict=True)))))
    assert [len(part) for part in splits.parts.values()] == [6, 4, 2]
    assert splits.class_names == ("cat", "dog")


def test_file_name_prefixes_are_ignored_if_there_is_a_validation_folder(tmp_path):
    files = split_files({"train": 1, "val": 2}) | {f"test/cat/{usage}_1.png": PNG for usage in USAGES}
    assert [len(part) for part in read(write_folder(tmp_path / "a", files)).parts.values()] == [2, 4, 3]


@pytest.mark.parametrize(("channels", "read_as"), [(1, 1), (3, 3), (4, 3)])
def test_size_and_color_are_kept_and_the_alpha_channel_is_dropped(tmp_path, channels, read_as):
    files = split_files({"train": 1, "val": 1, "test": 1}, side=3, channels=channels)
    splits = read(write_folder(tmp_path / "a", files))
    assert splits.train.image_shape == (3, 3, read_as)
    np.testing.assert_array_equal(splits.train.images[:], random_images(6, 3, channels)[:2, ..., :read_as])


def test_rectangular_jpeg_images_are_read(tmp_path):
    image = encoded(np.full((4, 6), 128, np.uint8), ".jpeg")
    names = ("train/a/1.jpg", "train/b/1.jpg", "val/a/1.JPEG", "test/a/1.Jpg")
    splits = read(write_zip(tmp_path / "a.zip", dict.fromkeys(names, image)))
    assert splits.train.image_shape == (4, 6, 1)
    assert (splits.train.images[:] == 128).all()


def test_multithreaded_decoding_of_large_images_keeps_their_order(tmp_path):
    side = 66
    assert side * side * 3 > _WORTH_THREADS
    images = random_images(150, side, 3)
    files = {f"{'ab'[number // 75]}/{number:03}.png": encoded(image) for number, image in enumerate(images)}
    splits = read(write_zip(tmp_path / "a.zip", files))
    rows = np.concatenate([part.index for part in splits.parts.values()])
    np.testing.assert_array_equal(np.concatenate([part.images[:] for part in splits.parts.values()]), images[rows])


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("10", "9", "1"), ("1", "9", "10")),
        (("c10", "c2", "b"), ("b", "c2", "c10")),
        (("Neutral", "SAD", "happy", "Angry", "Disgust", "Fear", "Surprise"), FER2013_CLASSES),
        (("sad", "happy"), ("happy", "sad")),
    ],
)
def test_classes_are_in_fer2013_order_or_naturally_sorted(tmp_path, folders, expected):
    files = split_files({"train": 1, "val": 1, "test": 1}, classes=folders)
    splits = read(write_zip(tmp_path / "a.zip", files))
    assert splits.class_names == expected
    by_image = dict(zip([encoded(image) for image in splits.train.images[:]], splits.train.labels, strict=True))
    name_of = {folder: expected[by_image[files[f"train/{folder}/0.png"]]] for folder in folders}
    assert all(folder.lower() == name for folder, name in name_of.items())


def test_a_missing_validation_split_is_split_off_from_train(tmp_path):
    path = write_folder(tmp_path / "a", split_files({"train": 50, "test": 5}))
    splits = read(path)
    assert [part.counts.tolist() for part in splits.parts.values()] == [[45, 45], [5, 5], [5, 5]]
    assert "validation: 1 in 10 rows of train, split off" in splits.source
    assert read(path).fingerprint == splits.fingerprint
    assert_source_rows(splits)


def test_class_folders_without_splits_are_split_and_duplicates_stay_together(tmp_path):
    distinct = random_images(100)
    images = np.concatenate([distinct, distinct[:40]])
    files = {f"{'ab'[number % 2]}/{number:03}.png": encoded(image) for number, image in enumerate(images)}
    splits = read(write_folder(tmp_path / "plain", files))
    assert [len(part.images) for part in splits.parts.values()] == pytest.approx([112, 14, 14], abs=5)
    assert sum(map(len, splits.parts.values())) == 140
    assert "validation and test: 1 in 10 rows each, split off" in splits.source
    train, validation, test = (set(part.digests.tolist()) for part in splits.parts.values())
    assert not (train & validation or train & test or validation & test)
    assert_source_rows(splits)


def test_a_class_with_one_image_stays_in_train(tmp_path):
    files = {f"common/{number}.png": encoded(image) for number, image in enumerate(random_images(40))}
    for number, image in enumerate(random_images(20, seed=1)):
        files[f"rare{number}/x.png"] = encoded(image)
    splits = read(write_folder(tmp_path / "plain", files))
    assert splits.train.counts.min() == 1
    assert splits.test.counts.tolist()[1:] == [0] * 20


PNG = encoded(random_images(1)[0])
SMALL = {f"{split}/{name}/{number}.png": PNG for split in SPLITS for name in ("cat", "dog") for number in range(2)}
BAD_IMAGE_FILES = {
    "empty": ({}, ["no png or jpg images found"]),
    "csv file": ({"fer2013.csv": b"emotion"}, ["no png or jpg images found", "fer2013.csv"]),
    "other format": (SMALL | {"train/cat/x.bmp": PNG}, ["train/cat/x.bmp: only png and jpg"]),
    "not an image": (SMALL | {"train/cat/1.png": b"hello"}, ["train/cat/1.png: not a readable image"]),
    "empty image": (SMALL | {"train/dog/1.png": b""}, ["train/dog/1.png: not a readable image"]),
    "truncated png": (
        SMALL | {"validation/cat/1.png": PNG[: len(PNG) // 2]},
        ["validation/cat/1.png: not a readable image"],
    ),
    "truncated jpeg": (
        SMALL | {"validation/cat/1.jpg": encoded(random_images(1)[0], ".jpg")[:-9]},
        ["validation/cat/1.jpg: not a readable image"],
    ),
    "16 bits": (
        SMALL | {"train/dog/1.png": encoded(np.zeros((4, 4), np.uint16))},
        ["train/dog/1.png: has uint16"],
    ),
    "two sizes": (
        SMALL | {"train/dog/1.png": encoded(np.zeros((4, 5), np.uint8)), "validation/cat/0.png": b""},
        ["train/dog/1.png: is 5x4 gray", "train/cat/0.png is 4x4 gray", "the same size"],
    ),
    "gray and color": (
        SMALL | {"test/dog/1.png": encoded(np.zeros((4, 4, 3), np.uint8))},
        ["test/dog/1.png: is 4x4 color", "all gray or all color"],
    ),
    "unknown split": (
        SMALL | {"tset/cat/0.png": PNG},
        ["tset/cat/0.png", "'tset' is not a split; did you mean 'test'?"],
    ),
    "no split, no class": (
        {"train/0.png": PNG, "test/0.png": PNG},
        ["no class folders", "split/class/image", "make one folder per class"],
    ),
    "stray image": (SMALL | {"preview.png": PNG}, ["preview.png: not in split/class/image"]),
    "deep image": (SMALL | {"test/cat/more/0.png": PNG}, ["test/cat/more/0.png: not in split/class/image"]),
    "stray image without splits": (
        {"cat/0.png": PNG, "dog/0.png": PNG, "x.png": PNG},
        ["x.png: not in class/image"],
    ),
    "two folders of one split": (SMALL | {"val/cat/0.png": PNG}, ["val and validation are the same split"]),
    "no test": (
        {name: SMALL[name] for name in SMALL if "test" not in name},
        ["the test split is empty; rename the folder validation to test"],
    ),
    "train alone": (
        {name: SMALL[name] for name in SMALL if "train" in name},
        ["the test split is empty; add a folder test with class folders"],
    ),
    "no train": (
        {name: SMALL[name] for name in SMALL if "train" not in name},
        ["the train split is empty; add a folder train with class folders"],
    ),
    "class not in train": (SMALL | {"test/emu/0.png": PNG}, ["the test split has rows of emu", "train split has none"]),
    "image release with another file": (
        release() | {"test/sad/odd.png": PNG},
        ["test/sad/odd.png: name does not start with PublicTest_"],
    ),
    "too few images": ({"cat/0.png": PNG, "dog/1.png": PNG}, ["too few images (2)"]),
    "control characters": (SMALL | {"train/cat\n\x1b/0.png": PNG}, [r"train/cat\n\x1b/0.png", "printable"]),
}


@pytest.mark.parametrize("write", [write_folder, write_zip])
@pytest.mark.parametrize(("files", "expected"), BAD_IMAGE_FILES.values(), ids=BAD_IMAGE_FILES)
def test_invalid_image_folders_are_refused_with_the_file_name(tmp_path, capfd, files, expected, write):
    path = tmp_path / "bad.zip"
    path.mkdir() if write is write_folder and not files else write(path, files)
    assert_message(path, expected)
    assert capfd.readouterr() == ("", ""), "OpenCV prints nothing"


def write_damaged_member(path):
    write_zip(path, SMALL)
    content = path.read_bytes()
    path.write_bytes(content.replace(PNG, PNG[:-1] + b"?", 1))


def write_encrypted(path):
    write_zip(path, SMALL)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


BAD_ZIP_FILES = {
    "missing": (lambda path: None, ["no such file"]),
    "empty": (lambda path: path.write_bytes(b""), ["not a complete zip file", "re-download it"]),
    "text": (lambda path: path.write_text("hello"), ["not a complete zip file"]),
    "truncated": (
        lambda path: path.write_bytes(write_zip(path, SMALL).read_bytes()[:-30]),
        ["not a complete zip file"],
    ),
    "damaged member": (write_damaged_member, [": train/cat/0.png: damaged", "CRC"]),
    "encrypted": (write_encrypted, [": train/cat/0.png: damaged or encrypted", "re-download the zip file"]),
}


@pytest.mark.parametrize(("write", "expected"), BAD_ZIP_FILES.values(), ids=BAD_ZIP_FILES)
def test_invalid_zip_files_are_refused(tmp_path, write, expected):
    write(tmp_path / "bad.zip")
    assert_message(tmp_path / "bad.zip", expected)
