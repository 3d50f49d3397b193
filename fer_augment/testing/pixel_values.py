"""Checks of pixel values: the range of augmented images, and images that are uniform, black, white or sparse."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import AS_READ, ImageDataset
from fer_augment.errors import FerAugmentError
from fer_augment.testing.fixtures import with_unusual_images
from fer_augment.testing.stages import arguments_of, some_rows
from fer_augment.testing.subject import Subject

_LOST = (
    "all images of a class are black, or nearly: floats in 0..1 were cast to uint8, or pixels divided by 255 twice; "
    "images are uint8 in 0..255, and float32 in [0, 1] in augment_batch"
)

_UNDEFINED = "do not divide by their range or standard deviation where it is 0, nor take the logarithm of 0"
_CAST_OF_NAN = "invalid value encountered in cast"
"""The warning of numpy."""
_WRAPPED = "uint8 wraps around, as in 250 + 80 = 74; compute in int16 or float, clip to 0..255 and cast then"
_LEVELS = range(0, 255, 8)
"""Gray levels of nearly uniform images."""
_ROUNDING = 4
"""Largest difference of two steps of brightness that are equal up to rounding and noise."""
_SHARE = 0.1
"""Share of the pixels of an image that wrap around, above which it is not by chance."""


def keeps_pixels_in_range(subject: Subject) -> Iterator[str]:
    """Augmented images stay in range, and do not lose it or wrap around; views of held-out images are finite."""
    for data, (images, _) in subject.results("augment_batch"):
        if not bool(((images >= 0) & (images <= 1)).all()):
            yield "augment_batch: pixels must stay in [0, 1]; clamp them"
        elif _has_a_dark_class(images.numpy() * 255, data.labels[some_rows(data)]):
            yield f"augment_batch: {_LOST}"
    for data, images in subject.results("augment_rows"):
        if _has_a_dark_class(images, data.labels[some_rows(data)]):
            yield f"augment_rows: {_LOST}"
    for _, rewritten in subject.results("rewrite_training_set"):
        new = np.flatnonzero(rewritten.step != AS_READ)
        if _has_a_dark_class(rewritten.images[new], rewritten.labels[new]):
            yield f"rewrite_training_set: {_LOST}"
    for _, views in subject.results("predict_views"):
        if not all(bool(view.isfinite().all()) for view in views):
            yield "predict_views: pixels must be finite"
    for stage in ("rewrite_training_set", "augment_rows", "augment_batch"):
        if stage in subject.stages and _wraps_around(subject, stage):
            yield f"{stage}: bright pixels become dark, or dark ones bright: {_WRAPPED}"


def _wraps_around(subject: Subject, stage: str) -> bool:
    """Whether the brightness of an image, or of some of its pixels, is computed modulo 256.

    Nearly uniform images of many gray levels are given, each time with the same random numbers. Where noise is added,
    only those pixels of an image wrap around at a level whose noise is large enough.
    """
    usual, of_levels = subject.datasets[0], []
    noise = np.random.default_rng(0).integers(0, 2, size=(len(usual), *usual.image_shape), dtype=np.uint8)
    for level in _LEVELS:
        data = ImageDataset.from_arrays(noise + np.uint8(level), usual.labels, usual.class_names)
        try:
            result = arguments_of(stage, data)[-1].fold(subject.build())
        except FerAugmentError:  # such data may be refused
            return False
        if stage == "rewrite_training_set":
            result = result.images[np.flatnonzero(result.step != AS_READ)]
        images = result[0].numpy() * 255 if stage == "augment_batch" else result
        if not len(images):
            return False
        of_levels.append(images.reshape(len(images), -1))
    if len({images.shape for images in of_levels}) > 1:
        return False
    pixels = np.array(of_levels, dtype=np.float64)
    share_of_image = _falls_by_256(pixels).mean(axis=1)
    return bool(_falls_by_256(np.median(pixels, axis=2)).any() or (share_of_image > _SHARE).any())


def _falls_by_256(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether values `(levels, ...)` grow with the level, fall by 256 less one step, and grow on as before, `(...)`.

    This is arithmetic modulo 256. Solarized images become darker after they fell, and others do not fall as far.
    """
    steps = np.diff(values, axis=0)
    before, fall, after = steps[:-2], steps[1:-1] + 256, steps[2:]
    grows = (before > 0) & (after > 0) & (fall < 128)
    falls = grows & (np.abs(fall - before) <= _ROUNDING) & (np.abs(fall - after) <= _ROUNDING)
    return np.asarray(falls.any(axis=0))


def are_dark(images: NDArray[Any]) -> bool:
    """Whether no pixel in 0..255 is above 1, as after a cast of floats in [0, 1] to uint8."""
    return bool(images.max() <= 1)


def _has_a_dark_class(images: NDArray[Any], labels: NDArray[np.int64]) -> bool:
    """Whether all images of a class are dark; those of the kit are not."""
    return any(are_dark(images[labels == label]) for label in np.unique(labels))


def copes_with_images_of_any_content(subject: Subject) -> Iterator[str]:
    """Images of one value, black, white or of a single bright pixel give finite results, in range."""
    for usual in subject.datasets:
        data, rows = with_unusual_images(usual)
        for stage in subject.stages:
            for arguments in arguments_of(stage, data, rows):
                with warnings.catch_warnings(record=True) as emitted:
                    warnings.simplefilter("always")
                    try:
                        arrays = arguments.outcome(subject.build())
                    except FerAugmentError as error:
                        yield f"images of one value: {error}"
                        continue
                if any(_CAST_OF_NAN in str(warning.message) for warning in emitted):
                    yield f"{stage}: NaN is cast to integers for images of one value, black or white; {_UNDEFINED}"
                if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
                    yield (
                        f"{stage}: the result is NaN or infinite for images of one value, black or white; {_UNDEFINED}"
                    )
                elif stage == "augment_batch" and not ((arrays[0] >= 0) & (arrays[0] <= 1)).all():
                    yield "augment_batch: pixels of black or white images must stay in [0, 1]; clamp them"
