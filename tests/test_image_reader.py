"""The reader of image files: folder layouts, class order, split-off splits, and messages for invalid files."""

from __future__ import annotations

import os
import random
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_augment as fa
from fer_augment import DatasetError
from fer_augment.data.decoded_files import _WORTH_THREADS
from fer_augment.data.image_files import ImageFile
from fer_augment.data.new_images import read_images
from fer_augment.data.pixels import fitted
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
from tests.image_formats import FORMATS, SHAPE, example, exif, photograph, reference, saved, xmp
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


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_hidden_files_are_ignored_and_other_files_are_listed(tmp_path, write):
    hidden = {
        "__MACOSX/train/angry/Training_0.png": b"",
        "train/.DS_Store": b"",
        ".cache/train/angry/x.png": b"",
        "train/angry/.x.png": b"",
        "train/angry/Thumbs.db": b"",
        "desktop.ini": b"",
    }
    others = {"README.md": b"text", "train/labels.csv": b"a,b", "train/sad/no_suffix": b"", "train/\n.txt": b"x"}
    expected = read(write(tmp_path / "a.zip", release()))
    splits = read(write(tmp_path / "b.zip", release() | hidden))
    assert (splits.fingerprint, splits.notes) == (expected.fingerprint, ())
    splits = read(write(tmp_path / "c.zip", release() | hidden | {"README.md": b""}))
    assert splits.notes == splits.omissions == ("README.md: not in a supported image format; left out",)
    splits = read(write(tmp_path / "d.zip", release() | hidden | others))
    assert splits.fingerprint == expected.fingerprint
    assert splits.notes == (
        "train/labels.csv: a table, but none of its columns (a, b) is known as image or label; left out; if it lists "
        "the images, name its columns in a source description (docs/data.md): columns: {image: NAME, label: NAME}",
        r"3 files (README.md, train/\n.txt, train/sad/no_suffix): not in a supported image format; left out",
    )


def test_images_are_recognized_by_content_whatever_their_suffix(tmp_path):
    files = {
        "train/cat/ISIC_0001": FORMATS["color.jpg"](),
        "train/dog/photo.jpg.1": FORMATS["color.webp"](),
        "val/cat/wrong.png": FORMATS["color.tiff"](),
        "test/dog/x.dat": FORMATS["color.bmp"](),
        "test/dog/y.JFIF": FORMATS["color.jfif"](),
    }
    splits = read(write_folder(tmp_path / "a", files))
    assert [len(part) for part in splits.parts.values()] == [2, 1, 2]
    assert splits.notes == ()
    assert splits.train.name_of(0) == "train/cat/ISIC_0001"


def test_every_format_is_read_and_conversions_are_listed(tmp_path):
    files = {f"{'ab'[number % 2]}/{name}": make() for number, (name, make) in enumerate(FORMATS.items())}
    files["a/rotated.jpg"] = saved(example(), "JPEG", exif=exif(6))
    source = write_folder(tmp_path / "a", files)
    splits = fa.read_data(source, size=SHAPE, progress=False)
    assert sum(map(len, splits.parts.values())) == len(FORMATS) + 1
    assert splits.train.image_shape == (*SHAPE, 3)
    assert "1 image rotated or mirrored by EXIF orientation" in splits.notes
    assert "2 images converted from CMYK to RGB" in splits.notes
    gray = sum(reference(make()).shape[2] == 1 for make in FORMATS.values())
    assert f"{gray} images converted from gray to color" in splits.notes


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_images_are_found_however_deep(tmp_path, write):
    above = "/".join("abcdefghijkl")
    files = {f"{above}/{name}": content for name, content in SMALL.items()}
    assert read(write(tmp_path / "a.zip", files)).fingerprint == read(write(tmp_path / "b.zip", SMALL)).fingerprint


