"""The audit finds duplicates, conflicting labels and blank images; held-out duplicates can be dropped."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fer_augment import DatasetError, ImageDataset, Splits
from fer_augment.data.audit import audit, drop_held_out_duplicates
from fer_augment.data.audit_records import Audit, audit_warnings, warning_on_test_groups
from fer_augment.data.dataset import SourceRows
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.readers._demo_faces import draw_faces
from tests.data_files import encoded, random_images, splits_of

CLASSES = ("ant", "bee")


def group_counts(counts) -> tuple[int, int, int]:
    return counts.groups, counts.rows, counts.conflicting


def per_class(counts) -> dict[str, list[int]]:
    return {split: list(by_class.values()) for split, by_class in counts.items()}


def rows_in(groups) -> list[list[tuple[str, int, str]]]:
    return [[(row.split, row.row, row.label) for row in group] for group in groups]


# --- exact duplicates


@pytest.fixture(scope="module")
def with_duplicates() -> Audit:
    """Three groups: rows 0, 1 of train and 0 of test; rows 2, 3 of train; row 4 of train and 1 of validation."""
    images = random_images(12)
    images[[1, 9]], images[3], images[7] = images[0], images[2], images[4]
    labels = [0, 0, 0, 1, 1, 1] + [0, 1, 0] + [1, 0, 1]
    return audit(splits_of(images, labels, (6, 3, 3)))


def test_exact_duplicates_are_counted_in_total_across_and_within_splits(with_duplicates):
    duplicates = with_duplicates.identical
    assert group_counts(duplicates.total) == (3, 7, 2)
    assert group_counts(duplicates.across) == (2, 5, 1)
    assert {split: group_counts(counts) for split, counts in duplicates.within.items()} == {
        "train": (2, 4, 1),
        "validation": (0, 0, 0),
        "test": (0, 0, 0),
    }


def test_exact_duplicates_are_counted_by_split_and_class(with_duplicates):
    assert per_class(with_duplicates.counts) == {"train": [3, 3], "validation": [2, 1], "test": [1, 2]}
    duplicates = with_duplicates.identical
    assert per_class(duplicates.rows) == {"train": [3, 2], "validation": [0, 1], "test": [0, 1]}
    assert per_class(duplicates.conflicting_rows) == {
        "train": [3, 1],
        "validation": [0, 0],
        "test": [0, 1],
    }
    assert per_class(with_duplicates.held_out_in_train) == {"validation": [0, 1], "test": [0, 1]}


def test_groups_are_sorted_by_conflicts_then_across_splits_then_size(with_duplicates):
    assert rows_in(with_duplicates.identical.groups) == [
        [("train", 0, "ant"), ("train", 1, "ant"), ("test", 0, "bee")],
        [("train", 2, "ant"), ("train", 3, "bee")],
        [("train", 4, "bee"), ("validation", 1, "bee")],
    ]


def test_random_images_are_not_near_duplicates(with_duplicates):
    for duplicates in (with_duplicates.near, with_duplicates.mirrored):
        assert group_counts(duplicates.total) == (0, 0, 0)
        assert duplicates.groups == ()


def test_audits_round_trip_through_json(with_duplicates):
    assert Audit.model_validate_json(with_duplicates.model_dump_json()) == with_duplicates


def test_splits_in_separate_blocks_are_audited_together():
    images = random_images(6)
    images[5] = images[1]
    train, validation, test = (
        ImageDataset.from_arrays(images[rows], [0, 1], CLASSES) for rows in ([0, 1], [2, 3], [4, 5])
    )
    train = train.append(images[[4]], parents=[0])
    result = audit(Splits(train, validation, test, "synthetic"))
    assert rows_in(result.identical.groups) == [
        [("train", 1, "bee"), ("test", 1, "bee")],
        [("train", 2, "ant"), ("test", 0, "ant")],
    ]


# --- file names


def with_sources(splits: Splits, names: bool = True, groups=None) -> Splits:
    """Give the rows of splits file names, and groups by a number for each row of all splits."""
    parts, start = [], 0
    for split, part in splits.parts.items():
        files = tuple(f"{split}/{row}.png" for row in range(len(part))) if names else None
        numbers = None if groups is None else np.array(groups[start : start + len(part)])
        start += len(part)
        parts.append(
            ImageDataset.from_arrays(part.images[:], part.labels, part.class_names, sources=SourceRows(files, numbers))
        )
    train, validation, test = parts
    return Splits(train, validation, test, splits.source)


def test_rows_have_file_names():
    images = random_images(9)
    images[[1, 8]], images[4] = images[0], 7
    result = audit(with_sources(splits_of(images, [0, 1, 0] * 3, (3, 3, 3))))
    assert [[row.file for row in group] for group in result.identical.groups] == [
        ["train/0.png", "train/1.png", "test/2.png"]
    ]
    assert [row.file for row in result.blank_rows] == ["validation/1.png"]
    assert Audit.model_validate_json(result.model_dump_json()) == result


def test_rows_of_sources_without_files_have_no_file_names(with_duplicates):
    assert {row.file for group in with_duplicates.identical.groups for row in group} == {None}


# --- groups that the source declares


def test_groups_across_splits_are_counted_and_shown_largest_first():
    splits = splits_of(random_images(10), [0, 1] * 5, (6, 2, 2))
    result = audit(with_sources(splits, groups=[7, 7, 2, 3, 4, 4, 4, 9, 7, 9])).source_groups
    assert (result.total, result.across) == (5, 3)
    assert per_class(result.held_out_in_train) == {"validation": [1, 0], "test": [1, 0]}
    assert rows_in(result.examples) == [
        [("train", 4, "ant"), ("validation", 0, "ant")],
        [("train", 0, "ant"), ("test", 0, "ant")],
        [("validation", 1, "bee"), ("test", 1, "bee")],
    ]
    assert result.examples[0][0].file == "train/4.png"


def test_sources_without_groups_have_none(with_duplicates):
    assert with_duplicates.source_groups is None


@pytest.mark.parametrize(("dtype", "largest"), [(np.int64, 4), (np.uint8, 255), (np.int64, 2**63 - 1)])
def test_groups_of_some_splits_are_reported(dtype, largest):
    groups = np.array([0, 1, 1, largest, 3, 3], dtype)
    splits = with_sources(splits_of(random_images(6), [0, 1] * 3, (2, 2, 2)), groups=groups)
    splits = replace(splits, test=replace(splits.test, sources=None))
    result = audit(splits).source_groups
    assert (result.total, result.across) == (3, 1)


def test_groups_within_splits_are_not_reported():
    splits = with_sources(splits_of(random_images(6), [0, 1] * 3, (2, 2, 2)), groups=[0, 0, 1, 1, 2, 2])
    result = audit(splits)
    assert (result.source_groups.across, result.source_groups.examples) == (0, ())
    assert audit_warnings(result) == ()


# --- warnings


def test_near_duplicates_of_training_rows_are_a_warning():
    images = FACES.copy()
    images[47], images[55] = CHANGES["jpeg"](images[3]), images[4][:, ::-1]
    (warning,) = audit_warnings(audit(splits_of(images, [0, 1] * 30, (40, 10, 10))))
    assert warning == (
        "1 of 10 validation rows (10.0 %) and 1 of 10 test rows (10.0 %) have a near or mirrored duplicate in the "
        "training split, so their scores measure memorization; the deduplicated test split is without them. "
        "`fer-augment data audit` lists them. Splits of a source are used as they are; the folds of "
        "`compare --folds 5` keep near duplicates together."
    )


def test_positions_of_held_out_rows_with_near_duplicates_in_training():
    images = FACES.copy()
    images[41], images[52], images[55] = CHANGES["jpeg"](images[3]), images[5], images[4][:, ::-1]
    result = audit(splits_of(images, [0, 1] * 30, (40, 10, 10)))
    assert result.held_out_near_train_rows == {"validation": (1,), "test": (5,)}, "52 is an exact duplicate"
    (warning,) = audit_warnings(audit(splits_of(images[:55], [0, 1] * 27 + [0], (40, 10, 5))))
    assert "validation rows" in warning and "test split" not in warning


@pytest.mark.parametrize(
    ("groups", "is_warned"), [([0, 1, 2, 3, 4, 4], True), ([0, 0, 1, 1, 2, 3], False), (None, False)]
)
def test_test_images_of_one_group_are_a_warning(groups, is_warned):
    splits = with_sources(splits_of(random_images(6), [0, 1] * 3, (2, 2, 2)), groups=groups)
    warning = warning_on_test_groups(splits.test)
    assert bool(warning) == is_warned
    assert not warning or warning.startswith("The 2 test images are of 1 group of the source, but count as independent")


def test_groups_across_splits_are_a_warning():
    splits = with_sources(splits_of(random_images(6), [0, 1] * 3, (2, 2, 2)), groups=[0, 1, 2, 3, 1, 4])
    (warning,) = audit_warnings(audit(splits))
    assert warning.startswith(
        "1 of 5 groups of the source have rows in more than one split, so that 1 of 2 test rows (50.0 %) share a group "
        "with training rows"
    )


def test_exact_duplicates_alone_are_no_warning(with_duplicates):
    assert audit_warnings(with_duplicates) == ()


# --- blank and constant images


@pytest.mark.parametrize("channels", [1, 3])
def test_blank_and_constant_images_are_counted(channels):
    images = random_images(9, channels=channels)
    images[[0, 7]] = np.arange(channels) * 50
    images[4] = 99 + images[4] % 2
    result = audit(splits_of(images, [0, 1, 0] * 3, (3, 3, 3)))
    assert per_class(result.blank) == {"train": [1, 0], "validation": [0, 1], "test": [0, 1]}
    assert per_class(result.constant) == {"train": [1, 0], "validation": [0, 0], "test": [0, 1]}
    assert rows_in([result.blank_rows]) == [[("train", 0, "ant"), ("validation", 1, "bee"), ("test", 1, "bee")]]
    assert result.near.groups == result.mirrored.groups == ()


# --- near and mirrored duplicates

FACES = draw_faces(np.resize(np.arange(7), 60), np.random.default_rng(0))


def as_jpeg(image):
    return cv2.imdecode(np.frombuffer(encoded(image, ".jpg"), np.uint8), cv2.IMREAD_GRAYSCALE)[..., None]


def with_noise(image):
    return np.clip(image + np.random.default_rng(1).normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def with_watermark(image):
    return cv2.putText(image.copy(), "stock", (4, 40), cv2.FONT_HERSHEY_PLAIN, 0.8, 200)


CHANGES = {
    "brighter": lambda image: np.minimum(image.astype(int) + 40, 255).astype(np.uint8),
    "low contrast": lambda image: (100 + image // 3).astype(np.uint8),
    "jpeg": as_jpeg,
    "noise": with_noise,
    "shifted": lambda image: np.roll(image, 1, axis=0),
    "watermark": with_watermark,
}


@pytest.mark.parametrize("modified", CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("mirror", [False, True], ids=["upright", "mirrored"])
def test_a_modified_image_is_the_only_duplicate_found(modified, mirror):
    images = FACES.copy()
    images[47] = modified(images[3][:, ::-1] if mirror else images[3])
    result = audit(splits_of(images, [0, 1] * 30, (40, 10, 10)))
    expected, other = (result.mirrored, result.near) if mirror else (result.near, result.mirrored)
    assert rows_in(expected.groups) == [[("train", 3, "bee"), ("validation", 7, "bee")]]
    assert other.groups == ()
    assert per_class(result.held_out_near_train) == {"validation": [0, 1], "test": [0, 0]}
    assert result.identical.groups == ()


@pytest.mark.parametrize("shape", [(30, 64, 1), (48, 48, 3), (90, 130, 3), (12, 10, 1)])
def test_near_duplicates_of_any_size_and_color(shape):
    faces = np.stack([cv2.resize(face, shape[1::-1]) for face in FACES])
    images = np.repeat(faces[..., None], shape[2], axis=3) // np.arange(1, shape[2] + 1).astype(np.uint8)
    images[59] = images[0][:, ::-1]
    images[41] = images[1] // 2 + 10
    result = audit(splits_of(images, [0, 1] * 30, (40, 10, 10)))
    assert [("train", 0, "ant"), ("test", 9, "bee")] in rows_in(result.mirrored.groups)
    assert [("train", 1, "bee"), ("validation", 1, "bee")] in rows_in(result.near.groups)


def test_exact_mirror_images_of_any_size_are_found_but_not_symmetric_images():
    images = random_images(9, side=2)
    images[8] = images[0][:, ::-1]
    images[1, :, 1] = images[1, :, 0]
    result = audit(splits_of(images, [0, 1, 0] * 3, (3, 3, 3)))
    assert rows_in(result.mirrored.groups) == [[("train", 0, "ant"), ("test", 2, "ant")]]


def test_exact_duplicates_join_the_group_of_their_near_duplicates():
    images = FACES.copy()
    images[[5, 50]] = images[9]
    images[45] = CHANGES["low contrast"](images[9])
    result = audit(splits_of(images, [0] * 10 + [1] * 50, (40, 10, 10)))
    rows = [("train", 5, "ant"), ("train", 9, "ant"), ("validation", 5, "bee"), ("test", 0, "bee")]
    assert rows_in(result.near.groups) == [rows]
    assert group_counts(result.near.total) == group_counts(result.near.across) == (1, 4, 1)
    assert group_counts(result.near.within["train"]) == (0, 0, 0), "the two rows are exact duplicates"
    assert per_class(result.held_out_in_train) == {"validation": [0, 0], "test": [0, 1]}
    assert per_class(result.held_out_near_train) == {"validation": [0, 1], "test": [0, 0]}


def test_synthetic_faces_have_no_duplicates():
    result = audit(installed_plugins().read("demo"))
    assert result.identical.groups == result.mirrored.groups == result.near.groups == ()
    assert result.blank_rows == ()


def test_progress_is_reported_until_done():
    calls = []
    audit(splits_of(FACES, [0, 1] * 30, (40, 10, 10)), lambda done, total: calls.append((done, total)))
    assert calls[-1] == (60, 60)


# --- dropping held-out duplicates


def test_dropping_held_out_duplicates_removes_only_training_rows():
    images = random_images(12)
    images[[1, 3]], images[5] = images[8], images[11]
    splits = splits_of(images, [0, 0, 1, 1, 0, 1] * 2, (6, 3, 3))
    dropped = drop_held_out_duplicates(splits)
    np.testing.assert_array_equal(dropped.train.images[:], images[[0, 2, 4]])
    assert dropped.train.labels.tolist() == [0, 1, 0]
    assert dropped.validation is splits.validation
    assert dropped.test is splits.test
    assert "without 3 training rows" in dropped.source


def test_remaining_rows_are_source_rows_of_the_same_block():
    images = random_images(9)
    images[0] = images[8]
    splits = splits_of(images, [0, 0, 1] * 3, (3, 3, 3))
    train = drop_held_out_duplicates(splits).train
    assert train.origins.tolist() == [[0], [1]]
    assert not train.copies.any()
    assert not train.step.any()
    assert train.blocks == splits.train.blocks
    assert train.fingerprint == ImageDataset.from_arrays(images[[1, 2]], [0, 1], CLASSES).fingerprint


def test_splits_without_held_out_duplicates_are_unchanged():
    splits = splits_of(random_images(6), [0, 1] * 3, (2, 2, 2))
    assert drop_held_out_duplicates(splits) is splits


@pytest.mark.parametrize(("rows", "message"), [([1], "rows of bee"), ([0, 1], "train split is empty")])
def test_dropping_all_training_rows_of_a_class_is_refused(rows, message):
    images = random_images(6)
    images[rows] = images[2]
    splits = splits_of(images, [0, 1, 0, 1, 0, 1], (2, 2, 2))
    with pytest.raises(DatasetError, match=f"({message}).*set data.held_out_duplicates to keep"):
        drop_held_out_duplicates(splits)
