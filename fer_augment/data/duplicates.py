"""Exact duplicates, and stratified folds that keep groups of rows together."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def image_digests(images: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return one 16-byte BLAKE2b digest per image; equal digests mean equal pixels.

    Args:
        images: `(N, H, W, C) uint8`.

    Returns:
        `(N,)` array of 16-byte values that can be compared, sorted and searched.
    """
    digests = b"".join(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images)
    return np.frombuffer(digests, dtype="V16")


def group_ids(digests: NDArray[np.void]) -> NDArray[np.int64]:
    """Return `(N,) int64` group numbers: two rows have the same number if and only if their digests are equal."""
    _, inverse = np.unique(digests, return_inverse=True)
    return inverse.astype(np.int64)


def stratified_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Assign rows to stratified folds that keep groups together.

    The groups of one class after another are shuffled and assigned to the folds in turn. A group with several labels
    counts as the label of its first row.

    Args:
        labels: `(N,) int64`, class of each row.
        groups: `(N,) int64`, group of each row; all rows of a group are in the same fold.
        folds: number of folds, at least 2.
        rng: random generator.

    Returns:
        `(N,) int64` fold numbers in `0 … folds - 1`.
    """
    _, first_row, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = rng.permutation(len(first_row))
    by_class = shuffled[np.argsort(labels[first_row[shuffled]], kind="stable")]
    fold_of_group = np.empty(len(first_row), dtype=np.int64)
    fold_of_group[by_class] = np.arange(len(first_row)) % folds
    return fold_of_group[group_of_row]
