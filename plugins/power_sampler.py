"""Class-balanced sampling with weights n^-exponent: balanced, square-root or in between, optionally deferred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Effect, ImageDataset, Strategy, hookimpl


class PowerSampler(Strategy):
    """Sample small classes more often: draw the rows of a class of n rows with weight n^-exponent.

    Each class is then drawn in proportion to n^(1 - exponent): with exponent 1, all classes equally often
    (class-balanced sampling); with 0.5, in proportion to the square root of their size. The weights of earlier steps
    are multiplied.

    `from_epoch` defers the effect: before this epoch, the weights are unchanged. `ramp_epochs` phases it in: over this
    number of epochs, the draw probabilities are interpolated linearly from the unchanged to the balanced ones. Both are
    numbers of epochs, because a sampler does not receive the length of the training. Progressively-balanced sampling
    over T epochs is `exponent: 1` with `ramp_epochs` T - 1.

    When: small classes are rarely predicted and have enough variation to be shown more often. With random augmentation,
    repeated draws differ.

    Cost: no time or memory. With exponent 1, a row of FER2013's Disgust is drawn 9.4 times per epoch and a row of Happy
    0.6 times; with 0.5, 3.2 and 0.8 times. The network overfits small classes, and large classes lose recall.

    Try: exponent 0.5; or 1 with `from_epoch` at four fifths of the epochs (deferred re-sampling).

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 30.8 %
    with exponent 0.5, 30.4 % with 1, 29.4 % progressively balanced, 27.1 % with 1 deferred: Zhang, Wei, Zhou and Wu
    2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, tables in the code repository.

    Measured: on FER2013, exponent 0.5 (recipe `modern_power_sampler`), 18 epochs, n = 3 runs: balanced accuracy +4.3
    points (95 % CI +2.6 to +6.0), better; accuracy -0.3 points (-1.4 to +0.9), no evidence of a difference.

    Sources: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR, the section
    on sampling strategies, where q = 1 - exponent, including progressively-balanced sampling; square-root sampling:
    Mahajan et al. 2018, "Exploring the Limits of Weakly Supervised Pretraining", ECCV; deferred re-sampling: Cao et al.
    2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS.
    """

    exponent: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="0: weights unchanged; 0.5: square root; 1: all classes equally often.",
    )
    from_epoch: int = Field(
        default=0,
        ge=0,
        description="first epoch in which the step acts, counted from 0; before it, the weights are unchanged.",
    )
    ramp_epochs: int = Field(
        default=0,
        ge=0,
        description="number of epochs after `from_epoch` until the full effect; 0: immediately.",
    )

    @property
    def effects(self) -> Effect:
        """Classes are drawn in proportions other than those of the training set."""
        return Effect.SHIFTS_CLASS_PRIOR if self.exponent else Effect(0)

    @property
    def acts_from(self) -> int:
        """The first epoch with changed weights."""
        return self.from_epoch + (self.ramp_epochs > 0)

    @hookimpl
    def sampling_weights(
        self, weights: NDArray[np.float64], training_set: ImageDataset, epoch: int
    ) -> NDArray[np.float64]:
        """Multiply each row's weight by a power of its class size, to the extent in effect in this epoch."""
        rows_in_class = training_set.counts[training_set.labels].astype(np.float64)
        balanced = rows_in_class**-self.exponent
        extent = self._extent(epoch)
        factors: NDArray[np.float64] = 1 - extent + extent * balanced / np.average(balanced, weights=weights)
        return weights * factors

    def _extent(self, epoch: int) -> float:
        if epoch < self.from_epoch:
            return 0
        return min(1, (epoch - self.from_epoch) / self.ramp_epochs) if self.ramp_epochs else 1


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [PowerSampler]
