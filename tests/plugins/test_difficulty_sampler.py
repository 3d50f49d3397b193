"""The difficulty sampler against hand arithmetic, and the history it uses in trainings."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fer_augment import Effect, History, Strategy, StrategyError, hookimpl
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.strategy import Context
from fer_augment.resampling import make_strategy
from fer_augment.testing import tiny_dataset
from fer_augment.training.trainer import refine, train
from tests.test_fine_tuning import Interruption
from tests.tiny_training import same_bits, training_of, weights_of

accuracies_of = importlib.import_module("fer_augment_plugins.difficulty_sampler").accuracies_of


def test_accuracies_are_of_the_rows_that_were_drawn() -> None:
    accuracies = accuracies_of(np.array([0, 0, 0, 2]), np.array([0, 1, 0, 1]), 3)
    np.testing.assert_allclose(accuracies, [2 / 3, np.nan, 0])


@pytest.mark.parametrize(
    ("tau", "accuracies", "expected"),
    [
        (1.0, [0.5, 0.9, 0.0], [0.5, 0.1, 1.0]),
        (2.0, [0.5, 0.9, 0.0], [0.25, 0.05, 1.0]),  # 0.01 is raised to the floor
        (1.0, [0.5, np.nan, 0.8], [0.5, 0.5, 0.2]),  # a class that was not drawn counts as the hardest
        (1.0, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
        (1.0, [np.nan] * 3, [1.0, 1.0, 1.0]),
    ],
)
def test_weights_are_powers_of_the_difficulty(tau: float, accuracies: list[float], expected: list[float]) -> None:
    strategy: Any = make_strategy("difficulty_sampler", tau=tau)
    np.testing.assert_allclose(strategy.class_weights(np.array(accuracies)), expected)


def test_tau_follows_the_spread_of_accuracies() -> None:
    strategy: Any = make_strategy("difficulty_sampler")
    tau = 2 / (1 + math.exp(1 - 0.8 / 0.41))
    np.testing.assert_allclose(strategy.class_weights(np.array([0.8, 0.4])), [0.2**tau, 0.6**tau])


class Records(Strategy):
    """Records what the history has at the start of each epoch."""

    seen: ClassVar[list[tuple[int, np.ndarray, np.ndarray]]] = []

    @property
    def effects(self) -> Effect:
        return Effect.USES_HISTORY

    @hookimpl
    def sampling_weights(self, weights: Any, epoch: int, context: Context) -> Any:
        self.seen.append((epoch, context.history.logits.copy(), context.history.epochs.copy()))
        assert not context.history.logits.flags.writeable
        return weights

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Context) -> Any:
        assert (context.history.epochs == self.seen[-1][2]).all()
        return images, targets


class TestHistory:
    def test_has_the_outputs_of_every_row_when_it_was_last_drawn(self) -> None:
        Records.seen.clear()
        training = training_of(Records(), epochs=3, batch_size=7)
        train(training)
        epochs, logits, drawn = zip(*Records.seen, strict=True)
        assert epochs == (0, 1, 2)
        assert np.isnan(logits[0]).all() and (drawn[0] == -1).all()
        assert np.isfinite(logits[1]).all() and (drawn[1] == 0).all() and (drawn[2] == 1).all()
        assert (logits[1] != logits[2]).any()

    def test_changes_no_training(self) -> None:
        assert same_bits(weights_of(train(training_of(Records())).model), weights_of(train(training_of()).model))

    def test_of_repeated_rows_the_last_counts(self) -> None:
        history = History(3, 2)
        history.record(np.array([2, 0, 2]), np.array([[1, 0], [0, 5], [0, 9]], np.float32), epoch=4)
        assert history.predictions.tolist() == [1, -1, 1] and history.epochs.tolist() == [4, -1, 4]
        assert history.logits[2].tolist() == [0, 9]

    def test_rows_with_equal_logits_count_as_wrong(self) -> None:
        data, history = tiny_dataset(), History(len(tiny_dataset()), 3)
        history.record(
            np.arange(len(data)), 2 * np.eye(3, dtype=np.float32)[data.labels] * (data.labels > 0)[:, None], 0
        )
        pipeline = Pipeline(
            steps_of([make_strategy("difficulty_sampler", tau=1, floor=0.25)]),
            Context(0, data.class_names, recorded=history),
        )
        weights = pipeline.fold("sampling_weights", np.ones(len(data)), epoch=1, training_set=data)
        assert weights.tolist() == np.where(data.labels == 0, 1, 0.25).tolist()

    def test_only_steps_that_declare_it_have_it(self) -> None:
        class Undeclared(Strategy):
            """Asks without declaring."""

            @hookimpl
            def sampling_weights(self, weights: Any, context: Context) -> Any:
                return weights * len(context.history.epochs)

        with pytest.raises(StrategyError, match="declare Effect.USES_HISTORY"):
            train(training_of(Records(), Undeclared()))

    def test_is_not_available_without_a_training(self) -> None:
        data = tiny_dataset()
        pipeline = Pipeline(steps_of([make_strategy("difficulty_sampler")]), Context(0, data.class_names))
        with pytest.raises(StrategyError, match="no history is available here"):
            pipeline.fold("sampling_weights", np.ones(len(data)), epoch=1, training_set=data)


@pytest.mark.parametrize("stopped_after", [1, 3])
def test_resumed_training_is_identical(stopped_after: int, tmp_path: Path) -> None:
    training = training_of(make_strategy("difficulty_sampler"), epochs=5, evaluate_every=1, batch_size=7)
    whole = train(training)

    def interrupt(point: Any) -> None:
        if point.epoch == stopped_after + 1:
            raise Interruption

    with pytest.raises(Interruption):
        train(training, checkpoint=tmp_path / "c", evaluated=interrupt, seconds_between_checkpoints=0)
    resumed = train(training, checkpoint=tmp_path / "c")
    assert same_bits(weights_of(resumed.model), weights_of(whole.model))
    np.testing.assert_array_equal(resumed.class_prior, whole.class_prior)
    assert not same_bits(weights_of(train(training_of(epochs=5, batch_size=7)).model), weights_of(whole.model))


def test_a_second_stage_starts_with_an_empty_history() -> None:
    class LastSeen(Strategy):
        """Records the history of the last batch."""

        seen: ClassVar[list[np.ndarray]] = []

        @property
        def effects(self) -> Effect:
            return Effect.USES_HISTORY

        @hookimpl
        def augment_batch(self, images: Any, targets: Any, context: Context) -> Any:
            self.seen.append(context.history.epochs.copy())
            return images, targets

    training = training_of(LastSeen(), make_strategy("crt", epochs=1), epochs=2)
    trained = train(training)
    assert (LastSeen.seen[-1] >= 0).any()
    refine(training, trained)
    assert (LastSeen.seen[-1] == -1).all()
