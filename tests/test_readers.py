"""Data sources as people have them are read as they are, and what is wrong with one is told in one line."""

from __future__ import annotations

import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fer_augment import DatasetError, ImageDataset, PixelBlock
from fer_augment.data.npy_format import write_npy_folder
from fer_augment.hooks.plugin_manager import collect
from fer_augment.readers import csv_file, demo, image_files, npy_folder
from fer_augment.readers._image_decoding import _WORTH_THREADS
from fer_augment.readers._pixel_text import parse_row, parse_rows
from tests.data_files import (
    FER2013_CLASSES,
    ICML_HEADER,
    KAGGLE_HEADER,
    USAGES,
    csv_rows,
    encoded,
    random_images,
    release,
    write_csv,
    write_folder,
    write_npy,
    write_zip,
)

READERS = collect([(m.__name__, "fer_augment", m) for m in (csv_file, image_files, npy_folder, demo)])
SPLITS = ("train", "validation", "test")


def read(source, progress=lambda done, total: None):
    return READERS.read(str(source), progress)


def message_of(source) -> str:
    with pytest.raises(DatasetError) as caught:
        read(source)
    message = str(caught.value)
    assert message.isprintable(), "one line, no control characters"
    return message


def assert_sources(splits):
    """Every split stands as read: its rows descend from nothing but themselves."""
    for part in splits.parts.values():
        np.testing.assert_array_equal(part.origins, np.arange(len(part))[:, None])
        assert not part.step.any()
        assert not part.copies.any()


def assert_no_group_is_parted(splits):
    digests = [set(part.digests.tolist()) for part in splits.parts.values()]
    assert not (digests[0] & digests[1] or digests[0] & digests[2] or digests[1] & digests[2])


# ----------------------------------------------------------------------------------------- all formats


@pytest.fixture
def sources(tmp_path):
    """One source of each format, by the reader's name."""
    images = random_images(6)
    table = csv_rows(images, [0] * 6, USAGES * 2)
    labels = np.arange(2)
    pairs = {
        f"{letter}_{word}": a
        for word in ("training", "dev", "test")
        for letter, a in (("X", images[:2]), ("Y", labels))
    }
    return {
        "csv_file": [
            write_csv(tmp_path / "a.CSV", table),
            write_csv(tmp_path / "no_suffix", table),
            "missing.csv",
        ],
        "image_files": [
            write_zip(tmp_path / "a.zip", release()),
            write_folder(tmp_path / "folder", release()),
            write_folder(tmp_path / "folder.csv", release()),
            "missing.zip",
        ],
        "npy_folder": [write_npy(tmp_path / "npy", pairs, ["a", "b"])],
        "demo": ["demo"],
    }


def test_a_source_is_recognized_by_its_reader_alone(sources):
    assert not READERS.problems
    for expected, of_reader in sources.items():
        for source in of_reader:
            found = [offer.name for offer in READERS.of_kind("dataset reader") if offer.value.recognizes(str(source))]
            assert found == [expected], source


@pytest.mark.parametrize("source", ["", "missing", "\0", "x" * 5000, "/dev/null", "demo.txt"])
def test_what_is_no_source_is_recognized_by_nobody(source):
    assert not any(offer.value.recognizes(source) for offer in READERS.offers)


def test_a_folder_called_demo_does_not_hide_the_demo_faces(tmp_path, monkeypatch):
    write_folder(tmp_path / "demo", release())
    monkeypatch.chdir(tmp_path)
    recognized = [offer.name for offer in READERS.offers if offer.value.recognizes("demo")]
    assert recognized == ["demo"]
    assert len(read("./demo").train) == 14


def test_demo_faces_have_fer2013s_classes_and_a_source_without_a_path():
    splits = read("demo")
    assert splits.source == "demo faces (drawn)"
    assert splits.class_names == FER2013_CLASSES
    assert splits.train.image_shape == (48, 48, 1)
    assert_sources(splits)


def test_all_readers_report_progress_up_to_the_end(sources):
    for of_reader in sources.values():
        if str(of_reader[0]) != "demo":
            seen = []
            read(of_reader[0], lambda done, total, seen=seen: seen.append((done, total)))
            assert seen[-1][0] == seen[-1][1] > 0
            assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# ------------------------------------------------------------------------------------------- csv files


