"""Random erasing: overwrite a rectangle of some images of each batch."""

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
    """Apply random erasing: overwrite a random rectangle of an image, so that no single part of a face is decisive.

    Two details of this implementation: the logarithm of the aspect ratio is uniform, so that tall and wide rectangles
    are equally likely; and the ratio is drawn only from values for which the rectangle fits into the image, so that no
    draws are rejected and large areas are not underrepresented.

    The random numbers of a row depend on the row, the epoch and on how often the row was already drawn in this epoch.

    When: faces are partly occluded by hands, hair or glasses, or the network relies on one part of the face.

    Cost: 0.3 s for the rows of FER2013. If the rectangle hides the distinguishing part of an expression, the label can
    only be guessed. It favors no class.

    Try: the defaults, which are the paper's; a largest area of 0.2 if an expression depends on the mouth alone.

    Source: Zhong, Zheng, Kang, Li and Yang 2020, "Random Erasing Data Augmentation", AAAI 34(07); the defaults are the
    paper's.
    """

    probability: float = Field(default=0.5, ge=0, le=1, description="probability that an image is erased.")
    area: tuple[float, float] = Field(
        default=(0.02, 0.4), description="smallest and largest area of the rectangle, as fractions of the image area."
    )
    aspect: tuple[float, float] = Field(
        default=(0.3, 1 / 0.3), description="smallest and largest ratio of the rectangle's height to its width."
    )
    fill: Literal["noise", "mean"] | Annotated[float, Field(ge=0, le=1)] = Field(
        default="noise",
        description="noise: a random value per pixel and channel; mean: the image's mean color; or a value in [0, 1].",
    )

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> RandomErasing:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"`area` must be [smallest, largest] with 0 < smallest <= largest <= 1, got {self.area}")
        if not 0 < self.aspect[0] <= self.aspect[1] < np.inf:
            raise ValueError(f"`aspect` must be [smallest, largest] with 0 < smallest <= largest, got {self.aspect}")
        return self

    @property
    def effects(self) -> Effect:
        """Random, unless the probability is 0."""
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
        """Erase a rectangle of some images; targets are unchanged."""
        import torch

        seeds = context.row_seeds(training_set.row_keys(rows), draws)
        uniform = uniforms(seeds, 5)
        chosen = np.flatnonzero(uniform[:, 0] < self.probability)
        if not len(chosen):
            return images, targets
        height, width = images.shape[2:]
        inside = torch.from_numpy(self._rectangles(uniform[chosen, 1:], height, width)).to(images.device)
        indices = torch.from_numpy(chosen).to(images.device)
        originals = images[indices]
        erased = images.clone()
        erased[indices] = torch.where(inside[:, None], self._fill_values(originals, seeds[chosen]), originals)
        return erased, targets

    def _rectangles(self, uniform: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
        """Return `(n, H, W)` masks of rectangles from `(n, 4)` random numbers in [0, 1): area, ratio, top and left."""
        area = self.area[0] + (self.area[1] - self.area[0]) * uniform[:, 0]
        fitting = area * height / width, height / (area * width)
        low, high = (np.log(np.clip(ratio, *fitting)) for ratio in self.aspect)
        aspect = np.exp(low + (high - low) * uniform[:, 1])
        tall = np.clip(np.rint(np.sqrt(area * height * width * aspect)), 1, height)
        wide = np.clip(np.rint(np.sqrt(area * height * width / aspect)), 1, width)
        top = np.floor(uniform[:, 2] * (height - tall + 1))
        left = np.floor(uniform[:, 3] * (width - wide + 1))
        down = _between(top, tall, height)
        right = _between(left, wide, width)
        return down[:, :, None] & right[:, None, :]

    def _fill_values(self, images: torch.Tensor, seeds: NDArray[np.uint64]) -> torch.Tensor:
        """Return the values for erased pixels, broadcastable to `(n, C, H, W)`."""
        import torch

        if self.fill == "mean":
            return images.mean(dim=(2, 3), keepdim=True)
        if self.fill == "noise":
            pixels = uniforms(seeds, 5 + images[0].numel())[:, 5:].reshape(images.shape)
            return torch.from_numpy(pixels.astype(np.float32)).to(images)
        return torch.tensor(self.fill).to(images)


def _between(start: NDArray[np.float64], length: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Return `(n, size)` masks of the positions `start` to `start + length - 1`."""
    position = np.arange(size)
    return (position >= start[:, None]) & (position < (start + length)[:, None])


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [RandomErasing]
