"""TrivialAugment: each image of a batch is changed by one random operation of random strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, StrategyError, hookimpl, uniforms

if TYPE_CHECKING:
    import torch

Operation = Literal[
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
]
_LEVELS = 31


@dataclass(frozen=True)
class _Space:
    """The largest strengths: degrees, slope, fraction of the side, change of an enhancement, bits that are lost."""

    rotate: float
    shear: float
    translate: float
    enhance: float
    posterize: int


_SPACES = {
    "standard": _Space(rotate=30, shear=0.3, translate=10 / 32, enhance=0.9, posterize=4),
    "wide": _Space(rotate=135, shear=0.99, translate=1, enhance=0.99, posterize=6),
}


class TrivialAugment(Strategy):
    """Change each image by one operation, drawn at random, with a strength drawn at random: nothing to tune.

    The operations on gray levels are those of Pillow, on levels of 1/255. Shifts are in parts of the side, where the
    paper has pixels of images of 32x32; images turn and slant about their center, are sampled bilinearly, and their
    edge pixels are repeated outside.

    `color` (the saturation) is left out on images that are not of three channels. A row's numbers depend on the row,
    the epoch and how often it was drawn before in this epoch.

    When: a strong augmentation is wanted and there is no time to tune one.

    Cost: a second of one core for as many rows as FER2013 has. It is strong for a small network: it pays off over many
    epochs. It favors no class.

    Try: space `standard` for upright faces. `wide` turns them to 135 degrees; leave operations out by `operations`.

    Source: Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV;
    operations and strengths are those of its spaces "RA" (here `standard`; after Cubuk, Zoph, Shlens and Le 2020,
    "RandAugment", NeurIPS) and "Wide", with 31 levels of strength.
    """

    space: Literal["standard", "wide"] = Field(
        default="standard",
        description="largest strengths: standard turns to 30 degrees, for upright faces; wide to 135, and so on.",
    )
    operations: list[Operation] = Field(
        default=list(get_args(Operation)), min_length=1, description="the operations to draw from; all by default."
    )

    @property
    def effects(self) -> Effect:
        """Random, if there is a choice of operation or of strength."""
        drawn = set(self.operations)
        sure = len(drawn) == 1 and drawn <= {"identity", "autocontrast", "equalize"}
        return Effect(0) if sure else Effect.RANDOM

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
        """Change each image by its own operation; the targets stay."""
        import torch

        known = self._operations_for(images.shape[1])
        chance = uniforms(context.row_seeds(training_set.row_keys(rows), draws), 3)
        drawn = np.array(known)[np.floor(chance[:, 0] * len(known)).astype(np.int64)]
        strength = np.floor(chance[:, 1] * _LEVELS) / (_LEVELS - 1)
        sign = np.where(chance[:, 2] < 0.5, -1.0, 1.0)
        changed = images.clone()
        moving = np.flatnonzero(np.isin(drawn, _MOVES))
        if len(moving):
            places = torch.from_numpy(moving).to(images.device)
            maps = self._sampling_maps(drawn[moving], strength[moving] * sign[moving], images.shape[2:])
            changed[places] = _sampled(images[places], torch.from_numpy(maps).to(images))
        for name, operation in _ON_LEVELS.items():
            chosen = np.flatnonzero(drawn == name)
            if len(chosen):
                places = torch.from_numpy(chosen).to(images.device)
                amounts = torch.from_numpy(self._amounts(name, strength[chosen], sign[chosen]))
                changed[places] = operation(images[places], amounts.to(images)[:, None, None, None])
        return changed, targets

    def _operations_for(self, channels: int) -> list[Operation]:
        known = [name for name in self.operations if name != "color" or channels == 3]
        if not known:
            raise StrategyError(f"`color` needs images of three channels, these have {channels}; name other operations")
        return known

    def _amounts(self, name: str, strength: NDArray[np.float64], sign: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what an operation on levels is given for each image, `(n,)`; strengths are in [0, 1]."""
        space = _SPACES[self.space]
        if name == "solarize":
            return 256 - np.floor(256 * strength)
        if name == "posterize":
            return np.exp2(np.rint(space.posterize * strength))
        return 1 + space.enhance * strength * sign

    def _sampling_maps(
        self, drawn: NDArray[np.str_], strength: NDArray[np.float64], size: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return for each image the map from where a pixel goes to where it comes from.

        Args:
            drawn: `(n,)` names of operations that move pixels.
            strength: `(n,)` in [-1, 1].
            size: H, W.

        Returns:
            `(n, 2, 3) float32` maps of `(x, y, 1)`, where both coordinates run from -1 to 1 across the image.
        """
        height, width = size
        space = _SPACES[self.space]
        angle = np.deg2rad(space.rotate) * strength * (drawn == "rotate")
        slant_x, slant_y = (space.shear * strength * (drawn == name) for name in ("shear_x", "shear_y"))
        right, down = (space.translate * strength * (drawn == name) for name in ("translate_x", "translate_y"))
        cos, sin = np.cos(angle), np.sin(angle)
        to_x = [cos, (sin + slant_x) * height / width, np.rint(right * width) * 2 / width]
        to_y = [(slant_y - sin) * width / height, cos, np.rint(down * height) * 2 / height]
        return np.stack([np.stack(to_x, axis=1), np.stack(to_y, axis=1)], axis=1).astype(np.float32)


def _sampled(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Move the pixels of `(n, C, H, W)` images by `(n, 2, 3)` maps."""
    from torch.nn import functional

    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.clamp_(0, 1)


def _levels(images: torch.Tensor) -> torch.Tensor:
    """Return the nearest whole levels, 0 … 255."""
    return (images * 255).round_()


def _blend(plain: torch.Tensor, images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images as far from their plain version as the factor says: 0 the plain one, 1 the image, 2 beyond."""
    return (plain + factor * (images - plain)).clamp_(0, 1)


def _luma(images: torch.Tensor) -> torch.Tensor:
    """Return the brightness of each pixel, `(n, 1, H, W)`: ITU-R 601 for three channels, else their mean."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    return (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def _autocontrast(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Stretch each channel to the whole range; a flat channel stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    stretched = (images - low) / (high - low).clamp(min=1e-6)
    return stretched.where(high - low > 0.5 / 255, images)


def _equalize(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Make all levels of a channel about equally frequent, by the arithmetic of Pillow's `ImageOps.equalize`."""
    levels = _levels(images).long().flatten(2)
    frequency = levels.new_zeros((*levels.shape[:2], 256)).scatter_add_(
        2, levels, levels.new_ones(()).expand_as(levels)
    )
    last = frequency.gather(2, levels.amax(dim=2, keepdim=True))
    step = (levels.shape[2] - last) // 255
    below = frequency.cumsum(dim=2) - frequency
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    spread = table.gather(2, levels).view(images.shape) / 255
    return spread.to(images).where(step[..., None] > 0, images)


def _solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Invert what is as bright as the threshold, a level, or brighter."""
    return images.where(_levels(images) < threshold, 1 - images)


def _posterize(images: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Round down to multiples of a number of levels."""
    return (_levels(images) / width).floor_() * width / 255


def _saturate(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(_luma(images), images, factor)


def _change_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(_luma(images).mean(dim=(2, 3), keepdim=True), images, factor)


def _brighten(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (images * factor).clamp_(0, 1)


def _sharpen(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with a version smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; edge pixels stay."""
    from torch.nn import functional

    smooth = images.clone()
    if min(images.shape[2:]) > 2:
        inner = images[:, :, 1:-1, 1:-1]
        smooth[:, :, 1:-1, 1:-1] = (9 * functional.avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    return _blend(smooth, images, factor)


_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_ON_LEVELS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "solarize": _solarize,
    "color": _saturate,
    "posterize": _posterize,
    "contrast": _change_contrast,
    "brightness": _brighten,
    "sharpness": _sharpen,
}


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [TrivialAugment]
