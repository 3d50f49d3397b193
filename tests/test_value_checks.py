"""A run checks, at the first call of an epoch, that a step leaves its arguments alone and returns pixels in range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Effect, Strategy, StrategyError, hookimpl
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.strategy import Context
from fer_augment.testing import tiny_dataset
from fer_augment.testing.stages import arguments_of
from fer_augment.training.trainer import train
from tests.planted_faults import data_dependence, repeatability, rows
from tests.tiny_training import training_of

FAULTY: list[tuple[type[Strategy], str, str]] = [
    (repeatability.ChangesAnArrayInPlace, "sampling_weights", "changed its argument `weights` in place"),
    (repeatability.ChangesATensorInPlace, "augment_batch", "changed its argument `images` in place"),
    (repeatability.ChangesAListInPlace, "predict_views", "changed its argument `views` in place"),
    (data_dependence.MultipliesPixels, "augment_batch", r"finite images in \[0, 1\], not values in \d+..\d+"),
    (rows.LeavesTheRangeOfPixels, "augment_batch", r"not values in 1.\d+..1.\d+; clamp or scale them"),
    (data_dependence.DividesPixelsTwice, "augment_batch", "must return images that are not all black"),
    (data_dependence.MakesRowsBlack, "augment_rows", "must return images that are not all black"),
    (data_dependence.AppendsBlackImages, "rewrite_training_set", "must return images that are not all black"),
]


def run_of(*strategies: Strategy) -> Pipeline:
    return Pipeline(steps_of(strategies), Context(0, tiny_dataset().class_names))


@pytest.mark.parametrize(("strategy_class", "stage", "message"), FAULTY)
def test_a_run_refuses_it_at_the_first_call(strategy_class: type[Strategy], stage: str, message: str) -> None:
    arguments = arguments_of(stage, tiny_dataset())[0]
    with pytest.raises(StrategyError, match=rf"step 1 \(\w+\), {stage} .*{message}"):
        arguments.fold_in(run_of(strategy_class()))


def test_nan_pixels_are_refused() -> None:
    class DividesByTheRange(Strategy):
        """Divides by the range of the batch, which is 0 for images of one value."""

        @hookimpl
        def augment_batch(self, images: Any, targets: Any) -> Any:
            return (images - images.min()) / (images.max() - images.min()), targets

    (arguments, *_) = arguments_of("augment_batch", tiny_dataset())
    black = torch.zeros_like(arguments.first[0]), arguments.first[1]
    run = run_of(DividesByTheRange())
    with pytest.raises(StrategyError, match=r"finite images in \[0, 1\], not NaN"):
        run.fold("augment_batch", black, epoch=0, **arguments.others)


def test_a_training_refuses_pixels_out_of_range_and_names_the_step() -> None:
    with pytest.raises(StrategyError, match=r"step 1 \(multiplies_pixels\), augment_batch must return finite images"):
        train(training_of(data_dependence.MultipliesPixels()))


def test_only_the_first_batch_of_an_epoch_is_checked() -> None:
    class BreaksLater(Strategy):
        """Returns pixels above 1 from the second batch of an epoch."""

        @hookimpl
        def augment_batch(self, images: Any, targets: Any, draws: Any) -> Any:
            return images * 255 ** int(draws.max()), targets

    run = run_of(BreaksLater())
    (arguments, later, _) = arguments_of("augment_batch", tiny_dataset())
    arguments.fold_in(run)
    assert float(arguments.fold_in(run)[0].max()) > 1
    object.__setattr__(later, "others", {**later.others, "draws": np.ones(len(later.rows), np.int64)})
    with pytest.raises(StrategyError, match="finite images"):
        later.fold_in(run)


def test_a_black_training_set_may_stay_black() -> None:
    data = tiny_dataset()
    black = data.append(np.zeros((2, *data.image_shape), np.uint8), parents=[0, 1]).take([len(data), len(data) + 1])

    class Copies(Strategy):
        """Appends all rows again."""

        @property
        def effects(self) -> Effect:
            return Effect.SHIFTS_CLASS_PRIOR

        @hookimpl
        def rewrite_training_set(self, training_set: Any) -> Any:
            return training_set.append(training_set.images[:], parents=np.arange(len(training_set)))

    assert len(run_of(Copies()).fold("rewrite_training_set", black)) == 4
