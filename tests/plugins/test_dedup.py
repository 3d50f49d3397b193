"""Dedup drops repeated rows and settles contradictory labels, and changes nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_augment import Context, Effect, ImageDataset, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.data_files import random_images

Dedup: Any = installed_plugins().strategy("dedup").value
NAMES = ("ant", "bee", "cat")
#          0  1  2  3  4  5  6  7  8  9
PICTURE = [0, 1, 0, 2, 0, 1, 3, 0, 2, 4]
LABELS = [0, 1, 0, 1, 1, 1, 2, 2, 2, 0]
"""Picture 0 is twice an ant, once a bee and once a cat; picture 1 is a bee twice; picture 2 a bee and a cat."""


def dataset(pictures: list[int] = PICTURE, labels: list[int] = LABELS) -> ImageDataset:
    return ImageDataset.from_arrays(random_images(5)[pictures], labels, NAMES)


def rewritten(data: ImageDataset | None = None, **parameters: Any) -> ImageDataset:
    pipeline = Pipeline(steps_of([Dedup(**parameters)]), Context(0, NAMES))
    return pipeline.fold("rewrite_training_set", dataset() if data is None else data)


@pytest.mark.parametrize(
    ("conflicts", "repeats", "kept"),
    [
        ("keep", "keep", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("keep", "keep_one", [0, 1, 3, 4, 6, 7, 8, 9]),
        ("drop", "keep", [1, 5, 6, 9]),
        ("drop", "keep_one", [1, 6, 9]),
        ("majority", "keep", [0, 1, 2, 5, 6, 9]),
        ("majority", "keep_one", [0, 1, 6, 9]),
    ],
)
def test_rows_stay_in_their_order_by_vote_and_once(conflicts: str, repeats: str, kept: list[int]) -> None:
    result = rewritten(conflicts=conflicts, repeats=repeats)
    assert result.origin.tolist() == kept
    assert result.labels.tolist() == [LABELS[row] for row in kept]
    np.testing.assert_array_equal(result.images[:], dataset().images[kept])
    assert not result.step.any(), "rows that stay are rows as read"


def test_majority_and_one_of_each_are_the_default() -> None:
    assert rewritten().origin.tolist() == [0, 1, 6, 9]


@pytest.mark.parametrize(("mirrored", "kept"), [(False, [0, 1, 2, 3]), (True, [0, 2])])
def test_mirror_images_count_as_the_same_if_asked(mirrored: bool, kept: list[int]) -> None:
    images = random_images(4)
    images[1] = images[0][:, ::-1]
    images[2, :, 2:] = images[2, :, 1::-1]
    images[3] = images[2][:, ::-1] if mirrored else images[3]
    data = ImageDataset.from_arrays(images, [0, 0, 1, 1], NAMES)
    assert rewritten(data, mirrored=mirrored).origin.tolist() == kept


def test_mirror_images_under_several_labels_conflict_if_asked() -> None:
    images = random_images(4)
    images[1] = images[0][:, ::-1]
    data = ImageDataset.from_arrays(images, [0, 1, 0, 1], NAMES)
    assert rewritten(data, mirrored=True).origin.tolist() == [2, 3]
    assert rewritten(data, mirrored=False).origin.tolist() == [0, 1, 2, 3]


def test_many_rows_are_mirrored_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rewritten(mirrored=True).origin
    monkeypatch.setitem(Dedup.rewrite_training_set.__globals__, "_ROWS_AT_ONCE", 3)
    np.testing.assert_array_equal(rewritten(mirrored=True).origin, whole)


def test_a_class_is_never_emptied_in_silence() -> None:
    data = dataset([0, 0, 1, 2], [0, 1, 1, 2])
    with pytest.raises(StrategyError, match="conflicts: majority leaves no row of ant; set conflicts to keep"):
        rewritten(data)
    assert rewritten(data, conflicts="keep").origin.tolist() == [0, 1, 2, 3]


def test_a_class_without_rows_stays_without() -> None:
    assert rewritten(dataset([0, 0, 1], [0, 0, 1])).counts.tolist() == [1, 1, 0]


def test_it_declares_that_class_frequencies_change_unless_nothing_is_dropped() -> None:
    assert Effect.SHIFTS_CLASS_PRIOR in Dedup().effects
    assert Dedup(conflicts="keep", repeats="keep").effects == Effect(0)
