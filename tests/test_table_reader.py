"""The reader of tables: formats, columns, names of images, splits, groups, classes, and messages for invalid tables."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from fer_augment import DatasetError, ImageSource, Omission
from fer_augment.data.pixels import PixelSettings
from fer_augment.readers import _table_parquet, image_files, table
from fer_augment.readers._image_members import Member
from fer_augment.readers._table_images import NamedImage, _Index, splits_in
from tests.command_line import fer_augment
from tests.data_files import FER2013_CLASSES, encoded, random_images, write_folder, write_table, write_tar, write_zip
from tests.reading import READERS, assert_message, assert_source_rows, message_of, read

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow, which the extra parquet installs"
)

COUNT = 30
IMAGES = random_images(COUNT)
LABELS = ["cat", "dog", "emu"] * 10
SPLITS = ["train"] * 18 + ["val"] * 6 + ["test"] * 6
FILES = [f"{number:02}.png" for number in range(COUNT)]


def write_images(folder: Path, names=FILES, images=IMAGES) -> Path:
    return write_folder(folder, {name: encoded(image) for name, image in zip(names, images, strict=False)})


def opened(source):
    """Open a table without decoding its images."""
    return table.read(str(source), lambda done, total: None)


def names_of(source) -> list[str]:
    return [Path(file.name).name for file in source.files]


def labels_of(source) -> list[str]:
    return [source.class_names[label] for label in source.labels]


def images_by_split(splits) -> dict[str, np.ndarray]:
    return {name: part.images[:] for name, part in splits.parts.items()}


def assert_split_images(splits, images=IMAGES) -> None:
    """The first 18 images are in train, the next 6 in validation, the last 6 in test."""
    for part, expected in zip(splits.parts.values(), np.split(images, [18, 24]), strict=True):
        np.testing.assert_array_equal(part.images[:], expected)
    assert_source_rows(splits)


# --- formats


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.jsonl", "LABELS.CSV"])
@pytest.mark.parametrize("passed", ["the table", "the folder"])
def test_a_table_beside_a_folder_of_images_is_read(tmp_path, name, passed):
    write_images(tmp_path / "images")
    file = write_table(tmp_path / name, {"image": FILES, "label": LABELS, "split": SPLITS})
    splits = read(file if passed == "the table" else tmp_path)
    assert_split_images(splits)
    assert splits.class_names == ("cat", "dog", "emu")
    assert [splits.class_names[label] for label in splits.train.labels] == LABELS[:18]
    assert splits.notes[0] == "columns: image (image), label (label), split (split)"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_file_is_detected(tmp_path, delimiter):
    write_images(tmp_path)
    file = write_table(tmp_path / "a.csv", {"": range(COUNT), "image": FILES, "label": LABELS}, delimiter)
    assert labels_of(opened(file)) == LABELS


def test_quotes_spaces_empty_lines_and_a_byte_order_mark_are_understood(tmp_path):
    write_images(tmp_path, ["a, b.png", "c.png"])
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfimage, label\r\n\r\n"a, b.png", "two words"\r\n c.png ,x\r\n')
    assert labels_of(opened(tmp_path / "a.csv")) == ["two words", "x"]


def test_a_csv_file_of_two_columns_needs_no_header(tmp_path):
    write_images(tmp_path)
    (tmp_path / "a.csv").write_text("".join(f"{name},{label}\n" for name, label in zip(FILES, LABELS, strict=True)))
    assert labels_of(opened(tmp_path / "a.csv")) == LABELS


@pytest.mark.parametrize("suffix", [".txt", ".lst"])
def test_lists_of_names_and_labels_are_read(tmp_path, suffix):
    names = [f"my photo {number}.png" for number in range(COUNT)]
    write_images(tmp_path / "images", names)
    file = tmp_path / f"list{suffix}"
    file.write_text("\n".join(f"{name}  {label}" for name, label in zip(names, LABELS, strict=True)))
    for source in (file, tmp_path):
        assert names_of(opened(source)) == names
        assert labels_of(opened(source)) == LABELS


def test_other_text_files_are_not_tables(tmp_path):
    for name, text in {"README.txt": "Photos, taken in 2021.", "empty.txt": "", "words.txt": "one two\nthree"}.items():
        (tmp_path / name).write_text(text)
        assert not table.recognizes(str(tmp_path / name))
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    assert not table.recognizes(str(tmp_path / "binary.txt"))
    assert not table.recognizes(str(tmp_path))


# --- layouts


def test_the_layout_of_kaggle_with_ids_and_unlabeled_test_images_is_read(tmp_path):
    ids = [name.removesuffix(".png") for name in FILES]
    write_images(tmp_path / "train_images")
    write_images(tmp_path / "test_images", FILES[:4], random_images(4, seed=1))
    write_table(tmp_path / "train.csv", {"id_code": ids, "diagnosis": [number % 3 for number in range(COUNT)]})
    write_table(tmp_path / "test.csv", {"id_code": ids[:4]})
    write_table(tmp_path / "sample_submission.csv", {"id_code": ids[:4], "diagnosis": [0] * 4})
    for passed in (tmp_path, tmp_path / "train.csv"):
        source = opened(passed)
        assert source.class_names == ("0", "1", "2")
        assert (source.split == -1).all(), "one table of the split train has all images"
        assert all("train_images" in file.name for file in source.files)
        assert any("4 images (test_images/00.png, " in note and "no row in the table" in note for note in source.notes)
    assert any("2 tables (sample_submission.csv, test.csv)" in note for note in read(tmp_path).omissions)
    assert sum(map(len, read(tmp_path).parts.values())) == COUNT


def test_one_table_for_each_split_is_read_from_their_folder(tmp_path):
    for split, rows in {"train": slice(0, 18), "valid": slice(18, 24), "test": slice(24, 30)}.items():
        write_images(tmp_path / split, FILES, IMAGES[rows])
        count = len(IMAGES[rows])
        write_table(tmp_path / f"{split}_labels.csv", {"image": FILES[:count], "label": LABELS[rows]})
    assert_split_images(read(tmp_path))


def test_an_image_in_the_tables_of_two_splits_is_refused(tmp_path):
    write_images(tmp_path / "images")
    for split, rows in {"train": slice(0, 20), "test": slice(18, 30)}.items():
        write_table(tmp_path / f"{split}_labels.csv", {"image": FILES[rows], "label": LABELS[rows]})
    assert_message(
        tmp_path, ["2 images (images/18.png, images/19.png): several rows that differ in label, votes, split"]
    )
    (tmp_path / "a.yaml").write_text("images: .\ncolumns: {split: null}\n")
    notes = READERS.open(str(tmp_path / "a.yaml")).splits(PixelSettings(), lambda done, total: None).notes
    assert any("2 images" in note and "read once" in note for note in notes)


def test_the_layout_of_raf_db_is_read(tmp_path):
    names = [f"{'train' if number < 24 else 'test'}_{number:05}" for number in range(COUNT)]
    write_images(tmp_path / "Image" / "aligned", [f"{name}_aligned.png" for name in names])
    lines = [f"{name}.png {number % 7 + 1}" for number, name in enumerate(names)]
    (tmp_path / "EmoLabel").mkdir()
    file = tmp_path / "EmoLabel" / "list_patition_label.txt"
    file.write_text("\n".join(lines))
    for passed in (tmp_path, file):
        source = opened(passed)
        assert source.class_names == ("1", "2", "3", "4", "5", "6", "7")
        assert source.split.tolist() == [0] * 24 + [2] * 6
        assert "images were matched by their names followed by _aligned" in source.notes
        assert "the splits are those at the start of the file names" in source.notes


@pytest.mark.parametrize("hidden", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_hidden_files_in_a_folder_of_tables_do_not_matter(tmp_path, hidden):
    write_images(tmp_path / "images")
    file = write_table(tmp_path / "labels" / "a.csv", {"image": FILES, "label": LABELS})
    (tmp_path / "labels" / hidden).write_bytes(b"x")
    assert names_of(opened(file)) == FILES


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_imagefolder_of_hugging_face_with_metadata_is_read(tmp_path, suffix):
    for split, rows in {"train": slice(0, 18), "validation": slice(18, 24), "test": slice(24, 30)}.items():
        write_images(tmp_path / split, FILES, IMAGES[rows])
        columns = {"file_name": FILES[: len(IMAGES[rows])], "label": LABELS[rows]}
        write_table(tmp_path / split / f"metadata{suffix}", columns)
    assert_split_images(read(tmp_path))


def test_a_key_of_json_lines_may_first_occur_in_any_line(tmp_path):
    names = [f"{number}.png" for number in range(130)]
    write_images(tmp_path, names, random_images(130))
    rows = [{"image": name, "label": "ab"[number % 2]} for number, name in enumerate(names)]
    rows[-1]["split"] = "test"
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert_message(tmp_path / "labels.jsonl", ["column 'split': some rows have no split"])


def test_a_tsv_file_is_divided_at_tabs_even_if_its_header_has_commas(tmp_path):
    write_images(tmp_path, FILES)
    columns = {"image": FILES, "label": LABELS, "split": SPLITS, "notes, free, text, and, so, on": [""] * len(FILES)}
    assert_split_images(read(write_table(tmp_path / "labels.tsv", columns)))


def test_metadata_of_hugging_face_above_the_splits_is_read(tmp_path):
    folders = {"train": "train", "val": "validation", "test": "test"}
    names = [f"{folders[split]}/{name}" for split, name in zip(SPLITS, FILES, strict=True)]
    write_images(tmp_path, names)
    write_table(tmp_path / "metadata.jsonl", {"file_name": names, "label": LABELS})
    splits = read(tmp_path)
    assert_split_images(splits)
    assert "the splits are those of the folders of the images" in splits.notes


def test_images_in_a_zip_file_beside_the_table_are_named_in_a_description(tmp_path):
    write_zip(tmp_path / "photos.zip", {f"x/{name}": encoded(image) for name, image in zip(FILES, IMAGES, strict=True)})
    write_table(tmp_path / "labels.csv", {"image": FILES, "label": LABELS, "split": SPLITS})
    (tmp_path / "photos.yaml").write_text("images: photos.zip\ntable: labels.csv\n")
    assert_split_images(read(tmp_path / "photos.yaml"))


def test_tables_take_precedence_over_class_folders(tmp_path):
    write_images(tmp_path, [f"{label}/{name}" for label, name in zip(LABELS, FILES, strict=True)])
    assert not table.recognizes(str(tmp_path))
    write_table(tmp_path / "labels.csv", {"image": FILES, "label": ["a", "b"] * 15})
    assert read(tmp_path).class_names == ("a", "b")


def of_patients(labels=("mole", "nevus"), text: str | None = None) -> dict[str, bytes]:
    """Return 40 images in a folder for each patient, and a table of their labels."""
    names = [f"P{number // 10}/{number:02}.png" for number in range(40)]
    lines = ["image,label,patient", *(f"{name},{labels[i % 2]},{name[:2]}" for i, name in enumerate(names))]
    images = {name: encoded(image) for name, image in zip(names, random_images(40), strict=True)}
    return images | {"labels.csv": (text or "\n".join(lines)).encode()}


ONE_HOT = ["image,a,b", *(f"P{number // 10}/{number:02}.png,{number % 2},{1 - number % 2}" for number in range(40))]
UNREADABLE_TABLES = {
    "Latin-1": (of_patients(("mole", "nävus"))["labels.csv"].decode().encode("latin-1"), "not UTF-8 text"),
    "UTF-16": (of_patients()["labels.csv"].decode().encode("utf-16"), "not UTF-8 text"),
    "one-hot with a wrong row": ("\n".join([*ONE_HOT[:-1], "P3/39.png,1,1"]), "P3/39.png: not exactly one 1"),
    "one-hot with a text": ("\n".join([*ONE_HOT[:-1], "P3/39.png,x,1"]), "P3/39.png: not exactly one 1"),
    "one-hot with a short row": ("\n".join([*ONE_HOT[:-1], "P3/39.png,1"]), "line 41: 2 fields"),
    "two columns of one name": ("image,label,x,x\nP0/00.png,a,1,1\n", "several columns 'x'"),
}


@pytest.mark.parametrize(("content", "expected"), UNREADABLE_TABLES.values(), ids=UNREADABLE_TABLES)
def test_a_table_that_cannot_be_read_is_refused_instead_of_taking_folders_for_classes(tmp_path, content, expected):
    write_folder(tmp_path, of_patients())
    (tmp_path / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for source in (tmp_path, tmp_path / "labels.csv"):
        assert_message(source, [expected])
    assert image_files.read(str(tmp_path), lambda done, total: None).class_names == ("P0", "P1", "P2", "P3")


TABLE = of_patients()["labels.csv"].decode()
NO_TABLES = {
    "open quote": ("a.csv", TABLE.replace("patient", '"patient'), "line 1: unexpected end of data (a quote is not"),
    "NUL": ("a.csv", "\0\0" + TABLE, "line 1: has NUL characters"),
    "UTF-16 without a mark": ("a.tsv", TABLE.encode("utf-16-le"), "line 1: has NUL characters"),
    "empty": ("a.csv", "", "is empty"),
    "no JSON": ("a.jsonl", '{bad\n{"image": "P0/00.png", "label": "a"}', "line 1: not JSON"),
    "JSON array": ("a.jsonl", '[{"image": "P0/00.png", "label": "a"}]', "line 1: expected an object"),
}


@pytest.mark.parametrize(("name", "content", "expected"), NO_TABLES.values(), ids=NO_TABLES)
def test_a_file_that_is_called_a_table_but_cannot_be_read_as_one_is_refused(tmp_path, name, content, expected):
    files = of_patients() | {name: content if isinstance(content, bytes) else content.encode()}
    del files["labels.csv"]
    write_folder(tmp_path / "a", files)
    write_zip(tmp_path / "a.zip", files)
    for source in (tmp_path / "a", tmp_path / "a.zip"):
        assert_message(source, [name, expected, "remove or rename it", "--reader image_files"])
        assert image_files.read(str(source), lambda done, total: None).class_names == ("P0", "P1", "P2", "P3")


def test_a_damaged_table_in_an_archive_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", of_patients())
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"image,label,patient", b"image,label,subject"))
    message = message_of(archive)
    assert message.startswith(f"{archive}: labels.csv: damaged")
    assert message.count("a.zip") == 1


@pytest.mark.parametrize("above", ["# made by x, 2021\n", "sep=,\n", '"sep=,"\r\n', "# a\n\n# b\nsep=,\n", "#", "# "])
def test_comments_and_a_named_delimiter_above_the_header_are_skipped(tmp_path, above):
    write_images(tmp_path, FILES[:4])
    lines = [f"{name},{label},x y z;;;" for name, label in zip(FILES, "abab", strict=False)]
    (tmp_path / "a.csv").write_text(above + "\n".join(["image,label,notes", *lines]))
    assert labels_of(opened(tmp_path)) == list("abab")
    (tmp_path / "a.csv").write_text(above + "\n".join(["image,label,notes", *lines, "x"]))
    line = 5 + above.count("\n") + 1
    assert f"line {line}: 1 fields" in message_of(tmp_path / "a.csv")


def test_a_name_that_starts_with_a_number_sign_is_no_comment(tmp_path):
    write_images(tmp_path, [f"#{name}" for name in FILES[:4]])
    for name, mark in (("a.csv", ","), ("a.txt", " ")):
        (tmp_path / name).write_text("\n".join(f"#{FILES[row]}{mark}{'ab'[row % 2]}" for row in range(4)))
        assert labels_of(opened(tmp_path / name)) == list("abab")
    write_table(tmp_path / "b.csv", {"#": range(4), "image": [f"#{name}" for name in FILES[:4]], "label": "abab"})
    assert labels_of(opened(tmp_path / "b.csv")) == list("abab")


@needs_pyarrow
def test_a_table_in_an_archive_is_found_without_a_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    files = of_patients()
    assert "labels.csv: columns of images" in message_of(write_zip(tmp_path / "a.zip", files))
    columns = {"image": [name for name in files if name != "labels.csv"], "label": ["a", "b"] * 20}
    files["labels.parquet"] = write_table(tmp_path / "a.parquet", columns).read_bytes()
    del files["labels.csv"]
    assert "labels.parquet: columns of images" in message_of(write_zip(tmp_path / "b.zip", files))


@needs_pyarrow
def test_a_damaged_parquet_file_is_refused_instead_of_taking_folders_for_classes(tmp_path):
    write_folder(tmp_path, of_patients())
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    assert_message(tmp_path, ["labels.parquet: not a readable parquet file"])


@pytest.mark.parametrize(
    "text",
    [
        "epoch,accuracy\n1,0.5\n2\n",
        "name,accuracy\na,0.5\nb,0.6,x\n",
        "filename,width,height\n00.png,4,4\n",
        "filename;größe\n00.png;4\n".encode("latin-1"),
        "image,train,test\nx,1,0\ny,1,1\nz,0,0\n",
    ],
)
def test_other_tables_beside_class_folders_are_ignored(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    files = of_patients() | {"labels.csv": content}
    for source in (write_folder(tmp_path / "a", files), write_zip(tmp_path / "a.zip", files)):
        assert read(source).class_names == ("P0", "P1", "P2", "P3")


NOTED_TABLES = {
    "unknown": (
        {"labels.csv": b"foto,klasse,fall\nP0/00.png,a,1\n"},
        "(foto, klasse, fall) is known as image or label",
    ),
    "no label": ({"a.jsonl": b'{"image": "P0/00.png", "case": 1}'}, "(image, case) is known as label; left out"),
    "Latin-1": ({"a.tsv": "foto\tgr\xf6\xdfe".encode("latin-1")}, "(foto, größe) is known as image or label; left"),
    "among images": ({"P0/labels.csv": b"image,label\n00.png,a\n"}, "a table of images and labels; left out; to read"),
    "damaged": ({"P0/labels.csv": b""}, "P0/labels.csv: a table that cannot be read; left out"),
    "several": ({"a.csv": b"x,y\n", "b.csv": b"x,y\n"}, "2 tables (a.csv, b.csv): left out; if one lists the images"),
}


@pytest.mark.parametrize(("tables", "expected"), NOTED_TABLES.values(), ids=NOTED_TABLES)
def test_what_is_said_of_tables_beside_class_folders(tmp_path, tables, expected):
    files = of_patients()
    del files["labels.csv"]
    for source in (write_folder(tmp_path / "a", files | tables), write_zip(tmp_path / "a.zip", files | tables)):
        splits = read(source)
        assert expected in splits.omissions[0]
        assert not any("not in a supported image format" in note for note in splits.notes)


def test_an_unknown_table_beside_class_folders_is_read_as_the_note_says(tmp_path):
    files = of_patients()
    files["labels.csv"] = files["labels.csv"].replace(b"image,label,patient", b"foto,klasse,fall")
    write_folder(tmp_path / "a", files)
    (tmp_path / "a.yaml").write_text("images: a\ncolumns: {image: foto, label: klasse}\n")
    assert read(tmp_path / "a.yaml").class_names == ("mole", "nevus")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("table_name", ["labels.csv", "labels/train.tsv", "P0/metadata.csv", "labels.jsonl"])
def test_an_archive_with_a_table_of_labels_is_refused(tmp_path, suffix, table_name):
    files = of_patients()
    text = files.pop("labels.csv")
    is_json = table_name.endswith(".jsonl")
    files[table_name] = b'{"image": "P0/00.png", "label": "a"}' if is_json else text
    write = write_zip if suffix == ".zip" else write_tar
    archive = write(tmp_path / f"a{suffix}", files)
    assert_message(archive, [f"{table_name}: columns of images and labels", "unpack it", "--reader image_files"])
    (tmp_path / "a.yaml").write_text(f"images: a{suffix}\n")
    assert f"{table_name}: columns of images and labels" in message_of(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(f"images: a{suffix}\nreader: image_files\n")
    write_folder(tmp_path, {"all.csv": text})
    assert read(tmp_path / "a.yaml").class_names == ("P0", "P1", "P2", "P3")
    (tmp_path / "a.yaml").write_text(f"images: a{suffix}\ntable: all.csv\n")
    assert read(tmp_path / "a.yaml").class_names == ("mole", "nevus")


def test_an_archive_with_a_list_of_labels_is_refused_but_not_one_with_other_texts(tmp_path):
    files = of_patients()
    del files["labels.csv"]
    boxes = files | {f"boxes/{number}.txt": b"0 0.5 0.5 0.1 0.1" for number in range(40)}
    assert read(write_zip(tmp_path / "a.zip", boxes)).class_names == ("P0", "P1", "P2", "P3")
    lists = boxes | {"list.txt": b"P0/00.png a\nP0/01.png b\n"}
    assert_message(write_zip(tmp_path / "b.zip", lists), ["list.txt: columns of images and labels"])


@needs_pyarrow
def test_an_archive_with_a_parquet_file_of_labels_is_refused(tmp_path):
    files = of_patients()
    columns = {"image": [name for name in files if name != "labels.csv"], "label": ["a", "b"] * 20}
    files["labels.parquet"] = write_table(tmp_path / "a.parquet", columns).read_bytes()
    del files["labels.csv"]
    assert_message(write_zip(tmp_path / "a.zip", files), ["labels.parquet: columns of images and labels"])


# --- columns


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("image", "label"),
        ("image_id", "dx"),
        ("id_code", "diagnosis"),
        ("filename", "class"),
        ("file_name", "target"),
        ("path", "category"),
        ("filepath", "emotion"),
        ("name", "Label"),
        ("Image Name", "CLASS"),
        ("file-name", "labels"),
        ("id", "breed"),
    ],
)
def test_columns_with_usual_names_are_found_ignoring_case(tmp_path, image, label):
    write_images(tmp_path)
    file = write_table(tmp_path / "a.csv", {"age": range(COUNT), label: LABELS, "sex": ["f"] * COUNT, image: FILES})
    assert labels_of(opened(file)) == LABELS
    assert opened(file).notes == (f"columns: {image} (image), {label} (label); unused: age, sex",)


@pytest.mark.parametrize("name", ["split", "set", "subset", "fold_split", "Usage", "data set"])
def test_a_column_of_splits_is_found(tmp_path, name):
    write_images(tmp_path)
    names = {"train": "Training", "val": "dev", "test": "PrivateTest"}
    columns = {"image": FILES, "label": LABELS, name: [names[split] for split in SPLITS]}
    assert_split_images(read(write_table(tmp_path / "a.csv", columns)))


@pytest.mark.parametrize("name", ["group", "patient", "patient_id", "Subject", "subject_id", "lesion_id", "video"])
def test_rows_of_a_column_of_groups_stay_in_one_split(tmp_path, name):
    write_images(tmp_path)
    groups = [f"P{number // 3}" for number in range(COUNT)]
    source = opened(write_table(tmp_path / "a.csv", {"image": FILES, "label": LABELS, name: groups}))
    assert source.groups.tolist() == [number // 3 for number in range(COUNT)]
    parts = source.splits(source.settings).parts
    in_parts = [set(part.sources.groups.tolist()) for part in parts.values()]
    assert sum(map(len, in_parts)) == len(set.union(*in_parts)) == 10


@pytest.mark.parametrize("name", ["PatientID", "patientId", "SubjectID", "VIDEOID"])
def test_a_column_of_groups_is_found_however_its_words_are_divided(tmp_path, name):
    write_images(tmp_path, FILES[:4])
    columns = {"image": FILES[:4], "label": LABELS[:4], name: ["a", "b", "a", "b"]}
    assert opened(write_table(tmp_path / "a.csv", columns)).groups.tolist() == [0, 1, 0, 1]
    columns["patient"] = ["x"] * 4
    assert "patient (group)" in opened(write_table(tmp_path / "a.csv", columns)).notes[0]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_an_unused_column_that_may_be_groups_is_noted_with_what_to_set(tmp_path, suffix):
    write_images(tmp_path)
    columns: dict[str, Sequence[object]] = {"filename": FILES, "diagnosis": LABELS}
    columns |= {"case": [f"C{row // 3}" for row in range(COUNT)], "age": [20 + row % 9 + 0.5 for row in range(COUNT)]}
    columns |= {"note": [f"note {row}" if row < 9 else "" for row in range(COUNT)], "sex": ["f", "m"] * 15}
    hint = "if images of one value belong together, set columns: {{group: {}}} in a source description"
    file = write_table(tmp_path / f"a.{suffix}", columns)
    start = "columns: filename (image), diagnosis (label)"
    assert opened(file).notes == (f"{start}; unused: case (10 values), age, note, sex; {hint.format('case')}",)
    write_table(file, columns | {"site": [row % 7 for row in range(COUNT)]})
    assert (
        opened(file)
        .notes[0]
        .endswith(f"; unused: case (10 values), site (7 values), age, note, sex; {hint.format('NAME')}")
    )
    (tmp_path / "a.yaml").write_text(f"table: a.{suffix}\ncolumns: {{group: null}}\n")
    source = READERS.open(str(tmp_path / "a.yaml"))
    assert isinstance(source, ImageSource) and source.notes[0] == f"{start}; unused: case, age, note, sex, site"
    write_table(file, columns | {"patient": columns["case"]})
    assert opened(file).notes[0] == f"{start}, patient (group); unused: case, age, note, sex"


def test_unused_values_that_are_no_text_do_not_matter(tmp_path):
    write_images(tmp_path, FILES[:4])
    rows: list[dict[str, object]] = [
        {"image": FILES[row], "label": "ab"[row % 2], "case": "xyz"[row % 3], "box": "1"} for row in range(4)
    ]
    rows[3]["box"] = [1, 2]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert labels_of(opened(tmp_path / "a.jsonl")) == list("abab")


def test_values_of_an_unused_column_are_counted_over_all_tables(tmp_path):
    for split, rows in {"train": slice(0, 18), "val": slice(18, 24), "test": slice(24, 30)}.items():
        cases = [f"C{row // 3}" for row in range(COUNT)][rows]
        columns = {
            "image": FILES[rows],
            "label": LABELS[rows],
            "case": cases,
            **({"site": cases} if split == "val" else {}),
        }
        write_table(tmp_path / f"{split}.csv", columns)
    write_images(tmp_path)
    assert "; unused: case (10 values), site; if images" in opened(tmp_path).notes[0]


def test_numbers_of_groups_are_the_same_with_a_decimal_point_in_another_table(tmp_path):
    for split, groups in (("train", ["1", "2"]), ("test", ["2.0", "1.0"])):
        write_images(tmp_path / split, [f"{split}{name}" for name in FILES[:2]], random_images(2, seed=len(split)))
        columns = {"image": [f"{split}{name}" for name in FILES[:2]], "label": ["a", "b"], "patient": groups}
        write_table(tmp_path / f"{split}.csv", columns)
    source = opened(tmp_path)
    group_of = dict(zip(names_of(source), source.groups.tolist(), strict=True))
    assert group_of["train00.png"] == group_of["test01.png"] != group_of["train01.png"] == group_of["test00.png"]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["1", "01", "1.0", "-0", "0", "", "-01", "10"], [0, 0, 0, 1, 1, 2, 3, 4]),
        (["1", "01", "P1", "-0", "0", "", "-01", "10"], [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_groups_that_are_whole_numbers_are_compared_as_numbers(tmp_path, groups, expected):
    write_images(tmp_path, FILES[:8])
    columns = {"image": FILES[:8], "label": ["a", "b"] * 4, "patient": groups}
    assert opened(write_table(tmp_path / "a.csv", columns)).groups.tolist() == expected


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "null", "NULL", "N/A", "<NA>"])
def test_texts_for_missing_values_are_no_groups(tmp_path, text):
    write_images(tmp_path, FILES[:4])
    columns = {"image": FILES[:4], "label": LABELS[:4], "patient": [text, "7.0", text, "7"]}
    source = opened(write_table(tmp_path / "a.csv", columns))
    assert source.groups.tolist() == [0, 1, 2, 1]
    assert "2 rows (00.png, 02.png): no group; each is a group of its own" in source.notes


def test_a_group_called_na_may_be_a_person_and_is_noted(tmp_path):
    write_images(tmp_path, FILES[:4])
    columns = {"image": FILES[:4], "label": LABELS[:4], "subject": ["KA", "NA", "NA", "YM"]}
    source = opened(write_table(tmp_path / "jaffe.csv", columns))
    assert source.groups.tolist() == [0, 1, 1, 2]
    assert source.notes[1:] == ("2 rows of the group NA: one group; if this is no group, leave it empty",)


@pytest.mark.parametrize("name", ["NA", "nan", "None"])
def test_a_class_that_is_called_like_a_missing_value_is_noted(tmp_path, name):
    write_images(tmp_path, FILES[:5])
    write_table(tmp_path / "a.csv", {"image": FILES[:5], "label": ["a", "b", name, "a", "b"]})
    source = opened(tmp_path / "a.csv")
    assert len(source.class_names) == 3
    assert source.notes[1] == (
        f"1 row of the class {name}: if this is no class but no label, leave the label empty, or set classes: {{drop: "
        f"['{name}']}} in a source description (docs/data.md)"
    )
    (tmp_path / "a.yaml").write_text(f"table: a.csv\nclasses: {{drop: ['{name}']}}\n")
    changed = READERS.open(str(tmp_path / "a.yaml"))
    assert isinstance(changed, ImageSource) and changed.class_names == ("a", "b")
    assert not any("of the class" in note for note in changed.notes)


def test_rows_without_a_group_are_groups_of_their_own(tmp_path):
    write_images(tmp_path, FILES[:5])
    columns = {"image": FILES[:5], "label": LABELS[:5], "patient": ["a", "", "b", "", "a"]}
    source = opened(write_table(tmp_path / "a.csv", columns))
    assert source.groups.tolist() == [0, 1, 2, 3, 0]
    assert "2 rows (01.png, 03.png): no group; each is a group of its own" in source.notes


def test_one_hot_columns_are_classes_in_their_order(tmp_path):
    write_images(tmp_path, [f"ISIC_{number}.png" for number in range(COUNT)])
    bits = {name: [float(number % 3 == column) for number in range(COUNT)] for column, name in enumerate("ZAM")}
    columns: dict[str, Sequence[object]] = {
        "image": [f"ISIC_{number}" for number in range(COUNT)],
        **bits,
        "UNK": [0.0] * COUNT,
    }
    source = opened(write_table(tmp_path / "a.csv", columns))
    assert source.class_names == ("Z", "A", "M")
    assert source.labels.tolist() == [0, 1, 2] * 10
    assert any(isinstance(note, Omission) for note in source.notes if note == "UNK: no rows; left out")


def test_whole_numbers_with_a_decimal_point_are_labels_without_it(tmp_path):
    write_images(tmp_path, FILES[:4])
    source = opened(write_table(tmp_path / "a.csv", {"image": FILES[:4], "label": ["1.0", "0.0", "1", "10.0"]}))
    assert source.class_names == ("0", "1", "10")


def test_the_classes_of_fer2013_keep_their_order(tmp_path):
    write_images(tmp_path, FILES[:14])
    names = [name.title() for name in sorted(FER2013_CLASSES)] * 2
    source = opened(write_table(tmp_path / "a.csv", {"image": FILES[:14], "emotion": names}))
    assert source.class_names == FER2013_CLASSES
    assert labels_of(source) == [name.lower() for name in names]


# --- names of images


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("{}.png", "{}.png"),
        ("{}.png", "deep/er/{}.png"),
        ("./er/{}.png", "deep/er/{}.png"),
        ("er\\{}.png", "deep/er/{}.png"),
        ("X{}.PNG", "images/x{}.png"),
        ("{}", "images/{}.png"),
        ("er/{}", "deep/er/{}.png"),
        ("{}.b.c", "images/{}.b.c.png"),
        ("/home/somebody/data/images/{}.png", "images/{}.png"),
        ("C:\\data\\images\\{}.png", "images/{}.png"),
        ("{}.png", "images/{}.jpg"),
        ("{}.jpg", "images/{}_aligned.jpg"),
    ],
)
def test_a_value_is_a_path_a_file_name_or_an_id(tmp_path, value, file):
    contents = {file.format(number): encoded(IMAGES[number], Path(file).suffix) for number in range(4)}
    write_folder(tmp_path, contents)
    columns = {"image": [value.format(number) for number in range(4)], "label": ["x", "y"] * 2}
    source = opened(write_table(tmp_path / "a.csv", columns))
    assert [image.content() for image in source.files] == list(contents.values())


@pytest.mark.parametrize("is_absolute", [True, False])
def test_images_elsewhere_are_found_by_their_paths(tmp_path, is_absolute):
    write_images(tmp_path / "images", FILES[:4])
    start = tmp_path if is_absolute else ".."
    columns = {"image": [f"{start}/images/{name}" for name in FILES[:4]], "label": ["x", "y"] * 2}
    source = opened(write_table(tmp_path / "tables" / "a.csv", columns))
    assert [file.content() for file in source.files] == [encoded(image) for image in IMAGES[:4]]


@pytest.mark.parametrize("other", ["{}/images/{}", "../images/{1}", "{}/linked/{}", "{}/tables/../images/{}"])
def test_rows_that_name_one_image_by_two_paths_are_compared(tmp_path, other):
    write_images(tmp_path / "images", FILES[:8])
    (tmp_path / "tables").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "images")
    twice = [other.format(tmp_path, name) for name in FILES[:2]]
    for labels in (["x", "y"], ["y", "x"]):
        columns = {"image": [*FILES[:7], *twice], "label": ["x", "y"] * 3 + ["x", *labels]}
        write_table(tmp_path / "tables" / "a.csv", columns)
        (tmp_path / "a.yaml").write_text("images: images\ntable: tables/a.csv\n")
        if labels == ["y", "x"]:
            assert re.search(r"2 images \(00\.png.*: several rows that differ", message_of(tmp_path / "a.yaml"))
            continue
        source = READERS.open(str(tmp_path / "a.yaml"))
        assert isinstance(source, ImageSource)
        assert names_of(source) == FILES[:7]
        assert f"{FILES[7]}: no row in the table; left out" in source.notes
        assert re.search(r"^2 images \(00\.png.*: several equal rows; read once", source.notes[-1])


def test_an_image_that_only_an_absolute_path_names_is_not_noted_as_left_out(tmp_path):
    write_images(tmp_path, FILES[:4])
    columns = {"image": [*FILES[:3], tmp_path / FILES[3]], "label": ["x", "y"] * 2}
    source = opened(write_table(tmp_path / "a.csv", columns))
    assert names_of(source) == FILES[:4]
    assert source.notes == ("columns: image (image), label (label)",)


@pytest.mark.parametrize("start", ["{}/test/faces/", "../faces/", ""])
def test_folders_that_all_images_are_in_are_no_splits(tmp_path, monkeypatch, start):
    folders = {"train": "train", "val": "validation", "test": "test"}
    names = [f"{folders[split]}/{name}" for split, name in zip(SPLITS, FILES, strict=True)]
    write_images(tmp_path / "test" / "faces", names)
    columns = {"image": [f"{start.format(tmp_path)}{name}" for name in names], "label": LABELS}
    file = write_table(tmp_path / "test" / ("tables" if start.startswith("..") else "faces") / "a.csv", columns)
    assert_split_images(read(file))
    monkeypatch.chdir(file.parent.parent)
    assert_split_images(read(file.relative_to(file.parent.parent)))


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_either_form_of_unicode_are_the_same(tmp_path, in_table, on_disk):
    write_images(tmp_path / "é", [unicodedata.normalize(on_disk, f"é{name}") for name in FILES])
    names = [unicodedata.normalize(in_table, f"É{name}") for name in FILES]
    source = opened(write_table(tmp_path / "a.csv", {"image": names, "label": LABELS}))
    assert [file.content() for file in source.files] == [encoded(image) for image in IMAGES]


def test_a_file_elsewhere_that_is_too_large_for_memory_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "tables").mkdir()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 33)  # occupies no space on disk
    table = write_table(tmp_path / "tables" / "a.csv", {"image": ["../huge.png"] * 2, "label": ["x", "y"]})
    assert "huge.png: larger than 512 MiB; reduce its size" in message_of(table)


def test_file_names_that_repeat_in_many_folders_are_looked_up_at_once():
    class Counting(list[Any]):
        accesses = 0

        def __getitem__(self, index: Any) -> Any:
            Counting.accesses += 1
            return super().__getitem__(index)

    names = [(f"video{video}", f"{frame}.jpg") for video in range(60) for frame in range(3)]
    index = _Index([Member(name, cast(Any, bytes), "1", 9) for name in names])
    index._parts = Counting(index._parts)
    images, _ = index.matches([NamedImage("/".join(name), (), None) for name in names])
    assert [[image.parts for image in found] for found in images] == [[name] for name in names]
    assert Counting.accesses <= len(names)


def test_parts_of_a_path_are_ignored_for_all_rows_or_for_none(tmp_path):
    write_images(tmp_path, [f"cat/{name}" for name in FILES[:4]])
    columns = {"image": [f"{label}/{name}" for label in ("cat", "dog") for name in FILES[:4]], "label": LABELS[:8]}
    file = write_table(tmp_path / "a.csv", columns)
    assert "4 rows (dog/00.png, dog/01.png, dog/02.png, …): no such image" in message_of(file)


@pytest.mark.parametrize(
    ("folders", "chosen"),
    [
        (["", "thumbnails/"], ""),
        (["train_images/", "test_images/"], "train_images/"),
        (["images/", "masks/"], "images/"),
    ],
)
def test_of_several_images_of_one_name_the_most_likely_is_read(tmp_path, folders, chosen):
    for folder in folders:
        write_images(tmp_path, [f"{folder}{name}" for name in FILES[:4]], random_images(4, seed=len(folder)))
    file = write_table(tmp_path / "train.csv", {"id": [name[:-4] for name in FILES[:4]], "label": LABELS[:4]})
    assert [image.content() for image in opened(file).files] == [
        (tmp_path / f"{chosen}{name}").read_bytes() for name in FILES[:4]
    ]


def test_splits_are_found_in_names():
    assert splits_in(["train_images"]) == splits_in(["trainLabels.csv"]) == {"train"}
    assert splits_in(["ISIC_2019_Training_GroundTruth.csv"]) == {"train"}
    assert splits_in(["constraint", "latest"]) == set()
    assert splits_in(["train", "test-1"]) == {"train", "test"}


def test_all_that_is_passed_over_is_noted(tmp_path):
    write_images(tmp_path / "images", [*FILES[:8], "x.png", "y.png"], random_images(10))
    columns = {
        "image": [*FILES[:8], FILES[0], FILES[1]],
        "label": ["a", "b", "a", "b", "", "b", "a", "b", "a", "b"],
    }
    source = opened(write_table(tmp_path / "a.csv", columns))
    assert names_of(source) == [*FILES[:4], *FILES[5:8]]
    assert source.notes[1:] == (
        "04.png: no label; left out",
        "2 images (images/x.png, images/y.png): no row in the table; left out",
        "2 images (images/00.png, images/01.png): several equal rows; read once",
    )
    assert source.splits(source.settings).omissions == source.notes[1:3]


# --- invalid tables


GOOD = {"image": FILES[:6], "label": ["a", "b"] * 3}
BAD_TABLES = {
    "no images": ({"x": FILES[:6], "label": GOOD["label"]}, ["no column of images among x, label", "{image: NAME}"]),
    "no labels": ({"image": FILES[:6], "x": range(6)}, ["no column of labels among image, x", "{label: NAME}"]),
    "two columns of images": (GOOD | {"filename": FILES[:6]}, ["column of images may be 'image' or 'filename'"]),
    "two columns of labels": (
        GOOD | {"dx": ["x"] * 6, "Target": ["x"] * 6},
        ["column of labels may be 'label' or 'dx' or 'Target'", "columns: {label: label}"],
    ),
    "two columns of splits": (
        GOOD | {"set": ["train"] * 6, "Usage": ["train"] * 6},
        ["column of splits may be 'set' or 'Usage'", "{split: null}"],
    ),
    "two columns of groups": (
        GOOD | {"patient_id": range(6), "lesion_id": range(6)},
        ["column of groups may be 'patient_id' or 'lesion_id'", "{group: null}"],
    ),
    "missing images": (
        {"image": ["x1", "x2", "00.png", "x3", "x4"], "label": ["a", "b"] * 2 + ["a"]},
        ["4 rows (x1, x2, x3, …): no such image below", "images:"],
    ),
    "one missing image": (GOOD | {"image": [*FILES[:5], "x"]}, ["bad.csv: x: no such image below"]),
    "no image": ({"image": ["00.png", "", "01.png"], "label": ["a", "b", "a"]}, ["row 2: no image"]),
    "several images of one name": (
        {"image": ["twice.png", "00.png"], "label": ["a", "b"]},
        ["twice.png is x/twice.png or y/twice.png: several images have this name"],
    ),
    "contradictory rows": (
        {"image": ["00.png", "01.png", "00.png"], "label": ["a", "b", "b"]},
        ["00.png: several rows that differ in label, votes, split or group; keep one"],
    ),
    "one image in two splits": (
        {"image": ["00.png", "01.png", "00.png"], "label": ["a", "b", "a"], "split": ["train", "train", "test"]},
        ["00.png: several rows that differ"],
    ),
    "no labels in rows": ({"image": FILES[:6], "label": [""] * 6}, ["no row has a label"]),
    "unknown split": (
        GOOD | {"split": ["train", "tset", "x", "y", "z", "zz"]},
        ["column 'split': 'tset', 'x', 'y', …: not the name of a split"],
    ),
    "misspelled split": (
        GOOD | {"split": ["train", "tset"] * 3},
        ["'tset': not the name of a split; did you mean 'test'?"],
    ),
    "empty split": (GOOD | {"split": ["train", ""] * 3}, ["column 'split': some rows have no split"]),
    "no test rows": (
        GOOD | {"split": ["train", "val"] * 3},
        ["the test split is empty", "rename the split validation"],
    ),
    "one class": ({"image": FILES[:6], "label": ["a"] * 6}, ["all rows have the label 'a'"]),
    "control characters": (GOOD | {"label": ["a\x1b", "b"] * 3}, [r"a\x1b: unprintable characters"]),
    "two columns of one name": ("image,label,x,x\n00.png,a,1,1\n", ["line 1: there are several columns 'x'"]),
    "few fields": ("image,label\n00.png\n", ["line 2: 1 fields, but there are 2 columns"]),
    "open quote": ('image,label\n"00.png,a\n', ["line 2: unexpected end of data"]),
    "no header": ("00.png,a,train\n01.png,b,test\n", ["line 1 is not a header; add one"]),
    "no rows": ("image,label\n\n", ["has a header but no rows"]),
    "empty": ("\n", ["is empty"]),
    "latin-1": ("image,label\n00.png,\xe9\n".encode("latin-1"), ["not UTF-8 text; save the file as UTF-8"]),
}


@pytest.mark.parametrize(("content", "expected"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_invalid_csv_tables_are_refused(tmp_path, content, expected):
    write_images(tmp_path, [*FILES[:6], "x/twice.png", "y/twice.png"])
    path = tmp_path / "bad.csv"
    if isinstance(content, dict):
        write_table(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_message(path, expected)


def test_invalid_one_hot_rows_are_refused_by_count_and_names(tmp_path):
    write_images(tmp_path)
    bits = np.eye(3, dtype=int)[np.arange(2000) % 3]
    bits[1500:1504] = [[0, 0, 0], [1, 1, 0], [2, 0, 0], [0, 1, 1]]
    columns = {"image": [f"{number}.png" for number in range(2000)]}
    file = write_table(tmp_path / "a.csv", columns | {name: bits[:, i].tolist() for i, name in enumerate("ABC")})
    assert_message(file, ["4 rows (1500.png, 1501.png, 1502.png, …): not exactly one 1 in the columns 'A', 'B', 'C'"])


BAD_JSON_FILES = {
    "no JSON": ("hello\n", ["line 1: not JSON"]),
    "later no JSON": ('{"image": "00.png", "label": "a"}\n{"image\n', ["line 2: not JSON"]),
    "no object": ("[1, 2]\n", ["line 1: expected an object"]),
    "nested": ('{"image": "00.png", "label": ["a"]}\n', ["line 1: expected text or a number, got a list"]),
    "empty": ("\n", ["is empty"]),
}


@pytest.mark.parametrize(("content", "expected"), BAD_JSON_FILES.values(), ids=BAD_JSON_FILES)
def test_invalid_json_lines_are_refused(tmp_path, content, expected):
    write_images(tmp_path, FILES[:2])
    (tmp_path / "bad.jsonl").write_text(content)
    assert_message(tmp_path / "bad.jsonl", expected)


@pytest.mark.parametrize("name", ["missing.csv", "missing.tsv", "missing.jsonl", "missing.parquet"])
def test_missing_tables_are_refused(tmp_path, name):
    assert_message(tmp_path / name, ["no such file"])


def test_a_table_without_any_images_is_refused(tmp_path):
    file = write_table(tmp_path / "a.csv", GOOD)
    for source in (file, tmp_path):
        assert "set `images:` in a source description" in message_of(source)


def test_several_tables_without_names_of_splits_are_refused(tmp_path):
    write_images(tmp_path)
    for name in ("a.csv", "b.csv", "c.jsonl", "train.tsv"):
        write_table(tmp_path / name, GOOD)
    assert_message(tmp_path, ["4 tables (a.csv, b.csv, c.jsonl, …): pass one of them"])


# --- parquet


def bytes_of(images) -> list[dict[str, object]]:
    return [{"bytes": encoded(image), "path": None} for image in images]


def write_hugging_face(path: Path, images, labels, names=None, **columns) -> Path:
    """Write a parquet file as Hugging Face `datasets` does: images as structs, class names in the metadata."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    content = pyarrow.table({"image": bytes_of(images), "label": list(labels), **columns})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    pyarrow.parquet.write_table(content.replace_schema_metadata(metadata), path, row_group_size=7)
    return path


