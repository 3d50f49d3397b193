"""Which rows each epoch trains on, and in which order: decided by what the rows are, not by where they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fer_augment.randomness import mix64, stream_key, stream_rng


@dataclass
class RowStream:
    """An endless stream of rows, cut into epochs.

    Under equal weights it is one shuffled pass over all rows after another, and passes go on across the ends of
    epochs, so that batches are always full. Under other weights an epoch's rows are drawn with replacement.

    Attributes:
        keys: `(N,) uint64`, a key for each row that stays with it wherever it stands, see `ImageDataset.row_keys`.
        seed: the seed of the run.
        name: tells this stream from others of the run.
        passed: rows that the shuffled passes have given so far; with the epoch the whole state of the stream.
    """

    keys: NDArray[np.uint64]
    seed: int
    name: str = "rows"
    passed: int = 0
    _pass: tuple[int, NDArray[np.int64]] | None = field(default=None, init=False, repr=False)

    def epoch(self, epoch: int, weights: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        """Return the next `(count,) int64` rows.

        Args:
            epoch: the epoch's number.
            weights: `(N,) float64`, at least 0 and not all 0.
            count: how many rows.
        """
        if weights.min() == weights.max():
            return self._next_of_passes(count)
        cumulated = np.cumsum(weights[self._in_order_of_keys])
        drawn = stream_rng(self.seed, self.name, "drawn", epoch).random(count) * cumulated[-1]
        rows: NDArray[np.int64] = self._in_order_of_keys[np.searchsorted(cumulated, drawn, side="right")]
        return rows

    @cached_property
    def _in_order_of_keys(self) -> NDArray[np.int64]:
        return np.argsort(self.keys)

    def _next_of_passes(self, count: int) -> NDArray[np.int64]:
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
