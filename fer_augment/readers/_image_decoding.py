"""Image files into pixels, on several threads where that is faster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fer_augment import DatasetError
from fer_augment.declarations import ReportProgress
from fer_augment.readers._image_members import Member

_FILES_AT_ONCE = 64
_THREADS = min(8, os.cpu_count() or 1)
_WORTH_THREADS = 12_000
"""How many numbers an image must hold for threads to pay; two made 48x48 grey images half as slow again."""

Decode = Callable[[Member], NDArray[np.uint8]]


def decoded(members: Sequence[Member], progress: ReportProgress) -> NDArray[np.uint8]:
    """Decode all images, which must be of one size and number of channels.

    Args:
        members: the image files, at least one.
        progress: told how many images are decoded.

    Returns:
        `(N, H, W, C) uint8`, grey (C = 1) or RGB (C = 3).

    Raises:
        DatasetError: if an image cannot be read or differs from the first one; it names the first such.
    """
    with _decoder() as decode:
        first = decode(members[0])
        pixels = np.empty((len(members), *first.shape), dtype=np.uint8)
        fill = partial(_fill, decode, members, pixels)
        starts = range(0, len(members), _FILES_AT_ONCE)
        pool = ThreadPoolExecutor(_THREADS if first.size >= _WORTH_THREADS else 1)
        try:
            for start, _ in zip(starts, pool.map(fill, starts), strict=True):
                progress(min(start + _FILES_AT_ONCE, len(members)), len(members))
        finally:
            pool.shutdown(cancel_futures=True)
    return pixels


def _fill(decode: Decode, members: Sequence[Member], pixels: NDArray[np.uint8], start: int) -> None:
    """Decode the files from `start` on into their rows."""
    for row, member in enumerate(members[start : start + _FILES_AT_ONCE], start=start):
        image = decode(member)
        if image.shape != pixels.shape[1:]:
            raise DatasetError(
                f"{member.title}: is {_size(image.shape)}, {members[0].title} is {_size(pixels.shape[1:])}; "
                "all images must have one size and be all grey or all colour"
            )
        pixels[row] = image


def _size(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'colour'}"


@contextmanager
def _decoder() -> Iterator[Decode]:
    """Give a function from an image file to `(H, W, C) uint8`; OpenCV is loaded here, and only here."""
    import cv2
    from cv2.utils import logging

    def decode(member: Member) -> NDArray[np.uint8]:
        content = np.frombuffer(member.content(), dtype=np.uint8)
        try:
            image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        except cv2.error:  # an empty file, or one that claims to be too large
            image = None
        if image is None:
            raise DatasetError(f"{member.title}: is no image that can be decoded; get it again, or take it away")
        if image.dtype != np.uint8:
            raise DatasetError(f"{member.title}: has {image.dtype} pixels; convert it to 8 bits a channel")
        # OpenCV has blue first, and the alpha channel, if any, last.
        return np.asarray(image[..., None] if image.ndim == 2 else image[..., 2::-1], dtype=np.uint8)

    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # our error names the file, OpenCV's do not
    try:
        yield decode
    finally:
        logging.setLogLevel(level)
