"""Strategies whose results depend on something else than parameters, seed and data, or that act when nobody looks."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault


class IsRandom(Strategy):
    """Depend on the seed."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM


class SeedsTorchBeforeDrawing(IsRandom):
    """Add noise from torch's generator, seeded in each batch."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        torch.manual_seed(context.seed)
        return (images + torch.rand(images.shape) / 10).clamp(0, 1), targets


class SeedsNumpyBeforeDrawing(IsRandom):
    """Draw weights from numpy's generator, seeded in each epoch."""

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any) -> Any:
        np.random.seed(context.seed)
        return weights + np.random.rand(len(weights)) / 100


class SeedsPythonBeforeDrawing(IsRandom):
    """Draw a weight from Python's generator, seeded in each epoch."""

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any) -> Any:
        random.seed(context.seed)
        return weights + np.arange(len(weights)) * random.random()


class SeedsTorchForNewLayers(IsRandom):
    """Draw weights of the network after seeding torch's generator, which the run has seeded."""

    @hookimpl
    def prepare_model(self, model: Any, context: Any) -> Any:
        torch.manual_seed(context.seed + 1)
        torch.nn.init.normal_(model.features[1].weight)
        return model


_OF_SIZE: dict[tuple[int, int], Any] = {}


class CachesInItsModule(IsRandom):
    """Draw weights once per size of the set and epoch, whatever the seed."""

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any, epoch: int) -> Any:
        key = len(weights), epoch
        if key not in _OF_SIZE:
            _OF_SIZE[key] = context.rng.random(len(weights)) / 100
        return weights + _OF_SIZE[key]


class WeighsByHash(Strategy):
    """Draw classes in proportions that depend on hashes of their names."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return weights * np.array([1 + hash(name) % 7 for name in training_set.class_names])[training_set.labels]


class WeighsInTheOrderOfASet(Strategy):
    """Draw classes in proportions that depend on the order of a set of their names."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        places = {name: place + 1 for place, name in enumerate(set(training_set.class_names))}
        return weights * np.array([places[name] for name in training_set.class_names])[training_set.labels]


class WeighsByCores(Strategy):
    """Draw every so many rows more often, by the number of cores."""

    @hookimpl
    def sampling_weights(self, weights: Any, context: Any) -> Any:
        return weights + np.arange(len(weights)) % context.cores / 100


class DarkensBatchByBatch(IsRandom):
    """Darken the rows of a batch by one random factor, the next in the run."""

    @hookimpl
    def augment_rows(self, images: Any, context: Any) -> Any:
        return (images * context.rng.uniform(0.5, 1)).astype(np.uint8)


class AddsViewsBatchByBatch(IsRandom):
    """Add a view that is darker by a random factor, the next in the run."""

    @hookimpl
    def predict_views(self, views: Any, context: Any) -> Any:
        return [*views, *(view * context.rng.uniform(0.5, 1) for view in views)]


class GrowsTheLoss(Strategy):
    """Multiply the loss by a factor that grows with each batch."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        calls: list[int] = []

        def growing(logits: Any, targets: Any) -> Any:
            calls.append(1)
            return loss(logits, targets) * (1 + len(calls) / 10)

        return growing


class IsIdleWhereItActs(Strategy):
    """Invert images, and declare to be idle there."""

    @property
    def idle_at(self) -> Collection[str]:
        return ("augment_batch",)

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return 1 - images, targets


class ForgetsWhatItMade(Strategy):
    """Invert images, halve weights and mirror rows, and return what was given."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        training_set.append(training_set.images[:][:, :, ::-1], parents=np.arange(len(training_set)))
        return training_set

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        _ = weights / 2
        return weights

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        _ = 255 - images
        return images


class ForgetsItsNetworkAndLoss(Strategy):
    """Return a network, a loss and an adjustment that do the same as the given ones."""

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        return model

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets)

    @hookimpl
    def build_adjustment(self, adjust: Any) -> Any:
        return lambda logits: adjust(logits)


class Freezes(Strategy):
    """Keep the features as they are."""

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        model.features.requires_grad_(False)
        return model