@st.composite
def tables(draw):
    side = draw(st.integers(1, 5))
    count = draw(st.integers(3, 12))
    images = draw(arrays(np.uint8, (count, side, side, 1)))
    labels = draw(arrays(np.int64, count, elements=st.integers(0, 6)))
    usages = [*USAGES, *draw(st.lists(st.sampled_from(USAGES), min_size=count - 3, max_size=count - 3))]
    labels[np.array(usages) != "Training"] = labels[0]
    return images, labels, np.array(usages)


@given(
    table=tables(),
    header=st.sampled_from([KAGGLE_HEADER, ICML_HEADER, "Usage,extra,pixels,emotion"]),
    quoted=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_csv_file_reads_back_as_it_was_written(tmp_path, table, header, quoted, newline, ends):
    images, labels, usages = table
    rows = csv_rows(images, labels, usages)
    end = newline if ends else ""
    splits = read(write_csv(tmp_path / "a.csv", rows, header=header, quoted=quoted, newline=newline, end=end))
    for usage, part in zip(USAGES, (splits.train, splits.validation, splits.test), strict=True):
        np.testing.assert_array_equal(part.images[:], images[usages == usage])
        np.testing.assert_array_equal(part.labels, labels[usages == usage])
    assert splits.class_names == FER2013_CLASSES
    assert_sources(splits)


@given(
    rows=st.lists(st.text("0123459 ", max_size=14).map(str.encode), min_size=1, max_size=4),
    count=st.integers(1, 4),
)
def test_the_fast_way_gives_what_the_exact_way_gives_or_nothing(rows, count):
    def exact(row):
        numbers = [int(number) for number in row.split()]
        evenly = row == b" ".join(row.split()) and max(map(len, row.split()), default=0) <= 3
        return numbers if evenly and len(numbers) == count and max(numbers) <= 255 else None

    expected = [exact(row) for row in rows]
    parsed = parse_rows(rows, count)
    assert (None if parsed is None else parsed.tolist()) == (None if None in expected else expected)


def test_pixels_that_are_not_written_in_the_usual_way_are_read_exactly(tmp_path):
    rows = [(0, "1 2 3 4", usage) for usage in USAGES] + [(0, " 0010\t255  0 00000 ", "Training")]
    splits = read(write_csv(tmp_path / "a.csv", rows))
    assert splits.train.images[1].ravel().tolist() == [10, 255, 0, 0]
    np.testing.assert_array_equal(parse_row(b"1  2"), [1, 2])


def test_rows_of_a_long_file_are_read_block_by_block(tmp_path, monkeypatch):
    images, labels, usages = random_images(40), np.arange(40) % 7, list(USAGES) * 13 + ["Training"]
    path = write_csv(tmp_path / "a.csv", csv_rows(images, labels, usages))
    whole = read(path).fingerprint
    monkeypatch.setattr(csv_file, "_BYTES_AT_ONCE", 100)
    done = []
    assert read(path, lambda now, total: done.append(now)).fingerprint == whole
    assert len(done) > 5
    with path.open("a") as file:
        file.write("0,1 2 3,Training\n")
    assert "line 42: 3 pixels" in message_of(path)


def test_a_mark_before_the_header_and_empty_lines_do_no_harm(tmp_path):
    path = write_csv(tmp_path / "a.csv", csv_rows(random_images(3), [0, 0, 0], USAGES))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\n\n") + b" \n")
    assert [len(part) for part in read(path).parts.values()] == [1, 1, 1]
    path.write_bytes(path.read_bytes() + b"9,1,Training\n")
    assert "line 10: unknown label '9'" in message_of(path)


def test_a_csv_file_without_public_test_rows_has_its_validation_part_split_off(tmp_path):
    rows = csv_rows(random_images(50), np.zeros(50, int), ["Training"] * 40 + ["PrivateTest"] * 10)
    splits = read(write_csv(tmp_path / "a.csv", rows))
    assert [len(part) for part in splits.parts.values()] == [36, 4, 10]
    assert "validation: 1 in 10 rows of train, split off" in splits.source
    assert_sources(splits)


GOOD = [
    (0, "1 2 3 4", "Training"),
    (1, "1 2 3 4", "Training"),
    (0, "1 2 3 4", "PublicTest"),
    (0, "1 2 3 4", "PrivateTest"),
]
BAD_CSV_FILES = {
    "empty": (b"", ["is empty"]),
    "no rows": (b"emotion,pixels,Usage\n", ["has a header and no rows"]),
    "no usage": (b"emotion,pixels\n0,1\n", ["line 1", "lacks Usage (it is emotion,pixels)"]),
    "no header": (b"0,1 2 3 4,Training\n", ["line 1", "lacks emotion, pixels, Usage"]),
    "binary": (bytes(range(256)) * 40, ["line 1", "lacks emotion, pixels, Usage"]),
    "few pixels": ([*GOOD, (0, "1 2 3", "Training")], ["line 6: 3 pixels", "have 4"]),
    "many pixels": ([*GOOD, (0, "1 2 3 4 5", "Training")], ["line 6: 5 pixels", "have 4"]),
    "no square": ([(0, "1 2 3", "Training")], ["line 2: 3 pixels", "square"]),
    "no pixels": ([(0, "", "Training")], ["line 2: 0 pixels"]),
    "no pixels later": ([*GOOD, (0, "", "Training")], ["line 6: 0 pixels"]),
    "over 255": ([*GOOD, (0, "1 2 256 4", "Training")], ["line 6: pixel 3 is '256'", "0 to 255"]),
    "four digits": ([*GOOD, (0, "1 2 1000 4", "Training")], ["line 6: pixel 3 is '1000'"]),
    "negative": ([*GOOD, (0, "1 -2 3 4", "Training")], ["line 6: pixel 2 is '-2'"]),
    "decimal": ([*GOOD, (0, "1 2 3.0 4", "Training")], ["line 6: pixel 3 is '3.0'"]),
    "no number": ([*GOOD, (0, "1 2 x\x1b 4", "Training")], [r"line 6: pixel 3 is 'x\x1b'"]),
    "open quote": ([*GOOD, (0, '"1 2 3 4', "Training")], ["line 6: pixel 1 is '\"1'"]),
    "a pixel moved to the next row": (
        [*GOOD, (0, "1 2 3", "Training"), (0, "4 1 2 3 4", "Training")],
        ["line 6: 3 pixels"],
    ),
    "few fields": (b"emotion,pixels,Usage\n0,1\n", ["line 2: 2 fields", "header has 3"]),
    "many fields": (b"emotion,pixels,Usage\n0,1,2,Training\n", ["line 2: 4 fields"]),
    "label 7": ([*GOOD, (7, "1 2 3 4", "Training")], ["line 6: unknown label '7'", "0 angry", "6 neutral"]),
    "label word": ([*GOOD, ("sad", "1 2 3 4", "Training")], ["line 6: unknown label 'sad'"]),
    "usage": (
        [*GOOD, (0, "1 2 3 4", "Trainin")],
        ["line 6: unknown Usage 'Trainin'; did you mean 'Training'?"],
    ),
    "no test rows": (GOOD[:3], ["the test split is empty", "'PrivateTest'"]),
    "no training rows": (GOOD[2:], ["the train split is empty", "'Training'"]),
    "class without training": (
        [*GOOD, (5, "1 2 3 4", "PrivateTest")],
        ["test has rows of surprise", "train"],
    ),
    "one image": ([GOOD[0], GOOD[3]], ["too few images (1) to split off"]),
}


@pytest.mark.parametrize(("content", "expected"), BAD_CSV_FILES.values(), ids=BAD_CSV_FILES)
def test_a_bad_csv_file_is_refused_by_line(tmp_path, content, expected):
    path = tmp_path / "bad.csv"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_csv(path, content)
    message = message_of(path)
    assert str(path) in message
    for text in expected:
        assert text in message


# ----------------------------------------------------------------------------------------- image files


def test_the_image_release_is_parted_by_the_names_of_its_files(tmp_path):
    files = release()
    splits = read(write_zip(tmp_path / "a.zip", files))
    assert splits.class_names == FER2013_CLASSES
    for prefix, part in zip(USAGES, (splits.train, splits.validation, splits.test), strict=True):
        of_part = sorted(name for name in files if f"/{prefix}_" in name)
        np.testing.assert_array_equal(part.labels, [FER2013_CLASSES.index(name.split("/")[1]) for name in of_part])
        assert [encoded(image) for image in part.images[:]] == [files[name] for name in of_part]
    assert_sources(splits)


def test_zip_and_folder_and_any_order_of_members_give_the_same_data(tmp_path):
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


def test_hidden_files_and_files_that_are_no_images_are_passed_over(tmp_path):
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


def split_files(splits: dict[str, int], classes=("cat", "dog"), side=4, channels=1, suffix=".png") -> dict[str, bytes]:
    """Return `split/class/number` files, so many of each class."""
    images = iter(random_images(sum(splits.values()) * len(classes), side, channels))
    return {
        f"{split}/{name}/{number}{suffix}": encoded(next(images), suffix)
        for split, count in splits.items()
        for name in classes
        for number in range(count)
    }


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val", "test"),
        ("Training", "VALID", "Testing"),
        ("train", "dev", "PrivateTest"),
        ("train", "validation", "TEST"),
    ],
)
def test_split_folders_may_have_their_usual_names_in_any_letter_case(tmp_path, folders):
    splits = read(write_folder(tmp_path / "a", split_files(dict(zip(folders, (3, 2, 1), strict=True)))))
    assert [len(part) for part in splits.parts.values()] == [6, 4, 2]
    assert splits.class_names == ("cat", "dog")


