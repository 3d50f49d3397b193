"""The strategy `dedup` drops repeated rows and contradictory labels, and changes nothing else."""

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
IMAGES = [0, 1, 0, 2, 0, 1, 3, 0, 2, 4]
LABELS = [0, 1, 0, 1, 1, 1, 2, 2, 2, 0]
"""Image 0 is labeled ant twice, bee once and cat once; image 1 bee twice; image 2 bee and cat."""


def dataset(images: list[int] = IMAGES, labels: list[int] = LABELS) -> ImageDataset:
    return ImageDataset.from_arrays(random_images(5)[images], labels, NAMES)


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
def test_kept_rows_depend_on_conflicts_and_repeats(conflicts: str, repeats: str, kept: list[int]) -> None:
    result = rewritten(conflicts=conflicts, repeats=repeats)
    assert result.origin.tolist() == kept
    assert result.labels.tolist() == [LABELS[row] for row in kept]
    np.testing.assert_array_equal(result.images[:], dataset().images[kept])
    assert not result.step.any(), "kept rows have no step in their provenance"


def test_majority_and_keep_one_are_the_defaults() -> None:
    assert rewritten().origin.tolist() == [0, 1, 6, 9]


@pytest.mark.parametrize(("mirrored", "kept"), [(False, [0, 1, 2, 3]), (True, [0, 2])])
def test_mirrored_treats_mirror_images_as_duplicates(mirrored: bool, kept: list[int]) -> None:
    images = random_images(4)
    images[1] = images[0][:, ::-1]
    images[2, :, 2:] = images[2, :, 1::-1]
    images[3] = images[2][:, ::-1] if mirrored else images[3]
    data = ImageDataset.from_arrays(images, [0, 0, 1, 1], NAMES)
    assert rewritten(data, mirrored=mirrored).origin.tolist() == kept


def test_mirrored_detects_conflicting_labels_of_mirror_images() -> None:
    images = random_images(4)
    images[1] = images[0][:, ::-1]
    data = ImageDataset.from_arrays(images, [0, 1, 0, 1], NAMES)
    assert rewritten(data, mirrored=True).origin.tolist() == [2, 3]
    assert rewritten(data, mirrored=False).origin.tolist() == [0, 1, 2, 3]


def test_results_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rewritten(mirrored=True).origin
    monkeypatch.setitem(Dedup.rewrite_training_set.__globals__, "_CHUNK_ROWS", 3)
    np.testing.assert_array_equal(rewritten(mirrored=True).origin, whole)


def test_dropping_all_rows_of_a_class_raises_an_error() -> None:
    data = dataset([0, 0, 1, 2], [0, 1, 1, 2])
    with pytest.raises(StrategyError, match="`conflicts: majority` drops all rows of ant; use `conflicts: keep`"):
        rewritten(data)
    assert rewritten(data, conflicts="keep").origin.tolist() == [0, 1, 2, 3]


def test_a_class_without_rows_is_allowed() -> None:
    assert rewritten(dataset([0, 0, 1], [0, 0, 1])).counts.tolist() == [1, 1, 0]


def test_the_shift_of_class_frequencies_is_declared_unless_all_rows_are_kept() -> None:
    assert Effect.SHIFTS_CLASS_PRIOR in Dedup().effects
    assert Dedup(conflicts="keep", repeats="keep").effects == Effect(0)
