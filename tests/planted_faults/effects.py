"""Strategies that declare wrong effects."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl, uniforms
from tests.planted_faults.fault import PlantedFault


class ClaimsToBeRandom(Strategy):
    """Return the training set, and declare to be random."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return training_set


class HidesThatItIsRandom(Strategy):
    """Shuffle the rows."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        return training_set.take(context.rng.permutation(len(training_set)))


class HidesAShiftedPrior(Strategy):
    """Draw one class more often."""

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return np.where(training_set.labels == 0, weights * 3, weights)


class HidesABalancedSoftmax(Strategy):
    """Add the logarithm of the class prior to the logits of the loss."""

    @hookimpl
    def build_loss(self, loss: Any, class_prior: Any) -> Any:
        added = torch.from_numpy(np.log(np.where(class_prior > 0, class_prior, 1))).float()
        return lambda logits, targets: loss(logits + added, targets)


class HidesALogitAdjustment(Strategy):
    """Subtract the logarithm of the class prior from logits."""

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        bias = torch.from_numpy(np.log(np.where(class_prior > 0, class_prior, 1))).float()
        return lambda logits: adjust(logits) - bias


class SmoothsTowardsThePrior(Strategy):
    """Smooth targets in the loss by the class prior, not uniformly."""

    @hookimpl
    def build_loss(self, loss: Any, class_prior: Any) -> Any:
        prior = torch.from_numpy(class_prior).float()
        return lambda logits, targets: loss(logits, 0.9 * targets + 0.1 * prior)


class HidesSoftTargets(Strategy):
    """Smooth the targets."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images, targets * 0.9 + 0.1 / targets.shape[1]


class HidesThatItIgnoresShares(Strategy):
    """Use the class with the largest target alone."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        eye = torch.eye
        return lambda logits, targets: loss(logits, eye(targets.shape[1])[targets.argmax(dim=1)])


class HidesThatItRefusesShares(Strategy):
    """Accept targets of 0 and 1 only."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        def of_one_hot(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            if not bool(((targets == 0) | (targets == 1)).all()):
                raise ValueError("one-hot targets only")
            return loss(logits, targets)

        return of_one_hot


class HidesThatItRoundsTargets(Strategy):
    """Return the most likely class as target."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images, torch.eye(targets.shape[1])[targets.argmax(dim=1)]


class HidesThatItRoundsPartners(Strategy):
    """Mix targets with the most likely class of the next row."""

    @property
    def effects(self) -> Effect:
        return Effect.SOFT_TARGETS

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        partners = torch.eye(targets.shape[1])[targets.roll(1, dims=0).argmax(dim=1)]
        return (images + images.roll(1, dims=0)) / 2, (targets + partners) / 2


class HidesThatItMixesLabels(Strategy):
    """Mix rows with rows of the training set, and targets with their labels instead of their shares."""

    @property
    def effects(self) -> Effect:
        return Effect.SOFT_TARGETS

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, training_set: Any) -> Any:
        others = training_set.rows_by_key[: len(rows)]
        pixels = torch.from_numpy(training_set.images[others].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        return (images + pixels) / 2, (targets + torch.eye(targets.shape[1])[training_set.labels[others]]) / 2


class DistillsAScout(Strategy):
    """Mix targets with predictions of a scout."""

    @property
    def effects(self) -> Effect:
        return Effect.SOFT_TARGETS | Effect.OUT_OF_FOLD_MINING

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, training_set: Any, context: Any) -> Any:
        taught = context.require_scout().probabilities(training_set)[rows]
        known = np.isfinite(taught).all(axis=1, keepdims=True)
        return images, targets.lerp(torch.from_numpy(np.where(known, taught, targets)).to(targets), 0.4)


class DistillsItself(Strategy):
    """Mix targets with the last predictions of the network for the row (bootstrapping, Reed et al. 2015, ICLR)."""

    @property
    def effects(self) -> Effect:
        return Effect.SOFT_TARGETS | Effect.USES_HISTORY

    def predicted(self, logits: Any, training_set: Any) -> Any:
        return logits.softmax(dim=1)

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, training_set: Any, context: Any) -> Any:
        predicted = self.predicted(torch.from_numpy(context.history.logits.copy()), training_set)[rows]
        known = torch.from_numpy(context.history.epochs[rows] >= 0)[:, None]
        return images, torch.where(known, targets.lerp(predicted, 0.2), targets)


class DistillsClasses(DistillsItself):
    """Mix targets with the mean prediction for the rows of their class (online label smoothing, Zhang et al. 2021)."""

    def predicted(self, logits: Any, training_set: Any) -> Any:
        labels = torch.from_numpy(training_set.labels.copy())
        of_classes = torch.nn.functional.one_hot(labels, len(training_set.class_names)).float()
        sums = of_classes.T @ logits.softmax(dim=1).nan_to_num()
        return (sums / sums.sum(dim=1, keepdim=True).clamp(min=1e-6))[labels]


class SpreadsToSimilarClasses(Strategy):
    """Move a share of each class to the next, unless it is the last."""

    @property
    def effects(self) -> Effect:
        return Effect.SOFT_TARGETS

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        moved = 0.1 * targets[:, :-1]
        return images, targets - torch.nn.functional.pad(moved, (0, 1)) + torch.nn.functional.pad(moved, (1, 0))


class HidesInSampleMining(Strategy):
    """Move the misclassified rows to the end."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        probabilities = context.scout.probabilities(training_set, how="in_sample")
        return training_set.take(np.argsort(probabilities.argmax(axis=1) != training_set.labels, kind="stable"))


