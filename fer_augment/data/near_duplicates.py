"""Near and mirrored duplicates: different images of the same picture.

The search has three stages. Each image becomes a gray thumbnail and a vector of the low frequencies of its cosine
transform. Candidates are pairs of images with similar vectors, see `similar_vectors`. Candidates are then compared
pixel by pixel, because different pictures can have similar low frequencies.

Shape legend: n images, p pairs.
"""

from __future__ import annotations

import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import occurrence
from fer_augment.data.duplicates import connected
from fer_augment.data.pixel_blocks import Images
from fer_augment.data.similar_vectors import (
    FREQUENCIES,
    MIRRORING,
    SIMILARITY,
    THREADS,
    Neighbors,
    distinct,
    search,
    similarities,
)
from fer_augment.phases import ReportProgress, part_of
from fer_augment.randomness import stream_rng

CORRELATION = 0.95
"""Minimum correlation (-1 … 1) of the pixels of near duplicates."""
GRADIENT_CORRELATION = 0.75
"""Minimum correlation (-1 … 1) of the gradients (Sobel filter of 5 x 5 pixels) of images with many structures.

Checked visually on FER2013: in each of 120 randomly selected groups, all images show the same photograph with different
cropping, brightness or watermark. No pair of synthetic faces reaches both thresholds.
"""
STANDARD_ERRORS = 11.0
"""Minimum distance of the gradient correlation from chance, in standard errors after Fisher's transformation.

The standard error depends on the number of independent structures, see `_structures`. Images with few of them, such as
icons and silhouettes, are alike by chance, so they must agree more closely. Among 900 images of Fashion-MNIST and 1,797
digits of 8 x 8 pixels, the correlation of pixels alone accepts 378 and 795 pairs; with this criterion, none is left.
"""
SHIFT = 4
"""Maximum shift between near duplicates in each direction, in pixels of 48."""

SIDE = 48
"""Height and width of the thumbnails that are compared."""
_NEIGHBORS = 6
"""Maximum number of candidates per image."""
_MIRRORED_NEIGHBORS = 3
_FIRST_NEIGHBORS = slice(3)
"""Candidates that are always compared; the others only if these do not connect them."""
_OTHER_NEIGHBORS = slice(3, None)
_MORE_NEIGHBORS, _MORE_TREES, _MORE_ROUNDS, _MORE_PAIRS = 2, 3, 3, 3
"""Search for connections between groups with more near duplicates than candidates, see `_between_components`: neighbors
per image, trees, rounds, and pairs compared between two groups."""
_REPRESENTATIVES = 50
"""Maximum number of representatives that are compared with all images of a connected component."""
_COMPARISONS = 2
"""Maximum mean number of comparisons of an image with representatives."""
_BYTES_AT_ONCE = 1 << 22
_PAIRS_AT_ONCE = 512
_TINY = float(np.finfo(np.float32).tiny)
_IN_MEMORY = 20_000
"""Number of thumbnails that are kept in memory rather than in a temporary file."""

Pairs = NDArray[np.int64]
"""`(p, 2) int64`, positions of two images, the lower one first."""


def near_pairs(
    images: Images, rows: NDArray[np.int64], progress: ReportProgress = lambda done, total: None
) -> tuple[Pairs, Pairs]:
    """Find pairs of near and mirrored duplicates.

    Time is near-linear in n, also if all images show one scene: each image is compared with the most similar ones only,
    and in groups with a representative. So not all pairs of a group are returned, but enough to connect it and for
    `star_groups`. About 300 bytes per image are in memory; the thumbnails of large sets are in a temporary file.
    Processor time on a shared Xeon, images of 48x48 pixels: 17 s for 100,000 different images, 74 s for 100,000 frames
    of one scene, 207 s for 300,000.

    Args:
        images: the pixels.
        rows: `(n,)` positions in `images` of n images without exact duplicates.
        progress: called with the number of images processed and their total.

    Returns:
        Pairs of near duplicates, and pairs of mirrored duplicates (one image correlates more with the horizontal mirror
        image of the other than with the other itself). Both contain positions in `rows`.
    """
    pictures = _Pictures.of(images, rows, part_of(progress, len(rows), 0.0, 0.4))
    rng = stream_rng(0, "near duplicates")
    upright = Neighbors.none(len(rows), _NEIGHBORS)
    mirrored = Neighbors.none(len(rows), _MIRRORED_NEIGHBORS, mirrored=True)
    search(pictures.vectors, (upright, mirrored), rng, progress=part_of(progress, len(rows), 0.4, 0.7))
    near = _near(pictures, upright, rng, part_of(progress, len(rows), 0.7, 0.9))
    pairs = mirrored.pairs()
    is_near = _compared(pictures, pairs, part_of(progress, len(rows), 0.9, 1.0), mirrored=True)
    progress(len(rows), len(rows))
    return near, pairs[is_near]


