"""A scout that remembers, so that strategies may ask in every batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.strategy import PredictionKind, Scout


@dataclass(frozen=True, eq=False)
class RememberingScout:
    """Passes a question on to a scout the first time, and knows the answer from then on.

    Attributes:
        scout: whom to ask.
    """

    scout: Scout
    _answers: dict[tuple[str, PredictionKind], NDArray[np.float32]] = field(
        default_factory=dict, init=False, repr=False
    )

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return the scout's `(N, K) float32` class probabilities, read-only; equal sets are judged once."""
        question = training_set.fingerprint, how
        if question not in self._answers:
            answer = self.scout.probabilities(training_set, how=how).view()
            answer.flags.writeable = False
            self._answers[question] = answer
        return self._answers[question]

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        """Return the scout's `(N, D) float32` embeddings; being large they are not kept."""
        return self.scout.embeddings(training_set)
