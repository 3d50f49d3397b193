"""Which images are byte for byte the same, and how to split rows without parting such a group."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def image_digests(images: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return one 16-byte BLAKE2b digest per image; equal digests mean equal pixels.

    Args:
        images: `(N, H, W, C) uint8`.

    Returns:
        `(N,)` array of 16-byte records that can be compared, sorted and searched.
    """
    digests = b"".join(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images)
    return np.frombuffer(digests, dtype="V16")


def group_ids(digests: NDArray[np.void]) -> NDArray[np.int64]:
    """Return `(N,) int64` group numbers: two rows have the same number if, and only if, their digests are equal."""
    _, inverse = np.unique(digests, return_inverse=True)
    return inverse.astype(np.int64)


def stratified_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal rows into folds so that classes are spread evenly and no group is parted.

    Groups are dealt one class after another, in random order, to the folds in turn; a group whose rows carry
    several labels counts for the label of its first row.

    Args:
        labels: `(N,) int64`, class of each row.
        groups: `(N,) int64`, rows of one group always share a fold.
        folds: how many folds, at least 2.
        rng: where the random order comes from.

    Returns:
        `(N,) int64` fold numbers in `0 … folds - 1`.
    """
    _, first_row, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = rng.permutation(len(first_row))
    by_class = shuffled[np.argsort(labels[first_row[shuffled]], kind="stable")]
    fold_of_group = np.empty(len(first_row), dtype=np.int64)
    fold_of_group[by_class] = np.arange(len(first_row)) % folds
    return fold_of_group[group_of_row]