def test_names_as_in_the_image_release_mean_nothing_beside_a_validation_folder(tmp_path):
    files = split_files({"train": 1, "val": 2}) | {f"test/cat/{usage}_1.png": PNG for usage in USAGES}
    assert [len(part) for part in read(write_folder(tmp_path / "a", files)).parts.values()] == [2, 4, 3]


@pytest.mark.parametrize(("channels", "read_as"), [(1, 1), (3, 3), (4, 3)])
def test_images_keep_size_and_colors_and_lose_the_alpha_channel(tmp_path, channels, read_as):
    files = split_files({"train": 1, "val": 1, "test": 1}, side=3, channels=channels)
    splits = read(write_folder(tmp_path / "a", files))
    assert splits.train.image_shape == (3, 3, read_as)
    np.testing.assert_array_equal(splits.train.images[:], random_images(6, 3, channels)[:2, ..., :read_as])


def test_images_need_not_be_square_and_may_be_jpegs(tmp_path):
    image = encoded(np.full((4, 6), 128, np.uint8), ".jpeg")
    names = ("train/a/1.jpg", "val/a/1.JPEG", "test/a/1.Jpg")
    splits = read(write_zip(tmp_path / "a.zip", dict.fromkeys(names, image)))
    assert splits.train.image_shape == (4, 6, 1)
    assert (splits.train.images[:] == 128).all()