def near_between(images: Images, some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find near and mirrored duplicates of a few images among many.

    Each of the few is compared with the `_NEIGHBORS` most similar others, upright and mirrored.

    Args:
        images: the pixels.
        some: `(a,)` positions in `images`, at most a few thousand.
        others: `(b,)` positions in `images`.

    Returns:
        `(p, 2) int64` pairs of positions in `some` and in `others`.
    """
    pictures = _Pictures.of(images, np.concatenate([some, others]), lambda done, total: None)
    vectors = pictures.vectors[len(some) :].astype(np.float32).T
    found = [np.empty((0, 2), dtype=np.int64)]
    for mirrored, signs in ((False, np.float32(1)), (True, MIRRORING)):
        similarity = (pictures.vectors[: len(some)].astype(np.float32) * signs) @ vectors
        kept = min(_NEIGHBORS, len(others))
        most_similar = np.argpartition(similarity, len(others) - kept, axis=1)[:, len(others) - kept :]
        is_similar = np.take_along_axis(similarity, most_similar, axis=1) >= SIMILARITY
        pairs = np.stack([np.nonzero(is_similar)[0], most_similar[is_similar]], axis=1)
        found.append(pairs[_compared(pictures, pairs + [0, len(some)], mirrored=mirrored)])
    return np.concatenate(found)


def star_groups(count: int, pairs: Pairs) -> NDArray[np.int64]:
    """Group images so that every image of a group is paired with the representative of the group.

    The image with the most pairs becomes the first representative and takes all images that it is paired with; then the
    one with the most pairs among the rest, and so on. Unlike connected components, groups do not become chains.

    Args:
        count: number of images, n.
        pairs: their pairs.

    Returns:
        `(n,) int64` in 0 … n - 1, the representative of each image; an image without a group represents itself.
    """
    representative = np.full(count, -1, dtype=np.int64)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    degree = np.bincount(both[:, 0], minlength=count)
    start = np.concatenate([[0], np.cumsum(degree)])
    for image in np.lexsort([np.arange(count), -degree])[: np.count_nonzero(degree)].tolist():
        if representative[image] == -1:
            neighbors = both[start[image] : start[image + 1], 1]
            representative[neighbors[representative[neighbors] == -1]] = image
            representative[image] = image
    return np.where(representative == -1, np.arange(count), representative)


def pieces(images: Images, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Divide rows into ranges (start, stop) of a few megabytes of pixels each."""
    at_once = max(1, _BYTES_AT_ONCE // max(1, math.prod(images.shape[1:])))
    return [(start, min(start + at_once, len(rows))) for start in range(0, len(rows), at_once)]


# --- thumbnails and vectors


@dataclass(frozen=True, eq=False)
class _Pictures:
    """What is compared of n images.

    Attributes:
        thumbnails: `(n, 48, 48) uint8`, gray.
        vectors: `(n, 64) float16`, low frequencies of the cosine transform without the mean, of length 1; 0 for images
            without detail.
        structures: `(n,) float32`, number of independent structures of the gradients, see `_structures`.
    """

    thumbnails: NDArray[np.uint8]
    vectors: NDArray[np.float16]
    structures: NDArray[np.float32]

    @classmethod
    def of(cls, images: Images, rows: NDArray[np.int64], progress: ReportProgress) -> _Pictures:
        """Read the images once, a few megabytes at a time."""
        count = len(rows)
        pictures = cls(
            _scratch(count),
            np.zeros((count, FREQUENCIES * FREQUENCIES), dtype=np.float16),
            np.zeros(count, dtype=np.float32),
        )

        def read(piece: tuple[int, int]) -> None:
            chosen = slice(*piece)
            pictures.thumbnails[chosen] = thumbnails = _thumbnails(images[rows[chosen]])
            spectrum = _COSINES @ (thumbnails.astype(np.float32) @ _COSINES.T)
            pictures.structures[chosen] = _structures(spectrum)
            low = spectrum[:, :FREQUENCIES, :FREQUENCIES].reshape(len(thumbnails), -1)
            low[:, 0] = 0
            has_detail = _middle(thumbnails).std(axis=(1, 2)) >= 1
            length = np.linalg.norm(low, axis=1) + 1e-6
            pictures.vectors[chosen] = np.where(has_detail, 1 / length, 0)[:, None] * low

        ranges = pieces(images, rows)
        with ThreadPoolExecutor(THREADS) as pool:
            for (_, stop), _ in zip(ranges, pool.map(read, ranges), strict=True):
                progress(stop, count)
        return pictures


_FREQUENCY, _PIXEL = np.mgrid[:SIDE, :SIDE]
_COSINES = np.cos(np.pi * (2 * _PIXEL + 1) * _FREQUENCY / (2 * SIDE)).astype(np.float32)
_COSINES /= np.linalg.norm(_COSINES, axis=1, keepdims=True)
_ANGLE = np.pi * np.arange(SIDE, dtype=np.float32) / SIDE
_DERIVATIVE, _SMOOTHING = np.sin(_ANGLE) ** 2 * np.cos(_ANGLE / 2) ** 4, np.cos(_ANGLE / 2) ** 8
_SOBEL_RESPONSE = np.outer(_DERIVATIVE, _SMOOTHING) + np.outer(_SMOOTHING, _DERIVATIVE)
"""Squared amplitude of the gradients at each frequency, relative to that of the pixels."""
_SOBEL_SIZE = 5


def _scratch(count: int) -> NDArray[np.uint8]:
    """Return an array for thumbnails, in an unnamed temporary file if there are many and the disk has room for it."""
    shape = (count, SIDE, SIDE)
    if count <= _IN_MEMORY:
        return np.empty(shape, dtype=np.uint8)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would otherwise end the process at the first access
                os.posix_fallocate(file.fileno(), 0, math.prod(shape))
            return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    except OSError:
        return np.empty(shape, dtype=np.uint8)


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `(n, 48, 48) uint8` gray thumbnails of `(n, H, W, C)` images."""
    import cv2

    height, width, channels = images.shape[1:]
    if (height, width) != (SIDE, SIDE):
        if channels > 4:
            images = np.rint(images.mean(axis=3, keepdims=True)).astype(np.uint8)
        method = cv2.INTER_AREA if height * width > SIDE * SIDE else cv2.INTER_LINEAR
        images = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=method) for image in images])
    if images.ndim == 3:
        return images
    return images[..., 0] if images.shape[3] == 1 else np.rint(images.mean(axis=3)).astype(np.uint8)


def _structures(spectrum: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `(n,)` effective numbers of independent values of the gradients, from `(n, 48, 48)` cosine transforms.

    It is (Σe)² / Σe² over the squared amplitudes e of all frequencies of the gradients: the degrees of freedom of a
    correlation between two images with this spectrum (Clifford, Richardson and Hémon 1989, "Assessing the Significance
    of the Correlation between Two Spatial Processes"). The median is 75 for FER2013 and 29 for Fashion-MNIST.
    """
    energy = spectrum**2 * _SOBEL_RESPONSE
    squares = np.einsum("nij,nij->n", energy, energy)
    numbers: NDArray[np.float32] = energy.sum(axis=(1, 2)) ** 2 / np.maximum(squares, _TINY)
    return numbers


def _middle(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop a margin of `SHIFT` pixels from `(…, 48, 48)`."""
    return thumbnails[..., SHIFT:-SHIFT, SHIFT:-SHIFT]


# --- comparison of candidates


def _near(pictures: _Pictures, candidates: Neighbors, rng: np.random.Generator, progress: ReportProgress) -> Pairs:
    """Return the near duplicates among candidates, with enough pairs for `star_groups`."""
    count = len(pictures.vectors)
    pairs = candidates.pairs(_FIRST_NEIGHBORS)
    near = pairs[_compared(pictures, pairs, progress)]
    component = connected(count, near)
    pairs = candidates.pairs(_OTHER_NEIGHBORS)
    pairs = pairs[component[pairs[:, 0]] != component[pairs[:, 1]]]
    near = np.concatenate([near, pairs[_compared(pictures, pairs)]])
    for _ in range(_MORE_ROUNDS):
        more = _between_components(pictures, candidates, connected(count, near), rng)
        if not len(more):
            break
        near = np.concatenate([near, more])
    return _with_representatives(pictures, near)


def _between_components(
    pictures: _Pictures, candidates: Neighbors, component: NDArray[np.int64], rng: np.random.Generator
) -> Pairs:
    """Return near duplicates that connect images whose candidates are all in their own component with others.

    Such an image may have more near duplicates than candidates were searched for, as in bursts of one scene.
    """
    is_enclosed = (candidates.images[:, -1] >= 0) & (component[candidates.images] == component[:, None]).all(axis=1)
    if not is_enclosed.any():
        return np.empty((0, 2), dtype=np.int64)
    more = Neighbors.none(len(component), _MORE_NEIGHBORS)
    search(pictures.vectors, (more,), rng, trees=_MORE_TREES, images=is_enclosed, components=component)
    pairs = more.pairs()
    between: NDArray[np.int64] = np.sort(component[pairs], axis=1) @ np.array([len(component), 1])
    most_similar_first = np.lexsort((-similarities(pictures.vectors, pairs), between))
    pairs = pairs[most_similar_first[occurrence(between[most_similar_first]) < _MORE_PAIRS]]
    return pairs[_compared(pictures, pairs)]


def _with_representatives(pictures: _Pictures, near: Pairs) -> Pairs:
    """Compare the images of each connected component with the one that has most pairs; repeat with the others."""
    count = len(pictures.vectors)
    component, degree = connected(count, near), np.bincount(near.reshape(-1), minlength=count)
    open_images = np.flatnonzero(np.bincount(component)[component] > 2)
    budget = _COMPARISONS * count
    for _ in range(_REPRESENTATIVES):
        open_images = open_images[np.lexsort([-degree[open_images], component[open_images]])]
        is_hub = np.diff(component[open_images], prepend=-1) != 0
        hubs, others = open_images[is_hub], open_images[~is_hub]
        if not len(others) or budget < 0:
            break
        pairs = np.sort(np.stack([hubs[np.cumsum(is_hub)[~is_hub] - 1], others], axis=1), axis=1)
        is_paired = np.isin(pairs @ [count, 1], near @ [count, 1])
        similarity = similarities(pictures.vectors, pairs)
        to_compare = np.flatnonzero(~is_paired & (similarity >= SIMILARITY))
        budget -= len(to_compare)
        matching = to_compare[_compared(pictures, pairs[to_compare])]
        near = np.concatenate([near, pairs[matching]])
        is_paired[matching] = True
        open_images = others[~is_paired]
    return distinct(near)


def _compared(
    pictures: _Pictures, pairs: Pairs, progress: ReportProgress = lambda done, total: None, *, mirrored: bool = False
) -> NDArray[np.bool_]:
    """Return a `(p,)` mask of the pairs that are near duplicates, or mirrored duplicates."""
    starts = range(0, len(pairs), _PAIRS_AT_ONCE)
    masks = [np.empty(0, dtype=bool)]
    with ThreadPoolExecutor(THREADS) as pool:
        tasks = (pairs[start : start + _PAIRS_AT_ONCE] for start in starts)
        for start, mask in zip(starts, pool.map(lambda some: _are_near(pictures, some, mirrored), tasks), strict=True):
            masks.append(mask)
            progress(start + len(mask), len(pairs))
    return np.concatenate(masks)


def _are_near(pictures: _Pictures, pairs: Pairs, mirrored: bool) -> NDArray[np.bool_]:
    import cv2

    thumbnails = pictures.thumbnails
    correlations, gradient_correlations = np.zeros(len(pairs)), np.zeros(len(pairs))
    for number, (a, b) in enumerate(pairs.tolist()):
        one, other = _middle(thumbnails[a]), thumbnails[b]
        if mirrored:
            other = np.ascontiguousarray(other[:, ::-1])
        scores = cv2.matchTemplate(other, one, cv2.TM_CCOEFF_NORMED)
        _, correlations[number], _, (left, top) = cv2.minMaxLoc(scores)
        if correlations[number] >= CORRELATION:
            window = other[top : top + len(one), left : left + len(one)]
            gradient_correlations[number] = _correlation(_gradients(one), _gradients(window))
    structures = pictures.structures[pairs].min(axis=1)
    chosen = np.flatnonzero(gradient_correlations >= _least_gradient_correlation(structures))
    if mirrored:
        is_more_alike = [
            correlations[number] > cv2.matchTemplate(thumbnails[b], _middle(thumbnails[a]), cv2.TM_CCOEFF_NORMED).max()
            for number, (a, b) in zip(chosen, pairs[chosen], strict=True)
        ]
        chosen = chosen[np.array(is_more_alike, dtype=bool)]
    return np.isin(np.arange(len(pairs)), chosen)


def _least_gradient_correlation(structures: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the `(p,)` least gradient correlation of near duplicates with these numbers of structures."""
    by_chance = np.tanh(STANDARD_ERRORS / np.sqrt(np.maximum(structures.astype(np.float64) - 3, 1)))
    return np.maximum(GRADIENT_CORRELATION, by_chance)


def _gradients(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return `(2, h - 4, w - 4)` derivatives of `(h, w)` pixels along rows and columns."""
    import cv2

    margin = _SOBEL_SIZE // 2
    along = [cv2.Sobel(pixels, cv2.CV_32F, dx, dy, ksize=_SOBEL_SIZE) for dx, dy in ((1, 0), (0, 1))]
    return np.stack(along).astype(np.float32, copy=False)[:, margin:-margin, margin:-margin]


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the correlation about 0 of two arrays."""
    a, b = one.reshape(-1), other.reshape(-1)
    return float(a @ b / np.sqrt(max(float((a @ a) * (b @ b)), _TINY)))
