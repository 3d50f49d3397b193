"""In a run, a scout predicts each training set once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_augment import Context, ImageDataset, Strategy, hookimpl
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.testing import NearestMeanScout, tiny_dataset


class QueriesOften(Strategy):
    """Query the scout at two stages, in each epoch."""

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Any) -> ImageDataset:
        context.scout.probabilities(training_set)
        return training_set

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: ImageDataset, context: Any) -> Any:
        context.scout.probabilities(training_set, how="in_sample")
        return 1.5 - context.scout.probabilities(training_set)[:, 0].astype(float)


def test_a_step_has_one_scout_and_queries_it_once_per_set() -> None:
    scouts: list[NearestMeanScout] = []

    def scout_for(step: Any) -> NearestMeanScout:
        scouts.append(NearestMeanScout())
        return scouts[-1]

    data, other = tiny_dataset(), tiny_dataset(3)
    pipeline = Pipeline(steps_of([QueriesOften(), QueriesOften()]), Context(0, data.class_names), scout_for=scout_for)
    pipeline.fold("rewrite_training_set", data)
    for epoch in range(3):
        pipeline.fold("sampling_weights", np.ones(len(data)), epoch=epoch, training_set=data)
    assert [scout.asked for scout in scouts] == [["out_of_fold", "in_sample"]] * 2
    weights = pipeline.fold("sampling_weights", np.ones(len(other)), epoch=3, training_set=other)
    assert [len(scout.asked) for scout in scouts] == [4, 4]
    assert weights == pytest.approx(1.5 - NearestMeanScout().probabilities(other)[:, 0])


def test_cached_predictions_are_read_only() -> None:
    class ChangesPredictions(Strategy):
        """Modify the predictions in place."""

        @hookimpl
        def rewrite_training_set(self, training_set: ImageDataset, context: Any) -> ImageDataset:
            with pytest.raises(ValueError, match="read-only"):
                context.scout.probabilities(training_set)[0] = 0
            return training_set

    data = tiny_dataset()
    pipeline = Pipeline(
        steps_of([ChangesPredictions()]), Context(0, data.class_names), scout_for=lambda step: NearestMeanScout()
    )
    pipeline.fold("rewrite_training_set", data)
