"""The rows of each epoch and their order, derived from the keys of the rows and not from their positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fer_augment.randomness import mix64, stream_key, stream_rng


@dataclass
class RowStream:
    """An endless stream of rows, divided into epochs.

    With equal weights, it consists of shuffled passes over all rows; a pass continues across the end of an epoch, so
    all batches are full. With other weights, the rows of an epoch are drawn with replacement.

    Attributes:
        keys: `(N,) uint64`, a key for each row, independent of its position, see `ImageDataset.row_keys`.
        seed: the seed of the run.
        name: name of the random stream, different for each stream of a run.
        passed: number of rows taken from shuffled passes so far; with the epoch, the complete state of the stream.
    """

    keys: NDArray[np.uint64]
    seed: int
    name: str = "rows"
    passed: int = 0
    _pass: tuple[int, NDArray[np.int64]] | None = field(default=None, init=False, repr=False)

    def epoch(self, epoch: int, weights: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        """Return the next `(count,) int64` rows.

        Args:
            epoch: the epoch number.
            weights: `(N,) float64`, non-negative and not all zero.
            count: number of rows.
        """
        if weights.min() == weights.max():
            return self._next_in_passes(count)
        cumulative = np.cumsum(weights[self._sorted_by_key])
        drawn = stream_rng(self.seed, self.name, "drawn", epoch).random(count) * cumulative[-1]
        rows: NDArray[np.int64] = self._sorted_by_key[np.searchsorted(cumulative, drawn, side="right")]
        return rows

    @cached_property
    def _sorted_by_key(self) -> NDArray[np.int64]:
        return np.argsort(self.keys)

    def _next_in_passes(self, count: int) -> NDArray[np.int64]:
        parts: list[NDArray[np.int64]] = []
        while count:
            number, start = divmod(self.passed, len(self.keys))
            part = self._shuffled(number)[start : start + count]
            parts.append(part)
            self.passed += len(part)
            count -= len(part)
        return np.concatenate(parts)

    def _shuffled(self, number: int) -> NDArray[np.int64]:
        if self._pass is None or self._pass[0] != number:
            salt = np.uint64(stream_key(self.seed, self.name, "pass", number))
            self._pass = number, np.argsort(mix64(self.keys ^ salt))
        return self._pass[1]