def test_links_are_followed_and_cycles_are_not(tmp_path):
    elsewhere = write_folder(tmp_path / "elsewhere", SMALL)
    source = write_folder(tmp_path / "source", {name: SMALL[name] for name in SMALL if "train" not in name})
    (source / "train").symlink_to(elsewhere / "train")
    (elsewhere / "train/cat/back").symlink_to(elsewhere / "train")
    (source / "test/dog/above").symlink_to(source)
    (source / "test/dog/itself").symlink_to(source / "test/dog")
    assert read(source).fingerprint == read(elsewhere).fingerprint


def test_a_folder_that_is_linked_twice_is_read_twice(tmp_path):
    source = write_folder(tmp_path / "source", SMALL)
    (source / "test/emu").symlink_to(source / "test/dog")
    (source / "train/emu").symlink_to(source / "train/dog")
    splits = read(source)
    assert splits.class_names == ("cat", "dog", "emu")
    assert splits.train.counts.tolist() == [2, 2, 2]


def test_pipes_are_not_opened(tmp_path):
    source = write_folder(tmp_path / "source", SMALL)
    os.mkfifo(source / "train/cat/pipe.png")
    (source / "train/dog/zeros.png").symlink_to("/dev/zero")
    splits = read(source)
    assert len(splits.train) == 4
    note = "2 files (train/cat/pipe.png, train/dog/zeros.png): pipes, sockets or devices; left out"
    assert splits.notes == splits.omissions == (note,)


def test_devices_and_huge_files_are_no_new_images(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DatasetError, match="/dev/zero: cannot be read .not a regular file"):
        read_images([Path("/dev/zero")], (8, 8, 1))
    with pytest.raises(DatasetError, match=r"huge.png: larger than 512 MiB; reduce its size"):
        read_images([tmp_path / "huge.png"], (8, 8, 1))


def test_a_broken_link_is_refused(tmp_path):
    source = write_folder(tmp_path / "source", SMALL)
    (source / "train/cat/link.png").symlink_to(tmp_path / "nothing")
    assert_message(source, ["train/cat/link.png: cannot be read (No such file or directory)"])


def test_each_image_is_opened_once(tmp_path, monkeypatch):
    source = write_zip(tmp_path / "a.zip", release() | {"README.md": b"text"})
    opened: Counter[str] = Counter()
    original = zipfile.ZipFile.open

    def counting(archive, info, *arguments, **options):
        opened[info.filename] += 1
        return original(archive, info, *arguments, **options)

    monkeypatch.setattr(zipfile.ZipFile, "open", counting)
    read(source)
    assert opened == Counter([*release(), "README.md", "train/angry/Training_0.png"]), "the first for the size of all"


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


@pytest.mark.parametrize("channels", [1, 3])
def test_size_and_color_are_kept(tmp_path, channels):
    files = split_files({"train": 1, "val": 1, "test": 1}, side=3, channels=channels)
    splits = read(write_folder(tmp_path / "a", files))
    assert splits.train.image_shape == (3, 3, channels)
    assert splits.notes == ()
    np.testing.assert_array_equal(splits.train.images[:], random_images(6, 3, channels)[:2])


def test_transparent_images_are_composited_over_white(tmp_path):
    files = split_files({"train": 1, "val": 1, "test": 1}, side=3, channels=4)
    splits = read(write_folder(tmp_path / "a", files))
    assert splits.notes == ("6 images with transparency composited over white",)
    expected = [reference(files[name]) for name in ("train/cat/0.png", "train/dog/0.png")]
    np.testing.assert_array_equal(splits.train.images[:], expected)


def mixed(first_color: int) -> dict[str, bytes]:
    """Return 150 images of which one is in color."""
    images = random_images(150, 4, 3)
    return {
        f"{'ab'[number % 2]}/{number:03}.png": encoded(image if number == first_color else image[..., :1])
        for number, image in enumerate(images)
    }


