"""The csv reader: FER2013 files in both editions, and messages with line numbers for invalid ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fer_augment.readers import csv_file
from fer_augment.readers._pixel_text import parse_row, parse_rows
from tests.data_files import FER2013_CLASSES, ICML_HEADER, KAGGLE_HEADER, USAGES, csv_rows, random_images, write_csv
from tests.reading import assert_message, assert_source_rows, message_of, read


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
def test_csv_files_round_trip(tmp_path, table, header, quoted, newline, ends):
    images, labels, usages = table
    rows = csv_rows(images, labels, usages)
    end = newline if ends else ""
    splits = read(write_csv(tmp_path / "a.csv", rows, header=header, quoted=quoted, newline=newline, end=end))
    for usage, part in zip(USAGES, (splits.train, splits.validation, splits.test), strict=True):
        np.testing.assert_array_equal(part.images[:], images[usages == usage])
        np.testing.assert_array_equal(part.labels, labels[usages == usage])
    assert splits.class_names == FER2013_CLASSES
    assert_source_rows(splits)


@given(
    rows=st.lists(st.text("0123459 ", max_size=14).map(str.encode), min_size=1, max_size=4),
    count=st.integers(1, 4),
)
def test_the_fast_path_agrees_with_the_slow_path_or_returns_none(rows, count):
    def parse_slowly(row):
        numbers = [int(number) for number in row.split()]
        is_regular = row == b" ".join(row.split()) and max(map(len, row.split()), default=0) <= 3
        return numbers if is_regular and len(numbers) == count and max(numbers) <= 255 else None

    expected = [parse_slowly(row) for row in rows]
    parsed = parse_rows(rows, count)
    assert (None if parsed is None else parsed.tolist()) == (None if None in expected else expected)


def test_irregular_white_space_and_leading_zeros_are_read(tmp_path):
    rows = [(0, "1 2 3 4", usage) for usage in USAGES] + [(0, " 0010\t255  0 00000 ", "Training")]
    splits = read(write_csv(tmp_path / "a.csv", rows))
    assert splits.train.images[1].ravel().tolist() == [10, 255, 0, 0]
    np.testing.assert_array_equal(parse_row(b"1  2"), [1, 2])


def test_long_files_are_read_in_blocks(tmp_path, monkeypatch):
    images, labels, usages = random_images(40), np.arange(40) % 7, list(USAGES) * 13 + ["Training"]
    path = write_csv(tmp_path / "a.csv", csv_rows(images, labels, usages))
    whole = read(path).fingerprint
    monkeypatch.setattr(csv_file, "_BYTES_AT_ONCE", 100)
    positions = []
    assert read(path, lambda done, total: positions.append(done)).fingerprint == whole
    assert len(positions) > 5
    with path.open("a") as file:
        file.write("0,1 2 3,Training\n")
    assert "line 42: 3 pixels" in message_of(path)


def test_a_byte_order_mark_and_empty_lines_are_ignored(tmp_path):
    path = write_csv(tmp_path / "a.csv", csv_rows(random_images(3), [0, 0, 0], USAGES))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\n\n") + b" \n")
    assert [len(part) for part in read(path).parts.values()] == [1, 1, 1]
    path.write_bytes(path.read_bytes() + b"9,1,Training\n")
    assert "line 10: unknown label '9'" in message_of(path)


def test_a_missing_validation_split_is_split_off_from_training_rows(tmp_path):
    rows = csv_rows(random_images(50), np.zeros(50, int), ["Training"] * 40 + ["PrivateTest"] * 10)
    splits = read(write_csv(tmp_path / "a.csv", rows))
    assert [len(part) for part in splits.parts.values()] == [36, 4, 10]
    assert "validation: 1 in 10 rows of train, split off" in splits.source
    assert_source_rows(splits)


GOOD = [
    (0, "1 2 3 4", "Training"),
    (1, "1 2 3 4", "Training"),
    (0, "1 2 3 4", "PublicTest"),
    (0, "1 2 3 4", "PrivateTest"),
]
BAD_CSV_FILES = {
    "no rows": (b"emotion,pixels,Usage\n", ["has a header but no rows"]),
    "doubled": (
        b"emotion,pixels,Usage,pixels\n0,1,Training,2\n",
        ["line 1", "pixels is the name of two columns; rename one of them"],
    ),
    "no usage": (b"emotion,pixels\n0,1\n", ["line 1", "missing Usage (it is emotion,pixels)"]),
    "no emotion": (b"label,pixels,Usage\n0,1,Training\n", ["line 1", "missing emotion (it is label,pixels,Usage)"]),
    "few pixels": ([*GOOD, (0, "1 2 3", "Training")], ["line 6: 3 pixels", "have 4"]),
    "many pixels": ([*GOOD, (0, "1 2 3 4 5", "Training")], ["line 6: 5 pixels", "have 4"]),
    "not square": ([(0, "1 2 3", "Training")], ["line 2: 3 pixels", "square"]),
    "no pixels": ([(0, "", "Training")], ["line 2: 0 pixels"]),
    "no pixels later": ([*GOOD, (0, "", "Training")], ["line 6: 0 pixels"]),
    "over 255": ([*GOOD, (0, "1 2 256 4", "Training")], ["line 6: pixel 3 is '256'", "0 to 255"]),
    "four digits": ([*GOOD, (0, "1 2 1000 4", "Training")], ["line 6: pixel 3 is '1000'"]),
    "negative": ([*GOOD, (0, "1 -2 3 4", "Training")], ["line 6: pixel 2 is '-2'"]),
    "decimal": ([*GOOD, (0, "1 2 3.0 4", "Training")], ["line 6: pixel 3 is '3.0'"]),
    "not a number": ([*GOOD, (0, "1 2 x\x1b 4", "Training")], [r"line 6: pixel 3 is 'x\x1b'"]),
    "open quote": ([*GOOD, (0, '"1 2 3 4', "Training")], ["line 6: pixel 1 is '\"1'"]),
    "pixel moved to the next row": (
        [*GOOD, (0, "1 2 3", "Training"), (0, "4 1 2 3 4", "Training")],
        ["line 6: 3 pixels"],
    ),
    "few fields": (b"emotion,pixels,Usage\n0,1\n", ["line 2: 2 fields", "header has 3"]),
    "many fields": (b"emotion,pixels,Usage\n0,1,2,Training\n", ["line 2: 4 fields"]),
    "label 7": ([*GOOD, (7, "1 2 3 4", "Training")], ["line 6: unknown label '7'", "0 angry", "6 neutral"]),
    "label name": ([*GOOD, ("sad", "1 2 3 4", "Training")], ["line 6: unknown label 'sad'"]),
    "usage": (
        [*GOOD, (0, "1 2 3 4", "Trainin")],
        ["line 6: unknown Usage 'Trainin'; did you mean 'Training'?"],
    ),
    "no test rows": (GOOD[:3], ["the test split is empty", "'PrivateTest'"]),
    "no training rows": (GOOD[2:], ["the train split is empty", "'Training'"]),
    "class without training": (
        [*GOOD, (5, "1 2 3 4", "PrivateTest")],
        ["the test split has rows of surprise", "train"],
    ),
    "one image": ([GOOD[0], GOOD[3]], ["too few images (1) to split off"]),
}


@pytest.mark.parametrize(("content", "expected"), BAD_CSV_FILES.values(), ids=BAD_CSV_FILES)
def test_invalid_csv_files_are_refused_with_the_line_number(tmp_path, content, expected):
    path = tmp_path / "bad.csv"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_csv(path, content)
    assert_message(path, expected)


@pytest.mark.parametrize(
    "header", ["", "0,1 2 3 4,Training", "image,emotion,Usage", "emotion,Usage", "pixels,label", "\0\xff"]
)
def test_files_without_the_columns_of_fer2013_are_not_recognized(tmp_path, header):
    path = tmp_path / "a.csv"
    path.write_bytes(header.encode() + b"\n")
    assert not csv_file.recognizes(str(path))
