"""How images of any size and color become arrays of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import DatasetError, excerpt

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
Channels: TypeAlias = Literal["auto", "gray", "color"]
LARGEST_SIDE = 10_000
"""Height and width, in pixels, to which images are fitted at most."""
PAD_VALUE = 0
"""Value (0 … 255) of the pixels that `fit: pad` adds."""


@dataclass(frozen=True)
class PixelSettings:
    """Size and color of all images of a data set; what is None is left to the source.

    Attributes:
        size: `(H, W)`; None keeps the size of the images, which must all be equal.
        fit: how an image of another aspect ratio is fitted: `crop` cuts the longer side, both ends equally; `pad` adds
            black borders; `stretch` scales both sides independently. None is `crop`.
        channels: `gray` or `color`; `auto` is color if any image is. None is `auto`.

    Raises:
        DatasetError: if a size is not two whole numbers from 1 to `LARGEST_SIDE`, or there is no such fit or color.
    """

    size: tuple[int, int] | None = None
    fit: Fit | None = None
    channels: Channels | None = None

    def __post_init__(self) -> None:
        """Validate the settings; a size in numbers of numpy becomes one in numbers of Python."""
        if self.size is not None:
            object.__setattr__(self, "size", _checked_size(self.size))
        _check_word("fit", self.fit, get_args(Fit))
        _check_word("channels", self.channels, get_args(Channels))

    def over(self, defaults: PixelSettings) -> PixelSettings:
        """Return these settings, with those of `defaults` where these are None."""
        return PixelSettings(self.size or defaults.size, self.fit or defaults.fit, self.channels or defaults.channels)

    @property
    def channel_count(self) -> int | None:
        """1 for gray, 3 for color, None if it depends on the images."""
        return {"gray": 1, "color": 3}.get(self.channels or "auto")


def fitted(image: NDArray[np.uint8], size: tuple[int, int], fit: Fit | None = None) -> NDArray[np.uint8]:
    """Return an image in another size, anti-aliased.

    A side that gets shorter is reduced by averaging areas, a side that gets longer is interpolated linearly. `crop`
    first cuts the image to the centered rectangle with the aspect ratio of `size`, rounded to whole pixels; where an
    odd number of rows or columns is cut, one more is cut at the bottom or right. `pad` has the geometry of Pillow's
    `ImageOps.pad`.

    Args:
        image: `(h, w, C) uint8`.
        size: `(H, W)`.
        fit: see `PixelSettings.fit`.

    Returns:
        `(H, W, C) uint8`.
    """
    if image.shape[:2] == size:
        return image
    height, width = image.shape[:2]
    if fit == "pad":
        return _padded(_scaled(image, _inner_size((height, width), size)), size)
    top, left, rows, columns = crop_box((height, width), size, fit)
    return _scaled(image[top : top + rows, left : left + columns], size)


def crop_box(shape: tuple[int, int], size: tuple[int, int], fit: Fit | None = None) -> tuple[int, int, int, int]:
    """Return the part of an image that `fitted` keeps.

    Args:
        shape: `(h, w)` of the image.
        size: `(H, W)` to which it is fitted.
        fit: see `PixelSettings.fit`.

    Returns:
        Top row, left column, number of rows, number of columns.
    """
    height, width = shape
    if fit in ("pad", "stretch"):
        return 0, 0, height, width
    rows = min(height, _rounded_quotient(width * size[0], size[1]))
    columns = min(width, _rounded_quotient(height * size[1], size[0]))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def reduction(shape: tuple[int, int], size: tuple[int, int], fit: Fit | None = None) -> float:
    """Return how many pixels of an image, along its less reduced side, make one pixel of the fitted image.

    Args:
        shape: `(h, w)` of the image.
        size: `(H, W)` to which it is fitted.
        fit: see `PixelSettings.fit`.

    Returns:
        A value below 1 if the image is enlarged along a side.
    """
    if fit == "pad":
        return max(shape[0] / size[0], shape[1] / size[1])
    _, _, rows, columns = crop_box(shape, size, fit)
    return min(rows / size[0], columns / size[1])


def with_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return `(H, W, channels)` of a gray or color image; color becomes gray as in Pillow, by ITU-R BT.601.

    Raises:
        DatasetError: if the image has neither 1 nor 3 channels.
    """
    if image.shape[2] == channels:
        return image
    if image.shape[2] == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 3 and channels == 1:
        from PIL import Image  # OpenCV rounds differently: 1 in 1,000 pixels differs by 1

        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    raise DatasetError(f"images with {image.shape[2]} channels cannot become images with {channels}")


def _checked_size(size: object) -> tuple[int, int]:
    """Return a size as two numbers of Python.

    Raises:
        DatasetError: if it is not two whole numbers from 1 to `LARGEST_SIDE`.
    """
    sides = tuple(size) if isinstance(size, Sequence | np.ndarray) else ()
    are_whole = all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not are_whole or not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise DatasetError(
            f"size: should be one whole number from 1 to {LARGEST_SIDE}, or two: (height, width), got "
            f"{excerpt(repr(size), 40)}"
        )
    return int(sides[0]), int(sides[1])


def _check_word(name: str, value: object, words: Sequence[str]) -> None:
    """Refuse a value that is neither None nor one of some words.

    Raises:
        DatasetError: with the name of the setting, the words and the value.
    """
    if value is not None and not (isinstance(value, str) and value in words):
        *others, last = map(repr, words)
        raise DatasetError(f"{name}: should be {', '.join(others)} or {last}, got {excerpt(repr(value), 40)}")


def _inner_size(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size with the aspect ratio of an image that fits into another size."""
    height, width = shape
    return (
        min(size[0], _rounded_quotient(height * size[1], width)),
        min(size[1], _rounded_quotient(width * size[0], height)),
    )


def _padded(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image centered in a larger one."""
    padded = np.full((*size, image.shape[2]), PAD_VALUE, dtype=np.uint8)
    top, left = round((size[0] - image.shape[0]) / 2), round((size[1] - image.shape[1]) / 2)
    padded[top : top + image.shape[0], left : left + image.shape[1]] = image
    return padded


def _rounded_quotient(dividend: int, divisor: int) -> int:
    """Return the nearest whole number of a quotient, at least 1."""
    return max(1, (2 * dividend + divisor) // (2 * divisor))


def _scaled(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    # Sides are reduced first: where one side is enlarged, INTER_AREA would not average along the other.
    reduced = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    for (height, width), interpolation in ((reduced, cv2.INTER_AREA), (size, cv2.INTER_LINEAR)):
        if image.shape[:2] != (height, width):
            scaled = cv2.resize(image, (width, height), interpolation=interpolation)
            image = np.asarray(scaled, np.uint8).reshape(height, width, image.shape[2])
    return np.ascontiguousarray(image)