@pytest.mark.parametrize("first_color", [0, 1, 149])
def test_a_color_image_among_gray_ones_makes_all_color(tmp_path, first_color):
    files = mixed(first_color)
    done = []
    splits = read(write_folder(tmp_path / "a", files), lambda count, total: done.append(count))
    assert splits.notes == ("149 images converted from gray to color",)
    for part in splits.parts.values():
        for row in range(len(part)):
            expected = reference(files[part.name_of(row)])
            np.testing.assert_array_equal(part.images[[row]][0], np.broadcast_to(expected, (4, 4, 3)))
    assert sum(later < earlier for earlier, later in pairwise(done)) <= 2, (
        "decodes at most twice, then looks for duplicates"
    )


def test_color_images_become_gray_where_gray_is_set(tmp_path):
    splits = fa.read_data(write_folder(tmp_path / "a", mixed(7)), channels="gray", progress=False)
    assert splits.train.image_shape == (4, 4, 1)
    assert splits.notes == ("1 image converted from color to gray",)


@pytest.mark.parametrize("size", [6, np.int64(6), [6, 6]])
def test_a_size_is_one_number_or_two_also_of_numpy(tmp_path, size):
    splits = fa.read_data(write_folder(tmp_path / "a", SMALL), size=size, progress=False)
    assert splits.train.image_shape[:2] == (6, 6)


@pytest.mark.parametrize("size", [0, 6.0, True, 10_001, "6"])
def test_other_sizes_are_refused(tmp_path, size):
    with pytest.raises(DatasetError, match="^size: should be one whole number from 1 to 10000, or two"):
        fa.read_data(write_folder(tmp_path / "a", SMALL), size=size, progress=False)


@pytest.mark.parametrize(("setting", "value"), [("fit", "resize"), ("channels", "grey")])
def test_an_unknown_fit_or_color_is_refused(tmp_path, setting, value):
    with pytest.raises(DatasetError, match=f"^{setting}: should be .*, got '{value}'$"):
        fa.read_data(write_folder(tmp_path / "a", SMALL), size=6, progress=False, **{setting: value})


def test_class_names_that_differ_only_in_case_are_noted(tmp_path):
    names = ("Cat", "cat", "dog", "Dog", "emu")
    images = iter(random_images(100))
    files = {f"{name}/{number}.png": encoded(next(images)) for name in names for number in range(20)}
    write_zip(tmp_path / "a.zip", files)
    splits = read(tmp_path / "a.zip")
    assert splits.class_names == ("Cat", "Dog", "cat", "dog", "emu")
    assert splits.notes == (
        "class names that differ only in case: Cat and cat; Dog and dog; to merge them, set classes: {Cat: cat} in a "
        "source description (docs/data.md)",
    )
    (tmp_path / "a.yaml").write_text("images: a.zip\nclasses: {Cat: cat, Dog: dog}\n")
    assert read(tmp_path / "a.yaml").notes == ()


def test_class_names_that_are_the_same_number_are_noted(tmp_path):
    images = iter(random_images(100))
    names = ("0", "01", "1", "-0", "10")
    write_zip(tmp_path / "a.zip", {f"{name}/{row}.png": encoded(next(images)) for name in names for row in range(20)})
    assert read(tmp_path / "a.zip").notes == (
        "class names that are the same number: '-0' and '0'; '01' and '1'; to merge them, set classes: {'-0': '0'} in "
        "a source description (docs/data.md)",
    )
    (tmp_path / "a.yaml").write_text("images: a.zip\nclasses: {'-0': '0', '01': '1'}\n")
    assert read(tmp_path / "a.yaml").notes == ()
    assert read(tmp_path / "a.yaml").class_names == ("0", "1", "10")


