"""Sampling by a power of the class counts: balanced, square-root, and everything between, at once or later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Effect, ImageDataset, Strategy, hookimpl


class PowerSampler(Strategy):
    """Draw the rows of a class of n rows with weight n^-exponent, so that small classes are seen more often.

    A class is then drawn in proportion to n^(1 - exponent). With 1 all classes are drawn equally often (class-balanced
    sampling), with 0.5 in proportion to the square root of their size. The weights of earlier steps are multiplied.

    `from_epoch` defers this: before it, rows are drawn as they stand. `ramp_epochs` brings it in by and by: so many
    epochs long the probabilities go in a straight line from those of the rows as they stand to the balanced ones. Both
    count epochs, as a sampler is not told how long training lasts; progressively-balanced sampling over a training of T
    epochs is `exponent: 1` with `ramp_epochs` T - 1.

    When: small classes are overlooked and their rows differ enough to be shown more often; next to a random
    augmentation, no two draws are alike.

    Cost: no time and no memory. With exponent 1 a row of FER2013's Disgust is drawn 9.4 times an epoch and one of Happy
    0.6 times, with 0.5 it is 3.2 and 0.8 times: small classes are learnt by heart, and large ones lose recall.

    Try: exponent 0.5; or 1 with `from_epoch` at four fifths of the epochs (deferred re-sampling).

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 30.8 % with exponent
    0.5, 30.4 % with 1, 29.4 % progressively, 27.1 % with 1 deferred: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for
    Long-Tailed Visual Recognition", AAAI, in the tables of its code.

    Measured: on FER2013, exponent 0.5 (recipe `modern_power_sampler`), 18 epochs, n = 3 runs: balanced accuracy +4.3
    points (95 % interval +2.6 to +6.0), better, for -0.3 points of accuracy (-1.4 to +0.9), no evidence of a
    difference.

    Sources: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR, the section
    on sampling strategies, where q = 1 - exponent, progressively-balanced sampling included; square-root sampling:
    Mahajan et al. 2018, "Exploring the Limits of Weakly Supervised Pretraining", ECCV; deferred re-sampling: Cao et al.
    2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS.
    """

    exponent: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="0: rows as they stand; 0.5: square root; 1: all classes equally often.",
    )
    from_epoch: int = Field(
        default=0,
        ge=0,
        description="the first epoch, counted from 0, in which it acts; before it rows are drawn as they stand.",
    )
    ramp_epochs: int = Field(
        default=0,
        ge=0,
        description="how many epochs after `from_epoch` it takes to come fully into effect; 0: at once.",
    )

    @property
    def effects(self) -> Effect:
        """Classes are drawn in other proportions than they stand in the set."""
        return Effect.SHIFTS_CLASS_PRIOR if self.exponent else Effect(0)

    @property
    def acts_from(self) -> int:
        """The first epoch with other weights."""
        return self.from_epoch + (self.ramp_epochs > 0)

    @hookimpl
    def sampling_weights(
        self, weights: NDArray[np.float64], training_set: ImageDataset, epoch: int
    ) -> NDArray[np.float64]:
        """Multiply each row's weight by a power of the size of its class, as far as that is in effect."""
        rows_in_class = training_set.counts[training_set.labels].astype(np.float64)
        balanced = rows_in_class**-self.exponent
        share = self._share_in_effect(epoch)
        factors: NDArray[np.float64] = 1 - share + share * balanced / balanced.mean()
        return weights * factors

    def _share_in_effect(self, epoch: int) -> float:
        if epoch < self.from_epoch:
            return 0
        return min(1, (epoch - self.from_epoch) / self.ramp_epochs) if self.ramp_epochs else 1


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [PowerSampler]
