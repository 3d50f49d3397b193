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


def connected(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `(count,) int64` component numbers in the graph whose edges are `(p, 2)` pairs of 0 … count - 1."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    components: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return components


def joined(*groupings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join groupings of the same N rows: rows that share a group in any of them, directly or by others, share one.

    Args:
        groupings: each `(N,) int64`, numbers from 0.

    Returns:
        `(N,) int64`, numbered from 0 by the first row of each group.
    """
    rows = len(groupings[0])
    starts = np.cumsum([rows, *(int(grouping.max(initial=-1)) + 1 for grouping in groupings)])
    ends = np.concatenate([start + grouping for start, grouping in zip(starts, groupings, strict=False)])
    components = connected(int(starts[-1]), np.stack([np.tile(np.arange(rows), len(groupings)), ends], axis=1))[:rows]
    _, first, inverse = np.unique(components, return_index=True, return_inverse=True)
    number: NDArray[np.int64] = np.argsort(np.argsort(first)).astype(np.int64)
    return number[inverse]


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