NUMBERS = [number % 3 for number in range(COUNT)]
PARTS = {"train": slice(0, 18), "validation": slice(18, 24), "test": slice(24, 30)}


@needs_pyarrow
@pytest.mark.parametrize("folder", ["", "data", "default/data"])
def test_parquet_files_of_hugging_face_are_read_with_all_shards(tmp_path, folder):
    for split, rows in PARTS.items():
        halves = np.array_split(np.arange(COUNT)[rows], 2)
        for number, half in enumerate(halves):
            file = tmp_path / folder / f"{split}-{number:05}-of-00002.parquet"
            write_hugging_face(file, IMAGES[half], np.array(NUMBERS)[half], ["zebra", "ant", "cow"])
    splits = read(tmp_path)
    assert_split_images(splits)
    assert splits.class_names == ("zebra", "ant", "cow"), "the order of the schema"
    assert splits.train.labels.tolist() == NUMBERS[:18]
    file.unlink()
    assert_message(tmp_path, ["test-00001-of-00002.parquet: missing"])


@needs_pyarrow
def test_parquet_files_converted_by_the_hub_are_read(tmp_path):
    for split, rows in PARTS.items():
        write_hugging_face(tmp_path / "default" / split / "0000.parquet", IMAGES[rows], NUMBERS[rows], list("abc"))
    assert_split_images(read(tmp_path))


