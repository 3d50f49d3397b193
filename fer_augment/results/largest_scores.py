"""The class with the largest score of each row, drawn where several are equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.class_order import class_order
from fer_augment.metrics import without_ties


def drawn_largest(
    scores: NDArray[np.float64], class_names: Sequence[str], chance: Callable[[int], float]
) -> NDArray[np.int64]:
    """Return `(N,)` columns with the largest score of each row; the order of the columns does not matter.

    Args:
        scores: `(N, K)`.
        class_names: the K class names.
        chance: returns a random number in `[0, 1)` for a row; it selects among classes with equal scores, which are
            taken in the order of `class_order`.
    """
    largest: NDArray[np.int64] = scores.argmax(axis=1)
    tied = np.flatnonzero((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1)
    if len(tied):
        _, label_of = class_order(class_names)
        order = np.array(sorted(range(len(class_names)), key=lambda n: (label_of[class_names[n]], class_names[n])))
        chances = np.array([chance(row) for row in tied.tolist()])
        largest[tied] = order[without_ties(scores[np.ix_(tied, order)], chances).argmax(axis=1)]
    return largest
