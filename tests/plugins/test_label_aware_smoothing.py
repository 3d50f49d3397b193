"""The strategy `label_aware_smoothing` smooths targets by the size of their class, from the given epoch on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Context, Effect, ImageDataset
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.recipe import load_recipe

LabelAwareSmoothing: Any = installed_plugins().strategy("label_aware_smoothing").value
COUNTS = (50, 20, 10)


def smoothed(targets: list[list[float]], counts: tuple[int, ...] = COUNTS, epoch: int = 0, **parameters: Any) -> Any:
    """Return the targets that the wrapped loss receives."""
    labels = np.repeat(np.arange(len(counts)), counts)
    data = ImageDataset.from_arrays(np.zeros((len(labels), 2, 2), np.uint8), labels, "abcdef"[: len(counts)])
    received: list[torch.Tensor] = []

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        received.append(targets)
        return torch.zeros(len(targets))

    pipeline = Pipeline(steps_of([LabelAwareSmoothing(**parameters)]), Context(0, data.class_names))
    drawn = np.full(len(counts), 1 / len(counts))
    wrapped = pipeline.fold("build_loss", loss, epoch=epoch, class_prior=drawn, training_set=data)
    wrapped(torch.zeros(len(targets), len(counts)), torch.tensor(targets, dtype=torch.float64))
    return received[0].numpy()


@pytest.mark.parametrize(
    ("shape", "middle"),
    [
        ("concave", 0.1 + 0.2 * math.sin(math.pi / 8)),
        ("linear", 0.1 + 0.2 / 4),
        ("convex", 0.3 + 0.2 * math.sin(1.5 * math.pi + math.pi / 8)),
    ],
)
def test_smoothing_is_that_of_the_paper(shape: str, middle: float) -> None:
    """The class of 20 rows is a quarter of the way from the smallest, 10, to the largest, 50."""
    ours = smoothed(np.eye(3).tolist(), largest_class=0.3, smallest_class=0.1, shape=shape)
    expected = [[0.7, 0.15, 0.15], [middle / 2, 1 - middle, middle / 2], [0.05, 0.05, 0.9]]
    np.testing.assert_allclose(ours, expected, atol=1e-7)


def test_soft_targets_are_the_weighted_sum_over_the_classes() -> None:
    options: dict[str, Any] = {"largest_class": 0.4, "smallest_class": 0.2}
    of_classes = smoothed(np.eye(3).tolist(), **options)
    ours = smoothed([[0.5, 0.3, 0.2]], **options)
    np.testing.assert_allclose(ours[0], [0.5, 0.3, 0.2] @ of_classes, atol=1e-7)


def test_rows_are_counted_regardless_of_sampling_and_of_classes_without_rows() -> None:
    ours = smoothed(np.eye(4).tolist(), counts=(50, 0, 20, 10), largest_class=0.3, shape="linear")
    np.testing.assert_allclose(np.diag(ours)[[0, 2, 3]], [0.7, 1 - 0.3 / 4, 1], atol=1e-7)


def test_equal_classes_have_the_smoothing_of_the_largest() -> None:
    np.testing.assert_allclose(np.diag(smoothed(np.eye(2).tolist(), (9, 9), largest_class=0.3)), [0.7, 0.7], atol=1e-7)


def test_it_acts_from_the_given_epoch_on() -> None:
    one_hot = np.eye(3).tolist()
    assert np.array_equal(smoothed(one_hot, epoch=29, from_epoch=30), one_hot)
    assert not np.array_equal(smoothed(one_hot, epoch=30, from_epoch=30), one_hot)
    assert LabelAwareSmoothing(from_epoch=30).acts_from == 30


def test_the_recipe_smooths_the_second_stage_alone() -> None:
    recipe = load_recipe("modern_label_aware_smoothing")
    (step,) = (step for step in recipe.strategies if step.name == "label_aware_smoothing")
    assert step.parameters["from_epoch"] == recipe.training.epochs
    assert "crt" in [step.name for step in recipe.strategies]


def test_effects_are_declared() -> None:
    assert LabelAwareSmoothing().effects == Effect.SOFT_TARGETS | Effect.FAVORS_SMALL_CLASSES
    assert LabelAwareSmoothing(smallest_class=0.3).effects == Effect.SOFT_TARGETS
    assert LabelAwareSmoothing(largest_class=0, smallest_class=0).effects == Effect(0)
