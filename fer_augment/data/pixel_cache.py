"""Decoding of many image files into one block of pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import PixelBlock
from fer_augment.data.image_decoding import Decode, image_decoder
from fer_augment.data.image_files import ImageFile
from fer_augment.data.pixels import PixelSettings, fitted, size_in_words, with_channels
from fer_augment.errors import DatasetError

_FILES_AT_ONCE = 64
_THREADS = min(8, os.cpu_count() or 1)
_WORTH_THREADS = 12_000
"""Minimum number of values per image for multithreading; two threads made 48x48 gray images 1.5 times slower."""


@dataclass(frozen=True, eq=False)
class DecodedFiles:
    """Decoded image files.

    Attributes:
        block: their pixels, in the order of the files.
        notes: what was converted, one sentence each.
    """

    block: PixelBlock
    notes: tuple[str, ...] = ()


def decoded_block(
    source: str, files: Sequence[ImageFile], settings: PixelSettings, progress: Callable[[int, int], None]
) -> DecodedFiles:
    """Decode image files.

    Args:
        source: the data source, for messages.
        files: N image files.
        settings: size and color.
        progress: called with the number of images decoded and their total.

    Raises:
        DatasetError: if an image cannot be read, or sizes differ and no size is given; the message names the image.
    """
    with image_decoder() as decode:
        first = decode(files[0].content(), files[0].name)
        height, width, channels = first.shape
        shape = (*(settings.size or (height, width)), settings.channel_count or channels)
        pixels = np.empty((len(files), *shape), dtype=np.uint8)
        starts = range(0, len(files), _FILES_AT_ONCE)
        pool = ThreadPoolExecutor(_THREADS if first.size >= _WORTH_THREADS else 1)
        try:
            chunks = pool.map(lambda start: _fill(decode, files, pixels, settings, start), starts)
            for start, _ in zip(starts, chunks, strict=True):
                progress(min(start + _FILES_AT_ONCE, len(files)), len(files))
        finally:
            pool.shutdown(cancel_futures=True)
    pixels.flags.writeable = False
    return DecodedFiles(PixelBlock(pixels))


def _fill(
    decode: Decode, files: Sequence[ImageFile], pixels: NDArray[np.uint8], settings: PixelSettings, start: int
) -> None:
    for row, file in enumerate(files[start : start + _FILES_AT_ONCE], start=start):
        image = decode(file.content(), file.name)
        if settings.channel_count:
            image = with_channels(image, settings.channel_count)
        if settings.size:
            image = fitted(image, settings.size, settings.fit)
        if image.shape != pixels.shape[1:]:
            size, first_size = size_in_words(image.shape), size_in_words(pixels.shape[1:])
            raise DatasetError(
                f"{file.name}: is {size}, but {files[0].name} is {first_size}; "
                "all images must have the same size and be all gray or all color"
            )
        pixels[row] = image
