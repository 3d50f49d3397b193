"""Near and mirrored duplicates: different images of the same picture.

Candidates are pairs of images whose perceptual hashes differ in few bits (pHash, see Zauner 2010, "Implementation and
Benchmarking of Perceptual Image Hash Functions": one bit per low frequency of the cosine transform, set if it is above
the median). Candidates are then compared by correlation, because different faces in a similar pose can have similar
hashes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import Images

HASH_DISTANCE = 7
"""Maximum number of differing bits (of 64) of candidates, so that at least one of the 8 bytes is equal.

On FER2013 it finds all recompressed images, three in four images shifted by 1 of 48 pixels, and one in ten shifted by 2
pixels. Different crops of a photograph are therefore undercounted.
"""
CORRELATION = 0.95
"""Minimum correlation (-1 … 1) of near duplicates.

Checked visually on FER2013: in each of 120 randomly selected groups, all images show the same photograph with different
cropping, brightness or watermark. The synthetic faces are similar to each other but all distinct, and no pair reaches
this correlation.
"""
SHIFT = 4
"""Maximum shift between near duplicates in each direction, in pixels of 48."""

_SIDE = 48
_FREQUENCIES = 8
_BYTES_AT_ONCE = 1 << 22

Pairs = NDArray[np.int64]
"""`(p, 2) int64`, positions of two images."""


def near_pairs(
    images: Images, rows: NDArray[np.int64], progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Pairs, Pairs]:
    """Find pairs of near and mirrored duplicates.

    Only the hashes and thumbnails of candidates are kept in memory; there is no all-pairs comparison. Among images with
    the same hash, only the first is compared with images of other hashes; the rest are compared with the first.

    Args:
        images: the pixels.
        rows: `(n,)` positions in `images` of n images without exact duplicates.
        progress: called with the number of images hashed and their total.

    Returns:
        Pairs of near duplicates, and pairs of mirrored duplicates (one image correlates more with the horizontal mirror
        image of the other than with the other itself). Both contain positions in `rows`, the lower one first.
    """
    hashes, mirrored_hashes, has_detail = _hashes(images, rows, progress)
    _, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    with_equal_hash = np.stack([first[inverse.reshape(-1)], np.arange(len(rows))], axis=1)
    upright, mirrored = (
        _in_order(pairs[has_detail[pairs].all(axis=1)])
        for pairs in (
            np.concatenate([with_equal_hash, _candidates(first, hashes, hashes)]),
            _candidates(first, hashes, mirrored_hashes),
        )
    )
    used, places = np.unique(np.concatenate([upright, mirrored]), return_inverse=True)
    thumbnails = np.concatenate([np.empty((0, _SIDE, _SIDE), np.uint8), *_thumbnails(images, rows[used])])
    places = places.reshape(-1, 2)
    as_upright = _correlations(thumbnails, thumbnails, places)
    as_mirrored = _correlations(thumbnails, np.ascontiguousarray(thumbnails[:, :, ::-1]), places[len(upright) :])
    is_mirrored = (as_mirrored >= CORRELATION) & (as_mirrored > as_upright[len(upright) :])
    return upright[as_upright[: len(upright)] >= CORRELATION], mirrored[is_mirrored]


def in_pieces(images: Images, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Gather rows a few megabytes at a time; yields `(n, H, W, C) uint8`."""
    at_once = max(1, _BYTES_AT_ONCE // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(rows), at_once):
        yield images[rows[start : start + at_once]]


def _thumbnails(images: Images, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield gray thumbnails of the images in chunks, each `(n, 48, 48) uint8`."""
    for piece in in_pieces(images, rows):
        gray = piece[..., 0] if piece.shape[3] == 1 else np.rint(piece.mean(axis=3)).astype(np.uint8)
        if gray.shape[1:] != (_SIDE, _SIDE):
            gray = np.stack([cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for image in gray])
        yield gray


def _hashes(
    images: Images, rows: NDArray[np.int64], progress: Callable[[int, int], None]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Return `(n, 8) uint8` hashes of the images and of their mirror images, and an `(n,) bool` mask: not blank."""
    frequency, pixel = np.mgrid[:_FREQUENCIES, :_SIDE]
    cosines = np.cos(np.pi * (2 * pixel + 1) * frequency / (2 * _SIDE)).astype(np.float32)
    mirroring = np.where(np.arange(_FREQUENCIES) % 2, np.float32(-1), np.float32(1))
    upright, mirrored, has_detail = [], [], []
    for thumbnails in _thumbnails(images, rows):
        along_rows = (thumbnails.reshape(-1, _SIDE) @ cosines.T).reshape(-1, _SIDE, _FREQUENCIES)
        spectrum = np.einsum("fh,nhg->nfg", cosines, along_rows, optimize=True)
        upright.append(_bits(spectrum))
        mirrored.append(_bits(spectrum * mirroring))
        has_detail.append(_middle(thumbnails).std(axis=(1, 2)) >= 1)
        progress(sum(map(len, upright)), len(rows))
    no_hash = np.empty((0, _FREQUENCIES), np.uint8)
    return (
        np.concatenate([no_hash, *upright]),
        np.concatenate([no_hash, *mirrored]),
        np.concatenate([np.empty(0, bool), *has_detail]),
    )


def _bits(spectrum: NDArray[np.float32]) -> NDArray[np.uint8]:
    flat = spectrum.reshape(len(spectrum), -1)
    return np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)


def _middle(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop a margin of `SHIFT` pixels from `(…, 48, 48)`."""
    return thumbnails[..., SHIFT:-SHIFT, SHIFT:-SHIFT]


def _candidates(chosen: NDArray[np.int64], hashes: NDArray[np.uint8], others: NDArray[np.uint8]) -> Pairs:
    """Return all pairs (i, j) of chosen images where hash i and other hash j differ in at most `HASH_DISTANCE` bits.

    Only hashes with an equal byte are compared, as in multi-index hashing (Norouzi, Punjani and Fleet 2012, "Fast
    Search in Hamming Space with Multi-Index Hashing").
    """
    words, other_words = hashes.view(np.uint64)[:, 0], others.view(np.uint64)[:, 0]
    pairs = [np.empty((0, 2), np.int64)]
    for byte in range(_FREQUENCIES):
        for left, right in zip(_by_value(chosen, hashes[:, byte]), _by_value(chosen, others[:, byte]), strict=True):
            at_once = max(1, _BYTES_AT_ONCE // max(1, len(right)))
            for start in range(0, len(left), at_once):
                some = left[start : start + at_once]
                is_near = np.bitwise_count(words[some, None] ^ other_words[right]) <= HASH_DISTANCE
                i, j = np.nonzero(is_near)
                pairs.append(np.stack([some[i], right[j]], axis=1))
    return np.concatenate(pairs)


def _by_value(chosen: NDArray[np.int64], byte: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Group the chosen images by the value (0 … 255) of a byte."""
    order = np.argsort(byte[chosen], kind="stable")
    ends = np.cumsum(np.bincount(byte[chosen], minlength=256))
    return np.split(chosen[order], ends[:-1])


def _in_order(pairs: Pairs) -> Pairs:
    """Sort each pair, and drop repeated pairs and pairs of an image with itself."""
    ordered = np.sort(pairs, axis=1)
    return np.unique(ordered[ordered[:, 0] < ordered[:, 1]], axis=0)


def _correlations(one: NDArray[np.uint8], other: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.float64]:
    """Return `(p,)` maximum correlations of the cropped thumbnail over all shifts against the other thumbnail."""
    return np.array(
        [cv2.matchTemplate(other[b], _middle(one[a]), cv2.TM_CCOEFF_NORMED).max() for a, b in pairs], dtype=np.float64
    )
