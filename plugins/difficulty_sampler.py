"""A sampler that follows the network: classes that it still gets wrong are drawn more often.

Shapes: N rows of the training set, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, hookimpl


class DifficultySampler(Strategy):
    """Draw the rows of a class in proportion to its difficulty: (1 - accuracy)^tau, measured anew in each epoch.

    The accuracy of a class is that of the last predictions of its training rows while they were trained on
    (`context.history`): augmented rows, under dropout, by the weights of the step in which they were drawn. No further
    pass is needed. With tau null, tau is set in each epoch from the ratio b = a_max / (a_min + 0.01) of the highest and
    the lowest accuracy, tau = 2 / (1 + exp(1 - b)): 1 if all classes are equally hard, towards 2 the more they differ.
    Weights are 1 until `from_epoch`, and at least `floor` times the largest after it, so that no class is left out once
    it is learned. Rows of a class that were not drawn yet do not count; rows in which
    several classes have the largest logit count as wrong.

    When: class sizes say little about which classes are hard. Unlike `power_sampler`, a small class that is learned is
    not repeated further, and a large one that is not learned is.

    Cost: no further passes; 4 K + 8 bytes of memory for each training row. Rows of a hard class are repeated, so label
    errors in it are, too; a network that memorizes its rows finds no class hard any more, and the weights become
    equal. With `mixup` and the like, the predictions are of mixed images and say little of how hard a class is.

    Try: tau null, and `from_epoch` 1.

    Elsewhere: error on long-tailed CIFAR-100 (imbalance ratio 100, no spread given) 57.4 % with weights of the loss by
    this difficulty, as listed for the first source. There the accuracy is that of a validation set; here validation
    labels steer no training.

    Source: Sinha, Ohashi and Nakamura 2020, "Class-Wise Difficulty-Balanced Loss for Solving Class-Imbalance", ACCV,
    whose code sets tau in this way; as a sampler in Sinha, Ohashi and Nakamura 2022, "Class-Difficulty Based Methods
    for Long-Tailed Visual Recognition", IJCV.
    """

    tau: float | None = Field(
        default=None, gt=0, description="how strongly difficulty counts; null: set from the spread of accuracies."
    )
    floor: float = Field(default=0.05, gt=0, le=1, description="smallest weight of a class, as a share of the largest.")
    from_epoch: int = Field(default=1, ge=1, description="first epoch with weights, counted from 0.")

    @property
    def effects(self) -> Effect:
        """Draws classes in other proportions, by the history of the training."""
        return Effect.SHIFTS_CLASS_PRIOR | Effect.USES_HISTORY

    @property
    def acts_from(self) -> int:
        """The first epoch with weights."""
        return self.from_epoch

    @hookimpl
    def sampling_weights(
        self, weights: NDArray[np.float64], training_set: ImageDataset, epoch: int, context: Context
    ) -> NDArray[np.float64]:
        """Multiply the weights of each row by the difficulty of its class."""
        if epoch < self.from_epoch:
            return weights
        predictions = context.history.predictions
        drawn = context.history.epochs >= 0
        accuracies = accuracies_of(training_set.labels[drawn], predictions[drawn], len(training_set.class_names))
        return weights * self.class_weights(accuracies)[training_set.labels]

    def class_weights(self, accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the `(K,)` weights of classes with the given accuracies; NaN is a class without predictions."""
        known = accuracies[~np.isnan(accuracies)]
        if not len(known):
            return np.ones_like(accuracies)
        ratio = known.max() / (known.min() + 0.01)
        tau = 2 / (1 + np.exp(1 - ratio)) if self.tau is None else self.tau
        weights = (1 - np.nan_to_num(accuracies, nan=known.min())) ** tau
        largest = weights.max()
        return np.maximum(weights, self.floor * largest) if largest > 0 else np.ones_like(accuracies)


def accuracies_of(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the `(K,)` share of right predictions of each class, NaN for classes without any."""
    counts = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[labels == predictions], minlength=classes)
    return np.where(counts > 0, right / np.maximum(counts, 1), np.nan)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [DifficultySampler]
