"""How images of any size and color become arrays of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import DatasetError

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
Channels: TypeAlias = Literal["auto", "gray", "color"]
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
    """

    size: tuple[int, int] | None = None
    fit: Fit | None = None
    channels: Channels | None = None

    def over(self, defaults: PixelSettings) -> PixelSettings:
        """Return these settings, with those of `defaults` where these are None."""
        return PixelSettings(self.size or defaults.size, self.fit or defaults.fit, self.channels or defaults.channels)

    @property
    def channel_count(self) -> int | None:
        """1 for gray, 3 for color, None if it depends on the images."""
        return {"gray": 1, "color": 3}.get(self.channels or "auto")


def fitted(image: NDArray[np.uint8], size: tuple[int, int], fit: Fit | None = None) -> NDArray[np.uint8]:
    """Return an image in another size, anti-aliased.

    Smaller images are enlarged with bilinear interpolation; larger ones are reduced by averaging areas.

    Args:
        image: `(h, w, C) uint8`.
        size: `(H, W)`.
        fit: see `PixelSettings.fit`.

    Returns:
        `(H, W, C) uint8`.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    if fit == "stretch":
        return _scaled(image, size)
    inner = _inner_size(image.shape[:2], size, covers=fit != "pad")
    scaled = _scaled(image, inner)
    if fit != "pad":
        top, left = (inner[0] - height) // 2, (inner[1] - width) // 2
        return np.ascontiguousarray(scaled[top : top + height, left : left + width])
    padded = np.full((height, width, image.shape[2]), PAD_VALUE, dtype=np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    padded[top : top + inner[0], left : left + inner[1]] = scaled
    return padded


def with_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return `(H, W, channels)` of a gray or color image; color becomes gray by the weights of ITU-R BT.601.

    Raises:
        DatasetError: if the image has neither 1 nor 3 channels.
    """
    import cv2

    if image.shape[2] == channels:
        return image
    if image.shape[2] == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 3 and channels == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
    raise DatasetError(f"images with {image.shape[2]} channels cannot become images with {channels}")


def size_in_words(shape: tuple[int, ...]) -> str:
    """Return `(H, W, C)` as text, such as `48x48 gray`, width first."""
    height, width, channels = shape
    kind = {1: "gray", 3: "color"}.get(channels, f"with {channels} channels")
    return f"{width}x{height} {kind}"


def _inner_size(shape: tuple[int, ...], size: tuple[int, int], *, covers: bool) -> tuple[int, int]:
    """Return the size of an image scaled, at its aspect ratio, to cover another size or to fit into it."""
    ratios = size[0] / shape[0], size[1] / shape[1]
    ratio = max(ratios) if covers else min(ratios)
    bound = max if covers else min
    return bound(size[0], round(shape[0] * ratio)) or 1, bound(size[1], round(shape[1] * ratio)) or 1


def _scaled(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=interpolation)
    return np.asarray(scaled, np.uint8).reshape(height, width, image.shape[2])
