"""Strategies with faulty losses, networks or adjustments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault


class CountsTheSet(Strategy):
    """Weight classes by their counts in the training set instead of `class_prior`."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def build_loss(self, loss: Any, training_set: Any) -> Any:
        weights = torch.from_numpy(1 / np.maximum(training_set.counts, 1)).float()
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)


class WeighsByBrightness(Strategy):
    """Weight classes by the mean brightness of their images."""

    @hookimpl
    def build_loss(self, loss: Any, training_set: Any) -> Any:
        pixels, classes = training_set.images[:].mean(axis=(1, 2, 3)), range(len(training_set.class_names))
        means = torch.tensor([float(pixels[training_set.labels == label].mean()) for label in classes])
        return lambda logits, targets: loss(logits, targets) * (targets @ (means / 255))


class WeighsByHistory(Strategy):
    """Weight classes by the share of their rows that were drawn."""

    @property
    def effects(self) -> Effect:
        return Effect.USES_HISTORY

    @hookimpl
    def build_loss(self, loss: Any, training_set: Any, context: Any) -> Any:
        drawn = np.isfinite(context.history.logits).all(axis=1)
        shares = np.bincount(training_set.labels, drawn) / np.maximum(training_set.counts, 1)
        weights = torch.from_numpy(1 + shares).float()
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)


class PredictsByBatchMates(Strategy):
    """Center held-out images by the mean of their batch."""

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return [view - view.mean() for view in views]


class AdjustsByBatchMates(Strategy):
    """Center logits by the mean of their batch."""

    @hookimpl
    def build_adjustment(self, adjust: Any) -> Any:
        return lambda logits: adjust(logits) - adjust(logits).mean(dim=0)


class AveragesTheLoss(Strategy):
    """Return one loss for the whole batch."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets).mean()


class ForgetsToSum(Strategy):
    """Return one loss for each row and class."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets)[:, None] * targets


class GivesAnInfiniteLoss(Strategy):
    """Divide by a target that may be zero."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets) / targets.min(dim=1).values


class CutsOffTheGradient(Strategy):
    """Return a loss without a gradient."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets).detach()


class RenamesParameters(Strategy):
    """Wrap the last layer of a trained network in another module."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_LINEAR_HEAD

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        model.head = torch.nn.Sequential(model.head)
        return model


class ReplacesTheNetwork(Strategy):
    """Return a network without features."""

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        return torch.nn.Sequential(model.features, model.head)


class FailsOnEmptyClasses(Strategy):
    """Take the first row of every class."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return training_set.take([training_set.rows_of([name])[0] for name in training_set.class_names])


class AppendsToEmptyClasses(Strategy):
    """Append a row of no class if a class is empty, which is a DatasetError."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        if training_set.counts.all():
            return training_set
        return training_set.append(training_set.images[[0]], labels=[-1], parents=[0])


class AdjustsByInfinity(Strategy):
    """Subtract the logarithm of a class frequency that may be zero."""

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        with np.errstate(divide="ignore"):
            bias = torch.tensor(np.log(class_prior), dtype=torch.float32)
        return lambda logits: adjust(logits) - bias


class MakesEveryLossNaN(Strategy):
    """Weight by inverse frequency, which a class without rows makes infinite."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def build_loss(self, loss: Any, class_prior: Any) -> Any:
        with np.errstate(divide="ignore"):
            weights = torch.from_numpy(1 / class_prior).float()
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)


class FavorsAnEmptyClass(Strategy):
    """Subtract the logarithm of a class frequency, clipped at a small number."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        bias = torch.tensor(np.log(np.maximum(class_prior, 1e-6)), dtype=torch.float32)
        return lambda logits: adjust(logits) - bias


FAULTS: list[PlantedFault] = [
    (CountsTheSet, "counts_classes_as_drawn", "use `class_prior`"),
    (PredictsByBatchMates, "predicts_each_row_alone", "predict_views"),
    (AdjustsByBatchMates, "predicts_each_row_alone", "build_adjustment"),
    (AveragesTheLoss, "gives_one_finite_loss_per_row", "must have shape (12,)"),
    (ForgetsToSum, "gives_one_finite_loss_per_row", "sum over classes"),
    (GivesAnInfiniteLoss, "gives_one_finite_loss_per_row", "finite"),
    (CutsOffTheGradient, "keeps_the_contract_of_its_stages", "does not require grad"),
    (RenamesParameters, "gives_networks_that_a_run_can_use", "keep the names"),
    (ReplacesTheNetwork, "gives_networks_that_a_run_can_use", "features"),
    (FailsOnEmptyClasses, "copes_with_classes_of_one_or_no_row", "an empty class"),
    (AppendsToEmptyClasses, "copes_with_classes_of_one_or_no_row", "an empty class: handle it"),
    (AdjustsByInfinity, "copes_with_classes_of_one_or_no_row", "NaN or +infinity"),
    (MakesEveryLossNaN, "copes_with_classes_of_one_or_no_row", "use the weight 0"),
    (FavorsAnEmptyClass, "copes_with_classes_of_one_or_no_row", "favors a class without rows"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (WeighsByBrightness, "counts_classes_as_drawn"),
    (WeighsByHistory, "counts_classes_as_drawn"),
]
