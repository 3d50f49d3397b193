"""Strategies that pass the conformity kit, although some of them resemble faulty ones."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fer_augment import ClassName, Effect, ImageDataset, Strategy, StrategyError, hookimpl
from fer_augment.testing import assert_conforms, check_strategy
from fer_augment.testing.checks import CHECKS, FIRST_CHECKS
from tests.planted_faults.losses_and_networks import CountsTheSet


class MirrorClasses(Strategy):
    """Append a left-right mirrored copy of every row of the named classes."""

    example: ClassVar[dict[str, Any]] = {"classes": ["ant"]}

    classes: list[ClassName]

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        rows = training_set.rows_of(self.classes)
        return training_set.append(training_set.images[rows][:, :, ::-1], parents=rows)


class Everything(Strategy):
    """Act at every stage."""

    @property
    def effects(self) -> Effect:
        changes = Effect.SHIFTS_CLASS_PRIOR | Effect.CORRECTS_CLASS_PRIOR | Effect.SOFT_TARGETS
        return changes | Effect.NEEDS_LINEAR_HEAD | Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        return training_set.take(context.rng.permutation(len(training_set)))

    @hookimpl
    def prepare_model(self, model: Any, context: Any) -> Any:
        torch.nn.init.normal_(model.head.weight, generator=context.generator)
        return model

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any, epoch: Any) -> Any:
        return weights / training_set.counts[training_set.labels] if epoch > 1 else weights

    @hookimpl
    def build_loss(self, loss: Any, class_prior: Any) -> Any:
        weights = torch.tensor(1 - class_prior, dtype=torch.float32)
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)

    @hookimpl
    def augment_rows(self, images: Any, rows: Any, draws: Any, training_set: Any, context: Any) -> Any:
        seeds = context.row_seeds(training_set.row_keys(rows), draws)
        return images ^ (seeds % 8).astype(np.uint8)[:, None, None, None]

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        other = torch.randperm(len(images), generator=context.generator)
        return (images + images[other]) / 2, (targets + targets[other]) / 2

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        balanced = 1 / training_set.counts[training_set.labels]
        return context.train(model, parameters=model.head.parameters(), weights=balanced)

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return [*views, *(view.flip(3) for view in views)]

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        bias = torch.tensor(np.log(np.where(class_prior > 0, class_prior, 1)), dtype=torch.float32)
        return lambda logits: adjust(logits) - bias


class CountsTheSetOnPurpose(CountsTheSet):
    """Weight classes by their counts in the set, and declare it."""

    @property
    def effects(self) -> Effect:
        return Effect.FAVORS_SMALL_CLASSES


class UsesTheMajority(Strategy):
    """Compute the loss of the class with the largest target alone, which must be one-hot."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_HARD_LABELS

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        def of_one_hot(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            if not bool(((targets == 0) | (targets == 1)).all()):
                raise ValueError("one-hot targets only")
            return 2 * loss(logits, targets)

        return of_one_hot


class RoundsTargets(Strategy):
    """Return the most likely class as target."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_HARD_LABELS

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images, torch.eye(targets.shape[1])[targets.argmax(dim=1)]


class RelabelsByAScout(Strategy):
    """Relabel rows with the class that a scout predicts."""

    @property
    def effects(self) -> Effect:
        return Effect.OUT_OF_FOLD_MINING | Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        predicted = context.scout.probabilities(training_set).argmax(axis=1)
        rows = np.flatnonzero(predicted != training_set.labels)
        return training_set.append(training_set.images[rows], predicted[rows], parents=rows).without(rows)


class BlendsWithinClasses(Strategy):
    """Blend each image with another of its class in the batch, so that targets do not change."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        alike = (targets @ targets.T).numpy()
        partners = [context.rng.choice(np.flatnonzero(row == row.max())) for row in alike]
        return (images + images[partners]) / 2, targets


class AddsNoise(Strategy):
    """Add noise that depends on the position in the batch, which is allowed on the device."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        noise = torch.randn(images.shape, generator=context.generator)
        return (images + 0.1 * noise).clamp(0, 1), targets


class BringsAHead(Strategy):
    """Replace the last layer by two with dropout; torch draws their weights from its global generator."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_LINEAR_HEAD | Effect.RANDOM

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        inputs, classes = model.head.in_features, model.head.out_features
        layers = torch.nn.Linear(inputs, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, classes)
        model.head = torch.nn.Sequential(*layers)
        return model


class BalancesGivenWeights(Strategy):
    """Draw all classes equally often, and keep the weights of earlier steps within classes."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return weights / np.bincount(training_set.labels, weights)[training_set.labels]


class ScalesLogits(Strategy):
    """Divide logits by their standard deviation on the validation split, which favors no class."""

    @hookimpl
    def build_adjustment(self, adjust: Any, validation_logits: Any) -> Any:
        spread = adjust(validation_logits).std()
        return lambda logits: adjust(logits) / spread


class GivesFloat32Weights(Strategy):
    """Halve weights and return float32, which the framework converts to float64."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return (weights / 2).astype(np.float32)


def failed(strategy: type[Strategy] | Strategy) -> dict[str, str]:
    return {result.name: result.advice for result in check_strategy(strategy) if not result.passed}


@pytest.mark.parametrize("strategy", [MirrorClasses, MirrorClasses(classes=["bee", "cat"]), Everything])
def test_a_valid_strategy_passes_every_check(strategy: type[Strategy] | Strategy) -> None:
    results = check_strategy(strategy)
    assert [result.name for result in results] == [check.__name__ for check in (*FIRST_CHECKS, *CHECKS)]
    assert failed(strategy) == {}
    assert_conforms(strategy)


@pytest.mark.parametrize(
    "strategy_class",
    [
        GivesFloat32Weights,
        CountsTheSetOnPurpose,
        UsesTheMajority,
        RoundsTargets,
        RelabelsByAScout,
        BlendsWithinClasses,
        AddsNoise,
        BringsAHead,
        BalancesGivenWeights,
        ScalesLogits,
    ],
)
def test_a_valid_strategy_that_resembles_a_faulty_one_passes(strategy_class: type[Strategy]) -> None:
    assert failed(strategy_class) == {}


def test_a_strategy_may_refuse_gray_images_with_its_own_error() -> None:
    class ColorOnly(Strategy):
        """Swap two colors."""

        @hookimpl
        def augment_rows(self, images: Any) -> Any:
            if images.shape[3] != 3:
                raise StrategyError("color images only")
            return images[..., ::-1]

    assert failed(ColorOnly) == {}