@needs_pyarrow
def test_a_single_parquet_file_is_read(tmp_path):
    file = write_hugging_face(tmp_path / "train-00000-of-00003.parquet", IMAGES, NUMBERS, list("abc"), split=SPLITS)
    splits = read(file)
    assert_split_images(splits)
    assert splits.omissions == (
        "train-00000-of-00003.parquet is one of 3 files, the others are not read; pass the folder to read all",
    )
    assert splits.train.name_of(2) == "train-00000-of-00003.parquet: row 2"


@needs_pyarrow
def test_labels_without_class_are_left_out(tmp_path):
    file = write_hugging_face(tmp_path / "a.parquet", IMAGES, [-1, *NUMBERS[1:]], list("abcd"))
    source = opened(file)
    assert len(source.files) == COUNT - 1
    assert source.notes[1:] == ("a.parquet: row 0: no label; left out", "d: no rows; left out")


@needs_pyarrow
@pytest.mark.parametrize("kind", ["bytes", "paths"])
def test_parquet_files_without_metadata_are_read(tmp_path, kind):
    write_images(tmp_path / "images")
    images = [encoded(image) for image in IMAGES] if kind == "bytes" else FILES
    file = write_table(tmp_path / "a.parquet", {"image": images, "label": LABELS, "split": SPLITS})
    assert_split_images(read(file))
    assert read(tmp_path).fingerprint == read(file).fingerprint