def test_large_images_are_decoded_on_several_threads_into_the_right_rows(tmp_path):
    side = 66
    assert side * side * 3 > _WORTH_THREADS
    images = random_images(150, side, 3)
    files = {f"class/{number:03}.png": encoded(image) for number, image in enumerate(images)}
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
def test_classes_have_fer2013s_order_or_else_are_sorted_with_numbers_as_numbers(tmp_path, folders, expected):
    files = split_files({"train": 1, "val": 1, "test": 1}, classes=folders)
    splits = read(write_zip(tmp_path / "a.zip", files))
    assert splits.class_names == expected
    by_image = dict(zip([encoded(image) for image in splits.train.images[:]], splits.train.labels, strict=True))
    named = {folder: expected[by_image[files[f"train/{folder}/0.png"]]] for folder in folders}
    assert all(folder.lower() == name for folder, name in named.items())


def test_a_missing_validation_part_is_split_off_from_train(tmp_path):
    path = write_folder(tmp_path / "a", split_files({"train": 50, "test": 5}))
    splits = read(path)
    assert [part.counts.tolist() for part in splits.parts.values()] == [[45, 45], [5, 5], [5, 5]]
    assert "validation: 1 in 10 rows of train, split off" in splits.source
    assert read(path).fingerprint == splits.fingerprint
    assert_sources(splits)


