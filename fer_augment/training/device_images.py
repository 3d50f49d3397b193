"""Images on the device of the network, and how many at once.

Legend of shapes: N rows, n stored images, B rows of a batch, H, W, C height, width and channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.pixel_blocks import Images

ROWS_AT_ONCE = 512
"""Maximum number of rows processed at once."""
PIXELS_AT_ONCE = ROWS_AT_ONCE * 48 * 48
"""Maximum number of pixels (per channel) processed at once; fewer rows of larger images."""


class ResidentImages:
    """The images of a data set, stored on a device as uint8, so that only row numbers are transferred per batch.

    Each image is stored once, however many rows repeat it.

    Attributes:
        pixels: `(n, H, W, C) uint8`.
        index: `(N,) int64`, the stored image of each row.
    """

    def __init__(self, images: Images, device: str) -> None:
        """Copy the images to a device."""
        self.pixels = torch.cat([torch.from_numpy(np.array(block.pixels)).to(device) for block in images.blocks])
        self.index = torch.from_numpy(images.index.copy()).to(device)

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Gather the images of `(B,) int64` rows, a tensor on the device, as `(B, C, H, W) float32` in [0, 1]."""
        return _scaled(self.pixels[self.index[rows]])


def rows_at_once(image_shape: tuple[int, int, int]) -> int:
    """Return how many images of a shape are processed at once, so that the memory does not grow with their size."""
    height, width, _ = image_shape
    return max(1, min(ROWS_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def fit_on(device: str, images: Images) -> bool:
    """Return whether to store all images on a device: an accelerator with at least twice their size in free memory."""
    if device == "cpu":  # images are already there, or in a memory-mapped file that may exceed memory
        return False
    free, _ = torch.cuda.mem_get_info()
    return 2 * sum(block.pixels.nbytes for block in images.blocks) <= free


def as_batch(images: NDArray[np.uint8], device: str) -> torch.Tensor:
    """Convert `(B, H, W, C) uint8` to `(B, C, H, W) float32` in [0, 1] on the device, channels last in memory."""
    return _scaled(torch.from_numpy(images).to(device, non_blocking=True))


def _scaled(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float().div_(255)
