"""Image files from anywhere, made to fit a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.image_decoding import image_decoder
from fer_augment.errors import DatasetError

ImageShape = tuple[int, int, int]


def read_images(files: Sequence[Path], image_shape: ImageShape, *, resize: bool = False) -> NDArray[np.uint8]:
    """Read png and jpg files as a network takes images.

    Color becomes gray by the weights of ITU-R BT.601, and gray becomes color with three equal channels.

    Args:
        files: N image files.
        image_shape: H, W and C of the network.
        resize: whether to scale images of another size; width and height are then scaled each by itself.

    Returns:
        `(N, H, W, C) uint8`.

    Raises:
        DatasetError: if a file cannot be read, or has another size and is not to be resized; it names the first.
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
                    f"{file}: is {next(sizes)}, the network takes {next(sizes)}; cut it to that size, or say --resize"
                )
            images[row] = _scaled(image, image_shape)
    return images


def _with_channels(image: NDArray[np.uint8], channels: int, title: str) -> NDArray[np.uint8]:
    """Return `(H, W, channels)` of an image with one channel or three."""
    import cv2

    if image.shape[2] == channels:
        return image
    if channels == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    raise DatasetError(f"{title}: has {image.shape[2]} channels, the network takes {channels}")


def _scaled(image: NDArray[np.uint8], image_shape: ImageShape) -> NDArray[np.uint8]:
    import cv2

    height, width, _ = image_shape
    if image.shape == image_shape:
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=way)
    return np.asarray(scaled, np.uint8).reshape(image_shape)
