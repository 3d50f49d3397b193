"""Sampling by a power of the class counts: balanced, square-root, and everything between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Effect, ImageDataset, Strategy, hookimpl


class PowerSampler(Strategy):
    """Draw the rows of a class of n rows with weight n^-exponent, so that small classes are seen more often.

    A class is then drawn in proportion to n^(1 - exponent). With 1 all classes are drawn equally often
    (class-balanced sampling), with 0.5 in proportion to the square root of their size. The weights of earlier
    steps are multiplied.

    Sources: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR,
    the section on sampling strategies, where q = 1 - exponent; square-root sampling: Mahajan et al. 2018,
    "Exploring the Limits of Weakly Supervised Pretraining", ECCV.
    """

    exponent: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="0: rows as they stand; 0.5: square root; 1: all classes equally often.",
    )

    @property
    def effects(self) -> Effect:
        """Classes are drawn in other proportions than they stand in the set."""
        return Effect.SHIFTS_CLASS_PRIOR if self.exponent else Effect(0)

    @hookimpl
    def sampling_weights(self, weights: NDArray[np.float64], training_set: ImageDataset) -> NDArray[np.float64]:
        """Multiply each row's weight by a power of the size of its class."""
        rows_in_class = training_set.counts[training_set.labels].astype(np.float64)
        return weights * rows_in_class**-self.exponent


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [PowerSampler]
