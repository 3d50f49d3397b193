"""Loading of image files for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.decoding import Decoder
from fer_augment.data.image_files import refuse_large, regular_file
from fer_augment.data.pixels import Channels, PixelSettings
from fer_augment.errors import DatasetError

ImageShape = tuple[int, int, int]
_CHANNELS: dict[int, Channels] = {1: "gray", 3: "color"}


def read_images(
    files: Sequence[Path], image_shape: ImageShape, settings: PixelSettings | None = None, *, resize: bool = False
) -> NDArray[np.uint8]:
    """Read image files in the input format of a network.

    Files are decoded as those of a data source, with EXIF orientation applied. Color is converted to gray with the
    weights of ITU-R BT.601, gray to color with three equal channels.

    Args:
        files: N image files.
        image_shape: H, W and C of the network's input.
        settings: size and fit of the recipe; if they have a size, images are fitted to it as in training.
        resize: whether to resize images of a different size where the recipe sets none; the aspect ratio is not kept.

    Returns:
        `(N, H, W, C) uint8`.

    Raises:
        DatasetError: if a file cannot be read, or if it has a different size, none is set and `resize` is False; the
            message names the first such file.
    """
    images = np.empty((len(files), *image_shape), dtype=np.uint8)
    with Decoder(_pixels_of(image_shape, settings or PixelSettings(), resize=resize)) as decode:
        for row, file in enumerate(files):
            try:
                refuse_large(str(file), regular_file(file).stat().st_size)
                content = file.read_bytes()
            except OSError as error:
                reason = _of_a_folder(file) if file.is_dir() else f"cannot be read ({error.strerror})"
                raise DatasetError(f"{file}: {reason}") from error
            image = decode(content, str(file)).pixels
            if image.shape != image_shape:
                sizes = (f"{width}x{height}" for height, width, _ in (image.shape, image_shape))
                raise DatasetError(
                    f"{file}: is {next(sizes)}, the network expects {next(sizes)}; crop it to that size, or add "
                    "--resize (in Python resize=True)"
                )
            images[row] = image
    return images


def _of_a_folder(folder: Path) -> str:
    if (folder / "record.json").is_file():
        return "is a run directory, not an image; if a pattern matches several runs, name one"
    return f"is a folder; name its files, such as {folder}/*"


def _pixels_of(image_shape: ImageShape, settings: PixelSettings, *, resize: bool) -> PixelSettings:
    """Return the settings that give a network its input; without a size if images must have it already."""
    height, width, channels = image_shape
    size = height, width
    settings = replace(settings, channels=_CHANNELS.get(channels))
    if settings.size:
        return replace(settings, size=size)
    return replace(settings, size=size, fit="stretch") if resize else settings
