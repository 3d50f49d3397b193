"""An audit finds what is wrong with a data source, and held-out copies can be dropped from training."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_augment import DatasetError, ImageDataset, Splits
from fer_augment.data.audit import Audit, audit, drop_held_out_duplicates
from fer_augment.data.near_duplicates import HASH_DISTANCE, _candidates
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.readers._demo_faces import draw_faces
from tests.data_files import encoded, random_images

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


def counted(counts) -> tuple[int, int, int]:
    return counts.groups, counts.rows, counts.conflicting


def per_class(counts) -> dict[str, list[int]]:
    return {split: list(of_split.values()) for split, of_split in counts.items()}


def named(groups) -> list[list[tuple[str, int, str]]]:
    return [[(row.split, row.row, row.label) for row in group] for group in groups]


# ------------------------------------------------------------------------------------ identical images


@pytest.fixture(scope="module")
def repeated() -> Audit:
    """Rows 0, 1 of train and 0 of test are one image; so are rows 2, 3 of train, and row 4 and row 1 of validation."""
    images = random_images(12)
    images[[1, 9]], images[3], images[7] = images[0], images[2], images[4]
    labels = [0, 0, 0, 1, 1, 1] + [0, 1, 0] + [1, 0, 1]
    return audit(splits_of(images, labels, (6, 3, 3)))


def test_identical_images_are_counted_over_all_splits_across_and_within_them(repeated):
    found = repeated.identical
    assert counted(found.total) == (3, 7, 2)
    assert counted(found.across) == (2, 5, 1)
    assert {split: counted(counts) for split, counts in found.within.items()} == {
        "train": (2, 4, 1),
        "validation": (0, 0, 0),
        "test": (0, 0, 0),
    }


def test_identical_images_are_counted_by_split_and_class(repeated):
    assert per_class(repeated.counts) == {"train": [3, 3], "validation": [2, 1], "test": [1, 2]}
    assert per_class(repeated.identical.rows) == {"train": [3, 2], "validation": [0, 1], "test": [0, 1]}
    assert per_class(repeated.identical.conflicting_rows) == {"train": [3, 1], "validation": [0, 0], "test": [0, 1]}
    assert per_class(repeated.held_out_in_train) == {"validation": [0, 1], "test": [0, 1]}


def test_groups_are_told_worst_first_contradictory_then_across_splits_then_large(repeated):
    assert named(repeated.identical.groups) == [
        [("train", 0, "ant"), ("train", 1, "ant"), ("test", 0, "bee")],
        [("train", 2, "ant"), ("train", 3, "bee")],
        [("train", 4, "bee"), ("validation", 1, "bee")],
    ]


def test_random_images_are_not_alike(repeated):
    for found in (repeated.near, repeated.mirrored):
        assert counted(found.total) == (0, 0, 0)
        assert found.groups == ()


def test_an_audit_can_be_written_as_json_and_read_again(repeated):
    assert Audit.model_validate_json(repeated.model_dump_json()) == repeated


def test_splits_that_lie_in_blocks_of_their_own_are_audited_together():
    images = random_images(6)
    images[5] = images[1]
    parts = [ImageDataset.from_arrays(images[rows], [0, 1], CLASSES) for rows in ([0, 1], [2, 3], [4, 5])]
    parts[0] = parts[0].append(images[[4]], parents=[0])
    found = audit(Splits(*parts, "drawn"))
    assert named(found.identical.groups) == [
        [("train", 1, "bee"), ("test", 1, "bee")],
        [("train", 2, "ant"), ("test", 0, "ant")],
    ]


# ----------------------------------------------------------------------------------- blank and constant


@pytest.mark.parametrize("channels", [1, 3])
def test_blank_images_are_all_but_even_and_constant_ones_entirely(channels):
    images = random_images(9, channels=channels)
    images[[0, 7]] = np.arange(channels) * 50
    images[4] = 99 + images[4] % 2
    found = audit(splits_of(images, [0, 1, 0] * 3, (3, 3, 3)))
    assert per_class(found.blank) == {"train": [1, 0], "validation": [0, 1], "test": [0, 1]}
    assert per_class(found.constant) == {"train": [1, 0], "validation": [0, 0], "test": [0, 1]}
    assert named([found.blank_rows]) == [[("train", 0, "ant"), ("validation", 1, "bee"), ("test", 1, "bee")]]
    assert found.near.groups == found.mirrored.groups == ()


# -------------------------------------------------------------------------- mirrored and nearly the same

FACES = draw_faces(np.resize(np.arange(7), 60), np.random.default_rng(0))


def as_jpeg(image):
    return cv2.imdecode(np.frombuffer(encoded(image, ".jpg"), np.uint8), cv2.IMREAD_GRAYSCALE)[..., None]


def with_noise(image):
    return np.clip(image + np.random.default_rng(1).normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def with_words(image):
    return cv2.putText(image.copy(), "stock", (4, 40), cv2.FONT_HERSHEY_PLAIN, 0.8, 200)


CHANGES = {
    "brighter": lambda image: np.minimum(image.astype(int) + 40, 255).astype(np.uint8),
    "paler": lambda image: (100 + image // 3).astype(np.uint8),
    "jpeg": as_jpeg,
    "noise": with_noise,
    "shifted": lambda image: np.roll(image, 1, axis=0),
    "words": with_words,
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("mirror", [False, True], ids=["upright", "mirrored"])
def test_a_changed_copy_is_found_and_nothing_else(changed, mirror):
    images = FACES.copy()
    images[47] = changed(images[3][:, ::-1] if mirror else images[3])
    found = audit(splits_of(images, [0, 1] * 30, (40, 10, 10)))
    told, silent = (found.mirrored, found.near) if mirror else (found.near, found.mirrored)
    assert named(told.groups) == [[("train", 3, "bee"), ("validation", 7, "bee")]]
    assert silent.groups == ()
    assert per_class(found.held_out_near_train) == {"validation": [0, 1], "test": [0, 0]}
    assert found.identical.groups == ()


@pytest.mark.parametrize("shape", [(30, 64, 1), (48, 48, 3), (90, 130, 3), (12, 10, 1)])
def test_images_of_any_size_and_color_are_compared(shape):
    faces = np.stack([cv2.resize(face, shape[1::-1]) for face in FACES])
    images = np.repeat(faces[..., None], shape[2], axis=3) // np.arange(1, shape[2] + 1).astype(np.uint8)
    images[59] = images[0][:, ::-1]
    images[41] = images[1] // 2 + 10
    found = audit(splits_of(images, [0, 1] * 30, (40, 10, 10)))
    assert [("train", 0, "ant"), ("test", 9, "bee")] in named(found.mirrored.groups)
    assert [("train", 1, "bee"), ("validation", 1, "bee")] in named(found.near.groups)


def test_exact_mirror_images_are_found_however_small_and_a_symmetric_image_is_no_duplicate():
    images = random_images(9, side=2)
    images[8] = images[0][:, ::-1]
    images[1, :, 1] = images[1, :, 0]
    found = audit(splits_of(images, [0, 1, 0] * 3, (3, 3, 3)))
    assert named(found.mirrored.groups) == [[("train", 0, "ant"), ("test", 2, "ant")]]


def test_rows_that_repeat_an_image_join_the_group_of_what_is_like_it():
    images = FACES.copy()
    images[[5, 50]] = images[9]
    images[45] = CHANGES["paler"](images[9])
    found = audit(splits_of(images, [0] * 10 + [1] * 50, (40, 10, 10)))
    rows = [("train", 5, "ant"), ("train", 9, "ant"), ("validation", 5, "bee"), ("test", 0, "bee")]
    assert named(found.near.groups) == [rows]
    assert counted(found.near.total) == counted(found.near.across) == (1, 4, 1)
    assert counted(found.near.within["train"]) == (0, 0, 0), "its two rows are one image"
    assert per_class(found.held_out_in_train) == {"validation": [0, 0], "test": [0, 1]}
    assert per_class(found.held_out_near_train) == {"validation": [0, 1], "test": [0, 0]}


def test_no_two_demo_faces_are_taken_for_one_picture():
    found = audit(installed_plugins().read("demo"))
    assert found.identical.groups == found.mirrored.groups == found.near.groups == found.blank_rows == ()


def test_candidates_are_all_pairs_within_the_distance():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, 60, dtype=np.uint64)
    for row in range(20, 60):
        changed_bits = rng.choice(64, size=row % 11, replace=False).astype(np.uint64)
        words[row] = words[row - 20] ^ np.bitwise_or.reduce(np.uint64(1) << changed_bits)
    chosen = np.arange(1, 60)
    hashes = words.view(np.uint8).reshape(-1, 8)
    others = words[::-1].copy().view(np.uint8).reshape(-1, 8)
    distance = np.bitwise_count(words[:, None] ^ words[::-1])
    expected = {(i, j) for i, j in np.argwhere(distance <= HASH_DISTANCE).tolist() if i and j}
    assert set(map(tuple, _candidates(chosen, hashes, others).tolist())) == expected
    assert 30 < len(expected) < 1000


def test_progress_is_told_up_to_the_end():
    told = []
    audit(splits_of(FACES, [0, 1] * 30, (40, 10, 10)), lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)


# ------------------------------------------------------------------------- dropping what stands held out


def test_dropping_held_out_duplicates_removes_training_rows_and_no_others():
    images = random_images(12)
    images[[1, 3]], images[5] = images[8], images[11]
    splits = splits_of(images, [0, 0, 1, 1, 0, 1] * 2, (6, 3, 3))
    dropped = drop_held_out_duplicates(splits)
    np.testing.assert_array_equal(dropped.train.images[:], images[[0, 2, 4]])
    assert dropped.train.labels.tolist() == [0, 1, 0]
    assert dropped.validation is splits.validation
    assert dropped.test is splits.test
    assert "less 3 training rows" in dropped.source


def test_what_is_left_is_a_set_of_source_rows_of_the_same_pixels():
    images = random_images(9)
    images[0] = images[8]
    splits = splits_of(images, [0, 0, 1] * 3, (3, 3, 3))
    train = drop_held_out_duplicates(splits).train
    assert train.origins.tolist() == [[0], [1]]
    assert not train.copies.any()
    assert not train.step.any()
    assert train.blocks == splits.train.blocks
    assert train.fingerprint == ImageDataset.from_arrays(images[[1, 2]], [0, 1], CLASSES).fingerprint


def test_splits_without_held_out_duplicates_stay_as_they_are():
    splits = splits_of(random_images(6), [0, 1] * 3, (2, 2, 2))
    assert drop_held_out_duplicates(splits) is splits


@pytest.mark.parametrize(("copied", "message"), [([1], "rows of bee"), ([0, 1], "train split is empty")])
def test_dropping_all_training_rows_of_a_class_is_refused(copied, message):
    images = random_images(6)
    images[copied] = images[2]
    splits = splits_of(images, [0, 1, 0, 1, 0, 1], (2, 2, 2))
    with pytest.raises(DatasetError, match=f"({message}).*set held_out_duplicates to keep"):
        drop_held_out_duplicates(splits)


# ------------------------------------------------------------------------------------- FER2013 itself


@pytest.fixture(scope="module")
def fer2013() -> Splits:
    if not os.environ.get("FER2013"):
        pytest.skip("FER2013 is not set")
    path = Path(os.environ["FER2013"])
    return installed_plugins().read(str(path / "fer2013_images.zip" if path.is_dir() else path))


def test_fer2013_has_what_is_known_of_it(fer2013):
    found = audit(fer2013)
    assert counted(found.identical.total) == (1516, 3369, 57), "over all three splits together"
    assert {name: counted(counts)[0] for name, counts in found.identical.within.items()} == {
        "train": 1035,
        "validation": 26,
        "test": 16,
    }
    assert found.held_out_in_train["test"] == {
        "angry": 37,
        "disgust": 16,
        "fear": 47,
        "happy": 28,
        "sad": 17,
        "surprise": 118,
        "neutral": 25,
    }
    totals = {name: sum(counts.values()) for name, counts in found.held_out_in_train.items()}
    assert totals == {"validation": 280, "test": 288}
    assert sum(sum(counts.values()) for counts in found.blank.values()) == len(found.blank_rows) == 13
    assert found.near.total.groups > 700
    assert 10 < found.mirrored.total.groups < 20


def test_fer2013_without_held_out_duplicates(fer2013):
    dropped = drop_held_out_duplicates(fer2013)
    again = audit(dropped)
    assert not any(sum(counts.values()) for counts in again.held_out_in_train.values())
    kept = np.flatnonzero(
        ~np.isin(fer2013.train.digests, np.concatenate([fer2013.validation.digests, fer2013.test.digests]))
    )
    np.testing.assert_array_equal(dropped.train.index, fer2013.train.index[kept])
