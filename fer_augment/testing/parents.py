"""A check of the parents of images that were altered: rotated, shifted, mirrored, blended, darkened or inverted.

Legend of shapes: N rows, n new rows, H, W, C height, width and channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import AS_READ, ImageDataset
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.stages import arguments_of
from fer_augment.testing.subject import Subject

_SURE = 0.8
"""Correlation above which an image is made from a row, whatever was done to it."""
_LEAD = 0.25
"""How much lower the correlation with all parents has to be for the parents to be wrong."""
_SHIFTS = 3
"""Pixels by which images may be shifted."""


def names_the_parents_of_altered_images(subject: Subject) -> Iterator[str]:
    """A new image resembles one of its parents more than other rows, also where it was altered."""
    if "rewrite_training_set" not in subject.stages:
        return
    for usual in subject.datasets:
        data = distinct_dataset(usual.image_shape[2])
        (arguments,) = arguments_of("rewrite_training_set", data)
        if wrong := _rows_with_wrong_parents(data, arguments.fold(subject.build())):
            yield (
                f"{wrong} new images are made from other rows than their `parents`; pass the rows that the images were "
                "made from to `append`, in the order of the images"
            )


def distinct_dataset(channels: int) -> ImageDataset:
    """Return the tiny data with a pattern of its own in each image, so that images differ within a class, too."""
    usual = tiny_dataset(channels)
    rng = np.random.default_rng(7)
    height, width, _ = usual.image_shape
    cells = rng.integers(0, 2, size=(len(usual), height // 2 + 1, width // 2 + 1))
    patterns = cells.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width, None]
    images = (0.25 * usual.images[:] + 190 * patterns).astype(np.uint8)
    return ImageDataset.from_arrays(images, usual.labels, usual.class_names)


def _rows_with_wrong_parents(data: ImageDataset, rewritten: ImageDataset) -> int:
    """Count new rows that clearly resemble a row which is not among their source rows."""
    new = np.flatnonzero(rewritten.step != AS_READ)
    if not len(new):
        return 0
    similarity = _similarity(rewritten.images[new], data.images[:])
    of_parents = np.zeros(len(new))
    for place, origins in enumerate(rewritten.origins[new]):
        parents = np.isin(data.origin, origins)
        of_parents[place] = similarity[place, parents].max(initial=0.0)
        similarity[place, parents] = 0.0
    of_others = similarity.max(axis=1, initial=0.0)
    return int(((of_others > _SURE) & (of_parents < of_others - _LEAD)).sum())


def _similarity(images: NDArray[np.uint8], sources: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the highest absolute correlation of each image with each source, over flips and small shifts, `(n, N)`."""
    of_images, of_sources = _standardized(images), _standardized(sources)
    best = np.zeros((len(images), len(sources)))
    near = np.r_[: _SHIFTS + 1, -_SHIFTS:0]
    for flipped in (of_images, of_images[:, ::-1], of_images[:, :, ::-1], of_images[:, ::-1, ::-1]):
        spectra = np.conj(np.fft.rfft2(flipped))
        for place, spectrum in enumerate(np.fft.rfft2(of_sources)):
            shifted = np.fft.irfft2(spectrum * spectra, s=flipped.shape[1:])
            best[:, place] = np.maximum(best[:, place], np.abs(shifted[:, near][:, :, near]).max(axis=(1, 2)))
    return best


def _standardized(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return `(n, H, W)` gray images with mean 0 and norm 1; 0 for images of one value."""
    gray = images.astype(np.float64).mean(axis=3)
    centered = gray - gray.mean(axis=(1, 2), keepdims=True)
    norms = np.linalg.norm(centered.reshape(len(gray), -1), axis=1)[:, None, None]
    result: NDArray[np.float64] = centered / np.where(norms > 0, norms, 1)
    return result
