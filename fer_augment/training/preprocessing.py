"""Preprocessing as the first part of a network: resizing, gray or color, normalization."""

from __future__ import annotations

import torch
from torch.nn import functional

from fer_augment.errors import DatasetError
from fer_augment.hooks.networks import ImageShape, ModelInput

_GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray, ITU-R BT.601, as for image files that are converted to gray."""


class Preprocessing(torch.nn.Module):
    """Converts images of the data to the input that a network was designed for.

    Takes `(B, C, H, W) float32` in [0, 1] with the size and channels of the data; returns `(B, c, h, w) float32` as
    described by `ModelInput`. Images are resized bilinearly, anti-aliased where they shrink; the aspect ratio is not
    kept. It has no weights.
    """

    def __init__(self, target: ModelInput, image_shape: ImageShape) -> None:
        """Prepare the conversion.

        Args:
            target: the input of the network.
            image_shape: H, W, C of the data.

        Raises:
            DatasetError: if the channels of the data cannot be converted.
        """
        super().__init__()
        height, width, channels = target.shape_for(image_shape)
        if channels != image_shape[2] and image_shape[2] not in (1, 3):
            raise DatasetError(f"the network needs images with {channels} channels, these have {image_shape[2]}")
        self.size = None if (height, width) == image_shape[:2] else (height, width)
        self.shrinks = height < image_shape[0] or width < image_shape[1]
        self.channels, self.given_channels = channels, image_shape[2]
        self.is_normalized = any(target.mean) or any(value != 1 for value in target.std)
        self.gray: torch.Tensor
        self.mean: torch.Tensor
        self.std: torch.Tensor
        for name, values in (("gray", _GRAY), ("mean", target.mean), ("std", target.std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1), persistent=False)

    @property
    def changes_nothing(self) -> bool:
        """Whether the network takes images of the data as they are."""
        return self.size is None and self.channels == self.given_channels and not self.is_normalized

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Convert `(B, C, H, W)` images to the network's input."""
        if self.channels == 1 and self.given_channels == 3:
            images = (images * self.gray).sum(dim=1, keepdim=True)
        if self.size:
            images = functional.interpolate(images, self.size, mode="bilinear", antialias=self.shrinks)
        if self.channels == 3 and self.given_channels == 1:
            images = images.expand(-1, 3, -1, -1)
        return (images - self.mean) / self.std if self.is_normalized else images
