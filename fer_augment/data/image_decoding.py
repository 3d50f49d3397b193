"""Decoding of png and jpg files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import DatasetError

Decode = Callable[[bytes, str], NDArray[np.uint8]]
"""Function of a file's content and its name for messages; returns `(H, W, C) uint8`, gray (C = 1) or RGB (C = 3)."""


@contextmanager
def image_decoder() -> Iterator[Decode]:
    """Provide a function that decodes images and raises DatasetError; imports OpenCV."""
    import cv2
    from cv2.utils import logging

    def decode(content: bytes, title: str) -> NDArray[np.uint8]:
        try:
            image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:  # an empty file, or one that claims to be too large
            image = None
        if image is None:
            raise DatasetError(f"{title}: not a readable image; re-download or remove it")
        if image.dtype != np.uint8:
            raise DatasetError(f"{title}: has {image.dtype} pixels; convert it to 8 bits per channel")
        if image.ndim == 2:
            return np.asarray(image[..., None])
        has_alpha = image.shape[2] == 4
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if has_alpha else cv2.COLOR_BGR2RGB))

    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # unlike OpenCV's, our error names the file
    try:
        yield decode
    finally:
        logging.setLogLevel(level)