def test_plain_class_folders_are_split_into_three_without_parting_equal_images(tmp_path):
    distinct = random_images(100)
    images = np.concatenate([distinct, distinct[:40]])
    files = {f"{'ab'[number % 2]}/{number:03}.png": encoded(image) for number, image in enumerate(images)}
    splits = read(write_folder(tmp_path / "plain", files))
    assert [len(part.images) for part in splits.parts.values()] == pytest.approx([112, 14, 14], abs=5)
    assert sum(map(len, splits.parts.values())) == 140
    assert "validation and test: 1 in 10 rows each, split off" in splits.source
    assert_no_group_is_parted(splits)
    assert_sources(splits)


def test_a_class_of_one_image_stays_in_train(tmp_path):
    files = {f"common/{number}.png": encoded(image) for number, image in enumerate(random_images(40))}
    for number, image in enumerate(random_images(20, seed=1)):
        files[f"rare{number}/x.png"] = encoded(image)
    splits = read(write_folder(tmp_path / "plain", files))
    assert splits.train.counts.min() == 1
    assert splits.test.counts.tolist()[1:] == [0] * 20


PNG = encoded(random_images(1)[0])
SMALL = {f"{split}/{name}/{number}.png": PNG for split in SPLITS for name in ("cat", "dog") for number in range(2)}
BAD_IMAGE_FILES = {
    "nothing": ({}, ["holds no png or jpg image"]),
    "only a table": ({"fer2013.csv": b"emotion"}, ["holds no png or jpg image", "fer2013.csv"]),
    "other kind": (SMALL | {"train/cat/x.bmp": PNG}, ["train/cat/x.bmp: only png and jpg"]),
    "no image": (SMALL | {"train/cat/1.png": b"hello"}, ["train/cat/1.png: is no image"]),
    "empty image": (SMALL | {"train/dog/1.png": b""}, ["train/dog/1.png: is no image"]),
    "half an image": (
        SMALL | {"validation/cat/1.png": PNG[: len(PNG) // 2]},
        ["validation/cat/1.png: is no image"],
    ),
    "half a jpeg": (
        SMALL | {"validation/cat/1.jpg": encoded(random_images(1)[0], ".jpg")[:-9]},
        ["validation/cat/1.jpg: is no image"],
    ),
    "16 bits": (
        SMALL | {"train/dog/1.png": encoded(np.zeros((4, 4), np.uint16))},
        ["train/dog/1.png: has uint16"],
    ),
    "two sizes": (
        SMALL | {"train/dog/1.png": encoded(np.zeros((4, 5), np.uint8)), "validation/cat/0.png": b""},
        ["train/dog/1.png: is 5x4 gray", "train/cat/0.png is 4x4 gray", "one size"],
    ),
    "gray and color": (
        SMALL | {"test/dog/1.png": encoded(np.zeros((4, 4, 3), np.uint8))},
        ["test/dog/1.png: is 4x4 color", "all gray or all color"],
    ),
    "unknown split": (
        SMALL | {"tset/cat/0.png": PNG},
        ["tset/cat/0.png", "'tset' is no split; did you mean 'test'?"],
    ),
    "no split, no class": (
        {"train/0.png": PNG, "test/0.png": PNG},
        ["no class folders", "split/class/image"],
    ),
    "stray image": (SMALL | {"preview.png": PNG}, ["preview.png: does not lie in split/class/image"]),
    "deep image": (SMALL | {"test/cat/more/0.png": PNG}, ["test/cat/more/0.png: does not lie in"]),
    "stray in plain": (
        {"cat/0.png": PNG, "dog/0.png": PNG, "x.png": PNG},
        ["x.png: does not lie in class/image"],
    ),
    "two folders": (SMALL | {"val/cat/0.png": PNG}, ["val and validation are the same split"]),
    "no test": (
        {name: SMALL[name] for name in SMALL if "test" not in name},
        ["the test split is empty", "folder test"],
    ),
    "train alone": ({name: SMALL[name] for name in SMALL if "train" in name}, ["the test split is empty"]),
    "no train": ({name: SMALL[name] for name in SMALL if "train" not in name}, ["the train split is empty"]),
    "class not in train": (SMALL | {"test/emu/0.png": PNG}, ["test has rows of emu", "train split has none"]),
    "release and more": (
        release() | {"test/sad/odd.png": PNG},
        ["test/sad/odd.png: begins with neither PublicTest_"],
    ),
    "too few": ({"cat/0.png": PNG, "cat/1.png": PNG}, ["too few images (2)"]),
    "control characters": (SMALL | {"train/cat\n\x1b/0.png": PNG}, [r"train/cat\n\x1b/0.png", "printable"]),
}


@pytest.mark.parametrize("write", [write_folder, write_zip])
@pytest.mark.parametrize(("files", "expected"), BAD_IMAGE_FILES.values(), ids=BAD_IMAGE_FILES)
def test_bad_image_files_are_refused_by_name(tmp_path, capfd, files, expected, write):
    path = tmp_path / "bad.zip"
    path.mkdir() if write is write_folder and not files else write(path, files)
    message = message_of(path)
    assert str(path) in message
    for text in expected:
        assert text in message
    assert capfd.readouterr() == ("", ""), "OpenCV must not talk beside the message"


def damaged_member(path):
    write_zip(path, SMALL)
    content = path.read_bytes()
    path.write_bytes(content.replace(PNG, PNG[:-1] + b"?", 1))


def encrypted(path):
    write_zip(path, SMALL)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


BAD_ZIP_FILES = {
    "missing": (lambda path: None, ["no such file"]),
    "empty": (lambda path: path.write_bytes(b""), ["not a whole zip file", "get it again"]),
    "text": (lambda path: path.write_text("hello"), ["not a whole zip file"]),
    "cut off": (
        lambda path: path.write_bytes(write_zip(path, SMALL).read_bytes()[:-30]),
        ["not a whole zip file"],
    ),
    "damaged member": (damaged_member, [": train/cat/0.png: damaged", "CRC"]),
    "encrypted": (encrypted, [": train/cat/0.png: damaged or encrypted", "get the zip again"]),
}


@pytest.mark.parametrize(("spoil", "expected"), BAD_ZIP_FILES.values(), ids=BAD_ZIP_FILES)
def test_a_bad_zip_file_is_refused(tmp_path, spoil, expected):
    spoil(tmp_path / "bad.zip")
    message = message_of(tmp_path / "bad.zip")
    assert str(tmp_path / "bad.zip") in message
    for text in expected:
        assert text in message


# ----------------------------------------------------------------------------------- converted folders


@pytest.fixture
def converted(tmp_path):
    """Splits and the folder they were written to."""
    splits = read(write_zip(tmp_path / "a.zip", release()))
    write_npy_folder(splits, tmp_path / "out" / "npy")
    return splits, tmp_path / "out" / "npy"


def test_a_converted_folder_holds_the_same_data_memory_mapped(converted):
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
    assert_sources(opened)


def test_splits_made_of_a_file_without_parts_are_the_same_data_when_converted(tmp_path):
    files = {name.removeprefix("train/"): content for name, content in split_files({"train": 30}).items()}
    splits = read(write_folder(tmp_path / "plain", files))
    write_npy_folder(splits, tmp_path / "npy")
    assert read(tmp_path / "npy").fingerprint == splits.fingerprint


def test_converting_goes_in_pieces_and_says_how_far_it_is(tmp_path, monkeypatch):
    splits = read(write_zip(tmp_path / "a.zip", release()))
    monkeypatch.setattr("fer_augment.data.npy_format._BYTES_AT_ONCE", 5 * 16)
    seen = []
    write_npy_folder(splits, tmp_path / "npy", lambda done, total: seen.append((done, total)))
    assert seen == [(done, 42) for done in (5, 10, 14, 19, 24, 28, 33, 38, 42)]
    assert read(tmp_path / "npy").fingerprint == splits.fingerprint


def test_converting_leaves_nothing_behind_when_it_fails(tmp_path):
    splits = read(write_zip(tmp_path / "a.zip", release()))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_npy_folder(splits, tmp_path / "out" / "npy", stop)
    assert not list((tmp_path / "out").iterdir())


def test_converting_overwrites_nothing(converted, tmp_path):
    splits, folder = converted
    with pytest.raises(DatasetError, match="exists already"):
        write_npy_folder(splits, folder)
    with pytest.raises(DatasetError, match=r"cannot be written \(Not a directory\)|\(File exists\)"):
        write_npy_folder(splits, tmp_path / "a.zip" / "npy")


IMAGES, LABELS = random_images(40, side=48)[..., 0], np.arange(40) % 7
PAIRS = {"X_training": IMAGES, "Y_training": LABELS, "X_test": IMAGES, "Y_test": LABELS}
TINY = {"X_training": IMAGES[:, :2], "Y_training": LABELS, "X_test": IMAGES[:, :2], "Y_test": LABELS}


def test_a_folder_with_fer2013s_names_for_the_splits_and_no_class_names_is_fer2013(tmp_path):
    names = ("X_Training", "Y_Training", "X_PublicTest", "y_publictest", "X_privatetest", "Y_privatetest")
    splits = read(write_npy(tmp_path / "npy", dict(zip(names, [IMAGES, LABELS] * 3, strict=True))))
    assert splits.class_names == FER2013_CLASSES
    for part in splits.parts.values():
        np.testing.assert_array_equal(part.images[:], IMAGES[..., None])
        np.testing.assert_array_equal(part.labels, LABELS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_])
def test_labels_may_be_one_hot(tmp_path, dtype):
    one_hot = np.eye(7, dtype=dtype)[LABELS]
    splits = read(write_npy(tmp_path / "npy", PAIRS | {"Y_training": one_hot}))
    np.testing.assert_array_equal(splits.parts["test"].labels, LABELS)
    assert np.bincount(splits.train.labels).sum() == len(splits.train)


def test_labels_may_be_a_column(tmp_path):
    assert len(read(write_npy(tmp_path / "npy", PAIRS | {"Y_test": LABELS[:, None]})).test) == 40


def test_a_validation_part_that_is_split_off_shares_the_memory_map_of_train(tmp_path):
    splits = read(write_npy(tmp_path / "npy", PAIRS))
    assert [len(part) for part in splits.parts.values()] == [36, 4, 40]
    assert splits.train.blocks[0] is splits.validation.blocks[0]
    together = np.concatenate([splits.train.index, splits.validation.index])
    np.testing.assert_array_equal(np.sort(together), np.arange(40))
    for part in (splits.train, splits.validation):
        np.testing.assert_array_equal(part.images[:], IMAGES[part.index, ..., None])
        np.testing.assert_array_equal(part.labels, LABELS[part.index])
    assert_sources(splits)


def test_class_names_are_kept_in_their_order_but_fer2013s(tmp_path):
    names = ["zebra", "ant", "bee", "cat", "dog", "emu", "fox"]
    assert read(write_npy(tmp_path / "a", PAIRS, names)).class_names == tuple(names)
    by_alphabet = [name.title() for name in sorted(FER2013_CLASSES)]
    splits = read(write_npy(tmp_path / "b", PAIRS, by_alphabet))
    assert splits.class_names == FER2013_CLASSES
    found = [FER2013_CLASSES[label].title() for label in splits.test.labels]
    assert found == [by_alphabet[label] for label in LABELS]


BAD_NPY_FOLDERS = {
    "no labels": ({**PAIRS, "Y_test": None}, None, ["Y_test.npy: no such file"]),
    "no test": ({**PAIRS, "X_test": None}, None, ["the test split is empty", "X_test.npy and Y_test.npy"]),
    "no training": ({**PAIRS, "X_training": None}, None, ["the train split is empty", "X_training.npy"]),
    "no rows": ({**PAIRS, "X_test": IMAGES[:0], "Y_test": LABELS[:0]}, None, ["the test split is empty"]),
    "both names": (
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
    "cube of labels": ({**PAIRS, "Y_test": np.zeros((40, 2, 2))}, None, ["Y_test.npy", "(40, 2, 2)"]),
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
    "equal class names": (PAIRS, ["a", "a"], ["classes.json", "different names"]),
    "odd class names": (PAIRS, ["a", "\x1b"], ["classes.json", "different names"]),
    "numbers for names": (PAIRS, [1, 2], ["classes.json", "different names"]),
    "class not in train": (
        {**TINY, "Y_training": LABELS % 2},
        list("abcdefg"),
        ["test has rows of c, d, e, f, g"],
    ),
}


@pytest.mark.parametrize(("pairs", "classes", "expected"), BAD_NPY_FOLDERS.values(), ids=BAD_NPY_FOLDERS)
def test_a_bad_converted_folder_is_refused_by_file(tmp_path, pairs, classes, expected):
    kept = {name: array for name, array in pairs.items() if array is not None}
    path = write_npy(tmp_path / "bad", kept, classes)
    message = message_of(path)
    assert str(path) in message
    for text in expected:
        assert text in message


@pytest.mark.parametrize("name", ["X_test.npy", "Y_test.npy", "classes.json"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_damaged_files_in_a_converted_folder_are_refused_by_name(tmp_path, name, content):
    path = write_npy(tmp_path / "bad", PAIRS, FER2013_CLASSES)
    (path / name).write_bytes(content)
    assert str(path / name) in message_of(path)


def test_a_cut_off_file_of_images_is_refused(tmp_path):
    path = write_npy(tmp_path / "bad", PAIRS)
    os.truncate(path / "X_test.npy", 5000)
    assert str(path / "X_test.npy") in message_of(path)


# ------------------------------------------------------------------------------------- rows of a block


def test_a_data_set_of_some_rows_of_a_block_equals_one_of_copies():
    images, labels = random_images(6), np.array([0, 1, 0, 1, 1, 0])
    rows = np.array([4, 0, 5])
    view = ImageDataset.from_arrays(PixelBlock.of(images), labels[rows], "ab", rows=rows)
    copy = ImageDataset.from_arrays(images[rows], labels[rows], "ab")
    assert view.fingerprint == copy.fingerprint
    np.testing.assert_array_equal(view.images[:], copy.images[:])
    np.testing.assert_array_equal(view.origin, [0, 1, 2])
    with pytest.raises(DatasetError, match=r"positions in 0\.\.5"):
        ImageDataset.from_arrays(images, [0], "ab", rows=[6])


# -------------------------------------------------------------------------------------- FER2013 itself


@pytest.fixture(scope="module")
def archive() -> Path:
    if not os.environ.get("FER2013"):
        pytest.skip("FER2013 is not set")
    path = Path(os.environ["FER2013"])
    return path / "fer2013_images.zip" if path.is_dir() else path


@pytest.fixture(scope="module")
def fer2013(archive):
    return read(archive)


def test_fer2013_has_its_official_counts(fer2013):
    assert fer2013.class_names == FER2013_CLASSES
    assert fer2013.train.image_shape == (48, 48, 1)
    assert {name: part.counts.tolist() for name, part in fer2013.parts.items()} == {
        "train": [3995, 436, 4097, 7215, 4830, 3171, 4965],
        "validation": [467, 56, 496, 895, 653, 415, 607],
        "test": [491, 55, 528, 879, 594, 416, 626],
    }


def test_fer2013_has_its_known_duplicates(fer2013):
    digests = np.concatenate([part.digests for part in fer2013.parts.values()])
    _, counts = np.unique(digests, return_counts=True)
    assert ((counts > 1).sum(), counts[counts > 1].sum()) == (1516, 3369)
    assert fer2013.in_train(fer2013.test).sum() == 288
    assert fer2013.in_train(fer2013.validation).sum() == 280


def test_fer2013_is_the_same_data_as_csv_zip_and_converted_folder(fer2013, archive, tmp_path):
    write_npy_folder(fer2013, tmp_path / "npy")
    assert read(tmp_path / "npy").fingerprint == fer2013.fingerprint
    every_30th = {name: part.take(np.arange(0, len(part), 30)) for name, part in fer2013.parts.items()}
    rows = [
        row
        for usage, part in zip(USAGES, every_30th.values(), strict=True)
        for row in csv_rows(part.images[:], part.labels, [usage] * len(part))
    ]
    for header in (KAGGLE_HEADER, ICML_HEADER):
        from_csv = read(write_csv(tmp_path / "a.csv", rows, header=header))
        for name, part in every_30th.items():
            np.testing.assert_array_equal(from_csv.parts[name].images[:], part.images[:])
            np.testing.assert_array_equal(from_csv.parts[name].labels, part.labels)


def test_a_folder_with_a_part_of_fer2013_is_read_like_its_zip(fer2013, archive, tmp_path):
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in sorted(opened.namelist()) if name.endswith("7.jpg")][::10]
        folder = write_folder(tmp_path / "folder", {name: opened.read(name) for name in names})
    splits = read(folder)
    assert sum(map(len, splits.parts.values())) == len(names) > 200
    for name, part in splits.parts.items():
        assert set(part.digests.tolist()) <= set(fer2013.parts[name].digests.tolist())
