"""A scout that caches predictions, so that strategies may query it in every batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.strategy import PredictionKind, Scout


@dataclass(frozen=True, eq=False)
class CachingScout:
    """Queries another scout once per training set and kind of prediction, and caches the result.

    Attributes:
        scout: the scout to query.
    """

    scout: Scout
    _cache: dict[tuple[str, PredictionKind], NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False)

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return the scout's `(N, K) float32` class probabilities, read-only; cached by the fingerprint of the set."""
        key = training_set.fingerprint, how
        if key not in self._cache:
            probabilities = self.scout.probabilities(training_set, how=how).view()
            probabilities.flags.writeable = False
            self._cache[key] = probabilities
        return self._cache[key]

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        """Return the scout's `(N, D) float32` embeddings; these are large and not cached."""
        return self.scout.embeddings(training_set)
