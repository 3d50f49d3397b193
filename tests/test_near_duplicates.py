"""Near duplicates are found in small and large sets, are not chained, and are not confused with look-alikes."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_augment.data import near_duplicates
from fer_augment.data.duplicates import connected
from fer_augment.data.near_duplicates import near_between, near_pairs, star_groups
from fer_augment.data.pixel_blocks import Images, PixelBlock
from fer_augment.data.similar_vectors import search
from tests.near_images import as_images, scene, sequence, shoes, signs, textures


def pairs_in(images, progress=lambda done, total: None) -> tuple[np.ndarray, np.ndarray]:
    return near_pairs(Images((PixelBlock.of(images),), np.arange(len(images))), np.arange(len(images)), progress)


def brighter(images) -> np.ndarray:
    return np.clip(images * 0.8 + 40, 0, 255).astype(np.uint8)


# --- small sets are searched exhaustively


def test_pairs_are_all_near_duplicates_of_a_small_set():
    rng = np.random.default_rng(0)
    originals = as_images(textures(40, rng))
    images = np.concatenate([originals, brighter(originals[::4]), originals[:3, :, ::-1]])
    near, mirrored = pairs_in(images)
    assert near.tolist() == [[4 * number, 40 + number] for number in range(10)]
    assert mirrored.tolist() == [[0, 50], [1, 51], [2, 52], [40, 50]]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_sets_of_at_most_two_images(count):
    near, mirrored = pairs_in(as_images(textures(2, np.random.default_rng(0)))[:count])
    assert near.shape == mirrored.shape == (0, 2)


def test_images_without_detail_have_no_near_duplicates():
    flat = np.full((4, 48, 48, 1), 90, dtype=np.uint8)
    flat[1:, 0, 0], flat[2, 5, 5] = 91, 92
    near, mirrored = pairs_in(flat)
    assert len(near) == len(mirrored) == 0


def test_a_few_images_among_many():
    rng = np.random.default_rng(0)
    originals = as_images(textures(60, rng))
    few = np.concatenate([brighter(originals[20:23]), originals[30:32, :, ::-1], originals[40:41], 255 - originals[:2]])
    images = Images((PixelBlock.of(np.concatenate([few, originals])),), np.arange(len(few) + 60))
    pairs = near_between(images, np.arange(len(few)), len(few) + np.arange(60))
    assert sorted(map(tuple, pairs.tolist())) == [(0, 20), (1, 21), (2, 22), (3, 30), (4, 31), (5, 40)]
    assert near_between(images, np.arange(2), np.arange(2, 3)).shape == (0, 2)


# --- large sets


@pytest.fixture
def small_leaves(monkeypatch):
    """Search sets of a thousand images with trees, as if they were large."""
    monkeypatch.setattr(near_duplicates, "search", functools.partial(search, leaf=64))


def test_nearly_all_near_duplicates_of_a_large_set_are_found(small_leaves):
    rng = np.random.default_rng(0)
    originals = as_images(textures(1000, rng, coarseness=3))
    shifted = np.roll(brighter(originals[:200]), 1, axis=1)
    near, _ = pairs_in(np.concatenate([originals, shifted]))
    found = {tuple(pair) for pair in near.tolist()} & {(number, 1000 + number) for number in range(200)}
    assert len(found) >= 195
    assert len(near) == len(found)


def test_large_sets_have_the_same_result_every_time(small_leaves):
    images = np.concatenate([sequence(5, np.random.default_rng(seed)) for seed in range(100)])
    (near, mirrored), (again, mirrored_again) = pairs_in(images), pairs_in(images)
    np.testing.assert_array_equal(near, again)
    np.testing.assert_array_equal(mirrored, mirrored_again)


def test_thumbnails_of_a_large_set_are_in_a_temporary_file(monkeypatch):
    images = sequence(30, np.random.default_rng(0))
    expected = pairs_in(images)
    monkeypatch.setattr(near_duplicates, "_IN_MEMORY", 10)
    assert isinstance(near_duplicates._scratch(30), np.memmap)
    for pairs, expected_pairs in zip(pairs_in(images), expected, strict=True):
        np.testing.assert_array_equal(pairs, expected_pairs)


def test_thumbnails_stay_in_memory_if_the_disk_is_full(monkeypatch):
    def refuse(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(near_duplicates, "_IN_MEMORY", 10)
    monkeypatch.setattr("os.posix_fallocate", refuse)
    thumbnails = near_duplicates._scratch(30)
    assert thumbnails.shape == (30, 48, 48)
    assert not isinstance(thumbnails, np.memmap)


@pytest.mark.parametrize("make", [scene, sequence], ids=["fixed camera", "changing picture"])
def test_frames_of_one_scene_need_a_limited_number_of_comparisons_per_image(make, monkeypatch, small_leaves):
    compared = []
    compare = near_duplicates._compared

    def counted(pictures, pairs, *arguments, **options):
        compared.append(len(pairs))
        return compare(pictures, pairs, *arguments, **options)

    monkeypatch.setattr(near_duplicates, "_compared", counted)
    frames = make(1500, np.random.default_rng(0), **({"step": 0.02} if make is sequence else {}))
    near, _ = pairs_in(frames)
    assert sum(compared) < 8 * len(frames)
    component = connected(len(frames), near)
    assert np.bincount(component).max() == len(frames), "all frames are connected"


def test_frames_of_a_fixed_camera_are_one_group():
    frames = scene(300, np.random.default_rng(0))
    near, _ = pairs_in(frames)
    assert np.bincount(star_groups(len(frames), near)).max() == 300


# --- groups


@given(st.integers(1, 30), st.data())
def test_every_image_of_a_group_is_paired_with_its_representative(count, data):
    images = st.integers(0, count - 1)
    drawn = data.draw(st.lists(st.tuples(images, images).filter(lambda pair: pair[0] < pair[1]), max_size=60))
    pairs = np.array(sorted(set(drawn)), dtype=np.int64).reshape(-1, 2)
    representative = star_groups(count, pairs)
    paired = {tuple(pair) for pair in pairs.tolist()}
    for image, other in enumerate(representative.tolist()):
        assert image == other or tuple(sorted((image, other))) in paired
        assert representative[other] == other
    for one, other in paired:
        alone = [np.count_nonzero(representative == representative[image]) == 1 for image in (one, other)]
        assert not all(alone), "a pair is not left out"


def test_the_image_with_most_pairs_represents_its_group():
    pairs = np.array([[0, 1], [1, 2], [1, 3], [3, 4], [5, 6]])
    assert star_groups(8, pairs).tolist() == [1, 1, 1, 1, 4, 5, 5, 7]


def test_a_changing_picture_is_several_groups_and_not_a_chain():
    images = sequence(24, np.random.default_rng(0))
    near, _ = pairs_in(images)
    assert np.bincount(connected(len(images), near)).max() == 24
    groups = star_groups(len(images), near)
    for representative in np.unique(groups):
        members = np.flatnonzero(groups == representative)
        assert members.max() - members.min() <= 2, "neighbors of the representative only"


# --- look-alikes


def correlation(one, other) -> float:
    return float(cv2.matchTemplate(other, np.ascontiguousarray(one[2:-2, 2:-2]), cv2.TM_CCOEFF_NORMED).max())


def test_silhouettes_of_similar_outline_are_not_near_duplicates():
    """Most silhouettes correlate as closely as near duplicates of photographs; the modified ones are still found."""
    rng = np.random.default_rng(0)
    originals = shoes(300, rng)
    some = rng.integers(0, 300, (200, 2))
    assert np.mean([correlation(originals[one], originals[other]) > 0.9 for one, other in some]) > 0.5
    near, mirrored = pairs_in(np.concatenate([originals, brighter(originals[:100])]))
    planted = {(number, 300 + number) for number in range(100)}
    found = {tuple(pair) for pair in near.tolist()}
    recall, precision = len(found & planted) / len(planted), len(found & planted) / len(found)
    assert (recall, precision) >= (0.9, 0.9)
    assert len(mirrored) == 0


def test_signs_with_different_numbers_are_rarely_near_duplicates():
    rng = np.random.default_rng(0)
    numbers = rng.integers(2, 10, 300)
    near, _ = pairs_in(signs(numbers, rng))
    groups = star_groups(300, near)
    assert np.mean(numbers[near[:, 0]] == numbers[near[:, 1]]) > 0.9
    mixed = [group for group in np.unique(groups) if len(set(numbers[groups == group])) > 2]
    assert not mixed


def test_smooth_pictures_have_too_few_structures_to_be_compared():
    """Gradients of light correlate with each other, whatever they are pictures of."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    lights = [np.exp(-((x - a) ** 2 + (y - b) ** 2)) for a, b in rng.uniform(-0.2, 0.2, (30, 2))]
    patterns = np.stack(lights)
    patterns = (patterns - patterns.mean(axis=(1, 2), keepdims=True)) / patterns.std(axis=(1, 2), keepdims=True)
    near, mirrored = pairs_in(as_images(patterns))
    assert len(near) == len(mirrored) == 0


# --- progress


def test_progress_ends_with_the_number_of_images():
    calls = []
    pairs_in(sequence(50, np.random.default_rng(0)), lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (50, 50)
