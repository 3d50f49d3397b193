"""Images on the device on which a network computes.

Legend of shapes: N rows, n stored images, B rows of a batch, H, W, C height, width and channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.dataset import Images


class ResidentImages:
    """The images of a data set, kept on a device as uint8, so that only row numbers cross over to it.

    An image lies there once, however many rows show it.

    Attributes:
        pixels: `(n, H, W, C) uint8`.
        index: `(N,) int64`, which image each row shows.
    """

    def __init__(self, images: Images, device: str) -> None:
        """Copy the images to a device."""
        self.pixels = torch.cat([torch.from_numpy(np.array(block.pixels)).to(device) for block in images.blocks])
        self.index = torch.from_numpy(images.index.copy()).to(device)

    def batch(self, rows: torch.Tensor) -> torch.Tensor:
        """Gather `(B,) int64` rows, a tensor on the device, into `(B, C, H, W) float32` in [0, 1]."""
        return _scaled(self.pixels[self.index[rows]])


def fit_on(device: str, images: Images) -> bool:
    """Return whether all images of a data set go to a device: to an accelerator that has twice their memory free."""
    if device == "cpu":  # where they are already, perhaps in a file larger than memory
        return False
    free, _ = torch.cuda.mem_get_info()
    return 2 * sum(block.pixels.nbytes for block in images.blocks) <= free


def as_batch(images: NDArray[np.uint8], device: str) -> torch.Tensor:
    """Turn `(B, H, W, C) uint8` into `(B, C, H, W) float32` in [0, 1], channels last in memory, on the device."""
    return _scaled(torch.from_numpy(images).to(device, non_blocking=True))


def _scaled(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float().div_(255)
