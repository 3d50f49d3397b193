"""Exact duplicates are found by digest; folds are stratified and keep groups together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fer_augment.data.duplicates import connected, group_ids, image_digests, joined, stratified_folds
from tests.data_files import random_images


def test_digests_are_equal_if_and_only_if_pixels_are_equal() -> None:
    images = random_images(6)
    images[4] = images[1]
    images[5] = images[2]
    images[5, 3, 3, 0] ^= 1
    digests = image_digests(images)

    pairs = [(one, other) for one in range(6) for other in range(one) if digests[one] == digests[other]]
    assert pairs == [(4, 1)]


def test_digests_do_not_depend_on_memory_layout() -> None:
    images = random_images(4, channels=3)

    assert (image_digests(np.asfortranarray(images)) == image_digests(images)).all()
    assert (image_digests(images[::-1]) == image_digests(images)[::-1]).all()


def test_no_images_have_no_digests() -> None:
    assert image_digests(random_images(0)).shape == (0,)
    assert group_ids(image_digests(random_images(0))).shape == (0,)


def test_digests_depend_on_channel_order() -> None:
    image = random_images(1, channels=3)

    assert image_digests(image)[0] != image_digests(image[..., ::-1])[0]


@given(st.lists(st.integers(0, 4), max_size=12))
def test_rows_share_a_group_if_and_only_if_they_are_equal(kinds: list[int]) -> None:
    groups = group_ids(image_digests(random_images(5)[kinds]))

    assert len(groups) == len(kinds)
    for one, group in zip(kinds, groups.tolist(), strict=True):
        assert [kind == one for kind in kinds] == [other == group for other in groups.tolist()]


def test_components_are_numbered_by_their_lowest_member() -> None:
    assert connected(6, np.array([[1, 4], [4, 5], [2, 3]])).tolist() == [0, 1, 2, 2, 1, 1]
    assert connected(2, np.empty((0, 2), np.int64)).tolist() == [0, 1]


def test_rows_that_share_a_group_in_any_grouping_are_joined() -> None:
    one, other = np.array([5, 5, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 3, 4])
    assert joined(one, other).tolist() == [0, 0, 0, 1, 2, 2]
    assert joined(one).tolist() == [0, 0, 1, 2, 3, 3]


labeled_groups = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=60)
"""Label and group of each row."""


@given(labeled_groups, st.integers(2, 5), st.integers(0, 3))
def test_folds_are_stratified_and_keep_groups_together(rows: list[tuple[int, int]], folds: int, seed: int) -> None:
    labels, groups = np.array(rows).T
    fold_of_row = stratified_folds(labels, groups, folds, np.random.default_rng(seed))

    assert fold_of_row.shape == labels.shape
    assert set(fold_of_row.tolist()) <= set(range(folds))
    distinct, first = np.unique(groups, return_index=True)
    for group in distinct:
        assert len(set(fold_of_row[groups == group].tolist())) == 1
    for label in (None, 0, 1, 2):
        representatives = first if label is None else first[labels[first] == label]
        groups_in_fold = np.bincount(fold_of_row[representatives], minlength=folds)
        assert groups_in_fold.max() - groups_in_fold.min() <= 1


def test_folds_depend_on_the_random_generator() -> None:
    labels, groups = np.repeat([0, 1], 20), np.arange(40)
    one, again, other = (stratified_folds(labels, groups, 4, np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert (one == again).all()
    assert (one != other).any()