class HidesOutOfFoldMining(Strategy):
    """Move the misclassified rows to the end."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        probabilities = context.scout.probabilities(training_set)
        return training_set.take(np.argsort(probabilities.argmax(axis=1) != training_set.labels, kind="stable"))


class HidesEmbeddings(Strategy):
    """Order rows by their first feature."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        return training_set.take(np.argsort(context.scout.embeddings(training_set)[:, 0], kind="stable"))


class HidesMirroredCopies(Strategy):
    """Append a mirrored copy of every row of a class."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        rows = training_set.rows_of(["ant"])
        return training_set.append(training_set.images[rows][:, :, ::-1], parents=rows)


class HidesARandomFlip(Strategy):
    """Mirror rows at random, and brighten all."""

    first_epoch: ClassVar[int] = 0

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(
        self, images: Any, targets: Any, rows: Any, draws: Any, training_set: Any, context: Any, epoch: Any
    ) -> Any:
        if epoch < self.first_epoch:
            return images, targets
        chance = uniforms(context.row_seeds(training_set.row_keys(rows), draws), 1)
        mirrored = torch.from_numpy(chance < 0.5)[:, :, None, None]
        return 0.2 + 0.8 * torch.where(mirrored, images.flip(3), images), targets


class HidesALateRandomFlip(HidesARandomFlip):
    """Mirror rows at random, from the fourth epoch on."""

    first_epoch = 3


class HidesThatItSometimesMixes(Strategy):
    """Smooth the targets of some runs, not those of the first seed."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        smooths = context.seed > 1
        return images, targets * 0.9 + 0.1 / targets.shape[1] if smooths else targets


class HidesARandomlyShiftedPrior(Strategy):
    """Append a copy of each ant with a probability of one half."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        ants = training_set.rows_of(["ant"])
        chosen = ants[context.rng.random(len(ants)) < 0.5]
        return training_set.append(255 - training_set.images[chosen], parents=chosen)


class KeepsAHalf(Strategy):
    """Keep each row with a probability of one half, whatever its class."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        return training_set.take(np.flatnonzero(context.rng.random(len(training_set)) < 0.5))


class HidesThatItNeedsAHead(Strategy):
    """Normalize the weight vectors of the last layer."""

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        model.head.weight.data /= model.head.weight.data.norm(dim=1, keepdim=True)
        return model


FAULTS: list[PlantedFault] = [
    (ClaimsToBeRandom, "declares_whether_it_is_random", "remove Effect.RANDOM"),
    (HidesThatItIsRandom, "declares_whether_it_is_random", "declare Effect.RANDOM"),
    (HidesAShiftedPrior, "declares_what_it_changes", "SHIFTS_CLASS_PRIOR"),
    (HidesABalancedSoftmax, "declares_what_it_changes", "build_loss: small classes are favored"),
    (HidesALogitAdjustment, "declares_what_it_changes", "build_adjustment: small classes are favored"),
    (HidesSoftTargets, "declares_what_it_changes", "SOFT_TARGETS"),
    (HidesThatItIgnoresShares, "declares_what_it_changes", "NEEDS_HARD_LABELS"),
    (HidesThatItRefusesShares, "keeps_the_contract_of_its_stages", "NEEDS_HARD_LABELS"),
    (HidesThatItRoundsTargets, "declares_what_it_changes", "NEEDS_HARD_LABELS"),
    (HidesThatItRoundsPartners, "declares_what_it_changes", "NEEDS_HARD_LABELS"),
    (HidesThatItMixesLabels, "declares_what_it_changes", "NEEDS_HARD_LABELS"),
    (HidesInSampleMining, "declares_what_it_changes", "IN_SAMPLE_MINING"),
    (HidesOutOfFoldMining, "declares_what_it_changes", "OUT_OF_FOLD_MINING"),
    (HidesEmbeddings, "declares_what_it_changes", "ASKS_FOR_EMBEDDINGS"),
    (HidesMirroredCopies, "declares_what_it_changes", "MIRRORED_COPIES"),
    (HidesARandomFlip, "declares_what_it_changes", "RANDOM_FLIP"),
    (HidesALateRandomFlip, "declares_what_it_changes", "RANDOM_FLIP"),
    (HidesThatItSometimesMixes, "declares_what_it_changes", "SOFT_TARGETS"),
    (HidesARandomlyShiftedPrior, "declares_what_it_changes", "SHIFTS_CLASS_PRIOR"),
    (HidesThatItNeedsAHead, "declares_what_it_changes", "NEEDS_LINEAR_HEAD"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (KeepsAHalf, "declares_what_it_changes"),
    (SmoothsTowardsThePrior, "declares_what_it_changes"),
    (DistillsAScout, "declares_what_it_changes"),
    (DistillsItself, "declares_what_it_changes"),
    (DistillsItself, "seeds_by_row_and_draw"),
    (DistillsClasses, "declares_what_it_changes"),
    (SpreadsToSimilarClasses, "declares_what_it_changes"),
]
