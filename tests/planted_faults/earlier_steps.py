"""Strategies that discard the work of earlier steps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl, uniforms
from tests.planted_faults.fault import PlantedFault


class DropsWeights(Strategy):
    """Draw all classes equally often, ignoring the weights of earlier steps."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, training_set: Any) -> Any:
        return 1 / training_set.counts[training_set.labels]


class SetsTheWeightOfOneClass(Strategy):
    """Draw one class more often, ignoring the weights of earlier steps for its rows."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return np.where(training_set.labels == 0, 3.0, weights)


class DropsTheLoss(Strategy):
    """Replace the loss of the recipe by cross-entropy."""

    @hookimpl
    def build_loss(self) -> Any:
        return lambda logits, targets: -(targets * logits.log_softmax(dim=1)).sum(dim=1)


class DropsTheAdjustment(Strategy):
    """Shift the logits of each class, without the adjustment of earlier steps."""

    @hookimpl
    def build_adjustment(self, adjust: Any, validation_logits: Any) -> Any:
        bias = adjust(validation_logits).mean(dim=0)
        return lambda logits: logits - bias


class KeepsOneView(Strategy):
    """Return the first view and its mirror image, without the other views."""

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return [views[0], views[0].flip(3)]


class ReadsStoredRows(Strategy):
    """Invert the images of the training set instead of the given images."""

    @hookimpl
    def augment_rows(self, rows: Any, training_set: Any) -> Any:
        return 255 - training_set.images[rows]


class ReadsStoredLabels(Strategy):
    """Return the labels of the training set instead of the given targets."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, training_set: Any) -> Any:
        return images, torch.eye(targets.shape[1])[torch.from_numpy(training_set.labels[rows])]


class DropsTheTrainedNetwork(Strategy):
    """Set all weights to the same number."""

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 0.1)
        return model


class KeepsFewRows(Strategy):
    """Draw only every third row, in proportion to the weights of earlier steps."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights * (np.arange(len(weights)) % 3 == 0)


class BlendsAlmostAll(Strategy):
    """Blend each row with the next of the training set; the share of its own is mostly too small for float32."""

    chance: ClassVar[float] = 0.08
    """Of a row to have such a share."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM | Effect.SOFT_TARGETS

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, draws: Any, training_set: Any, context: Any) -> Any:
        in_order = training_set.rows_by_key
        place = np.empty_like(in_order)
        place[in_order] = np.arange(len(in_order))
        partners = training_set.take(in_order[(place[rows] + 1) % len(in_order)])
        drawn = uniforms(context.row_seeds(training_set.row_keys(rows), draws), 1)[:, 0]
        share = torch.from_numpy(np.where(drawn < self.chance, 1e-12, drawn)).float()
        pixels = torch.from_numpy(partners.images[:].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        soft = partners.targets
        others = torch.eye(targets.shape[1])[partners.labels] if soft is None else torch.from_numpy(soft)
        return pixels.lerp(images, share[:, None, None, None]), others.lerp(targets, share[:, None])


class ReplacesImagesAtRandom(BlendsAlmostAll):
    """Return the next row of the training set in place of half of the rows."""

    chance = 0.5


FAULTS: list[PlantedFault] = [
    (DropsWeights, "builds_on_earlier_steps", "multiply the `weights`"),
    (SetsTheWeightOfOneClass, "builds_on_earlier_steps", "multiply the `weights`"),
    (DropsTheLoss, "builds_on_earlier_steps", "wrap the `loss`"),
    (DropsTheAdjustment, "builds_on_earlier_steps", "calls the `adjust`"),
    (KeepsOneView, "builds_on_earlier_steps", "add to the `views`"),
    (ReadsStoredRows, "builds_on_earlier_steps", "augment_rows: changes by earlier steps are lost"),
    (ReadsStoredLabels, "builds_on_earlier_steps", "augment_batch: changes by earlier steps are lost"),
    (DropsTheTrainedNetwork, "builds_on_earlier_steps", "refine and return the `model`"),
    (ReplacesImagesAtRandom, "builds_on_earlier_steps", "augment_batch: changes by earlier steps are lost"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (KeepsFewRows, "builds_on_earlier_steps"),
    (BlendsAlmostAll, "builds_on_earlier_steps"),
]
