"""Folds of the source rows, for out-of-fold predictions of scouts.

Legend of shapes: N rows, P source rows of a row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import FIRST_OUTSIDE, ImageDataset, groups_of
from fer_augment.data.duplicates import stratified_folds
from fer_augment.randomness import stream_rng


@dataclass(frozen=True)
class Fold:
    """A part of the source rows that a scout is not trained on.

    Attributes:
        number: which one, from 0.
        folds: how many there are.
    """

    number: int
    folds: int

    def __str__(self) -> str:
        """Return the fold's number, counted from 1, for messages."""
        return f"fold {self.number + 1} of {self.folds}"


def all_folds(folds: int) -> list[Fold]:
    """Return every fold of a number of folds."""
    return [Fold(number, folds) for number in range(folds)]


def folds_of(dataset: ImageDataset, source: ImageDataset, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each source row that a row descends from.

    Folds are stratified by class; exact duplicates, and rows of one group of the source, share a fold. So do near
    duplicates, if the splits were made in such a way that these stay together.

    Args:
        dataset: N rows that descend from the source.
        source: the training split.
        folds: how many folds.
        seed: of the run.

    Returns:
        `(N, P) int64`; -1 where a row has fewer than P source rows, -2 where it is from outside the training split:
        such rows are in all trainings.
    """
    rng = stream_rng(seed, "folds", folds)
    fold_of_source = stratified_folds(source.labels, groups_of(source), folds, rng)
    folds_NP = np.append(fold_of_source, -1)[places_of(dataset.origins, source)]
    folds_NP[dataset.origins <= FIRST_OUTSIDE] = FIRST_OUTSIDE
    return folds_NP


def fold_key(source: ImageDataset, fold: Fold, seed: int) -> str:
    """Return a text that names a fold, and changes with the rows in it.

    Args:
        source: the training split.
        fold: the fold.
        seed: of the run.
    """
    rows = folds_of(source, source, fold.folds, seed) == fold.number
    return f"{fold} {hashlib.sha256(rows.tobytes()).hexdigest()[:16]}"


def places_of(origins: NDArray[np.int64], source: ImageDataset) -> NDArray[np.int64]:
    """Return the positions of source rows in the training split, -1 for none; the shape is that of `origins`."""
    place_of = np.full(int(source.origin.max()) + 2, -1, dtype=np.int64)
    place_of[source.origin] = np.arange(len(source))
    return place_of[np.maximum(origins, -1)]