@needs_pyarrow
def test_images_are_named_by_their_paths_if_these_are_unique(tmp_path):
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": encoded(image), "path": name} for image, name in zip(IMAGES, FILES, strict=True)]
    pyarrow.parquet.write_table(pyarrow.table({"img": images, "label": LABELS}), tmp_path / "a.parquet")
    assert [file.name for file in opened(tmp_path / "a.parquet").files] == [f"a.parquet: {name}" for name in FILES]


@needs_pyarrow
def test_image_bytes_are_read_in_any_order(tmp_path):
    images = random_images(400)
    file = write_hugging_face(tmp_path / "a.parquet", images, np.arange(400) % 2)
    files = opened(file).files
    for row in [*range(0, 400, 7), *reversed(range(0, 400, 5)), *np.random.default_rng(0).permutation(400)[:100]]:
        assert files[row].content() == encoded(images[row])


@needs_pyarrow
def test_image_bytes_are_read_once_if_threads_ask_for_them_in_nearly_ascending_order(tmp_path, monkeypatch):
    monkeypatch.setattr(_table_parquet, "_IMAGES_AT_ONCE", 8)
    monkeypatch.setattr(_table_parquet, "_IMAGES_KEPT", 16)
    starts: list[int] = []
    batches = _table_parquet._ImageBytes._batches

    def counted_batches(self, group):
        starts.append(group)
        return batches(self, group)

    monkeypatch.setattr(_table_parquet._ImageBytes, "_batches", counted_batches)
    images = random_images(640)
    content = [encoded(image) for image in images]
    files = opened(write_table(tmp_path / "a.parquet", {"image": content, "label": [0, 1] * 320})).files
    rows = np.arange(640).reshape(-1, 4, 16).transpose(0, 2, 1).ravel()  # four threads, 16 rows each
    assert [files[row].content() for row in rows] == [content[row] for row in rows]
    assert len(starts) <= 4


