"""Counts and duplicates of the real FER2013, read from the path in the environment variable FER2013."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fer_augment.data.audit import audit, drop_held_out_duplicates
from fer_augment.data.npy_format import write_npy_folder
from tests.data_files import (
    FER2013_CLASSES,
    ICML_HEADER,
    KAGGLE_HEADER,
    USAGES,
    csv_rows,
    write_csv,
    write_folder,
)
from tests.reading import read


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


def test_csv_zip_and_npy_folder_give_the_same_data(fer2013, archive, tmp_path):
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


def test_a_folder_with_some_images_gives_the_same_rows_as_the_zip_file(fer2013, archive, tmp_path):
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in sorted(opened.namelist()) if name.endswith("7.jpg")][::10]
        folder = write_folder(tmp_path / "folder", {name: opened.read(name) for name in names})
    splits = read(folder)
    assert sum(map(len, splits.parts.values())) == len(names) > 200
    for name, part in splits.parts.items():
        assert set(part.digests.tolist()) <= set(fer2013.parts[name].digests.tolist())


def test_fer2013_has_its_known_audit(fer2013):
    result = audit(fer2013)
    total = result.identical.total
    assert (total.groups, total.rows, total.conflicting) == (1516, 3369, 57)
    assert {name: counts.groups for name, counts in result.identical.within.items()} == {
        "train": 1035,
        "validation": 26,
        "test": 16,
    }
    assert result.held_out_in_train["test"] == {
        "angry": 37,
        "disgust": 16,
        "fear": 47,
        "happy": 28,
        "sad": 17,
        "surprise": 118,
        "neutral": 25,
    }
    totals = {name: sum(counts.values()) for name, counts in result.held_out_in_train.items()}
    assert totals == {"validation": 280, "test": 288}
    assert sum(sum(counts.values()) for counts in result.blank.values()) == len(result.blank_rows) == 13
    assert 1150 < result.near.total.groups < 1250
    assert max(map(len, result.near.groups)) < 30
    assert 15 < result.mirrored.total.groups < 25


def test_fer2013_without_held_out_duplicates(fer2013):
    dropped = drop_held_out_duplicates(fer2013)
    result = audit(dropped)
    assert not any(sum(counts.values()) for counts in result.held_out_in_train.values())
    kept = np.flatnonzero(
        ~np.isin(fer2013.train.digests, np.concatenate([fer2013.validation.digests, fer2013.test.digests]))
    )
    np.testing.assert_array_equal(dropped.train.index, fer2013.train.index[kept])