def test_images_of_several_sizes_are_fitted_to_one(tmp_path):
    files = {name: encoded(photograph(30 + i, 40, 1)) for i, name in enumerate(SMALL)}
    splits = fa.read_data(write_folder(tmp_path / "a", files), size=(16, 12), fit="pad", progress=False)
    assert splits.train.image_shape == (16, 12, 1)
    assert splits.notes == ("12 images resized",)
    name = splits.test.name_of(0)
    expected = fitted(reference(files[name]), (16, 12), "pad")
    np.testing.assert_array_equal(splits.test.images[[0]][0], expected)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (
            [(48, 64)] * 3 + [(100, 50), (30, 30)],
            "3 sizes (width x height), 30x30 to 50x100, most often 64x48 (3 of 5)",
        ),
        ([(48, 64)] * 3 + [(100, 50), (30, 30)], "--set data.size=48, or `size: 48` to a source description"),
        ([(7, 9), (8, 9), (9, 9)], "data.size=16,"),
        ([(512, 384), (384, 512), (100, 100)], "data.size=128,"),
        ([(125, 90), (90, 125), (10, 10), (500, 500)], "data.size=64,"),
        ([(20, 30), (31, 30)], "b/1.png is 30x31;"),
    ],
)
def test_several_sizes_without_a_size_are_one_message(tmp_path, shapes, expected):
    files = {f"{'ab'[i % 2]}/{i}.png": encoded(np.zeros(shape, np.uint8)) for i, shape in enumerate(shapes)}
    assert_message(write_zip(tmp_path / "a.zip", files), [expected])


def test_sizes_are_those_after_exif_orientation(tmp_path):
    upright, rotated = saved(example(), "JPEG"), saved(example(), "JPEG", exif=exif(6))
    files = dict.fromkeys((f"{'ab'[i % 2]}/{i}.jpg" for i in range(30)), upright)
    assert_message(write_folder(tmp_path / "a", files | {"a/x.jpg": rotated}), ["most often 7x11", "a/x.jpg is 11x7"])
    by_xmp = saved(example(), "JPEG", xmp=xmp(6))
    files |= dict.fromkeys(("a/x.jpg", "a/y.jpg"), by_xmp)
    assert_message(write_folder(tmp_path / "c", files), ["most often 7x11 (30 of 32)", "a/x.jpg is 11x7"])
    with pytest.raises(fa.DatasetError, match="too few images"):  # one group of exact duplicates
        read(write_folder(tmp_path / "b", dict.fromkeys(("a/x.jpg", "b/x.jpg"), rotated)))


def test_sizes_of_large_sources_are_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_augment.data.decoded_files._MEASURED", 10)
    files = {f"{'ab'[i % 2]}/{i:02}.png": encoded(np.zeros((20, 20), np.uint8)) for i in range(40)}
    files["a/03.png"] = encoded(np.zeros((21, 20), np.uint8))
    assert_message(
        write_folder(tmp_path / "a", files), ["2 sizes", "9 of 10 images measured, 41 in all", "a/03.png is"]
    )


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


def test_a_file_too_large_for_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "sparse", split_files({"train": 2, "test": 2}))
    for name in ("huge.png", "huge"):  # the second is an image by its first bytes
        with (folder / "train" / "cat" / name).open("wb") as file:
            file.write(encoded(random_images(1)[0]))
            file.truncate(1 << 33)  # occupies no space on disk
        assert_message(folder, [f"train/cat/{name}: larger than 512 MiB; reduce the size of or remove it"])
        (folder / "train" / "cat" / name).unlink()
    large = ImageFile("a.png", lambda: bytes(9), "1")
    with monkeypatch.context() as patch, pytest.raises(DatasetError, match="a.png: larger than 0 MiB"):
        patch.setattr("fer_augment.data.image_files.LARGEST_FILE", 8)
        large.read()

    archive = tmp_path / "zeros.zip"
    write_zip(archive, split_files({"train": 2, "test": 2}))
    with (
        zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as appended,
        appended.open("train/cat/huge.png", "w", force_zip64=True) as member,
    ):
        for _ in range(33):
            member.write(bytes(1 << 24))
    assert_message(archive, ["train/cat/huge.png: larger than 512 MiB"])


