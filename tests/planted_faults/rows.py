"""Strategies that break provenance, labels, targets or the independence of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fer_augment import Effect, ImageDataset, Strategy, hookimpl, uniforms
from tests.planted_faults.fault import PlantedFault


class LosesProvenance(Strategy):
    """Make a new data set from the same pixels, without provenance."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return ImageDataset.from_arrays(training_set.images[:], training_set.labels, training_set.class_names)


class GivesAFalseParent(Strategy):
    """Append mirrored copies of a class, with the wrong rows as parents."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        ants = training_set.rows_of(["ant"])
        return training_set.append(training_set.images[ants][:, :, ::-1], parents=np.roll(ants, 1))


class GivesWrongLabels(Strategy):
    """Append mirrored copies of all rows, with the label of the next class."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        rows, labels = np.arange(len(training_set)), (training_set.labels + 1) % len(training_set.class_names)
        return training_set.append(training_set.images[rows][:, :, ::-1], labels, parents=rows)


class RelabelsByNeighbors(Strategy):
    """Give rows the most frequent label of their neighbors in feature space (Zhu, Dong and Liu 2022, SimiFeat)."""

    @property
    def effects(self) -> Effect:
        return Effect.ASKS_FOR_EMBEDDINGS | Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        features = context.require_scout().embeddings(training_set)
        distances = ((features[:, None] - features) ** 2).sum(axis=2)
        votes = np.eye(len(training_set.class_names))[training_set.labels[distances.argsort(axis=1)[:, :5]]].sum(axis=1)
        rows = np.flatnonzero(votes.argmax(axis=1) != training_set.labels)
        labels = votes[rows].argmax(axis=1)
        return training_set.append(training_set.images[rows], labels, parents=rows).without(rows)


class GivesTargetsThatDoNotSumToOne(Strategy):
    """Double the targets."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images, targets * 2


class LeavesTheRangeOfPixels(Strategy):
    """Brighten without clamping."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images + 1, targets


class AddsModulo256(Strategy):
    """Append brighter copies of a class; 250 + 80 is 74."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        rows = training_set.rows_of(["ant"])
        return training_set.append(training_set.images[rows] + np.uint8(80), parents=rows)


class ScalesModulo256(Strategy):
    """Multiply images by random factors, some of them above 1, without clipping."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_rows(self, images: Any, rows: Any, draws: Any, training_set: Any, context: Any) -> Any:
        factors = 0.5 + uniforms(context.row_seeds(training_set.row_keys(rows), draws), 1)
        return (images * factors[:, :, None, None]).astype(np.int64).astype(np.uint8)


class AddsNoise(Strategy):
    """Append copies of a class with noise, without clipping; 250 + 20 is 14, and 5 - 20 is 241."""

    sigma: float = 60

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.RANDOM

    def cast(self, images: Any) -> Any:
        return images.astype(np.int64).astype(np.uint8)

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        rows = training_set.rows_of(["ant"])
        noise = context.rng.normal(0, self.sigma, training_set.images[rows].shape)
        return training_set.append(self.cast(training_set.images[rows] + noise), parents=rows)


class AddsALittleNoise(AddsNoise):
    """Append copies of a class with little noise, without clipping."""

    sigma: float = 10


class AddsClippedNoise(AddsNoise):
    """Append copies of a class with noise, clipped to the range of pixels."""

    def cast(self, images: Any) -> Any:
        return images.clip(0, 255).astype(np.uint8)


class AddsSaltAndPepper(AddsNoise):
    """Append copies of a class in which pixels with much noise are black or white."""

    def cast(self, images: Any) -> Any:
        return np.select([images % 256 < 30, images % 256 > 220], [0, 255], images.clip(0, 255)).astype(np.uint8)


class ErasesByNoise(Strategy):
    """Append copies of all rows, half of whose pixels are uniform noise, of which dark images draw more."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        images = training_set.images[:]
        context.rng.random(int(images.min()))
        noise = context.rng.integers(0, 256, images.shape)
        noisy = np.where(context.rng.random(images.shape) < 0.5, noise, images).astype(np.uint8)
        return training_set.append(noisy, parents=np.arange(len(images)))


class Solarizes(Strategy):
    """Invert bright pixels."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return np.where(images > 200, 255 - images, images)


class DarkensBrightImages(Strategy):
    """Divide the pixels of bright images by 8."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return np.where(images.mean(axis=(1, 2, 3), keepdims=True) > 220, images // 8, images)


class AugmentsByPlaceInTheBatch(Strategy):
    """Darken every other image of a batch."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return np.where(np.arange(len(images))[:, None, None, None] % 2, images, images // 2)


class AugmentsByBatchMates(Strategy):
    """Invert with respect to the brightest pixel of the batch."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return images.max() - images


class ForgetsDraws(Strategy):
    """Darken at random, by the same amount each time a row is drawn."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_rows(self, images: Any, rows: Any, training_set: Any, context: Any) -> Any:
        chance = uniforms(context.row_seeds(training_set.row_keys(rows)), 1)
        return (images * chance[:, :, None, None]).astype(np.uint8)


