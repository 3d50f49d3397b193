"""In a run a scout is asked each question once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_augment import Context, ImageDataset, Strategy, hookimpl
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.testing import NearestMeanScout, tiny_dataset


class AsksOften(Strategy):
    """Ask the scout at every stage, for each epoch."""

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Any) -> ImageDataset:
        context.scout.probabilities(training_set)
        return training_set

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: ImageDataset, context: Any) -> Any:
        context.scout.probabilities(training_set, how="in_sample")
        return 1.5 - context.scout.probabilities(training_set)[:, 0].astype(float)


def test_a_step_has_one_scout_and_asks_it_once_about_each_set() -> None:
    scouts: list[NearestMeanScout] = []

    def scout_for(step: Any) -> NearestMeanScout:
        scouts.append(NearestMeanScout())
        return scouts[-1]

    data, other = tiny_dataset(), tiny_dataset(3)
    stages = Pipeline(steps_of([AsksOften(), AsksOften()]), Context(0, data.class_names), scout_for=scout_for)
    stages.fold("rewrite_training_set", data)
    for epoch in range(3):
        stages.fold("sampling_weights", np.ones(len(data)), epoch=epoch, training_set=data)
    assert [scout.asked for scout in scouts] == [["out_of_fold", "in_sample"]] * 2
    weights = stages.fold("sampling_weights", np.ones(len(other)), epoch=3, training_set=other)
    assert [len(scout.asked) for scout in scouts] == [4, 4]
    assert weights == pytest.approx(1.5 - NearestMeanScout().probabilities(other)[:, 0])


def test_an_answer_cannot_be_changed_for_those_who_ask_later() -> None:
    class Scribbles(Strategy):
        """Write into the answer."""

        @hookimpl
        def rewrite_training_set(self, training_set: ImageDataset, context: Any) -> ImageDataset:
            with pytest.raises(ValueError, match="read-only"):
                context.scout.probabilities(training_set)[0] = 0
            return training_set

    data = tiny_dataset()
    stages = Pipeline(steps_of([Scribbles()]), Context(0, data.class_names), scout_for=lambda step: NearestMeanScout())
    stages.fold("rewrite_training_set", data)