class DropsBlankImages(Strategy):
    """Drop images of one value, of which most data have none."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return training_set.without(np.flatnonzero(np.ptp(training_set.images[:], axis=(1, 2, 3)) == 0))


class IsIdle(Strategy):
    """Do nothing, and declare it."""

    @property
    def idle_at(self) -> Collection[str]:
        return ("augment_rows",)

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return images


class IsIdleAtTheWrongStage(Strategy):
    """Invert images or halve weights, and declare to be idle where it acts."""

    when: str = "batch"

    @property
    def idle_at(self) -> Collection[str]:
        return ("augment_batch",) if self.when == "batch" else ("sampling_weights",)

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights / 2 if self.when == "sampling" else weights

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return (1 - images, targets) if self.when == "batch" else (images, targets)


class AsksAScoutLate(Strategy):
    """Draw misclassified rows more often, from the eleventh epoch."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any, context: Any, epoch: int) -> Any:
        if epoch < 10:
            return weights
        probabilities = context.require_scout().probabilities(training_set, "in_sample")
        return weights * (1 + (probabilities.argmax(1) != training_set.labels))


class MinesInItsLoss(Strategy):
    """Weight the loss by in-sample predictions."""

    @hookimpl
    def build_loss(self, loss: Any, training_set: Any, context: Any) -> Any:
        def weighted(logits: Any, targets: Any) -> Any:
            probabilities = context.require_scout().probabilities(training_set, "in_sample")
            return loss(logits, targets) * (1 + float(probabilities.max()))

        return weighted


class MinesInBatches(Strategy):
    """Darken images by in-sample predictions."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, training_set: Any, context: Any) -> Any:
        probabilities = context.require_scout().probabilities(training_set, "in_sample")[rows]
        return images * torch.from_numpy(probabilities.max(axis=1))[:, None, None, None], targets


class MinesWhenRefining(Strategy):
    """Shift the bias of the head by in-sample predictions."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_LINEAR_HEAD

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        model.head.bias.data += float(context.require_scout().probabilities(training_set, "in_sample").std())
        return model


FAULTS: list[PlantedFault] = [
    (SeedsTorchBeforeDrawing, "leaves_global_random_numbers_alone", "seeds torch's global generator"),
    (SeedsNumpyBeforeDrawing, "leaves_global_random_numbers_alone", "seeds numpy's global random"),
    (SeedsPythonBeforeDrawing, "leaves_global_random_numbers_alone", "seeds Python's global random"),
    (SeedsTorchForNewLayers, "leaves_global_random_numbers_alone", "prepare_model: seeds torch's global generator"),
    (CachesInItsModule, "gives_the_same_result_in_any_process", "cache nothing in a module"),
    (WeighsByHash, "gives_the_same_result_in_any_process", "no hash() of strings"),
    (WeighsInTheOrderOfASet, "gives_the_same_result_in_any_process", "sort sets"),
    (WeighsByCores, "ignores_the_number_of_cores", "use it for speed only"),
    (DarkensBatchByBatch, "gives_the_same_result_at_every_call", "augment_rows: the result for a row depends"),
    (AddsViewsBatchByBatch, "gives_the_same_result_at_every_call", "predict_views: the result for a row depends"),
    (GrowsTheLoss, "gives_the_same_result_at_every_call", "keep no state in it"),
    (ForgetsWhatItMade, "acts_at_some_stage", "rewrite_training_set, sampling_weights, augment_rows: nothing changes"),
    (ForgetsItsNetworkAndLoss, "acts_at_some_stage", "prepare_model, build_loss, build_adjustment: nothing changes"),
    (IsIdleWhereItActs, "is_idle_only_where_it_does_nothing", "augment_batch is in `idle_at`"),
    (IsIdleAtTheWrongStage, "is_idle_only_where_it_does_nothing", "augment_batch is in `idle_at`"),
    (AsksAScoutLate, "declares_what_it_changes", "IN_SAMPLE_MINING"),
    (MinesInItsLoss, "declares_what_it_changes", "IN_SAMPLE_MINING"),
    (MinesInBatches, "declares_what_it_changes", "IN_SAMPLE_MINING"),
    (MinesWhenRefining, "declares_what_it_changes", "IN_SAMPLE_MINING"),
]
VALID = [(valid, "acts_at_some_stage") for valid in (Freezes, DropsBlankImages, IsIdle, AsksAScoutLate)]
