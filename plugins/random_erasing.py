"""Random erasing: a rectangle of some images of each batch is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fer_augment import Context, Effect, ImageDataset, Strategy, hookimpl, uniforms

if TYPE_CHECKING:
    import torch


class RandomErasing(Strategy):
    """Overwrite a random rectangle of an image, so that no one part of a face decides alone.

    Two details are settled here: the logarithm of the aspect ratio is uniform, so that upright and lying rectangles are
    equally likely, and a ratio is only drawn from those with which the rectangle fits into the image, so that none is
    drawn in vain and large areas are not the rarer ones.

    A row's numbers depend on the row, the epoch and how often it was drawn before in this epoch.

    When: faces are partly covered by hands, hair or glasses, or the network leans on one part of them.

    Cost: a third of a second for as many rows as FER2013 has. Where the rectangle hides what tells two expressions
    apart, the label can only be guessed. It favors no class.

    Try: the defaults, which are the paper's; a largest area of 0.2 where an expression sits in the mouth alone.

    Source: Zhong, Zheng, Kang, Li and Yang 2020, "Random Erasing Data Augmentation", AAAI 34(07); the defaults are the
    paper's.
    """

    probability: float = Field(default=0.5, ge=0, le=1, description="chance that an image is erased at all.")
    area: tuple[float, float] = Field(
        default=(0.02, 0.4), description="smallest and largest area of the rectangle, as fractions of the image's."
    )
    aspect: tuple[float, float] = Field(
        default=(0.3, 1 / 0.3), description="smallest and largest ratio of the rectangle's height to its width."
    )
    fill: Literal["noise", "mean"] | Annotated[float, Field(ge=0, le=1)] = Field(
        default="noise",
        description="noise: a random value for each pixel; mean: the image's mean color; or a level from 0 to 1.",
    )

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> RandomErasing:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area: give [smallest, largest] with 0 < smallest <= largest <= 1, got {self.area}")
        if not 0 < self.aspect[0] <= self.aspect[1] < np.inf:
            raise ValueError(f"aspect: give [smallest, largest] with 0 < smallest <= largest, got {self.aspect}")
        return self

    @property
    def effects(self) -> Effect:
        """Random, unless nothing is ever erased."""
        return Effect.RANDOM if self.probability else Effect(0)

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
        """Erase a rectangle of some images; the targets stay."""
        import torch

        seeds = context.row_seeds(training_set.row_keys(rows), draws)
        chance = uniforms(seeds, 5)
        chosen = np.flatnonzero(chance[:, 0] < self.probability)
        if not len(chosen):
            return images, targets
        height, width = images.shape[2:]
        inside = torch.from_numpy(self._rectangles(chance[chosen, 1:], height, width)).to(images.device)
        places = torch.from_numpy(chosen).to(images.device)
        whole = images[places]
        erased = images.clone()
        erased[places] = torch.where(inside[:, None], self._filling(whole, seeds[chosen]), whole)
        return erased, targets

    def _rectangles(self, chance: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
        """Return `(n, H, W)` masks of rectangles from `(n, 4)` numbers in [0, 1): area, aspect ratio and place."""
        area = self.area[0] + (self.area[1] - self.area[0]) * chance[:, 0]
        fitting = area * height / width, height / (area * width)
        low, high = (np.log(np.clip(ratio, *fitting)) for ratio in self.aspect)
        aspect = np.exp(low + (high - low) * chance[:, 1])
        tall = np.clip(np.rint(np.sqrt(area * height * width * aspect)), 1, height)
        wide = np.clip(np.rint(np.sqrt(area * height * width / aspect)), 1, width)
        top = np.floor(chance[:, 2] * (height - tall + 1))
        left = np.floor(chance[:, 3] * (width - wide + 1))
        down = _between(top, tall, height)
        right = _between(left, wide, width)
        return down[:, :, None] & right[:, None, :]

    def _filling(self, images: torch.Tensor, seeds: NDArray[np.uint64]) -> torch.Tensor:
        """Return what an erased pixel is overwritten with, in a shape that fits `(n, C, H, W)` images."""
        import torch

        if self.fill == "mean":
            return images.mean(dim=(2, 3), keepdim=True)
        if self.fill == "noise":
            pixels = uniforms(seeds, 5 + images[0].numel())[:, 5:].reshape(images.shape)
            return torch.from_numpy(pixels.astype(np.float32)).to(images)
        return torch.tensor(self.fill).to(images)


def _between(start: NDArray[np.float64], length: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Return `(n, size)` masks of the positions from `start` on, `length` of them."""
    position = np.arange(size)
    return (position >= start[:, None]) & (position < (start + length)[:, None])


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [RandomErasing]
