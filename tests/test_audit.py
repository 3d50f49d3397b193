"""An audit finds what is wrong with a data source, and held-out copies can be dropped from training."""

from __future__ import annotations

import numpy as np
import pytest

from fer_augment import DatasetError, ImageDataset, Splits
from fer_augment.audit import drop_held_out_copies
from tests.data_files import random_images

CLASSES = ("ant", "bee")


def splits_of(images, labels, sizes) -> Splits:
    """Cut images and labels into train, validation and test, which share one block."""
    ends = np.cumsum(sizes)
    whole = ImageDataset.from_arrays(images, labels, CLASSES)
    parts = [
        ImageDataset.from_arrays(whole.blocks[0], whole.labels[rows], CLASSES, rows=rows)
        for rows in np.split(np.arange(len(whole)), ends[:-1])
    ]
    return Splits(*parts, "drawn")


def test_dropping_held_out_copies_removes_training_rows_and_no_others():
    images = random_images(12)
    images[[1, 3]], images[5] = images[8], images[11]
    splits = splits_of(images, [0, 0, 1, 1, 0, 1] * 2, (6, 3, 3))
    dropped = drop_held_out_copies(splits)
    np.testing.assert_array_equal(dropped.train.images[:], images[[0, 2, 4]])
    assert dropped.train.labels.tolist() == [0, 1, 0]
    assert dropped.validation is splits.validation
    assert dropped.test is splits.test
    assert "less 3 training rows" in dropped.source


def test_what_is_left_is_a_set_of_source_rows_of_the_same_pixels():
    images = random_images(9)
    images[0] = images[8]
    splits = splits_of(images, [0, 0, 1] * 3, (3, 3, 3))
    train = drop_held_out_copies(splits).train
    assert train.origins.tolist() == [[0], [1]]
    assert not train.copies.any()
    assert not train.step.any()
    assert train.blocks == splits.train.blocks
    assert train.fingerprint == ImageDataset.from_arrays(images[[1, 2]], [0, 1], CLASSES).fingerprint


def test_splits_without_held_out_copies_stay_as_they_are():
    splits = splits_of(random_images(6), [0, 1] * 3, (2, 2, 2))
    assert drop_held_out_copies(splits) is splits


@pytest.mark.parametrize(("copied", "message"), [([1], "rows of bee"), ([0, 1], "train split is empty")])
def test_dropping_all_training_rows_of_a_class_is_refused(copied, message):
    images = random_images(6)
    images[copied] = images[2]
    splits = splits_of(images, [0, 1, 0, 1, 0, 1], (2, 2, 2))
    with pytest.raises(DatasetError, match=f"({message}).*set held_out_copies to keep"):
        drop_held_out_copies(splits)
