"""The usual small changes of pose, made for a whole batch at once on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, hookimpl, uniforms

if TYPE_CHECKING:
    import torch


class FlipCropAffine(Strategy):
    """Mirror, shift, rotate and scale the images of each batch at random.

    All of it is one bilinear sampling of the batch. A row's numbers depend on the row, the epoch and how often it was
    drawn before in this epoch: not on the batch it is in, and a row that is drawn twice looks different.

    When: nearly always: small changes of pose leave an expression as it is, and keep a network from learning images by
    heart. It is the baseline that every other augmentation has to beat.

    Cost: a second of one core for as many rows as FER2013 has, a tenth of that for the flip alone. No image is seen
    twice, so it pays off over many epochs. It favors no class.

    Try: the defaults for upright faces; `flip: 0` where left and right differ in meaning, as in digits.

    Source: mirrored and shifted crops are those of Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with
    Deep Convolutional Neural Networks", NeurIPS, section 4.1; rotated and scaled digits those of Simard, Steinkraus and
    Platt 2003, "Best Practices for Convolutional Neural Networks", ICDAR.
    """

    flip: float = Field(default=0.5, ge=0, le=1, description="probability of a left-right mirror image.")
    shift: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="largest shift, as a fraction of height and width; in whole pixels.",
    )
    rotate: float = Field(default=10, ge=0, le=180, description="largest rotation to either side, in degrees.")
    scale: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="largest change of size, as a fraction: 0.1 gives 0.9 to 1.1 times.",
    )
    padding: Literal["border", "reflection"] = Field(
        default="border", description="what moves in from outside: the nearest edge pixel, or a mirror image."
    )

    @property
    def effects(self) -> Effect:
        """Random, and a random flip, unless set to nothing."""
        effects = Effect.RANDOM if 0 < self.flip < 1 or self._moves else Effect(0)
        return effects | Effect.RANDOM_FLIP if self.flip else effects

    @property
    def _moves(self) -> bool:
        return bool(self.shift or self.rotate or self.scale)

    @hookimpl
    def augment_batch(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        rows: NDArray[np.int64],
        draws: NDArray[np.int64],
        training_set: ImageDataset,
        context: Context,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change each image by its own random numbers; the targets stay."""
        import torch

        chance = uniforms(context.row_seeds(training_set.row_keys(rows), draws), 5)
        flipped = chance[:, 0] < self.flip
        if not self._moves:
            mirror = torch.from_numpy(flipped).to(images.device)[:, None, None, None]
            return torch.where(mirror, images.flip(3), images), targets
        theta = torch.from_numpy(self._sampling_maps(flipped, chance[:, 1:], images.shape[2:])).to(images)
        grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
        moved = torch.nn.functional.grid_sample(
            images, grid, mode="bilinear", padding_mode=self.padding, align_corners=False
        ).clamp_(0, 1)
        if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved, targets

    def _sampling_maps(
        self, flipped: NDArray[np.bool_], chance: NDArray[np.float64], size: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return for each image the map from where a pixel goes to where it comes from.

        Args:
            flipped: `(B,)`, which images are mirrored.
            chance: `(B, 4)` in [0, 1): of shift down, shift right, rotation and scale.
            size: H, W.

        Returns:
            `(B, 2, 3) float32` maps of `(x, y, 1)`, where both coordinates run from -1 to 1 across the image.
        """
        height, width = size
        down, right, turn, growth = (2 * chance - 1).T
        angle = np.deg2rad(self.rotate) * turn
        zoom = 1 + self.scale * growth
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        shift_x = np.rint(self.shift * width * right) * 2 / width
        shift_y = np.rint(self.shift * height * down) * 2 / height
        to_x = np.stack([cos, sin * height / width, shift_x], axis=1)
        to_y = np.stack([-sin * width / height, cos, shift_y], axis=1)
        mirror = np.where(flipped, -1.0, 1.0)[:, None]
        return np.stack([to_x * mirror, to_y], axis=1).astype(np.float32)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [FlipCropAffine]
