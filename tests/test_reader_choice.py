"""Every data source is recognized by exactly one reader."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fer_augment as fa
from tests.data_files import (
    FER2013_CLASSES,
    USAGES,
    csv_rows,
    encoded,
    mnist,
    random_images,
    release,
    write_csv,
    write_folder,
    write_idx,
    write_npy,
    write_npz,
    write_table,
    write_tar,
    write_zip,
)
from tests.reading import READERS, assert_source_rows, read


@pytest.fixture
def sources(tmp_path):
    """Sources of each format, by reader name."""
    images = random_images(6)
    table = csv_rows(images, [0] * 6, USAGES * 2)
    labels = np.arange(2)
    columns = {"image": [f"{number}.png" for number in range(30)], "label": ["cat", "dog"] * 15}
    write_folder(tmp_path / "beside images", dict(zip(columns["image"], map(encoded, random_images(30)), strict=True)))
    description = tmp_path / "source.yaml"
    description.write_text("images: beside images\n")
    pairs = {
        f"{letter}_{word}": a
        for word in ("training", "dev", "test")
        for letter, a in (("X", images[:2]), ("Y", labels))
    }
    return {
        "csv_file": [
            write_csv(tmp_path / "a.CSV", table),
            write_csv(tmp_path / "no_suffix", table),
        ],
        "table": [
            write_table(tmp_path / "beside images" / "labels.csv", columns),
            write_table(tmp_path / "beside images" / "labels.jsonl", columns).rename(tmp_path / "beside images.jsonl"),
            tmp_path / "beside images",
            "missing.csv",
            "missing.TSV",
            "missing.jsonl",
            "missing.parquet",
        ],
        "description": [description, "missing.yaml", "missing.yml"],
        "image_files": [
            write_zip(tmp_path / "a.zip", release()),
            write_folder(tmp_path / "folder", release()),
            write_folder(tmp_path / "folder.csv", release()),
            write_tar(tmp_path / "a.tar", release()),
            write_tar(tmp_path / "a.TAR.gz", release()),
            "missing.zip",
            "missing.tgz",
        ],
        "npy_folder": [
            write_npy(tmp_path / "npy", pairs, ["a", "b"]),
            write_npy(tmp_path / "keras", {"images": images[:2], "labels": labels}),
            write_npy(tmp_path / "archives.zip", pairs),
            "missing.npy",
        ],
        "npz_file": [write_npz(tmp_path / "a.npz", pairs).rename(tmp_path / "a.NPZ"), "missing.npz"],
        "idx_files": [
            write_idx(tmp_path / "mnist", mnist()),
            tmp_path / "mnist" / "train-images-idx3-ubyte",
            "missing/emnist-letters-test-labels-idx1-ubyte.gz",
        ],
        "demo": ["demo"],
    }


def test_each_source_is_recognized_by_exactly_one_reader(sources):
    assert not READERS.problems
    for expected, of_reader in sources.items():
        for source in of_reader:
            readers = [offer.name for offer in READERS.of_kind("dataset reader") if offer.value.recognizes(str(source))]
            assert readers == [expected], source


@pytest.mark.parametrize("source", ["", "missing", "\0", "x" * 5000, "/dev/null", "demo.txt"])
def test_other_strings_are_recognized_by_no_reader(source):
    assert not any(offer.value.recognizes(source) for offer in READERS.offers)


@pytest.mark.parametrize("data", [np.zeros((4, 8, 8), np.uint8), None, 3], ids=["array", "None", "3"])
def test_what_is_no_source_is_refused_by_its_type(data):
    kind = "ndarray|NoneType|int"
    with pytest.raises(fa.DatasetError, match=rf"^data must be a path, .* or Splits, not ({kind}); for arrays see Im"):
        fa.read_data(data, progress=False)


def test_demo_data_takes_precedence_over_a_folder_named_demo(tmp_path, monkeypatch):
    write_folder(tmp_path / "demo", release())
    monkeypatch.chdir(tmp_path)
    readers = [offer.name for offer in READERS.offers if offer.value.recognizes("demo")]
    assert readers == ["demo"]
    assert len(read("./demo").train) == 14


@pytest.mark.parametrize("data", [Path("./demo"), fa.Source(Path("demo")), "./demo"])
def test_a_path_object_is_never_a_word(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fa.DatasetError, match=r"demo: no such file or folder"):
        fa.read_data(data, progress=False)
    write_folder(tmp_path / "demo", release())
    assert len(fa.read_data(data, progress=False).train) == 14


def test_demo_data_has_the_classes_of_fer2013():
    splits = read("demo")
    assert splits.source == "demo (synthetic faces)"
    assert splits.class_names == FER2013_CLASSES
    assert splits.train.image_shape == (48, 48, 1)
    assert_source_rows(splits)


def test_all_readers_report_progress_until_done(sources):
    for of_reader in sources.values():
        if str(of_reader[0]) != "demo":
            calls: list[tuple[int, int]] = []
            read(of_reader[0], lambda done, total, calls=calls: calls.append((done, total)))
            assert calls[-1][0] == calls[-1][1] > 0
            restarts = sum(later < earlier for (earlier, _), (later, _) in pairwise(calls))
            assert restarts <= 1, "images are decoded, then duplicates are searched for"