def test_a_pipe_as_description_is_refused_without_waiting_for_its_content(tmp_path):
    os.mkfifo(tmp_path / "source.yaml")
    assert_message(tmp_path / "source.yaml", ["neither a regular file nor a folder"])


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
    "empty": ({}, ["no images found"]),
    "csv file": ({"fer2013.csv": b"emotion"}, ["no images found", "fer2013.csv"]),
    "unsupported format": (
        SMALL | {"train/cat/x.jp2": PNG},
        ["train/cat/x.jp2: format not supported; convert or remove it"],
    ),
    "several of unsupported formats": (
        SMALL | dict.fromkeys(("train/a.psd", "train/b.NEF", "train/cat/c.dcm", "x.jxl"), b""),
        ["4 files (train/a.psd, train/b.NEF, train/cat/c.dcm, …): format not supported; convert or remove them"],
    ),
    "several that are no images": (
        SMALL
        | dict.fromkeys(("train/cat/1.png", "train/dog/0.png", "train/dog/1.png"), b"<html>")
        | {"test/cat/0.png": b""},
        [
            "4 files cannot be decoded",
            "train/cat/1.png: not a readable image (no supported image format)",
            "; and 1 more",
        ],
    ),
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
    "32 bits": (
        SMALL | {"train/dog/1.png": saved(Image.new("F", (4, 4)), "TIFF")},
        ["train/dog/1.png: has 32 bits per channel"],
    ),
    "two sizes": (
        SMALL | {"train/dog/1.png": encoded(np.zeros((4, 5), np.uint8)), "validation/cat/0.png": b""},
        ["2 sizes", "4x4 to 5x4", "most often 4x4 (10 of 11)", "train/dog/1.png is 5x4", "--set data.size=16"],
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


def write_misnamed(path):
    write_zip(path, SMALL | {"train/cat/é.png": b""})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))


BAD_ZIP_FILES = {
    "missing": (lambda path: None, ["no such file"]),
    "empty": (lambda path: path.write_bytes(b""), ["not a complete zip file", "re-download it"]),
    "text": (lambda path: path.write_text("hello"), ["not a complete zip file"]),
    "truncated": (
        lambda path: path.write_bytes(write_zip(path, SMALL).read_bytes()[:-30]),
        ["not a complete zip file"],
    ),
    "damaged member": (write_damaged_member, [": train/cat/0.png: damaged", "CRC"]),
    "misnamed": (write_misnamed, ["said to be UTF-8, but is not (b'train/cat/\\xff\\xfe.png')", "zip it again"]),
    "encrypted": (write_encrypted, [": train/cat/0.png: damaged or encrypted", "re-download the zip file"]),
}


@pytest.mark.parametrize(("write", "expected"), BAD_ZIP_FILES.values(), ids=BAD_ZIP_FILES)
def test_invalid_zip_files_are_refused(tmp_path, write, expected):
    write(tmp_path / "bad.zip")
    assert_message(tmp_path / "bad.zip", expected)


# --- progress


def test_decoding_and_the_search_for_near_duplicates_are_one_activity(tmp_path):
    files = {f"cat/{number:03}.png": encoded(image) for number, image in enumerate(random_images(100, 16))}
    files |= {f"dog/{number:03}.png": encoded(image) for number, image in enumerate(random_images(70, 16, channels=3))}
    reports = []
    read(write_folder(tmp_path / "a", files), lambda done, total: reports.append((done, total)))
    assert {total for _, total in reports} == {170}
    done = [count for count, _ in reports]
    assert done == sorted(done), "decoding starts again at the first color image, but the progress does not"
    for third in (170 // 3, 2 * 170 // 3):
        assert third in done, "an image is done when it is decoded, also to a thumbnail, and compared"
    assert done[-1] == 170
