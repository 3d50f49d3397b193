"""Loading of image files for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.image_decoding import image_decoder
from fer_augment.errors import DatasetError

ImageShape = tuple[int, int, int]


def read_images(files: Sequence[Path], image_shape: ImageShape, *, resize: bool = False) -> NDArray[np.uint8]:
    """Read png and jpg files in the input format of a network.

    Color is converted to gray with the weights of ITU-R BT.601, gray to color with three equal channels.

    Args:
        files: N image files.
        image_shape: H, W and C of the network's input.
        resize: whether to resize images of a different size; the aspect ratio is not kept.

    Returns:
        `(N, H, W, C) uint8`.

    Raises:
        DatasetError: if a file cannot be read, or if it has a different size and `resize` is False; the message names
            the first such file.
    """
    images = np.empty((len(files), *image_shape), dtype=np.uint8)
    with image_decoder() as decode:
        for row, file in enumerate(files):
            try:
                content = file.read_bytes()
            except OSError as error:
                raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
            image = _with_channels(decode(content, str(file)), image_shape[2], str(file))
            if image.shape != image_shape and not resize:
                sizes = (f"{width}x{height}" for height, width, _ in (image.shape, image_shape))
                raise DatasetError(
                    f"{file}: is {next(sizes)}, the network expects {next(sizes)}; crop it to that size or add --resize"
                )
            images[row] = _resized(image, image_shape)
    return images


def _with_channels(image: NDArray[np.uint8], channels: int, title: str) -> NDArray[np.uint8]:
    """Convert an image with 1 or 3 channels to `(H, W, channels)`."""
    import cv2

    if image.shape[2] == channels:
        return image
    if channels == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    raise DatasetError(f"{title}: has {image.shape[2]} channels, the network expects {channels}")


def _resized(image: NDArray[np.uint8], image_shape: ImageShape) -> NDArray[np.uint8]:
    import cv2

    height, width, _ = image_shape
    if image.shape == image_shape:
        return image
    is_smaller = height * width < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=interpolation)
    return np.asarray(resized, np.uint8).reshape(image_shape)
