"""Strategies that work with the usual data only, or that lose pixels or parents without an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fer_augment import Effect, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault


class AppendsAnts(Strategy):
    """Append changed copies of all ants."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        return training_set.append(images, parents=rows)

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        rows = training_set.rows_of(["ant"])
        return self.append_to(training_set, rows, training_set.images[rows])


class AppendsBlackImages(AppendsAnts):
    """Darken copies as floats in 0..1, and cast them to uint8."""

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        return training_set.append((images / 255 * 0.9).astype(np.uint8), parents=rows)


class AppendsFloats(AppendsAnts):
    """Append floats in 0..1."""

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        return training_set.append(images / 255, parents=rows)


class AppendsBlackImagesOfOneClass(AppendsAnts):
    """Append changed copies of ants and bees, and cast only the former to uint8 too early."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        bees = training_set.rows_of(["bee"])
        return self.append_to(
            training_set.append(255 - training_set.images[bees], parents=bees),
            training_set.rows_of(["ant"]),
            training_set.images[training_set.rows_of(["ant"])],
        )

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        return training_set.append((images / 255 * 0.9).astype(np.uint8), parents=rows)


class AppendsStretchedImages(AppendsAnts):
    """Stretch the contrast of copies, dividing by their range, and cast the result to uint8."""

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
        return training_set.append(((images - low) / (high - low) * 255).astype(np.uint8), parents=rows)


class CutsCopiesToTheUsualSize(AppendsAnts):
    """Append copies of 16x14."""

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        return training_set.append(255 - images[:, :16, :14], parents=rows)


class NamesTheParentsOfInvertedCopiesWrongly(AppendsAnts):
    """Invert and flip copies, and name the next row of the class as the parent of each."""

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        return training_set.append(255 - images[:, ::-1], parents=np.roll(rows, 1))


class NamesTheParentsOfShiftedCopiesWrongly(AppendsAnts):
    """Shift and darken copies, and name the next row of the class as the parent of each."""

    def append_to(self, training_set: Any, rows: Any, images: Any) -> Any:
        shifted = np.roll(images, 2, axis=2)
        return training_set.append((shifted * 0.7).astype(np.uint8), parents=np.roll(rows, 1))


class MakesAntsBlack(Strategy):
    """Darken ants as floats in 0..1, and cast them to uint8."""

    @hookimpl
    def augment_rows(self, images: Any, labels: Any) -> Any:
        return np.where((labels == 0)[:, None, None, None], (images / 255 * 0.9).astype(np.uint8), images)


class MakesRowsBlack(Strategy):
    """Darken rows as floats in 0..1, and cast them to uint8."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return (images / 255 * 0.9).astype(np.uint8)


class DividesPixelsTwice(Strategy):
    """Divide pixels in [0, 1] by 255."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images / 255, targets


class MultipliesPixels(Strategy):
    """Return pixels in 0..255."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images * 255, targets


class StretchesEachImage(Strategy):
    """Stretch the contrast of each image to the full range, dividing by its range."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        return (images - low) / (high - low), targets


class StandardizesViews(Strategy):
    """Add a view divided by the standard deviation of its image."""

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return [*views, *(view / view.std((1, 2, 3), keepdim=True) for view in views)]


class TakesTheLogarithm(Strategy):
    """Return the logarithm of pixels, which is infinite for black ones."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return 1 + images.log() / 7, targets


class TakesTheLogarithmOfSoftmax(Strategy):
    """Add the cross-entropy without log_softmax, which is infinite for large logits."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets) - (targets * logits.softmax(dim=1).log()).sum(dim=1)


class DividesByTheSpreadOfLogits(Strategy):
    """Divide logits by their standard deviation, which is 0 if they are equal."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits / logits.std(dim=1, keepdim=True), targets)


class DividesByTheSpreadOfFeatures(Strategy):
    """Add the standard deviation of features over the batch, which a single row does not have."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_FEATURES

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets, features: loss(logits, targets) + features.std(dim=0).mean() / 10


class DropsTheAxisOfTheBatch(Strategy):
    """Invert images without axes of length 1."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        inverted = 1 - images.squeeze()
        return inverted.reshape(len(inverted), *images.shape[1:]), targets


class HasThreeClasses(Strategy):
    """Weight three classes."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        weights = torch.ones(3)
        return lambda logits, targets: loss(logits, targets) * (targets * weights).sum(dim=1)


class HasAMaskOf48(Strategy):
    """Darken every other line with a mask of 48x48."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        mask = torch.zeros(48, 48)
        mask[::2] = 0.5
        height, width = images.shape[2:]
        return images * (1 - mask[:height, :width]), targets


class HasThreeChannels(Strategy):
    """Swap three channels."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return images[..., [2, 1, 0]]


FAULTS: list[PlantedFault] = [
    (AppendsBlackImages, "keeps_pixels_in_range", "rewrite_training_set: all images of a class are black"),
    (AppendsFloats, "keeps_the_contract_of_its_stages", "images must be uint8 in 0..255, got float64"),
    (MakesRowsBlack, "keeps_pixels_in_range", "augment_rows: all images of a class are black"),
    (DividesPixelsTwice, "keeps_pixels_in_range", "augment_batch: all images of a class are black"),
    (MultipliesPixels, "keeps_pixels_in_range", "[0, 1]"),
    (NamesTheParentsOfInvertedCopiesWrongly, "names_the_parents_of_altered_images", "10 new images are made from"),
    (NamesTheParentsOfShiftedCopiesWrongly, "names_the_parents_of_altered_images", "10 new images are made from"),
    (StretchesEachImage, "copes_with_images_of_any_content", "NaN or infinite"),
    (StandardizesViews, "copes_with_images_of_any_content", "predict_views: the result is NaN or infinite"),
    (TakesTheLogarithm, "copes_with_images_of_any_content", "logarithm of 0"),
    (TakesTheLogarithmOfSoftmax, "gives_one_finite_loss_per_row", "for large logits"),
    (HasThreeClasses, "accepts_any_number_of_classes_and_size", "7 classes of 50x66x1"),
    (HasAMaskOf48, "accepts_any_number_of_classes_and_size", "take the number of classes and the size"),
    (HasThreeChannels, "keeps_the_contract_of_its_stages", "out of bounds"),
]
VARIANTS: list[PlantedFault] = [
    (AppendsBlackImagesOfOneClass, "keeps_pixels_in_range", "rewrite_training_set: all images of a class are black"),
    (MakesAntsBlack, "keeps_pixels_in_range", "augment_rows: all images of a class are black"),
    (AppendsStretchedImages, "copes_with_images_of_any_content", "NaN is cast to integers"),
    (DividesByTheSpreadOfLogits, "gives_one_finite_loss_per_row", "for equal logits"),
    (DividesByTheSpreadOfFeatures, "accepts_any_number_of_classes_and_size", "for a batch of one row"),
    (DropsTheAxisOfTheBatch, "accepts_any_number_of_classes_and_size", "a batch of one row"),
    (CutsCopiesToTheUsualSize, "accepts_any_number_of_classes_and_size", "7 classes of 50x66x1"),
]
"""Found by a check that others are found by, too."""
