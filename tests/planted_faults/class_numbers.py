"""Strategies with a number of classes in their code, and strategies that only resemble them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault
from tests.planted_faults.mining import NeedsAHead, ShiftsThePrior


class Corrects(Strategy):
    """Correct for class frequencies."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR


class ShiftsThePriorAtRandom(Strategy):
    """Draw classes in other proportions, which depend on the seed."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.RANDOM


def of_seven(values: Any, otherwise: float) -> torch.Tensor:
    """Return the values of seven classes, and another one for all others."""
    result = torch.full((len(values),), otherwise)
    result[:7] = torch.from_numpy(np.asarray(values)).float()[:7]
    return result


class BalancesThreeClasses(ShiftsThePrior):
    """Balance three classes."""

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        result = weights.copy()
        for label in range(3):
            result[training_set.labels == label] /= max(1, training_set.counts[label])
        return result


class WeighsSevenClasses(Corrects):
    """Weight the loss of seven classes."""

    @hookimpl
    def build_loss(self, loss: Any, class_prior: Any) -> Any:
        weights = of_seven(1 - class_prior, 1.0)
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)


class AdjustsSevenClasses(Corrects):
    """Subtract the logarithm of the frequency of seven classes."""

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        bias = of_seven(np.log(np.where(class_prior > 0, class_prior, 1)), 0.0)
        return lambda logits: adjust(logits) - bias


class CopiesRowsOfThreeClasses(ShiftsThePriorAtRandom):
    """Repeat random rows of three classes."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        of_classes = [np.flatnonzero(training_set.labels == label) for label in range(3)]
        copies = [context.rng.choice(rows, 5) for rows in of_classes if len(rows)]
        return training_set.take(np.concatenate([np.arange(len(training_set)), *copies]))


class RetrainsWithThreeClassesBalanced(Strategy):
    """Train again with three classes balanced."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        counts = np.maximum(training_set.counts, 1).astype(np.float64)
        counts[3:] = 1
        return context.train(model, weights=1 / counts[training_set.labels])


class NormalizesThreeClasses(NeedsAHead):
    """Divide the weights of three classes by their norms."""

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        with torch.no_grad():
            model.head.weight[:3] /= model.head.weight[:3].norm(dim=1, keepdim=True)
        return model


class ClearsSevenBiases(NeedsAHead):
    """Set the biases of seven classes to 0."""

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        with torch.no_grad():
            model.head.bias[:7] = 0
        return model


class WeighsRowsOfSevenClasses(Strategy):
    """Weight the rows of seven classes in each optimizer step."""

    @hookimpl
    def optimizer_step(self, gradients: Any, class_prior: Any) -> Any:
        of_class = of_seven(1 - class_prior, 1.0)

        def weighted(targets: Any, weights: Any = None) -> Any:
            own = targets @ of_class
            return gradients(targets, own if weights is None else own * weights)

        return weighted


class InvertsSevenClasses(Strategy):
    """Invert the images of seven classes."""

    @hookimpl
    def augment_rows(self, images: Any, labels: Any) -> Any:
        return np.where((labels < 7)[:, None, None, None], 255 - images, images)


class DarkensSevenClasses(Strategy):
    """Darken the images of seven classes by random factors."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        factors = torch.rand(len(images), generator=context.generator)
        factors[targets.argmax(dim=1) >= 7] = 1
        return images * factors[:, None, None, None], targets


class MovesTargetsUp(Strategy):
    """Move a share of each target to the next class, as for classes with an order."""

    @property
    def effects(self) -> Effect:
        return Effect.SOFT_TARGETS

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        moved = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
        moved[:, -1] += targets[:, -1]
        return images, 0.9 * targets + 0.1 * moved


class FavorsAClassByNumber(ShiftsThePrior):
    """Draw the class of a given number more often."""

    number: int = 0

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return np.where(training_set.labels == self.number, 3 * weights, weights)


class FillsEachClassAtRandom(ShiftsThePriorAtRandom):
    """Repeat random rows of each class in turn."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        missing = training_set.counts.max() - training_set.counts
        of_classes = [np.flatnonzero(training_set.labels == label) for label in range(len(missing))]
        copies = [context.rng.choice(rows, size) for rows, size in zip(of_classes, missing, strict=True) if len(rows)]
        return training_set.take(np.concatenate([np.arange(len(training_set)), *copies]))


class FavorsARandomClass(ShiftsThePriorAtRandom):
    """Draw a random class more often."""

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any, context: Any) -> Any:
        chosen = context.rng.integers(len(training_set.class_names))
        return np.where(training_set.labels == chosen, 3 * weights, weights)


class FavorsTheThreeSmallest(ShiftsThePrior):
    """Draw the three smallest classes more often."""

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        smallest = training_set.counts.argsort()[:3]
        return np.where(np.isin(training_set.labels, smallest), 3 * weights, weights)


class FitsOnValidation(Corrects):
    """Subtract the logarithm of frequencies times the strength with the best mean recall, of which many are equal."""

    @hookimpl
    def build_adjustment(self, adjust: Any, validation_logits: Any, validation_labels: Any, class_prior: Any) -> Any:
        bias = torch.from_numpy(np.log(np.where(class_prior > 0, class_prior, 1))).float()

        def recall(strength: float) -> float:
            right = ((adjust(validation_logits) - strength * bias).argmax(dim=1) == validation_labels).float()
            return float(np.mean([float(right[validation_labels == label].mean()) for label in range(len(bias))]))

        strength = max(np.linspace(0.05, 2, 40).tolist(), key=recall)
        return lambda logits: adjust(logits) - strength * bias


_CHECK = "hard_codes_no_number_of_classes"
FAULTS: list[PlantedFault] = [
    (BalancesThreeClasses, _CHECK, "sampling_weights: with 11 classes"),
    (WeighsSevenClasses, _CHECK, "build_loss: with 11 classes"),
    (AdjustsSevenClasses, _CHECK, "build_adjustment: with 11 classes"),
    (CopiesRowsOfThreeClasses, _CHECK, "rewrite_training_set: with 11 classes"),
    (RetrainsWithThreeClassesBalanced, _CHECK, "refine_model: with 11 classes"),
    (NormalizesThreeClasses, _CHECK, "refine_model: with 11 classes"),
    (ClearsSevenBiases, _CHECK, "prepare_model: with 11 classes"),
    (WeighsRowsOfSevenClasses, _CHECK, "optimizer_step: with 11 classes"),
    (InvertsSevenClasses, _CHECK, "augment_rows: with 11 classes"),
    (DarkensSevenClasses, _CHECK, "augment_batch: with 11 classes"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (MovesTargetsUp, _CHECK),
    (FavorsAClassByNumber, _CHECK),
    (FillsEachClassAtRandom, _CHECK),
    (FavorsARandomClass, _CHECK),
    (FavorsTheThreeSmallest, _CHECK),
    (FitsOnValidation, _CHECK),
]
