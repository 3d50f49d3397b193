"""Loading of image files for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.image_decoding import image_decoder
from fer_augment.data.pixels import fitted, with_channels
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
            image = with_channels(decode(content, str(file)), image_shape[2])
            if image.shape != image_shape and not resize:
                sizes = (f"{width}x{height}" for height, width, _ in (image.shape, image_shape))
                raise DatasetError(
                    f"{file}: is {next(sizes)}, the network expects {next(sizes)}; crop it to that size or add --resize"
                )
            images[row] = fitted(image, image_shape[:2], "stretch")
    return images