@needs_pyarrow
def test_several_columns_of_class_names_are_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = write_hugging_face(tmp_path / "a.parquet", IMAGES, NUMBERS, list("abc"))
    content = pyarrow.parquet.read_table(file)
    features = {name: {"names": list("abc"), "_type": "ClassLabel"} for name in ("fine", "coarse")}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    content = content.rename_columns(["image", "fine"]).append_column("coarse", [NUMBERS])
    pyarrow.parquet.write_table(content.replace_schema_metadata(metadata), file)
    assert_message(file, ["column of labels may be 'fine' or 'coarse'"])


def write_without_bytes(path):
    import pyarrow
    import pyarrow.parquet

    images = [*bytes_of(IMAGES[:2]), {"bytes": None, "path": "x.png"}]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": [0, 1, 0]}), path)


BAD_PARQUET_FILES = {
    "text": (lambda path: path.write_text("hello"), ["not a readable parquet file", "re-download it"]),
    "empty": (lambda path: path.write_bytes(b""), ["not a readable parquet file"]),
    "truncated": (
        lambda path: path.write_bytes(write_hugging_face(path, IMAGES, NUMBERS).read_bytes()[:-20]),
        ["not a readable parquet file"],
    ),
    "no rows": (lambda path: write_hugging_face(path, IMAGES[:0], []), ["no rows"]),
    "a row without bytes": (write_without_bytes, ["row 2: no bytes in the column 'image'"]),
    "an unknown class": (
        lambda path: write_hugging_face(path, IMAGES[:3], [0, 1, 7], ["a", "b"]),
        ["row 2: column 'label': class 7 is outside 0..1"],
    ),
    "lists as labels": (
        lambda path: write_hugging_face(path, IMAGES[:3], [[0], [1], [2]]),
        ["row 0: column 'label': expected text or a number, got a list"],
    ),
}


