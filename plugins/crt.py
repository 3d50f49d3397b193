"""Classifier re-training: learn only the last layer again, with all classes drawn equally often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, hookimpl, linear_head

if TYPE_CHECKING:
    from torch import nn


class Crt(Strategy):
    """After training, start the linear head anew and train it alone, on rows drawn class-balanced.

    The features stay as they were learnt from the rows as they stand; only what is made of them is balanced. This
    second stage takes the recipe's optimizer, schedule, loss and batch strategies once more, and optimizer steps beyond
    the recipe's own. Networks without a linear head are refused before training.

    When: the features are good and the head favors frequent classes. It also tells which of the two imbalance harms.

    Cost: it begins with the baseline's own networks, so only `epochs` more passes over the training set, forward only
    but for the last layer. No memory. Large classes lose recall to small ones.

    Try: 10 epochs, as the authors' code; fewer with a small training set.

    Source: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR, section 4,
    "classifier re-training (cRT)"; its authors' code trains the head for 10 epochs.
    """

    epochs: int = Field(default=10, ge=1, description="for how many epochs the head is trained again.")

    @property
    def effects(self) -> Effect:
        """A new head, which makes up for class frequencies."""
        return Effect.NEEDS_LINEAR_HEAD | Effect.CORRECTS_CLASS_PRIOR | Effect.RANDOM

    @hookimpl
    def refine_model(self, model: nn.Module, training_set: ImageDataset, context: Context) -> nn.Module:
        """Draw new weights for the head as torch does for a linear layer, and train them."""
        from torch import nn

        head = linear_head(model)
        bound = head.in_features**-0.5
        for parameter in head.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=context.generator)
        assert context.train is not None, "refine_model always has it"
        weights = 1 / training_set.counts[training_set.labels].astype(np.float64)
        return context.train(model, parameters=head.parameters(), weights=weights, epochs=self.epochs)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [Crt]