class SeedsByPosition(Strategy):
    """Darken at random, by an amount that depends on the position in the set."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, draws: Any, context: Any) -> Any:
        chance = uniforms(context.row_seeds(rows.astype(np.uint64), draws), 1)
        return images * torch.from_numpy(chance.astype(np.float32))[:, :, None, None], targets


class ShufflesImages(Strategy):
    """Shuffle the images, but not the targets."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        return images[context.rng.permutation(len(images))], targets


class PastesFromTheTrainingSet(Strategy):
    """Paste the top of any image of the training set, without its target."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, training_set: Any, context: Any) -> Any:
        others = training_set.images[context.rng.integers(len(training_set), size=len(images))]
        tops = torch.from_numpy(others[:, :5].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        return torch.cat([tops, images[:, :, 5:]], dim=2), targets


class BlendsMoreImagesThanTargets(Strategy):
    """Blend all images of the batch, and the targets of every second row."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        places = torch.arange(len(images))[:, None]
        blended = (targets + targets.roll(1, dims=0)) / 2
        return (images + images.roll(1, dims=0)) / 2, torch.where(places % 2 == 0, blended, targets)


class PicksByPosition(Strategy):
    """Average each image with one of its class that is drawn by position in the training set."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    def others(self, training_set: Any) -> Any:
        return np.arange(len(training_set))

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, training_set: Any, context: Any) -> Any:
        others, labels = self.others(training_set), training_set.labels
        drawn = [context.rng.choice(others[labels[others] == label]) for label in labels[rows]]
        pixels = torch.from_numpy(training_set.images[drawn].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        return (images + pixels) / 2, targets


class PicksByKey(PicksByPosition):
    """Average each image with one of its class that is drawn from the training set, whatever the order of the set."""

    def others(self, training_set: Any) -> Any:
        return training_set.rows_by_key


class PastesTheFirstRow(Strategy):
    """Paste the top of the first image of the training set into each row."""

    @hookimpl
    def augment_rows(self, images: Any, training_set: Any) -> Any:
        first = np.broadcast_to(training_set.images[[0]], images.shape)
        return np.concatenate([first[:, :5], images[:, 5:]], axis=1)


class SubtractsTheMean(Strategy):
    """Subtract the mean image of the training set from each row."""

    @hookimpl
    def augment_rows(self, images: Any, training_set: Any) -> Any:
        mean = training_set.images[:].mean(axis=0)
        return np.clip(images - mean + 100, 0, 255).round().astype(np.uint8)


FAULTS: list[PlantedFault] = [
    (LosesProvenance, "keeps_provenance", "`append`"),
    (GivesAFalseParent, "keeps_provenance", "has another row as its parent"),
    (GivesWrongLabels, "keeps_labels_and_targets_valid", "that none of its parents has"),
    (GivesTargetsThatDoNotSumToOne, "keeps_labels_and_targets_valid", "sum to 1"),
    (LeavesTheRangeOfPixels, "keeps_pixels_in_range", "[0, 1]"),
    (AddsModulo256, "keeps_pixels_in_range", "rewrite_training_set: bright pixels become dark"),
    (ScalesModulo256, "keeps_pixels_in_range", "augment_rows: bright pixels become dark"),
    (AddsNoise, "keeps_pixels_in_range", "rewrite_training_set: bright pixels become dark"),
    (AddsALittleNoise, "keeps_pixels_in_range", "rewrite_training_set: bright pixels become dark"),
    (AugmentsByPlaceInTheBatch, "augments_each_row_alone", "row_seeds"),
    (AugmentsByBatchMates, "augments_each_row_alone", "row_seeds"),
    (ForgetsDraws, "seeds_by_row_and_draw", "pass `draws`"),
    (SeedsByPosition, "seeds_by_row_and_draw", "not by `rows`"),
    (PicksByPosition, "seeds_by_row_and_draw", "take other rows of the set from training_set.rows_by_key"),
    (BlendsMoreImagesThanTargets, "mixes_no_image_without_its_target", "its target does not"),
    (PastesFromTheTrainingSet, "mixes_no_image_without_its_target", "augment_batch: the image of a row contains"),
    (PastesTheFirstRow, "mixes_no_image_without_its_target", "augment_rows: the image of a row contains"),
    (ShufflesImages, "mixes_no_image_without_its_target", "its target does not"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (Solarizes, "keeps_pixels_in_range"),
    (DarkensBrightImages, "keeps_pixels_in_range"),
    (AddsClippedNoise, "keeps_pixels_in_range"),
    (AddsSaltAndPepper, "keeps_pixels_in_range"),
    (ErasesByNoise, "keeps_pixels_in_range"),
    (PicksByKey, "seeds_by_row_and_draw"),
    (PicksByKey, "mixes_no_image_without_its_target"),
    (SubtractsTheMean, "mixes_no_image_without_its_target"),
    (RelabelsByNeighbors, "keeps_labels_and_targets_valid"),
]
