"""Similar images among many, by vectors of their low frequencies: random projection trees and exact products.

A tree divides all images and their mirror images into leaves of similar ones (Dasgupta and Freund 2008, "Random
Projection Trees and Low Dimensional Manifolds"). All images of a leaf are compared. Several random trees find nearly
all similar images in near-linear time; sets that fit into one leaf are searched exhaustively.

Shape legend: n images, m entries (images and mirror images), k neighbors.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIMILARITY = 0.85
"""Minimum cosine similarity of neighbors; on FER2013, 95 % of near duplicates reach it."""
FREQUENCIES = 8
"""Vectors have `FREQUENCIES` x `FREQUENCIES` amplitudes, in rows of equal vertical frequency."""
LEAF = 2048
"""Maximum number of entries in a leaf."""
TREES = 12
THREADS = min(8, os.cpu_count() or 1)
"""Number of threads that read and compare images."""

MIRRORING = np.where(np.arange(FREQUENCIES**2) % 2, np.float32(-1), np.float32(1))
"""Signs of the vector of a mirror image: amplitudes of odd horizontal frequencies change theirs."""
_FIRST_TREES = 3
_SIMILAR_ENOUGH = 0.98
"""After the first trees, no more neighbors are searched for images of which all neighbors are at least as similar."""
_COLUMNS = 3
"""Number of projections computed at once."""
_SAMPLE = 64
_SERIAL_PRODUCTS = 1 << 18
"""Maximum number of multiplications for which OpenBLAS starts no threads."""
_VECTORS_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The most similar images of each of n images.

    Attributes:
        images: `(n, k) int32`, most similar first, -1 where there are fewer than k.
        similarity: `(n, k) float16`, -1 where there are fewer than k.
        mirrored: whether they are similar to the mirror image of the image.
    """

    images: NDArray[np.int32]
    similarity: NDArray[np.float16]
    mirrored: bool = False

    @classmethod
    def none(cls, count: int, at_most: int, *, mirrored: bool = False) -> Neighbors:
        """Return a table of n images without neighbors."""
        shape = (count, at_most)
        return cls(np.full(shape, -1, dtype=np.int32), np.full(shape, -1, dtype=np.float16), mirrored)

    def pairs(self, columns: slice = slice(None)) -> NDArray[np.int64]:
        """Return `(p, 2)` different pairs of an image and a neighbor in some columns, the lower number first."""
        neighbors = self.images[:, columns]
        pairs = np.stack([np.repeat(np.arange(len(neighbors)), neighbors.shape[1]), neighbors.reshape(-1)], axis=1)
        return distinct(pairs[pairs[:, 1] >= 0])

    def add(self, images: NDArray[np.int64], others: NDArray[np.int64], similarity: NDArray[np.float32]) -> None:
        """Add others that are similar enough; keep the most similar.

        Args:
            images: `(u,)` different images.
            others: `(v,)` different images.
            similarity: `(u, v)`.
        """
        similar = np.flatnonzero((similarity >= SIMILARITY).any(axis=1))
        if not len(similar):
            return
        similarity, images = similarity[similar], images[similar]
        more = min(self.images.shape[1], len(others))
        best = np.argpartition(similarity, len(others) - more, axis=1)[:, len(others) - more :]
        added, added_similarity = others[best], np.take_along_axis(similarity, best, axis=1)
        is_known = (added[:, :, None] == self.images[images][:, None, :]).any(axis=2)
        added_similarity[is_known | (added_similarity < SIMILARITY)] = -1
        all_images = np.concatenate([self.images[images], np.where(added_similarity < 0, -1, added)], axis=1)
        all_similarity = np.concatenate([self.similarity[images], added_similarity.astype(np.float16)], axis=1)
        best = np.argsort(-all_similarity, axis=1, kind="stable")[:, : self.images.shape[1]]
        self.images[images] = np.take_along_axis(all_images, best, axis=1)
        self.similarity[images] = np.take_along_axis(all_similarity, best, axis=1)


