"""Checks of one call in an epoch that are too slow for every call: arguments unchanged, pixels in range.

Legend of shapes: B rows of a batch, H, W, C height, width and channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import UNSTAMPED, ImageDataset

_TOLERANCE = 1e-3
"""How far pixels may leave [0, 1], by rounding."""
_SAMPLED = 200
"""New rows of a rewritten training set whose pixels are looked at."""
_BLACK = (
    "images that are not all black, or nearly; were floats in 0..1 cast to uint8? Images are uint8 in 0..255, and "
    "float32 in [0, 1] in augment_batch"
)


def copies_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the arrays and tensors among arguments, also those in lists; other arguments are immutable, or models."""
    return {name: _copy(value) for name, value in arguments.items() if _is_checked(value)}


def changed_arguments(arguments: Mapping[str, Any], copies: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of arguments that are no longer as they were copied."""
    for name, copy in copies.items():
        if not _equal(arguments[name], copy):
            yield name


def pixel_fault(stage: str, before: Any, after: Any) -> str | None:
    """Return what a step must return instead if its pixels are out of range or all black, else None.

    Args:
        stage: the stage; those without images are not checked.
        before: the value that the step was given.
        after: the value that it returned, of a valid type and shape.
    """
    if stage == "augment_batch":
        images = after[0]
        low, high = float(images.min()), float(images.max())
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # NaN is not
            found = "NaN" if low != low or high != high else f"values in {low:.3g}..{high:.3g}"
            return f"finite images in [0, 1], not {found}; clamp or scale them"
        return _BLACK if high <= 1 / 255 < float(before[0].max()) else None
    if stage == "augment_rows":
        return _BLACK if _are_dark(after) and not _are_dark(before) else None
    if stage == "rewrite_training_set":
        new = np.flatnonzero(after.step == UNSTAMPED)[:_SAMPLED]
        return _BLACK if len(new) and _are_dark(after.images[new]) and not _are_dark(_sample(before)) else None
    return None


def _sample(dataset: ImageDataset) -> NDArray[np.uint8]:
    return dataset.images[np.unique(np.linspace(0, len(dataset) - 1, _SAMPLED).astype(np.int64))]


def _are_dark(images: NDArray[np.uint8]) -> bool:
    """Whether no pixel is above 1."""
    return bool(images.max(initial=0) <= 1)


def _is_checked(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_checked, value))
    return isinstance(value, np.ndarray) or not getattr(value, "requires_grad", True)


def _copy(value: Any) -> Any:
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value.detach().clone()


def _equal(value: Any, copy: Any) -> bool:
    if isinstance(copy, list):
        return len(value) == len(copy) and all(map(_equal, value, copy))
    if value.shape != copy.shape or value.dtype != copy.dtype:
        return False
    return not bool(((value != copy) & ((value == value) | (copy == copy))).any())  # NaN equals NaN
