"""Classifier re-training (cRT): retrain only the last layer, with class-balanced sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, hookimpl, linear_head

if TYPE_CHECKING:
    from torch import nn


class Crt(Strategy):
    """Retrain the classifier (cRT): reinitialize the linear head after training and train it with balanced sampling.

    The features remain as learned from the imbalanced rows; only the classifier is balanced. This second stage reuses
    the recipe's optimizer, schedule, loss and batch strategies, and takes optimizer steps in addition to those of the
    recipe. Networks without a linear head raise an error before training.

    When: the features are good and the head favors frequent classes. It also shows whether imbalance harms the features
    or the head.

    Cost: `epochs` additional passes over the training set, with a backward pass through the last layer only; training
    starts from the baseline's networks. No memory. Recall shifts from large classes to small ones.

    Try: 10 epochs, as in the authors' code; fewer for a small training set.

    Source: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR, section 4,
    "classifier re-training (cRT)"; its authors' code trains the head for 10 epochs.
    """

    epochs: int = Field(default=10, ge=1, description="number of epochs to retrain the head.")

    @property
    def effects(self) -> Effect:
        """The new head corrects for class frequencies."""
        return Effect.NEEDS_LINEAR_HEAD | Effect.CORRECTS_CLASS_PRIOR | Effect.RANDOM

    @hookimpl
    def refine_model(self, model: nn.Module, training_set: ImageDataset, context: Context) -> nn.Module:
        """Reinitialize the head with the default initialization of `torch.nn.Linear`, and train it."""
        from torch import nn

        head = linear_head(model)
        bound = head.in_features**-0.5
        for parameter in head.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=context.generator)
        assert context.train is not None, "always set at refine_model"
        weights = 1 / training_set.counts[training_set.labels].astype(np.float64)
        return context.train(model, parameters=head.parameters(), weights=weights, epochs=self.epochs)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [Crt]