@needs_pyarrow
@pytest.mark.parametrize(("write", "expected"), BAD_PARQUET_FILES.values(), ids=BAD_PARQUET_FILES)
def test_invalid_parquet_files_are_refused(tmp_path, write, expected):
    write(tmp_path / "bad.parquet")
    assert_message(tmp_path / "bad.parquet", expected)


def test_without_pyarrow_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for source in (tmp_path, tmp_path / "a.parquet"):
        assert "a.parquet: parquet files need pyarrow; install it: pip install 'fer_augment[parquet]'" in message_of(
            source
        )


def test_damaged_images_are_refused_by_name(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "images" / "03.png").write_bytes(b"hello")
    file = write_table(tmp_path / "a.csv", {"image": FILES, "label": LABELS})
    with pytest.raises(DatasetError, match=r"03\.png"):
        read(file)


# --- photographs


@pytest.mark.skipif("TRASHNET" not in os.environ, reason="set TRASHNET to the folder of trashnet_small.zip")
def test_photographs_in_a_zip_file_with_a_table_of_ids_and_groups_are_read(tmp_path):
    archive = Path(os.environ["TRASHNET"], "trashnet_small.zip")
    with zipfile.ZipFile(archive) as opened_archive:
        names = sorted(name for name in opened_archive.namelist() if name.endswith(".jpg"))
    labels = [Path(name).parent.name for name in names]
    columns: dict[str, Sequence[object]] = {
        "image_id": [Path(name).stem for name in names],
        "category": labels,
        "subject": [number // 4 for number in range(len(names))],
    }
    write_table(tmp_path / "labels.tsv", columns)
    (tmp_path / "trash.yaml").write_text(f"images: {archive}\ntable: labels.tsv\nsize: 32\n")
    splits = read(tmp_path / "trash.yaml")
    assert sum(map(len, splits.parts.values())) == len(names) == 330
    assert splits.train.image_shape == (32, 32, 3)
    for part in splits.parts.values():
        assert all(f"/{part.class_names[label]}/" in part.name_of(row) for row, label in enumerate(part.labels))
    in_parts = [set(part.sources.groups.tolist()) for part in splits.parts.values()]
    assert sum(map(len, in_parts)) == len(set.union(*in_parts))


# --- the page on data


def write_beside_images(file: Path) -> None:
    write_images(file.parent / "images")
    write_table(file, {"image": FILES, "label": LABELS})


def write_list(file: Path) -> None:
    write_images(file.parent / "images")
    file.write_text("".join(f"{name} {label}\n" for name, label in zip(FILES, LABELS, strict=True)))


def write_aptos(folder: Path) -> None:
    write_images(folder / "train_images")
    write_table(folder / "train.csv", {"id_code": [name[:-4] for name in FILES], "diagnosis": LABELS})
    write_table(folder / "test.csv", {"id_code": ["x"]})


def write_isic(file: Path) -> None:
    columns: dict[str, Sequence[object]] = {name: [int(name == label) for label in LABELS] for name in set(LABELS)}
    write_images(file.parent / "input")
    write_table(file, {"image": [name[:-4] for name in FILES], **columns})


def write_raf_db(folder: Path) -> None:
    names = [f"{split}_{name[:-4]}" for split, name in zip(SPLITS, FILES, strict=True)]
    write_images(folder / "Image" / "aligned", [f"{name}_aligned.jpg" for name in names])
    (folder / "EmoLabel").mkdir()
    lines = "".join(f"{name}.jpg {label}\n" for name, label in zip(names, LABELS, strict=True))
    (folder / "EmoLabel" / "list_patition_label.txt").write_text(lines)


def write_table_of_each_split(folder: Path) -> None:
    write_images(folder / "images")
    for split, rows in PARTS.items():
        write_table(folder / f"{split}_labels.csv", {"image": FILES[rows], "label": LABELS[rows]})


def write_imagefolder(folder: Path) -> None:
    for split, rows in PARTS.items():
        write_images(folder / split, FILES[rows], IMAGES[rows])
        write_table(folder / split / "metadata.csv", {"file_name": FILES[rows], "label": LABELS[rows]})


def write_shards(folder: Path) -> None:
    for split, rows in PARTS.items():
        for number, half in enumerate(np.array_split(np.arange(COUNT)[rows], 2)):
            file = folder / "data" / f"{split}-{number:05}-of-00002.parquet"
            write_hugging_face(file, IMAGES[half], np.array(NUMBERS)[half], ["cat", "dog", "emu"])


def write_bytes(file: Path) -> None:
    write_table(file, {"image": [encoded(image) for image in IMAGES], "label": LABELS})


DOCUMENTED = {
    "labels.csv": write_beside_images,
    "labels.tsv": write_beside_images,
    "labels.jsonl": write_beside_images,
    "list.txt": write_list,
    "aptos": write_aptos,
    "isic/GroundTruth.csv": write_isic,
    "raf_db": write_raf_db,
    "tables": write_table_of_each_split,
    "imagefolder": write_imagefolder,
    "downloaded": write_shards,
    "faces.parquet": write_bytes,
}


def test_every_layout_in_the_documentation_is_tested():
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.partition("\n## Tables\n")[2].partition("\n## ")[0]
    assert re.findall("`fer-augment data show ([^`]+)`", section) == [*DOCUMENTED]


@needs_pyarrow
@pytest.mark.parametrize("source", DOCUMENTED)
def test_layouts_in_the_documentation_are_read_by_their_commands(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    DOCUMENTED[source](Path(source))
    shown = fer_augment("data", "show", source)
    assert "30 images, 4 x 4 pixels (height x width), gray; 3 classes" in shown.out, shown.err
