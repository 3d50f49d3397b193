"""Missing splits are made: stratified, with duplicates and groups in one split, and every class in the test split."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_augment import DatasetError, ImageDataset
from fer_augment.data.audit import audit
from fer_augment.data.dataset import SourceRows, groups_of
from fer_augment.data.image_files import ImageFile
from fer_augment.data.image_source import ImageSource
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.splitting import (
    SPLIT_SEED,
    SplitSettings,
    _assigned,
    assign_splits,
    make_splits,
    splits_from_rows,
    without_made_splits,
)
from fer_augment.training.folds import Fold, fold_key, folds_of
from tests.data_files import encoded, random_images
from tests.near_images import as_images, sequence, textures

CLASSES = ("ant", "bee", "cat", "dog")
DEFAULT = SplitSettings()
UNASSIGNED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2


def rows_of(labels, images=None, *, groups=None, names=None, classes=CLASSES) -> ImageDataset:
    sources = SourceRows(names, None if groups is None else np.asarray(groups))
    images = random_images(len(labels), 8) if images is None else images
    return ImageDataset.from_arrays(images, labels, classes, sources=sources)


def made(rows: ImageDataset, settings=DEFAULT):
    """Return the splits of rows that have none."""
    return splits_from_rows("source", rows, np.full(len(rows), UNASSIGNED, np.int8), settings)


def sizes(splits) -> list[int]:
    return [len(part) for part in splits.parts.values()]


def split_of_rows(rows: ImageDataset, settings=DEFAULT) -> np.ndarray:
    return assign_splits("source", rows, np.full(len(rows), UNASSIGNED, np.int8), settings).split


# --- fractions and seed


def test_one_in_ten_rows_of_each_class_is_held_out_for_validation_and_for_test_by_default():
    splits = made(rows_of(np.repeat([0, 1, 2, 3], [500, 200, 50, 50])))
    assert splits.source == "source (validation and test: 1 in 10 rows each, split off)"
    assert splits.notes == ()
    assert sizes(splits) == [640, 80, 80]
    for split in ("validation", "test"):
        np.testing.assert_allclose(splits.parts[split].counts, [50, 20, 5, 5], atol=1)


@pytest.mark.parametrize(
    ("settings", "expected", "description"),
    [
        (SplitSettings(0.15, 0.25), [120, 30, 50], "validation: 15 % of rows, test: 1 in 4 rows, split off"),
        (SplitSettings(1 / 3, 1 / 3), [67, 67, 66], "validation and test: 1 in 3 rows each, split off"),
        (
            SplitSettings(0.05, 0.1, 7),
            [170, 10, 20],
            "validation: 1 in 20 rows, test: 1 in 10 rows, split off with seed 7",
        ),
        (SplitSettings(0.001, 0.9), [19, 1, 180], "validation: 1 in 1000 rows, test: 90 % of rows, split off"),
    ],
    ids=str,
)
def test_fractions_and_seed_can_be_set(settings, expected, description):
    assert without_made_splits(f"faces (1) ({description})") == "faces (1)"
    splits = made(rows_of(np.repeat([0, 1], 100)), settings)
    np.testing.assert_allclose(sizes(splits), expected, atol=2)
    assert splits.source == f"source ({description})"


def test_the_seed_determines_the_splits():
    rows = rows_of(np.repeat([0, 1], 50))
    default, again = (split_of_rows(rows) for _ in range(2))
    same, other = (split_of_rows(rows, SplitSettings(seed=seed)) for seed in (SPLIT_SEED, 1))
    np.testing.assert_array_equal(default, again)
    np.testing.assert_array_equal(default, same)
    assert (default != other).any()


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0, 0.1), "validation fraction of a split must be between 0 and 1, got 0"),
        ((0.1, 1.0), "test fraction of a split must be between 0 and 1, got 1.0"),
        ((0.5, 0.5), "must add up to less than 1, got 0.5 and 0.5"),
    ],
)
def test_invalid_fractions_are_refused(fractions, message):
    with pytest.raises(DatasetError, match=message):
        SplitSettings(*fractions)


# --- given splits


def test_given_splits_are_kept_even_with_duplicates_across_them():
    images = random_images(6, 8)
    images[5] = images[0]
    split = np.array([TRAIN, TRAIN, VALIDATION, VALIDATION, TEST, TEST], np.int8)
    splits = splits_from_rows("source", rows_of([0, 1] * 3, images, groups=[1] * 6), split)
    assert (splits.source, splits.notes, sizes(splits)) == ("source", (), [2, 2, 2])
    np.testing.assert_array_equal(splits.test.images[:], images[4:])


def test_a_missing_validation_split_is_taken_from_training_rows_only():
    split = np.array([TRAIN] * 80 + [TEST] * 20, np.int8)
    rows = rows_of(np.resize([0, 1], 100))
    splits = splits_from_rows("source", rows, split, SplitSettings(validation=0.25))
    assert splits.source == "source (validation: 1 in 4 rows of train, split off)"
    assert sizes(splits) == [60, 20, 20]
    np.testing.assert_array_equal(splits.test.images[:], rows.images[80:])
    parts = {"train": rows_of(np.resize([0, 1], 80), rows.images[:80]), "test": splits.test}
    again = make_splits("source", parts, {}, SplitSettings(validation=0.25))
    np.testing.assert_array_equal(again.validation.digests, splits.validation.digests)
    assert again.source == splits.source


@pytest.mark.parametrize(("missing", "given_"), [("test", [TRAIN, VALIDATION]), ("train", [VALIDATION, TEST])])
def test_a_missing_train_or_test_split_is_refused_with_advice(missing, given_):
    split = np.array(given_ * 4, np.int8)
    with pytest.raises(DatasetError, match=f"^source: the {missing} split is empty; add a folder {missing}$"):
        splits_from_rows("source", rows_of([0] * 8), split, advice={missing: f"add a folder {missing}"})


def test_rows_without_a_split_among_others_are_refused():
    split = np.array([TRAIN, UNASSIGNED, TEST, UNASSIGNED, UNASSIGNED, UNASSIGNED], np.int8)
    rows = rows_of([0] * 6, names=tuple("abcdef"))
    with pytest.raises(DatasetError, match=r"^source: 4 of 6 rows have no split \(b, d, e, …\); assign all rows"):
        splits_from_rows("source", rows, split)


# --- duplicates and groups


@pytest.fixture(scope="module")
def with_near_duplicates() -> ImageDataset:
    """200 textures; the first 60 also brighter, with another label, and 20 of these mirrored."""
    originals = as_images(textures(200, np.random.default_rng(0)))
    brighter = np.clip(originals[:60] * 0.8 + 40, 0, 255).astype(np.uint8)
    labels = np.r_[np.resize([0, 1], 200), np.resize([1, 0], 60), np.resize([0, 1], 20)]
    return rows_of(labels, np.concatenate([originals, brighter, originals[:20, :, ::-1]]))


def test_near_and_mirrored_duplicates_are_kept_together(with_near_duplicates):
    splits = made(with_near_duplicates)
    result = audit(splits)
    assert result.near.total.groups == 60
    assert result.mirrored.total.groups == 20
    assert result.near.across.groups == result.mirrored.across.groups == 0
    assert not any(sum(counts.values()) for counts in result.held_out_near_train.values())
    assert splits.notes == ("140 near or mirrored duplicates were kept together in 60 groups when the rows were split",)
    np.testing.assert_allclose(sizes(splits), [224, 28, 28], atol=3)


def test_keeping_near_duplicates_together_can_be_turned_off(with_near_duplicates):
    splits = made(with_near_duplicates, SplitSettings(keep_near_duplicates=False))
    assert audit(splits).near.across.groups > 10
    assert splits.notes == ()


def test_a_sequence_is_kept_together_although_its_ends_are_not_near_duplicates():
    images = np.concatenate([sequence(12, np.random.default_rng(seed)) for seed in range(20)])
    split = split_of_rows(rows_of(np.resize([0, 1], 240), images)).reshape(20, 12)
    assert (split == split[:, :1]).all()
    assert set(split[:, 0]) == {TRAIN, VALIDATION, TEST}


def test_folds_keep_near_duplicates_together_where_the_splits_did(with_near_duplicates):
    train = made(with_near_duplicates).train
    near = train.sources.near
    assert (np.bincount(np.unique(near, return_inverse=True)[1]) > 1).any()
    folds = folds_of(train, train, 3, seed=0)[:, 0]
    for group in np.unique(near):
        assert len(set(folds[near == group])) == 1
    parted = made(with_near_duplicates, SplitSettings(keep_near_duplicates=False)).train
    assert parted.sources.near is None, "near duplicates were not searched for"


def test_near_duplicates_of_a_training_split_are_known_if_only_validation_is_made(with_near_duplicates):
    split = np.zeros(len(with_near_duplicates), np.int8)
    split[:9] = 2
    splits = splits_from_rows("a", with_near_duplicates, split)
    together = np.concatenate([splits.train.sources.near, splits.validation.sources.near])
    assert len(set(together)) < len(together)
    assert len(set(splits.test.sources.near) | set(together)) == 9 + len(set(together))


def test_the_key_of_a_fold_changes_with_its_rows(with_near_duplicates):
    train = made(with_near_duplicates).train
    apart = replace(train, sources=replace(train.sources, near=None))
    assert fold_key(train, Fold(0, 3), 0) == fold_key(train, Fold(0, 3), 0)
    assert fold_key(train, Fold(0, 3), 0) != fold_key(apart, Fold(0, 3), 0)
    assert train.fingerprint == apart.fingerprint


def test_exact_duplicates_are_kept_together():
    images = np.repeat(random_images(40, 8), 3, axis=0)
    split = split_of_rows(rows_of(np.resize([0, 1], 120), images)).reshape(40, 3)
    assert (split == split[:, :1]).all()


def test_groups_are_kept_together_and_join_with_duplicates():
    images = random_images(100, 8)
    images[99] = images[0]
    groups = np.repeat(np.arange(25), 4)
    rows = rows_of(np.resize([0, 1], 100), images, groups=groups)
    split = split_of_rows(rows).reshape(25, 4)
    assert (split == split[:, :1]).all()
    assert split[0, 0] == split[24, 0]
    assert set(groups_of(rows)[[0, 1, 98, 99]]) == {groups_of(rows)[0]}
    np.testing.assert_allclose(np.bincount(split.ravel()), [80, 10, 10], atol=4)


def test_splits_do_not_depend_on_the_size_of_the_images(tmp_path):
    """In 8 x 8 pixels, the images of each pair are exact duplicates."""
    rng = np.random.default_rng(0)
    coarse = np.repeat(rng.integers(60, 196, (41, 8, 1, 8, 1)), 2, axis=0)[:81]
    noise = rng.permuted(np.repeat([-60, 60], 18) * np.ones((81, 8, 8, 1), np.int64), axis=3).reshape(81, 8, 8, 6, 6)
    images = (coarse + noise.transpose(0, 1, 3, 2, 4)).reshape(81, 48, 48, 1).astype(np.uint8)
    contents = [encoded(image) for image in images]
    files = [
        ImageFile(f"{number:02}.png", functools.partial(contents.__getitem__, number), "1") for number in range(81)
    ]
    labels, unassigned = np.resize([0, 1], 81), np.full(81, UNASSIGNED, np.int8)

    def names(source, size):
        splits = source.splits(PixelSettings((size, size)))
        return [part.name_of(row) for part in splits.parts.values() for row in range(len(part))]

    source, other, third = (ImageSource("source", files, labels, CLASSES, unassigned) for _ in range(3))
    assert names(source, 48) == names(source, 6) == names(other, 24) == names(third, 8)


def test_thumbnails_of_a_source_are_decoded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
    reads = []

    def read(number):
        reads.append(number)
        return contents[number]

    contents = [encoded(image) for image in random_images(20, 8)]
    files = [ImageFile(f"{number}.png", functools.partial(read, number), "1") for number in range(20)]
    for _ in range(2):
        source = ImageSource("source", files, np.resize([0, 1], 20), CLASSES, np.full(20, UNASSIGNED, np.int8))
        source.splits(PixelSettings())
    assert 60 <= len(reads) < 70, "pixels twice, as they are few, and thumbnails once"


labeled_groups = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=4, max_size=80)
"""Label and group of each row."""


@given(labeled_groups, st.sampled_from([0.1, 0.25, 0.4]), st.integers(0, 3))
def test_every_group_is_in_one_part_and_every_class_in_the_training_split(rows, fraction, seed):
    labels, groups = np.array(rows).T
    groups = np.unique(groups, return_inverse=True)[1]
    fractions = {VALIDATION: fraction, TEST: fraction}
    part = _assigned(labels, groups, fractions, np.random.default_rng(seed))
    for group in np.unique(groups):
        assert len(set(part[groups == group].tolist())) == 1
    assert set(labels[part == TRAIN]) == set(labels)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 3))
def test_every_class_with_two_separate_images_is_in_the_test_split(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    fractions = {VALIDATION: 0.1, TEST: 0.1}
    part = _assigned(labels, np.arange(len(labels)), fractions, np.random.default_rng(seed))
    in_test = np.bincount(labels[part == TEST], minlength=len(counts))
    for count, held_out in zip(counts, in_test.tolist(), strict=True):
        assert (held_out > 0) == (count > 1)
        assert held_out <= max(1, 0.1 * count + 1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 3), st.booleans(), st.integers(0, 3))
def test_every_class_with_five_groups_is_in_the_validation_split(counts, size, makes_test, seed):
    labels = np.repeat(np.arange(len(counts)), [count * size for count in counts])
    groups = np.arange(len(labels)) // size
    fractions = {VALIDATION: 0.1, TEST: 0.1} if makes_test else {VALIDATION: 0.1}
    part = _assigned(labels, groups, fractions, np.random.default_rng(seed))
    rows = {number: np.bincount(labels[part == number], minlength=len(counts)) for number in (TRAIN, *fractions)}
    for label, count in enumerate(counts):
        assert rows[TRAIN][label]
        assert rows[VALIDATION][label] or count < 5
        assert rows[VALIDATION][label] <= max(1, 0.1 * count + 1) * size


# --- small classes


def test_classes_that_cannot_be_tested_and_very_small_classes_are_noted():
    images = random_images(61, 8)
    images[58:61] = images[57]
    splits = made(rows_of([0] * 50 + [1] * 5 + [2] + [3] * 5, images))
    assert splits.notes == (
        "1 class has no test images, so its recall cannot be measured: cat (1 image)",
        "2 classes have at most 5 images, too few for a significant difference in recall: bee (5 images), "
        "dog (5 images in 2 groups)",
    )
    assert splits.train.counts.tolist()[2] == 1
    assert (splits.test.counts[[1, 3]] > 0).all()


def test_at_most_three_classes_are_named():
    rows = rows_of(np.r_[np.zeros(40, int), 1:6], classes=("many", *"abcde"))
    assert made(rows).notes == (
        "5 classes have no test images, so their recall cannot be measured: a (1 image), b (1 image), c (1 image), …",
    )


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_refused(count):
    with pytest.raises(DatasetError, match=rf"^source: too few images \({count}\) to split off .*; add images"):
        made(rows_of([0] * count))


def test_too_few_groups_are_refused_with_the_reason():
    message = r"too few images \(9\) to split off .*, because duplicates and groups of images are kept together; add"
    with pytest.raises(DatasetError, match=message):
        made(rows_of([0] * 9, groups=[1] * 5 + [2] * 4))


def test_three_images_are_enough():
    assert sizes(made(rows_of([0] * 3))) == [1, 1, 1]