def search(
    vectors: NDArray[np.float16],
    tables: Sequence[Neighbors],
    rng: np.random.Generator,
    *,
    trees: int = TREES,
    leaf: int = LEAF,
    images: NDArray[np.bool_] | None = None,
    components: NDArray[np.int64] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Add neighbors to tables, in place.

    Args:
        vectors: `(n, 64)`, of length 1; 0 for images that have no neighbors.
        tables: of the n images.
        rng: random generator.
        trees: number of trees; one if there is only one leaf.
        leaf: maximum number of entries in a leaf.
        images: `(n,)` mask of the images for which neighbors are searched; None for all.
        components: `(n,)`; neighbors in the component of the image are left out.
        progress: called with the number of trees searched and their total.
    """
    count = len(vectors)

    def compare(entries: NDArray[np.int64], tree: int) -> None:
        inside = entries[entries < count], entries[entries >= count] - count
        wanted = inside[0] if images is None else inside[0][images[inside[0]]]
        for table in tables:
            others, signs = (inside[1], MIRRORING) if table.mirrored else (inside[0], np.float32(1))
            ours = wanted if tree < _FIRST_TREES else wanted[table.similarity[wanted, -1] < _SIMILAR_ENOUGH]
            if len(ours) and len(others):
                similarity = _products(vectors[ours].astype(np.float32), vectors[others] * signs)
                similarity[ours[:, None] == others] = -1
                if components is not None:
                    similarity[components[ours][:, None] == components[others]] = -1
                table.add(ours, others, similarity)

    trees = trees if 2 * count > leaf else 1
    with ThreadPoolExecutor(THREADS) as pool:
        for tree in range(trees):
            for _ in pool.map(compare, list(_leaves(vectors, leaf, rng)), itertools.repeat(tree)):
                pass
            progress(tree + 1, trees)


def distinct(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return different pairs in ascending order, the lower number of each first."""
    ordered = np.sort(pairs, axis=1)
    count = int(ordered.max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(ordered @ [count, 1]), count), axis=1)


def similarities(vectors: NDArray[np.float16], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the `(p,)` similarities of `(p, 2)` pairs of images."""
    parts = [pairs[at : at + _VECTORS_AT_ONCE] for at in range(0, len(pairs), _VECTORS_AT_ONCE)]
    values = [np.einsum("ij,ij->i", *(vectors[part[:, side]].astype(np.float32) for side in (0, 1))) for part in parts]
    return np.concatenate([np.empty(0, dtype=np.float32), *values])


def _leaves(vectors: NDArray[np.float16], leaf: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Divide 0 … 2n - 1 (the images, then their mirror images) at medians of random projections."""
    parts = [np.arange(2 * len(vectors))]
    while parts:
        part = parts.pop()
        if len(part) <= leaf:
            yield part
            continue
        columns = min(_COLUMNS, math.ceil(math.log2(len(part) / leaf)))
        projected = _projected(vectors, part, _directions(vectors, part, columns, rng))
        places = [np.arange(len(part))]
        for column in range(columns):
            places = [half for some in places for half in _halves(some, projected[some, column])]
        parts += [part[some] for some in places]


def _directions(
    vectors: NDArray[np.float16], entries: NDArray[np.int64], columns: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return `(columns, 64)` random directions in which a sample of the entries varies most: one power iteration."""
    entries = rng.choice(entries, min(len(entries), _SAMPLE))
    is_mirrored = (entries >= len(vectors))[:, None]
    sample = vectors[entries % len(vectors)] * np.where(is_mirrored, MIRRORING, np.float32(1))
    sample = sample - sample.mean(axis=0)
    weights = rng.standard_normal((columns, len(sample))).astype(np.float32)
    directions: NDArray[np.float32] = weights @ sample @ sample.T @ sample
    return directions


def _projected(
    vectors: NDArray[np.float16], entries: NDArray[np.int64], directions: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the `(m, columns)` coordinates of the entries along the directions."""
    both, coordinates = np.stack([directions, directions * MIRRORING]), []
    for start in range(0, len(entries), _VECTORS_AT_ONCE):
        is_mirrored, image = np.divmod(entries[start : start + _VECTORS_AT_ONCE], len(vectors))
        values = _products(vectors[image].astype(np.float32), both.reshape(-1, both.shape[2]))
        coordinates.append(values.reshape(len(image), 2, -1)[np.arange(len(image)), is_mirrored])
    return np.concatenate(coordinates)


def _products(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the `(u, v)` products of `(u, 64)` and `(v, 64)`, in parts that are too small for threads of BLAS.

    Its threads make many such products slower, above all while other processes are running.
    """
    at_once = max(1, _SERIAL_PRODUCTS // other.size)
    padded = np.zeros((-(-len(one) // at_once) * at_once, one.shape[1]), dtype=np.float32)
    padded[: len(one)] = one
    products = padded.reshape(-1, at_once, one.shape[1]) @ np.ascontiguousarray(other.T)
    return products.reshape(-1, len(other))[: len(one)]


def _halves(places: NDArray[np.int64], values: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    middle = len(values) // 2
    order = np.argpartition(values, middle)
    return places[order[:middle]], places[order[middle:]]
